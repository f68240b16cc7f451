//! Computes the metrics of the registry that come from the schedule: for each cgroup in each phase, for each phase,
//! and for the run.

use std::collections::BTreeMap;

use ktstr_assert::metric::BuiltinMetric as B;
use ktstr_assert::{Phase, PhaseBucket, ScenarioStats};
use ktstr_schedule::query::{Numbers, numbers, percentile};

use super::super::verdict::schedule::Seen;

/// Reads the value of a metric; `None` if there is nothing to measure.
type Read = fn(&Numbers) -> Option<f64>;

/// The metrics, and how each is read.
const METRICS: &[(B, Read)] = &[
    (B::ScheduleCpuTimeNs, |n| ns(n.totals.run_ns)),
    (B::ScheduleWaitTimeNs, |n| ns(n.totals.wait_ns)),
    (B::ScheduleThrottledTimeNs, |n| ns(n.totals.throttled_ns)),
    (B::ScheduleSwitches, |n| ns(n.totals.runs)),
    (B::SchedulePreemptions, |n| ns(n.totals.preempted)),
    (B::ScheduleWakeups, |n| ns(n.totals.wakeups)),
    (B::ScheduleMigrations, |n| ns(n.totals.migrations)),
    (B::ScheduleLlcMigrations, |n| ns(n.totals.llc_migrations)),
    (B::ScheduleNodeMigrations, |n| ns(n.totals.node_migrations)),
    (B::ScheduleMedianWaitUs, |n| us(&n.waits_ns, 50.0)),
    (B::ScheduleP99WaitUs, |n| us(&n.waits_ns, 99.0)),
    (B::ScheduleMaxWaitUs, |n| us(&n.waits_ns, 100.0)),
    (B::ScheduleMedianWakeUs, |n| us(&n.wakes_ns, 50.0)),
    (B::ScheduleP99WakeUs, |n| us(&n.wakes_ns, 99.0)),
    (B::ScheduleMaxWakeUs, |n| us(&n.wakes_ns, 100.0)),
    (B::ScheduleIdleBesideWaiterNs, |n| n.wasted_ns.and_then(ns)),
];

/// The functions that have to be observed for `schedule_throttled_time_ns`, the time for which a quota keeps tasks from
/// running. The second one exists from Linux 6.18 on.
const THROTTLES: [&str; 2] = ["tg_throttle_down", "throttle_cfs_rq_work"];

fn ns(count: u64) -> Option<f64> {
    Some(count as f64)
}

/// Returns a percentile of sorted times, converted from nanoseconds to microseconds; `None` if there are no times.
fn us(sorted: &[u64], percent: f64) -> Option<f64> {
    Some(percentile(sorted, percent)? as f64 / 1e3)
}

/// Returns the metrics of the tasks below the cgroup `root`. `known` are the statistics that the guest reported. A cgroup
/// that a worker created is not in them. Its tasks count towards its nearest ancestor in the statistics, or towards the
/// cgroup itself if there is no such ancestor.
pub(in crate::run) fn metrics(
    seen: &Seen,
    root: &str,
    known: Option<&ScenarioStats>,
) -> ScenarioStats {
    let buckets = known.map_or(&[][..], |stats| &stats.phases);
    let known: Vec<&str> = buckets
        .iter()
        .flat_map(|bucket| bucket.per_cgroup.keys())
        .map(String::as_str)
        .collect();
    let shown = |path: &str| {
        let mut above = std::iter::successors(Some(path), |path| {
            path.rsplit_once('/').map(|(above, _)| above)
        });
        let nearest = above.find(|above| known.contains(above));
        nearest.unwrap_or(path).to_owned()
    };
    let missing = |metric: B| match metric {
        B::ScheduleThrottledTimeNs => {
            let missing = &seen.tables.missing;
            !seen.is_exact()
                || missing
                    .iter()
                    .any(|name| THROTTLES.contains(&name.as_str()))
        }
        B::ScheduleIdleBesideWaiterNs => !seen.is_exact(),
        _ => false,
    };
    let mut stats = ScenarioStats::default();
    let mut phases: BTreeMap<u16, PhaseBucket> = BTreeMap::new();
    for ((phase, cgroup), numbers) in numbers(&seen.answers, &seen.tables, root, shown) {
        let values = METRICS
            .iter()
            .filter(|(metric, _)| !missing(*metric))
            .filter_map(|(metric, read)| Some((metric.wire_name().to_owned(), read(&numbers)?)));
        let bucket = phase.map(|phase| {
            let fresh = || PhaseBucket::new(Phase::from(phase));
            phases.entry(phase).or_insert_with(fresh)
        });
        match (bucket, cgroup) {
            (Some(bucket), Some(cgroup)) => {
                bucket
                    .per_cgroup
                    .entry(cgroup)
                    .or_default()
                    .metrics
                    .extend(values);
            }
            (Some(bucket), None) => bucket.metrics.extend(values),
            (None, None) => stats.ext_metrics.extend(values),
            // The statistics have no place for the numbers of a cgroup outside of phases.
            (None, Some(_)) => {}
        }
    }
    stats.phases = phases.into_values().collect();
    stats
}

#[cfg(test)]
mod tests {
    use ktstr_assert::metric::{REGISTRY, Source};
    use ktstr_schedule::query::Answers;
    use ktstr_schedule::{Cgroup, Cpu, Event, Pid, Reason, Schedule, Tables, What, Writer};

    use super::*;

    #[test]
    fn every_metric_of_the_schedule_is_measured() {
        let measured: Vec<&str> = METRICS
            .iter()
            .map(|(metric, _)| metric.wire_name())
            .collect();
        let declared: Vec<&str> = REGISTRY
            .iter()
            .filter(|def| def.source == Source::Schedule)
            .map(|def| def.name)
            .collect();
        assert_eq!(measured, declared);
    }

    fn seen(missing: &[&str]) -> Seen {
        let mut writer = Writer::default();
        let mut push = |time_ns, what| {
            let cpu = Cpu(0);
            writer.push(Event { time_ns, cpu, what });
        };
        for (task, cgroup) in [(Pid(10), 1), (Pid(11), 2)] {
            push(0, What::Cgroup { task, cgroup });
        }
        push(0, What::Phase { number: 1 });
        let switch = |prev, next, reason| What::Switch {
            prev: Pid(prev),
            next: Pid(next),
            reason,
        };
        push(1_000, switch(0, 10, Reason::Idle));
        push(5_000, switch(10, 11, Reason::Preempted));
        push(12_000, switch(11, 10, Reason::Slept));
        push(20_000, What::End {});
        let path = |path: &str| Cgroup {
            path: path.to_owned(),
        };
        let tables = Tables {
            cgroups: [(1, path("/root/cg")), (2, path("/root/cg/made"))].into(),
            missing: missing.iter().map(|name| (*name).to_owned()).collect(),
            ..Tables::default()
        };
        let file = writer.finish(&tables);
        let schedule = Schedule::read(&file).expect("a writer's file can be read");
        let answers = Answers::of(&schedule).expect("a writer's events can be read");
        Seen { answers, tables }
    }

    /// Returns what the guest reported: one cgroup of the test.
    fn reported() -> ScenarioStats {
        let mut bucket = PhaseBucket::new(Phase::step(0));
        bucket
            .per_cgroup
            .insert("cg".to_owned(), Default::default());
        ScenarioStats {
            phases: vec![bucket],
            ..ScenarioStats::default()
        }
    }

    #[test]
    fn a_cgroup_that_a_worker_created_counts_towards_the_workers_cgroup() {
        let stats = metrics(&seen(&[]), "/root", Some(&reported()));
        let of = |name| stats.phase_cgroup_metric(Phase::step(0), "cg", name);
        assert_eq!(of("schedule_cpu_time_ns"), Some(19_000.0));
        assert_eq!(of("schedule_max_wait_us"), Some(7.0));
        assert_eq!(of("schedule_max_wake_us"), None, "nobody was woken");
        assert_eq!(of("schedule_idle_beside_waiter_ns"), None);
        let phase = |name| stats.phase_metric(Phase::step(0), name);
        assert_eq!(phase("schedule_idle_beside_waiter_ns"), Some(0.0));
        assert_eq!(phase("schedule_throttled_time_ns"), Some(0.0));
        assert_eq!(stats.run_metric("schedule_preemptions"), Some(1.0));
        assert_eq!(stats.phases[0].per_cgroup.len(), 1);
        let alone = metrics(&seen(&[]), "/root", None);
        assert_eq!(alone.phases[0].per_cgroup.len(), 2);
    }

    #[test]
    fn metrics_that_a_kernel_does_not_show_are_absent() {
        let stats = metrics(&seen(&["throttle_cfs_rq_work"]), "/root", None);
        assert_eq!(stats.run_metric("schedule_throttled_time_ns"), None);
        assert_eq!(stats.run_metric("schedule_switches"), Some(3.0));
        let mut traced = seen(&[]);
        traced.tables.source = ktstr_schedule::Source::Tracepoints;
        let stats = metrics(&traced, "/root", None);
        for absent in [
            "schedule_throttled_time_ns",
            "schedule_idle_beside_waiter_ns",
        ] {
            assert_eq!(stats.run_metric(absent), None, "{absent}");
        }
        assert_eq!(stats.run_metric("schedule_switches"), Some(3.0));
    }
}
