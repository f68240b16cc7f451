//! Tests of what a busy host explains. The host is blamed only if its contention explains all failures.

use ktstr_assert::monitor::CpuSnapshot;
use ktstr_assert::{AssertResult, DetailKind, SchedulerEnd};

use super::super::tests::{CASE, NO_LOGS};
use super::*;

fn judged(details: Vec<AssertDetail>) -> Judgement {
    let mut result = AssertResult::pass();
    for detail in details {
        result.record_fail(detail);
    }
    Judgement {
        guest: Ok(result.clone()),
        result,
        fault: Some(Fault::Scheduler),
        evidence: None,
        crash: None,
    }
}

/// Returns a host on which the vCPUs waited `times` as long as they ran.
fn busy(times: u64) -> Contention<'static> {
    Contention {
        run: HostVcpuSchedstat {
            total_on_cpu_ns: 2_000_000_000,
            total_run_delay_ns: 2_000_000_000 * times,
            longest_run_delay_ns: 1_000_000_000 * times,
            sampled_vcpus: 2,
        },
        samples: &[],
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

/// Returns samples of a machine with one vCPU, one each 100 ms of a step of 10 s. The host lets the vCPU wait for `waited_ms` from
/// the given second on; the guest idles for most of the time.
fn samples(from_s: u64, waited_ms: u64) -> Vec<MonitorSample> {
    let sample = |at_ms: u64| {
        let so_far = at_ms.saturating_sub(1000 * from_s).min(waited_ms);
        MonitorSample {
            step_index: Some(1),
            elapsed_ms: at_ms,
            cpus: vec![CpuSnapshot {
                vcpu_cpu_time_ns: Some(at_ms * 900_000),
                vcpu_run_delay_ns: Some(so_far * 1_000_000),
                ..CpuSnapshot::default()
            }],
            ..MonitorSample::default()
        }
    };
    (0..=100).map(|n| sample(100 * n)).collect()
}

/// Returns who is blamed for the finding under these samples, and the evidence.
fn blamed(finding: Finding, samples: &[MonitorSample]) -> (Option<Fault>, Option<String>) {
    let host = Contention {
        samples,
        run: HostVcpuSchedstat::over(samples).expect("the samples have times"),
        own_watchdog: true,
    };
    let mut judgement = judged(vec![AssertDetail::of(finding).with_phase("Step[0]")]);
    downgrade_if_contended(&mut judgement, &CASE, NO_LOGS, &host);
    (judgement.fault, judgement.evidence)
}

#[test]
fn a_wait_for_the_host_explains_a_gap_that_is_longer_than_allowed_by_as_much() {
    // The worker got nothing done from 3.0 to 5.5 s, where 2 s are allowed.
    let gap = || Finding::Gap {
        tid: 7,
        gap_ms: 2500,
        cpu: 0,
        at_ms: 5500,
        bound_ms: 2000,
    };
    let (fault, why) = blamed(gap(), &samples(4, 600));
    assert_eq!(fault, Some(Fault::Host));
    assert_eq!(
        why.as_deref(),
        Some(
            "the host was busy in Step[0]: one vCPU waited 0.600 s for a CPU of the host, which is at least the 0.501 s by which \
             the finding can exceed its bound"
        )
    );
    assert_eq!(blamed(gap(), &samples(4, 400)).0, Some(Fault::Scheduler));
    // The host was busy at another time.
    assert_eq!(blamed(gap(), &samples(8, 600)).0, Some(Fault::Scheduler));
}

#[test]
fn findings_with_a_bound_in_milliseconds_are_excused_by_as_many() {
    let starved = Finding::Starved {
        task: "x[7]".into(),
        waited_ms: 3000,
        owed_ms: 1500,
        from_ms: 2000,
        served: true,
        bound_ms: 1000.0,
    };
    let underserved = Finding::Underserved {
        who: "x[7]".into(),
        got_ms: 300,
        entitled_ms: 1000,
        favoured: None,
        floor: 0.8,
    };
    let wasted = Finding::WastedCpu {
        wasted_ms: 1000,
        share: 0.2,
        bound: 0.1,
    };
    for finding in [starved, underserved, wasted] {
        let fault = |waited_ms| blamed(finding.clone(), &samples(3, waited_ms)).0;
        assert_eq!(fault(490), Some(Fault::Scheduler), "{finding:?}");
        assert_eq!(fault(510), Some(Fault::Host), "{finding:?}");
    }
    let ejected = |cause| Finding::Ejected {
        scheduler: "scx_x".to_owned(),
        cause,
        reason: "it says so".to_owned(),
    };
    let stall = ejected(Ejection::Stall {
        task: None,
        seconds: Some(4.0),
    });
    assert_eq!(
        blamed(stall.clone(), &samples(3, 1900)).0,
        Some(Fault::Scheduler)
    );
    assert_eq!(blamed(stall, &samples(3, 2100)).0, Some(Fault::Host));
    let error = ejected(Ejection::Error);
    assert_eq!(blamed(error, &samples(3, 5000)).0, Some(Fault::Scheduler));
}

#[test]
fn a_scheduler_that_its_own_watchdog_ended_on_a_busy_host_is_excused() {
    let died = Finding::SchedulerDied {
        scheduler: None,
        end: SchedulerEnd::Crashed,
        how: "exited with code 1".to_owned(),
        log: "watchdog: no progress for 10 s".to_owned(),
    };
    assert_eq!(
        blamed(died.clone(), &samples(3, 900)).0,
        Some(Fault::Scheduler)
    );
    assert_eq!(blamed(died, &samples(3, 1100)).0, Some(Fault::Host));
}
