//! Tests that a trace agrees with its schedule.
#![allow(clippy::unwrap_used)]

use ktstr_record::FindingRecord;
use ktstr_schedule::{Class, Cpu, Event, Pid, Reason, Tables, Topology, What, Writer};

use super::read::{Value as Field, cpu_time, field, fields};
use super::*;
use crate::story::testing;

fn made(file: &[u8], last: Option<&str>) -> Vec<u8> {
    tried(file, last).unwrap()
}

fn tried(file: &[u8], last: Option<&str>) -> Result<Vec<u8>> {
    let record = RunRecord {
        findings: vec![FindingRecord {
            message: "a task waited".to_owned(),
            phase: Some("Step[1]".to_owned()),
            data: serde_json::json!({ "starved": { "task": "x[7]", "from_ms": 51, "waited_ms": 20 } }),
            ..FindingRecord::default()
        }],
        kernel: Some("7.3.4".to_owned()),
        ..RunRecord::new("t")
    };
    let last = last.map(|last| last.parse().unwrap());
    trace(&record, file, &Value::Null, last)
}

/// Returns the events on tracks: for each, the name of the track, the event's type, its time in milliseconds, and its name.
fn events(trace: &[u8]) -> Vec<(String, u64, u64, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut names = std::collections::HashMap::new();
    let mut events = Vec::new();
    for packet in fields(trace).into_iter().map(|(_, packet)| packet.bytes()) {
        if let Some(track) = field(packet, 60).map(Field::bytes) {
            let name = text(field(track, 2).unwrap().bytes());
            names.insert(field(track, 1).unwrap().number(), name);
        }
        if let Some(event) = field(packet, 11).map(Field::bytes) {
            let track = names[&field(event, 11).unwrap().number()].clone();
            let at = field(packet, 8).unwrap().number() / 1_000_000;
            let name = field(event, 23).map_or_else(String::new, |name| text(name.bytes()));
            events.push((track, field(event, 9).unwrap().number(), at, name));
        }
    }
    events
}

#[test]
fn cpu_time_is_that_of_the_schedule_to_the_nanosecond() {
    for file in [testing::file(), testing::long(10_000)] {
        let sums = cpu_time(&made(&file, None));
        let story = Story::read(&file).unwrap();
        assert!(!sums.is_empty());
        for (task, ns) in sums {
            let booked = story
                .answers
                .sum(|key| u64::from(key.task.0) == task)
                .run_ns;
            assert_eq!(ns, booked, "task {task}");
        }
    }
}

#[test]
fn the_last_part_starts_with_the_running_tasks() {
    let sums = cpu_time(&made(&testing::file(), Some("70ms")));
    // From 20 to 90 ms: task 7 up to 27 ms, then task 8.
    assert_eq!(sums, [(7, 7_000_000), (8, 63_000_000)].into());
}

#[test]
fn the_part_before_a_finding_ends_with_it() {
    // The finding is about a wait up to 81 ms: in the 30 ms before that, task 7 slept for 10 ms and waited for 20 ms.
    let trace = made(&testing::file(), Some("30ms-before-finding"));
    assert_eq!(cpu_time(&trace), [(8, 30_000_000)].into());
    let ends = events(&trace).into_iter().map(|(.., at, _)| at).max();
    assert_eq!(ends, Some(81));
    let error = tried(&testing::file(), Some("1ms-before-finding-2")).unwrap_err();
    assert!(
        error.to_string().contains("has no finding 2: it has 1"),
        "{error}"
    );
}

#[test]
fn steps_findings_and_moments_have_tracks() {
    let events = events(&made(&testing::file(), None));
    let of = |track: &str| {
        let found = events.iter().filter(|(of, ..)| of == track);
        found
            .map(|(_, kind, at, name)| (*kind, *at, name.as_str()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        of("Steps"),
        [
            (1, 10, "Step[0]"),
            (2, 50, ""),
            (1, 60, "Step[1]"),
            (2, 90, "")
        ]
    );
    assert_eq!(of("Finding 1"), [(1, 61, "a task waited"), (2, 81, "")]);
    let moment = (3, 70, "the BPF scheduler is being unloaded");
    assert_eq!(of("sched_ext and CPUs"), [moment]);
    assert!(of("Tasks that wait").len() > 2);
}

#[test]
fn missing_events_have_a_track() {
    let events = events(&made(&testing::thinned(), None));
    let of: Vec<_> = events
        .iter()
        .filter(|(track, ..)| track == "Missing events")
        .map(|(_, kind, at, _)| (*kind, *at))
        .collect();
    assert_eq!(of, [(1, 1), (2, 50)]);
}

#[test]
fn a_wake_up_says_who_woke_whom() {
    let found = wake_ups(&made(&testing::file(), None));
    assert_eq!(found, [(12_000_000, 8, 7), (61_000_000, 8, 7)]);
}

/// The fair class keeps a sleeping task on its queue for a while, and the next enqueue of the task is not marked as a wake-up.
#[test]
fn a_task_whose_dequeue_was_delayed_is_woken() {
    let mut writer = Writer::default();
    let switch = |prev, next, reason| What::Switch {
        prev: Pid(prev),
        next: Pid(next),
        reason,
    };
    let wake = What::Wake {
        task: Pid(7),
        waker: Pid(8),
        interrupt: false,
    };
    let enqueue = What::Enqueue {
        task: Pid(7),
        on: Cpu(0),
        class: Class::Fair,
        wakeup: false,
    };
    for (ms, what) in [
        (10, What::Phase { number: 1 }),
        (11, switch(0, 7, Reason::Idle)),
        (20, switch(7, 8, Reason::Slept)),
        (30, wake),
        (30, enqueue),
        (35, switch(8, 7, Reason::Preempted)),
        (40, What::End {}),
    ] {
        writer.push(Event {
            time_ns: ms * 1_000_000,
            cpu: Cpu(0),
            what,
        });
    }
    let file = writer.finish(&Tables {
        topology: Topology {
            llc: vec![0],
            node: vec![0],
        },
        ..Tables::default()
    });
    assert_eq!(wake_ups(&made(&file, None)), [(30_000_000, 8, 7)]);
}

/// Returns the wake-ups in a trace: the time, the waker and the task that it woke.
fn wake_ups(trace: &[u8]) -> Vec<(u64, u64, u64)> {
    let mut found = Vec::new();
    for packet in fields(trace).into_iter().map(|(_, packet)| packet.bytes()) {
        for (_, event) in field(packet, 1).map_or_else(Vec::new, |bundle| fields(bundle.bytes())) {
            if let Field::Bytes(event) = event
                && let Some(waking) = field(event, 20)
            {
                let woken = field(waking.bytes(), 2).unwrap().number();
                found.push((
                    field(event, 1).unwrap().number(),
                    field(event, 2).unwrap().number(),
                    woken,
                ));
            }
        }
    }
    found
}
