//! Hash maps (kernel/bpf/hashtab.c): plain, per-CPU and LRU.

use super::maps::BpfMap;
use crate::kernel::{KernelError, KernelView};
use crate::memory::GuestMemory;

/// The largest number of buckets of one map that are read.
pub(crate) const MAX_BUCKETS: u64 = 1 << 16;
/// The largest number of entries that are looked at to find out where entries have their per-CPU pointers.
const MAX_VOTES: usize = 64;

/// The location of an entry of a hash map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashEntry {
    /// The kernel address of the key.
    pub key: u64,
    /// The kernel address of the value. In a per-CPU map, newer kernels have the per-CPU pointer to the values there, and older
    /// ones may have it before this address: see `KernelView::bpf_hash_percpu`.
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
    /// If a bucket cannot be read, or the kernel's BTF lacks a member of `bpf_htab` or `htab_elem`.
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

    /// Returns the distance in bytes from the key of an entry of a per-CPU hash map to the pointer to the entry's values; `None`
    /// if the entries do not show this distance.
    ///
    /// The pointer follows the key, which is padded to a multiple of eight bytes. Older kernels have the pointer right after
    /// the key, so that it may be unaligned (`htab_elem_set_ptr` in kernel/bpf/hashtab.c). The change left no trace in the
    /// kernel's types, and stable and distribution kernels backported it in releases of their own. The entries therefore
    /// decide: at the right place, each entry has a per-CPU pointer that is a multiple of eight and has a mapped copy on CPU 0.
    pub fn bpf_hash_percpu(&self, map: &BpfMap, entries: &[HashEntry]) -> Option<u64> {
        let key = u64::from(map.key_size);
        let padded = key.next_multiple_of(8);
        if padded == key {
            return Some(padded);
        }
        let mut votes = [0_usize; 2];
        for entry in entries.iter().take(MAX_VOTES) {
            let is_there = |offset| self.is_percpu_pointer(entry.key.wrapping_add(offset));
            match (is_there(key), is_there(padded)) {
                (true, false) => votes[0] += 1,
                (false, true) => votes[1] += 1,
                _ => {}
            }
        }
        match votes {
            [unaligned, 0] if unaligned > 0 => Some(key),
            [0, aligned] if aligned > 0 => Some(padded),
            _ => None,
        }
    }

    /// Returns whether the word at `at` is a per-CPU pointer to values of a hash map. CPU 0, which every machine has, must
    /// have its copy mapped.
    fn is_percpu_pointer(&self, at: u64) -> bool {
        let Ok(pointer) = self.read_u64(at) else {
            return false;
        };
        let copy = self.per_cpu(pointer, 0);
        pointer != 0 && pointer % 8 == 0 && copy.is_ok_and(|kva| self.translate(kva).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::btf::testing::Builder;
    use crate::kernel::testing::{BASE, Guest};

    const ENTRY: u64 = BASE + 0x8000;
    /// The guest's `__per_cpu_offset[0]`: a per-CPU pointer plus this number is the address of CPU 0's copy.
    const OFFSET: u64 = 0xffff_8880_0000_0000;

    /// Returns the distance that is found in a map with one entry. Its key has `key_size` bytes, and `words` is the memory that
    /// starts at the key.
    fn found(key_size: u32, words: &[u64]) -> Option<u64> {
        let symbols = [("__per_cpu_offset", BASE + 0x7000)];
        let mut guest = Guest::new(false, Builder::new(), &symbols);
        guest.put(BASE + 0x7000, OFFSET);
        for (at, word) in (ENTRY..).step_by(8).zip(words) {
            guest.put(at, *word);
        }
        let map = BpfMap {
            key_size,
            ..BpfMap::default()
        };
        let entry = HashEntry {
            key: ENTRY,
            value: 0,
        };
        guest.view().bpf_hash_percpu(&map, &[entry])
    }

    #[test]
    fn the_entries_show_where_the_pointer_to_the_values_is() {
        let pointer = (BASE + 0x9000).wrapping_sub(OFFSET);
        assert_eq!(found(4, &[7, pointer]), Some(8));
        assert_eq!(
            found(4, &[7 | pointer << 32, pointer >> 32]),
            Some(4),
            "the pointer directly follows the key"
        );
        // The kernel never writes the bytes after an unaligned pointer, so they may have any value.
        assert_eq!(
            found(4, &[7 | pointer << 32, pointer >> 32 | 0x5a5a_5a5a << 32]),
            Some(4)
        );
        assert_eq!(found(12, &[7, 8 | pointer << 32, pointer >> 32]), Some(12));
        assert_eq!(found(12, &[7, 8, pointer]), Some(16));
    }

    #[test]
    fn entries_without_a_pointer_decide_nothing() {
        assert_eq!(found(4, &[7, 0]), None);
        assert_eq!(found(4, &[7 | 0x1234 << 32, 0x1235]), None);
        assert_eq!(found(8, &[7, 0]), Some(8), "there is only one place");
    }
}
