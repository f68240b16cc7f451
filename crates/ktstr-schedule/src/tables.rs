//! What the events refer to: names and cgroups, and what is known of the producer.

use std::collections::BTreeMap;

use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::decompress_to_vec_with_limit;

use crate::bytes::{Bytes, put};

/// Bytes of a name or a path at most.
const TEXT_CAP: u64 = 4096;
/// Bytes of all tables at most, before they are deflated.
const UNPACKED_CAP: usize = 64 << 20;
const LEVEL: u8 = 6;

/// What saw the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// The entries of kernel functions, seen from outside under the virtual clock: nothing is
    /// missing, and the guest does not know.
    #[default]
    FunctionEntries,
    /// The kernel's own tracepoints, under the real clock.
    Tracepoints,
}

impl Source {
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

/// Which LLC and which NUMA node each CPU belongs to, by CPU number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    /// LLC of each CPU.
    pub llc: Vec<u32>,
    /// NUMA node of each CPU.
    pub node: Vec<u32>,
}

/// A cgroup of the unified hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// Path from the root, which is `/`.
    pub path: String,
}

/// What the events refer to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tables {
    /// What saw the events.
    pub source: Source,
    /// The machine's CPUs.
    pub topology: Topology,
    /// Functions or tracepoints that this kernel does not have, so that what they would have
    /// shown is missing.
    pub missing: Vec<String>,
    /// Observations of which a part could not be read.
    pub unreadable: u64,
    /// Names of tasks, by the index that [`What::Name`](crate::What::Name) has.
    pub names: Vec<String>,
    /// Cgroups by id.
    pub cgroups: BTreeMap<u64, Cgroup>,
}

impl Tables {
    /// The index of `name`, which is added if it is new.
    pub fn name(&mut self, name: &str) -> u32 {
        // A guest has a few hundred names, and the newest are asked for most.
        let found = self.names.iter().rposition(|known| known == name);
        let index = found.unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        u32::try_from(index).unwrap_or(u32::MAX)
    }

    /// Deflated: many names are alike.
    pub(crate) fn pack(&self) -> Vec<u8> {
        compress_to_vec(&self.encode(), LEVEL)
    }

    /// The inverse of [`Tables::pack`]; `None` of other bytes.
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
        for _ in 0..bytes.number()? {
            let id = bytes.number()?;
            let path = bytes.text(TEXT_CAP)?;
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

fn put_text(to: &mut Vec<u8>, text: &str) {
    let text = &text[..text.floor_char_boundary(TEXT_CAP as usize)];
    put(to, text.len() as u64);
    to.extend_from_slice(text.as_bytes());
}

fn places(bytes: &mut Bytes<'_>) -> Option<Vec<u32>> {
    let mut places = Vec::new();
    for _ in 0..bytes.number()? {
        places.push(u32::try_from(bytes.number()?).ok()?);
    }
    Some(places)
}

fn texts(bytes: &mut Bytes<'_>) -> Option<Vec<String>> {
    let mut texts = Vec::new();
    for _ in 0..bytes.number()? {
        texts.push(bytes.text(TEXT_CAP)?);
    }
    Some(texts)
}
