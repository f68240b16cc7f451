//! Walk of an xarray (lib/xarray.c), as used by the kernel's id allocators.

use super::{KernelError, KernelView};
use crate::memory::GuestMemory;
use crate::narrow;

/// The largest number of nodes that are read; each has up to [`MAX_SLOTS`] entries.
const MAX_NODES: usize = 4096;
/// The largest number of levels: 64 bits of index in steps of 6.
const MAX_LEVELS: u32 = 11;
/// The largest number of slots of a node (`XA_CHUNK_SIZE`).
const MAX_SLOTS: u64 = 64;

/// A pointer in a `struct idr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdrEntry {
    /// The id under which the pointer is found.
    pub id: u64,
    /// The pointer, a kernel address.
    pub pointer: u64,
}

impl<M: GuestMemory + ?Sized> KernelView<'_, M> {
    /// Returns the pointers in the `struct idr` at `kva`, in the order of the ids, at most `max`.
    pub fn walk_idr(&self, kva: u64, max: usize) -> Result<Vec<IdrEntry>, KernelError> {
        let head = self.member("idr", "idr_rt.xa_head")?;
        let shift = self.member("xa_node", "shift")?;
        let slots = self.member("xa_node", "slots")?;
        let mut walk = Walk {
            shift: shift.offset(),
            slots: slots.offset(),
            slot_count: (slots.size / 8).min(MAX_SLOTS),
            found: Vec::new(),
            nodes: 0,
            max,
        };
        let entry = self.read_u64(kva.wrapping_add(head.offset()))?;
        self.walk_entry(&mut walk, kva, entry, 0, u64::from(u8::MAX), MAX_LEVELS)?;
        Ok(walk.found)
    }

    /// Appends the pointers in and below `entry`. `index` has the upper bits of their ids. `above` is the shift of the parent
    /// node. A child must have a smaller shift, so a node that is its own child is an error.
    fn walk_entry(
        &self,
        walk: &mut Walk,
        root: u64,
        entry: u64,
        index: u64,
        above: u64,
        levels: u32,
    ) -> Result<(), KernelError> {
        if entry == 0 || walk.found.len() >= walk.max {
            return Ok(());
        }
        if entry & 3 == 0 {
            walk.found.push(IdrEntry {
                id: index,
                pointer: entry,
            });
            return Ok(());
        }
        // The lowest two bits of an internal entry are 10 in binary. An internal entry of up to 4096 is a marker (zero,
        // retry, sibling), and a larger one is a node.
        if entry & 3 != 2 || entry <= 4096 {
            return Ok(());
        }
        let node = entry - 2;
        let shift = self.read_uint(node.wrapping_add(walk.shift), 1)?;
        walk.nodes += 1;
        let deeper = levels
            .checked_sub(1)
            .filter(|_| shift < above && shift < 64);
        let (Some(levels), true) = (deeper, walk.nodes <= MAX_NODES) else {
            return Err(KernelError::TooLong {
                what: "xarray",
                kva: root,
                max: MAX_NODES,
            });
        };
        for slot in 0..walk.slot_count {
            let entry = self.read_u64(node.wrapping_add(walk.slots + 8 * slot))?;
            let index = index | slot.checked_shl(narrow::count(shift)).unwrap_or(0);
            self.walk_entry(walk, root, entry, index, shift, levels)?;
        }
        Ok(())
    }
}

struct Walk {
    shift: u64,
    slots: u64,
    slot_count: u64,
    found: Vec<IdrEntry>,
    nodes: usize,
    max: usize,
}
