//! Tests of the bounds on the schedule: for each bound, one run stays within it and another breaks it.

use ktstr_scenario::scheduler::Promises;
use ktstr_schedule::Pid;
use ktstr_schedule::query::{OfCgroup, Starved, Wasted};

use super::*;

const MS: u64 = 1_000_000;

fn task() -> Who {
    Who::Task {
        pid: Pid(1007),
        name: "worker".to_owned(),
        cgroup: "a".to_owned(),
    }
}

fn underserved(got_ms: u64) -> Underserved {
    Underserved {
        who: Who::Cgroup("a".to_owned()),
        got_ns: got_ms * MS,
        entitled_ns: 1000 * MS,
        phase: Some(1),
        favoured: Some((Who::Cgroup("b".to_owned()), 250 * MS)),
    }
}

fn of_cgroup(value: f64) -> OfCgroup {
    OfCgroup {
        cgroup: "a".to_owned(),
        phase: Some(1),
        value,
        events: 100,
    }
}

/// Returns the measures of a run that stays just within every bound.
fn kept() -> Measures {
    Measures {
        starved: Some(Starved {
            who: task(),
            waited_ns: 900 * MS,
            owed_ns: 49 * MS,
            from_ns: 100 * MS,
            served: true,
        }),
        task: Some(Underserved {
            who: task(),
            ..underserved(510)
        }),
        cgroup: Some(underserved(710)),
        wasted: Some(Wasted {
            phase: Some(1),
            ns: 900 * MS,
            share: 0.09,
        }),
        wake: Some(of_cgroup(24e6)),
        queue: 2.0,
        preemptions: Some(of_cgroup(2900.0)),
        ran_ns: 1000 * MS,
        driven_ns: 510 * MS,
    }
}

/// Returns, for each bound, the measures of [`kept`] with one value beyond that bound, and the message about it.
fn broken() -> [(&'static str, Measures, &'static str); 7] {
    let mut starved = kept();
    starved.starved.as_mut().expect("there is one").owed_ns = 51 * MS;
    [
        (
            "max_owed_ms",
            starved,
            "worker[1007] waited 900 ms from +100ms, while it was entitled to 51 ms of CPU time (at most 50 ms may be owed)",
        ),
        (
            "min_entitled_share",
            Measures {
                cgroup: Some(underserved(690)),
                ..kept()
            },
            "cgroup a got 690 ms of CPU time and was entitled to 1000 ms: 0.69 of it (at least 0.70); cgroup b got 250 ms more than \
             its share",
        ),
        (
            "min_task_share",
            Measures {
                task: Some(Underserved {
                    who: task(),
                    favoured: None,
                    ..underserved(490)
                }),
                ..kept()
            },
            "worker[1007] got 490 ms of CPU time and was entitled to 1000 ms: 0.49 of it (at least 0.50)",
        ),
        (
            "max_wasted_share",
            Measures {
                wasted: Some(Wasted {
                    phase: Some(1),
                    ns: 1100 * MS,
                    share: 0.11,
                }),
                ..kept()
            },
            "1100 ms of CPU time stayed idle while tasks could have used it: 11 % of the step's CPU time (at most 10 %)",
        ),
        (
            "max_wake_wait_ms",
            Measures {
                wake: Some(of_cgroup(26e6)),
                ..kept()
            },
            "one in ten of 100 wake-ups waited 52.0 ms or longer for a CPU; a CPU had 2.0 tasks to serve on average (at most 25 ms for each task that the CPU serves)",
        ),
        (
            "max_preemption_rate",
            Measures {
                preemptions: Some(of_cgroup(3100.0)),
                ..kept()
            },
            "100 preemptions, 3100 in each second of CPU time (at most 3000)",
        ),
        (
            "min_driven_share",
            Measures {
                driven_ns: 490 * MS,
                ..kept()
            },
            "the scheduler under test gave 49 % of the workers' CPU time (at least 50 %): another class or sched_ext's bypass \
             gave the rest",
        ),
    ]
}

fn messages(checks: &Assert, measured: &Measures) -> Vec<String> {
    let found = findings(&DEFAULTS.merge(checks), measured, true);
    found
        .into_iter()
        .map(|(_, detail)| detail.message)
        .collect()
}

#[test]
fn each_bound_is_kept_by_one_run_and_broken_by_another() {
    assert_eq!(messages(&Assert::NO_OVERRIDES, &kept()), [""; 0]);
    for (what, measured, message) in broken() {
        assert_eq!(
            messages(&Assert::NO_OVERRIDES, &measured),
            [message],
            "{what}"
        );
    }
}

#[test]
fn a_bound_that_is_off_or_moved_is_not_broken() {
    let off = Assert::NO_OVERRIDES
        .min_entitled_share(Limit::At(0.1))
        .max_wake_wait_ms(Limit::At(60.0))
        .max_preemption_rate(Limit::At(4000.0))
        .without_defaults();
    for (what, measured, _) in broken() {
        assert_eq!(messages(&off, &measured), [""; 0], "{what}");
    }
}

/// Without a scheduler under test, no scheduler has to drive the tasks.
#[test]
fn without_a_scheduler_nothing_has_to_be_driven() {
    let none = Measures {
        driven_ns: 0,
        ..kept()
    };
    assert!(findings(&DEFAULTS, &none, false).is_empty());
    assert_eq!(findings(&DEFAULTS, &none, true).len(), 1);
}

#[test]
fn each_kind_of_finding_breaks_a_different_promise() {
    let found = broken();
    let mut promises: Vec<Promise> = found
        .iter()
        .filter(|(what, ..)| *what != "min_task_share")
        .flat_map(|(_, measured, _)| findings(&DEFAULTS, measured, true))
        .map(|(promise, _)| promise)
        .collect();
    while let Some(promise) = promises.pop() {
        assert!(!promises.contains(&promise), "{promise:?}");
        assert!(!Promises::ALL.without(promise).holds(promise));
    }
}

#[test]
fn a_verdict_says_which_time_an_incomplete_schedule_leaves_out() {
    let mut answers = Answers {
        from_ns: Some(2_000 * MS),
        to_ns: Some(12_000 * MS),
        ..Answers::default()
    };
    assert_eq!(unseen(&answers), None);
    // The gap ends before the first step.
    answers.complete_from_ns = Some(1_000 * MS);
    assert_eq!(unseen(&answers), None);
    answers.complete_from_ns = Some(5_500 * MS);
    let note = unseen(&answers).expect("a part of the steps is missing");
    assert!(
        note.contains("complete only from 3.500 s on, of the 10.000 s since the first step began"),
        "{note}"
    );
}

/// The driven share leaves out the time of real-time tasks, so a real-time hog does not explain a share that is too small.
#[test]
fn a_real_time_hog_does_not_excuse_a_scheduler_that_drives_nothing() {
    use super::super::tests::{CASE, NO_LOGS};
    use ktstr_guest::engine::HOG_KEY;
    use ktstr_schedule::query::{Key, Totals};
    let key = Key {
        phase: Some(1),
        task: Pid(1007),
        cgroup: Some(1),
        cpu: ktstr_schedule::Cpu(0),
    };
    let ran = Totals {
        run_ns: 1000 * MS,
        other_class_ns: 900 * MS,
        ..Totals::default()
    };
    let path = "/root/a".to_owned();
    let seen = Seen {
        answers: Answers {
            totals: [(key, ran)].into(),
            ..Answers::default()
        },
        tables: Tables {
            cgroups: [(1, ktstr_schedule::Cgroup { path })].into(),
            ..Tables::default()
        },
    };
    let mut result = AssertResult::pass();
    result.note_value(
        HOG_KEY,
        "1 real-time worker of cgroup hog took the CPUs that it was on",
    );
    let mut judgement = Judgement {
        guest: Ok(result.clone()),
        result,
        fault: None,
        evidence: None,
        crash: None,
    };
    let checks = &Assert::NO_OVERRIDES;
    judge(&mut judgement, &CASE, checks, &seen, "/root", NO_LOGS);
    let failed = judgement.result.failure_details();
    let not_driven = |d: &AssertDetail| matches!(d.finding, Finding::NotDriven { .. });
    assert!(failed.map(not_driven).eq([true]), "{judgement:?}");
    assert_eq!(judgement.fault, Some(Fault::Scheduler));
}
