//! A stretch of events as bytes: columns, compressed. A chunk stands for itself: reading it needs
//! no other.

use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::decompress_to_vec_with_limit;

use crate::column::{Bytes, Columns, Cursor, Field, Foreseen, put};
use crate::event::{Cpu, Event, What};

/// Events in a chunk at most.
pub(crate) const CHUNK_EVENTS: usize = 1 << 16;
/// Bytes that a chunk's columns can have at most, uncompressed: 64 bytes an event.
const UNPACKED_CAP: usize = CHUNK_EVENTS * 64;
/// miniz_oxide's usual one; more costs time and gains nothing.
const LEVEL: u8 = 6;

/// Packs the events of a chunk, each as its difference to the one before.
pub(crate) fn encode(events: &[Event]) -> Vec<u8> {
    let mut columns = Columns::default();
    let mut last = 0u64;
    for event in events {
        columns.tags.push(event.what.tag());
        put(&mut columns.times, zigzag(event.time_ns.wrapping_sub(last)));
        last = event.time_ns;
        // Relative to the CPU of the event before.
        event.cpu.write(&mut columns);
        columns.foreseen.begin(event.cpu);
        event.what.write(&mut columns);
        columns.foreseen.end(&event.what);
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
        foreseen: Foreseen::default(),
    };
    if cursor.tags.0.len() > CHUNK_EVENTS {
        return None;
    }
    let mut events = Vec::with_capacity(cursor.tags.0.len());
    let mut time_ns = 0u64;
    while let Some(tag) = cursor.tags.byte() {
        time_ns = time_ns.wrapping_add(unzigzag(cursor.times.number()?));
        let cpu = Cpu::read(&mut cursor)?;
        cursor.foreseen.begin(cpu);
        let what = What::read(tag, &mut cursor)?;
        cursor.foreseen.end(&what);
        events.push(Event { time_ns, cpu, what });
    }
    let left = [cursor.times, cursor.cpus, cursor.tasks, cursor.rest, bytes];
    left.iter().all(|part| part.0.is_empty()).then_some(events)
}

/// A difference, so that small ones of either sign become small numbers.
fn zigzag(difference: u64) -> u64 {
    (difference << 1) ^ (difference.cast_signed() >> 63).cast_unsigned()
}

fn unzigzag(number: u64) -> u64 {
    (number >> 1) ^ (number & 1).wrapping_neg()
}

fn pids(mut bytes: Bytes<'_>) -> Option<Vec<u32>> {
    let mut pids = Vec::new();
    while !bytes.0.is_empty() {
        pids.push(u32::try_from(bytes.number()?).ok()?);
    }
    Some(pids)
}
