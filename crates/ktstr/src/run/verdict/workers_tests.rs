//! Tests that a wrong counter of any kind is detected, and that the scheduler is not blamed for it.

use ktstr_schedule::query::Answers;
use ktstr_schedule::{Cpu, Event, Reason, Schedule, Tables, What, Writer};

use super::*;

const MS: u64 = 1_000_000;
const TID: u32 = 1007;

/// Returns the schedule of a task that lives `lives` times. Each time it runs between its marks for 100 ms on CPU 0 and for
/// 100 ms on CPU 1.
fn seen(lives: u64) -> Seen {
    let mut writer = Writer::default();
    let task = Pid(TID);
    for life in 0..lives {
        let mut push = |ms: u64, cpu: u16, what: What| {
            writer.push(Event {
                time_ns: life * 1000 * MS + ms * MS,
                cpu: Cpu(cpu),
                what,
            });
        };
        let name = What::Name { task, name: 0 };
        let switch = |prev, next, reason| What::Switch { prev, next, reason };
        let parent = Pid(1);
        push(0, 0, What::Fork { task, parent });
        push(0, 0, name);
        push(1, 0, switch(Pid::IDLE, task, Reason::Idle));
        push(5, 0, name);
        push(105, 0, switch(task, Pid::IDLE, Reason::Slept));
        push(200, 1, switch(Pid::IDLE, task, Reason::Idle));
        push(300, 1, name);
        push(310, 1, switch(task, Pid::IDLE, Reason::Exited));
    }
    let tables = Tables {
        names: vec!["ktstr-spin".to_owned()],
        ..Tables::default()
    };
    let file = writer.finish(&tables);
    let schedule = Schedule::read(&file).expect("a writer's file can be read");
    let answers = Answers::of(&schedule).expect("a writer's events can be read");
    Seen { answers, tables }
}

fn honest() -> WorkerNumbers {
    WorkerNumbers {
        tid: TID.cast_signed(),
        cpu_ns: 200 * MS,
        slack_ns: 5_000,
        runs: 1,
        migrations: 1,
    }
}

fn judged(seen: &Seen, workers: &[WorkerNumbers]) -> Judgement {
    let mut judgement = Judgement::fail(
        Fault::Scheduler,
        Finding::NoAnswer {
            message: "the scheduler is unfair".to_owned(),
        },
    );
    judge(&mut judgement, seen, workers);
    judgement
}

#[test]
fn honest_reports_change_nothing() {
    let judgement = judged(&seen(2), &[honest(), honest()]);
    assert!(judgement.result.is_fail());
    assert_eq!(judgement.fault, Some(Fault::Scheduler));
    // A worker may count fewer events than the schedule shows, and CPU time may differ by 1 %.
    let blind = WorkerNumbers {
        cpu_ns: 200 * MS - 1_999_000,
        runs: 0,
        migrations: 0,
        ..honest()
    };
    assert!(judged(&seen(1), &[blind]).result.is_fail());
}

#[test]
fn a_falsified_report_leaves_no_answer() {
    let falsified = [
        (
            WorkerNumbers {
                cpu_ns: 204 * MS,
                ..honest()
            },
            "ktstr-spin[1007] counted 204.000 ms of CPU time, and the schedule shows 200.000 ms",
        ),
        (
            WorkerNumbers {
                cpu_ns: 196 * MS,
                ..honest()
            },
            "ktstr-spin[1007] counted 196.000 ms of CPU time, and the schedule shows 200.000 ms",
        ),
        (
            WorkerNumbers {
                runs: 2,
                ..honest()
            },
            "ktstr-spin[1007] counted 2 context switches to it, and the schedule shows 1",
        ),
        (
            WorkerNumbers {
                migrations: 2,
                ..honest()
            },
            "ktstr-spin[1007] counted 2 migrations, and the schedule shows 1",
        ),
        (
            WorkerNumbers { tid: 9, ..honest() },
            "worker[9] counted 200.000 ms of CPU time, but the schedule has no record of the worker",
        ),
    ];
    for (own, shown) in falsified {
        let judgement = judged(&seen(1), &[own]);
        assert!(judgement.result.is_inconclusive(), "{shown}");
        assert!(!judgement.result.is_fail(), "{shown}");
        assert_eq!(judgement.fault, Some(Fault::Harness));
        let details: Vec<_> = judgement.result.inconclusive_details().collect();
        assert!(details[0].message.ends_with(shown), "{details:?}");
        let notes = &judgement.result.info_notes;
        assert!(
            notes[0].message.contains("the scheduler is unfair"),
            "{notes:?}"
        );
    }
}

#[test]
fn many_falsified_reports_are_counted() {
    let wrong = WorkerNumbers {
        cpu_ns: 1,
        ..honest()
    };
    let judgement = judged(&seen(5), &[wrong; 5]);
    let message = judgement
        .result
        .inconclusive_details()
        .next()
        .map(|d| d.message.clone());
    let message = message.expect("the run has no answer");
    assert_eq!(
        message.matches("counted 0.000 ms").count(),
        TOLD,
        "{message}"
    );
    assert!(message.ends_with("and 2 more like these"), "{message}");
}

#[test]
fn without_marks_nothing_is_compared() {
    let mut seen = seen(1);
    seen.tables.missing.push(MARKS_BY.to_owned());
    let wrong = WorkerNumbers {
        cpu_ns: 1,
        ..honest()
    };
    assert!(judged(&seen, &[wrong]).result.is_fail());
}

/// The kernel charges the time from a dequeue to the switch to no task.
#[test]
fn the_time_of_a_task_that_is_dequeued_already_may_be_charged_or_not() {
    let span = Span {
        ran_ns: 10 * MS,
        leaving_ns: 2 * MS,
        runs: 6,
        migrations: 0,
        whole: true,
    };
    let own = |cpu_ns| WorkerNumbers {
        cpu_ns,
        runs: 0,
        migrations: 0,
        ..honest()
    };
    for cpu_ns in [8 * MS, 9 * MS, 10 * MS] {
        assert_eq!(disagreement(&own(cpu_ns), &span), None);
    }
    for cpu_ns in [7 * MS, 11 * MS] {
        assert!(disagreement(&own(cpu_ns), &span).is_some());
    }
}

#[test]
fn the_allowance_for_picking_the_next_task_is_bounded() {
    let span = |runs| Span {
        ran_ns: 100 * MS,
        leaving_ns: 0,
        runs,
        migrations: 0,
        whole: true,
    };
    let own = |cpu_ns| WorkerNumbers {
        cpu_ns,
        runs: 0,
        migrations: 0,
        ..honest()
    };
    // A thousand runs on a CPU would explain 40 ms, but picking explains at most 4 % of 100 ms. With the usual 1 % the
    // allowance is 5 ms.
    assert_eq!(disagreement(&own(95 * MS), &span(1000)), None);
    assert!(disagreement(&own(94 * MS), &span(1000)).is_some());
    assert!(disagreement(&own(95 * MS), &span(10)).is_some());
    // The allowance never explains CPU time that the schedule does not show.
    assert!(disagreement(&own(105 * MS), &span(1000)).is_some());
}
