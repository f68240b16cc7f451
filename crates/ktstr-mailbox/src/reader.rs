//! The consumer's end of a ring. The producer is not trusted: whatever bytes the ring has, a read returns a message, nothing
//! or an error.

use crate::frame::{self, Header, MAX_MESSAGE, MORE};
use crate::{MailboxMemory, Ring, RingCursor};

/// Why a ring was abandoned. The bytes after the error have no meaning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// The producer's position is behind the consumer's, is ahead of it by more than the ring's size, or is no multiple of eight.
    #[error(
        "the producer's position is byte {head}, which is impossible for a ring of {size} bytes that was read up to byte {tail}"
    )]
    BadPosition {
        /// The producer's position in the ring, in bytes since the start.
        head: u64,
        /// The consumer's position in the ring, in bytes since the start.
        tail: u64,
        /// The ring's size in bytes.
        size: u64,
    },
    /// No frame starts at the consumer's position.
    #[error("expected the start of a frame, found {found:#010x}")]
    BadMagic {
        /// The first word at that position.
        found: u32,
    },
    /// A frame is longer than the limit.
    #[error(
        "a frame claims {len} bytes of payload, over the limit of {}",
        crate::MAX_FRAME_PAYLOAD
    )]
    FrameTooLong {
        /// The length that the frame claims, in bytes.
        len: u32,
    },
    /// A frame ends beyond the producer's position.
    #[error("a frame of {stride} bytes was announced, but only {present} bytes are there")]
    Incomplete {
        /// The number of bytes that the frame occupies in the ring, with its header and padding.
        stride: u64,
        /// The number of bytes up to the producer's position.
        present: u64,
    },
    /// The frames of a message add up to more than the limit.
    #[error("a message grew over the limit of {MAX_MESSAGE} bytes")]
    MessageTooLong,
    /// Guest memory could not be accessed, with the error as text.
    #[error("guest memory could not be read: {0}")]
    Memory(String),
}

/// A complete message that was read from the ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The producer's clock when it wrote the last frame, in nanoseconds.
    pub time_ns: u64,
    /// The message as the producer passed it in.
    pub bytes: Vec<u8>,
}

/// Reads messages from one ring. The reader keeps its own position and only publishes a copy, so a producer that changes the
/// copy has no effect.
#[derive(Debug)]
pub struct Reader {
    ring: Ring,
    tail: u64,
    sequence: u32,
    partial: Vec<u8>,
    /// Whether a frame of the current message was dropped, so that the rest of the message is discarded.
    spoilt: bool,
    dropped: u64,
}

impl Reader {
    /// Creates the consumer of an empty ring.
    pub fn new(ring: Ring) -> Self {
        Self {
            ring,
            tail: 0,
            sequence: 0,
            partial: Vec::new(),
            spoilt: false,
            dropped: 0,
        }
    }

    /// Creates the consumer of a ring that has been read up to `cursor`, as in a restored machine.
    pub fn resume(ring: Ring, cursor: RingCursor) -> Self {
        Self {
            tail: cursor.bytes,
            sequence: cursor.sequence,
            ..Self::new(ring)
        }
    }

    /// Returns the position of the next frame.
    pub fn cursor(&self) -> RingCursor {
        RingCursor {
            bytes: self.tail,
            sequence: self.sequence,
        }
    }

    /// Returns the number of messages lost to a bad checksum or a gap in the sequence. Several
    /// messages lost in a row may count as one.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Returns the next complete message, or `None` if there is none yet. Reads at most what the ring held when the
    /// function was called.
    ///
    /// # Errors
    /// If the ring is inconsistent or cannot be accessed. The ring must not be read again after an error.
    pub fn next<M: MailboxMemory>(&mut self, memory: &M) -> Result<Option<Message>, RingError> {
        let failed = |error: M::Error| RingError::Memory(error.to_string());
        let head = memory.load(self.ring.head_offset()).map_err(failed)?;
        let size = self.ring.size();
        if head < self.tail || head - self.tail > size || head % 8 != 0 {
            return Err(RingError::BadPosition {
                head,
                tail: self.tail,
                size,
            });
        }
        let mut message = None;
        while message.is_none() && self.tail < head {
            let present = head - self.tail;
            if present < frame::HEADER as u64 {
                return Err(RingError::Incomplete {
                    stride: frame::HEADER as u64,
                    present,
                });
            }
            let mut bytes = [0u8; frame::HEADER];
            self.copy_out(memory, self.tail, &mut bytes)
                .map_err(failed)?;
            let header = Header::decode(&bytes)?;
            if header.stride() > present {
                return Err(RingError::Incomplete {
                    stride: header.stride(),
                    present,
                });
            }
            let mut payload = vec![0u8; header.len as usize];
            self.copy_out(memory, self.tail + frame::HEADER as u64, &mut payload)
                .map_err(failed)?;
            self.tail += header.stride();
            message = self.accept(&header, payload)?;
        }
        memory
            .store(self.ring.tail_offset(), self.tail)
            .map_err(failed)?;
        Ok(message)
    }

    fn accept(&mut self, header: &Header, payload: Vec<u8>) -> Result<Option<Message>, RingError> {
        let intact = header.checksum(&payload) == header.crc && header.sequence == self.sequence;
        self.sequence = header.sequence.wrapping_add(1);
        if !intact && !self.spoilt {
            self.spoilt = true;
            // Count the loss now, because the message's last frame may never arrive.
            self.dropped += 1;
        }
        let last = header.flags & MORE == 0;
        if self.spoilt {
            self.partial.clear();
            if last {
                self.spoilt = false;
            }
            return Ok(None);
        }
        if self.partial.len() + payload.len() > MAX_MESSAGE {
            return Err(RingError::MessageTooLong);
        }
        if self.partial.is_empty() {
            self.partial = payload;
        } else {
            self.partial.extend_from_slice(&payload);
        }
        Ok(last.then(|| Message {
            time_ns: header.time_ns,
            bytes: std::mem::take(&mut self.partial),
        }))
    }

    fn copy_out<M: MailboxMemory>(
        &self,
        memory: &M,
        position: u64,
        buf: &mut [u8],
    ) -> Result<(), M::Error> {
        let start = position & (self.ring.size() - 1);
        let until_end = usize::try_from(self.ring.size() - start).unwrap_or(usize::MAX);
        let (first, wrapped) = buf.split_at_mut(until_end.min(buf.len()));
        memory.read(self.ring.offset() + start, first)?;
        if !wrapped.is_empty() {
            memory.read(self.ring.offset(), wrapped)?;
        }
        Ok(())
    }
}
