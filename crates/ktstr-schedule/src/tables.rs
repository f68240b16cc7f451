//! The tables to which the events refer (names and cgroups), the topology, and what the recorder of the events could not see.

use std::collections::BTreeMap;

use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::decompress_to_vec_with_limit;

use crate::bytes::{Bytes, put};

/// The largest length of a name or a path, in bytes.
const TEXT_CAP: usize = 4096;
/// The largest size of all tables before compression, in bytes.
const UNPACKED_CAP: usize = 64 << 20;
/// The largest number of entries that are read from a list. A run has only a small fraction of that number. Without a limit,
/// a damaged file could fill the memory: an empty text takes one byte in the file before compression and many more in memory.
const ENTRIES_CAP: u64 = 1 << 20;
/// The level of the compression, from 0 to 10 (DEFLATE).
const LEVEL: u8 = 6;

/// The source of the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// The entries of kernel functions, observed from outside under the virtual clock. No entry is lost, and the guest is
    /// not affected by the recording.
    #[default]
    FunctionEntries,
    /// The kernel's own tracepoints, under the real clock. They do not show affinities, quotas, dispatch queues, and whether an
    /// ordinary task is in the class of sched_ext, so nothing is concluded about what a task was entitled to.
    Tracepoints,
}

impl Source {
    /// Whether the events show everything that decides what a task was entitled to, such as its affinity and its quota.
    pub fn is_exact(self) -> bool {
        self == Self::FunctionEntries
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            Self::FunctionEntries => 1,
            Self::Tracepoints => 2,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::FunctionEntries),
            2 => Some(Self::Tracepoints),
            _ => None,
        }
    }
}

/// The LLC and the NUMA node of each CPU, by CPU number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    /// The number of each CPU's LLC.
    pub llc: Vec<u32>,
    /// The number of each CPU's NUMA node.
    pub node: Vec<u32>,
}

/// A cgroup of the unified hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// The path from the root, which is `/`.
    pub path: String,
}

/// The tables to which the events refer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tables {
    /// The source of the events.
    pub source: Source,
    /// The topology of the machine's CPUs.
    pub topology: Topology,
    /// The functions or tracepoints that this kernel lacks, or whose arguments its BTF does not describe. The events that they
    /// would have shown are missing.
    pub missing: Vec<String>,
    /// The number of words of guest memory that could not be read. An observation with such a word is dropped, so it produces no
    /// event.
    pub unreadable: u64,
    /// The names of tasks, by the index in [`What::Name`](crate::What::Name).
    pub names: Vec<String>,
    /// The cgroups, by id (`cgroup->kn->id`).
    pub cgroups: BTreeMap<u64, Cgroup>,
}

impl Tables {
    /// Returns the index of `name`, which is added if it is new. If the table has as many names as a reader accepts, a new
    /// name is not added, and the index is `u32::MAX`, which no name has.
    pub fn name(&mut self, name: &str) -> u32 {
        // A guest has a few hundred names, and the latest ones are looked up most often.
        let found = self.names.iter().rposition(|known| known == name);
        let index = found.unwrap_or_else(|| {
            if self.names.len() as u64 == ENTRIES_CAP {
                return usize::MAX;
            }
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        u32::try_from(index).unwrap_or(u32::MAX)
    }

    /// Returns the tables in compressed form. Many names are similar, so they compress well.
    pub(crate) fn pack(&self) -> Vec<u8> {
        compress_to_vec(&self.encode(), LEVEL)
    }

    /// Reverses [`Tables::pack`]; `None` for any other bytes.
    pub(crate) fn unpack(packed: &[u8]) -> Option<Self> {
        let plain = decompress_to_vec_with_limit(packed, UNPACKED_CAP).ok()?;
        Self::decode(&plain)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.source.code()];
        put(&mut bytes, self.unreadable);
        for list in [&self.missing, &self.names] {
            put(&mut bytes, list.len() as u64);
            for text in list {
                put_text(&mut bytes, text);
            }
        }
        for list in [&self.topology.llc, &self.topology.node] {
            put(&mut bytes, list.len() as u64);
            for place in list {
                put(&mut bytes, u64::from(*place));
            }
        }
        put(&mut bytes, self.cgroups.len() as u64);
        for (id, cgroup) in &self.cgroups {
            put(&mut bytes, *id);
            put_text(&mut bytes, &cgroup.path);
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut bytes = Bytes(bytes);
        let source = Source::from_code(bytes.byte()?)?;
        let unreadable = bytes.number()?;
        let missing = texts(&mut bytes)?;
        let names = texts(&mut bytes)?;
        let topology = Topology {
            llc: places(&mut bytes)?,
            node: places(&mut bytes)?,
        };
        let mut cgroups = BTreeMap::new();
        for _ in 0..count(&mut bytes)? {
            let id = bytes.number()?;
            let path = bytes.text(TEXT_CAP as u64)?;
            cgroups.insert(id, Cgroup { path });
        }
        bytes.0.is_empty().then_some(Self {
            source,
            topology,
            missing,
            unreadable,
            names,
            cgroups,
        })
    }
}

/// Appends the length of a text and the text, which is cut at [`TEXT_CAP`].
fn put_text(to: &mut Vec<u8>, text: &str) {
    let text = &text[..text.floor_char_boundary(TEXT_CAP)];
    put(to, text.len() as u64);
    to.extend_from_slice(text.as_bytes());
}

/// Returns the number of entries of the list that starts here; `None` if it is over [`ENTRIES_CAP`], or if the bytes end.
fn count(bytes: &mut Bytes<'_>) -> Option<u64> {
    bytes.number().filter(|count| *count <= ENTRIES_CAP)
}

fn places(bytes: &mut Bytes<'_>) -> Option<Vec<u32>> {
    let mut places = Vec::new();
    for _ in 0..count(bytes)? {
        places.push(u32::try_from(bytes.number()?).ok()?);
    }
    Some(places)
}

fn texts(bytes: &mut Bytes<'_>) -> Option<Vec<String>> {
    let mut texts = Vec::new();
    for _ in 0..count(bytes)? {
        texts.push(bytes.text(TEXT_CAP as u64)?);
    }
    Some(texts)
}
