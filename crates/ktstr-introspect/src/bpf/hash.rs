//! Hash maps (kernel/bpf/hashtab.c): plain, per-CPU and LRU.

use super::maps::BpfMap;
use crate::kernel::{KernelError, KernelView};
use crate::memory::GuestMemory;

/// The largest number of buckets of one map that are read.
pub(crate) const MAX_BUCKETS: u64 = 1 << 16;

/// The location of an entry of a hash map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashEntry {
    /// The kernel address of the key.
    pub key: u64,
    /// The kernel address of the value; in a per-CPU map, of the per-CPU pointer to the values.
    pub value: u64,
}

/// Entries of a hash map and whether the list is complete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HashEntries {
    /// The entries, in bucket order.
    pub entries: Vec<HashEntry>,
    /// Whether a cap was reached, so that there may be more.
    pub truncated: bool,
}

impl<M: GuestMemory + ?Sized> KernelView<'_, M> {
    /// Returns the entries of a hash map, at most `max`.
    ///
    /// # Errors
    /// If a bucket cannot be read, or the kernel's types lack the members.
    pub fn bpf_hash_entries(&self, map: &BpfMap, max: usize) -> Result<HashEntries, KernelError> {
        let buckets = self.member("bpf_htab", "buckets")?;
        let count = self.member("bpf_htab", "n_buckets")?;
        let key = self.member("htab_elem", "key")?.offset();
        let bucket = self.btf().find_struct("bucket").map(|ty| ty.id());
        // A bucket is the head of its list and a lock.
        let stride = bucket
            .and_then(|id| self.btf().size_of(id))
            .unwrap_or(16)
            .max(8);
        let first = self.read_member(map.kva, &buckets)?;
        let count = self.read_member(map.kva, &count)?;
        // The value follows the key, which is padded to a multiple of eight bytes.
        let value = key + u64::from(map.key_size).next_multiple_of(8);
        let mut found = HashEntries {
            truncated: count > MAX_BUCKETS,
            ..HashEntries::default()
        };
        for index in 0..count.min(MAX_BUCKETS) {
            let head = self.read_u64(first.wrapping_add(index * stride))?;
            let room = max - found.entries.len();
            let walked = self.walk_nulls("hash bucket", head, room, |node| {
                found.entries.push(HashEntry {
                    key: node.wrapping_add(key),
                    value: node.wrapping_add(value),
                });
            });
            match walked {
                Ok(()) => {}
                Err(KernelError::TooLong { .. }) => found.truncated = true,
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Returns where an entry of a per-CPU hash map has its pointer to the values.
    ///
    /// It follows the key, which is padded to a multiple of eight bytes. Kernels before 6.15 have it right after the key, so
    /// that it may be unaligned; the fix came back to 6.12.26 and 6.14.5 (`htab_elem_set_ptr` in kernel/bpf/hashtab.c).
    pub fn bpf_hash_percpu(&self, map: &BpfMap, entry: &HashEntry) -> u64 {
        let unaligned = match self.kernel_version() {
            Some((6, 12, patch)) => patch < 26,
            Some((6, 14, patch)) => patch < 5,
            Some(version) => version < (6, 15, 0),
            None => false,
        };
        match unaligned {
            true => entry.key.wrapping_add(map.key_size.into()),
            false => entry.value,
        }
    }

    /// Returns the version of the guest's kernel (`init_uts_ns`); `None` if it cannot be read or is no version.
    fn kernel_version(&self) -> Option<(u32, u32, u32)> {
        let name = self.member("uts_namespace", "name").ok()?.offset();
        let release = self.member("new_utsname", "release").ok()?.offset();
        let at = self.symbol("init_uts_ns").ok()?;
        let text = self.read_string(at.wrapping_add(name + release), 64).ok()?;
        let mut numbers = text.split(|c: char| !c.is_ascii_digit());
        let mut next = || numbers.next()?.parse().ok();
        Some((next()?, next()?, next().unwrap_or(0)))
    }
}
