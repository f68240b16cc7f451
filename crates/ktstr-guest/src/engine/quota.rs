//! The quotas of CPU time (`cpu.max`) under which workers lived, and the failures that such a quota explains. A worker cannot
//! see that its cgroup is out of quota: it only finds that it did not run. The host decides later, from the exact
//! schedule if there is one, whether the failure stands.

use std::path::Path;

use ktstr_assert::{AssertResult, Finding, Outcome, QuotaEffect, WorkerExitInfo, WorkerReport};

use super::live_scenario::CgroupReports;

/// The CPU time in milliseconds that a task may use before the next task of the CPU runs: sched_ext's default slice
/// (`SCX_SLICE_DFL`, include/linux/sched/ext.h). The slices of the kernel's own schedulers are shorter.
const TURN_MS: f64 = 20.0;

/// The quotas that one cgroup has and had.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Quotas {
    /// The current quota and its period, in microseconds.
    pub now: Option<(u64, u64)>,
    /// The quotient of period and quota for the tightest quota so far: the time that passes for each unit of CPU time that the
    /// quota grants.
    slowdown: f64,
    /// The longest period of a quota so far, in microseconds.
    period_us: u64,
}

impl Quotas {
    /// Records the value that was written to `cpu.max`; `None` for no quota.
    pub(super) fn set(&mut self, quota_us: Option<u64>, period_us: u64) {
        self.now = quota_us.map(|quota_us| (quota_us, period_us));
        if let Some(quota_us) = quota_us {
            let slowdown = period_us as f64 / quota_us.max(1) as f64;
            self.slowdown = self.slowdown.max(slowdown);
            self.period_us = self.period_us.max(period_us);
        }
    }

    /// Returns what these quotas may have done to each task of the cgroup in `folder`, which has `tasks` tasks (`None` if their
    /// number is unknown) on a machine with `cpus` CPUs. Returns `None` if the tasks could not use up any of the quotas.
    pub(super) fn reach(
        &self,
        tasks: Option<usize>,
        cpus: usize,
        folder: &Path,
    ) -> Option<QuotaReach> {
        let at_once = tasks.map_or(cpus, |tasks| tasks.min(cpus));
        if self.period_us == 0 || self.slowdown * at_once as f64 <= 1.0 {
            return None;
        }
        // The tasks take turns, and the tightest quota stretches each turn by the slowdown.
        let round_ms = |tasks| tasks as f64 * TURN_MS * self.slowdown;
        let stat = std::fs::read_to_string(folder.join("cpu.stat")).ok();
        Some(QuotaReach {
            longest_ms: tasks.map(|tasks| self.period_us.div_ceil(1000) + round_ms(tasks) as u64),
            throttled: stat.as_deref().and_then(is_throttled),
        })
    }
}

/// Returns whether the kernel has throttled a cgroup with this `cpu.stat` (Documentation/admin-guide/cgroup-v2.rst); `None` if
/// the file has no line `nr_throttled`.
fn is_throttled(stat: &str) -> Option<bool> {
    let count = |line: &str| line.strip_prefix("nr_throttled ")?.trim().parse().ok();
    stat.lines().find_map(count).map(|count: u64| count > 0)
}

/// What the quotas of a cgroup and of those above it may have done to its workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QuotaReach {
    /// The longest time in milliseconds for which a worker has to wait for CPU time if the tasks share the quota fairly. `None`
    /// if the number of these tasks is unknown.
    longest_ms: Option<u64>,
    /// Whether the kernel throttled one of the cgroups; `None` if that is unknown.
    throttled: Option<bool>,
}

impl QuotaReach {
    /// Combines the reach of two quotas that apply at the same time: a task may have to wait for one and then for the other.
    pub(super) fn and(self, other: Self) -> Self {
        let longest = self.longest_ms.zip(other.longest_ms);
        Self {
            longest_ms: longest.map(|(a, b)| a.saturating_add(b)),
            throttled: self.either(other),
        }
    }

    /// Combines the reach of quotas that apply one after the other.
    pub(super) fn or(self, other: Self) -> Self {
        let longest = self.longest_ms.zip(other.longest_ms);
        Self {
            longest_ms: longest.map(|(a, b)| a.max(b)),
            throttled: self.either(other),
        }
    }

    fn either(self, other: Self) -> Option<bool> {
        match (self.throttled, other.throttled) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        }
    }
}

/// Marks the failures that a quota explains, or may explain. `bpf` states whether a BPF scheduler drives the workers:
/// such a scheduler enforces quotas itself or not at all, and the kernel's count of throttled periods does not show that.
pub(super) fn mark(judged: &mut AssertResult, done: &CgroupReports, bpf: bool) {
    let Some(reach) = done.quota else { return };
    let effect = match (reach.throttled, bpf) {
        (Some(false), false) => return,
        (Some(true), false) => QuotaEffect::Explains,
        (_, true) | (None, false) => QuotaEffect::MayExplain,
    };
    let of = |tid: i32| done.reports.iter().find(|report| report.tid == tid);
    for outcome in &mut judged.outcomes {
        let Outcome::Fail(detail) = outcome else {
            continue;
        };
        let (length_ms, effect) = match detail.finding {
            Finding::Gap { tid, gap_ms, .. } if !of(tid).is_some_and(starved_at_the_end) => {
                (gap_ms, effect)
            }
            // A worker with an `exit` did not stop when it was told to. No quota explains this, because quotas are lifted before
            // workers are told to stop.
            Finding::NoProgress { tid, exit: None } => match of(tid) {
                Some(report) => {
                    let life_ms = report.wall_time_ns / 1_000_000;
                    (life_ms.max(report.max_gap_ms), effect)
                }
                None => continue,
            },
            // A quota is not divided evenly among the CPUs on which the tasks of a cgroup run.
            Finding::Spread { .. } => (0, QuotaEffect::MayExplain),
            Finding::WakeLatency { p99_ns, .. } => (p99_ns / 1_000_000, QuotaEffect::MayExplain),
            _ => continue,
        };
        if reach.longest_ms.is_none_or(|longest| length_ms <= longest) {
            detail.quota = Some(effect);
        }
    }
}

/// Whether the worker's longest gap lasted until the worker was killed because it did not stop. Quotas are lifted at
/// the stop, so no quota explains that gap.
fn starved_at_the_end(report: &WorkerReport) -> bool {
    report.exit_info == Some(WorkerExitInfo::TimedOut)
        && report.max_gap_at_ms > report.wall_time_ns / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::super::live_scenario::{Allowed, Owner};
    use super::*;
    use ktstr_assert::AssertDetail;

    #[test]
    fn the_reach_of_a_quota_grows_with_the_tasks_that_share_it() {
        let nowhere = Path::new("/nowhere");
        let mut quotas = Quotas::default();
        assert_eq!(quotas.reach(Some(4), 4, nowhere), None);
        quotas.set(Some(1_000), 100_000);
        quotas.set(None, 100_000);
        let longest = |tasks| (quotas.reach(tasks, 4, nowhere)).map(|reach| reach.longest_ms);
        // A quota that was lifted still counts. With 1 ms of CPU time per period, a turn of 20 ms takes 20 periods.
        assert_eq!(longest(Some(1)), Some(Some(2_100)));
        assert_eq!(longest(Some(4)), Some(Some(8_100)));
        assert_eq!(longest(None), Some(None));
        // A quota of two CPUs limits neither one task, nor any number of tasks on a machine with two CPUs.
        let mut ample = Quotas::default();
        ample.set(Some(200_000), 100_000);
        assert_eq!(ample.reach(Some(1), 4, nowhere), None);
        assert_eq!(ample.reach(None, 2, nowhere), None);
        assert!(ample.reach(Some(3), 4, nowhere).is_some());
        assert_eq!(is_throttled("usage_usec 7\nnr_throttled 0\n"), Some(false));
        assert_eq!(is_throttled("nr_throttled 3\nx 1\n"), Some(true));
        assert_eq!(is_throttled("usage_usec 7\n"), None);
        let reach = |longest_ms, throttled| QuotaReach {
            longest_ms,
            throttled,
        };
        let (a, b) = (reach(Some(3), Some(false)), reach(Some(4), None));
        assert_eq!(a.and(b), reach(Some(7), None));
        assert_eq!(a.or(b), reach(Some(4), None));
        assert_eq!(a.or(reach(None, Some(true))), reach(None, Some(true)));
    }

    #[test]
    fn a_quota_explains_gaps_up_to_what_it_allows() {
        let marked = |finding: &Finding, throttled, bpf, report: WorkerReport| {
            let mut judged = AssertResult::fail(AssertDetail::of(finding.clone()));
            let done = CgroupReports {
                name: "a".to_owned(),
                owner: Owner::Step,
                allowed: Allowed::All,
                placements: Default::default(),
                quota: Some(QuotaReach {
                    longest_ms: Some(3_000),
                    throttled,
                }),
                forced_moves: 0,
                reports: vec![report],
            };
            mark(&mut judged, &done, bpf);
            judged.failure_details().next().and_then(|d| d.quota)
        };
        let gap = |gap_ms| Finding::Gap {
            tid: 7,
            gap_ms,
            cpu: 0,
            at_ms: 4_000,
            bound_ms: 2_000,
        };
        let idle = Finding::NoProgress { tid: 7, exit: None };
        let report = || WorkerReport {
            tid: 7,
            wall_time_ns: 3_000_000_000,
            ..WorkerReport::default()
        };
        let (explains, may) = (Some(QuotaEffect::Explains), Some(QuotaEffect::MayExplain));
        for (throttled, bpf, effect) in [
            (Some(true), false, explains),
            (Some(false), false, None),
            (None, false, may),
            (Some(true), true, may),
            (Some(false), true, may),
        ] {
            for finding in [&gap(3_000), &idle] {
                assert_eq!(marked(finding, throttled, bpf, report()), effect);
            }
        }
        assert_eq!(marked(&gap(3_001), Some(true), false, report()), None);
        let longer = WorkerReport {
            wall_time_ns: 4_000_000_000,
            ..report()
        };
        assert_eq!(marked(&idle, Some(true), false, longer), None);
        // This worker did not run for the 2.5 s after the stop, when the quota was already lifted.
        let starved = WorkerReport {
            exit_info: Some(WorkerExitInfo::TimedOut),
            max_gap_at_ms: 5_500,
            ..report()
        };
        assert_eq!(marked(&gap(2_500), Some(true), false, starved), None);
        let silent = Finding::NoProgress {
            tid: 7,
            exit: Some(WorkerExitInfo::TimedOut),
        };
        assert_eq!(marked(&silent, Some(true), false, report()), None);
    }
}
