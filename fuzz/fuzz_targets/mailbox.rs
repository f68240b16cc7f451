//! The rings of the mailbox: a producer that writes messages, a producer or a consumer that publishes a wrong position, and bytes
//! of the ring that change in between.
#![no_main]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;

use ktstr_fuzz::{Draw, bounded};
use ktstr_mailbox::{
    Layout, MAX_MESSAGE, MailboxMemory, Reader, Ring, RingCursor, WriteError, Writer, initialise,
};
use libfuzzer_sys::fuzz_target;

/// The pages of the mailbox, and which of them an input has written. Only those are cleared, because clearing all is slow.
struct Pages {
    bytes: Vec<u8>,
    written: Vec<usize>,
}

struct Memory(RefCell<Pages>);

const PAGE: usize = 4096;

impl Memory {
    fn new() -> Self {
        Self(RefCell::new(Pages {
            bytes: vec![0; Layout::SIZE as usize],
            written: Vec::new(),
        }))
    }

    fn clear(&self) {
        let Pages { bytes, written } = &mut *self.0.borrow_mut();
        for page in written.drain(..) {
            bytes[page * PAGE..][..PAGE].fill(0);
        }
    }
}

impl MailboxMemory for Memory {
    type Error = Infallible;
    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), Infallible> {
        buf.copy_from_slice(&self.0.borrow().bytes[offset as usize..][..buf.len()]);
        Ok(())
    }
    fn write(&self, offset: u64, from: &[u8]) -> Result<(), Infallible> {
        let Pages { bytes, written } = &mut *self.0.borrow_mut();
        let start = offset as usize;
        bytes[start..][..from.len()].copy_from_slice(from);
        for page in start / PAGE..(start + from.len()).div_ceil(PAGE) {
            if written.last() != Some(&page) {
                written.push(page);
            }
        }
        Ok(())
    }
    fn load(&self, offset: u64) -> Result<u64, Infallible> {
        let mut word = [0u8; 8];
        self.read(offset, &mut word)?;
        Ok(u64::from_le_bytes(word))
    }
    fn store(&self, offset: u64, value: u64) -> Result<(), Infallible> {
        self.write(offset, &value.to_le_bytes())
    }
}

/// Both ends of a ring, and what the consumer has to get if nothing was damaged.
struct Ends {
    ring: Ring,
    writer: Writer,
    reader: Reader,
    sent: VecDeque<Vec<u8>>,
    damaged: bool,
}

impl Ends {
    /// Reads until there is nothing more. An empty message takes 32 bytes of the ring, which bounds the number of messages.
    fn drain(&mut self, memory: &Memory) {
        for _ in 0..=self.ring.size() / 32 {
            match self.reader.next(memory) {
                Ok(Some(message)) => {
                    assert!(message.bytes.len() <= MAX_MESSAGE);
                    let sent = self.sent.pop_front();
                    assert!(self.damaged || sent.as_ref() == Some(&message.bytes));
                }
                Ok(None) => return,
                Err(error) => {
                    assert!(self.damaged, "{error}");
                    return;
                }
            }
        }
        panic!("a ring has more messages than it has room for");
    }

    fn write(&mut self, memory: &Memory, message: Vec<u8>) {
        // If the ring has no room for the rest of the message, the reader takes what is in the ring, and the writer continues. A
        // consumer that publishes a wrong position may never make room.
        for _ in 0..64 {
            match self.writer.write(memory, &message, 7) {
                Ok(()) => {
                    self.sent.push_back(message);
                    return;
                }
                Err(WriteError::NoRoom) => self.drain(memory),
                Err(error) => panic!("{error}"),
            }
        }
        assert!(self.damaged, "a ring that is read has room");
    }
}

fn run(draw: &mut Draw<'_>, memory: &Memory) {
    initialise(memory).expect("plain memory");
    let start = draw.u8();
    let ring = [Ring::Agent, Ring::Host, Ring::Test][usize::from(start % 3)];
    let cursor = RingCursor {
        bytes: match start / 3 % 4 {
            0 => 0,
            1 => ring.size() - 64,
            2 => (1 << 40) - 8,
            // A position just before the counter overflows, which no ring reaches.
            _ => u64::MAX - 4095,
        },
        sequence: if start < 128 { 0 } else { u32::MAX },
    };
    for offset in [ring.head_offset(), ring.tail_offset()] {
        memory.store(offset, cursor.bytes).expect("plain memory");
    }
    let mut ends = Ends {
        ring,
        writer: Writer::resume(ring, cursor),
        reader: Reader::resume(ring, cursor),
        sent: VecDeque::new(),
        damaged: false,
    };
    let inside = |distance: u64| ring.offset() + cursor.bytes.wrapping_add(distance) % ring.size();
    while !draw.is_empty() {
        match draw.u8() % 8 {
            0 | 1 => {
                let len = usize::from(draw.u8());
                let message = draw.bytes(len).to_vec();
                // The position of the writer itself must not overflow.
                if cursor.bytes < 1 << 60 {
                    ends.write(memory, message);
                }
            }
            2 if cursor.bytes < 1 << 60 => {
                let (len, byte) = (usize::from(draw.u16()) * 4, draw.u8());
                ends.write(memory, vec![byte; len]);
            }
            3 => ends.drain(memory),
            4 => {
                let (at, byte) = (u64::from(draw.u16()), draw.u8());
                memory.write(inside(at), &[byte]).expect("plain memory");
                ends.damaged = true;
            }
            5 => {
                let head = cursor.bytes.wrapping_add(draw.number());
                memory
                    .store(ring.head_offset(), head)
                    .expect("plain memory");
                ends.damaged = true;
            }
            6 => {
                let tail = cursor.bytes.wrapping_add(draw.number());
                memory
                    .store(ring.tail_offset(), tail)
                    .expect("plain memory");
                ends.damaged = true;
            }
            _ => {
                let len = usize::from(draw.u8());
                for (byte, at) in draw.bytes(len).iter().zip(u64::from(draw.u8())..) {
                    memory.write(inside(at), &[*byte]).expect("plain memory");
                }
                ends.damaged = true;
            }
        }
    }
    ends.drain(memory);
    assert!(ends.damaged || ends.sent.is_empty(), "a message was lost");
}

thread_local! {
    static MEMORY: Memory = Memory::new();
}

fuzz_target!(|data: &[u8]| {
    MEMORY.with(|memory| {
        bounded(|| run(&mut Draw::new(data), memory));
        memory.clear();
    });
});
