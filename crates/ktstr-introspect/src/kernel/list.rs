//! Bounded walks of the kernel's linked lists.

use super::{KernelError, KernelView};
use crate::memory::GuestMemory;

impl<M: GuestMemory + ?Sized> KernelView<'_, M> {
    /// Follows a `struct list_head` from `head` and calls `visit` with the address of each node.
    ///
    /// The walk ends when the list returns to `head` or reaches NULL, or when `visit` returns `false`. A list of more than `max`
    /// nodes, or a circle without `head`, is an error.
    pub fn walk_list(
        &self,
        what: &'static str,
        head: u64,
        max: usize,
        mut visit: impl FnMut(u64) -> bool,
    ) -> Result<(), KernelError> {
        let mut node = self.read_u64(head)?;
        for _ in 0..max {
            if node == head || node == 0 || !visit(node) {
                return Ok(());
            }
            node = self.read_u64(node)?;
        }
        if node == head || node == 0 {
            return Ok(());
        }
        Err(KernelError::TooLong {
            what,
            kva: head,
            max,
        })
    }

    /// Follows a chain of a hash table (a BPF map or an rhashtable) from `first` and calls `visit` with the address of each node.
    ///
    /// The end is NULL or a marker with the lowest bit set: `is_a_nulls()` in `include/linux/list_nulls.h`. A chain of more than
    /// `max` nodes is an error.
    pub(crate) fn walk_nulls(
        &self,
        what: &'static str,
        first: u64,
        max: usize,
        mut visit: impl FnMut(u64),
    ) -> Result<(), KernelError> {
        let is_end = |node: u64| node == 0 || node & 1 == 1;
        let mut node = first;
        for _ in 0..max {
            if is_end(node) {
                return Ok(());
            }
            visit(node);
            node = self.read_u64(node)?;
        }
        if is_end(node) {
            return Ok(());
        }
        Err(KernelError::TooLong {
            what,
            kva: first,
            max,
        })
    }
}
