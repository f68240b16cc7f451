//! Arenas (`kernel/bpf/arena.c`): memory that a BPF program shares with a process.
//!
//! A pointer into an arena is an address of that process. The kernel maps the same pages at an address of its own.

use super::maps::BpfMap;
use crate::kernel::{KernelError, KernelView};
use crate::memory::GuestMemory;
use crate::narrow;

/// The size in bytes of the unmapped range below the kernel's mapping, which is half of `GUARD_SZ`. The offset in a BPF
/// instruction is a signed 16-bit number, so no instruction reaches beyond this range.
const GUARD: u64 = 1 << 15;

/// Where an arena is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arena {
    /// The first address of the arena in the address space of the process; 0 if no process has mapped it.
    pub user_start: u64,
    /// The first address after the arena in that address space.
    pub user_end: u64,
    /// The address at which the kernel maps the page whose address in the process has zeros as its lower 32 bits.
    pub kernel_start: u64,
}

impl Arena {
    /// Returns the kernel address of the byte at `address` in the process; `None` if the byte is not in the arena.
    pub fn kernel_address(&self, address: u64) -> Option<u64> {
        let inside = (self.user_start..self.user_end).contains(&address);
        let offset = u64::from(narrow::low_half(address));
        inside.then(|| self.kernel_start.wrapping_add(offset))
    }
}

impl<M: GuestMemory + ?Sized> KernelView<'_, M> {
    /// Returns where the arena `map` is.
    ///
    /// # Errors
    /// The map cannot be read, or the kernel's types lack one of the members that are needed.
    pub fn bpf_arena(&self, map: &BpfMap) -> Result<Arena, KernelError> {
        let field = |name| self.read_member(map.kva, &self.member("bpf_arena", name)?);
        let area = field("kern_vm")?;
        let start = self.read_member(area, &self.member("vm_struct", "addr")?)?;
        Ok(Arena {
            user_start: field("user_vm_start")?,
            user_end: field("user_vm_end")?,
            kernel_start: start.wrapping_add(GUARD),
        })
    }
}
