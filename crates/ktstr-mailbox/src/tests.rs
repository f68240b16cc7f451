//! Tests of both ends of a ring over plain memory, and of the reader over garbage.

use std::cell::RefCell;
use std::convert::Infallible;

use proptest::prelude::*;

use crate::{
    Layout, MailboxMemory, Message, Reader, Ring, RingError, WriteError, Writer, initialise,
    is_ready,
};

struct Memory(RefCell<Vec<u8>>);

impl Memory {
    fn new() -> Self {
        let memory = Self(RefCell::new(vec![0xa5; Layout::SIZE as usize]));
        initialise(&memory).expect("plain memory");
        memory
    }
}

impl MailboxMemory for Memory {
    type Error = Infallible;
    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), Infallible> {
        buf.copy_from_slice(&self.0.borrow()[offset as usize..][..buf.len()]);
        Ok(())
    }
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Infallible> {
        self.0.borrow_mut()[offset as usize..][..bytes.len()].copy_from_slice(bytes);
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

fn drain(reader: &mut Reader, memory: &Memory) -> Result<Vec<Message>, RingError> {
    let mut all = Vec::new();
    while let Some(message) = reader.next(memory)? {
        all.push(message);
    }
    Ok(all)
}

#[test]
fn the_rings_tile_the_mailbox_without_overlap() {
    let mut at = Layout::HEADER.next_multiple_of(1 << 20);
    for ring in [Ring::Agent, Ring::Host, Ring::Test] {
        assert_eq!(ring.offset(), at);
        assert!(ring.tail_offset() + 8 <= Layout::HEADER);
        at += ring.size();
    }
    assert_eq!(at, Layout::SIZE);
}

#[test]
fn garbage_is_not_ready_until_initialised() {
    let memory = Memory(RefCell::new(vec![0xa5; Layout::SIZE as usize]));
    assert!(!is_ready(&memory).expect("plain memory"));
    initialise(&memory).expect("plain memory");
    assert!(is_ready(&memory).expect("plain memory"));
}

#[test]
fn messages_longer_than_the_ring_pass_piece_by_piece() {
    let memory = Memory::new();
    let (mut writer, mut reader) = (Writer::new(Ring::Agent), Reader::new(Ring::Agent));
    let long: Vec<u8> = (0..3 << 20).map(|i: u32| (i % 251) as u8).collect();
    let mut waits = 0;
    let mut got = Vec::new();
    loop {
        match writer.write(&memory, &long, 7) {
            Ok(()) => break,
            Err(WriteError::NoRoom) => waits += 1,
            Err(other) => panic!("{other}"),
        }
        got.extend(drain(&mut reader, &memory).expect("sound ring"));
    }
    got.extend(drain(&mut reader, &memory).expect("sound ring"));
    assert!(waits >= 2, "3 MiB cannot fit into 1 MiB at once");
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].bytes, long);
    assert_eq!(got[0].time_ns, 7);
}

#[test]
fn a_flipped_payload_bit_loses_that_message_only() {
    let memory = Memory::new();
    let (mut writer, mut reader) = (Writer::new(Ring::Test), Reader::new(Ring::Test));
    for text in [&b"first"[..], b"second", b"third"] {
        writer.write(&memory, text, 0).expect("room");
    }
    // The first frame takes 40 bytes: 32 of header, and the 5 of "first", padded to 8. The second frame's payload starts after
    // its own header of 32 bytes.
    memory.0.borrow_mut()[Ring::Test.offset() as usize + 40 + 32] ^= 1;
    let texts: Vec<_> = drain(&mut reader, &memory)
        .expect("sound positions")
        .into_iter()
        .map(|m| m.bytes)
        .collect();
    assert_eq!(texts, [b"first".to_vec(), b"third".to_vec()]);
    assert_eq!(reader.dropped(), 1);
}

#[test]
fn both_ends_resume_at_their_positions() {
    let memory = Memory::new();
    let (mut writer, mut reader) = (Writer::new(Ring::Host), Reader::new(Ring::Host));
    writer.write(&memory, b"before", 0).expect("room");
    assert_eq!(drain(&mut reader, &memory).expect("sound ring").len(), 1);
    assert_eq!(writer.cursor(), reader.cursor());
    let mut writer = Writer::resume(Ring::Host, writer.cursor());
    let mut reader = Reader::resume(Ring::Host, reader.cursor());
    writer.write(&memory, b"after", 0).expect("room");
    let got = drain(&mut reader, &memory).expect("sound ring");
    assert_eq!(got[0].bytes, b"after");
    assert_eq!(reader.dropped(), 0);
}

#[test]
fn impossible_positions_are_rejected() {
    for head in [8, 12, Ring::Host.size() + 8, u64::MAX] {
        let memory = Memory::new();
        memory
            .store(Ring::Host.head_offset(), head)
            .expect("plain memory");
        assert!(Reader::new(Ring::Host).next(&memory).is_err(), "{head}");
    }
}

#[test]
fn a_wrong_position_of_the_consumer_cannot_break_the_producer() {
    let memory = Memory::new();
    let mut writer = Writer::new(Ring::Agent);
    memory
        .store(Ring::Agent.tail_offset(), u64::MAX)
        .expect("plain memory");
    let block = vec![1u8; 60 << 10];
    for _ in 0..100 {
        writer
            .write(&memory, &block, 0)
            .expect("the consumer claims to have read everything");
    }
}

/// A message of up to 200 000 bytes. Its bytes are derived from a seed. To draw each byte separately would take a hundred
/// times as long as to pass the message through the ring.
fn any_message() -> impl Strategy<Value = Vec<u8>> {
    (0..200_000usize, any::<u32>()).prop_map(|(len, seed)| {
        let mut state = seed;
        let byte = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..len).map(byte).collect()
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(messages in prop::collection::vec(any_message(), 0..8)) {
        let memory = Memory::new();
        let (mut writer, mut reader) = (Writer::new(Ring::Agent), Reader::new(Ring::Agent));
        let mut got = Vec::new();
        for message in &messages {
            while let Err(full) = writer.write(&memory, message, 1) {
                prop_assert!(matches!(full, WriteError::NoRoom));
                got.extend(drain(&mut reader, &memory).expect("sound ring"));
            }
        }
        got.extend(drain(&mut reader, &memory).expect("sound ring"));
        let got: Vec<_> = got.into_iter().map(|m| m.bytes).collect();
        prop_assert_eq!(got, messages);
    }

    #[test]
    fn the_reader_ends_on_any_bytes(
        garbage in prop::collection::vec(any::<u8>(), 1..4096),
        head in prop::option::of(0u64..1 << 21),
        damage in prop::collection::vec((0usize..4096, any::<u8>()), 0..16)) {
        let memory = Memory::new();
        let mut writer = Writer::new(Ring::Agent);
        writer.write(&memory, &garbage, 0).expect("room");
        for (at, byte) in damage {
            memory.0.borrow_mut()[Ring::Agent.offset() as usize + at] = byte;
        }
        if let Some(head) = head {
            memory.store(Ring::Agent.head_offset(), head).expect("plain memory");
        }
        let mut reader = Reader::new(Ring::Agent);
        for _ in 0..100_000 {
            match reader.next(&memory) {
                Ok(Some(message)) => prop_assert!(message.bytes.len() <= crate::MAX_MESSAGE),
                Ok(None) | Err(_) => return Ok(()),
            }
        }
        prop_assert!(false, "a ring of 1 MiB cannot hold so many frames");
    }
}
