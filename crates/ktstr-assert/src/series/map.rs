//! Projections of an entry of a BPF map.

use super::{SampleSeries, SeriesField};
use ktstr_snapshot::snapshot::{SnapshotEntry, SnapshotResult};

/// Projects fields of one entry of a map.
#[derive(Clone, Copy)]
pub struct BpfMapProjector<'a> {
    series: &'a SampleSeries,
    map: &'a str,
    index: usize,
}

/// Projects fields of one entry of a map on one CPU.
#[derive(Clone, Copy)]
pub struct BpfMapCpuProjector<'a> {
    of: BpfMapProjector<'a>,
    cpu: usize,
}

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident: $t:ty = $get:expr;)*) => { $(
        $(#[$doc])*
        pub fn $name(&self, path: &str) -> SeriesField<$t> {
            let get: fn(&SnapshotEntry<'_>, &str) -> SnapshotResult<$t> = $get;
            self.project(path, |entry| get(entry, path))
        }
    )* };
}

impl SampleSeries {
    /// Returns a projector for the map with exactly this name. It reads entry 0 unless [`BpfMapProjector::at`] selects another.
    pub fn bpf_map<'a>(&'a self, name: &'a str) -> BpfMapProjector<'a> {
        BpfMapProjector {
            series: self,
            map: name,
            index: 0,
        }
    }
}

impl<'a> BpfMapProjector<'a> {
    /// Selects the entry of the map by its index: the position in an array, or in the order in which a hash map was read.
    pub fn at(mut self, index: usize) -> Self {
        self.index = index;
        self
    }

    /// Selects the values of one CPU in a per-CPU map.
    pub fn cpu(self, cpu: usize) -> BpfMapCpuProjector<'a> {
        BpfMapCpuProjector { of: self, cpu }
    }

    fn project<T>(
        &self,
        path: &str,
        f: impl Fn(&SnapshotEntry<'_>) -> SnapshotResult<T>,
    ) -> SeriesField<T> {
        let label = format!("{}[{}].{path}", self.map, self.index);
        self.series
            .bpf(label, |snap| f(&snap.map(self.map)?.at(self.index)))
    }

    fields! {
        /// Projects a member as an unsigned integer.
        field_u64: u64 = |e, p| e.get(p).as_u64();
        /// Projects a member as a signed integer.
        field_i64: i64 = |e, p| e.get(p).as_i64();
        /// Projects a member as a float.
        field_f64: f64 = |e, p| e.get(p).as_f64();
        /// Projects the sum of a member over the CPUs.
        field_cpu_sum_u64: u64 = |e, p| e.cpu_sum_u64(p);
        /// Projects the largest value of a member over the CPUs.
        field_cpu_max_u64: u64 = |e, p| e.cpu_max_u64(p);
        /// Projects the smallest value of a member over the CPUs.
        field_cpu_min_u64: u64 = |e, p| e.cpu_min_u64(p);
        /// Projects the sum of a member over the CPUs.
        field_cpu_sum_i64: i64 = |e, p| e.cpu_sum_i64(p);
        /// Projects the largest value of a member over the CPUs.
        field_cpu_max_i64: i64 = |e, p| e.cpu_max_i64(p);
        /// Projects the smallest value of a member over the CPUs.
        field_cpu_min_i64: i64 = |e, p| e.cpu_min_i64(p);
        /// Projects the sum of a member over the CPUs.
        field_cpu_sum_f64: f64 = |e, p| e.cpu_sum_f64(p);
        /// Projects the largest value of a member over the CPUs.
        field_cpu_max_f64: f64 = |e, p| e.cpu_max_f64(p);
        /// Projects the smallest value of a member over the CPUs.
        field_cpu_min_f64: f64 = |e, p| e.cpu_min_f64(p);
    }

    /// Projects every member that can be read as an unsigned integer in some capture, by name; this includes pointers,
    /// enums and booleans. The names are those of [`Self::member_names`].
    pub fn u64_fields(&self) -> Vec<(String, SeriesField<u64>)> {
        numbers(self.member_names(), |name| self.field_u64(name))
    }

    /// Projects every member that is an integer or a float in some capture, by name, as a float.
    pub fn f64_fields(&self) -> Vec<(String, SeriesField<f64>)> {
        numbers(self.member_names(), |name| self.field_f64(name))
    }

    /// Returns the names of the entry's members, from the first capture in which the entry has any; empty if there is
    /// no such capture.
    pub fn member_names(&self) -> Vec<String> {
        let names = |s: super::Sample<'_>| {
            let entry = s.snapshot.map(self.map).ok()?.at(self.index);
            let names: Vec<_> = (entry.get("").iter_members())
                .map(|(name, _)| name.to_owned())
                .collect();
            (!names.is_empty()).then_some(names)
        };
        self.series
            .iter_samples()
            .find_map(names)
            .unwrap_or_default()
    }
}

/// Returns the name and the field of each of `names` for which some capture holds a value.
pub(super) fn numbers<T>(
    names: Vec<String>,
    field: impl Fn(&str) -> SeriesField<T>,
) -> Vec<(String, SeriesField<T>)> {
    names
        .into_iter()
        .map(|name| (field(&name), name))
        .filter(|(field, _)| field.values_iter().any(|value| value.is_ok()))
        .map(|(field, name)| (name, field))
        .collect()
}

impl BpfMapCpuProjector<'_> {
    fn project<T>(
        &self,
        path: &str,
        f: impl Fn(&SnapshotEntry<'_>, &str) -> SnapshotResult<T>,
    ) -> SeriesField<T> {
        let BpfMapProjector { series, map, index } = self.of;
        let label = format!("{map}[{index}].{path} on cpu {}", self.cpu);
        series.bpf(label, |snap| {
            f(&snap.map(map)?.cpu(self.cpu).at(index), path)
        })
    }

    /// Projects a member as an unsigned integer.
    pub fn field_u64(&self, path: &str) -> SeriesField<u64> {
        self.project(path, |e, p| e.get(p).as_u64())
    }

    /// Projects a member as a signed integer.
    pub fn field_i64(&self, path: &str) -> SeriesField<i64> {
        self.project(path, |e, p| e.get(p).as_i64())
    }

    /// Projects a member as a float.
    pub fn field_f64(&self, path: &str) -> SeriesField<f64> {
        self.project(path, |e, p| e.get(p).as_f64())
    }
}
