//! The producer's end of a ring.

use crate::frame::{self, Header, MAX_FRAME_PAYLOAD, MAX_MESSAGE, MORE};
use crate::{MailboxMemory, Ring, RingCursor};

/// Why a message was not written, or not completely.
#[derive(Debug, thiserror::Error)]
pub enum WriteError<E: std::error::Error + 'static> {
    /// The consumer has not made room yet: retry later with the same message.
    #[error("the ring has no room for the next frame yet")]
    NoRoom,
    /// The message is longer than [`MAX_MESSAGE`].
    #[error("a message of {len} bytes exceeds the limit of {MAX_MESSAGE} bytes")]
    TooLong {
        /// The message's length in bytes.
        len: usize,
    },
    /// The mailbox's memory could not be accessed.
    #[error(transparent)]
    Memory(#[from] E),
}

/// Writes messages into one ring.
///
/// The writer reads the consumer's position only when the last known position leaves no room. Until the ring has been filled
/// once, the instructions that a guest executes therefore do not depend on how fast the host reads.
#[derive(Debug)]
pub struct Writer {
    ring: Ring,
    head: u64,
    tail: u64,
    sequence: u32,
    /// The number of bytes of the current message that are already in the ring.
    done: usize,
}

impl Writer {
    /// Creates the producer of an empty ring.
    pub fn new(ring: Ring) -> Self {
        Self {
            ring,
            head: 0,
            tail: 0,
            sequence: 0,
            done: 0,
        }
    }

    /// Creates the producer of a ring that has been written and read up to `cursor`, as in a restored machine.
    pub fn resume(ring: Ring, cursor: RingCursor) -> Self {
        Self {
            head: cursor.bytes,
            tail: cursor.bytes,
            sequence: cursor.sequence,
            ..Self::new(ring)
        }
    }

    /// Returns the position of the next frame.
    pub fn cursor(&self) -> RingCursor {
        RingCursor {
            bytes: self.head,
            sequence: self.sequence,
        }
    }

    /// Writes `message`, or as much of it as fits. `time_ns` is the producer's clock. After [`WriteError::NoRoom`], call this
    /// again with the same message: the write continues where it stopped.
    pub fn write<M: MailboxMemory>(
        &mut self,
        memory: &M,
        message: &[u8],
        time_ns: u64,
    ) -> Result<(), WriteError<M::Error>> {
        if message.len() > MAX_MESSAGE {
            return Err(WriteError::TooLong { len: message.len() });
        }
        loop {
            let rest = message.get(self.done..).unwrap_or_default();
            let (now, more) = match rest.split_at_checked(MAX_FRAME_PAYLOAD) {
                Some((now, later)) if !later.is_empty() => (now, MORE),
                _ => (rest, 0),
            };
            self.frame(memory, now, more, time_ns)?;
            self.done += now.len();
            if more == 0 {
                self.done = 0;
                return Ok(());
            }
        }
    }

    fn frame<M: MailboxMemory>(
        &mut self,
        memory: &M,
        payload: &[u8],
        flags: u32,
        time_ns: u64,
    ) -> Result<(), WriteError<M::Error>> {
        let stride = frame::stride(payload.len());
        if self.room() < stride {
            // The position is clamped, so a consumer that reports a wrong one can lose messages but cannot break the writer.
            self.tail = memory
                .load(self.ring.tail_offset())?
                .clamp(self.tail, self.head);
            if self.room() < stride {
                return Err(WriteError::NoRoom);
            }
        }
        let header = Header::new(payload, self.sequence, flags, time_ns);
        self.copy_in(memory, self.head, &header.encode())?;
        self.copy_in(memory, self.head + frame::HEADER as u64, payload)?;
        self.head += stride;
        self.sequence = self.sequence.wrapping_add(1);
        memory.store(self.ring.head_offset(), self.head)?;
        Ok(())
    }

    fn room(&self) -> u64 {
        self.ring.size() - (self.head - self.tail)
    }

    fn copy_in<M: MailboxMemory>(
        &self,
        memory: &M,
        position: u64,
        bytes: &[u8],
    ) -> Result<(), M::Error> {
        let start = position & (self.ring.size() - 1);
        let until_end = usize::try_from(self.ring.size() - start).unwrap_or(usize::MAX);
        let (first, wrapped) = bytes.split_at(bytes.len().min(until_end));
        memory.write(self.ring.offset() + start, first)?;
        if !wrapped.is_empty() {
            memory.write(self.ring.offset(), wrapped)?;
        }
        Ok(())
    }
}
