//! Local storage of kernel objects: a value for each task, cgroup, inode or socket (`kernel/bpf/bpf_local_storage.c`).
//!
//! A map of this kind has a table of buckets, in which each element is listed once. The element points to the `struct
//! bpf_local_storage` of its owner, which points back to the owner. The members have the same names in Linux 6.12 to 7.3.

use super::hash::MAX_BUCKETS;
use super::maps::BpfMap;
use crate::kernel::{KernelError, KernelView};
use crate::memory::GuestMemory;

/// The location of an element, and its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageEntry {
    /// Address of the owner: a `struct task_struct`, `cgroup`, `inode` or `sock`. It is 0 if the owner is being freed.
    pub owner: u64,
    /// Address of the value.
    pub value: u64,
}

/// Elements of a storage map and whether the list is complete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StorageEntries {
    /// The elements, in bucket order.
    pub entries: Vec<StorageEntry>,
    /// Whether a cap was reached, so that there may be more.
    pub truncated: bool,
}

impl<M: GuestMemory + ?Sized> KernelView<'_, M> {
    /// Returns the elements of a task, cgroup, inode or socket storage, at most `max`.
    ///
    /// # Errors
    /// A list cannot be read, or the kernel's types lack one of the members that are needed.
    pub fn bpf_storage_entries(
        &self,
        map: &BpfMap,
        max: usize,
    ) -> Result<StorageEntries, KernelError> {
        const MAP: &str = "bpf_local_storage_map";
        const ELEM: &str = "bpf_local_storage_elem";
        let buckets = self.read_member(map.kva, &self.member(MAP, "buckets")?)?;
        let log = self.read_member(map.kva, &self.member(MAP, "bucket_log")?)?;
        let bucket = self.btf().find_struct("bpf_local_storage_map_bucket");
        let stride = bucket
            .and_then(|ty| self.btf().size_of(ty.id()))
            .unwrap_or(16)
            .max(8);
        let node = self.member(ELEM, "map_node")?.offset();
        let storage = self.member(ELEM, "local_storage")?.offset();
        let data = self.member(ELEM, "sdata.data")?.offset();
        let owner = self.member("bpf_local_storage", "owner")?.offset();

        let count = 1u64.checked_shl(log.min(63) as u32).unwrap_or(u64::MAX);
        let mut found = StorageEntries {
            truncated: count > MAX_BUCKETS,
            ..StorageEntries::default()
        };
        let mut elements = Vec::new();
        for index in 0..count.min(MAX_BUCKETS) {
            let head = self.read_u64(buckets.wrapping_add(index * stride))?;
            let room = max.saturating_sub(elements.len());
            match self.walk_nulls("storage bucket", head, room, |at| {
                elements.push(at.wrapping_sub(node));
            }) {
                Ok(()) => {}
                Err(KernelError::TooLong { .. }) => found.truncated = true,
                Err(error) => return Err(error),
            }
        }
        for element in elements {
            let holder = self.read_u64(element.wrapping_add(storage))?;
            // The element of an owner that is being freed no longer refers to the owner's `struct bpf_local_storage`.
            let owner = match holder {
                0 => 0,
                at => self.read_u64(at.wrapping_add(owner))?,
            };
            found.entries.push(StorageEntry {
                owner,
                value: element.wrapping_add(data),
            });
        }
        Ok(found)
    }
}
