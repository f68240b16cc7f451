//! Tests of which failures the schedule turns into notes: gaps and spreads that it does not confirm.

use ktstr_assert::{AssertResult, DetailKind};
use ktstr_guest::engine::HOG_KEY;
use ktstr_schedule::query::{TaskInfo, Wait, WaitCause};
use ktstr_schedule::{Class, Cpu};

use super::*;
use crate::run::verdict::Fault;
use crate::run::verdict::schedule::DEFAULTS;

const MS: u64 = NS_PER_MS;

/// Returns a schedule in which task 7 waited during these intervals, each from and to a time in milliseconds.
fn schedule(waits: &[(u64, u64)]) -> Answers {
    let wait = |&(from, to): &(u64, u64)| Wait {
        phase: Some(1),
        task: Pid(7),
        class: Class::Ext,
        cgroup: None,
        cpu: Cpu(0),
        cause: WaitCause::Preempted,
        from_ns: from * MS,
        to_ns: to * MS,
        owed_ns: 0,
        judged_ns: 0,
        served: true,
    };
    Answers {
        waits: waits.iter().map(wait).collect(),
        tasks: [(Pid(7), TaskInfo::default())].into(),
        ..Answers::default()
    }
}

fn gap() -> Finding {
    Finding::Gap {
        tid: 7,
        gap_ms: 2500,
        cpu: 0,
        at_ms: 4000,
        bound_ms: 2000,
    }
}

fn judged(finding: Finding, answers: &Answers) -> Judgement {
    judged_by(&DEFAULTS, finding, answers)
}

fn judged_by(checks: &Assert, finding: Finding, answers: &Answers) -> Judgement {
    let mut judgement = Judgement::fail(Fault::Scheduler, finding);
    acquit(
        &mut judgement,
        checks,
        answers,
        &Measures::default(),
        &Hogs::UNSEEN,
    );
    judgement
}

#[test]
fn a_gap_is_a_failure_only_if_the_worker_could_have_run() {
    for (waits, stands) in [
        // It waited throughout, once or many times.
        (&[(1500, 4000)][..], true),
        (&[(1000, 2100), (2110, 3300)], true),
        // It waited for a while, and was then frozen.
        (&[(1500, 1700)], false),
        (&[], false),
        // It waited twice, and the gap of 2500 ms is too short to contain enough of both waits.
        (&[(0, 1100), (4000, 5100)], false),
    ] {
        let judgement = judged(gap(), &schedule(waits));
        assert_eq!(judgement.result.is_fail(), stands, "{waits:?}");
        assert_eq!(judgement.fault.is_some(), stands, "{waits:?}");
        assert_eq!(judgement.result.info_notes.len(), usize::from(!stands));
    }
}

/// With `cpu.weight` 1 among 10,000 a worker gets 0.2 ms of CPU time in two seconds from a scheduler that follows the
/// weights.
#[test]
fn a_gap_is_no_failure_if_the_workers_weight_entitles_it_to_next_to_nothing() {
    let owed = |owed_ns: u64, judged_ms: u64| {
        let mut answers = schedule(&[(1500, 4000)]);
        answers.waits[0].owed_ns = owed_ns;
        answers.waits[0].judged_ns = judged_ms * MS;
        judged(gap(), &answers)
    };
    let light = owed(MS / 5, 1000);
    assert!(!light.result.is_fail() && light.fault.is_none());
    let notes = &light.result.info_notes;
    assert!(
        notes.iter().any(|note| note
            .to_string()
            .contains("its weight entitled it to 0.5 ms")),
        "{notes:?}"
    );
    assert!(
        owed(25 * MS, 1000).result.is_fail(),
        "62.5 ms in the whole wait"
    );
    // The real-time worker of a test took the CPU, so the weight explains nothing.
    let mut answers = schedule(&[(1500, 4000)]);
    answers.waits[0].judged_ns = 1000 * MS;
    let mut hogged = Judgement::fail(Fault::Test, gap());
    let hog = "1 real-time worker of cgroup hog took the CPUs that it was on";
    hogged.result.note_value(HOG_KEY, hog);
    acquit(
        &mut hogged,
        &Assert::NO_OVERRIDES,
        &answers,
        &Measures::default(),
        &Hogs::UNSEEN,
    );
    assert!(hogged.result.is_fail() && hogged.fault == Some(Fault::Test));
    // Too little of the wait was judged to say what the task was entitled to in the rest.
    assert!(owed(0, 400).result.is_fail());
}

/// Four workers share a CPU, and each finishes something only after 800 ms of CPU time. Each waits for three quarters of the
/// gap, but the schedule shows no wait in which it was owed much, so it reports no starvation either.
#[test]
fn a_gap_in_which_the_worker_took_its_turns_is_no_failure() {
    let turns_by = |checks: &Assert, length_ms: u64| {
        let waits: Vec<_> = (0..4000 / length_ms)
            .map(|turn| (turn * length_ms, turn * length_ms + length_ms * 3 / 4))
            .collect();
        let mut long = gap();
        if let Finding::Gap { gap_ms, .. } = &mut long {
            *gap_ms = 3200;
        }
        judged_by(checks, long, &schedule(&waits))
    };
    let turns = |length_ms| turns_by(&DEFAULTS, length_ms);
    // A bound of the test applies as it is, and so does the default one if no other check judges what the worker got.
    let unjudged = DEFAULTS.min_task_share(Limit::Off);
    for checks in [&DEFAULTS.max_gap_ms(1), &unjudged] {
        assert!(turns_by(checks, 60).result.is_fail());
    }
    let in_turns = turns(60);
    assert!(!in_turns.result.is_fail() && in_turns.fault.is_none());
    assert_eq!(in_turns.result.info_notes.len(), 1);
    // In a wait of 75 ms it may have been owed 75 ms, since nothing of it was judged.
    assert!(turns(100).result.is_fail());
}

#[test]
fn a_bound_of_the_test_on_owed_time_applies_to_gaps_too() {
    let mut answers = schedule(&[(1500, 4000)]);
    (answers.waits[0].owed_ns, answers.waits[0].judged_ns) = (100 * MS, 2500 * MS);
    for (bound, stands) in [(50.0, true), (200.0, false)] {
        let mut judgement = Judgement::fail(Fault::Scheduler, gap());
        let checks = Assert::NO_OVERRIDES.max_owed_ms(Limit::At(bound));
        acquit(
            &mut judgement,
            &checks,
            &answers,
            &Measures::default(),
            &Hogs::UNSEEN,
        );
        assert_eq!(judgement.result.is_fail(), stands, "{bound}");
    }
}

/// The worker waited for a long time, but the schedule shows that it ran, too, so its work is too long for the time it had.
/// Whether it got as much as it was entitled to is for the checks on the schedule.
#[test]
fn a_worker_that_ran_and_finished_nothing_is_no_failure_of_the_scheduler() {
    use ktstr_schedule::query::{Key, Totals};
    let idle = |exit| Finding::NoProgress { tid: 7, exit };
    let ran = |ms: u64| {
        let mut answers = schedule(&[(0, 900)]);
        let key = Key {
            phase: Some(1),
            task: Pid(7),
            cgroup: None,
            cpu: Cpu(0),
        };
        let run_ns = ms * MS;
        let totals = Totals {
            run_ns,
            ..Totals::default()
        };
        answers.totals.insert(key, totals);
        answers
    };
    assert!(!judged(idle(None), &ran(100)).result.is_fail());
    assert!(judged(idle(None), &ran(99)).result.is_fail());
    let unjudged = DEFAULTS.min_task_share(Limit::Off);
    let alone = judged_by(&unjudged, idle(None), &ran(100));
    assert!(alone.result.is_fail(), "no check judges what it got");
    // A worker that did not respond to the request to stop although it ran is the test's fault, so its finding stays.
    let unanswered = idle(Some(WorkerExitInfo::TimedOut));
    assert!(judged(unanswered, &ran(100)).result.is_fail());
}

#[test]
fn a_worker_without_work_is_a_failure_only_if_it_waited() {
    let idle = || Finding::NoProgress { tid: 7, exit: None };
    assert!(judged(idle(), &schedule(&[(0, 900)])).result.is_fail());
    assert!(!judged(idle(), &schedule(&[(0, 10)])).result.is_fail());
}

#[test]
fn failures_that_the_schedule_cannot_judge_remain() {
    assert!(
        judged(gap(), &Answers::default()).result.is_fail(),
        "an unknown task"
    );
    let holes = Answers {
        missing_ns: 1,
        ..schedule(&[])
    };
    assert!(
        judged(gap(), &holes).result.is_fail(),
        "events were left out"
    );

    let mut judgement = Judgement::fail(Fault::Scheduler, gap());
    let other = AssertDetail::new(DetailKind::Unfair, "spread");
    judgement.result.merge(AssertResult::fail(other));
    acquit(
        &mut judgement,
        &Assert::NO_OVERRIDES,
        &schedule(&[]),
        &Measures::default(),
        &Hogs::UNSEEN,
    );
    assert!(judgement.result.is_fail());
    assert_eq!(judgement.fault, Some(Fault::Scheduler));
    assert_eq!(judgement.result.failure_details().count(), 1);
}

/// Returns a schedule in which the queues were balanced for `even` milliseconds, and unbalanced for `uneven` milliseconds.
fn queues(even: u64, uneven: u64) -> Answers {
    Answers {
        even_ns: even * MS,
        uneven_ns: uneven * MS,
        ..Answers::default()
    }
}

#[test]
fn without_a_bound_of_the_test_a_spread_is_judged_by_each_tasks_share_of_its_entitlement() {
    let spread = || Finding::Spread {
        low_pct: 18.0,
        high_pct: 54.0,
        workers: 4,
        cpus: 4,
        bound_pct: 35.0,
    };
    let judged = |checks: &Assert, answers: &Answers| {
        let mut judgement = Judgement::fail(Fault::Kernel, spread());
        acquit(
            &mut judgement,
            checks,
            answers,
            &Measures::default(),
            &Hogs::UNSEEN,
        );
        assert_eq!(judgement.fault.is_some(), judgement.result.is_fail());
        judgement.result
    };
    let stands = |checks: &Assert, answers: &Answers| judged(checks, answers).is_fail();
    let shares = Assert::NO_OVERRIDES.min_task_share(Limit::At(0.5));
    for answers in [queues(100, 900), queues(1000, 0)] {
        let result = judged(&shares, &answers);
        assert!(!result.is_fail());
        assert_eq!(result.info_notes.len(), 1);
    }
    assert!(stands(&shares, &queues(0, 0)), "no step was looked at");
    let holes = Answers {
        missing_ns: 1,
        ..queues(100, 900)
    };
    assert!(stands(&shares, &holes), "events were left out");
    let off = shares.min_task_share(Limit::Off);
    assert!(stands(&off, &queues(1000, 0)), "nobody judges shares");
    let asked = shares.max_spread_pct(35.0);
    assert!(stands(&asked, &queues(1000, 0)));
}

/// Once the gap is acquitted, only the missing data is left, which is not the scheduler's fault.
#[test]
fn a_fault_is_attributed_again_if_only_missing_data_is_left() {
    let mut judgement = Judgement::fail(Fault::Scheduler, gap());
    let missing = AssertDetail::of(Finding::NotMeasured {
        kind: DetailKind::Benchmark,
        what: "the wake latency".to_owned(),
        why: String::new(),
    });
    judgement.result.record_inconclusive(missing);
    judgement.guest = Ok(judgement.result.clone());
    assert!(acquit(
        &mut judgement,
        &DEFAULTS,
        &schedule(&[]),
        &Measures::default(),
        &Hogs::UNSEEN
    ));
    assert!(judgement.result.is_inconclusive(), "{judgement:?}");
}

/// The worker was frozen from 1500 to 4000 ms after its release, and waited for others as long at another time.
#[test]
fn only_the_waits_in_a_gap_confirm_it() {
    // It was created at 90 ms, released at 100 ms, and ran first at 120 ms.
    let began = |forks_ns: &[u64]| TaskInfo {
        forks_ns: forks_ns.to_vec(),
        first_mark_ns: Some(120 * MS),
        ..TaskInfo::default()
    };
    let stands = |wait, info: TaskInfo| {
        let mut answers = schedule(&[wait]);
        answers.tasks.insert(Pid(7), info);
        judged(gap(), &answers).result.is_fail()
    };
    let elsewhere = (5000, 8000);
    assert!(!stands(elsewhere, began(&[90 * MS])));
    assert!(stands((1600, 4100), began(&[90 * MS])));
    // If the schedule does not show when the worker began, the gap may be anywhere.
    assert!(stands(elsewhere, TaskInfo::default()));
    assert!(stands(elsewhere, began(&[90 * MS, 9000 * MS])));
}

/// A deadline task that has used up its budget looks as if it waited.
#[test]
fn waits_of_a_deadline_task_confirm_no_gap() {
    let mut answers = schedule(&[(1500, 4000)]);
    answers.waits[0].class = Class::Deadline;
    let judgement = judged(gap(), &answers);
    assert!(!judgement.result.is_fail());
    let note = judgement.result.info_notes[0].to_string();
    assert!(note.contains("has used up its budget"), "{note}");
    // A deadline task that never ran may have been starved.
    let idle = Finding::NoProgress { tid: 7, exit: None };
    assert!(judged(idle, &answers).result.is_fail());
}
