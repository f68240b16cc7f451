//! Packs events as they come, and keeps the file within its bound: when it grows over, the oldest
//! chunks lose their frequent events, and the file says how many.

use crate::bytes::put;
use crate::chunk::{CHUNK_EVENTS, decode, encode};
use crate::event::{Event, What};
use crate::section::{self, Kind};
use crate::tables::Tables;

/// What a file has room for unless somebody says otherwise: some ten million switches.
const CAP: usize = 64 << 20;

/// A packed chunk.
#[derive(Debug)]
struct Packed {
    bytes: Vec<u8>,
    from_ns: u64,
    to_ns: u64,
    /// Events that were left out, and the switches among them.
    dropped: [u64; 2],
}

/// A schedule in the making.
#[derive(Debug)]
pub struct Writer {
    cap: usize,
    open: Vec<Event>,
    packed: Vec<Packed>,
    bytes: usize,
    /// Chunks before this one are thinned.
    thinned: usize,
}

impl Default for Writer {
    fn default() -> Self {
        Self::with_cap(CAP)
    }
}

impl Writer {
    /// A writer whose packed events take `cap` bytes at most.
    pub fn with_cap(cap: usize) -> Self {
        Self {
            cap,
            open: Vec::new(),
            packed: Vec::new(),
            bytes: 0,
            thinned: 0,
        }
    }

    /// Appends an event.
    pub fn push(&mut self, event: Event) {
        // A phase begins its own chunk, so that old phases can go alone.
        if self.open.len() == CHUNK_EVENTS || matches!(event.what, What::Phase { .. }) {
            self.pack();
        }
        self.open.push(event);
    }

    /// The whole file.
    pub fn finish(mut self, tables: &Tables) -> Vec<u8> {
        self.pack();
        let mut file = section::header();
        for packed in &self.packed {
            let mut payload = Vec::with_capacity(packed.bytes.len() + 32);
            let [events, switches] = packed.dropped;
            for number in [packed.from_ns, packed.to_ns, events, switches] {
                put(&mut payload, number);
            }
            payload.extend_from_slice(&packed.bytes);
            section::append(&mut file, Kind::Chunk, &payload);
        }
        section::append(&mut file, Kind::Tables, &tables.pack());
        file
    }

    fn pack(&mut self) {
        let events = std::mem::take(&mut self.open);
        let times = || events.iter().map(|event| event.time_ns);
        let (Some(from_ns), Some(to_ns)) = (times().min(), times().max()) else {
            return;
        };
        let packed = Packed {
            bytes: encode(&events),
            from_ns,
            to_ns,
            dropped: [0; 2],
        };
        self.bytes += packed.bytes.len();
        self.packed.push(packed);
        // The newest chunk stays whole, however small the bound is.
        while self.bytes > self.cap && self.thinned + 1 < self.packed.len() {
            self.thin();
        }
    }

    fn thin(&mut self) {
        let Some(packed) = self.packed.get_mut(self.thinned) else {
            return;
        };
        self.thinned += 1;
        let all = decode(&packed.bytes).unwrap_or_default();
        let (rare, frequent): (Vec<Event>, Vec<Event>) =
            all.into_iter().partition(|event| event.what.is_rare());
        let switches = frequent
            .iter()
            .filter(|event| matches!(event.what, What::Switch { .. }));
        packed.dropped = [frequent.len() as u64, switches.count() as u64];
        let before = packed.bytes.len();
        packed.bytes = encode(&rare);
        self.bytes = self.bytes - before + packed.bytes.len();
    }
}
