//! The file format: events that are written are read back, truncated or modified files are refused, and thinned files
//! report their gaps.

use proptest::prelude::*;

use crate::event::{Class, Cpu, CpuMask, DequeueReason, Event, Pid, Reason, What};
use crate::query::Answers;
use crate::tables::Cgroup;
use crate::testing::Script;
use crate::{ReadError, Schedule, Tables, Topology, Writer};

/// Creates `switches` switches with their accompanying events, at irregular times.
fn busy(switches: u32) -> Vec<Event> {
    let mut script = Script::default();
    let mut time = 1 << 40;
    for n in 0..switches {
        let (prev, next) = (1000 + n % 7, 1000 + (n + 1) % 7);
        let cpu = (n % 4) as u16;
        time += 1000 + u64::from(n.wrapping_mul(2_654_435_761) >> 12);
        script.at(time).wake(cpu, prev, cpu);
        script
            .at(time + 300)
            .dequeue(cpu, prev, DequeueReason::Sleep);
        script.switch(cpu, prev, next, Reason::Slept);
    }
    script.events
}

fn file(events: &[Event], cap: usize) -> Vec<u8> {
    let mut writer = Writer::with_cap(cap);
    events.iter().for_each(|event| writer.push(*event));
    writer.finish(&Tables::default())
}

#[test]
fn a_switch_and_its_wake_up_take_a_few_bytes() {
    let len = file(&busy(100_000), usize::MAX).len();
    assert!(len < 600_000, "{len} bytes for 100,000 switches");
}

#[test]
fn truncated_or_modified_bytes_are_an_error() {
    let file = file(&busy(50), usize::MAX);
    assert!(Schedule::read(&file).is_ok());
    for len in 0..file.len() {
        assert!(Schedule::read(&file[..len]).is_err(), "cut to {len}");
    }
    for at in 0..file.len() {
        let mut changed = file.clone();
        changed[at] ^= 0x10;
        assert!(Schedule::read(&changed).is_err(), "changed at {at}");
    }
    let mut newer = file;
    newer[8] = 9;
    let error = Schedule::read(&newer).map(|_| ()).expect_err("version 9");
    assert!(
        matches!(error, ReadError::Version { found: 9, .. }),
        "{error}"
    );
}

#[test]
fn a_file_over_its_limit_loses_its_oldest_switches_and_reports_gaps() {
    let mut script = Script::default();
    // An event at the time 0 describes the state before the recording, so the gap does not begin there.
    script.at(0).affinity(1001, 3);
    for phase in 0..4u16 {
        let begin = u64::from(phase + 1) * 1_000_000;
        script.at(begin).phase(phase);
        script.affinity(1000, 3);
        for n in 0..1000u64 {
            script.at(begin + n * 100 + ((n * 2_654_435_761) >> 9) % 97);
            script.switch(0, 1000 + n as u32 * 7 % 11, 1001, Reason::Preempted);
        }
    }
    let whole = file(&script.events, usize::MAX);
    let thinned = file(&script.events, whole.len() * 6 / 10);
    assert!(thinned.len() < whole.len() * 7 / 10);
    let schedule = Schedule::read(&thinned).expect("a writer's file can be read");
    let gaps: Vec<_> = schedule.gaps().collect();
    assert_eq!(gaps.len(), 2, "{gaps:?}");
    assert!(gaps.iter().all(|gap| gap.switches == 1000));
    assert_eq!(gaps[0].from_ns, 1_000_000);
    assert_eq!(schedule.complete_from_ns(), Some(gaps[1].to_ns));
    let kept = schedule.events().expect("its events can be read");
    let affinities = kept
        .iter()
        .filter(|e| matches!(e.what, What::Affinity { .. }));
    assert_eq!(affinities.count(), 5, "rare events stay");
    let answers = Answers::of(&schedule).expect("a writer's events can be read");
    assert_eq!(
        answers.missing_ns,
        gaps.iter().map(|g| g.to_ns - g.from_ns).sum::<u64>()
    );
    assert_eq!(answers.complete_from_ns, Some(gaps[1].to_ns));
    assert_eq!(answers.sum(|key| key.phase < Some(2)).runs, 0);
    assert_eq!(answers.sum(|key| key.phase == Some(3)).runs, 1000);
}

#[test]
fn tables_are_kept() {
    let mut tables = Tables {
        topology: Topology {
            llc: vec![0, 0, 300, 300],
            node: vec![0, 0, 1, 1],
        },
        missing: vec!["scx_kick_cpu".to_owned()],
        unreadable: 3,
        ..Tables::default()
    };
    assert_eq!(
        (tables.name("a"), tables.name("b"), tables.name("a")),
        (0, 1, 0)
    );
    let path = "/ktstr/cg_0".to_owned();
    tables.cgroups.insert(1 << 40, Cgroup { path });
    let file = Writer::default().finish(&tables);
    let schedule = Schedule::read(&file).expect("a writer's file can be read");
    assert_eq!(schedule.tables(), &tables);
}

/// A small compressed table can unpack to many millions of empty names, which would take gigabytes of memory, so a list with more
/// than 2^20 entries is refused.
#[test]
fn tables_that_unpack_to_endless_lists_are_refused() {
    let of = |names: usize| {
        // The source, no unreadable observations, no missing functions.
        let mut plain = vec![1, 0, 0];
        crate::bytes::put(&mut plain, names as u64);
        // The zeros are the lengths of the names, which are empty, and the numbers of LLCs, nodes and cgroups.
        plain.resize(plain.len() + names + 3, 0);
        Tables::unpack(&miniz_oxide::deflate::compress_to_vec(&plain, 1))
    };
    let mut read = of(1 << 20).expect("2^20 names are read");
    assert_eq!(read.names.len(), 1 << 20);
    assert_eq!(read.name("one more"), u32::MAX);
    assert!(of((1 << 20) + 1).is_none());
}

/// Two gaps that each last for all time, as a damaged file can have them.
#[test]
fn endless_gaps_add_up_to_the_end_of_time() {
    let mut head = Vec::new();
    // The start and the end of the gap, the dropped events, and the switches among them.
    for number in [0, u64::MAX, 1, 1] {
        crate::bytes::put(&mut head, number);
    }
    let chunk = [head, crate::chunk::encode(&[])].concat();
    let mut file = crate::section::header();
    for _ in 0..2 {
        crate::section::append(&mut file, crate::section::Kind::Chunk, &chunk);
    }
    let tables = Tables::default().pack();
    crate::section::append(&mut file, crate::section::Kind::Tables, &tables);
    let schedule = Schedule::read(&file).expect("gaps are read");
    let answers = Answers::of(&schedule).expect("gaps have answers");
    assert_eq!((answers.gaps, answers.missing_ns), (2, u64::MAX));
}

fn what() -> impl Strategy<Value = What> {
    let pid = || (0..50u32).prop_map(Pid);
    let cpu = || any::<u16>().prop_map(Cpu);
    let reason = Reason::Yielded;
    prop_oneof![
        (pid(), pid()).prop_map(move |(prev, next)| What::Switch { prev, next, reason }),
        (pid(), pid(), any::<bool>()).prop_map(|(task, waker, interrupt)| What::Wake {
            task,
            waker,
            interrupt
        }),
        (pid(), cpu(), any::<bool>()).prop_map(|(task, on, wakeup)| What::Enqueue {
            task,
            on,
            class: Class::Deadline,
            wakeup
        }),
        (pid(), cpu()).prop_map(|(task, on)| What::Dequeue {
            task,
            on,
            class: Class::Stop,
            reason: DequeueReason::Throttle
        }),
        (pid(), any::<[u64; 2]>()).prop_map(|(task, mask)| What::Affinity {
            task,
            mask: CpuMask(mask)
        }),
        (pid(), any::<i8>()).prop_map(|(task, nice)| What::Nice { task, nice }),
        (pid(), any::<u64>()).prop_map(|(task, cgroup)| What::Cgroup { task, cgroup }),
        (pid(), any::<u64>(), any::<u64>()).prop_map(|(task, dsq, slice_ns)| What::Insert {
            task,
            dsq,
            slice_ns
        }),
        any::<u16>().prop_map(|number| What::Phase { number }),
        Just(What::End {}),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        parts in proptest::collection::vec((any::<u32>(), any::<u16>(), what()), 0..200),
    ) {
        let mut time_ns = 1u64 << 40;
        let events: Vec<Event> = parts
            .into_iter()
            .map(|(passed, cpu, what)| {
                time_ns = time_ns.wrapping_add(u64::from(passed)).wrapping_sub(1 << 20);
                Event { time_ns, cpu: Cpu(cpu), what }
            })
            .collect();
        let file = file(&events, usize::MAX);
        let schedule = Schedule::read(&file).expect("a writer's file can be read");
        prop_assert_eq!(schedule.events().expect("its events are read"), events);
        Answers::of(&schedule).expect("every schedule has answers");
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Schedule::read(&bytes);
        let _ = crate::chunk::decode(&bytes);
        let _ = Tables::decode(&bytes);
        // Arbitrary bytes inside a valid section.
        for kind in [crate::section::Kind::Chunk, crate::section::Kind::Tables] {
            let mut file = crate::section::header();
            crate::section::append(&mut file, kind, &bytes);
            let tables = Tables::default().pack();
            crate::section::append(&mut file, crate::section::Kind::Tables, &tables);
            if let Ok(schedule) = Schedule::read(&file) {
                let _ = Answers::of(&schedule);
            }
        }
        // Arbitrary bytes after a plausible number of events.
        let mut counted = vec![100];
        counted.extend(&bytes);
        let _ = crate::chunk::decode(&counted);
    }
}
