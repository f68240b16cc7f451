//! Tests of the text about captures, with a hand-written schedule.
#![allow(clippy::unwrap_used)]

use ktstr::snapshot::{DsqState, QueuedTask, RqScxState, ScxSchedState, Section, TaskEnrichment};
use ktstr_record::CaptureMoment;

use super::*;
use crate::story::testing::story;

const MS: u64 = 1_000_000;

fn record(captures: Vec<CaptureRecord>) -> RunRecord {
    RunRecord {
        run_id: "RUN".to_owned(),
        clock: Some(Clock::Virtual),
        captures,
        ..RunRecord::new("t")
    }
}

/// Returns a capture at `ms` of the kernel's scheduler clock. The first step of the story starts at 10 ms, and `elapsed_ms`
/// counts from there.
fn at(tag: &str, ms: u64, moment: Option<CaptureMoment>) -> CaptureRecord {
    CaptureRecord {
        tag: tag.to_owned(),
        clock_ns: Some(ms * MS),
        elapsed_ms: Some(ms - 10),
        moment,
        ..CaptureRecord::default()
    }
}

/// Returns a report in which task 7 is the second in queue 3 of the scheduler, and task 8 runs.
fn report() -> FailureDumpReport {
    let queued = |pid, comm: &str| QueuedTask {
        pid,
        comm: comm.to_owned(),
        vtime: 5,
    };
    let task = |pid, on_cpu, state| TaskEnrichment {
        pid,
        on_cpu,
        state,
        ..TaskEnrichment::default()
    };
    FailureDumpReport {
        dsq_states: vec![
            DsqState {
                origin: "local cpu 0".to_owned(),
                ..DsqState::default()
            },
            DsqState {
                id: 3,
                nr: 2,
                origin: "user".to_owned(),
                tasks: vec![queued(9, "first"), queued(7, "\u{1b}[2J")],
                ..DsqState::default()
            },
        ]
        .into(),
        task_enrichments: vec![
            task(7, false, 0),
            task(8, true, 0),
            task(9, false, 0),
            task(6, false, 1),
        ]
        .into(),
        rq_scx_states: vec![RqScxState {
            nr_running: 3,
            curr_pid: Some(8),
            curr_comm: Some("hog".to_owned()),
            ..RqScxState::default()
        }]
        .into(),
        scx_sched_state: Section::Whole(ScxSchedState {
            enable_state: "enabled".to_owned(),
            ops_name: Some("ktstr".to_owned()),
            exit_kind_name: Some("SCX_EXIT_NONE".to_owned()),
            ..ScxSchedState::default()
        }),
        ..FailureDumpReport::default()
    }
}

#[test]
fn captures_during_a_wait_show_where_the_task_was() {
    let story = story();
    let captures = vec![("scx_exit".to_owned(), report())];
    // Task 7 waits from 61 to 90 ms.
    let times = (61 * MS, 90 * MS);
    let inside = record(vec![at("scx_exit", 70, Some(CaptureMoment::ScxExit))]);
    insta::assert_snapshot!(
        of_wait(&inside, &story, &captures, Pid(7), times),
        @"In the capture scx_exit at 0.060000 s it was in DSQ 0x3, as number 2 of 2."
    );
    let without = record(vec![at("scx_exit", 30, Some(CaptureMoment::ScxExit))]);
    let shown = of_wait(&without, &story, &captures, Pid(7), times);
    let command = "This command takes one shortly before the end of the wait: cargo ktstr replay RUN --capture-at 0.079000000s";
    assert!(shown.contains(command), "{shown}");
    // `replay` refuses runs of scenario files and of the verifier.
    for test in [crate::run::TEST, ktstr_record::VERIFIER_CELL] {
        let refused = RunRecord {
            test: test.to_owned(),
            ..without.clone()
        };
        assert_eq!(of_wait(&refused, &story, &captures, Pid(7), times), "");
    }
    // A run that cannot be reproduced has no such command.
    let real = RunRecord {
        clock: Some(Clock::Real),
        ..without
    };
    assert_eq!(of_wait(&real, &story, &captures, Pid(7), times), "");
}

#[test]
fn each_task_has_its_place() {
    let report = report();
    let of = |pid| place(&report, pid);
    assert_eq!(of(8).as_deref(), Some("running on CPU 0"));
    assert_eq!(of(6).as_deref(), Some("asleep"));
    assert_eq!(of(5), None);
    let mut unqueued = report.clone();
    unqueued.dsq_states = Section::default();
    let shown = place(&unqueued, 7);
    assert_eq!(
        shown.as_deref(),
        Some("runnable on CPU 0, in no dispatch queue")
    );
}

#[test]
fn a_finding_without_a_capture_near_it_has_the_command_for_one() {
    let story = story();
    let mark = |exact| Mark {
        finding: 1,
        from_ns: 61 * MS,
        to_ns: 81 * MS,
        text: String::new(),
        pid: Some(7),
        exact,
    };
    let far = record(vec![at("periodic_000", 20, None)]);
    let (_, command) = of_finding(&far, &story, &mark(true)).unwrap();
    assert_eq!(
        command.as_deref(),
        Some("cargo ktstr replay RUN --capture-at 0.070000000s")
    );
    assert_eq!(of_finding(&far, &story, &mark(false)), None);
    let near = record(vec![at("periodic_000", 90, None)]);
    let (shown, command) = of_finding(&near, &story, &mark(true)).unwrap();
    assert_eq!(
        (shown.as_str(), command),
        ("Captures near it: periodic_000.", None)
    );
}

#[test]
fn captures_are_listed_marked_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("record.json");
    let bytes = serde_json::to_vec(&[("scx_exit", report())]).unwrap();
    std::fs::write(folder.path().join("captures.json"), bytes).unwrap();
    let taken = at("scx_exit", 70, Some(CaptureMoment::ScxExit));
    let record = record(vec![at("periodic_000", 20, None), taken]);
    insta::assert_snapshot!(listed(&record, Some(10 * MS)), @r"
    captures: periodic_000
    capture scx_exit at 0.060000 s: sched_ext starts to disable the scheduler
    see: cargo ktstr show RUN --capture scx_exit
    ");
    insta::assert_snapshot!(text(&record, &path, "scx_exit").unwrap(), @r"
    scx_exit at 0.060 s of the window: sched_ext starts to disable the scheduler
    sched_ext: ktstr, enabled, exit kind SCX_EXIT_NONE, bypass depth 0
    CPU 0: runs hog[8], 3 runnable
    DSQ 0x3: 2 tasks
      first[9], vtime 5
      \u{1b}[2J[7], vtime 5
    empty dispatch queues: 1
    ");
    let error = text(&record, &path, "nothing").unwrap_err().to_string();
    assert!(error.contains("it has periodic_000, scx_exit"), "{error}");
    let error = text(&record, &path, "periodic_000")
        .unwrap_err()
        .to_string();
    assert!(error.contains("captures.json has no capture"), "{error}");
    let marks = marks(&record, &story());
    assert_eq!(
        marks[1].text,
        "capture scx_exit: sched_ext starts to disable the scheduler"
    );
    assert_eq!((marks[1].from_ns, marks[1].finding), (70 * MS, 0));
}
