//! Tests of the failure report for each main kind of failure, as it appears on the screen.

use std::time::Duration;

use ktstr_assert::{AssertDetail, AssertResult, WorkerReport};
use ktstr_guest::protocol::{ProcessEnd, Stream, ToHost};
use ktstr_machine::Halt;

use super::super::guest_session::End;
use super::super::guest_state::GuestState;
use super::super::stall::StallReport;
use super::super::verdict::{Case, Judgement, judge};
use super::super::{Evidence, Timings, verdict};
use ktstr_assert::DetailKind;

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

/// What a run left: the guest's messages, its console, and sched_ext's exit record.
#[derive(Default)]
struct Left<'a> {
    messages: Vec<ToHost>,
    console: &'a str,
    exit: Option<ScxExit>,
}

const CASE: Case = Case {
    scheduler: "scx-ktstr",
    ..verdict::tests::CASE
};

fn judged(end: &End, left: &Left) -> (Judgement, GuestState) {
    let mut guest = GuestState::default();
    let attached = ToHost::SchedulerAttached { pid: 7, took_ns: 1 };
    for message in std::iter::once(attached).chain(left.messages.clone()) {
        guest.take(message, Duration::from_millis(3500));
    }
    let judgement = judge(&CASE, end, &guest, left.console, left.exit.as_ref());
    (judgement, guest)
}

fn judgement_of(end: &End, messages: Vec<ToHost>, console: &str) -> Judgement {
    let exit = None;
    let left = Left {
        messages,
        console,
        exit,
    };
    judged(end, &left).0
}

fn hello() -> ToHost {
    ToHost::Hello {
        topology: Ok("1n1l2c1t".to_owned()),
    }
}

fn result(result: AssertResult) -> ToHost {
    ToHost::TestResult(Box::new(result))
}

fn finished(judgement: Judgement, vm: Option<VmResult>) -> Finished {
    let verdict = if judgement.result.is_fail() {
        RunVerdict::Fail
    } else {
        RunVerdict::Inconclusive
    };
    Finished {
        entry: &ENTRY,
        verdict,
        fault: judgement.fault,
        evidence: judgement.evidence,
        result: judgement.result,
        scheduler: None,
        vm,
        timings: Timings {
            boot: Duration::from_millis(200),
            ..Timings::default()
        },
        wall: Duration::from_millis(12_345),
        text: String::new(),
        record: Some("target/ktstr/RUN/record.json".into()),
        repeats: None,
        repeat: None,
        evidence_of_schedule: Evidence::default(),
        exit_code: 1,
    }
}

/// Returns the report, which must fit on one screen.
#[track_caller]
fn shown(finished: &Finished) -> String {
    let text = text(finished);
    assert!(
        text.lines().count() <= SCREEN,
        "more than a screen:\n{text}"
    );
    text
}

#[track_caller]
fn screen(judgement: Judgement) -> String {
    shown(&finished(judgement, None))
}

/// Returns the whole screen of a run in a machine. If the test has a result, its process started and ended.
#[track_caller]
fn whole_screen(end: &End, mut left: Left) -> String {
    let is_result = |message: &ToHost| matches!(message, ToHost::TestResult(_));
    if left.messages.iter().any(is_result) {
        left.messages.insert(0, ToHost::TestStarted { pid: 1000 });
        left.messages.push(ToHost::TestEnded {
            end: ProcessEnd::Exited(0),
            oom_killed: false,
        });
    }
    let (judgement, guest) = judged(end, &left);
    let vm = VmResult {
        final_guest_phase: guest.phase,
        exit_code: super::super::exit_code_of(&guest),
        output: guest.stdout,
        scx_exit: left.exit.filter(ScxExit::is_error),
        monitor: Some(MonitorReport::default()),
        kernel_log: left.console.to_owned(),
        scheduler_log: guest.scheduler_log,
        ..VmResult::blank()
    };
    shown(&finished(judgement, Some(vm)))
}

/// Reads the result, and on request the exit record, of a recorded run of `tests/vm/screens.rs`.
macro_rules! recorded {
    ($name:literal) => {{
        let text = include_str!(concat!("../../tests/data/screens/", $name, ".json"));
        result(serde_json::from_str(text).expect("a recorded result"))
    }};
    ($name:literal, exit) => {{
        let text = include_str!(concat!("../../tests/data/screens/", $name, "_exit.json"));
        let exit = serde_json::from_str(text).expect("a recorded exit record");
        Left {
            messages: vec![recorded!($name)],
            exit: Some(exit),
            console: "",
        }
    }};
}

#[test]
fn a_stall_screen() {
    insta::assert_snapshot!(whole_screen(&End::Completed, recorded!("stall", exit)));
}

#[test]
fn a_runtime_error_screen() {
    insta::assert_snapshot!(whole_screen(&End::Completed, recorded!("affinity", exit)));
}

#[test]
fn a_starved_cgroup_screen() {
    insta::assert_snapshot!(whole_screen(&End::Completed, recorded!("starved", exit)));
}

#[test]
fn a_slow_wake_screen() {
    let messages = vec![recorded!("slow_wake")];
    insta::assert_snapshot!(whole_screen(
        &End::Completed,
        Left {
            messages,
            ..Left::default()
        }
    ));
}

fn log(text: &str) -> ToHost {
    ToHost::Output {
        stream: Stream::Scheduler,
        text: text.into(),
    }
}

#[test]
fn a_scheduler_that_leaves_screen() {
    let exit = ScxExit {
        kind: 64,
        kind_name: "SCX_EXIT_UNREG".into(),
        reason: "unregistered from user space".into(),
        ..ScxExit::default()
    };
    let messages = vec![
        log("ktstr: attached\nktstr: exiting, because the time of --exit-after has passed\n"),
        recorded!("left"),
    ];
    insta::assert_snapshot!(whole_screen(
        &End::Completed,
        Left {
            messages,
            exit: Some(exit),
            console: "",
        }
    ));
}

#[test]
fn a_killed_scheduler_screen() {
    let end = ProcessEnd::Signaled(9);
    let messages = vec![
        log("ktstr: attached\n"),
        ToHost::SchedulerDied { end, signal: None },
        recorded!("killed"),
    ];
    insta::assert_snapshot!(whole_screen(
        &End::Completed,
        Left {
            messages,
            ..Left::default()
        }
    ));
}

#[test]
fn a_refused_scheduler_screen() {
    let refused = ToHost::SchedulerNotAttached {
        reason: "it exited with code 1 before it attached".into(),
    };
    let messages = vec![
        hello(),
        log(include_str!("../../tests/data/refused.log")),
        refused,
    ];
    insta::assert_snapshot!(whole_screen(
        &End::Completed,
        Left {
            messages,
            ..Left::default()
        }
    ));
}

#[test]
fn a_panic_screen() {
    let console = include_str!("../../tests/data/panic.log");
    let left = Left {
        messages: vec![ToHost::TestStarted { pid: 1001 }],
        console,
        ..Left::default()
    };
    insta::assert_snapshot!(whole_screen(&End::Halted(Halt::Reset), left));
}

#[test]
fn a_hang_screen() {
    let stall = StallReport {
        guest_clock: Some(Duration::from_secs_f64(4.0)),
        wall: Duration::from_secs(34),
        cpu_used: Duration::from_secs_f64(34.2),
        tasks: vec!["worker[1003]".to_owned(), "worker[1001]".to_owned()],
        ..StallReport::default()
    };
    let timed_out = End::TimedOut(WatchdogKillReason::Tier1CpuBudget, stall);
    let left = Left {
        messages: vec![
            hello(),
            ToHost::TestStarted { pid: 1001 },
            ToHost::ScenarioStart,
        ],
        ..Left::default()
    };
    insta::assert_snapshot!(whole_screen(&timed_out, left));
}

#[test]
fn an_isolation_screen() {
    let worker = |tid, cpus: &[usize]| WorkerReport {
        tid,
        completed: true,
        work_units: 1000,
        iterations: 1000,
        cpus_used: cpus.iter().copied().collect(),
        wall_time_ns: 3_000_000_000,
        off_cpu_ns: 2_000_000_000,
        cpu_time_ns: 1_000_000_000,
        ..WorkerReport::default()
    };
    let checks = ktstr_assert::Assert::NO_OVERRIDES.check_isolation();
    let mut all = AssertResult::pass();
    for (name, cpuset, used) in [("left", [0, 1], [0, 1]), ("right", [2, 3], [1, 3])] {
        let workers = [worker(1001, &used[1..]), worker(1002, &used)];
        let mut judged = checks.assert_cgroup(&workers, Some(&cpuset.into()));
        judged.stats.cgroups[0].cgroup_name = name.to_owned();
        for outcome in &mut judged.outcomes {
            if let ktstr_assert::Outcome::Fail(detail) = outcome {
                detail.cgroup = Some(name.into());
            }
        }
        all.merge(judged);
    }
    let messages = vec![result(all)];
    insta::assert_snapshot!(whole_screen(
        &End::Completed,
        Left {
            messages,
            ..Left::default()
        }
    ));
}

/// Returns the recorded result of a run under scx-ktstr on two LLCs.
fn recorded_unfair() -> AssertResult {
    let text = include_str!("../../tests/data/unfair.json");
    serde_json::from_str(text).expect("a recorded result")
}

#[test]
fn an_unfair_cgroup() {
    insta::assert_snapshot!(screen(judgement_of(
        &End::Completed,
        vec![result(recorded_unfair())],
        ""
    )));
}

#[test]
fn a_starved_worker() {
    let worker = |tid, gap| {
        let fed = u64::from(gap == 0);
        WorkerReport {
            tid,
            completed: true,
            work_units: 1000 * fed,
            iterations: 1000 * fed,
            max_gap_ms: gap,
            max_gap_at_ms: gap,
            wall_time_ns: 3_000_000_000,
            off_cpu_ns: 3_000_000_000 - 1_500_000_000 * fed,
            cpu_time_ns: 1_500_000_000 * fed,
            ..WorkerReport::default()
        }
    };
    let checks = ktstr_assert::Assert::NO_OVERRIDES.check_not_stuck();
    let mut all = AssertResult::pass();
    for (name, tid, gap) in [("fed", 1001, 0), ("starved", 1003, 2900)] {
        let workers = [worker(tid, gap), worker(tid + 1, gap)];
        let mut judged = checks.assert_cgroup(&workers, None);
        judged.stats.cgroups[0].cgroup_name = name.to_owned();
        all.merge(judged);
    }
    insta::assert_snapshot!(screen(judgement_of(&End::Completed, vec![result(all)], "")));
}

#[test]
fn a_scheduler_that_the_kernel_ejects() {
    let console = "[   12.1] sched_ext: BPF scheduler \"ktstr\" disabled (runnable task stall)\n\
                   [   12.1] sched_ext: ktstr: worker[1006] failed to run for 5.004s\n";
    let passed = vec![result(AssertResult::pass())];
    insta::assert_snapshot!(screen(judgement_of(&End::Completed, passed, console)));
}

#[test]
fn a_scheduler_that_dies() {
    let log = ToHost::Output {
        stream: Stream::Scheduler,
        text: "attached\nassertion failed in main loop\n".into(),
    };
    let died = ToHost::SchedulerDied {
        end: ProcessEnd::Signaled(6),
        signal: None,
    };
    let messages = vec![log, died, result(AssertResult::pass())];
    insta::assert_snapshot!(screen(judgement_of(&End::Completed, messages, "")));
}

#[test]
fn a_test_that_panics() {
    let panicked = ToHost::TestPanicked {
        message: "panicked at tests/x.rs:7:5:\nassertion failed".into(),
    };
    insta::assert_snapshot!(screen(judgement_of(&End::Completed, vec![panicked], "")));
}

#[test]
fn a_host_that_is_too_slow() {
    let stall = StallReport {
        guest_clock: Some(Duration::from_secs_f64(3.6)),
        wall: Duration::from_secs(230),
        cpu_used: Duration::from_secs_f64(0.8),
        ..StallReport::default()
    };
    let timed_out = End::TimedOut(WatchdogKillReason::Tier3Deadman, stall);
    insta::assert_snapshot!(screen(judgement_of(&timed_out, vec![], "")));
}

#[test]
fn a_host_that_is_busy() {
    let mut judgement = judgement_of(&End::Completed, vec![result(recorded_unfair())], "");
    let host = verdict::Contention {
        run: HostVcpuSchedstat {
            total_on_cpu_ns: 3_000_000_000,
            total_run_delay_ns: 6_000_000_000,
            longest_run_delay_ns: 2_000_000_000,
            host_steal_ns: 0,
            sampled_vcpus: 4,
        },
        samples: &[],
        stall_timeout: Duration::from_secs(5),
        own_watchdog: false,
    };
    verdict::downgrade_if_contended(&mut judgement, &CASE, verdict::tests::NO_LOGS, &host);
    insta::assert_snapshot!(screen(judgement));
}

#[test]
fn only_the_first_findings_of_a_kind_are_shown() {
    let mut many = AssertResult::pass();
    for tid in 0..40 {
        many.record_fail(AssertDetail::new(
            DetailKind::NoProgress,
            format!("tid {tid} made no progress (0 work units)"),
        ));
    }
    let text = screen(judgement_of(&End::Completed, vec![result(many)], ""));
    assert!(
        text.contains("tid 2 ") && !text.contains("tid 3 "),
        "{text}"
    );
    assert!(
        text.contains("... and 37 more findings (37 NoProgress), all of which are in the record"),
        "{text}"
    );
}

/// Each part is within its own limit here, but all of them together do not fit on a screen.
#[test]
fn a_report_of_many_parts_fits_on_one_screen() {
    let mut many = AssertResult::pass();
    for tid in 0..8 {
        for (kind, text) in [
            (DetailKind::NoProgress, "made no progress (0 work units)"),
            (DetailKind::Stuck, "stuck 3018ms on cpu1 at +3018ms"),
            (DetailKind::Unfair, "got less than its share"),
        ] {
            many.record_fail(AssertDetail::new(kind, format!("tid {tid} {text}")));
        }
    }
    let mut shown = None;
    for lines in [0, 4, 8] {
        let mut run = finished(
            judgement_of(&End::Completed, vec![result(many.clone())], ""),
            Some(VmResult {
                output: "a line of the test\n".repeat(lines),
                scheduler_log: "a line of the scheduler\n".repeat(lines),
                kernel_log: "a line of the kernel\n".repeat(lines),
                ..VmResult::blank()
            }),
        );
        run.evidence_of_schedule.trail = vec!["  an event".to_owned(); 6];
        run.repeat = Some("the repeat is identical to the first run".to_owned());
        let text = text(&run);
        assert!(text.lines().count() <= SCREEN, "{text}");
        assert!(
            text.contains("tid 0 stuck") && text.contains("\nrecord: "),
            "{text}"
        );
        // With more lines of the log, the report never shows more findings.
        let findings = text.matches("  tid ").count();
        assert!(shown.is_none_or(|before| findings <= before), "{text}");
        shown = Some(findings);
    }
}

#[test]
fn the_command_to_repeat_a_run_has_seed_and_test() {
    let command = again("the_command_to_repeat_a_run_has_seed_and_test", 7, None);
    assert!(command.starts_with("KTSTR_SEED=7 cargo test "), "{command}");
    assert!(command.contains("the_command_to_repeat_a_run"), "{command}");
}
