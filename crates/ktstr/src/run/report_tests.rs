//! The failure text of each main kind of failure, as people read it.

use std::time::Duration;

use ktstr_assert::{AssertDetail, AssertResult, WorkerReport};
use ktstr_guest::protocol::{ProcessEnd, Stream, ToHost};

use super::super::conversation::End;
use super::super::judge::{Case, Judgement, judge};
use super::super::transcript::Transcript;
use super::super::watch::Silence;
use super::super::{Timings, blame};
use super::*;
use crate::entry::KtstrTestEntry;
use crate::vm_result::{HostVcpuSchedstat, WatchdogKillReason};

const SCHEDULER: ktstr_scenario::scheduler::Scheduler =
    ktstr_scenario::scheduler::Scheduler::named("ktstr_sched").binary(
        ktstr_scenario::scheduler::SchedulerSpec::Discover("scx-ktstr"),
    );
static ENTRY: KtstrTestEntry = KtstrTestEntry {
    name: "two_cgroups",
    func: |_| Ok(AssertResult::pass()),
    scheduler: &SCHEDULER,
    ..KtstrTestEntry::DEFAULT
};

fn told(end: &End, messages: Vec<ToHost>, console: &str) -> Judgement {
    let case = Case {
        scheduler: "scx-ktstr",
        has_scheduler: true,
        topology: "1n1l2c1t",
        memory_mib: 256,
    };
    let attached = ToHost::SchedulerAttached {
        pid: 7,
        ops: "ktstr".into(),
        took_ns: 1,
    };
    let mut said = Transcript::default();
    for message in std::iter::once(attached).chain(messages) {
        said.take(message, Duration::ZERO);
    }
    judge(&case, end, &said, console, None)
}

fn result(result: AssertResult) -> ToHost {
    ToHost::TestResult(Box::new(result))
}

fn screen(judgement: Judgement) -> String {
    let verdict = if judgement.result.is_fail() {
        RunVerdict::Fail
    } else {
        RunVerdict::Inconclusive
    };
    text(&Finished {
        entry: &ENTRY,
        verdict,
        fault: judgement.fault,
        evidence: judgement.evidence,
        result: judgement.result,
        vm: None,
        timings: Timings::default(),
        wall: Duration::ZERO,
        text: String::new(),
        record: Some("target/ktstr/RUN/record.json".into()),
        exit_code: 1,
    })
}

/// What a run under scx-ktstr on two LLCs left behind.
fn recorded_unfair() -> AssertResult {
    let text = include_str!("../../tests/data/unfair.json");
    serde_json::from_str(text).expect("a recorded result")
}

#[test]
fn an_unfair_cgroup() {
    insta::assert_snapshot!(screen(told(&End::Bye, vec![result(recorded_unfair())], "")));
}

#[test]
fn a_starved_worker() {
    let worker = |tid, gap| WorkerReport {
        tid,
        completed: true,
        work_units: 1000 * u64::from(gap == 0),
        max_gap_ms: gap,
        max_gap_at_ms: gap,
        wall_time_ns: 3_000_000_000,
        off_cpu_ns: 2_000_000_000,
        cpu_time_ns: 1_000_000_000,
        ..WorkerReport::default()
    };
    let checks = ktstr_assert::Assert::NO_OVERRIDES.check_not_stuck();
    let mut all = AssertResult::pass();
    for (name, gap) in [("fed", 0), ("starved", 2900)] {
        let mut judged = checks.assert_cgroup(&[worker(1001, gap), worker(1002, gap)], None);
        judged.stats.cgroups[0].cgroup_name = name.to_owned();
        all.merge(judged);
    }
    insta::assert_snapshot!(screen(told(&End::Bye, vec![result(all)], "")));
}

#[test]
fn a_scheduler_that_the_kernel_ejects() {
    let console = "[   12.1] sched_ext: BPF scheduler \"ktstr\" disabled (runnable task stall)\n\
                   [   12.1] sched_ext: ktstr: worker[1006] failed to run for 5.004s\n";
    let passed = vec![result(AssertResult::pass())];
    insta::assert_snapshot!(screen(told(&End::Bye, passed, console)));
}

#[test]
fn a_scheduler_that_dies() {
    let log = ToHost::Output {
        stream: Stream::Scheduler,
        text: "attached\nassertion failed in main loop\n".into(),
    };
    let died = ToHost::SchedulerDied {
        end: ProcessEnd::Signaled(6),
    };
    let messages = vec![log, died, result(AssertResult::pass())];
    insta::assert_snapshot!(screen(told(&End::Bye, messages, "")));
}

#[test]
fn a_test_that_panics() {
    let panicked = ToHost::TestPanicked {
        message: "panicked at tests/x.rs:7:5:\nassertion failed".into(),
    };
    insta::assert_snapshot!(screen(told(&End::Bye, vec![panicked], "")));
}

#[test]
fn a_host_that_is_too_slow() {
    let gave_up = End::GaveUp(WatchdogKillReason::Tier3Deadman, Silence::default());
    insta::assert_snapshot!(screen(told(&gave_up, vec![], "")));
}

#[test]
fn a_host_that_is_busy() {
    let mut judgement = told(&End::Bye, vec![result(recorded_unfair())], "");
    let stat = HostVcpuSchedstat {
        total_on_cpu_ns: 3_000_000_000,
        total_run_delay_ns: 6_000_000_000,
        sampled_vcpus: 4,
    };
    blame::excuse(&mut judgement, &stat);
    insta::assert_snapshot!(screen(judgement));
}

#[test]
fn a_guest_that_hangs() {
    let gave_up = End::GaveUp(WatchdogKillReason::Tier1CpuBudget, Silence::default());
    insta::assert_snapshot!(screen(told(&gave_up, vec![], "")));
}

#[test]
fn of_many_alike_the_first_few_are_shown() {
    let mut many = AssertResult::pass();
    for tid in 0..40 {
        many.record_fail(AssertDetail::new(
            DetailKind::NoProgress,
            format!("tid {tid} made no progress (0 work units)"),
        ));
    }
    let text = screen(told(&End::Bye, vec![result(many)], ""));
    assert!(
        text.contains("tid 3 ") && !text.contains("tid 4 "),
        "{text}"
    );
    assert!(
        text.contains("... and 36 more of kind NoProgress"),
        "{text}"
    );
}

#[test]
fn the_command_to_see_it_again_has_seed_and_test() {
    let command = again("the_command_to_see_it_again_has_seed_and_test", 7, None);
    assert!(command.starts_with("KTSTR_SEED=7 cargo test "), "{command}");
    assert!(command.contains("the_command_to_see_it_again"), "{command}");
}
