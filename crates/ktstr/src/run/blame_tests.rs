//! The host is named where it explains what was measured, and only there.

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

fn busy(times: u64) -> HostVcpuSchedstat {
    HostVcpuSchedstat {
        total_on_cpu_ns: 2_000_000_000,
        total_run_delay_ns: 2_000_000_000 * times,
        sampled_vcpus: 2,
    }
}

fn unfair() -> AssertDetail {
    AssertDetail::new(DetailKind::Unfair, "unfair cgroup: spread=40%")
}

#[test]
fn a_busy_host_is_named_for_what_it_explains() {
    let mut judgement = judged(vec![unfair()]);
    excuse(&mut judgement, &busy(1));
    assert!(judgement.result.is_inconclusive());
    assert_eq!(judgement.fault, Some(Fault::Host));
    assert_eq!(
        judgement.evidence.as_deref(),
        Some(
            "the host was busy: the machine's threads ran 2.0 s and waited 2.0 s for a CPU \
             (dilation 2.0)"
        )
    );
}

#[test]
fn a_quiet_host_excuses_nothing() {
    let mut judgement = judged(vec![unfair()]);
    excuse(&mut judgement, &busy(0));
    assert!(judgement.result.is_fail());
    assert_eq!(judgement.fault, Some(Fault::Scheduler));
}

#[test]
fn a_latency_far_over_its_bound_stays_a_failure() {
    let late = |measured| {
        let detail = AssertDetail::new(DetailKind::Benchmark, "p99 wake latency");
        judged(vec![detail.with_latency_gate(measured, 1_000)])
    };
    let (mut near, mut far) = (late(1_900), late(2_100));
    excuse(&mut near, &busy(1));
    excuse(&mut far, &busy(1));
    assert!(near.result.is_inconclusive() && far.result.is_fail());
}

#[test]
fn what_is_no_matter_of_time_is_never_excused() {
    let mut judgement = judged(vec![
        unfair(),
        AssertDetail::new(DetailKind::Isolation, "ran on cpus [7]"),
        AssertDetail::new(DetailKind::SchedulerCrashed, "scheduler process died"),
    ]);
    excuse(&mut judgement, &busy(9));
    assert!(judgement.result.is_fail());
    assert_eq!(judgement.fault, Some(Fault::Scheduler));
    assert_eq!(judgement.result.failure_details().count(), 2);
}

fn named(result: AssertResult, has_scheduler: bool, console: &str) -> (Option<Fault>, String) {
    let mut judgement = judged(vec![]);
    judgement.result = result;
    judgement.fault = None;
    name(&mut judgement, has_scheduler, "scx_x", console, 256);
    (judgement.fault, judgement.evidence.unwrap_or_default())
}

#[test]
fn each_party_is_named_with_its_evidence() {
    let stuck = || AssertResult::fail(AssertDetail::new(DetailKind::Stuck, "tid 7 stuck"));
    let (fault, why) = named(stuck(), true, "");
    assert_eq!(fault, Some(Fault::Scheduler));
    assert!(why.contains("scx_x"), "{why}");
    assert_eq!(named(stuck(), false, "").0, Some(Fault::Kernel));

    let mut with_hog = stuck();
    with_hog.note_value(
        HOG_KEY,
        "1 real-time workers of cgroup hog took what CPUs they were on",
    );
    let (fault, why) = named(with_hog, true, "");
    assert_eq!(fault, Some(Fault::Test));
    assert!(why.contains("cgroup hog"), "{why}");

    let oom = "[ 9.1] Out of memory: Killed process 1001 (test-x) total-vm:9kB, anon-rss:8kB\n";
    let (fault, why) = named(stuck(), true, oom);
    assert_eq!(fault, Some(Fault::Test));
    assert_eq!(
        why,
        "Out of memory: Killed process 1001 (test-x) (256 MiB; raise `memory_mib`)"
    );

    let (fault, why) = named(AssertResult::inconclusive_msg("no wake-ups"), true, "");
    assert_eq!(fault, Some(Fault::Harness));
    assert_eq!(why, "data is missing: no wake-ups");
    assert_eq!(named(AssertResult::skip("no"), true, "").0, None);
    assert_eq!(named(AssertResult::pass(), true, "").0, None);
}
