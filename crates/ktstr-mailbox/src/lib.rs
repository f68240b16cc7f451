//! The mailbox between host and guest: three byte rings in guest RAM.
//!
//! The pages lie in a range that the kernel's command line keeps out of the kernel's hands
//! ([`Layout::KERNEL_ARGUMENT`]); the guest maps them through `/dev/mem`, the host reads them
//! through the hypervisor's memory. That needs no driver and no device, so it works before any
//! module is loaded and survives a restore of the machine in another process.
//!
//! Each ring has one producer and one consumer. A frame has a length, a sequence number, the
//! producer's time and a CRC-32; a message longer than a frame is cut into several. The consumer
//! trusts nothing: positions are checked against its own, lengths against caps, and a ring whose
//! positions make no sense is given up with a [`RingError`], never waited for.
//!
//! Not for: what the messages mean. No I/O here: memory is reached through [`Region`].

mod frame;
mod reader;
mod writer;

pub use frame::{MAX_FRAME_PAYLOAD, MAX_MESSAGE, find_checksum};
pub use reader::{Message, Reader, RingError};
pub use writer::{Full, Writer};

/// Value of `rax` that makes [`MARKER_CODE`] a call to the host: "KTSTRHLD".
pub const MARKER: u64 = u64::from_le_bytes(*b"KTSTRHLD");
/// `xchg %bx,%bx`: does nothing, unless a host that counts instructions looks for it.
pub const MARKER_CODE: [u8; 3] = [0x66, 0x87, 0xdb];
/// A call's argument: there is a message in the mailbox.
pub const CALL_MESSAGE: u64 = 1;
/// A call's argument: the guest has nothing to do until the host says something.
pub const CALL_IDLE: u64 = 2;

/// Where everything lies, in bytes from the start of guest-physical memory or of the mailbox.
pub struct Layout;

impl Layout {
    /// Guest-physical address of the mailbox: below the kernel image, which is linked at 16 MiB.
    pub const BASE: u64 = 8 << 20;
    /// Size of the mailbox.
    pub const SIZE: u64 = 8 << 20;
    /// What keeps the kernel off the range (`Documentation/admin-guide/kernel-parameters.txt`,
    /// `memmap=`).
    pub const KERNEL_ARGUMENT: &'static str = "memmap=8M$8M";
    /// Offset of [`Layout::MAGIC`], written last when the guest has cleared the header.
    pub const MAGIC_OFFSET: u64 = 0;
    /// "KTSTRMB1" in little-endian order.
    pub const MAGIC: u64 = u64::from_le_bytes(*b"KTSTRMB1");
    /// Length of the header page.
    pub const HEADER: u64 = 4096;
    /// Offset of the bulk window: bytes of files on their way into the guest. They pass before
    /// the test process has a job and anything to say, so they may lie where its ring will be.
    pub const BULK: u64 = Ring::Test.offset();
    /// Offset of the host's answers to what the test process asks: between the header and the first ring, so that they never lie
    /// where somebody's messages are.
    pub const ANSWER: u64 = Self::HEADER;
    /// Length of the bulk window.
    pub const BULK_SIZE: u64 = Ring::Test.size();
}

/// One of the rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ring {
    /// PID 1 to host, 1 MiB.
    Agent,
    /// Host to PID 1, 2 MiB.
    Host,
    /// Test process to host, 4 MiB.
    Test,
}

impl Ring {
    /// Offset of the ring's bytes within the mailbox.
    pub const fn offset(self) -> u64 {
        match self {
            Self::Agent => 1 << 20,
            Self::Host => 2 << 20,
            Self::Test => 4 << 20,
        }
    }

    /// Length of the ring in bytes, a power of two.
    pub const fn size(self) -> u64 {
        // Each ring starts at an offset equal to its size, so the three tile the 8 MiB.
        self.offset()
    }

    /// Offset of the count of bytes ever produced.
    pub const fn head_offset(self) -> u64 {
        64 + 128 * self.index()
    }

    /// Offset of the count of bytes ever consumed, on a cache line of its own.
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

/// A position in a ring, between two frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// Bytes since the ring was new.
    pub bytes: u64,
    /// Frames since the ring was new, modulo 2^32.
    pub sequence: u32,
}

/// The mailbox's memory. Offsets count from [`Layout::BASE`].
pub trait Region {
    /// Why memory could not be reached.
    type Error: std::error::Error + Send + Sync + 'static;
    /// Fills `buf` from `offset`.
    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), Self::Error>;
    /// Stores `bytes` at `offset`.
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Self::Error>;
    /// Reads an aligned position; later reads see what was written before it.
    fn load(&self, offset: u64) -> Result<u64, Self::Error>;
    /// Stores an aligned position after everything written before.
    fn store(&self, offset: u64, value: u64) -> Result<(), Self::Error>;
}

/// Makes the mailbox empty and known to the other side. The guest calls it once, first of all.
pub fn initialise<R: Region>(region: &R) -> Result<(), R::Error> {
    region.store(Layout::MAGIC_OFFSET, 0)?;
    let rest = [0u8; Layout::HEADER as usize - 8];
    region.write(8, &rest)?;
    region.store(Layout::MAGIC_OFFSET, Layout::MAGIC)
}

/// Whether the guest has initialised the mailbox.
pub fn is_ready<R: Region>(region: &R) -> Result<bool, R::Error> {
    Ok(region.load(Layout::MAGIC_OFFSET)? == Layout::MAGIC)
}

#[cfg(test)]
mod tests;
