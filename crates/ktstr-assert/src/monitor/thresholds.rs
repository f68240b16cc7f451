//! The bounds for judging the monitor's samples.

use super::summary::{delivered_ns, stuck};
use super::{MonitorReport, MonitorSample, ScxEventCounters, claims};
use crate::check::Assert;
use crate::outcome::{AssertDetail, AssertResult, Finding, MonitorBound};
use serde::{Deserialize, Serialize};

/// No real local DSQ is deeper than this. A larger value shows that the memory was not initialized when it was read.
const IMPLAUSIBLE_DSQ_DEPTH: u32 = 10_000;

/// The bounds that the samples must keep. A violation must last for `sustained_samples` consecutive samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MonitorThresholds {
    /// The largest [`MonitorSample::movable_imbalance`] that is accepted.
    #[serde(with = "crate::float::one")]
    pub max_imbalance_ratio: f64,
    /// The largest number of tasks in a local DSQ that another CPU could take over.
    pub max_local_dsq_depth: u32,
    /// Whether a runqueue clock that does not advance is a violation.
    pub fail_on_rq_clock_stuck: bool,
    /// The number of consecutive samples that make a violation; 0 counts as 1.
    pub sustained_samples: usize,
    /// The largest number of `SCX_EV_SELECT_CPU_FALLBACK` events per vCPU-second.
    #[serde(with = "crate::float::one")]
    pub max_fallback_rate: f64,
    /// The largest number of `SCX_EV_DISPATCH_KEEP_LAST` events per vCPU-second. If the waiting tasks are known, an
    /// event counts only if a task that may run on its CPU waited all the time between the two samples: it is correct
    /// to keep running the last task while no other task needs the CPU.
    #[serde(with = "crate::float::one")]
    pub max_keep_last_rate: f64,
    /// Whether it is a violation if a CPU idles while tasks that may run on it wait.
    pub work_conservation: bool,
    /// Whether violations fail the test. Otherwise they are only reported.
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
            work_conservation: true,
            enforce: false,
        }
    }
}

/// The verdict on the samples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MonitorVerdict {
    /// Whether the samples were judged and no bound was violated; false if `inconclusive`.
    pub passed: bool,
    /// Whether there was nothing to judge: no samples, or samples that a running kernel cannot have.
    pub inconclusive: bool,
    /// Whether a violation fails the test.
    pub enforced: bool,
    /// One line per violation.
    pub details: Vec<String>,
    /// The violations as data.
    pub findings: Vec<Finding>,
    /// The verdict in one line.
    pub summary: String,
}

impl MonitorThresholds {
    /// The thresholds under which nothing is a violation.
    const OFF: MonitorThresholds = MonitorThresholds {
        max_imbalance_ratio: f64::INFINITY,
        max_local_dsq_depth: u32::MAX,
        fail_on_rq_clock_stuck: false,
        sustained_samples: 5,
        max_fallback_rate: f64::INFINITY,
        max_keep_last_rate: f64::INFINITY,
        work_conservation: false,
        enforce: false,
    };

    /// Returns the thresholds that a test sets; `None` if it sets none.
    ///
    /// If the bounds are enforced, only those that the test sets are judged: a test of work conservation does not fail
    /// because of a deep queue. If violations are only reported, each bound that the test does not set has its default
    /// value.
    pub fn from_assert(a: &Assert) -> Option<Self> {
        let usual = match a.enforces_monitor() {
            true => Self::OFF,
            false => Self::default(),
        };
        a.has_monitor_checks().then(|| MonitorThresholds {
            max_imbalance_ratio: a.max_imbalance_ratio.unwrap_or(usual.max_imbalance_ratio),
            max_local_dsq_depth: a.max_local_dsq_depth.unwrap_or(usual.max_local_dsq_depth),
            fail_on_rq_clock_stuck: a
                .fail_on_rq_clock_stuck
                .unwrap_or(usual.fail_on_rq_clock_stuck),
            sustained_samples: a.sustained_samples.unwrap_or(usual.sustained_samples),
            max_fallback_rate: a.max_fallback_rate.unwrap_or(usual.max_fallback_rate),
            max_keep_last_rate: a.max_keep_last_rate.unwrap_or(usual.max_keep_last_rate),
            work_conservation: a.work_conservation.unwrap_or(usual.work_conservation),
            enforce: a.enforces_monitor(),
        })
    }

    /// Judges the samples of a report, without those that were taken while no scheduler was attached. Without usable
    /// data the verdict is inconclusive.
    pub fn evaluate(&self, report: &MonitorReport) -> MonitorVerdict {
        // Samples before the scheduler attached or after it ended show the kernel's own scheduler.
        let under_test = |s: &&MonitorSample| s.scx_attached != Some(false);
        let mut samples: Vec<MonitorSample> =
            report.samples.iter().filter(under_test).cloned().collect();
        claims::limit(&mut samples);
        let unsure = |summary: &str| MonitorVerdict {
            inconclusive: true,
            enforced: self.enforce,
            summary: summary.into(),
            ..MonitorVerdict::default()
        };
        if samples.iter().all(|s| s.cpus.is_empty()) {
            return unsure("no monitor samples");
        }
        if !initialised(&samples) {
            return unsure(
                "monitor data not yet initialized: the samples of the runqueues are implausible",
            );
        }
        // Samples on either side of a time without the scheduler are not consecutive.
        let gaps = report.samples.split(|s| !under_test(&s)).map(<[_]>::len);
        let mut rest = samples.as_slice();
        let findings: Vec<Finding> = gaps
            .map(|len| {
                let (together, after) = rest.split_at(len);
                rest = after;
                together
            })
            // The samples of two scenarios are not consecutive either. The times of each scenario start at 0.
            .flat_map(|together| together.chunk_by(|a, b| a.elapsed_ms < b.elapsed_ms))
            .flat_map(|window| self.violations(window))
            .collect();
        let n = findings.len();
        let summary = match (n, self.enforce) {
            (0, _) => "monitor OK".to_owned(),
            (_, true) => format!("monitor FAILED: {n} violation(s)"),
            (_, false) => format!("monitor: {n} violation(s), reported only (not enforced)"),
        };
        MonitorVerdict {
            passed: n == 0,
            inconclusive: false,
            enforced: self.enforce,
            details: findings.iter().map(ToString::to_string).collect(),
            findings,
            summary,
        }
    }

    fn violations(&self, samples: &[MonitorSample]) -> Vec<Finding> {
        let need = self.sustained_samples.max(1);
        let mut out = Vec::new();
        let mut sustained = |bound: MonitorBound, broken: &mut dyn Iterator<Item = bool>| {
            if let Some(end) = first_run(broken, need) {
                out.push(Finding::Sustained {
                    bound,
                    samples: need,
                    until_ms: samples.get(end).map_or(0, |s| s.elapsed_ms),
                });
            }
        };
        let (ratio, depth) = (self.max_imbalance_ratio, self.max_local_dsq_depth);
        sustained(
            MonitorBound::Imbalance { ratio },
            &mut samples.iter().map(|s| s.movable_imbalance() > ratio),
        );
        let cpus = samples.iter().map(|s| s.cpus.len()).max().unwrap_or(0);
        for cpu in 0..cpus {
            let deep = |s: &MonitorSample| {
                let queue = s.cpus.get(cpu);
                queue.is_some_and(|c| c.movable_dsq_depth(cpu, s.cpus.len()) > depth)
            };
            sustained(
                MonitorBound::LocalDsq { cpu, depth },
                &mut samples.iter().map(deep),
            );
        }
        if self.fail_on_rq_clock_stuck {
            let steps: Vec<_> = samples.windows(2).map(|w| stuck(&w[0], &w[1])).collect();
            for cpu in 0..cpus {
                let still = |s: &Vec<bool>| s.get(cpu).copied().unwrap_or(false);
                // The first sample has no predecessor.
                let mut broken = std::iter::once(false).chain(steps.iter().map(still));
                sustained(MonitorBound::Clock { cpu }, &mut broken);
            }
        }
        let everywhere: Counts = |_, _, _| true;
        let events: [(&str, f64, Counter, Counts); 2] = [
            (
                "select_cpu_fallback",
                self.max_fallback_rate,
                |e| e.select_cpu_fallback,
                everywhere,
            ),
            (
                "dispatch_keep_last",
                self.max_keep_last_rate,
                |e| e.dispatch_keep_last,
                someone_waited,
            ),
        ];
        for (name, bound, read, counts) in events {
            let rates = samples
                .windows(2)
                .map(|w| event_rate(&w[0], &w[1], read, counts));
            let broken = rates.map(|r| r.is_some_and(|r| r > bound));
            sustained(
                MonitorBound::Events {
                    event: name.to_owned(),
                    rate: bound,
                },
                &mut std::iter::once(false).chain(broken),
            );
        }
        if self.work_conservation {
            out.extend(super::work::violations(samples, need));
        }
        out
    }
}

impl MonitorVerdict {
    /// Converts the verdict into a result: violations are failures if they are enforced, and notes if they are not.
    pub fn into_result(self) -> AssertResult {
        let mut out = AssertResult::pass();
        if self.inconclusive {
            let summary = self.summary;
            out.record_inconclusive(AssertDetail::of(Finding::MonitorUnavailable { summary }));
            return out;
        }
        for finding in self.findings {
            if self.enforced {
                out.record_fail(AssertDetail::of(finding));
            } else {
                out.note(format!("monitor (not enforced): {finding}"));
            }
        }
        out
    }
}

/// Reads one of the event counters.
type Counter = fn(&ScxEventCounters) -> i64;

/// Returns the index at which the first series of `need` consecutive true values ends; `None` if there is no such series.
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

/// Decides whether the events of a CPU between two samples count.
type Counts = fn(&MonitorSample, &MonitorSample, usize) -> bool;

/// Whether a task that may run on `cpu` waited from one sample to the next. True if the waiting tasks are unknown.
fn someone_waited(before: &MonitorSample, now: &MonitorSample, cpu: usize) -> bool {
    let listed = |s: &MonitorSample| s.cpus.iter().all(|c| c.waiting.is_some());
    if !listed(before) || !listed(now) {
        return true;
    }
    let mut waiting = now.waiting_for(cpu);
    waiting.any(|task| MonitorSample::still_waits(before, task))
}

/// Returns the events per vCPU-second between two samples, over all CPUs. Under the real clock the rate is relative to the CPU
/// time that the host delivered, so that a slow host does not look like a quiet scheduler. Under the virtual clock no vCPU loses
/// guest time to the host, so the rate is relative to guest time. Returns `None` if the counters were not read, or if no time was
/// delivered.
fn event_rate(a: &MonitorSample, b: &MonitorSample, read: Counter, counts: Counts) -> Option<f64> {
    let (mut events, mut cpu_ns) = (0i64, 0u64);
    let guest_ns = b.elapsed_ms.saturating_sub(a.elapsed_ms);
    let guest_ns = guest_ns.saturating_mul(1_000_000);
    for (cpu, (before, now)) in a.cpus.iter().zip(&b.cpus).enumerate() {
        let (first, last) = (
            before.event_counters.as_ref()?,
            now.event_counters.as_ref()?,
        );
        if counts(a, b, cpu) {
            // A counter that decreased was reset when another scheduler was loaded.
            let grown = read(last).saturating_sub(read(first)).max(0);
            events = events.saturating_add(grown);
        }
        let ran = delivered_ns(before, now, guest_ns);
        cpu_ns = cpu_ns.saturating_add(ran);
    }
    (cpu_ns > 0).then(|| events as f64 * 1e9 / cpu_ns as f64)
}

/// Whether the samples look like those of a running kernel: no impossibly deep queue, and clocks that differ.
fn initialised(samples: &[MonitorSample]) -> bool {
    let cpus = || samples.iter().flat_map(|s| &s.cpus);
    let mut clocks = cpus().map(|c| c.rq_clock);
    let first = clocks.next();
    let plausible = cpus().all(|c| c.local_dsq_depth <= IMPLAUSIBLE_DSQ_DEPTH);
    // A single reading cannot differ from another one, and on an idle machine no tick advances the clocks.
    let idled = cpus().all(|c| c.idle == Some(true));
    plausible && (cpus().count() == 1 || idled || clocks.any(|c| Some(c) != first))
}
