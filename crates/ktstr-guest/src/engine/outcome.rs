//! From collected workers to what the result says of them: checks, statistics, one carrier a
//! cgroup and phase, all of it small enough for the mailbox.

use std::ops::RangeInclusive;

use ktstr_assert::{
    Assert, AssertDetail, AssertResult, DetailKind, Outcome, Phase, PhaseBucket, PhaseCgroupStats,
    ScenarioStats, WorkerExitInfo, carrier, carriers_by_phase,
};

use super::scene::{Done, RUNNER};
use ktstr_assert::check::CgroupNodes;
use ktstr_scenario::topology::TestTopology;

/// Raw samples kept in one carrier; its scalars are made from all of them either way.
const CARRIER_SAMPLES: usize = 2_000;
/// Raw samples kept in a result: some 1 MiB of JSON.
const RESULT_SAMPLES: usize = 80_000;

/// Name of a cgroup in results.
fn shown(name: &str) -> &str {
    if name == RUNNER { "(runner)" } else { name }
}

/// Key of the measurement that says which workers left the others no CPU.
pub const HOG_KEY: &str = "workload_hog";
/// Share of its life that a real-time worker has to run to be called a hog.
const HOG_SHARE: f64 = 0.5;

/// Says which real-time workers took most of a CPU: no scheduler of other classes can give
/// anybody what these take.
fn name_hogs(result: &mut AssertResult, done: &[Done]) {
    for done in done {
        let hogs: Vec<_> = done
            .reports
            .iter()
            .filter(|r| r.realtime && r.cpu_time_ns as f64 > HOG_SHARE * r.wall_time_ns as f64)
            .collect();
        if let Some(first) = hogs.first() {
            let share = 100.0 * first.cpu_time_ns as f64 / first.wall_time_ns.max(1) as f64;
            result.note_value(
                HOG_KEY,
                format!(
                    "{} real-time workers of cgroup {} took what CPUs they were on; tid {} ran \
                     {share:.0} % of its time on CPUs {:?}",
                    hogs.len(),
                    shown(&done.name),
                    first.tid,
                    first.cpus_used
                ),
            );
        }
    }
}

/// Judges workers that lived in one step, with one carrier each cgroup.
pub(super) fn judge(
    result: &mut AssertResult,
    checks: &Assert,
    topo: &TestTopology,
    ordinal: u16,
    done: Vec<Done>,
) {
    name_hogs(result, &done);
    for done in done {
        let mut carrier = carrier(&done.reports);
        if !carrier.numa_pages.is_empty() {
            carrier.set_local_nodes(&nodes(topo, &done).expected);
        }
        add_carrier(result, Phase::from(ordinal), shown(&done.name), carrier);
        check(result, checks, topo, &done);
    }
}

/// Judges workers of the backdrop, with one carrier each cgroup and phase.
pub(super) fn judge_backdrop(
    result: &mut AssertResult,
    checks: &Assert,
    topo: &TestTopology,
    done: Vec<Done>,
) {
    name_hogs(result, &done);
    for done in done {
        for (phase, carrier) in carriers_by_phase(&done.reports) {
            add_carrier(result, Phase::from(phase), shown(&done.name), carrier);
        }
        check(result, checks, topo, &done);
    }
}

/// The nodes of a machine as a cgroup sees them: its pages are expected beside its CPUs.
fn nodes(topo: &TestTopology, done: &Done) -> CgroupNodes {
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

fn check(result: &mut AssertResult, checks: &Assert, topo: &TestTopology, done: &Done) {
    let name = shown(&done.name);
    let cpus = done.allowed.cpus();
    let mut judged = checks.assert_cgroup_on(&done.reports, cpus, &nodes(topo, done));
    for cgroup in &mut judged.stats.cgroups {
        name.clone_into(&mut cgroup.cgroup_name);
    }
    for outcome in &mut judged.outcomes {
        if let Outcome::Fail(detail) | Outcome::Inconclusive(detail) = outcome {
            detail.cgroup = Some(name.to_owned().into());
        }
    }
    for report in &done.reports {
        let errors = [&report.affinity_error, &report.sched_policy_error];
        for error in errors.into_iter().flatten() {
            judged.note(format!("cgroup {name}: {error}"));
        }
        if let Some(WorkerExitInfo::WaitFailed(why)) = &report.exit_info {
            // It did not do what the test says, so whatever the others did is no answer.
            let mut detail = AssertDetail::new(
                DetailKind::Other,
                format!("cgroup {name}: worker {}: {why}", report.tid),
            );
            detail.cgroup = Some(name.to_owned().into());
            judged.record_fail(detail);
        } else if let Some(info) = &report.exit_info {
            judged.note(format!(
                "cgroup {name}: worker {} left no report: {info:?}",
                report.tid
            ));
        }
    }
    result.merge(judged);
}

fn add_carrier(result: &mut AssertResult, phase: Phase, name: &str, carrier: PhaseCgroupStats) {
    let mut bucket = PhaseBucket::new(phase);
    bucket.per_cgroup.insert(name.to_owned(), carrier);
    add_bucket(result, bucket);
}

/// Says when a step was held: the lives of workers reach beyond it at both ends, since a worker sees that a step has
/// begun when it is on a CPU next.
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

fn samples(c: &PhaseCgroupStats) -> usize {
    c.wake_latencies_ns.len()
        + c.timer_latencies_ns.len()
        + c.run_delays_ns.len()
        + c.off_cpu_pcts.len()
}

/// Strips carriers until the result fits: first those that are large, then the largest.
pub(super) fn bound(result: &mut AssertResult) {
    let mut carriers: Vec<&mut PhaseCgroupStats> = result
        .stats
        .phases
        .iter_mut()
        .flat_map(|bucket| bucket.per_cgroup.values_mut())
        .collect();
    carriers.sort_by_key(|c| samples(c));
    let mut kept = 0;
    for carrier in carriers {
        let own = samples(carrier);
        if own > CARRIER_SAMPLES || kept + own > RESULT_SAMPLES {
            carrier.strip();
        } else {
            kept += own;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            .map(samples)
            .sum();
        assert!(left <= RESULT_SAMPLES && left > RESULT_SAMPLES / 2);
    }
}
