//! Tests of the entries of the kernel's tracepoints: what each of them becomes, and that any bytes become a schedule.
#![allow(clippy::unwrap_used)]

use ktstr_schedule::Schedule;
use ktstr_schedule::query::{Answers, WaitCause};
use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;

fn member(offset: u64, size: u64) -> Member {
    Member {
        offset_bits: 8 * offset,
        size,
        type_id: 0,
        bitfield_bits: None,
    }
}

/// Returns formats in which the number of each tracepoint is its place in the table, and the members follow the head one after
/// the other, 8 bytes each, except for names of 16 bytes.
fn formats() -> Formats {
    let by_type = (0..)
        .zip(TRACEPOINTS)
        .map(|(number, (point, .., members))| {
            let mut at = 8;
            let members = members.iter().map(|name| {
                let size = if name.ends_with("comm") { 16 } else { 8 };
                let place = member(at, size);
                at += size;
                place
            });
            (number, (*point, members.collect()))
        });
    Formats {
        by_type: by_type.collect(),
        missing: Vec::new(),
    }
}

/// Returns the bytes of an entry that the task `current` causes.
fn bytes(point: Point, current: u32, numbers: &[i64], name: &str) -> Vec<u8> {
    let number = TRACEPOINTS.iter().position(|(of, ..)| *of == point);
    let mut bytes = (number.unwrap() as u16).to_le_bytes().to_vec();
    bytes.extend([0, 0]);
    bytes.extend(current.to_le_bytes());
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    bytes.extend(name.as_bytes());
    bytes.resize(bytes.len() + 16 - name.len(), 0);
    bytes
}

/// Returns the file for these entries of one CPU, of which none is missing from `complete_ns` on.
fn file_of(entries: &[(u64, Vec<u8>)], complete_ns: u64) -> Vec<u8> {
    let formats = formats();
    let read = |(at, bytes): &(u64, Vec<u8>)| formats.read(*at, Cpu(0), bytes);
    let mut sketch = Sketch::default();
    sketch.tables.source = Source::Tracepoints;
    sketch.tables.topology = Topology {
        llc: vec![0],
        node: vec![0],
    };
    for (entry, path) in entries.iter().filter_map(read) {
        sketch.take(&entry, complete_ns);
        let id = entry.numbers[1].cast_unsigned();
        let cgroups = &mut sketch.tables.cgroups;
        cgroups.extend(path.map(|path| (id, Cgroup { path })));
    }
    sketch.writer.finish(&sketch.tables)
}

/// Task 5 creates task 7 and wakes it, which preempts task 5. Task 7 then sleeps, and task 5 goes on with real-time priority.
#[test]
fn entries_become_waits_and_times() {
    let place = |text: &str| 32 | (text.len() as i64 + 1) << 16;
    let entries = [
        (MS, bytes(Point::Switch, 0, &[0, 0, 5, 120], "parent")),
        (2 * MS, bytes(Point::Fork, 5, &[5, 7], "")),
        (2 * MS, bytes(Point::WakeupNew, 5, &[7, 125, 0], "")),
        (5 * MS, bytes(Point::Attach, 5, &[7, 99, place("/a")], "/a")),
        (
            6 * MS,
            bytes(Point::Switch, 5, &[5, 0x100, 7, 125], "child"),
        ),
        (8 * MS, bytes(Point::Switch, 7, &[7, 1, 5, 49], "parent")),
        (9 * MS, bytes(Point::Waking, 5, &[7], "")),
        (9 * MS, bytes(Point::Wakeup, 5, &[7, 125, 0], "")),
        (
            10 * MS,
            bytes(Point::Switch, 5, &[5, 0x20, 7, 125], "child"),
        ),
        (11 * MS, bytes(Point::Switch, 7, &[7, 1, 0, 120], "swapper")),
    ];
    let file = file_of(&entries, 0);
    let schedule = Schedule::read(&file).unwrap();
    let answers = Answers::of(&schedule).unwrap();
    assert_eq!(schedule.tables().source, Source::Tracepoints);
    let of = |pid| answers.sum(|key| key.task == Pid(pid));
    assert_eq!((of(5).run_ns, of(7).run_ns), (7 * MS, 3 * MS));
    assert_eq!((of(5).preempted, of(5).slept, of(7).slept), (1, 0, 2));
    assert_eq!(of(5).higher_class_ns, 2 * MS, "from the second switch on");
    let waits: Vec<_> = answers
        .waits
        .iter()
        .map(|wait| (wait.task.0, wait.cause, wait.len_ns() / MS))
        .collect();
    let expected = [
        (7, WaitCause::Forked, 4),
        (5, WaitCause::Preempted, 2),
        (7, WaitCause::Woken, 1),
    ];
    assert_eq!(waits, expected);
    let child = &answers.tasks[&Pid(7)];
    assert_eq!(
        (child.name(), child.nice, child.parent),
        (Some("child"), Some(5), Some(Pid(5)))
    );
    assert_eq!(child.cgroups, [99]);
    assert_eq!(schedule.tables().cgroups[&99].path, "/a");
    // Nobody knows whether a task could have used an idle CPU.
    assert!(answers.wasted_ns.is_empty());
}

#[test]
fn only_what_stays_true_is_kept_of_a_time_with_missing_entries() {
    let entries = [
        (MS, bytes(Point::Switch, 0, &[0, 0, 5, 120], "early")),
        (6 * MS, bytes(Point::Switch, 5, &[5, 1, 0, 120], "swapper")),
    ];
    let file = file_of(&entries, 5 * MS);
    let events = Schedule::read(&file).unwrap().events().unwrap();
    let switches = events
        .iter()
        .filter(|event| matches!(event.what, What::Switch { .. }));
    assert_eq!(switches.count(), 1, "{events:?}");
    assert!(
        events
            .iter()
            .any(|event| matches!(event.what, What::Name { task: Pid(5), .. }))
    );
}

#[test]
fn the_buffers_take_a_share_of_the_memory() {
    let size = |memory, cpus| kernel_arguments(memory, cpus)[2].clone();
    assert_eq!(size(256, 4), "trace_buf_size=4096K");
    assert_eq!(size(256, 16), "trace_buf_size=1024K");
    assert_eq!(size(64, 128), "trace_buf_size=64K");
    assert_eq!(size(16384, 128), "trace_buf_size=512K");
    let events = &kernel_arguments(256, 4)[0];
    assert!(
        events.starts_with("trace_event=sched:sched_switch,sched:sched_waking,"),
        "{events}"
    );
}

proptest! {
    #[test]
    fn any_entries_become_a_schedule(
        entries in prop::collection::vec(
            (
                prop_oneof![4 => 0u64..100, 1 => any::<u64>()],
                prop::sample::select(TRACEPOINTS),
                prop::array::uniform5(prop_oneof![4 => -2i64..130, 1 => any::<i64>()]),
                "[a-c/]{0,16}",
                0usize..80,
            ),
            0..60,
        ),
        complete in 0u64..50,
    ) {
        let entries: Vec<(u64, Vec<u8>)> = entries
            .into_iter()
            .map(|(at, (point, ..), numbers, name, length)| {
                let mut bytes = bytes(point, 3, &numbers, &name);
                bytes.truncate(length);
                (at, bytes)
            })
            .collect();
        let file = file_of(&entries, complete);
        let schedule = Schedule::read(&file).unwrap();
        prop_assert!(Answers::of(&schedule).is_ok());
    }
}
