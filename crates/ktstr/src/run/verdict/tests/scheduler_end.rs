//! Schedulers that end: who ended them, and what explains it.

use ktstr_assert::SchedulerEnd;

use super::*;

#[test]
fn a_signal_explains_only_the_end_that_it_can_cause() {
    let fault = |signal, end| {
        let signal = ktstr_guest::protocol::SentSignal {
            signal,
            sender: 100,
            comm: "t".to_owned(),
        };
        let died = ToHost::SchedulerDied {
            end,
            signal: Some(signal),
        };
        let passed = ToHost::TestResult(Box::new(AssertResult::pass()));
        let guest = guest_after(vec![attached(), died, passed]);
        judge(&CASE, &End::Completed, &guest, "", None).fault
    };
    assert_eq!(fault(9, ProcessEnd::Signaled(9)), Some(Fault::Test));
    // The scheduler handled the signal, and exited.
    assert_eq!(
        fault(libc::SIGTERM, ProcessEnd::Exited(1)),
        Some(Fault::Test)
    );
    // The scheduler was stopped and continued, and ended by itself afterwards.
    assert_eq!(
        fault(libc::SIGCONT, ProcessEnd::Signaled(11)),
        Some(Fault::Scheduler)
    );
    assert_eq!(
        fault(libc::SIGCONT, ProcessEnd::Exited(1)),
        Some(Fault::Scheduler)
    );
}

#[test]
fn a_scheduler_that_sysrq_disables_is_not_ejected() {
    let console = "[ 3.0] sched_ext: BPF scheduler \"x\" disabled (disabled by sysrq-S)\n";
    let passed = ToHost::TestResult(Box::new(AssertResult::pass()));
    let judgement = judge(
        &CASE,
        &End::Completed,
        &guest_after(vec![attached(), passed]),
        console,
        None,
    );
    assert!(judgement.result.is_pass(), "{judgement:?}");
    let exit = left(68, "SCX_EXIT_SYSRQ", "disabled by sysrq-S");
    let guest = guest_after(vec![attached(), found_dead()]);
    let judgement = judge(&CASE, &End::Completed, &guest, console, Some(&exit));
    assert_eq!(judgement.fault, Some(Fault::Test), "{judgement:?}");
}

#[test]
fn a_second_ejection_has_its_own_name_and_reason() {
    let console = "[ 3.0] sched_ext: BPF scheduler \"a\" disabled (runtime error)\n\
                   [ 9.0] sched_ext: BPF scheduler \"b\" disabled (runnable task stall)\n";
    let stalled = left(1026, "SCX_EXIT_ERROR_STALL", "runnable task stall");
    let passed = ToHost::TestResult(Box::new(AssertResult::pass()));
    let case = Case {
        changed: true,
        ..CASE
    };
    // The name is the declared one, and that of sched_ext is in the evidence.
    for (staged, name) in [(Some("staller"), "`staller`"), (None, "`scx_x`")] {
        let start = [attached(), starting(staged), attached(), passed.clone()];
        let guest = guest_after(start.to_vec());
        let judgement = judge(&case, &End::Completed, &guest, console, Some(&stalled));
        let text = message(&judgement);
        let words = format!("{name}: runnable task stall");
        assert!(text.contains(&words), "{text}");
        let evidence = judgement.evidence.unwrap_or_default();
        let has_ops_name =
            evidence.contains("the test started `staller`, which sched_ext calls `b`");
        assert_eq!(has_ops_name, staged.is_some(), "{evidence}");
    }
}

fn starting(staged: Option<&str>) -> ToHost {
    let staged = staged.map(str::to_owned);
    ToHost::SchedulerStarting { staged }
}

fn prints(text: &str) -> ToHost {
    ToHost::Output {
        stream: ktstr_guest::protocol::Stream::Scheduler,
        text: text.to_owned(),
    }
}

/// The scheduler whose process ended is named, with its own lines: neither the one before it nor one that was started after it.
#[test]
fn a_staged_scheduler_that_ends_is_named_and_quoted_alone() {
    let died = |code| ToHost::SchedulerDied {
        end: ProcessEnd::Exited(code),
        signal: None,
    };
    let passed = ToHost::TestResult(Box::new(AssertResult::pass()));
    let second = vec![
        attached(),
        prints("of the first\n"),
        starting(Some("exiter")),
        prints("of the second\n"),
        attached(),
        died(0),
        prints("its last word\n"),
    ];
    let third = [
        starting(Some("sound")),
        prints("of the third\n"),
        attached(),
    ];
    let case = Case {
        changed: true,
        ..CASE
    };
    for more in [&third[..0], &third[..2], &third] {
        let messages = [&second, more, std::slice::from_ref(&passed)].concat();
        let judgement = judge(&case, &End::Completed, &guest_after(messages), "", None);
        assert_eq!(
            message(&judgement),
            "scheduler process died: `exiter` stopped on its own and exited with code 0; its last output:\n    \
             of the second\n    its last word"
        );
        assert_eq!(judgement.fault, Some(Fault::Scheduler));
        let evidence = judgement.evidence.unwrap_or_default();
        assert!(
            evidence.contains("`exiter`, which the test started"),
            "{evidence}"
        );
    }
    // The test started its own scheduler again.
    let restarted = vec![attached(), starting(None), attached(), died(1), passed];
    let judgement = judge(&case, &End::Completed, &guest_after(restarted), "", None);
    let text = message(&judgement);
    assert!(text.contains("`scx_x` exited with code 1"), "{text}");
}

#[test]
fn of_several_schedulers_the_one_that_was_ejected_is_named() {
    let console = "[ 3.0] sched_ext: BPF scheduler \"b\" disabled (runtime error)\n";
    let passed = ToHost::TestResult(Box::new(AssertResult::pass()));
    let guest = guest_after(vec![attached(), passed]);
    for (changed, name) in [(false, "`scx_x`"), (true, "`b`")] {
        let case = Case { changed, ..CASE };
        let judgement = judge(&case, &End::Completed, &guest, console, None);
        assert!(message(&judgement).contains(name), "{judgement:?}");
    }
}

#[test]
fn a_stall_under_real_time_hogs_is_the_tests_fault() {
    let stalled = left(1026, "SCX_EXIT_ERROR_STALL", "runnable task stall");
    let fault = |hog: bool| {
        let mut result = AssertResult::pass();
        if hog {
            result.note_value(
                HOG_KEY,
                "1 real-time worker of cgroup hog took the CPUs that it was on",
            );
        }
        let guest = guest_after(vec![attached(), ToHost::TestResult(Box::new(result))]);
        judge(&CASE, &End::Completed, &guest, "", Some(&stalled)).fault
    };
    assert_eq!(fault(true), Some(Fault::Test));
    assert_eq!(fault(false), Some(Fault::Scheduler));
}

#[test]
fn a_scheduler_that_dies_under_a_passing_test_fails_it() {
    let judgement = judge(
        &CASE,
        &End::Completed,
        &guest_after(vec![
            attached(),
            ToHost::SchedulerDied {
                end: ProcessEnd::Signaled(11),
                signal: None,
            },
            ToHost::TestResult(Box::new(AssertResult::pass())),
        ]),
        "",
        None,
    );
    assert!(judgement.result.is_fail());
    assert!(message(&judgement).starts_with("scheduler process died"));
}

/// Returns the engine's finding about a scheduler whose process still exists while sched_ext is disabling.
fn found_dead() -> ToHost {
    ToHost::TestResult(Box::new(AssertResult::fail(AssertDetail::of(
        Finding::SchedulerDied {
            scheduler: None,
            end: SchedulerEnd::Disabled,
            how:
                "the kernel has disabled the scheduler or is disabling it (the state of sched_ext is `disabling`); its process, \
                 pid 101, still exists"
                    .into(),
            log: String::new(),
        },
    ))))
}

#[test]
fn leaving_ejection_and_killing_are_distinguished() {
    let unregistered = left(64, "SCX_EXIT_UNREG", "unregistered from user space");
    let stalled = left(1026, "SCX_EXIT_ERROR_STALL", "runnable task stall");
    let died = |end| ToHost::SchedulerDied { end, signal: None };
    for (more, exit, kind, says) in [
        (
            None,
            Some(&unregistered),
            DetailKind::SchedulerExitedCleanly,
            "`scx_x` stopped on its own",
        ),
        (
            Some(died(ProcessEnd::Exited(0))),
            None,
            DetailKind::SchedulerExitedCleanly,
            "`scx_x` stopped on its own and exited with code 0",
        ),
        (
            Some(died(ProcessEnd::Signaled(9))),
            Some(&unregistered),
            DetailKind::SchedulerCrashed,
            "`scx_x` was killed by signal 9",
        ),
        (
            None,
            Some(&stalled),
            DetailKind::SchedulerCrashed,
            "sched_ext is `disabling`",
        ),
        (
            None,
            None,
            DetailKind::SchedulerDiedUnknownReason,
            "sched_ext is `disabling`",
        ),
    ] {
        let messages = [attached(), found_dead()].into_iter().chain(more).collect();
        let judgement = judge(&CASE, &End::Completed, &guest_after(messages), "", exit);
        let details: Vec<_> = judgement.result.failure_details().collect();
        assert_eq!(details[0].kind, kind, "{details:?}");
        assert!(details[0].message.starts_with("scheduler process died: "));
        assert!(details[0].message.contains(says), "{details:?}");
        let ejected = exit.is_some_and(ScxExit::is_error);
        assert_eq!(details.len(), 1 + usize::from(ejected), "{details:?}");
        assert_eq!(judgement.fault, Some(Fault::Scheduler));
        assert!(judgement.evidence.is_some());
    }
}

/// The engine found no process, while PID 1, which reaps the scheduler, has not seen its end: the two contradict each other.
#[test]
fn a_scheduler_that_nobody_saw_end_is_not_blamed() {
    let gone = ToHost::TestResult(Box::new(AssertResult::fail(AssertDetail::of(
        Finding::SchedulerDied {
            scheduler: None,
            end: SchedulerEnd::Unknown,
            how: "pid 101 is gone".into(),
            log: String::new(),
        },
    ))));
    let guest = guest_after(vec![attached(), gone]);
    let judgement = judge(&CASE, &End::Completed, &guest, "", None);
    assert_eq!(judgement.fault, Some(Fault::Undetermined));
    assert!(!judgement.result.is_fail(), "{:?}", judgement.result);
}

#[test]
fn a_scheduler_that_is_stopped_after_the_test_did_not_leave() {
    let unregistered = left(64, "SCX_EXIT_UNREG", "unregistered from user space");
    let passed = guest_after(vec![
        attached(),
        ToHost::TestResult(Box::new(AssertResult::pass())),
    ]);
    let judgement = judge(&CASE, &End::Completed, &passed, "", Some(&unregistered));
    assert!(judgement.result.is_pass() && judgement.fault.is_none());
}

#[test]
fn an_ejection_is_reported_in_the_kernels_words() {
    let console = "[   12.1] sched_ext: BPF scheduler \"x\" disabled (runnable task stall)\n\
                   [   12.1] sched_ext: x: watchdog failed to check in for 5.004s\n";
    let passed = guest_after(vec![
        attached(),
        ToHost::TestResult(Box::new(AssertResult::pass())),
    ]);
    let judgement = judge(&CASE, &End::Completed, &passed, console, None);
    assert_eq!(
        message(&judgement),
        "the kernel ejected scheduler `scx_x`: runnable task stall \
         (watchdog failed to check in for 5.004s)"
    );
    assert_eq!(judgement.fault, Some(Fault::Scheduler));
    let clean = "[ 3.0] sched_ext: BPF scheduler \"x\" disabled (unregistered from user space)\n";
    assert!(
        judge(&CASE, &End::Completed, &passed, clean, None)
            .result
            .is_pass()
    );
}

#[test]
fn an_ejection_is_reported_from_the_exit_record() {
    let exit = ScxExit {
        kind: 1026,
        kind_name: "SCX_EXIT_ERROR_STALL".into(),
        reason: "runnable task stall".into(),
        msg: "worker[77] failed to run for 5.004s".into(),
        backtrace: vec![
            "scx_vexit+0x6d".into(),
            "__scx_exit+0x4f".into(),
            "scx_watchdog_workfn+0x1b6".into(),
            "process_one_work+0x1cd".into(),
            "worker_thread+0x1af".into(),
            "kthread+0xe5".into(),
        ],
        ..ScxExit::default()
    };
    let passed = guest_after(vec![
        attached(),
        ToHost::TestResult(Box::new(AssertResult::pass())),
    ]);
    let judgement = judge(&CASE, &End::Completed, &passed, "", Some(&exit));
    assert_eq!(
        message(&judgement),
        "the kernel ejected scheduler `scx_x`: runnable task stall \
         (worker[77] failed to run for 5.004s)"
    );
    assert_eq!(
        judgement.evidence.as_deref(),
        Some(
            "sched_ext reported SCX_EXIT_ERROR_STALL; detected in \
             scx_watchdog_workfn+0x1b6, called by process_one_work+0x1cd, called by worker_thread+0x1af"
        )
    );
    assert_eq!(judgement.fault, Some(Fault::Scheduler));
    assert_eq!(exit.stalled(), Some(("worker[77]", 5.004)));
}

/// A crowd of processes that the test forked can make the kernel's own watchdog wait for a CPU, like any other task.
#[test]
fn a_crowd_excuses_a_stall_of_the_watchdog_too() {
    use ktstr_snapshot::report::TaskEnrichment;
    let fault = |msg: &str| {
        let exit = ScxExit {
            kind: 1026,
            kind_name: "SCX_EXIT_ERROR_STALL".into(),
            reason: "runnable task stall".into(),
            msg: msg.into(),
            ..ScxExit::default()
        };
        let task = |pid| TaskEnrichment {
            pid,
            tgid: pid,
            comm: "test".to_owned(),
            ..TaskEnrichment::default()
        };
        let stall = StallReport {
            cpus: 2,
            processes: (1..=400).map(task).collect(),
            ..StallReport::default()
        };
        let mut guest = guest_after(vec![attached()]);
        guest.test_pid = Some(1);
        let end = End::TimedOut(WatchdogKillReason::Tier1CpuBudget, stall);
        judge(&CASE, &end, &guest, "", Some(&exit)).fault
    };
    // Two CPUs need 4 s to give each of 400 processes a slice.
    for msg in [
        "watchdog failed to check in for 1.004s",
        "worker[77] failed to run for 1.004s",
    ] {
        assert_eq!(fault(msg), Some(Fault::Test), "{msg}");
    }
    for msg in [
        "watchdog failed to check in for 5.004s",
        "worker[77] failed to run for 5.004s",
    ] {
        assert_eq!(fault(msg), Some(Fault::Scheduler), "{msg}");
    }
}

/// The trace of signals shows who ended a scheduler: process 7 is the scheduler itself, process 100 the test process, and
/// process 1 the guest's init.
#[test]
fn a_scheduler_that_somebody_killed_is_not_at_fault() {
    use ktstr_guest::protocol::SentSignal;
    let judged = |sender| {
        let died = ToHost::SchedulerDied {
            end: ProcessEnd::Signaled(9),
            signal: Some(SentSignal {
                signal: 9,
                sender,
                comm: "x".into(),
            }),
        };
        let started = ToHost::TestStarted { pid: 100 };
        let passed = ToHost::TestResult(Box::new(AssertResult::pass()));
        let guest = guest_after(vec![attached(), started, died, passed]);
        judge(&CASE, &End::Completed, &guest, "", None)
    };
    assert_eq!(judged(100).fault, Some(Fault::Test));
    assert_eq!(judged(230).fault, Some(Fault::Test));
    assert_eq!(judged(1).fault, Some(Fault::Harness));
    assert_eq!(judged(7).fault, Some(Fault::Scheduler));
}

#[test]
fn a_restart_after_a_hotplug_is_not_the_schedulers_fault() {
    let mut unplugged = left(
        65,
        "SCX_EXIT_UNREG_KERN",
        "unregistered from the main kernel",
    );
    unplugged.exit_code = 1 << 48 | 1 << 32;
    let guest = guest_after(vec![attached(), found_dead()]);
    let judgement = judge(&CASE, &End::Completed, &guest, "", Some(&unplugged));
    assert_eq!(judgement.fault, Some(Fault::Test), "{judgement:?}");
    // A scheduler that requests a restart for a reason of its own.
    unplugged.exit_code = 1 << 48;
    let judgement = judge(&CASE, &End::Completed, &guest, "", Some(&unplugged));
    assert_eq!(judgement.fault, Some(Fault::Scheduler), "{judgement:?}");
}

#[test]
fn a_schedulers_own_watchdog_says_little_under_the_virtual_clock() {
    let log = prints("watchdog: no progress for 10 s, exiting\n");
    let died = ToHost::SchedulerDied {
        end: ProcessEnd::Exited(1),
        signal: None,
    };
    let passed = ToHost::TestResult(Box::new(AssertResult::pass()));
    let guest = guest_after(vec![attached(), log, died, passed]);
    let judged = |virtual_clock| {
        let case = Case {
            virtual_clock,
            ..CASE
        };
        judge(&case, &End::Completed, &guest, "", None)
    };
    let slow = judged(true);
    assert!(slow.result.is_inconclusive(), "{slow:?}");
    assert_eq!(slow.fault, Some(Fault::Undetermined));
    assert_eq!(judged(false).fault, Some(Fault::Scheduler));
}
