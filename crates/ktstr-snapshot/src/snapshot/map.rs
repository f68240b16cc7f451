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

    /// Returns the map's name in the kernel.
    pub fn name(&self) -> &'a str {
        &self.map.name
    }

    /// Returns the map as it was captured.
    pub fn raw(&self) -> &'a FailureDumpMap {
        self.map
    }

    /// Returns the same map, with its per-CPU entries narrowed to CPU `cpu`. The entries of any other map are then missing,
    /// with a type error.
    #[must_use]
    pub fn cpu(self, cpu: usize) -> Self {
        Self {
            cpu: Some(cpu),
            ..self
        }
    }

    /// Returns the number of entries that were captured.
    pub fn len(&self) -> usize {
        let map = self.map;
        usize::from(map.value.is_some())
            + map.array_entries.len()
            + map.entries.len()
            + map.percpu_entries.len()
            + map.percpu_hash_entries.len()
    }

    /// Returns whether no entry was captured.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the captured entry `index`, counted from 0. In an array this is the element with that index. In any other
    /// map, entries are counted in the order in which the capture has them. The entry is missing if the capture has fewer.
    pub fn at(&self, index: usize) -> SnapshotEntry<'a> {
        let map = self.map;
        let one_value =
            map.value.is_some() || !map.array_entries.is_empty() || !map.entries.is_empty();
        if self.cpu.is_some() && one_value {
            return SnapshotEntry::Missing(SnapshotError::TypeMismatch {
                requested: map.name.clone(),
                expected: "a per-CPU map".to_owned(),
                actual: "a map whose entries have one value for all CPUs".to_owned(),
            });
        }
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

    /// Returns the first entry that satisfies `pred`; a missing entry if none does.
    pub fn find(&self, pred: impl Fn(&SnapshotEntry<'a>) -> bool) -> SnapshotEntry<'a> {
        self.iter().find(pred).unwrap_or_else(|| self.no_match())
    }

    /// Returns all entries that satisfy `pred`.
    pub fn filter(&self, pred: impl Fn(&SnapshotEntry<'a>) -> bool) -> Vec<SnapshotEntry<'a>> {
        self.iter().filter(pred).collect()
    }

    /// Returns the entry with the largest `key`, the first one if several have it. Entries whose key is `None` are ignored;
    /// the result is a missing entry if no entry remains.
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

    /// Returns all captured entries in the order of [`Self::at`].
    pub fn iter(&self) -> impl Iterator<Item = SnapshotEntry<'a>> + use<'a> {
        let map = *self;
        (0..map.len()).map(move |index| map.at(index))
    }

    /// Returns the state of a ring buffer; `None` for other maps, or if it could not be read.
    pub fn ringbuf(&self) -> Option<&'a FailureDumpRingbuf> {
        self.map.ringbuf.as_ref()
    }

    /// Returns the state of an arena; `None` for other maps, or if it could not be read.
    pub fn arena(&self) -> Option<&'a ArenaSnapshot> {
        self.map.arena.as_ref()
    }

    /// Returns the state of an array that holds kernel objects; `None` for other maps, or if it could not be read.
    pub fn fd_array(&self) -> Option<&'a FailureDumpFdArray> {
        self.map.fd_array.as_ref()
    }

    /// Returns the stacks of a stack-trace map; `None` for other maps, or if it could not be read.
    pub fn stack_trace(&self) -> Option<&'a FailureDumpStackTrace> {
        self.map.stack_trace.as_ref()
    }

    /// Returns why the map could not be read or rendered in full; `None` if there was no error. A map that was cut at a cap
    /// has `truncated` in [`Self::raw`] instead.
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
