//! Tests of the evidence for a finding that is looked up in a schedule: the task, its wait, and the trail.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use ktstr_schedule::{
    Cgroup, Class, Cpu, Event, Reason, SchedExtState, Tables, Topology, What, Writer,
};
use serde_json::json;

use super::*;

/// Returns a schedule in which two tasks wait. Task 7 of the cgroup `left` waits from 12 ms to 40 ms, and task 8 of `right`
/// from 20 ms until the scheduler is unloaded at 90 ms. The step starts at 10 ms.
fn schedule() -> Vec<u8> {
    let enqueue = |task: u32| What::Enqueue {
        task: Pid(task),
        on: Cpu(0),
        class: Class::Ext,
        wakeup: true,
    };
    let insert = |task: u32, dsq| What::Insert {
        task: Pid(task),
        dsq,
        slice_ns: 5_000_000,
    };
    let cgroup = |task: u32, cgroup| What::Cgroup {
        task: Pid(task),
        cgroup,
    };
    let events = [
        (1, cgroup(7, 3)),
        (1, cgroup(8, 4)),
        (10, What::Phase { number: 1 }),
        (12, enqueue(7)),
        (12, insert(7, 5)),
        (20, enqueue(8)),
        (20, insert(8, 6)),
        (
            40,
            What::Switch {
                prev: Pid::IDLE,
                next: Pid(7),
                reason: Reason::Idle,
            },
        ),
        (
            90,
            What::SchedExt {
                state: SchedExtState::Disabling,
            },
        ),
        (100, What::End {}),
    ];
    let mut writer = Writer::default();
    for (ms, what) in events {
        writer.push(Event {
            time_ns: ms * 1_000_000,
            cpu: Cpu(0),
            what,
        });
    }
    let path = |path: &str| Cgroup {
        path: path.to_owned(),
    };
    writer.finish(&Tables {
        topology: Topology {
            llc: vec![0],
            node: vec![0],
        },
        cgroups: BTreeMap::from([(3, path("/ktstr/left")), (4, path("/ktstr/right"))]),
        ..Tables::default()
    })
}

fn of(data: serde_json::Value, cgroup: Option<&str>) -> Evidence {
    ended(data, cgroup, None)
}

/// Returns the evidence for a failure with this data, about this cgroup, in [`schedule`]. `exit_ns` is when sched_ext began to
/// end the scheduler.
fn ended(data: serde_json::Value, cgroup: Option<&str>, exit_ns: Option<u64>) -> Evidence {
    let message = match data.pointer("/ejected") {
        Some(_) => "runtime error (target CPU 1 [of 2] not allowed for a b[8])",
        None => "",
    };
    let finding = FindingRecord {
        outcome: "fail".to_owned(),
        message: message.to_owned(),
        data,
        cgroup: cgroup.map(str::to_owned),
        ..FindingRecord::default()
    };
    Evidence::of(&[finding], &schedule(), "/ktstr", exit_ns).unwrap()
}

fn target(evidence: &Evidence) -> (Option<u32>, u64, u64) {
    let target = evidence.targets.first().unwrap();
    let pid = target.task.as_ref().map(|(_, pid)| *pid);
    (pid, target.from_ns / 1_000_000, target.to_ns / 1_000_000)
}

#[test]
fn the_wait_of_the_task_of_a_finding_is_captured_in_its_middle_and_at_its_end() {
    let starved = json!({ "starved": { "task": "[7]", "from_ms": 2, "waited_ms": 28 } });
    let evidence = of(starved, None);
    assert_eq!(target(&evidence), (Some(7), 12, 40));
    assert_eq!(evidence.times(16), [26_000_000, 39_000_000]);
    assert_eq!(evidence.times(1), [26_000_000]);
    assert!(
        evidence.trail[2].ends_with("was enqueued on CPU 0 (class Ext)"),
        "{:?}",
        evidence.trail
    );
    assert!(
        evidence.trail[3].contains("inserted into DSQ 0x5"),
        "{:?}",
        evidence.trail
    );
    assert!(
        evidence.trail[4].contains("then no event of the task for 28.000 ms"),
        "{:?}",
        evidence.trail
    );
}

#[test]
fn a_wait_ends_with_the_scheduler() {
    let starved = json!({ "starved": { "task": "[8]", "from_ms": 10, "waited_ms": 80 } });
    assert_eq!(target(&of(starved, None)), (Some(8), 20, 90));
}

#[test]
fn a_finding_about_a_cgroup_is_about_its_longest_wait() {
    let late =
        json!({ "late_wakeups": { "p90_ms": 3.0, "wakeups": 9, "queue": 1.0, "bound_ms": 2.0 } });
    assert_eq!(target(&of(late.clone(), Some("right"))).0, Some(8));
    assert_eq!(target(&of(late.clone(), Some("left"))).0, Some(7));
    // A part of a cgroup's name does not match.
    assert_eq!(target(&of(late.clone(), Some("eft"))), (None, 10, 100));
    assert_eq!(target(&of(late, None)).0, Some(8));
}

/// A message of the test or of the harness is about no wait, so no task and no scheduler has a trail for it. Without a BPF
/// scheduler no trail mentions one.
#[test]
fn a_finding_that_is_about_no_wait_has_no_trail() {
    let set_up = json!({ "set_up": { "stage": "step 1", "error": "no cgroup b[8]" } });
    for data in [serde_json::Value::Null, set_up] {
        for cgroup in [None, Some("left")] {
            let evidence = of(data.clone(), cgroup);
            assert_eq!(target(&evidence), (None, 10, 100), "{data} {cgroup:?}");
            assert!(evidence.trail.is_empty(), "{:?}", evidence.trail);
            assert_eq!(evidence.task(), None);
        }
    }
    let mut writer = Writer::default();
    for (ms, what) in [(10, What::Phase { number: 1 }), (100, What::End {})] {
        writer.push(Event {
            time_ns: ms * 1_000_000,
            cpu: Cpu(0),
            what,
        });
    }
    let sample = FindingRecord {
        outcome: "fail".to_owned(),
        data: json!({ "sustained": { "until_ms": 5 } }),
        ..FindingRecord::default()
    };
    let file = writer.finish(&Tables::default());
    let eevdf = Evidence::of(&[sample], &file, "/ktstr", None).unwrap();
    assert_eq!(target(&eevdf), (None, 15, 15));
    assert!(eevdf.trail.is_empty(), "{:?}", eevdf.trail);
}

#[test]
fn an_ejection_for_an_error_is_about_the_task_that_the_error_names() {
    let error = json!({ "ejected": { "cause": "error" } });
    let evidence = of(error.clone(), None);
    assert_eq!(target(&evidence), (Some(8), 90, 90));
    let trail = &evidence.trail;
    assert!(
        trail
            .iter()
            .any(|line| line.contains("inserted into DSQ 0x6")),
        "{trail:?}"
    );
    // If the time at which sched_ext reported the error is known, it counts instead of the time of the unload.
    assert_eq!(
        target(&ended(error, None, Some(21_000_000))),
        (Some(8), 21, 21)
    );
    assert_eq!(named_in("no task[x] in it, and [7] is none"), None);
}

#[test]
fn the_end_of_a_scheduler_and_a_sample_of_the_monitor_show_what_the_scheduler_did_before() {
    let died = of(json!({ "scheduler_died": { "end": "left" } }), None);
    assert_eq!(target(&died), (None, 90, 90));
    assert!(
        died.trail[0].contains("events of the BPF scheduler"),
        "{:?}",
        died.trail
    );
    let sample = of(json!({ "sustained": { "until_ms": 5 } }), None);
    assert_eq!(target(&sample), (None, 15, 15));
    assert!(
        sample
            .trail
            .iter()
            .any(|line| line.contains("[7] was inserted into DSQ 0x5"))
    );
    // A sample that names a task is about the task.
    let idle = json!({ "idle_cpu": { "task": "[8]", "until_ms": 15 } });
    assert_eq!(target(&of(idle, None)).0, Some(8));
}

#[test]
fn a_damaged_schedule_is_an_error_and_without_failures_there_is_no_evidence() {
    assert!(Evidence::of(&[], &[1, 2, 3], "/ktstr", None).is_err());
    let none = Evidence::of(&[], &schedule(), "/ktstr", None).unwrap();
    assert!(none.trail.is_empty() && none.times(16).is_empty());
}
