//! A variable of the scheduler under test that the host reads all along, and that becomes a metric of the run.

/// What becomes of the values that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BpfMapAgg {
    /// The mean of all looks.
    Scalar,
    /// By how much it has grown from the first look to the last. Where a scheduler is replaced, the new one's growth counts
    /// from its own first look.
    ScalarCounter,
    /// Of a per-CPU array: the mean over all CPUs and looks, and the highest value of any CPU.
    PerCpu,
    /// Of a per-CPU array: by how much the sum over all CPUs has grown.
    PerCpuCounter,
}

impl BpfMapAgg {
    /// Whether each CPU has a value of its own.
    pub const fn is_per_cpu(self) -> bool {
        matches!(self, Self::PerCpu | Self::PerCpuCounter)
    }

    /// Whether the value only grows.
    pub const fn is_counter(self) -> bool {
        matches!(self, Self::ScalarCounter | Self::PerCpuCounter)
    }
}

/// A variable that is read about every 100 ms of the guest's time, in the workload window.
///
/// The metric is called `<object>_<label>`, where the object is the map's name up to its first dot: `bpf_bpf` of
/// `bpf_bpf.bss`. That of [`BpfMapAgg::PerCpu`] is two, ending in `_avg` and `_max`. `VmResult::run_metric` has them.
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
    /// Reads `field`, an unsigned integer of 1, 2, 4 or 8 bytes, in the scheduler's first array map, or per-CPU array map,
    /// whose name ends with `map`.
    ///
    /// # Panics
    /// A name is empty; in a constant, that does not compile.
    pub const fn new(
        map: &'static str,
        field: &'static str,
        agg: BpfMapAgg,
        label: &'static str,
    ) -> Self {
        assert!(
            !map.is_empty(),
            "WatchBpfMap: the end of the map's name is empty"
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

    /// What the map's name ends with.
    pub const fn map(&self) -> &'static str {
        self.map
    }

    /// The name of the variable.
    pub const fn field(&self) -> &'static str {
        self.field
    }

    /// What becomes of the values.
    pub const fn agg(&self) -> BpfMapAgg {
        self.agg
    }

    /// What the metric's name ends with.
    pub const fn label(&self) -> &'static str {
        self.label
    }
}
