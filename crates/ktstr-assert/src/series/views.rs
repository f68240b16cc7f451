//! Further views of a series: the monitor's samples, and the CPU times of the guest.

use super::{SampleSeries, SeriesField};
use crate::monitor::{MonitorReport, MonitorSample, MonitorSummary, event_seconds};
use crate::outcome::{AssertDetail, AssertResult, DetailKind};
use ktstr_snapshot::report::{PerCpuTimeStats, ScxEventCounters};
use std::collections::BTreeSet;

/// The monitor's report for the run of a series.
#[derive(Clone, Copy, Debug)]
pub struct MonitorView<'a>(&'a MonitorReport);

impl<'a> MonitorView<'a> {
    pub(super) fn new(report: &'a MonitorReport) -> Self {
        Self(report)
    }

    /// Returns the report itself.
    pub fn report(&self) -> &'a MonitorReport {
        self.0
    }

    /// Returns the summary of the samples.
    pub fn summary(&self) -> &'a MonitorSummary {
        &self.0.summary
    }

    /// Returns the samples, oldest first.
    pub fn samples(&self) -> &'a [MonitorSample] {
        &self.0.samples
    }

    /// Returns the growth of the kernel's event counters over the samples, while a scheduler was attached; `None` if no
    /// two consecutive samples contain them.
    pub fn scx_events(&self) -> Option<ScxEvents<'a>> {
        Some(ScxEvents {
            grown: self.0.summary.event_deltas.as_ref()?,
            vcpu_seconds: event_seconds(&self.0.samples),
        })
    }

    /// Returns the longest time, in nanoseconds, for which the host may keep a vCPU waiting between two samples. After a
    /// longer wait the vCPU counts as preempted, and the host is to blame for what the vCPU did not do.
    pub fn preemption_threshold_ns(&self) -> u64 {
        self.0.preemption_threshold_ns
    }
}

/// The events of sched_ext over a run (`enum scx_event`, kernel/sched/ext.c).
#[derive(Clone, Copy, Debug)]
pub struct ScxEvents<'a> {
    grown: &'a ScxEventCounters,
    vcpu_seconds: f64,
}

impl ScxEvents<'_> {
    /// Returns the name and the growth of each counter.
    pub fn total_pairs(&self) -> Vec<(&'static str, i64)> {
        self.grown.named()
    }

    /// Returns the name and the growth per vCPU-second of each counter, which is the unit of `max_fallback_rate`. Empty
    /// if no time passed between the samples.
    pub fn rates_pairs(&self) -> Vec<(&'static str, f64)> {
        if self.vcpu_seconds <= 0.0 {
            return Vec::new();
        }
        let rate = |(name, count)| (name, count as f64 / self.vcpu_seconds);
        self.grown.named().into_iter().map(rate).collect()
    }
}

/// Checks that no event happened more often than `max` times; with `None`, that none happened. `bypass_duration` is ignored,
/// because it is a time. A negative counter fails whatever the bound is. The result is a skip if `events` is empty.
pub fn assert_scx_events_clean(events: &[(&str, i64)], max: Option<i64>) -> AssertResult {
    if events.is_empty() {
        return AssertResult::skip("no sched_ext events were counted");
    }
    let mut out = AssertResult::default();
    let max = max.unwrap_or(0);
    // `bypass_duration` is in nanoseconds. `bypass_activate` counts the bypasses.
    let events = events.iter().filter(|(name, _)| *name != "bypass_duration");
    for (name, count) in events {
        if *count < 0 || *count > max {
            out.record_fail(AssertDetail::new(
                DetailKind::SchedulerEvent,
                format!("sched_ext event {name} was counted {count} times, but at most {max} are allowed"),
            ));
        }
    }
    out
}

/// The CPU times of the guest (`kernel_cpustat`), read from outside with each capture.
#[derive(Clone, Copy)]
pub struct HostView<'a>(&'a SampleSeries);

impl<'a> HostView<'a> {
    pub(super) fn of(series: &'a SampleSeries) -> Option<Self> {
        let mut samples = series.iter_samples();
        samples
            .any(|s| !s.snapshot.per_cpu_time().is_empty())
            .then_some(Self(series))
    }

    /// Returns the CPUs that some capture contains, in order.
    pub fn cpus(&self) -> Vec<u32> {
        let cpus = self.0.iter_samples();
        let cpus: BTreeSet<u32> = cpus
            .flat_map(|s| s.snapshot.per_cpu_time())
            .map(|time| time.cpu)
            .collect();
        cpus.into_iter().collect()
    }

    /// Returns the times of one CPU in each capture, with the capture's guest time in milliseconds. A capture without
    /// times of this CPU is left out.
    pub fn per_cpu_time_timeline(&self, cpu: u32) -> Vec<(Option<u64>, &'a PerCpuTimeStats)> {
        let at = |s: super::Sample<'a>| Some((s.elapsed_ms, s.snapshot.per_cpu_time_at(cpu).ok()?));
        self.0.iter_samples().filter_map(at).collect()
    }

    /// Projects a counter of one CPU, one value per capture.
    pub fn per_cpu_field_u64(
        &self,
        cpu: u32,
        label: impl Into<String>,
        f: impl Fn(&PerCpuTimeStats) -> u64,
    ) -> SeriesField<u64> {
        self.0.bpf(label, |snap| snap.per_cpu_time_at(cpu).map(&f))
    }
}
