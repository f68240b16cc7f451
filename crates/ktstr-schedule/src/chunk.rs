//! A chunk: a sequence of events as bytes. Each chunk can be read without the others.

use crate::bytes::{Bytes, put};
use crate::codec::Codec;
use crate::event::Event;

/// The largest number of events in a chunk.
pub(crate) const CHUNK_EVENTS: usize = 1 << 16;

/// Packs the events of a chunk: their number, followed by the output of the codec.
pub(crate) fn encode(events: &[Event]) -> Vec<u8> {
    let mut codec = Codec::writer();
    events.iter().for_each(|event| codec.write(event));
    let mut bytes = Vec::new();
    put(&mut bytes, events.len() as u64);
    bytes.extend(codec.finish());
    bytes
}

/// Unpacks events; `None` if these bytes cannot be the output of [`encode`].
pub(crate) fn decode(packed: &[u8]) -> Option<Vec<Event>> {
    let mut bytes = Bytes(packed);
    let count = usize::try_from(bytes.number()?).ok()?;
    if count > CHUNK_EVENTS {
        return None;
    }
    let mut codec = Codec::reader(bytes.0);
    // The stated number of events may be wrong, and it cannot be checked against the number of bytes, because an event that the
    // codec predicts takes less than a byte. So no memory is reserved in advance.
    let mut events = Vec::new();
    for _ in 0..count {
        events.push(codec.read()?);
    }
    codec.is_sound().then_some(events)
}
