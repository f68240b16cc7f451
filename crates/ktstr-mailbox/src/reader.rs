//! The consumer's end of a ring: total on whatever the producer wrote.

use crate::frame::{self, Header, MAX_MESSAGE, MORE};
use crate::{Place, Region, Ring};

/// Why a ring was given up. The bytes after such an error have no meaning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// The producer's position went back, or ran ahead by more than the ring holds.
    #[error(
        "the producer stands at byte {head}, which a ring of {size} bytes read up to {tail} cannot hold"
    )]
    BadPosition {
        /// What the producer says.
        head: u64,
        /// What was consumed.
        tail: u64,
        /// The ring's size.
        size: u64,
    },
    /// No frame starts where one must.
    #[error("a frame must start here, found {found:#010x}")]
    BadMagic {
        /// The first word found.
        found: u32,
    },
    /// A frame over the cap.
    #[error(
        "a frame claims {len} bytes of payload, over the limit of {}",
        crate::MAX_FRAME_PAYLOAD
    )]
    FrameTooLong {
        /// The length that the frame claims, in bytes.
        len: u32,
    },
    /// A frame that ends after the producer's position.
    #[error("a frame of {stride} bytes was announced, but only {present} bytes are there")]
    Incomplete {
        /// What the frame takes.
        stride: u64,
        /// What is there.
        present: u64,
    },
    /// Frames that add up to more than the cap.
    #[error("a message grew over the limit of {MAX_MESSAGE} bytes")]
    MessageTooLong,
    /// Memory could not be reached.
    #[error("guest memory could not be read: {0}")]
    Memory(String),
}

/// A whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The producer's clock when it wrote the last frame, in nanoseconds.
    pub time_ns: u64,
    /// The content, as the producer gave it.
    pub bytes: Vec<u8>,
}

/// Reads messages from one ring. It keeps its own position: what the producer does to the
/// shared one changes nothing.
#[derive(Debug)]
pub struct Reader {
    ring: Ring,
    tail: u64,
    sequence: u32,
    partial: Vec<u8>,
    /// A frame of the message under way was dropped, so the rest of it is worthless.
    spoilt: bool,
    dropped: u64,
}

impl Reader {
    /// The consumer of an empty ring.
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

    /// The consumer of a ring that was read up to `place`, as in a restored machine.
    pub fn resume(ring: Ring, place: Place) -> Self {
        Self {
            tail: place.bytes,
            sequence: place.sequence,
            ..Self::new(ring)
        }
    }

    /// Where the next frame comes from.
    pub fn place(&self) -> Place {
        Place {
            bytes: self.tail,
            sequence: self.sequence,
        }
    }

    /// Messages lost to a bad checksum or a gap in the sequence; several that are lost in a row
    /// may count as one.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The next whole message, if one is there. Reads at most what the ring held when called.
    pub fn next<R: Region>(&mut self, region: &R) -> Result<Option<Message>, RingError> {
        let memory = |error: R::Error| RingError::Memory(error.to_string());
        let head = region.load(self.ring.head_offset()).map_err(memory)?;
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
            self.copy_out(region, self.tail, &mut bytes)
                .map_err(memory)?;
            let header = Header::decode(&bytes)?;
            if header.stride() > present {
                return Err(RingError::Incomplete {
                    stride: header.stride(),
                    present,
                });
            }
            let mut payload = vec![0u8; header.len as usize];
            self.copy_out(region, self.tail + frame::HEADER as u64, &mut payload)
                .map_err(memory)?;
            self.tail += header.stride();
            message = self.accept(&header, payload)?;
        }
        region
            .store(self.ring.tail_offset(), self.tail)
            .map_err(memory)?;
        Ok(message)
    }

    fn accept(&mut self, header: &Header, payload: Vec<u8>) -> Result<Option<Message>, RingError> {
        let intact = header.checksum(&payload) == header.crc && header.sequence == self.sequence;
        self.sequence = header.sequence.wrapping_add(1);
        if !intact && !self.spoilt {
            self.spoilt = true;
            // At once: the message's last frame may never come.
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

    fn copy_out<R: Region>(
        &self,
        region: &R,
        position: u64,
        buf: &mut [u8],
    ) -> Result<(), R::Error> {
        let start = position & (self.ring.size() - 1);
        let until_end = (self.ring.size() - start) as usize;
        let (first, wrapped) = buf.split_at_mut(until_end.min(buf.len()));
        region.read(self.ring.offset() + start, first)?;
        if !wrapped.is_empty() {
            region.read(self.ring.offset(), wrapped)?;
        }
        Ok(())
    }
}
