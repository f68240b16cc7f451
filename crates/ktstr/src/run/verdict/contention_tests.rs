//! Tests of what a busy host explains. The host is blamed only if its contention explains all failures.

use ktstr_assert::monitor::CpuSnapshot;
use ktstr_assert::{DetailKind, SchedulerEnd};

use super::super::tests::{CASE, NO_LOGS, judged};
use super::*;

/// Returns a host on which the vCPUs waited `times` times as long as they ran.
fn busy(times: u64) -> Contention<'static> {
    Contention {
        run: HostVcpuSchedstat {
            total_on_cpu_ns: 2_000_000_000,
            total_run_delay_ns: 2_000_000_000 * times,
            longest_run_delay_ns: 1_000_000_000 * times,
            host_steal_ns: 0,
            sampled_vcpus: 2,
        },
        samples: &[],
        stall_timeout: Duration::from_secs(5),
        own_watchdog: false,
    }
}

fn unfair() -> AssertDetail {
    AssertDetail::new(DetailKind::Unfair, "unfair cgroup: spread=40%")
}

#[test]
fn a_busy_host_is_blamed_for_what_it_explains() {
    let mut judgement = judged(vec![unfair()]);
    downgrade_if_contended(&mut judgement, &CASE, NO_LOGS, &busy(1));
    assert!(judgement.result.is_inconclusive());
    assert_eq!(judgement.fault, Some(Fault::Host));
    assert_eq!(
        judgement.evidence.as_deref(),
        Some(
            "the host was busy: the vCPUs ran for 2.0 s and waited 2.0 s for a CPU of the host, so the machine took 2.0 times \
             as long"
        )
    );
}

#[test]
fn a_quiet_host_excuses_nothing() {
    let mut judgement = judged(vec![unfair()]);
    downgrade_if_contended(&mut judgement, &CASE, NO_LOGS, &busy(0));
    assert!(judgement.result.is_fail());
    assert_eq!(judgement.fault, Some(Fault::Scheduler));
}

/// The host was busy in the first of three steps only.
#[test]
fn a_busy_host_explains_only_what_happened_meanwhile() {
    let sample = |(step, ran_s, waited_s): (u16, u64, u64)| MonitorSample {
        step_index: Some(step),
        cpus: vec![CpuSnapshot {
            vcpu_cpu_time_ns: Some(ran_s * 1_000_000_000),
            vcpu_run_delay_ns: Some(waited_s * 1_000_000_000),
            ..CpuSnapshot::default()
        }],
        ..MonitorSample::default()
    };
    let samples = [(1, 0, 0), (1, 1, 4), (2, 2, 4), (3, 3, 4), (3, 4, 4)].map(sample);
    let host = Contention {
        samples: &samples,
        ..busy(1)
    };
    let judged_in = |phase: Option<&'static str>| {
        let mut detail = unfair();
        detail.phase = phase.map(Into::into);
        let mut judgement = judged(vec![detail]);
        downgrade_if_contended(&mut judgement, &CASE, NO_LOGS, &host);
        (judgement.fault, judgement.evidence)
    };
    let (fault, why) = judged_in(Some("Step[0]"));
    assert_eq!(fault, Some(Fault::Host));
    assert_eq!(
        why.as_deref(),
        Some(
            "the host was busy in Step[0]: the vCPUs ran for 2.0 s and waited 4.0 s for a CPU of the host, so the machine took \
             3.0 times as long"
        )
    );
    assert_eq!(judged_in(Some("Step[2]")), (Some(Fault::Scheduler), None));
    // A failure that belongs to no step, or to a step without samples, may have happened while the host was busy.
    for phase in [None, Some("BASELINE"), Some("Step[7]")] {
        assert_eq!(judged_in(phase).0, Some(Fault::Host), "{phase:?}");
    }
    // Over the whole run the host was not busy, but it was in the step.
    let host = Contention {
        samples: &samples,
        ..busy(0)
    };
    let mut judgement = judged(vec![unfair().with_phase("Step[0]")]);
    downgrade_if_contended(&mut judgement, &CASE, NO_LOGS, &host);
    assert_eq!(judgement.fault, Some(Fault::Host));
}

/// The scheduler left the guest idle for 3 s of a step, and the host let the guest's only vCPU wait for 30 ms or
/// for 300 ms of that.
#[test]
fn a_short_wait_for_the_host_explains_nothing_in_an_idle_step() {
    let fault = |waited_ms: u64| {
        let sample = |(elapsed_ms, ms): (u64, u64)| MonitorSample {
            step_index: Some(1),
            elapsed_ms,
            cpus: vec![CpuSnapshot {
                vcpu_cpu_time_ns: Some(ms * 1_000_000),
                vcpu_run_delay_ns: Some(ms * 1_000_000),
                ..CpuSnapshot::default()
            }],
            ..MonitorSample::default()
        };
        let samples = [(0, 0), (3_000, waited_ms)].map(sample);
        let host = Contention {
            samples: &samples,
            ..busy(0)
        };
        let mut judgement = judged(vec![unfair().with_phase("Step[0]")]);
        downgrade_if_contended(&mut judgement, &CASE, NO_LOGS, &host);
        judgement.fault
    };
    assert_eq!(fault(30), Some(Fault::Scheduler));
    assert_eq!(fault(300), Some(Fault::Host));
}

#[test]
fn a_latency_far_over_its_bound_stays_a_failure() {
    let late = |measured| {
        let detail = AssertDetail::new(DetailKind::Benchmark, "p99 wake latency");
        judged(vec![detail.with_latency_gate(measured, 1_000)])
    };
    let (mut near, mut far) = (late(1_900), late(2_100));
    downgrade_if_contended(&mut near, &CASE, NO_LOGS, &busy(1));
    downgrade_if_contended(&mut far, &CASE, NO_LOGS, &busy(1));
    assert!(near.result.is_inconclusive() && far.result.is_fail());
}

#[test]
fn what_is_left_after_an_excuse_decides_whose_fault_it_is() {
    let own = AssertDetail::new(DetailKind::Other, "the test says no");
    let mut judgement = judged(vec![unfair(), own]);
    downgrade_if_contended(&mut judgement, &CASE, NO_LOGS, &busy(1));
    assert!(judgement.result.is_fail());
    assert_eq!(judgement.fault, Some(Fault::Test), "{judgement:?}");
}

#[test]
fn the_end_of_a_scheduler_is_excused_with_its_ejection() {
    let ejected = |cause| Finding::Ejected {
        scheduler: "scx_x".to_owned(),
        cause,
        reason: "it says so".to_owned(),
    };
    let stall = Ejection::Stall {
        task: None,
        seconds: Some(5.0),
    };
    let died = Finding::SchedulerDied {
        scheduler: None,
        end: SchedulerEnd::Crashed,
        how: "the kernel has disabled it".to_owned(),
        log: String::new(),
    };
    for (cause, excused) in [(stall, true), (Ejection::Error, false)] {
        let findings = [died.clone(), ejected(cause)];
        let mut judgement = judged(findings.map(AssertDetail::of).into());
        downgrade_if_contended(&mut judgement, &CASE, NO_LOGS, &busy(1));
        assert_eq!(judgement.result.is_inconclusive(), excused, "{judgement:?}");
        let fault = match excused {
            true => Fault::Host,
            false => Fault::Scheduler,
        };
        assert_eq!(judgement.fault, Some(fault));
    }
}

#[test]
fn failures_that_are_not_about_time_are_never_excused() {
    let mut judgement = judged(vec![
        unfair(),
        AssertDetail::new(DetailKind::Isolation, "ran on cpus [7]"),
        AssertDetail::new(DetailKind::SchedulerCrashed, "scheduler process died"),
    ]);
    downgrade_if_contended(&mut judgement, &CASE, NO_LOGS, &busy(9));
    assert!(judgement.result.is_fail());
    assert_eq!(judgement.fault, Some(Fault::Scheduler));
    assert_eq!(judgement.result.failure_details().count(), 2);
}

const MS: u64 = 1_000_000;

/// Returns samples of two steps of 10 s, one per 100 ms, of a machine with two vCPUs, which ran most of the time. From `from_ms`
/// on, the host let the first vCPU wait for `waited_ms`, and the second one for half as long. sched_ext is off from 18 s on.
fn samples(from_ms: u64, waited_ms: u64) -> Vec<MonitorSample> {
    let sample = |at_ms: u64| {
        let so_far = at_ms.saturating_sub(from_ms).min(waited_ms) * MS;
        let vcpu = |waited_ns| CpuSnapshot {
            vcpu_cpu_time_ns: Some(at_ms * MS * 9 / 10),
            vcpu_run_delay_ns: Some(waited_ns),
            ..CpuSnapshot::default()
        };
        MonitorSample {
            step_index: Some(if at_ms < 10_000 { 1 } else { 2 }),
            scx_attached: Some(at_ms < 18_000),
            elapsed_ms: at_ms,
            cpus: vec![vcpu(so_far), vcpu(so_far / 2)],
            ..MonitorSample::default()
        }
    };
    (0..=200).map(|n| sample(100 * n)).collect()
}

/// Returns a host with these samples. `own_watchdog` is whether the scheduler ended because of a watchdog of its own.
fn host(samples: &[MonitorSample], own_watchdog: bool) -> Contention<'_> {
    Contention {
        samples,
        run: HostVcpuSchedstat::over(samples).expect("the samples have times"),
        stall_timeout: Duration::from_secs(5),
        own_watchdog,
    }
}

/// Returns who is blamed for a finding in this step, or in no step with `None`, and the evidence.
fn blamed(
    finding: Finding,
    step: Option<&'static str>,
    host: &Contention<'_>,
) -> (Option<Fault>, Option<String>) {
    let mut detail = AssertDetail::of(finding);
    detail.phase = step.map(Into::into);
    let mut judgement = judged(vec![detail]);
    downgrade_if_contended(&mut judgement, &CASE, NO_LOGS, host);
    (judgement.fault, judgement.evidence)
}

/// A worker made no progress for 2.5 s, although at most 2 s are allowed. The gap ended 5.5 s after the worker's start.
const GAP: Finding = Finding::Gap {
    tid: 7,
    gap_ms: 2500,
    cpu: 0,
    at_ms: 5500,
    bound_ms: 2000,
};

#[test]
fn a_delay_of_one_vcpu_explains_a_gap_if_it_is_at_least_as_long_as_the_excess() {
    let (fault, why) = blamed(GAP, Some("Step[0]"), &host(&samples(4_000, 600), false));
    assert_eq!(fault, Some(Fault::Host));
    assert_eq!(
        why.as_deref(),
        Some(
            "the host kept one vCPU from running for 0.600 s in all during this wait, which exceeds its bound by at most 0.501 s"
        )
    );
    let fault =
        |from_ms, waited_ms, step| blamed(GAP, step, &host(&samples(from_ms, waited_ms), false)).0;
    assert_eq!(fault(4_000, 400, Some("Step[0]")), Some(Fault::Scheduler));
    // Only a delay during the gap counts. In the second step the gap is 10 s later than in the first.
    for (from_ms, in_first, in_second) in [
        (1_500, Fault::Scheduler, Fault::Scheduler),
        (4_000, Fault::Host, Fault::Scheduler),
        (8_000, Fault::Scheduler, Fault::Scheduler),
        (14_000, Fault::Scheduler, Fault::Host),
    ] {
        assert_eq!(
            fault(from_ms, 600, Some("Step[0]")),
            Some(in_first),
            "{from_ms}"
        );
        assert_eq!(
            fault(from_ms, 600, Some("Step[1]")),
            Some(in_second),
            "{from_ms}"
        );
    }
    // It is unknown when a worker of the backdrop waited, and when a worker of a step without samples did.
    for step in [None, Some("BASELINE"), Some("Step[7]")] {
        assert_eq!(fault(4_000, 600, step), Some(Fault::Scheduler), "{step:?}");
    }
    let run = HostVcpuSchedstat::over(&samples(4_000, 600)).expect("times");
    let unknown = Contention { run, ..busy(0) };
    assert_eq!(
        blamed(GAP, Some("Step[0]"), &unknown).0,
        Some(Fault::Scheduler)
    );
    // If two windows have such a step, the finding does not say in which of them the gap was.
    let twice = [samples(4_000, 600), samples(4_000, 600)].concat();
    assert_eq!(
        blamed(GAP, Some("Step[0]"), &host(&twice, false)).0,
        Some(Fault::Scheduler)
    );
    // Steal time on a CPU of the host counts, too: 2.5 of 10 s on one CPU is enough, 0.8 of 10 s on each of three CPUs is not.
    let stolen = |each_ms: &[u64]| {
        let mut stolen = samples(4_000, 0);
        for (n, sample) in (0_u64..).zip(&mut stolen) {
            sample.host_steal_ns = each_ms.iter().map(|ms| ms * MS * n / 100).collect();
        }
        blamed(GAP, Some("Step[0]"), &host(&stolen, false)).0
    };
    assert_eq!(stolen(&[0, 2_500]), Some(Fault::Host));
    assert_eq!(stolen(&[800, 800, 800]), Some(Fault::Scheduler));
}

/// A short delay does not explain a gap that is a little too long. A gap that ends after its step counts as ending with the step.
#[test]
fn the_share_of_the_gap_and_the_end_of_the_step_count() {
    let gap = |gap_ms, at_ms| Finding::Gap {
        tid: 7,
        gap_ms,
        cpu: 0,
        at_ms,
        bound_ms: 2000,
    };
    let fault = |finding, from_ms, waited_ms| {
        blamed(
            finding,
            Some("Step[1]"),
            &host(&samples(from_ms, waited_ms), false),
        )
        .0
    };
    assert_eq!(fault(gap(2002, 5500), 14_000, 50), Some(Fault::Scheduler));
    assert_eq!(fault(gap(2002, 5500), 14_000, 110), Some(Fault::Host));
    assert_eq!(fault(gap(2300, 10_300), 18_500, 400), Some(Fault::Host));
    assert_eq!(fault(gap(2300, 10_300), 8_500, 400), Some(Fault::Scheduler));
    assert_eq!(
        fault(gap(u64::MAX, u64::MAX), 14_000, 400),
        Some(Fault::Scheduler)
    );
}

#[test]
fn a_fault_of_the_test_stays_the_tests_if_the_host_was_busy_only_for_a_moment() {
    let mut judgement = judged(vec![AssertDetail::of(GAP).with_phase("Step[0]")]);
    judgement.fault = Some(Fault::Test);
    downgrade_if_contended(
        &mut judgement,
        &CASE,
        NO_LOGS,
        &host(&samples(4_000, 600), false),
    );
    assert_eq!(judgement.fault, Some(Fault::Test));
}

#[test]
fn a_stall_is_excused_by_a_delay_shortly_before_the_ejection() {
    let ejected = |cause| Finding::Ejected {
        scheduler: "scx_x".to_owned(),
        cause,
        reason: "it says so".to_owned(),
    };
    let stall = |seconds| {
        ejected(Ejection::Stall {
            task: None,
            seconds: Some(seconds),
        })
    };
    let unwatched = |seconds| ejected(Ejection::Unwatched { seconds });
    // An ejection belongs to no step. sched_ext is off from 18 s on, and 5 s are allowed.
    let fault = |finding, from_ms, waited_ms| {
        blamed(finding, None, &host(&samples(from_ms, waited_ms), false)).0
    };
    for finding in [stall(6.0), unwatched(5.004)] {
        assert_eq!(fault(finding.clone(), 15_000, 1800), Some(Fault::Host));
        assert_eq!(fault(finding.clone(), 15_000, 1500), Some(Fault::Scheduler));
        assert_eq!(fault(finding.clone(), 3_000, 1800), Some(Fault::Scheduler));
        assert_eq!(fault(finding, 18_500, 1800), Some(Fault::Scheduler));
    }
    assert_eq!(fault(stall(8.0), 15_000, 2900), Some(Fault::Scheduler));
    assert_eq!(fault(stall(8.0), 14_000, 3100), Some(Fault::Host));
    // This stall is shorter than the timeout that is known, so the scheduler had a timeout of its own, which is unknown.
    assert_eq!(fault(stall(3.0), 15_000, 2900), Some(Fault::Scheduler));
    for seconds in [f64::NAN, f64::INFINITY, -1.0] {
        assert_eq!(fault(stall(seconds), 15_000, 2900), Some(Fault::Scheduler));
    }
    let error = ejected(Ejection::Error);
    assert_eq!(fault(error, 15_000, 2900), Some(Fault::Scheduler));
}

#[test]
fn a_scheduler_that_its_own_watchdog_ended_is_excused_by_long_delays_shortly_before() {
    let died = || Finding::SchedulerDied {
        scheduler: None,
        end: SchedulerEnd::Crashed,
        how: "exited with code 1".to_owned(),
        log: "watchdog: no progress for 10 s".to_owned(),
    };
    let fault = |from_ms, waited_ms, own_watchdog| {
        let samples = samples(from_ms, waited_ms);
        blamed(died(), None, &host(&samples, own_watchdog)).0
    };
    assert_eq!(fault(12_000, 3_500, true), Some(Fault::Host));
    assert_eq!(fault(12_000, 3_000, true), Some(Fault::Scheduler));
    assert_eq!(fault(2_000, 3_500, true), Some(Fault::Scheduler));
    assert_eq!(fault(12_000, 3_500, false), Some(Fault::Scheduler));
    // If sched_ext ejected the scheduler, or the test ended it, then the watchdog that its log mentions did not.
    let samples = samples(12_000, 3_500);
    let judged_after = |more: Option<Finding>, fault| {
        let findings = [died()].into_iter().chain(more);
        let mut judgement = judged(findings.map(AssertDetail::of).collect());
        judgement.fault = Some(fault);
        downgrade_if_contended(&mut judgement, &CASE, NO_LOGS, &host(&samples, true));
        judgement.fault
    };
    let ejected = Finding::Ejected {
        scheduler: "scx_x".to_owned(),
        cause: Ejection::Error,
        reason: "it says so".to_owned(),
    };
    let of_scheduler = Some(Fault::Scheduler);
    assert_eq!(judged_after(Some(ejected), Fault::Scheduler), of_scheduler);
    assert_eq!(judged_after(None, Fault::Test), Some(Fault::Test));
}
