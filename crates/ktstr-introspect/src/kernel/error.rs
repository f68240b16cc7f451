//! The error of everything that reads the kernel.

use thiserror::Error;

use crate::btf::{BtfError, MemberError};
use crate::memory::MemoryError;
use crate::paging::PagingError;

/// Why the kernel could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KernelError {
    /// Guest-physical memory could not be read.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// An address has no translation.
    #[error(transparent)]
    Paging(#[from] PagingError),
    /// A struct or member is not in the kernel's BTF.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// A BTF blob in guest memory is broken.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// The symbol table does not have the symbol.
    #[error("kernel symbol `{name}` is not in the symbol table")]
    NoSymbol {
        /// The name of the symbol that was requested.
        name: String,
    },
    /// A symbol that belongs to the kernel image lies outside of it.
    #[error(
        "kernel symbol `{symbol}` at {kva:#x} is not in the kernel image (0xffffffff80000000 and up)"
    )]
    NotInImage {
        /// The name of the symbol.
        symbol: String,
        /// The symbol's virtual address.
        kva: u64,
    },
    /// The kernel's page table could not be found.
    #[error("no page table at init_top_pgt ({kva:#x}): {reason}")]
    NoPageTable {
        /// The virtual address of `init_top_pgt`, from the symbol table.
        kva: u64,
        /// Why there is no valid table there.
        reason: String,
    },
    /// An address range exceeds the end of the address space.
    #[error("{len} bytes at {kva:#x} go over the end of the address space")]
    Wraps {
        /// The virtual address of the first byte.
        kva: u64,
        /// The requested number of bytes.
        len: u64,
    },
    /// More bytes were requested than may be read at once.
    #[error("{len} bytes at {kva:#x} exceed the limit of {max} bytes")]
    TooLarge {
        /// The virtual address of the first byte.
        kva: u64,
        /// The requested number of bytes.
        len: u64,
        /// The largest size that is read, in bytes.
        max: u64,
    },
    /// A size is not the size of an integer: 1, 2, 4 or 8 bytes.
    #[error(
        "an integer of {size} bytes at {kva:#x} cannot be read: integers have 1, 2, 4 or 8 bytes"
    )]
    NoInteger {
        /// The virtual address of the first byte.
        kva: u64,
        /// The requested number of bytes.
        size: u64,
    },
    /// A list or a tree in guest memory has more elements than are followed, for instance because it is circular.
    #[error("{what} at {kva:#x} does not end within {max} steps")]
    TooLong {
        /// The kind of list or tree.
        what: &'static str,
        /// The address of its start.
        kva: u64,
        /// The largest number of elements that are followed.
        max: usize,
    },
}
