//! The mailbox between host and guest: three byte rings in guest RAM, a window for the contents of files, and a place for
//! the host's answers.
//!
//! The mailbox lies in a range that the kernel's command line reserves ([`Layout::KERNEL_ARGUMENT`]). The guest maps it
//! through `/dev/mem`; the host accesses it through the hypervisor's memory. The mailbox needs no driver and no
//! device, so it works before any module is loaded and survives a restore of the machine in another process.
//!
//! Each ring has one producer and one consumer. A frame has a length, a sequence number, the producer's time and a
//! CRC-32; a message longer than a frame is split into several frames. The consumer trusts nothing: it checks the
//! producer's position against its own, and lengths against limits. A ring whose contents are inconsistent is abandoned
//! with a [`RingError`]; the consumer never waits for its producer.
//!
//! This crate does not define what the messages mean, and does no I/O: memory is accessed through [`MailboxMemory`].
// The numbers in the rings come from a guest, so a cast must not change a number unnoticed.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]

mod frame;
mod reader;
mod writer;

pub use frame::{MAX_FRAME_PAYLOAD, MAX_MESSAGE, find_checksum};
pub use reader::{Message, Reader, RingError};
pub use writer::{WriteError, Writer};

/// The value of `rax` that makes [`MARKER_CODE`] a call to the host: "KTSTRHLD".
pub const MARKER: u64 = u64::from_le_bytes(*b"KTSTRHLD");
/// The instruction `xchg %bx,%bx`, which does nothing unless the host watches for it.
pub const MARKER_CODE: [u8; 3] = [0x66, 0x87, 0xdb];
/// The argument of a call to the host (in `rdi`) that reports a message in the mailbox.
pub const CALL_MESSAGE: u64 = 1;
/// The argument of a call to the host that reports that the guest is idle until the host sends a message.
pub const CALL_IDLE: u64 = 2;

/// [`Layout::HEADER`] as a `usize`.
const HEADER: usize = 4096;

/// The layout of the mailbox. Offsets are in bytes from the start of the mailbox.
pub struct Layout;

impl Layout {
    /// Guest-physical address of the mailbox: below the kernel image, which is linked at 16 MiB.
    pub const BASE: u64 = 8 << 20;
    /// Size of the mailbox in bytes.
    pub const SIZE: u64 = 8 << 20;
    /// The kernel argument that reserves the range (`memmap=` in `Documentation/admin-guide/kernel-parameters.txt`).
    pub const KERNEL_ARGUMENT: &'static str = "memmap=8M$8M";
    /// Offset of [`Layout::MAGIC`], which the guest writes last, after it has cleared the header.
    pub const MAGIC_OFFSET: u64 = 0;
    /// The magic number of an initialised mailbox: "KTSTRMB1" in little-endian order.
    pub const MAGIC: u64 = u64::from_le_bytes(*b"KTSTRMB1");
    /// Length of the header page in bytes.
    pub const HEADER: u64 = HEADER as u64;
    /// Offset of the bulk window, through which the contents of files pass into the guest. The window overlaps the ring of
    /// the test process. The ring is not in use until the test process has its job, and the host passes all files before.
    pub const BULK: u64 = Ring::Test.offset();
    /// Offset of the host's answers to requests of the test process. The answers lie between the header and the first
    /// ring, so they never overlap messages.
    pub const ANSWER: u64 = Self::HEADER;
    /// Length of the bulk window in bytes.
    pub const BULK_SIZE: u64 = Ring::Test.size();
}

/// One of the three rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ring {
    /// From PID 1 to the host, 1 MiB.
    Agent,
    /// From the host to PID 1, 2 MiB.
    Host,
    /// From the test process to the host, 4 MiB.
    Test,
}

impl Ring {
    /// Returns the offset of the ring's bytes within the mailbox.
    pub const fn offset(self) -> u64 {
        match self {
            Self::Agent => 1 << 20,
            Self::Host => 2 << 20,
            Self::Test => 4 << 20,
        }
    }

    /// Returns the length of the ring in bytes, which is a power of two.
    pub const fn size(self) -> u64 {
        // Each ring starts at an offset equal to its size, so the three rings fill the mailbox from 1 MiB on without overlap.
        self.offset()
    }

    /// Returns the offset of the producer's position: the number of bytes ever written.
    pub const fn head_offset(self) -> u64 {
        64 + 128 * self.index()
    }

    /// Returns the offset of the consumer's position: the number of bytes ever read. It has its own cache line.
    pub const fn tail_offset(self) -> u64 {
        self.head_offset() + 64
    }

    const fn index(self) -> u64 {
        match self {
            Self::Agent => 0,
            Self::Host => 1,
            Self::Test => 2,
        }
    }
}

/// A cursor in a ring, at the boundary between two frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RingCursor {
    /// Number of bytes since the ring was created.
    pub bytes: u64,
    /// Number of frames since the ring was created, modulo 2^32.
    pub sequence: u32,
}

/// Access to the mailbox's memory. Offsets count from [`Layout::BASE`].
pub trait MailboxMemory {
    /// The error of a failed access.
    type Error: std::error::Error + Send + Sync + 'static;
    /// Fills `buf` with the bytes at `offset`.
    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), Self::Error>;
    /// Writes `bytes` at `offset`.
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Self::Error>;
    /// Loads the aligned 64-bit word at `offset` with acquire ordering.
    fn load(&self, offset: u64) -> Result<u64, Self::Error>;
    /// Stores the aligned 64-bit word `value` at `offset` with release ordering, after everything that was written before.
    fn store(&self, offset: u64, value: u64) -> Result<(), Self::Error>;
}

/// Clears the header of the mailbox, and marks the mailbox as ready. The guest calls this once, before any other access.
pub fn initialise<M: MailboxMemory>(memory: &M) -> Result<(), M::Error> {
    memory.store(Layout::MAGIC_OFFSET, 0)?;
    let rest = [0u8; HEADER - 8];
    memory.write(8, &rest)?;
    memory.store(Layout::MAGIC_OFFSET, Layout::MAGIC)
}

/// Returns whether the guest has initialised the mailbox.
pub fn is_ready<M: MailboxMemory>(memory: &M) -> Result<bool, M::Error> {
    Ok(memory.load(Layout::MAGIC_OFFSET)? == Layout::MAGIC)
}

#[cfg(test)]
mod tests;
