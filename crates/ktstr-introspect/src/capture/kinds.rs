//! Captures maps of the less frequent kinds: queues, stacks, tries, stack traces, and arrays of kernel objects.

use ktstr_snapshot::report::{
    FailureDumpArrayEntry, FailureDumpEntry, FailureDumpFdArray, FailureDumpMap, FailureDumpStack,
    FailureDumpStackTrace,
};

use super::maps::{MapReader, Types};
use crate::bpf::maps::BpfMap;
use crate::kernel::{KernelError, START_KERNEL_MAP};
use crate::memory::GuestMemory;
use crate::narrow;
use crate::render::hex;

/// `BPF_F_STACK_BUILD_ID` (include/uapi/linux/bpf.h): the stacks have offsets in files instead of addresses.
const STACK_BUILD_ID: u64 = 1 << 5;
/// `LPM_TREE_NODE_FLAG_IM` (`kernel/bpf/lpm_trie.c`): a node without an entry, which only connects other nodes.
const INTERMEDIATE: u64 = 1;
/// An address that is this number of bytes or more above the nearest symbol is shown as a number, because no
/// function is that large.
const MAX_FUNCTION: u64 = 1 << 20;
/// The largest number of bytes in the prefix of a trie (`LPM_DATA_SIZE_MAX`, `kernel/bpf/lpm_trie.c`).
const MAX_PREFIX: u64 = 256;

impl<M: GuestMemory + ?Sized> MapReader<'_, '_, M> {
    /// Captures the elements of a queue or a stack (`kernel/bpf/queue_stack_maps.c`), beginning with the one that is removed
    /// next.
    ///
    /// The elements are a ring, in which `head` is the place for the next new element. A queue removes the element at
    /// `tail`, and a stack removes the element before `head`.
    pub(super) fn queue(
        &self,
        map: &BpfMap,
        is_stack: bool,
        types: &Types,
        dump: &mut FailureDumpMap,
    ) -> Result<(), KernelError> {
        let member = |name| self.view.member("bpf_queue_stack", name);
        let number = |name| self.view.read_member(map.kva, &member(name)?);
        let (head, tail, size) = (number("head")?, number("tail")?, number("size")?);
        let first = map.kva.wrapping_add(member("elements")?.offset());
        if head >= size || tail >= size {
            // The positions are outside of the ring, for instance because the map is being created.
            return Ok(());
        }
        let bytes = u64::from(map.value_size);
        let count = (head + size - tail) % size;
        let shown = self.room(count, bytes);
        dump.truncated = shown < count;
        for index in 0..shown {
            let place = match is_stack {
                true => (head + size - 1 - index) % size,
                false => (tail + index) % size,
            };
            let at = first.wrapping_add(place.wrapping_mul(bytes));
            let value = self.read(at, bytes)?;
            dump.array_entries.push(FailureDumpArrayEntry {
                index: narrow::count(index),
                value: Some(self.value(map, types, at, &value)),
            });
        }
        Ok(())
    }

    /// Captures which slots of an array of programs, maps, cgroups or events are in use (`kernel/bpf/arraymap.c`).
    pub(super) fn fd_array(
        &self,
        map: &BpfMap,
        dump: &mut FailureDumpMap,
    ) -> Result<(), KernelError> {
        let slots = self.view.member("bpf_array", "ptrs")?.offset();
        let first = map.kva.wrapping_add(slots);
        let all = u64::from(map.max_entries);
        let count = self.slots(all);
        dump.truncated = count < all;
        let bytes = self.read(first, 8 * count)?;
        let used = (0..).zip(words(&bytes)).filter(|(_, word)| *word != 0);
        let mut occupied = Vec::new();
        for (index, _) in used {
            if !self.charge_nodes(1) {
                dump.truncated = true;
                break;
            }
            occupied.push(index);
        }
        dump.fd_array = Some(FailureDumpFdArray { occupied });
        Ok(())
    }

    /// Captures the stacks of a stack-trace map (`kernel/bpf/stackmap.c`).
    pub(super) fn stack_trace(
        &self,
        map: &BpfMap,
        dump: &mut FailureDumpMap,
    ) -> Result<(), KernelError> {
        const MAP: &str = "bpf_stack_map";
        let buckets = self.view.member(MAP, "n_buckets")?;
        let buckets = self.view.read_member(map.kva, &buckets)?;
        let flags = self.view.member("bpf_map", "map_flags")?;
        let flags = self.view.read_member(map.kva, &flags)?;
        let mut trace = FailureDumpStackTrace {
            n_buckets: narrow::count(buckets),
            stacks: Vec::new(),
        };
        if flags & STACK_BUILD_ID == 0 {
            let first = self.view.member(MAP, "buckets")?.offset();
            let frames = self.view.member("stack_map_bucket", "nr")?;
            let data = self.view.member("stack_map_bucket", "data")?.offset();
            let most = u64::from(map.value_size) / 8;
            let count = self.slots(buckets);
            dump.truncated = count < buckets;
            let slots = self.read(map.kva.wrapping_add(first), 8 * count)?;
            for (id, bucket) in (0..).zip(words(&slots)) {
                if bucket == 0 {
                    continue;
                }
                let depth = self.view.read_member(bucket, &frames)?.min(most);
                let is_room =
                    (trace.stacks.len() as u64) < self.room(buckets, map.value_size.into());
                if !is_room || !self.charge_nodes(depth) {
                    dump.truncated = true;
                    break;
                }
                let bytes = self.read(bucket.wrapping_add(data), 8 * depth)?;
                trace.stacks.push(FailureDumpStack {
                    id,
                    frames: words(&bytes).map(|at| self.frame(at)).collect(),
                });
            }
        }
        dump.stack_trace = Some(trace);
        Ok(())
    }

    /// Returns an address as `symbol+0xoffset`, or as a number if it is not in the kernel image.
    fn frame(&self, address: u64) -> String {
        // BPF programs and modules lie outside of the kernel image, and symbols below the image are not functions.
        let nearest = self.view.symbols().nearest(address);
        match nearest.filter(|(_, offset)| address >= START_KERNEL_MAP && *offset < MAX_FUNCTION) {
            Some((name, offset)) => format!("{name}+{offset:#x}"),
            None => format!("{address:#x}"),
        }
    }

    /// Captures the entries of a trie (`kernel/bpf/lpm_trie.c`), in the order of their prefixes.
    pub(super) fn lpm_trie(
        &self,
        map: &BpfMap,
        types: &Types,
        dump: &mut FailureDumpMap,
    ) -> Result<(), KernelError> {
        const NODE: &str = "lpm_trie_node";
        let field = |name| {
            let member = self.view.member("lpm_trie", name)?;
            self.view.read_member(map.kva, &member)
        };
        let member = |name| self.view.member(NODE, name);
        let (child, data) = (member("child")?.offset(), member("data")?.offset());
        let (prefix, flags) = (member("prefixlen")?, member("flags")?);
        let prefix_bytes = field("data_size")?.min(MAX_PREFIX);
        let bytes = prefix_bytes + u64::from(map.value_size);
        let room = self.room(u64::from(map.max_entries), bytes);
        // Each entry needs at most one node that only connects others.
        let mut nodes_left = room.saturating_mul(2);
        let mut waiting = vec![field("root")?];
        while let Some(node) = waiting.pop() {
            if node == 0 {
                continue;
            }
            if nodes_left == 0 {
                dump.truncated = true;
                break;
            }
            nodes_left -= 1;
            // The child with the bit 0 is pushed last, so it is popped first.
            for side in [1, 0] {
                let at = node.wrapping_add(child + 8 * side);
                waiting.push(self.view.read_u64(at)?);
            }
            if self.view.read_member(node, &flags)? & INTERMEDIATE != 0 {
                continue;
            }
            if dump.entries.len() as u64 >= room {
                dump.truncated = true;
                break;
            }
            let len = narrow::count(self.view.read_member(node, &prefix)?);
            let at = node.wrapping_add(data);
            let mut key = len.to_le_bytes().to_vec();
            key.extend(self.read(at, prefix_bytes)?);
            let at = at.wrapping_add(prefix_bytes);
            let value = self.read(at, u64::from(map.value_size))?;
            dump.entries.push(FailureDumpEntry {
                key: Some(self.typed(types, map.btf_key_type_id, node, &key)),
                key_hex: hex(&key),
                value: Some(self.value(map, types, at, &value)),
            });
        }
        Ok(())
    }
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let words = bytes.chunks_exact(8);
    words.map(|word| word.try_into().map_or(0, u64::from_le_bytes))
}

#[cfg(test)]
#[path = "kinds_tests.rs"]
mod tests;
