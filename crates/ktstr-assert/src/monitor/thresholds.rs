//! The bounds the monitor's samples are judged by.

use super::summary::stuck;
use super::{MonitorReport, MonitorSample, ScxEventCounters};
use crate::check::Assert;
use crate::outcome::{AssertDetail, AssertResult, DetailKind};
use serde::{Deserialize, Serialize};

/// A local DSQ cannot be this deep: what reads so was not initialised yet.
const IMPLAUSIBLE_DSQ_DEPTH: u32 = 10_000;

/// What the samples must keep to, `sustained_samples` in a row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MonitorThresholds {
    /// Largest ratio of the longest to the shortest runqueue.
    #[serde(with = "crate::float::one")]
    pub max_imbalance_ratio: f64,
    /// Most tasks in a local DSQ.
    pub max_local_dsq_depth: u32,
    /// Whether a runqueue clock that stands still is a violation.
    pub fail_on_rq_clock_stuck: bool,
    /// How many samples in a row make a violation; 0 counts as 1.
    pub sustained_samples: usize,
    /// Most `SCX_EV_SELECT_CPU_FALLBACK` events a vCPU-second.
    #[serde(with = "crate::float::one")]
    pub max_fallback_rate: f64,
    /// Most `SCX_EV_DISPATCH_KEEP_LAST` events a vCPU-second.
    #[serde(with = "crate::float::one")]
    pub max_keep_last_rate: f64,
    /// Whether violations fail the test or are only told.
    pub enforce: bool,
}

impl Default for MonitorThresholds {
    fn default() -> Self {
        MonitorThresholds {
            max_imbalance_ratio: 4.0,
            max_local_dsq_depth: 50,
            fail_on_rq_clock_stuck: true,
            sustained_samples: 5,
            max_fallback_rate: 200.0,
            max_keep_last_rate: 100.0,
            enforce: false,
        }
    }
}

/// What became of the samples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MonitorVerdict {
    /// Whether no bound was broken.
    pub passed: bool,
    /// Whether there was nothing to judge.
    pub inconclusive: bool,
    /// Whether a broken bound fails the test.
    pub enforced: bool,
    /// One line a violation.
    pub details: Vec<String>,
    /// The verdict in a line.
    pub summary: String,
}

impl MonitorThresholds {
    /// The thresholds a test asks for, the usual ones where it says nothing. `None` if it asks for
    /// none at all.
    pub fn from_assert(a: &Assert) -> Option<Self> {
        let usual = Self::default();
        a.has_monitor_checks().then(|| MonitorThresholds {
            max_imbalance_ratio: a.max_imbalance_ratio.unwrap_or(usual.max_imbalance_ratio),
            max_local_dsq_depth: a.max_local_dsq_depth.unwrap_or(usual.max_local_dsq_depth),
            fail_on_rq_clock_stuck: a
                .fail_on_rq_clock_stuck
                .unwrap_or(usual.fail_on_rq_clock_stuck),
            sustained_samples: a.sustained_samples.unwrap_or(usual.sustained_samples),
            max_fallback_rate: a.max_fallback_rate.unwrap_or(usual.max_fallback_rate),
            max_keep_last_rate: a.max_keep_last_rate.unwrap_or(usual.max_keep_last_rate),
            enforce: a.enforce_monitor_thresholds,
        })
    }

    /// Judges a report.
    pub fn evaluate(&self, report: &MonitorReport) -> MonitorVerdict {
        let samples = &report.samples;
        let unsure = |summary: &str| MonitorVerdict {
            inconclusive: true,
            enforced: self.enforce,
            summary: summary.into(),
            ..MonitorVerdict::default()
        };
        if samples.iter().all(|s| s.cpus.is_empty()) {
            return unsure("no monitor samples");
        }
        if !initialised(samples) {
            return unsure("monitor data not yet initialized");
        }
        let details = self.violations(samples);
        let n = details.len();
        let summary = match (n, self.enforce) {
            (0, _) => "monitor OK".to_owned(),
            (_, true) => format!("monitor FAILED: {n} violation(s)"),
            (_, false) => format!("monitor: {n} violation(s), reported only (not enforced)"),
        };
        MonitorVerdict {
            passed: n == 0,
            inconclusive: false,
            enforced: self.enforce,
            details,
            summary,
        }
    }

    fn violations(&self, samples: &[MonitorSample]) -> Vec<String> {
        let need = self.sustained_samples.max(1);
        let mut out = Vec::new();
        let mut sustained = |what: String, broken: &mut dyn Iterator<Item = bool>| {
            if let Some(end) = first_run(broken, need) {
                let at = samples.get(end).map_or(0, |s| s.elapsed_ms);
                out.push(format!("{what} for {need} samples in a row, until +{at}ms"));
            }
        };
        let (ratio, depth) = (self.max_imbalance_ratio, self.max_local_dsq_depth);
        sustained(
            format!("imbalance ratio above {ratio}"),
            &mut samples.iter().map(|s| s.imbalance_ratio() > ratio),
        );
        let cpus = samples.iter().map(|s| s.cpus.len()).max().unwrap_or(0);
        for cpu in 0..cpus {
            let deep =
                |s: &MonitorSample| s.cpus.get(cpu).is_some_and(|c| c.local_dsq_depth > depth);
            sustained(
                format!("cpu{cpu}: local DSQ deeper than {depth}"),
                &mut samples.iter().map(deep),
            );
        }
        if self.fail_on_rq_clock_stuck {
            let steps: Vec<_> = samples.windows(2).map(|w| stuck(&w[0], &w[1])).collect();
            for cpu in 0..cpus {
                let still = |s: &Vec<bool>| s.get(cpu).copied().unwrap_or(false);
                // The first sample has none before it.
                let mut broken = std::iter::once(false).chain(steps.iter().map(still));
                sustained(format!("cpu{cpu}: runqueue clock stood still"), &mut broken);
            }
        }
        let events: [(&str, f64, Counter); 2] = [
            ("select_cpu_fallback", self.max_fallback_rate, |e| {
                e.select_cpu_fallback
            }),
            ("dispatch_keep_last", self.max_keep_last_rate, |e| {
                e.dispatch_keep_last
            }),
        ];
        for (name, bound, read) in events {
            let rates = samples.windows(2).map(|w| event_rate(&w[0], &w[1], read));
            let broken = rates.map(|r| r.is_some_and(|r| r > bound));
            sustained(
                format!("{name} above {bound} events per vCPU-second"),
                &mut std::iter::once(false).chain(broken),
            );
        }
        out
    }
}

impl MonitorVerdict {
    /// The verdict as a result: violations fail when enforced and are notes when not.
    pub fn into_result(self) -> AssertResult {
        let detail = |m: String| AssertDetail::new(DetailKind::Monitor, m);
        let mut out = AssertResult::pass();
        if self.inconclusive {
            out.record_inconclusive(detail(self.summary));
            return out;
        }
        for line in self.details {
            match self.enforced {
                true => out.record_fail(detail(line)),
                false => out.note(format!("monitor (not enforced): {line}")),
            };
        }
        out
    }
}

/// One of the event counters.
type Counter = fn(&ScxEventCounters) -> i64;

/// Where the first run of `need` true values ends.
fn first_run(values: &mut dyn Iterator<Item = bool>, need: usize) -> Option<usize> {
    let mut run = 0;
    for (i, v) in values.enumerate() {
        run = if v { run + 1 } else { 0 };
        if run >= need {
            return Some(i);
        }
    }
    None
}

/// Events a vCPU-second between two samples: by delivered CPU time, so that a slow host does not
/// look like a quiet scheduler. `None` where that or the counters were not measured.
fn event_rate(a: &MonitorSample, b: &MonitorSample, read: Counter) -> Option<f64> {
    let (mut events, mut cpu_ns) = (0i64, 0u64);
    for (a, b) in a.cpus.iter().zip(&b.cpus) {
        let (before, now) = (a.event_counters.as_ref()?, b.event_counters.as_ref()?);
        // A counter that went backwards was reset with its scheduler.
        events = events.saturating_add(read(now).saturating_sub(read(before)).max(0));
        let ran = b.vcpu_cpu_time_ns?.saturating_sub(a.vcpu_cpu_time_ns?);
        cpu_ns = cpu_ns.saturating_add(ran);
    }
    let average_vcpu_ns = cpu_ns / (a.cpus.len().min(b.cpus.len()).max(1) as u64);
    (average_vcpu_ns > 0).then(|| events as f64 * 1e9 / average_vcpu_ns as f64)
}

/// Whether the samples look like a kernel that runs: no impossible queue, and clocks that differ.
fn initialised(samples: &[MonitorSample]) -> bool {
    let cpus = || samples.iter().flat_map(|s| &s.cpus);
    let mut clocks = cpus().map(|c| c.rq_clock);
    let first = clocks.next();
    let plausible = cpus().all(|c| c.local_dsq_depth <= IMPLAUSIBLE_DSQ_DEPTH);
    // One lone reading cannot differ from anything.
    plausible && (cpus().count() == 1 || clocks.any(|c| Some(c) != first))
}
