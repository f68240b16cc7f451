//! A stretch of events as bytes. A chunk stands for itself: reading it needs no other.

use crate::bytes::{Bytes, put};
use crate::codec::Codec;
use crate::event::Event;

/// Events in a chunk at most.
pub(crate) const CHUNK_EVENTS: usize = 1 << 16;

/// Packs the events of a chunk: how many there are, and what the codec makes of them.
pub(crate) fn encode(events: &[Event]) -> Vec<u8> {
    let mut codec = Codec::writer();
    events.iter().for_each(|event| codec.write(event));
    let mut bytes = Vec::new();
    put(&mut bytes, events.len() as u64);
    bytes.extend(codec.finish());
    bytes
}

/// Unpacks events; `None` if no [`encode`] wrote these bytes.
pub(crate) fn decode(packed: &[u8]) -> Option<Vec<Event>> {
    let mut bytes = Bytes(packed);
    let count = usize::try_from(bytes.number()?).ok()?;
    if count > CHUNK_EVENTS {
        return None;
    }
    let mut codec = Codec::reader(bytes.0);
    // What a few bytes can hold is not known beforehand, so nothing is reserved for it.
    let mut events = Vec::new();
    for _ in 0..count {
        events.push(codec.read()?);
    }
    codec.is_sound().then_some(events)
}
