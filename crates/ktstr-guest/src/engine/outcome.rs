//! Turns the reports of workers into a result: checks, statistics, and one carrier (a [`PhaseCgroupStats`]) per
//! cgroup and phase. The raw samples are bounded, so that the result fits into the mailbox.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use ktstr_assert::{
    Assert, AssertDetail, AssertResult, DetailKind, Finding, Outcome, Phase, PhaseBucket,
    PhaseCgroupStats, ScenarioStats, WorkerExitInfo, WorkerReport, carrier, carriers_by_phase,
};

use super::live_scenario::{CgroupReports, RUNNER};
use super::memory_nodes::name_elsewhere;
use super::quota;
use crate::workers::lowered_from;
use ktstr_assert::check::CgroupNodes;
use ktstr_scenario::topology::TestTopology;

/// Maximum number of raw samples in one carrier. The scalars of a carrier are computed from all samples in any case.
const CARRIER_SAMPLES: usize = 2_000;
/// Maximum number of raw samples in a result. This many samples take about 1 MiB of JSON.
const RESULT_SAMPLES: usize = 80_000;

/// Returns the name of a cgroup in results.
fn shown(name: &str) -> &str {
    if name == RUNNER { "(runner)" } else { name }
}

/// The finding that a worker did no work at all stands only if the worker waited for a CPU for longer than this, in
/// milliseconds. Otherwise something else kept the worker from working.
pub const FIRST_TURN_MS: u64 = 200;
/// The finding that a worker did no work at all is dropped if the worker got at least this much CPU time, in milliseconds, and
/// did not wait for a CPU for longer than it ran. The scheduler then served the worker, and one iteration of its work simply
/// takes longer.
pub const SERVED_MS: u64 = 100;
/// The key of the measurement that names the real-time workers of the backdrop which took most of the time of their CPUs.
/// [`hog_key`] returns the key for those of a step.
pub const HOG_KEY: &str = "workload_hog";

/// Returns the key of the measurement that names the real-time workers which took most of the time of their CPUs in a step.
/// `step` is the label of the step.
pub fn hog_key(step: &str) -> String {
    format!("{HOG_KEY} {step}")
}

/// A real-time worker is a hog if it runs for more than this share of its lifetime. If all real-time workers together run
/// for more than this share of the time of all CPUs that they were on, each of them is a hog.
const HOG_SHARE: f64 = 0.5;

/// Records which real-time workers took most of the time of a CPU, or together most of the time of several CPUs. A scheduler
/// of a lower class cannot give that time to other tasks. `key` is the key of the measurement.
fn name_hogs(result: &mut AssertResult, key: String, done: &[CgroupReports]) {
    let share = |r: &WorkerReport| r.realtime_cpu_ns as f64 / r.wall_time_ns.max(1) as f64;
    let all: Vec<(&str, &WorkerReport)> = done
        .iter()
        .flat_map(|done| done.reports.iter().map(|r| (shown(&done.name), r)))
        .filter(|(_, r)| r.realtime)
        .collect();
    let cpus: BTreeSet<usize> = all
        .iter()
        .flat_map(|(_, r)| &r.cpus_used)
        .copied()
        .collect();
    let together: f64 = all.iter().map(|(_, r)| share(r)).sum();
    let mut hogs = all;
    if together <= HOG_SHARE * cpus.len() as f64 {
        hogs.retain(|(_, r)| share(r) > HOG_SHARE);
    }
    let Some((cgroup, most)) = hogs
        .iter()
        .max_by(|(_, a), (_, b)| share(a).total_cmp(&share(b)))
    else {
        return;
    };
    let cgroups: BTreeSet<&str> = hogs.iter().map(|(cgroup, _)| *cgroup).collect();
    let cgroups: Vec<&str> = cgroups.into_iter().collect();
    let who = match hogs.len() {
        1 => format!("1 real-time worker of cgroup {cgroup} took the CPUs that it was on"),
        count => format!(
            "{count} real-time workers of cgroup {} took the CPUs that they were on",
            cgroups.join(", ")
        ),
    };
    let (tid, percent, on) = (most.tid, 100.0 * share(most), &most.cpus_used);
    result.note_value(
        key,
        format!("{who}; tid {tid} ran {percent:.0} % of its time on CPUs {on:?}"),
    );
}

/// What workers are judged by.
pub(super) struct By<'a> {
    pub checks: &'a Assert,
    pub topo: &'a TestTopology,
    /// Whether a BPF scheduler drives the workers.
    pub bpf: bool,
}

/// Judges workers that lived in one step, with one carrier for each cgroup.
pub(super) fn judge(
    result: &mut AssertResult,
    by: &By<'_>,
    ordinal: u16,
    done: Vec<CgroupReports>,
) {
    name_hogs(result, hog_key(&Phase::from(ordinal).label()), &done);
    for done in done {
        let mut carrier = carrier(&done.reports);
        if !carrier.numa_pages.is_empty() {
            carrier.set_local_nodes(&nodes(by.topo, &done).expected);
        }
        add_carrier(result, Phase::from(ordinal), shown(&done.name), carrier);
        check(result, by, &done);
    }
}

/// Judges workers of the backdrop, with one carrier for each cgroup and phase.
pub(super) fn judge_backdrop(result: &mut AssertResult, by: &By<'_>, done: Vec<CgroupReports>) {
    name_hogs(result, HOG_KEY.to_owned(), &done);
    for done in done {
        for (phase, mut carrier) in carriers_by_phase(&done.reports) {
            if !carrier.numa_pages.is_empty() {
                carrier.set_local_nodes(&nodes(by.topo, &done).expected);
            }
            add_carrier(result, Phase::from(phase), shown(&done.name), carrier);
        }
        check(result, by, &done);
    }
}

/// Returns the machine's nodes as a cgroup sees them: its pages are expected on the nodes of its CPUs.
fn nodes(topo: &TestTopology, done: &CgroupReports) -> CgroupNodes {
    let all = topo.numa_node_ids();
    let memory_only = |node: &usize| topo.is_memory_only(*node);
    let expected = match done.allowed.cpus() {
        Some(cpus) => topo.numa_nodes_for_cpuset(cpus),
        None => all.iter().copied().filter(|n| !memory_only(n)).collect(),
    };
    CgroupNodes {
        expected,
        memory_only: all.into_iter().filter(memory_only).collect(),
    }
}

fn check(result: &mut AssertResult, by: &By<'_>, done: &CgroupReports) {
    let name = shown(&done.name);
    let cpus = done.allowed.cpus();
    let nodes = nodes(by.topo, done);
    let mut judged = by
        .checks
        .assert_cgroup_on(&done.reports, cpus, Some(&nodes));
    if done
        .reports
        .iter()
        .any(|report| !report.numa_pages.is_empty())
    {
        name_elsewhere(&mut judged, name, &done.placements, &nodes.expected);
    }
    for cgroup in &mut judged.stats.cgroups {
        name.clone_into(&mut cgroup.cgroup_name);
    }
    acquit_of_gaps(&mut judged, &done.reports);
    acquit_of_forced_moves(&mut judged, done.forced_moves);
    quota::mark(&mut judged, done, by.bpf);
    for outcome in &mut judged.outcomes {
        if let Outcome::Fail(detail) | Outcome::Inconclusive(detail) = outcome {
            detail.cgroup = Some(name.to_owned().into());
        }
    }
    report_ends(&mut judged, Some(name), &done.reports);
    result.merge(judged);
}

/// Records what workers could not do, and how they ended if they left no complete report. `cgroup` is the name of their cgroup.
pub(crate) fn report_ends(
    judged: &mut AssertResult,
    cgroup: Option<&str>,
    reports: &[WorkerReport],
) {
    let place = cgroup.map_or_else(String::new, |name| format!("cgroup {name}: "));
    // Workers with the same priority share one note.
    let lowered = reports.iter().filter_map(|report| report.lowered_from);
    for priority in lowered.collect::<BTreeSet<_>>() {
        judged.note(format!("{place}{}", lowered_from(priority)));
    }
    for report in reports {
        // A worker on other CPUs, or under another policy, than the test declares competes with other tasks than the test means.
        let refused = [&report.affinity_error, &report.sched_policy_error];
        for error in refused.into_iter().flatten() {
            let of = cgroup.map_or_else(String::new, |name| format!(" of cgroup {name}"));
            let mut detail = AssertDetail::of(Finding::SetUp {
                stage: format!("the set-up of worker {}{of}", report.tid),
                error: error.clone(),
            });
            detail.cgroup = cgroup.map(|name| name.to_owned().into());
            judged.record_fail(detail);
        }
        // A worker that did not do the work that the test declares makes the other workers' results meaningless, so the run fails
        // whatever its checks are. Workers that an operation of the test killed have no report. A worker that did not report in
        // time only adds a note, because this can also happen if the test ran as declared.
        let failed = match &report.exit_info {
            None => continue,
            Some(WorkerExitInfo::WaitFailed(why)) => format!(": {why}"),
            Some(WorkerExitInfo::Panicked(why)) => format!(" panicked: {why}"),
            Some(WorkerExitInfo::Exited(code)) => {
                format!(" exited with status {code} before it was stopped")
            }
            Some(WorkerExitInfo::Signaled(signal)) => {
                let (tid, signal) = (report.tid, *signal);
                let mut detail = AssertDetail::of(Finding::WorkerKilled { tid, signal });
                detail.cgroup = cgroup.map(|name| name.to_owned().into());
                judged.record_fail(detail);
                continue;
            }
            Some(info @ WorkerExitInfo::TimedOut) => {
                judged.note(format!(
                    "{place}worker {} left no report: {info}. Its work until its last checkpoint counts. Metrics \
                     that need its CPU time leave it out, because that time is unknown",
                    report.tid
                ));
                continue;
            }
        };
        let text = format!("{place}worker {}{failed}", report.tid);
        let mut detail = AssertDetail::new(DetailKind::Other, text);
        detail.cgroup = cgroup.map(|name| name.to_owned().into());
        judged.record_fail(detail);
    }
}

/// Turns the finding of a gap into a note if the worker cannot have waited long for a CPU in the gap. The finding that a
/// worker did no work at all is treated in the same way; it also becomes a note if the worker got CPU time ([`SERVED_MS`]).
/// The kernel counts how long a task was runnable without a CPU (`run_delay` in /proc/PID/schedstat). If this sum over the
/// worker's whole life is at most the bound, waits for a CPU alone cannot exceed the bound: for the rest of the gap the worker
/// slept, blocked, was frozen or throttled, or worked on something long. The exact schedule shows this more precisely, but a
/// run under the real clock has no exact schedule.
pub(crate) fn acquit_of_gaps(judged: &mut AssertResult, reports: &[WorkerReport]) {
    let mut notes = Vec::new();
    judged.outcomes.retain(|outcome| {
        let Outcome::Fail(detail) = outcome else {
            return true;
        };
        let (tid, gap_ms, bound_ms) = match detail.finding {
            Finding::Gap {
                tid,
                gap_ms,
                bound_ms,
                ..
            } => (tid, Some(gap_ms), bound_ms),
            Finding::NoProgress { tid, exit: None } => (tid, None, FIRST_TURN_MS),
            _ => return true,
        };
        let report = reports
            .iter()
            .find(|r| r.tid == tid && r.exit_info.is_none());
        // A worker that waited for longer than it ran may lack CPU time, even if it had some.
        let served = report.filter(|r| r.waited_ns.is_some_and(|waited| waited <= r.cpu_time_ns));
        let ran_ms = served.map_or(0, |r| r.cpu_time_ns / 1_000_000);
        if gap_ms.is_none() && ran_ms >= SERVED_MS {
            notes.push(format!(
                "worker {tid} got nothing done, but it ran for {ran_ms} ms: its work takes longer"
            ));
            return false;
        }
        let Some(waited_ns) = report.and_then(|r| r.waited_ns) else {
            return true;
        };
        let waited_ms = waited_ns / 1_000_000;
        if waited_ms > bound_ms {
            return true;
        }
        let how_long = gap_ms.map_or_else(String::new, |ms| format!(" for {ms} ms"));
        notes.push(format!(
            "worker {tid} got nothing done{how_long}, but it waited for a CPU for {waited_ms} ms in its whole life: it was asleep, \
             blocked, frozen, out of quota or at work"
        ));
        false
    });
    for note in notes {
        judged.note(note);
    }
}

/// Turns the finding that workers migrated too often into a note if it does not stand without the migrations that the test itself
/// may have forced, by changes of affinities and cpusets and by taking CPUs offline.
fn acquit_of_forced_moves(judged: &mut AssertResult, forced: u64) {
    let mut notes = Vec::new();
    judged.outcomes.retain(|outcome| {
        let Outcome::Fail(detail) = outcome else {
            return true;
        };
        let Finding::Migrations {
            migrations,
            iterations,
            bound,
            ..
        } = detail.finding
        else {
            return true;
        };
        let own = migrations.saturating_sub(forced) as f64 / iterations.max(1) as f64;
        if own <= bound {
            notes.push(format!(
                "{}: the test itself may have forced up to {forced} of them by changes of the workers' CPUs",
                detail.message
            ));
        }
        own > bound
    });
    for note in notes {
        judged.note(note);
    }
}

fn add_carrier(result: &mut AssertResult, phase: Phase, name: &str, carrier: PhaseCgroupStats) {
    let mut bucket = PhaseBucket::new(phase);
    bucket.per_cgroup.insert(name.to_owned(), carrier);
    add_bucket(result, bucket);
}

/// Records when a step was held. The reports of workers do not tell this: the workers of the step live longer than the hold at
/// both ends, and a worker of the backdrop notices the start of a step only when it next runs.
pub(super) fn add_window(result: &mut AssertResult, phase: Phase, ms: RangeInclusive<u64>) {
    let bucket = PhaseBucket {
        start_ms: *ms.start(),
        end_ms: *ms.end(),
        ..PhaseBucket::new(phase)
    };
    add_bucket(result, bucket);
}

fn add_bucket(result: &mut AssertResult, bucket: PhaseBucket) {
    result.stats.merge(ScenarioStats {
        phases: vec![bucket],
        ..ScenarioStats::default()
    });
}

/// Removes raw samples, so that the result fits into the mailbox. A carrier with more than `CARRIER_SAMPLES` samples loses all of
/// them. If more than `RESULT_SAMPLES` samples are still left, the largest of the other carriers lose all of their samples, too.
pub(super) fn bound(result: &mut AssertResult) {
    let mut carriers: Vec<&mut PhaseCgroupStats> = result
        .stats
        .phases
        .iter_mut()
        .flat_map(|bucket| bucket.per_cgroup.values_mut())
        .collect();
    carriers.sort_by_key(|c| c.kept());
    let mut kept = 0;
    for carrier in carriers {
        let own = carrier.kept();
        if own > CARRIER_SAMPLES || kept + own > RESULT_SAMPLES {
            carrier.strip();
        } else {
            kept += own;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::live_scenario::{Allowed, Owner};
    use super::*;

    /// Creates the report of a real-time worker on these CPUs that ran for `percent` of its lifetime.
    fn real_time(tid: i32, percent: u64, cpus: &[usize]) -> WorkerReport {
        WorkerReport {
            tid,
            realtime: true,
            cpu_time_ns: 990_000_000,
            realtime_cpu_ns: percent * 10_000_000,
            wall_time_ns: 1_000_000_000,
            cpus_used: cpus.iter().copied().collect(),
            ..WorkerReport::default()
        }
    }

    #[test]
    fn a_gap_without_a_wait_for_a_cpu_is_a_note() {
        let gap = Finding::Gap {
            tid: 7,
            gap_ms: 3000,
            cpu: 0,
            at_ms: 4000,
            bound_ms: 2000,
        };
        let judged_of = |finding: &Finding, report: WorkerReport| {
            let mut result = AssertResult::fail(AssertDetail::of(finding.clone()));
            acquit_of_gaps(&mut result, &[report]);
            (result.is_fail(), result.info_notes.len())
        };
        let judged = |report| judged_of(&gap, report);
        let waited = |ms: u64| WorkerReport {
            tid: 7,
            waited_ns: Some(ms * 1_000_000),
            ..WorkerReport::default()
        };
        assert_eq!(judged(waited(2000)), (false, 1));
        assert_eq!(judged(waited(2001)), (true, 0));
        let idle = Finding::NoProgress { tid: 7, exit: None };
        assert_eq!(judged_of(&idle, waited(200)), (false, 1));
        assert_eq!(judged_of(&idle, waited(201)), (true, 0));
        let ran = |ms: u64, waited_ms| WorkerReport {
            cpu_time_ns: ms * 1_000_000,
            ..waited(waited_ms)
        };
        assert_eq!(judged_of(&idle, ran(300, 300)), (false, 1));
        // This worker waited for longer than it ran, so it may lack CPU time.
        assert_eq!(judged_of(&idle, ran(300, 301)), (true, 0));
        let not_measured = WorkerReport {
            waited_ns: None,
            ..waited(0)
        };
        assert_eq!(judged(not_measured), (true, 0));
        let incomplete = WorkerReport {
            exit_info: Some(WorkerExitInfo::TimedOut),
            ..waited(0)
        };
        assert_eq!(judged(incomplete), (true, 0));
        assert_eq!(
            judged(WorkerReport {
                tid: 8,
                ..waited(0)
            }),
            (true, 0)
        );
    }

    #[test]
    fn migrations_that_the_test_forced_are_a_note() {
        let judged = |forced| {
            let mut result = AssertResult::fail(AssertDetail::of(Finding::Migrations {
                migrations: 103,
                iterations: 1000,
                ratio: 0.103,
                bound: 0.05,
            }));
            acquit_of_forced_moves(&mut result, forced);
            (result.is_fail(), result.info_notes.len())
        };
        assert_eq!(judged(0), (true, 0));
        assert_eq!(judged(52), (true, 0));
        assert_eq!(judged(53), (false, 1));
    }

    #[test]
    fn a_worker_that_was_not_set_up_or_was_killed_fails_the_run_and_a_late_one_does_not() {
        let of = |report: WorkerReport| {
            let mut result = AssertResult::pass();
            report_ends(&mut result, Some("a"), &[WorkerReport { tid: 7, ..report }]);
            let first = result.failure_details().next().cloned();
            first.map(|detail| (detail.finding, detail.cgroup))
        };
        let ended = |exit_info, affinity_error| {
            of(WorkerReport {
                exit_info,
                affinity_error,
                ..WorkerReport::default()
            })
        };
        let cgroup = || Some("a".into());
        let set_up = Finding::SetUp {
            stage: "the set-up of worker 7 of cgroup a".to_owned(),
            error: "no".to_owned(),
        };
        let set_up = Some((set_up, cgroup()));
        assert_eq!(ended(None, Some("no".to_owned())), set_up);
        let other_policy = WorkerReport {
            sched_policy_error: Some("no".to_owned()),
            ..WorkerReport::default()
        };
        assert_eq!(of(other_policy), set_up);
        let lower_priority = WorkerReport {
            lowered_from: Some(99),
            ..WorkerReport::default()
        };
        assert_eq!(of(lower_priority), None);
        let killed = Finding::WorkerKilled { tid: 7, signal: 9 };
        let signaled = Some(WorkerExitInfo::Signaled(9));
        assert_eq!(ended(signaled, None), Some((killed, cgroup())));
        assert_eq!(ended(Some(WorkerExitInfo::TimedOut), None), None);
        assert_eq!(ended(None, None), None);
    }

    #[test]
    fn hogs_are_named_alone_and_together() {
        let named = |cgroups: &[(&str, &[WorkerReport])]| {
            let done: Vec<CgroupReports> = cgroups
                .iter()
                .map(|(name, reports)| CgroupReports {
                    name: (*name).to_owned(),
                    owner: Owner::Backdrop,
                    allowed: Allowed::All,
                    placements: BTreeSet::new(),
                    quota: None,
                    forced_moves: 0,
                    reports: reports.to_vec(),
                })
                .collect();
            let mut result = AssertResult::pass();
            name_hogs(&mut result, HOG_KEY.to_owned(), &done);
            result.measurements.get(HOG_KEY).map(ToString::to_string)
        };
        let hog = named(&[("a", &[real_time(7, 90, &[1])])]).expect("a hog");
        assert!(hog.contains("1 real-time worker of cgroup a took"), "{hog}");
        assert_eq!(named(&[("a", &[real_time(7, 40, &[0, 1])])]), None);
        // Three workers that each run for 40 % of the time take 1.2 of two CPUs, more than half. Two such workers take 0.8.
        let two = [7, 8].map(|tid| real_time(tid, 40, &[0, 1]));
        let all = named(&[("a", &two), ("b", &[real_time(9, 40, &[0])])]).expect("hogs");
        assert!(all.contains("3 real-time workers of cgroup a, b"), "{all}");
        assert_eq!(named(&[("a", &two)]), None, "two workers are below half");
    }

    #[test]
    fn large_carriers_keep_their_scalars_only() {
        let mut result = AssertResult::pass();
        for (name, count) in [("small", 10), ("large", CARRIER_SAMPLES + 1)] {
            let carrier = PhaseCgroupStats {
                num_workers: 1,
                wake_latencies_ns: vec![5_000; count],
                wake_sample_total: count as u64,
                ..PhaseCgroupStats::default()
            };
            add_carrier(&mut result, Phase::step(0), name, carrier);
        }
        bound(&mut result);
        let bucket = &result.stats.phases[0];
        assert_eq!((bucket.step_index, bucket.label.as_str()), (1, "Step[0]"));
        assert!(!bucket.per_cgroup["small"].stripped);
        let large = &bucket.per_cgroup["large"];
        assert!(large.stripped && large.wake_latencies_ns.is_empty());
        assert_eq!(large.get("p99_wake_latency_us"), Some(5.0));
    }

    #[test]
    fn the_sum_is_bounded_too() {
        let mut result = AssertResult::pass();
        for i in 0..100 {
            let carrier = PhaseCgroupStats {
                run_delays_ns: vec![1; CARRIER_SAMPLES],
                ..PhaseCgroupStats::default()
            };
            add_carrier(&mut result, Phase::step(i), "cg", carrier);
        }
        bound(&mut result);
        let left: usize = result
            .stats
            .phases
            .iter()
            .flat_map(|b| b.per_cgroup.values())
            .map(PhaseCgroupStats::kept)
            .sum();
        assert!(left <= RESULT_SAMPLES && left > RESULT_SAMPLES / 2);
    }
}
