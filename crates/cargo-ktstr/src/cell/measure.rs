//! The metrics by which a run is compared with another. They come from the exact schedule during the holds of the
//! steps, and from the reports of the workers. They are about the workload's tasks, except `wasted`, which is the idle CPU time
//! that any waiting task could have used, whether or not the task belongs to the workload.

use std::collections::BTreeMap;

use ktstr::assert::ScenarioStats;
use ktstr_schedule::query::{Answers, Totals, Wait, WaitCause, measures, percentile};
use ktstr_schedule::{Schedule, Tables};

use super::Gate;

/// The smallest difference that matters, as a share of the value, for every metric.
pub const LEAST_SHARE: f64 = 0.01;
/// The smallest number of wake-ups for which percentiles of their waits are computed: a 99th percentile needs that many.
const LEAST_WAKEUPS: usize = 100;

/// Which direction of the metric is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Smaller values are better.
    Lower,
    /// Larger values are better.
    Higher,
    /// Neither direction is better: a difference is reported without a judgement.
    Neither,
}

/// A metric of a run.
#[derive(Debug)]
pub struct Metric {
    /// The name of the metric in tables and files.
    pub name: &'static str,
    /// The unit of the values; empty for a plain number.
    pub unit: &'static str,
    /// Which direction of the metric is better.
    pub better: Better,
    /// The first of two conditions for a single run to be slower than another: it is worse by at least this share of the
    /// other's value.
    pub slower_share: f64,
    /// The second condition: it is worse by at least this many units.
    pub slower_by: f64,
    /// The smallest difference, in the metric's unit, that matters to `compare`. A smaller one never does, even if significant.
    pub least: f64,
    /// Computes the metric; `None` if the run has too little data for it.
    of: fn(&Seen<'_>) -> Option<f64>,
}

/// The parts of a run from which the metrics are computed.
struct Seen<'a> {
    answers: &'a Answers,
    tables: &'a Tables,
    root: &'a str,
    /// Sums over the workload's tasks during the holds of all steps.
    totals: Totals,
    /// The waits after wake-ups in nanoseconds, shortest first.
    wakes: Vec<u64>,
    stats: &'a ScenarioStats,
}

/// All metrics of a run, in the order of the tables.
pub const METRICS: &[Metric] = &[
    Metric {
        name: "run_delay",
        unit: "ms/CPU-s",
        better: Better::Lower,
        slower_share: 0.2,
        slower_by: 50.0,
        least: 2.0,
        of: |seen| per_second(seen, seen.totals.wait_ns as f64 / 1e6),
    },
    Metric {
        name: "wake_p50",
        unit: "µs",
        better: Better::Lower,
        slower_share: 0.5,
        slower_by: 500.0,
        least: 5.0,
        of: |seen| wake(seen, 50.0),
    },
    Metric {
        name: "wake_p99",
        unit: "µs",
        better: Better::Lower,
        slower_share: 0.5,
        slower_by: 2000.0,
        least: 50.0,
        of: |seen| wake(seen, 99.0),
    },
    Metric {
        name: "worst_share",
        unit: "",
        better: Better::Higher,
        slower_share: 0.2,
        slower_by: 0.1,
        least: 0.01,
        of: |seen| {
            let worst = measures(seen.answers, seen.tables, seen.root).cgroup;
            // More than the full entitlement is no better than the full entitlement.
            worst.as_ref().map(|worst| worst.ratio().min(1.0))
        },
    },
    Metric {
        name: "wasted",
        unit: "ms/CPU-s",
        better: Better::Lower,
        slower_share: 0.5,
        slower_by: 30.0,
        least: 2.0,
        of: |seen| {
            let wasted = seen.answers.wasted_ns.iter();
            let wasted: u64 = wasted
                .filter(|(phase, _)| phase.is_some())
                .map(|w| w.1)
                .sum();
            per_second(seen, wasted as f64 / 1e6)
        },
    },
    Metric {
        name: "migrations",
        unit: "/CPU-s",
        better: Better::Lower,
        slower_share: 1.0,
        slower_by: 200.0,
        least: 1.0,
        of: |seen| per_second(seen, seen.totals.migrations as f64),
    },
    Metric {
        name: "slice",
        unit: "µs",
        better: Better::Neither,
        slower_share: f64::INFINITY,
        slower_by: f64::INFINITY,
        least: 20.0,
        of: |seen| {
            let runs = seen.totals.runs;
            (runs > 0).then(|| seen.totals.run_ns as f64 / runs as f64 / 1e3)
        },
    },
    Metric {
        name: "iterations",
        unit: "",
        better: Better::Higher,
        slower_share: 0.1,
        slower_by: 100.0,
        least: 10.0,
        of: |seen| Some(seen.stats.total_iterations as f64),
    },
];

impl Metric {
    /// Returns the default gate: a difference matters if it is at least [`LEAST_SHARE`] of the value and at least
    /// [`Metric::least`] units.
    pub const fn gate(&self) -> Gate {
        Gate {
            least: self.least,
            share: LEAST_SHARE,
        }
    }

    /// Returns whether `value` is so much worse than `other` that a single run of each shows the difference.
    pub fn slower(&self, value: f64, other: f64) -> bool {
        let worse = match self.better {
            Better::Lower => value - other,
            Better::Higher => other - value,
            Better::Neither => return false,
        };
        worse >= self.slower_by && worse >= self.slower_share * other.abs()
    }
}

fn per_second(seen: &Seen<'_>, amount: f64) -> Option<f64> {
    (seen.totals.run_ns > 0).then(|| amount / (seen.totals.run_ns as f64 / 1e9))
}

fn wake(seen: &Seen<'_>, percent: f64) -> Option<f64> {
    let enough = seen.wakes.len() >= LEAST_WAKEUPS;
    let ns = percentile(&seen.wakes, percent).filter(|_| enough)?;
    Some(ns as f64 / 1e3)
}

/// Computes the metrics from `file`, the bytes of a schedule, and the workers' `stats`, for the tasks below the cgroup `root`. A
/// metric for which there is too little data is left out, and a schedule that is unreadable or has gaps yields no metrics at all.
pub fn measure(file: &[u8], root: &str, stats: &ScenarioStats) -> BTreeMap<String, f64> {
    let read = || {
        let schedule = Schedule::read(file).ok()?;
        let answers = Answers::of(&schedule).ok()?;
        (answers.missing_ns == 0).then(|| {
            let tables = schedule.tables();
            let below = |id: Option<u64>| {
                let path = id.and_then(|id| tables.cgroups.get(&id));
                path.is_some_and(|cgroup| {
                    let rest = cgroup.path.strip_prefix(root);
                    rest.is_some_and(|rest| rest.starts_with('/'))
                })
            };
            let seen = Seen {
                totals: answers.sum(|key| key.phase.is_some() && below(key.cgroup)),
                wakes: wakes(&answers, below),
                answers: &answers,
                tables,
                root,
                stats,
            };
            let measured = METRICS.iter().filter_map(|metric| {
                let value = (metric.of)(&seen).filter(|value| value.is_finite())?;
                Some((metric.name.to_owned(), value))
            });
            measured.collect()
        })
    };
    read().unwrap_or_default()
}

/// Returns the lengths in nanoseconds, shortest first, of the waits after wake-ups in the steps, for tasks whose cgroup `below`
/// accepts. A wait that a step's end cuts off counts with its length until then, because it may be the longest of all.
fn wakes(answers: &Answers, below: impl Fn(Option<u64>) -> bool) -> Vec<u64> {
    let all = answers.waits.iter().chain(&answers.open_waits);
    let woken = all.filter(|wait| {
        wait.cause == WaitCause::Woken && wait.phase.is_some() && below(wait.cgroup)
    });
    let mut lengths: Vec<u64> = woken.map(Wait::len_ns).collect();
    lengths.sort_unstable();
    lengths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(name: &str) -> &'static Metric {
        let found = METRICS.iter().find(|metric| metric.name == name);
        found.expect("a metric")
    }

    #[test]
    fn slower_is_worse_by_its_share_and_by_its_units() {
        let wake = metric("wake_p99");
        assert!(wake.slower(9_000.0, 1_000.0));
        assert!(!wake.slower(2_500.0, 1_000.0), "1.5 ms are too little");
        assert!(!wake.slower(12_500.0, 10_000.0), "25 % are too little");
        assert!(!wake.slower(1_000.0, 9_000.0), "faster");
        let share = metric("worst_share");
        assert!(share.slower(0.5, 0.9) && !share.slower(0.9, 0.5));
        let slice = metric("slice");
        assert!(!slice.slower(9e9, 1.0) && !slice.slower(0.0, 9e9));
    }

    #[test]
    fn differences_below_the_gate_do_not_count() {
        let wake = metric("wake_p99").gate();
        assert!(wake.counts(100.0, 10_000.0) && wake.counts(-100.0, 10_000.0));
        assert!(!wake.counts(99.0, 10_000.0), "below a hundredth");
        assert!(!wake.counts(49.0, 1_000.0), "below 50 µs");
        assert!(
            metric("wasted").gate().counts(2.0, 0.0) && !metric("wasted").gate().counts(1.9, 0.0)
        );
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = METRICS.iter().map(|m| m.name).collect();
        assert_eq!(names.len(), METRICS.len());
    }

    #[test]
    fn an_unreadable_schedule_gives_no_metrics() {
        let stats = ScenarioStats {
            total_iterations: 7,
            ..ScenarioStats::default()
        };
        assert!(measure(b"no schedule", "/ktstr", &stats).is_empty());
    }
}
