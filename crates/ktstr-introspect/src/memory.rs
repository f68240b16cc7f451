//! The only interface to the guest: reads of its physical memory.
//!
//! Virtual addresses are handled in `kernel`. An implementation of [`GuestMemory`] knows where RAM is, and returns an error for
//! all other addresses.

use thiserror::Error;

/// Guest-physical memory as seen from outside.
///
/// Implementations read whatever the guest's RAM holds at that moment. A read either fills `buf` completely or returns an
/// error, after which the contents of `buf` are unspecified.
pub trait GuestMemory {
    /// Fills `buf` with the bytes at guest-physical address `gpa`.
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), MemoryError>;
}

impl<M: GuestMemory + ?Sized> GuestMemory for &M {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        (**self).read(gpa, buf)
    }
}

impl<M: GuestMemory + ?Sized> GuestMemory for Box<M> {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        (**self).read(gpa, buf)
    }
}

impl<M: GuestMemory + ?Sized> GuestMemory for std::sync::Arc<M> {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        (**self).read(gpa, buf)
    }
}

/// A slice is RAM that starts at guest-physical address 0, as in tests and small guests.
impl GuestMemory for [u8] {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        let out_of_ram = || MemoryError::OutOfRam {
            gpa,
            len: buf.len(),
            ram_end: self.len() as u64,
        };
        let start = usize::try_from(gpa).map_err(|_| out_of_ram())?;
        let end = start.checked_add(buf.len()).ok_or_else(out_of_ram)?;
        let bytes = self.get(start..end).ok_or_else(out_of_ram)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}

impl GuestMemory for Vec<u8> {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.as_slice().read(gpa, buf)
    }
}

/// Why guest-physical memory could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The range lies outside of RAM, in whole or in part.
    #[error(
        "read of {len} bytes at guest-physical {gpa:#x}: outside of guest RAM (ends at {ram_end:#x})"
    )]
    OutOfRam {
        /// The address of the first requested byte.
        gpa: u64,
        /// The requested number of bytes.
        len: usize,
        /// The guest-physical address at which RAM ends, as far as the reader knows it.
        ram_end: u64,
    },
    /// The page is not part of this recorded image.
    #[error("read of {len} bytes at guest-physical {gpa:#x}: the image does not hold this page")]
    NotRecorded {
        /// The address of the first requested byte.
        gpa: u64,
        /// The requested number of bytes.
        len: usize,
    },
    /// The host could not read the memory.
    #[error("read of {len} bytes at guest-physical {gpa:#x} failed: {reason}")]
    Host {
        /// The address of the first requested byte.
        gpa: u64,
        /// The requested number of bytes.
        len: usize,
        /// The error of the host.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slice_reads_inside_and_refuses_outside() {
        let ram = vec![1u8, 2, 3, 4];
        let mut buf = [0u8; 2];
        ram.read(2, &mut buf).expect("inside");
        assert_eq!(buf, [3, 4]);
        let err = ram.read(3, &mut buf).expect_err("one byte past the end");
        assert_eq!(
            err.to_string(),
            "read of 2 bytes at guest-physical 0x3: outside of guest RAM (ends at 0x4)"
        );
        assert!(ram.read(u64::MAX, &mut buf).is_err());
    }
}
