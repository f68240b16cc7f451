//! The file with the trace of a run's context switches, in order. `docs/record.md` describes the layout of the file.

/// The file name of the artefact.
pub const SWITCHES_FILE: &str = "switches.bin";

/// The first bytes of the file, which identify its type and the version of its layout.
const MAGIC: [u8; 8] = *b"KTSTRSW1";
/// The number of bytes before the first switch: the magic number and the number of all switches.
const HEADER: usize = 16;
/// The number of bytes of a switch: the clock in 64 bits, then the CPU and both tasks in 32 bits each, little endian.
const ENTRY: usize = 20;
/// The largest number of switches that are read, which is more than are ever written.
const READ_CAP: usize = 1 << 20;

/// A context switch of the trace: its time, its CPU and its two tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switch {
    /// The kernel's scheduler clock of the CPU (`rq.clock`), in nanoseconds of guest time.
    pub clock_ns: u64,
    /// The CPU; `u32::MAX` if it is unknown.
    pub cpu: u32,
    /// The id of the task that stops: the kernel's `pid`, which is a thread id for user space.
    pub prev: u32,
    /// The id of the task that starts.
    pub next: u32,
}

impl std::fmt::Display for Switch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.clock_ns as f64 / 1e9;
        write!(
            f,
            "at {seconds:.9} s on CPU {}: {} -> {}",
            self.cpu, self.prev, self.next
        )
    }
}

/// The switches of a run, or the first of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Switches {
    /// The number of all switches of the run.
    pub count: u64,
    /// The first switches, in order.
    pub first: Vec<Switch>,
}

impl Switches {
    /// Encodes the switches as the bytes of the artefact.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.first.len() * ENTRY);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&self.count.to_le_bytes());
        for switch in &self.first {
            bytes.extend_from_slice(&switch.clock_ns.to_le_bytes());
            for word in [switch.cpu, switch.prev, switch.next] {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
        }
        bytes
    }

    /// Decodes the bytes of the artefact. Returns `None` if the bytes are not in this format, are cut in the middle of a switch,
    /// or have more switches than are ever written.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&MAGIC)?;
        let (count, entries) = rest.split_first_chunk::<8>()?;
        if !entries.len().is_multiple_of(ENTRY) || entries.len() / ENTRY > READ_CAP {
            return None;
        }
        let word = |entry: &[u8], at: usize| {
            let bytes = entry[at..].first_chunk::<4>().copied().unwrap_or_default();
            u32::from_le_bytes(bytes)
        };
        let first = entries
            .chunks_exact(ENTRY)
            .map(|entry| Switch {
                clock_ns: u64::from(word(entry, 4)) << 32 | u64::from(word(entry, 0)),
                cpu: word(entry, 8),
                prev: word(entry, 12),
                next: word(entry, 16),
            })
            .collect();
        Some(Self {
            count: u64::from_le_bytes(*count),
            first,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_written_is_read_and_what_is_cut_is_not() {
        let switch = |n: u32| Switch {
            clock_ns: u64::from(n) << 33 | 5,
            cpu: n,
            prev: n + 1,
            next: u32::MAX - n,
        };
        let switches = Switches {
            count: 1 << 40,
            first: (0..3).map(switch).collect(),
        };
        let bytes = switches.encode();
        assert_eq!(Switches::decode(&bytes).unwrap(), switches);
        for len in 0..bytes.len() {
            let whole = len >= HEADER && (len - HEADER).is_multiple_of(ENTRY);
            assert_eq!(Switches::decode(&bytes[..len]).is_some(), whole, "{len}");
        }
        assert_eq!(Switches::decode(&[0; 64]), None);
    }
}
