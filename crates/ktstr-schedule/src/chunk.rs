//! A stretch of events as bytes: columns, compressed. A chunk stands for itself: reading it needs
//! no other.

use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::decompress_to_vec_with_limit;

use crate::column::{Bytes, Columns, Cursor, Field, put};
use crate::event::{Cpu, Event, What};

/// Events in a chunk at most.
pub(crate) const CHUNK_EVENTS: usize = 1 << 16;
/// Bytes that a chunk's columns can have at most, uncompressed: 64 bytes an event.
const UNPACKED_CAP: usize = CHUNK_EVENTS * 64;
/// Fast: most of the gain comes from the columns.
const LEVEL: u8 = 3;

/// Packs events.
pub(crate) fn encode(events: &[Event]) -> Vec<u8> {
    let mut columns = Columns::default();
    let mut last = 0;
    for event in events {
        columns.tags.push(event.what.tag());
        put(&mut columns.times, event.time_ns.saturating_sub(last));
        last = event.time_ns;
        event.cpu.write(&mut columns);
        event.what.write(&mut columns);
    }
    let mut pids = Vec::new();
    for pid in &columns.pids {
        put(&mut pids, u64::from(*pid));
    }
    let mut plain = Vec::new();
    let parts = [
        &columns.tags,
        &columns.times,
        &columns.cpus,
        &columns.tasks,
        &columns.rest,
        &pids,
    ];
    for part in parts {
        put(&mut plain, part.len() as u64);
    }
    for part in parts {
        plain.extend_from_slice(part);
    }
    compress_to_vec(&plain, LEVEL)
}

/// Unpacks events; `None` if no [`encode`] wrote these bytes.
pub(crate) fn decode(packed: &[u8]) -> Option<Vec<Event>> {
    let plain = decompress_to_vec_with_limit(packed, UNPACKED_CAP).ok()?;
    let mut bytes = Bytes(&plain);
    let mut lengths = [0; 6];
    for length in &mut lengths {
        *length = bytes.number()?;
    }
    let mut part = |index: usize| bytes.slice(lengths[index]).map(Bytes);
    let mut cursor = Cursor {
        tags: part(0)?,
        times: part(1)?,
        cpus: part(2)?,
        tasks: part(3)?,
        rest: part(4)?,
        pids: pids(part(5)?)?,
    };
    if cursor.tags.0.len() > CHUNK_EVENTS {
        return None;
    }
    let mut events = Vec::with_capacity(cursor.tags.0.len());
    let mut time_ns = 0u64;
    while let Some(tag) = cursor.tags.byte() {
        time_ns = time_ns.checked_add(cursor.times.number()?)?;
        let cpu = Cpu::read(&mut cursor)?;
        let what = What::read(tag, &mut cursor)?;
        events.push(Event { time_ns, cpu, what });
    }
    let left = [cursor.times, cursor.cpus, cursor.tasks, cursor.rest, bytes];
    left.iter().all(|part| part.0.is_empty()).then_some(events)
}

fn pids(mut bytes: Bytes<'_>) -> Option<Vec<u32>> {
    let mut pids = Vec::new();
    while !bytes.0.is_empty() {
        pids.push(u32::try_from(bytes.number()?).ok()?);
    }
    Some(pids)
}
