//! Schedulers that do not attach, and which of their last words are shown.

use super::*;

/// Judges a run whose scheduler printed `log` and exited before it attached.
fn judged_not_attached(log: &str) -> Judgement {
    let log = ToHost::Output {
        stream: ktstr_guest::protocol::Stream::Scheduler,
        text: log.into(),
    };
    let refused = ToHost::SchedulerNotAttached {
        reason: "it exited with code 1 before it attached".into(),
    };
    let guest = guest_after(vec![log, refused]);
    judge(&CASE, &End::Completed, &guest, "", None)
}

#[test]
fn a_refused_scheduler_shows_its_last_words() {
    let judgement = judged_not_attached("libbpf: prog 'x': BPF program load failed: -EACCES\n");
    assert!(message(&judgement).contains("EACCES"));
    assert_eq!(judgement.fault, Some(Fault::Scheduler));
}

#[test]
fn a_scheduler_that_does_not_fit_the_kernel_is_not_accused() {
    let judgement = judged_not_attached(
        "libbpf: extern (func ksym) 'scx_bpf_create_dsq': func_proto [171] incompatible with vmlinux [97242]\n\
               libbpf: failed to load object 'bpf_bpf'\n",
    );
    assert!(judgement.result.is_inconclusive());
    assert_eq!(judgement.fault, Some(Fault::Undetermined));
    let text = message(&judgement);
    assert!(
        text.contains("does not match this kernel: `scx_bpf_create_dsq`"),
        "{text}"
    );
    let evidence = judgement.evidence.unwrap_or_default();
    assert!(evidence.contains("func_proto [171]"), "{evidence}");
}

#[test]
fn a_scheduler_that_the_guest_has_no_memory_for_is_not_accused() {
    let console =
        "[    6.6] Out of memory: Killed process 7 (scx_x) total-vm:322584kB, anon-rss:320168kB\n";
    let of = |messages, console| {
        judge(
            &CASE,
            &End::Completed,
            &guest_after(messages),
            console,
            None,
        )
    };
    let refused = || ToHost::SchedulerNotAttached {
        reason: "it was killed by signal 9 before it attached".into(),
    };
    let dead = || {
        let pid = 7;
        vec![
            ToHost::SchedulerAttached { pid, took_ns: 1 },
            ToHost::SchedulerDied {
                end: ProcessEnd::Signaled(9),
                signal: None,
            },
            ToHost::TestResult(Box::new(AssertResult::pass())),
        ]
    };
    for judgement in [of(vec![refused()], console), of(dead(), console)] {
        assert!(judgement.result.is_inconclusive());
        assert_eq!(judgement.fault, Some(Fault::Undetermined));
        let text = message(&judgement);
        assert!(
            text.contains("the guest ran out of memory, of which it has"),
            "{text}"
        );
        let evidence = judgement.evidence.unwrap_or_default();
        assert!(
            evidence.starts_with("Out of memory: Killed process 7"),
            "{evidence}"
        );
    }
    // Signal 9 alone does not show a lack of memory, and a kill of another process says nothing about the scheduler.
    let other = console.replace("process 7", "process 8");
    for judgement in [of(vec![refused()], ""), of(dead(), ""), of(dead(), &other)] {
        assert!(judgement.result.is_fail());
        assert_eq!(judgement.fault, Some(Fault::Scheduler));
        assert!(!message(&judgement).contains("memory"));
    }
}

#[test]
fn a_refusal_is_shown_with_its_reason() {
    let refused = guest_after(vec![
        ToHost::Output {
            stream: ktstr_guest::protocol::Stream::Scheduler,
            text: include_str!("../../../../tests/data/refused.log").to_owned(),
        },
        ToHost::SchedulerNotAttached {
            reason: "it exited with code 1 before it attached".into(),
        },
    ]);
    let judgement = judge(&CASE, &End::Completed, &refused, "", None);
    let text = message(&judgement);
    assert!(text.contains("R1 invalid mem access 'scalar'"), "{text}");
    assert!(text.lines().count() < 20, "{text}");
    assert_eq!(
        judgement.evidence.as_deref(),
        Some(
            "it exited with code 1 before it attached; its whole log is scheduler.log, next to record.json"
        )
    );
}

#[test]
fn the_last_words_are_the_error_and_not_its_backtrace() {
    let log = "01:02 [INFO] starts\nError: No layer spec\n\nStack backtrace:\n   0: anyhow::error::msg\n             at ./error.rs:7\n   \
               1: main\n12 layers are left\n";
    assert_eq!(
        super::last_words(log),
        "    01:02 [INFO] starts\n    Error: No layer spec\n    12 layers are left"
    );
}
