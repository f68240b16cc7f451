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
            if found.entries.len() >= max {
                found.truncated = true;
                break;
            }
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
}
