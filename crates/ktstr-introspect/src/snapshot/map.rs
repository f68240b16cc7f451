//! One BPF map of a capture.

use super::entry::{narrowed, rendered};
use super::{SnapshotEntry, SnapshotError, SnapshotField};
use crate::report::{
    ArenaSnapshot, FailureDumpFdArray, FailureDumpMap, FailureDumpRingbuf, FailureDumpStackTrace,
};

/// One BPF map of a capture, possibly narrowed to one CPU.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SnapshotMap<'a> {
    map: &'a FailureDumpMap,
    cpu: Option<usize>,
}

impl<'a> SnapshotMap<'a> {
    pub(super) fn new(map: &'a FailureDumpMap) -> Self {
        Self { map, cpu: None }
    }

    /// The map's name in the kernel.
    pub fn name(&self) -> &'a str {
        &self.map.name
    }

    /// The map as it was captured.
    pub fn raw(&self) -> &'a FailureDumpMap {
        self.map
    }

    /// The same map, per-CPU entries narrowed to CPU `cpu`.
    #[must_use]
    pub fn cpu(self, cpu: usize) -> Self {
        Self {
            cpu: Some(cpu),
            ..self
        }
    }

    /// Number of entries captured.
    pub fn len(&self) -> usize {
        let map = self.map;
        usize::from(map.value.is_some())
            + map.array_entries.len()
            + map.entries.len()
            + map.percpu_entries.len()
            + map.percpu_hash_entries.len()
    }

    /// Whether no entry was captured.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `index`th captured entry: the array index for arrays, the order of the walk for hash maps.
    pub fn at(&self, index: usize) -> SnapshotEntry<'a> {
        let map = self.map;
        if index == 0 && map.value.is_some() {
            return SnapshotEntry::Value {
                key: SnapshotField::PercpuKey { key: 0 },
                value: rendered(&map.name, map.value.as_ref(), map),
            };
        }
        if let Some(entry) = map.array_entries.get(index) {
            let path = format!("{}[{}]", map.name, entry.index);
            return SnapshotEntry::Value {
                key: SnapshotField::PercpuKey { key: entry.index },
                value: rendered(&path, entry.value.as_ref(), map),
            };
        }
        if let Some(entry) = map.entries.get(index) {
            return SnapshotEntry::Hash { map, entry };
        }
        if let Some(entry) = map.percpu_entries.get(index) {
            let whole = SnapshotEntry::Percpu { map, entry };
            return self.narrow(whole, &entry.per_cpu);
        }
        if let Some(entry) = map.percpu_hash_entries.get(index) {
            let whole = SnapshotEntry::PercpuHash { map, entry };
            return self.narrow(whole, &entry.per_cpu);
        }
        SnapshotEntry::Missing(match &map.error {
            Some(reason) if self.is_empty() => SnapshotError::NoRendered {
                requested: map.name.clone(),
                reason: reason.clone(),
            },
            _ => SnapshotError::IndexOutOfRange {
                requested: map.name.clone(),
                index: index as u64,
                len: self.len() as u64,
            },
        })
    }

    /// The first entry that satisfies `pred`.
    pub fn find(&self, pred: impl Fn(&SnapshotEntry<'a>) -> bool) -> SnapshotEntry<'a> {
        self.iter().find(pred).unwrap_or_else(|| self.no_match())
    }

    /// All entries that satisfy `pred`.
    pub fn filter(&self, pred: impl Fn(&SnapshotEntry<'a>) -> bool) -> Vec<SnapshotEntry<'a>> {
        self.iter().filter(pred).collect()
    }

    /// The entry with the largest `key`; entries for which it is `None` are ignored.
    pub fn max_by<K: PartialOrd>(
        &self,
        key: impl Fn(&SnapshotEntry<'a>) -> Option<K>,
    ) -> SnapshotEntry<'a> {
        let mut best: Option<(K, SnapshotEntry<'a>)> = None;
        for entry in self.iter() {
            let Some(value) = key(&entry) else { continue };
            if best.as_ref().is_none_or(|(most, _)| value > *most) {
                best = Some((value, entry));
            }
        }
        best.map_or_else(|| self.no_match(), |(_, entry)| entry)
    }

    /// All captured entries in order.
    pub fn iter(&self) -> impl Iterator<Item = SnapshotEntry<'a>> + use<'a> {
        let map = *self;
        (0..map.len()).map(move |index| map.at(index))
    }

    /// State of a ring buffer map.
    pub fn ringbuf(&self) -> Option<&'a FailureDumpRingbuf> {
        self.map.ringbuf.as_ref()
    }

    /// State of an arena map.
    pub fn arena(&self) -> Option<&'a ArenaSnapshot> {
        self.map.arena.as_ref()
    }

    /// State of a map that holds kernel objects.
    pub fn fd_array(&self) -> Option<&'a FailureDumpFdArray> {
        self.map.fd_array.as_ref()
    }

    /// State of a stack-trace map.
    pub fn stack_trace(&self) -> Option<&'a FailureDumpStackTrace> {
        self.map.stack_trace.as_ref()
    }

    /// Why the map could not be read in full.
    pub fn map_error(&self) -> Option<&'a str> {
        self.map.error.as_deref()
    }

    fn narrow(
        &self,
        whole: SnapshotEntry<'a>,
        slots: &'a [Option<crate::report::RenderedValue>],
    ) -> SnapshotEntry<'a> {
        let Some(cpu) = self.cpu else { return whole };
        let value = match slots.get(cpu) {
            Some(slot) => narrowed(self.map, slots, cpu, slot),
            None => SnapshotField::Missing(SnapshotError::PerCpuSlot {
                requested: self.map.name.clone(),
                cpu,
                available: slots.len(),
            }),
        };
        SnapshotEntry::Value {
            key: whole.key(""),
            value,
        }
    }

    fn no_match(&self) -> SnapshotEntry<'a> {
        SnapshotEntry::Missing(SnapshotError::NoMatch {
            requested: self.map.name.clone(),
            candidates: self.len(),
        })
    }
}
