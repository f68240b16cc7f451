//! Tests of the verdict and the fault for each way in which a run can end.

mod not_attached;
mod scheduler_end;

use std::time::Duration;

use ktstr_assert::{Assert, AssertDetail, AssertResult, DetailKind, Limit};
use ktstr_guest::engine::HOG_KEY;
use ktstr_guest::protocol::{ProcessEnd, ToHost};

use super::*;

pub(in crate::run) const NO_LOGS: Logs<'static> = Logs {
    console: "",
    scheduler: "",
};

pub(in crate::run) const CASE: Case = Case {
    scheduler: "scx_x",
    under_test: UnderTest::Bpf,
    changed: false,
    promises: ktstr_scenario::scheduler::Promises::ALL,
    topology: "1n1l2c1t",
    memory_mib: 256,
    virtual_clock: true,
    told_of_idle: false,
    parallel_tcg: false,
    hogs: Hogs::UNSEEN,
};

/// Returns the state of a guest that has the declared topology and has sent `messages` after its greeting.
fn guest_after(messages: Vec<ToHost>) -> GuestState {
    let mut guest = GuestState::default();
    let hello = ToHost::Hello {
        topology: Ok("1n1l2c1t".into()),
    };
    for message in std::iter::once(hello).chain(messages) {
        guest.take(message, Duration::ZERO);
    }
    guest
}

/// Returns a judgement of these failures, which the scheduler is blamed for.
pub(super) fn judged(details: Vec<AssertDetail>) -> Judgement {
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

fn attached() -> ToHost {
    ToHost::SchedulerAttached { pid: 7, took_ns: 1 }
}

/// Returns the record of an end of sched_ext as the kernel leaves it.
fn left(kind: u32, name: &str, reason: &str) -> ScxExit {
    ScxExit {
        kind,
        kind_name: name.into(),
        reason: reason.into(),
        ..ScxExit::default()
    }
}

fn message(judgement: &Judgement) -> String {
    judgement
        .result
        .failure_details()
        .chain(judgement.result.inconclusive_details())
        .map(|d| d.message.clone())
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn a_result_is_taken_as_it_is() {
    let passed = guest_after(vec![ToHost::TestResult(Box::new(AssertResult::pass()))]);
    let judgement = judge(&CASE, &End::Completed, &passed, "", None);
    assert!(judgement.result.is_pass() && judgement.fault.is_none());
}

/// The process of a scheduler that outlives SIGKILL is reported. Nothing shows whose fault that is.
#[test]
fn a_scheduler_that_cannot_be_killed_is_noted() {
    let what = "the scheduler, process 7, did not exit within 10 s of SIGKILL: its state is D (disk sleep)";
    let guest = guest_after(vec![
        attached(),
        ToHost::TestResult(Box::new(AssertResult::pass())),
        ToHost::SchedulerLeft { what: what.into() },
        ToHost::Bye,
    ]);
    let judgement = judge(&CASE, &End::Completed, &guest, "", None);
    assert!(judgement.result.is_pass(), "{:?}", judgement.result);
    let notes = &judgement.result.info_notes;
    assert!(notes.iter().any(|note| note.message == what), "{notes:?}");
}

#[test]
fn a_lost_message_is_the_harnesss_fault_whatever_else_was_reported() {
    let lost = End::Lost(crate::run::guest_session::Lost { agent: 1, test: 2 });
    let ended = ToHost::TestEnded {
        end: ProcessEnd::Exited(0),
        oom_killed: false,
    };
    let judgement = judge(
        &CASE,
        &lost,
        &guest_after(vec![attached(), ended]),
        "",
        None,
    );
    assert!(judgement.result.is_inconclusive());
    assert_eq!(judgement.fault, Some(Fault::Harness));
    let text = message(&judgement);
    assert!(
        text.contains("1 of PID 1 and 2 of the test process"),
        "{text}"
    );
}

/// The share of the CPU time that the scheduler gave can be told only for tasks of sched_ext's class, and only if the test
/// leaves the scheduler attached.
#[test]
fn a_bound_on_the_driven_share_that_cannot_be_judged_is_noted() {
    let asked = Assert::NO_OVERRIDES.min_driven_share(Limit::At(0.9));
    for (under_test, changed, why) in [
        (UnderTest::Nothing, false, Some("no BPF scheduler")),
        (UnderTest::Builtin, false, Some("no BPF scheduler")),
        (UnderTest::Bpf, true, Some("the test itself")),
        (UnderTest::Bpf, false, None),
    ] {
        let case = Case {
            under_test,
            changed,
            ..CASE
        };
        let mut checks = asked;
        let mut judgement = judged(Vec::new());
        super::drop_driven_share(&mut judgement, &case, &mut checks);
        let mut notes = judgement.result.info_notes.iter().map(|n| &n.message);
        let noted = notes.find(|note| note.starts_with("min_driven_share = 0.9 does not count: "));
        assert_eq!(noted.is_some(), why.is_some(), "{under_test:?} {changed}");
        assert!(noted.is_none_or(|note| note.contains(why.unwrap_or_default())));
        assert_eq!(
            checks.min_driven_share == asked.min_driven_share,
            why.is_none()
        );
        // The default bound is left out without a note.
        let mut checks = Assert::NO_OVERRIDES;
        let mut silent = judged(Vec::new());
        super::drop_driven_share(&mut silent, &case, &mut checks);
        assert!(silent.result.info_notes.is_empty());
    }
}

#[test]
fn a_slow_host_is_inconclusive_and_named() {
    let end = End::TimedOut(WatchdogKillReason::Tier3Deadman, StallReport::default());
    let judgement = judge(&CASE, &end, &guest_after(vec![attached()]), "", None);
    assert!(judgement.result.is_inconclusive());
    assert_eq!(judgement.fault, Some(Fault::Host));
    assert!(message(&judgement).starts_with("host too slow"));
}

#[test]
fn a_hang_without_evidence_blames_nobody() {
    let end = End::TimedOut(WatchdogKillReason::Tier1CpuBudget, StallReport::default());
    for messages in [vec![attached()], vec![]] {
        let hung = judge(&CASE, &end, &guest_after(messages), "", None);
        assert!(hung.result.is_inconclusive(), "{hung:?}");
        assert_eq!(hung.fault, Some(Fault::Undetermined));
    }
    // The scheduler is blamed if the kernel has ejected it before.
    let stalled = left(1026, "SCX_EXIT_ERROR_STALL", "runnable task stall");
    let ejected = judge(
        &CASE,
        &end,
        &guest_after(vec![attached()]),
        "",
        Some(&stalled),
    );
    assert!(ejected.result.is_fail());
    assert_eq!(ejected.fault, Some(Fault::Scheduler));
}

#[test]
fn a_stall_on_a_host_that_is_too_slow_is_not_the_schedulers_fault() {
    let stalled = left(1026, "SCX_EXIT_ERROR_STALL", "runnable task stall");
    let broken = left(1024, "SCX_EXIT_ERROR", "runtime error");
    let fault = |virtual_clock: bool, exit: &ScxExit| {
        let end = End::TimedOut(WatchdogKillReason::Tier3Deadman, StallReport::default());
        let case = Case {
            virtual_clock,
            ..CASE
        };
        let judgement = judge(&case, &end, &guest_after(vec![attached()]), "", Some(exit));
        (judgement.result.is_fail(), judgement.fault)
    };
    assert_eq!(fault(false, &stalled), (false, Some(Fault::Host)));
    // An error has nothing to do with time, and the virtual clock does not run ahead of the guest.
    assert_eq!(fault(false, &broken), (true, Some(Fault::Scheduler)));
    assert_eq!(fault(true, &stalled), (true, Some(Fault::Scheduler)));
}

#[test]
fn a_kernel_panic_shows_its_reason() {
    let console = "[ 1.0] Kernel panic - not syncing: Attempted to kill init!\n[ 1.1] CPU: 0\n";
    let judgement = judge(
        &CASE,
        &End::Halted(Halt::Reset),
        &guest_after(vec![]),
        console,
        None,
    );
    assert_eq!(
        message(&judgement),
        "the guest's kernel panicked: Attempted to kill init!"
    );
    assert_eq!(judgement.crash.as_deref(), Some("Attempted to kill init!"));
}

/// The console has the form of the kernel's `__die_header` (arch/x86/kernel/dumpstack.c). The address is one byte after
/// a jump that the kernel patches.
#[test]
fn a_stale_breakpoint_is_attributed_to_parallel_tcg_only() {
    let console = "[ 11.6] Oops: int3: 0000 [#1] SMP NOPTI\n\
        [ 11.6] CPU: 1 UID: 0 PID: 14 Comm: kworker/u8:1 Not tainted 7.3.4\n\
        [ 11.6] RIP: 0010:ktime_get_update_offsets_now+0x46/0x150\n\
        [ 11.7] Kernel panic - not syncing: Fatal exception in interrupt\n";
    let judged = |case: &Case, console: &str| {
        let guest = guest_after(vec![attached()]);
        judge(case, &End::Halted(Halt::Reset), &guest, console, None)
    };
    let parallel = Case {
        parallel_tcg: true,
        ..CASE
    };
    let emulated = judged(&parallel, console);
    assert!(emulated.result.is_inconclusive(), "{emulated:?}");
    assert_eq!(emulated.fault, Some(Fault::Harness));
    assert!(message(&emulated).contains("KTSTR_CLOCK=virtual"));
    let evidence = emulated.evidence.unwrap_or_default();
    assert!(
        evidence.contains("ktime_get_update_offsets_now"),
        "{evidence}"
    );
    // On any other machine the breakpoint is the kernel's fault, and so is any other panic under parallel TCG.
    let other = console.replace("int3", "general protection fault");
    for (case, console) in [(&CASE, console), (&parallel, other.as_str())] {
        let judgement = judged(case, console);
        assert!(judgement.result.is_fail());
        assert_eq!(judgement.fault, Some(Fault::Kernel));
    }
}

#[test]
fn a_wrong_topology_is_the_harnesss_fault_even_if_the_test_passed() {
    let mut guest = guest_after(vec![ToHost::TestResult(Box::new(AssertResult::pass()))]);
    if let Some(hello) = &mut guest.hello {
        hello.topology = Ok("1n2l1c1t".into());
    }
    let judgement = judge(&CASE, &End::Completed, &guest, "", None);
    assert!(judgement.result.is_inconclusive());
    assert_eq!(judgement.fault, Some(Fault::Harness));
    assert!(message(&judgement).contains("1n1l2c1t") && message(&judgement).contains("1n2l1c1t"));
}

#[test]
fn a_test_that_runs_out_of_memory_names_the_limit_to_raise() {
    let end = ToHost::TestEnded {
        end: ProcessEnd::Signaled(9),
        oom_killed: true,
    };
    let judgement = judge(&CASE, &End::Completed, &guest_after(vec![end]), "", None);
    assert!(message(&judgement).contains("memory_mib"));
    assert_eq!(judgement.fault, Some(Fault::Test));
}

#[test]
fn the_monitor_judges_only_a_scheduler_under_test() {
    let passed = || {
        let result = AssertResult::pass();
        let guest = guest_after(vec![attached(), ToHost::TestResult(Box::new(result))]);
        judge(&CASE, &End::Completed, &guest, "", None)
    };
    let enforced = Assert::NO_OVERRIDES.with_monitor_defaults();
    let nothing_seen = MonitorReport::default();
    let judged = |case: &Case, checks: &Assert, report| {
        let mut judgement = passed();
        monitor(&mut judgement, case, checks, report);
        judgement
    };
    // A test that is skipped runs no scenario, so it has no samples either.
    let skipped = AssertResult::skip("the machine has one LLC");
    let guest = guest_after(vec![attached(), ToHost::TestResult(Box::new(skipped))]);
    let mut judgement = judge(&CASE, &End::Completed, &guest, "", None);
    monitor(&mut judgement, &CASE, &enforced, Some(&nothing_seen));
    assert!(judgement.result.is_skip() && judgement.fault.is_none());
    let without_data = judged(&CASE, &enforced, Some(&nothing_seen));
    assert!(without_data.result.is_inconclusive());
    assert_eq!(without_data.fault, Some(Fault::Harness));
    let eevdf = Case {
        under_test: UnderTest::Nothing,
        ..CASE
    };
    for judgement in [
        judged(&eevdf, &enforced, Some(&nothing_seen)),
        judged(&CASE, &Assert::NO_OVERRIDES, Some(&nothing_seen)),
        judged(&CASE, &enforced, None),
    ] {
        assert!(judgement.result.is_pass() && judgement.fault.is_none());
    }
}

#[test]
fn a_requested_panic_is_the_fault_of_the_requester() {
    let console = "[ 1.0] sysrq: Trigger a crash\n\
        [ 1.0] Kernel panic - not syncing: sysrq triggered crash\n\
        [ 1.1] CPU: 0 UID: 0 PID: 100 Comm: t Not tainted 7.3.4\n";
    let judged = |messages, pid| {
        let guest = guest_after(messages);
        let console = console.replace("PID: 100", &format!("PID: {pid}"));
        judge(&CASE, &End::Halted(Halt::Reset), &guest, &console, None)
    };
    let of_test = |pid| {
        let messages = vec![attached(), ToHost::TestStarted { pid: 100 }];
        judged(messages, pid).fault
    };
    assert_eq!(of_test(100), Some(Fault::Test));
    assert_eq!(of_test(101), Some(Fault::Test));
    assert_eq!(of_test(7), Some(Fault::Scheduler));
    // Without a test process nothing shows whose process it was.
    let unknown = judged(vec![attached()], 101);
    assert_eq!(unknown.fault, Some(Fault::Undetermined));
    assert!(unknown.result.is_inconclusive(), "{unknown:?}");
}

#[test]
fn a_scenario_that_cannot_be_set_up_is_the_tests_fault() {
    let mut result = AssertResult::fail(AssertDetail::of(Finding::SetUp {
        stage: "step 1".into(),
        error: "no cgroup \"x\"".into(),
    }));
    result.record_fail(AssertDetail::new(DetailKind::Stuck, "tid 7 stuck"));
    let guest = guest_after(vec![attached(), ToHost::TestResult(Box::new(result))]);
    let judgement = judge(&CASE, &End::Completed, &guest, "", None);
    assert_eq!(judgement.fault, Some(Fault::Test));
}

#[test]
fn the_end_of_a_payload_is_the_tests_fault_alone() {
    let failed = || {
        AssertDetail::of(Finding::PayloadFailed {
            payload: "load".into(),
            how: "exited with code 1, expected 0".into(),
            printed: String::new(),
            timed_out: false,
        })
    };
    let judged = |more: Option<AssertDetail>, console: &str| {
        let mut result = AssertResult::fail(failed());
        if let Some(more) = more {
            result.record_fail(more);
        }
        let guest = guest_after(vec![attached(), ToHost::TestResult(Box::new(result))]);
        let judgement = judge(&CASE, &End::Completed, &guest, console, None);
        assert_eq!(judgement.is_open(), judgement.fault == Some(Fault::Test));
        (judgement.fault, judgement.evidence.unwrap_or_default())
    };
    let (fault, why) = judged(None, "");
    assert_eq!(fault, Some(Fault::Test));
    assert!(why.contains("its own exit status"), "{why}");
    let killed = "[ 9.0] Out of memory: Killed process 80 (load) total-vm:1kB";
    assert!(judged(None, killed).1.contains("raise `memory_mib`"));
    // Other findings are attributed as if the payload had not failed.
    let starved = AssertDetail::new(DetailKind::Stuck, "tid 7 stuck");
    assert_eq!(judged(Some(starved), "").0, Some(Fault::Scheduler));
    let slow = AssertDetail::of(Finding::PayloadMetric {
        payload: "load".into(),
        metric: "iops".into(),
        value: 1.0,
        unit: String::new(),
        expected: "at least 2".into(),
    });
    assert_eq!(judged(Some(slow.clone()), "").0, Some(Fault::Scheduler));
    // Under the kernel's own scheduler a bound on a program's metric is a claim of the test.
    let alone = Case {
        under_test: UnderTest::Nothing,
        ..CASE
    };
    let result = AssertResult::fail(slow);
    let guest = guest_after(vec![ToHost::TestResult(Box::new(result))]);
    let judgement = judge(&alone, &End::Completed, &guest, "", None);
    assert_eq!(judgement.fault, Some(Fault::Test));
}

#[test]
fn reports_of_the_kernel_are_noted() {
    let passed = guest_after(vec![
        attached(),
        ToHost::TestResult(Box::new(AssertResult::pass())),
    ]);
    let console = "[ 9.0] psi: task underflow! cpu=1\n";
    let judgement = judge(&CASE, &End::Completed, &passed, console, None);
    assert!(judgement.result.is_pass());
    let note = &judgement.result.info_notes[0].message;
    assert!(note.contains("psi underflow"), "{note}");
}

#[test]
fn a_bound_on_events_that_the_kernel_does_not_count_is_noted() {
    let noted = |checks: Assert, counts: bool| {
        let report = MonitorReport {
            samples: vec![ktstr_assert::MonitorSample::default()],
            scx_event_counters_supported: counts,
            ..MonitorReport::default()
        };
        let passed = ToHost::TestResult(Box::new(AssertResult::pass()));
        let guest = guest_after(vec![attached(), passed]);
        let mut judgement = judge(&CASE, &End::Completed, &guest, "", None);
        monitor(&mut judgement, &CASE, &checks, Some(&report));
        let notes = &judgement.result.info_notes;
        notes
            .iter()
            .any(|note| note.message.contains("counts no sched_ext events"))
    };
    let asks = Assert::NO_OVERRIDES.max_keep_last_rate(10.0);
    assert!(noted(asks, false));
    assert!(!noted(asks, true));
    assert!(!noted(Assert::NO_OVERRIDES.max_local_dsq_depth(1), false));
}
