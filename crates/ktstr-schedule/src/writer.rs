//! Packs events as they arrive, and keeps the size of the file within a limit. When the file exceeds it, the oldest chunks
//! lose their frequent events, and the file records how many. Rare events are always kept, even beyond the limit.

use crate::bytes::put;
use crate::chunk::{CHUNK_EVENTS, decode, encode};
use crate::event::{Event, What};
use crate::section::{self, Kind};
use crate::tables::Tables;

/// The default limit in bytes, which is enough for about ten million switches.
const CAP: usize = 64 << 20;

/// A chunk of encoded events, with the earliest and the latest of their times in nanoseconds.
#[derive(Debug)]
struct Packed {
    bytes: Vec<u8>,
    from_ns: u64,
    to_ns: u64,
    /// The numbers of dropped events, and of the switches among them.
    dropped: [u64; 2],
}

/// A schedule that is being written.
#[derive(Debug)]
pub struct Writer {
    cap: usize,
    open: Vec<Event>,
    packed: Vec<Packed>,
    bytes: usize,
    /// The number of chunks at the start that have been thinned, that is, have lost their frequent events.
    thinned: usize,
}

impl Default for Writer {
    fn default() -> Self {
        Self::with_cap(CAP)
    }
}

impl Writer {
    /// Creates a writer that drops frequent events of the oldest chunks while the packed events take more than `cap` bytes. Rare
    /// events and the newest chunk are kept, however small `cap` is.
    pub fn with_cap(cap: usize) -> Self {
        Self {
            cap,
            open: Vec::new(),
            packed: Vec::new(),
            bytes: 0,
            thinned: 0,
        }
    }

    /// Appends an event. A full chunk is packed first, and the oldest chunks may then lose events, to keep the file
    /// within the limit.
    pub fn push(&mut self, event: Event) {
        // A phase starts a new chunk, so that old phases can be thinned separately.
        if self.open.len() == CHUNK_EVENTS || matches!(event.what, What::Phase { .. }) {
            self.pack();
        }
        self.open.push(event);
    }

    /// Notes that this many frequent events between two times, in nanoseconds of the schedule's clock, were lost before they
    /// could be recorded. The rare events of that time can still be appended.
    pub fn leave_out(&mut self, from_ns: u64, to_ns: u64, events: u64) {
        self.pack();
        self.packed.push(Packed {
            bytes: encode(&[]),
            from_ns,
            to_ns,
            dropped: [events, 0],
        });
    }

    /// Returns the whole file.
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
        let Some(to_ns) = times().max() else {
            return;
        };
        // Events at the time 0 describe the state before the recording, so nothing is missing between them and the first event
        // of the recording.
        let from_ns = times().filter(|time| *time > 0).min().unwrap_or(0);
        let packed = Packed {
            bytes: encode(&events),
            from_ns,
            to_ns,
            dropped: [0; 2],
        };
        self.bytes += packed.bytes.len();
        self.packed.push(packed);
        // The newest chunk remains complete, no matter how small the limit is.
        while self.bytes > self.cap && self.thinned + 1 < self.packed.len() {
            self.thin();
        }
    }

    /// Drops the frequent events of the oldest chunk that still has them.
    fn thin(&mut self) {
        let Some(packed) = self.packed.get_mut(self.thinned) else {
            return;
        };
        self.thinned += 1;
        // These bytes are the output of `encode`, so they can be decoded.
        let all = decode(&packed.bytes).unwrap_or_default();
        let (rare, frequent): (Vec<Event>, Vec<Event>) =
            all.into_iter().partition(|event| event.what.is_rare());
        let switches = frequent
            .iter()
            .filter(|event| matches!(event.what, What::Switch { .. }));
        let [events, of_them] = &mut packed.dropped;
        *events = events.saturating_add(frequent.len() as u64);
        *of_them = of_them.saturating_add(switches.count() as u64);
        let before = packed.bytes.len();
        packed.bytes = encode(&rare);
        self.bytes = self.bytes - before + packed.bytes.len();
    }
}
