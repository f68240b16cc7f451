//! One entry of a BPF map.

use super::{SnapshotError, SnapshotField, SnapshotResult};
use crate::report::{FailureDumpEntry, FailureDumpPercpuEntry, FailureDumpPercpuHashEntry};
use crate::report::{FailureDumpMap, RenderedValue};

/// One entry of a BPF map, or the reason why there is none.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum SnapshotEntry<'a> {
    /// An entry of a hash map, a storage map or a trie.
    Hash {
        /// The map that the entry was found in.
        map: &'a FailureDumpMap,
        /// The key and value, as they were captured.
        entry: &'a FailureDumpEntry,
    },
    /// An element of a per-CPU array with all its CPUs.
    Percpu {
        /// The map that the element was found in.
        map: &'a FailureDumpMap,
        /// The element's values, one for each CPU.
        entry: &'a FailureDumpPercpuEntry,
    },
    /// An entry of a per-CPU hash map with all its CPUs.
    PercpuHash {
        /// The map that the entry was found in.
        map: &'a FailureDumpMap,
        /// The key and its values, one for each CPU.
        entry: &'a FailureDumpPercpuHashEntry,
    },
    /// One value: an array element, a global section, or a per-CPU entry narrowed to a CPU.
    Value {
        /// The key of the entry: the index in an array, which is 0 for a map with one value.
        key: SnapshotField<'a>,
        /// The value and where it was found.
        value: SnapshotField<'a>,
    },
    /// There is no entry, with the reason.
    Missing(SnapshotError),
}

impl<'a> SnapshotEntry<'a> {
    /// Returns whether there is an entry.
    pub fn is_present(&self) -> bool {
        !matches!(self, Self::Missing(_))
    }

    /// Returns the value's member at a dotted path; the value itself for an empty path.
    pub fn get(&self, path: &str) -> SnapshotField<'a> {
        let value = match self {
            Self::Hash { map, entry } => rendered(&map.name, entry.value.as_ref(), map),
            Self::Value { value, .. } => value.clone(),
            Self::Percpu { map, entry } => not_narrowed(map, path, entry.per_cpu.len()),
            Self::PercpuHash { map, entry } => not_narrowed(map, path, entry.per_cpu.len()),
            Self::Missing(error) => SnapshotField::Missing(error.clone()),
        };
        below(value, path)
    }

    /// Returns the key's member at a dotted path; the key itself for an empty path.
    pub fn key(&self, path: &str) -> SnapshotField<'a> {
        let key = match self {
            Self::Hash { map, entry } => {
                rendered(&format!("{}[key]", map.name), entry.key.as_ref(), map)
            }
            Self::PercpuHash { map, entry } => {
                rendered(&format!("{}[key]", map.name), entry.key.as_ref(), map)
            }
            Self::Percpu { entry, .. } => SnapshotField::PercpuKey { key: entry.key },
            Self::Value { key, .. } => key.clone(),
            Self::Missing(error) => SnapshotField::Missing(error.clone()),
        };
        below(key, path)
    }

    /// Returns the sum over the CPUs, which wraps like the kernel's counters. It is an error if the value of any CPU is missing.
    pub fn cpu_sum_u64(&self, path: &str) -> SnapshotResult<u64> {
        let values = self.per_cpu(path, SnapshotField::as_u64)?;
        Ok(values.into_iter().fold(0, u64::wrapping_add))
    }

    /// Returns the largest value of any CPU. It is an error if the value of any CPU is missing.
    pub fn cpu_max_u64(&self, path: &str) -> SnapshotResult<u64> {
        let values = self.per_cpu(path, SnapshotField::as_u64)?;
        self.extreme(path, values.into_iter().max())
    }

    /// Returns the smallest value of any CPU. It is an error if the value of any CPU is missing.
    pub fn cpu_min_u64(&self, path: &str) -> SnapshotResult<u64> {
        let values = self.per_cpu(path, SnapshotField::as_u64)?;
        self.extreme(path, values.into_iter().min())
    }

    /// Returns the sum over the CPUs, which wraps. It is an error if the value of any CPU is missing.
    pub fn cpu_sum_i64(&self, path: &str) -> SnapshotResult<i64> {
        let values = self.per_cpu(path, SnapshotField::as_i64)?;
        Ok(values.into_iter().fold(0, i64::wrapping_add))
    }

    /// Returns the largest value of any CPU. It is an error if the value of any CPU is missing.
    pub fn cpu_max_i64(&self, path: &str) -> SnapshotResult<i64> {
        let values = self.per_cpu(path, SnapshotField::as_i64)?;
        self.extreme(path, values.into_iter().max())
    }

    /// Returns the smallest value of any CPU. It is an error if the value of any CPU is missing.
    pub fn cpu_min_i64(&self, path: &str) -> SnapshotResult<i64> {
        let values = self.per_cpu(path, SnapshotField::as_i64)?;
        self.extreme(path, values.into_iter().min())
    }

    /// Returns the sum over the CPUs. It is an error if the value of any CPU is missing.
    pub fn cpu_sum_f64(&self, path: &str) -> SnapshotResult<f64> {
        let values = self.per_cpu(path, SnapshotField::as_f64)?;
        Ok(values.into_iter().sum())
    }

    /// Returns the largest value of any CPU, where NaN is ignored. It is an error if the value of any CPU is missing.
    pub fn cpu_max_f64(&self, path: &str) -> SnapshotResult<f64> {
        let values = self.per_cpu(path, SnapshotField::as_f64)?;
        self.extreme(path, values.into_iter().reduce(f64::max))
    }

    /// Returns the smallest value of any CPU, where NaN is ignored. It is an error if the value of any CPU is missing.
    pub fn cpu_min_f64(&self, path: &str) -> SnapshotResult<f64> {
        let values = self.per_cpu(path, SnapshotField::as_f64)?;
        self.extreme(path, values.into_iter().reduce(f64::min))
    }

    /// Calls `f` with the number and the field of every CPU, including fields that are missing. It is an error if this is not a
    /// per-CPU entry with all its CPUs.
    pub fn cpu_each(
        &self,
        path: &str,
        mut f: impl FnMut(usize, SnapshotField<'a>),
    ) -> SnapshotResult<()> {
        let (map, slots) = self.slots(path)?;
        for (cpu, slot) in slots.iter().enumerate() {
            f(cpu, below(narrowed(map, slots, cpu, slot), path));
        }
        Ok(())
    }

    fn per_cpu<T>(
        &self,
        path: &str,
        convert: impl Fn(&SnapshotField<'a>) -> SnapshotResult<T>,
    ) -> SnapshotResult<Vec<T>> {
        let mut values = Vec::new();
        self.cpu_each(path, |_, field| values.push(convert(&field)))?;
        values.into_iter().collect()
    }

    fn slots(
        &self,
        path: &str,
    ) -> SnapshotResult<(&'a FailureDumpMap, &'a [Option<RenderedValue>])> {
        match self {
            Self::Percpu { map, entry } => Ok((map, &entry.per_cpu)),
            Self::PercpuHash { map, entry } => Ok((map, &entry.per_cpu)),
            Self::Missing(error) => Err(error.clone()),
            Self::Hash { .. } | Self::Value { .. } => Err(SnapshotError::TypeMismatch {
                requested: path.to_owned(),
                expected: "a per-CPU entry".to_owned(),
                actual: "an entry with one value".to_owned(),
            }),
        }
    }

    fn extreme<T>(&self, path: &str, value: Option<T>) -> SnapshotResult<T> {
        value.ok_or_else(|| SnapshotError::NoMatch {
            requested: path.to_owned(),
            candidates: 0,
        })
    }
}

/// Returns a field for the value of one CPU of a per-CPU entry.
pub(super) fn narrowed<'a>(
    map: &FailureDumpMap,
    slots: &'a [Option<RenderedValue>],
    cpu: usize,
    slot: &'a Option<RenderedValue>,
) -> SnapshotField<'a> {
    match slot {
        Some(value) => SnapshotField::new(format!("{}[cpu {cpu}]", map.name), value),
        None => SnapshotField::Missing(SnapshotError::PerCpuSlot {
            requested: map.name.clone(),
            cpu,
            available: slots.iter().filter(|slot| slot.is_some()).count(),
        }),
    }
}

/// Returns a field for a rendered value, or the reason why it was not rendered.
pub(super) fn rendered<'a>(
    path: &str,
    value: Option<&'a RenderedValue>,
    map: &FailureDumpMap,
) -> SnapshotField<'a> {
    match value {
        Some(value) => SnapshotField::new(path, value),
        None => SnapshotField::Missing(SnapshotError::NoRendered {
            requested: path.to_owned(),
            reason: map
                .error
                .clone()
                .unwrap_or_else(|| "its bytes could not be read or have no type".to_owned()),
        }),
    }
}

fn below<'a>(field: SnapshotField<'a>, path: &str) -> SnapshotField<'a> {
    if path.is_empty() {
        field
    } else {
        field.get(path)
    }
}

fn not_narrowed<'a>(map: &FailureDumpMap, path: &str, cpus: usize) -> SnapshotField<'a> {
    SnapshotField::Missing(SnapshotError::PerCpuNotNarrowed {
        requested: format!("{}: {path}", map.name),
        cpus,
    })
}
