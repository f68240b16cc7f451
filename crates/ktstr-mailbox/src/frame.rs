//! The format of a frame: 32 bytes of header, then the payload, padded to a multiple of eight bytes.
//!
//! The header has, in little-endian order, the magic number at byte 0, the length of the payload at 4, the sequence number at 8,
//! the flags at 12, the producer's time at 16 (64 bits) and the checksum at 24. The last four bytes are zero.

use crate::reader::RingError;

/// Maximum payload of one frame in bytes.
pub const MAX_FRAME_PAYLOAD: usize = 64 << 10;
/// Maximum size of a message, assembled from its frames, in bytes.
pub const MAX_MESSAGE: usize = 16 << 20;

/// Length of a frame's header in bytes.
pub(crate) const HEADER: usize = 32;
const MAGIC: u32 = u32::from_le_bytes(*b"KFRM");
/// The flag of a frame whose message continues in the next frame.
pub(crate) const MORE: u32 = 1;

/// The fields of a frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) len: u32,
    pub(crate) sequence: u32,
    pub(crate) flags: u32,
    pub(crate) time_ns: u64,
    pub(crate) crc: u32,
}

impl Header {
    /// Creates the header of a frame with `payload`, including the checksum.
    pub(crate) fn new(payload: &[u8], sequence: u32, flags: u32, time_ns: u64) -> Self {
        let mut header = Self {
            // A length that does not fit becomes `u32::MAX`. A reader refuses it, because it exceeds `MAX_FRAME_PAYLOAD`.
            len: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            sequence,
            flags,
            time_ns,
            crc: 0,
        };
        header.crc = header.checksum(payload);
        header
    }

    pub(crate) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0u8; HEADER];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.len.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.flags.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.time_ns.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; HEADER]) -> Result<Self, RingError> {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        if word(0) != MAGIC {
            return Err(RingError::BadMagic { found: word(0) });
        }
        let header = Self {
            len: word(4),
            sequence: word(8),
            flags: word(12),
            time_ns: u64::from(word(16)) | u64::from(word(20)) << 32,
            crc: word(24),
        };
        if header.len as usize > MAX_FRAME_PAYLOAD {
            return Err(RingError::FrameTooLong { len: header.len });
        }
        Ok(header)
    }

    /// Returns the number of bytes that the frame occupies in the ring.
    pub(crate) fn stride(&self) -> u64 {
        stride(self.len as usize)
    }

    /// Returns the CRC-32 of the header up to the checksum, and of the payload.
    pub(crate) fn checksum(&self, payload: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.encode()[..24]);
        hasher.update(payload);
        hasher.finalize()
    }
}

/// Detects and caches which CPU instructions compute a checksum. Call this before a machine is saved, so that its forks do
/// not repeat the detection.
pub fn find_checksum() {
    crc32fast::hash(&[]);
}

/// Returns the number of bytes that a frame with `len` bytes of payload occupies in the ring.
pub(crate) fn stride(len: usize) -> u64 {
    (HEADER + len.next_multiple_of(8)) as u64
}
