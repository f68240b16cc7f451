//! Checks that Perfetto reads from a trace what the schedule contains: the CPU time of each task, and who woke whom, to the
//! nanosecond.
//!
//! `scripts/perfetto.sh` makes a run of a real kernel, writes its trace, and names the run's folder in `KTSTR_PERFETTO_RUN`.
//! The trace is decoded with the message definitions that Perfetto publishes, not with the code that wrote it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use ktstr_schedule::query::{Did, WaitCause, stretches};
use ktstr_schedule::{Cpu, Pid, SCHEDULE_FILE, Schedule};
use perfetto_protos::ftrace_event::FtraceEvent;
use perfetto_protos::trace::Trace;
use protobuf::Message;

/// A wake-up: the time, the pid of the waker (0 if unknown), and the pid of the task.
type Arrow = (u64, u32, u32);

fn folder() -> PathBuf {
    let folder = std::env::var_os("KTSTR_PERFETTO_RUN");
    folder
        .expect("KTSTR_PERFETTO_RUN names the folder of a run: use `make test-perfetto`")
        .into()
}

/// Reads the trace, and checks that its packets have no field that is missing from Perfetto's definitions.
fn trace() -> Trace {
    let bytes = std::fs::read(folder().join("trace.pftrace")).unwrap();
    let trace = Trace::parse_from_bytes(&bytes).unwrap();
    assert!(trace.packet.len() > 3, "{} packets", trace.packet.len());
    for packet in &trace.packet {
        let unknown = packet.special_fields.unknown_fields().iter().count();
        assert_eq!(unknown, 0, "{packet}");
    }
    trace
}

/// Returns the ftrace events, each with its CPU, in the order of the trace.
fn events(trace: &Trace) -> Vec<(u32, &FtraceEvent)> {
    let bundles = trace
        .packet
        .iter()
        .filter(|packet| packet.has_ftrace_events());
    bundles
        .flat_map(|packet| {
            let bundle = packet.ftrace_events();
            bundle.event.iter().map(|event| (bundle.cpu(), event))
        })
        .inspect(|(_, event)| {
            let unknown = event.special_fields.unknown_fields().iter().count();
            assert_eq!(unknown, 0, "{event}");
        })
        .collect()
}

#[test]
fn cpu_time_and_wake_ups_are_those_of_the_schedule() {
    let trace = trace();
    let events = events(&trace);
    let file = std::fs::read(folder().join(SCHEDULE_FILE)).unwrap();
    let schedule = Schedule::read(&file).unwrap();
    assert_eq!(schedule.gaps().count(), 0, "the schedule has no gaps");
    let mut arrows: BTreeMap<Arrow, u32> = BTreeMap::new();
    let answers = stretches(&schedule, |stretch| {
        if let Did::Waited {
            cause: WaitCause::Woken,
            waker,
            ..
        } = stretch.did
            && stretch.from_ns > 0
        {
            let waker = waker.map_or(0, |waker| waker.task.0);
            *arrows
                .entry((stretch.from_ns, waker, stretch.task.0))
                .or_default() += 1;
        }
    })
    .unwrap();

    let mut run: BTreeMap<u32, u64> = BTreeMap::new();
    let mut since: BTreeMap<u32, (u64, u32)> = BTreeMap::new();
    let mut switches: Vec<(u32, u64, u32)> = events
        .iter()
        .filter(|(_, event)| event.has_sched_switch())
        .map(|(cpu, event)| {
            (
                *cpu,
                event.timestamp(),
                event.sched_switch().next_pid().cast_unsigned(),
            )
        })
        .collect();
    // The sort is stable, so events with the same time keep their order.
    switches.sort_by_key(|(cpu, at, _)| (*cpu, *at));
    for (cpu, at, next) in switches {
        if let Some((from, task)) = since.insert(cpu, (at, next)).filter(|(_, task)| *task != 0) {
            *run.entry(task).or_default() += at - from;
        }
    }
    run.retain(|_, ns| *ns > 0);
    let mut booked: BTreeMap<u32, u64> = BTreeMap::new();
    for (key, totals) in &answers.totals {
        if key.task != Pid::IDLE && totals.run_ns > 0 {
            *booked.entry(key.task.0).or_default() += totals.run_ns;
        }
    }
    assert!(run.len() > 10, "{run:?}");
    assert_eq!(run, booked, "CPU time by the trace, and by the schedule");

    let mut traced: BTreeMap<Arrow, u32> = BTreeMap::new();
    for (cpu, event) in &events {
        if event.has_sched_waking() {
            let woken = event.sched_waking().pid().cast_unsigned();
            *traced
                .entry((event.timestamp(), event.pid(), woken))
                .or_default() += 1;
            assert!(Cpu(*cpu as u16) != Cpu::UNKNOWN);
        }
    }
    assert!(traced.len() > 100, "{} wake-ups", traced.len());
    let only = |of: &BTreeMap<Arrow, u32>, other: &BTreeMap<Arrow, u32>| {
        let missing = of
            .iter()
            .filter(|(arrow, count)| other.get(arrow) != Some(count));
        missing
            .take(5)
            .map(|(arrow, _)| *arrow)
            .collect::<Vec<Arrow>>()
    };
    let (in_trace, in_schedule) = (only(&traced, &arrows), only(&arrows, &traced));
    assert_eq!(
        (in_trace, in_schedule),
        (vec![], vec![]),
        "wake-ups that only the trace has, and wake-ups that only the schedule has"
    );
}

#[test]
fn steps_findings_and_counters_are_tracks() {
    let trace = trace();
    let names: BTreeMap<u64, &str> = trace
        .packet
        .iter()
        .filter(|packet| packet.has_track_descriptor())
        .map(|packet| {
            (
                packet.track_descriptor().uuid(),
                packet.track_descriptor().name(),
            )
        })
        .collect();
    let mut open: BTreeMap<&str, i64> = BTreeMap::new();
    let mut steps = 0;
    for packet in trace
        .packet
        .iter()
        .filter(|packet| packet.has_track_event())
    {
        let event = packet.track_event();
        assert!(packet.has_timestamp());
        let unknown = event.special_fields.unknown_fields().iter().count();
        assert_eq!(unknown, 0, "{event}");
        let name = names[&event.track_uuid()];
        use perfetto_protos::track_event::track_event::Type;
        match event.type_() {
            Type::TYPE_SLICE_BEGIN => {
                *open.entry(name).or_default() += 1;
                steps += u32::from(name == "Steps" && event.name().starts_with("Step["));
            }
            Type::TYPE_SLICE_END => *open.entry(name).or_default() -= 1,
            Type::TYPE_INSTANT => assert!(!event.name().is_empty()),
            Type::TYPE_COUNTER => {
                assert!(event.has_counter_value() || event.has_double_counter_value())
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(
        steps > 0 && names.values().any(|name| *name == "Tasks that wait"),
        "{names:?}"
    );
    assert!(open.values().all(|open| *open == 0), "{open:?}");
}
