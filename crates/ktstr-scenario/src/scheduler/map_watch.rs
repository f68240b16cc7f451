//! A variable of the scheduler under test that the host samples during the run and turns into a metric.

/// How the samples are aggregated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BpfMapAgg {
    /// The mean of all samples.
    Scalar,
    /// The sum of the increases from each sample to the next. A value that is smaller than at the last sample counts as an
    /// increase from 0, because the scheduler has reset it. If the scheduler is replaced, the increase of the new scheduler
    /// counts from its own first sample.
    ScalarCounter,
    /// For a per-CPU array: the mean over all CPUs and samples, and the highest value of any CPU.
    PerCpu,
    /// For a per-CPU array: the sum over all CPUs is one counter, aggregated as for [`BpfMapAgg::ScalarCounter`].
    PerCpuCounter,
}

impl BpfMapAgg {
    /// Returns whether each CPU has its own value, in a per-CPU array.
    pub const fn is_per_cpu(self) -> bool {
        matches!(self, Self::PerCpu | Self::PerCpuCounter)
    }

    /// Returns whether the value is a counter.
    pub const fn is_counter(self) -> bool {
        matches!(self, Self::ScalarCounter | Self::PerCpuCounter)
    }
}

/// A variable that the host reads about every 100 ms of guest time, in the workload window.
///
/// The metric is called `<object>_<label>`, where the object is the map's name up to its first dot: `bpf_bpf` for `bpf_bpf.bss`.
/// For [`BpfMapAgg::PerCpu`] there are two metrics, with the suffixes `_avg` and `_max`. `VmResult::run_metric` returns them.
///
/// ```
/// use ktstr_scenario::scheduler::{BpfMapAgg, WatchBpfMap};
///
/// const SEEN: WatchBpfMap = WatchBpfMap::new(".bss", "nr_dispatched", BpfMapAgg::ScalarCounter, "dispatched");
/// assert_eq!(SEEN.label(), "dispatched");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchBpfMap {
    map: &'static str,
    field: &'static str,
    agg: BpfMapAgg,
    label: &'static str,
}

impl WatchBpfMap {
    /// Declares that the host reads `field` in the scheduler's first array map, or per-CPU array map, whose name ends with `map`.
    /// The field is an unsigned integer of 1, 2, 4 or 8 bytes. `agg` and `label` are as in [`WatchBpfMap`].
    ///
    /// # Panics
    /// If `map`, `field` or `label` is empty; in a `const` this is a compile error.
    pub const fn new(
        map: &'static str,
        field: &'static str,
        agg: BpfMapAgg,
        label: &'static str,
    ) -> Self {
        assert!(
            !map.is_empty(),
            "WatchBpfMap: the suffix of the map's name is empty"
        );
        assert!(
            !field.is_empty(),
            "WatchBpfMap: the name of the variable is empty"
        );
        assert!(!label.is_empty(), "WatchBpfMap: the label is empty");
        Self {
            map,
            field,
            agg,
            label,
        }
    }

    /// Returns the suffix of the map's name.
    pub const fn map(&self) -> &'static str {
        self.map
    }

    /// Returns the name of the variable.
    pub const fn field(&self) -> &'static str {
        self.field
    }

    /// Returns how the samples are aggregated.
    pub const fn agg(&self) -> BpfMapAgg {
        self.agg
    }

    /// Returns the last part of the metric's name.
    pub const fn label(&self) -> &'static str {
        self.label
    }
}
