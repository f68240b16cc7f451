//! Tests of a bypass while the scheduler stays attached.
//!
//! sched_ext bypasses a scheduler without ending it while the system is suspended or hibernated (`scx_pm_handler()`,
//! kernel/sched/ext.c). That handler is called as soon as a program opens `/dev/snapshot` for reading, which prepares for
//! hibernation, and again when the program closes it (`snapshot_open()` and `snapshot_release()`, kernel/power/user.c); nothing
//! is suspended in between.

use std::fs::File;
use std::time::Duration;

use crate::common::{Case, Ended};
use anyhow::Context;
use ktstr::prelude::*;
use ktstr::test_support::ClockMode;
use ktstr_record::RunVerdict;
use ktstr_schedule::{Event, Schedule, What};

const SCHED: Scheduler =
    Scheduler::named("ktstr_sched").binary(SchedulerSpec::Discover("scx-ktstr"));

macro_rules! bypassed {
    ($($entry:ident = $name:literal, $func:expr, $seed:literal;)*) => { $(
        case!($entry = $name, $func, clock: ClockMode::Virtual, topology: Topology::new(1, 1, 2, 1), seed: Some($seed),
            duration: Duration::from_secs(2), scheduler: &SCHED, num_snapshots: 2);
    )* };
}

bypassed! {
    SHORT = "bypass_short", short, 0;
    LONG = "bypass_long", long, 0;
}

/// Spinners on all CPUs, and a bypass that begins after 300 ms and ends after the given time.
fn spinners(ctx: &Ctx, bypassed: Duration) -> Result<AssertResult> {
    let prepare = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        let file = File::open("/dev/snapshot")?;
        std::thread::sleep(bypassed);
        drop(file);
        Ok::<(), std::io::Error>(())
    });
    let spinners = CgroupDef::named("spin").workers(4).comm("spinner");
    let result = execute_defs(ctx, vec![spinners])?;
    let prepared = prepare.join().expect("the thread does not panic");
    prepared.context("/dev/snapshot cannot be opened")?;
    Ok(result)
}

fn short(ctx: &Ctx) -> Result<AssertResult> {
    spinners(ctx, Duration::from_millis(400))
}

fn long(ctx: &Ctx) -> Result<AssertResult> {
    spinners(ctx, Duration::from_millis(1500))
}

/// Returns the start (`true`) and the end (`false`) of each bypass, with its time in milliseconds since the first step began.
fn bypasses(ended: &Ended) -> Vec<(bool, u64)> {
    let record = ended.record.as_ref().expect("a record");
    let file = std::fs::read(record.path.with_file_name("schedule.bin")).expect("a schedule");
    let schedule = Schedule::read(&file).expect("a schedule that can be read");
    let mut zero = None;
    let mut found = Vec::new();
    let walked = schedule.for_each(
        |event| match event.map(|event| (event.what, event.time_ns)) {
            Ok((What::Phase { number: 1 }, at)) => zero = Some(at),
            Ok((What::Bypass { on }, at)) => {
                found.extend(zero.map(|zero| (on, at.saturating_sub(zero) / 1_000_000)));
            }
            _ => {}
        },
    );
    walked.expect("a schedule that can be read");
    found
}

#[test]
fn a_bypass_without_an_end_of_the_scheduler_is_captured_and_passes() {
    let ended = Case::new("bypass_short").run();
    let record = &ended.record.as_ref().expect("a record").record;
    assert_eq!(record.verdict, RunVerdict::Pass, "{}", ended.text);
    // sched_ext also bypasses the scheduler while unloading it at the end of the run, but that bypass is not captured.
    let moments: Vec<_> = record
        .captures
        .iter()
        .filter(|c| c.moment.is_some())
        .collect();
    let [bypass] = &moments[..] else {
        panic!("{moments:?}");
    };
    assert_eq!(bypass.moment, Some(CaptureMoment::ScxBypass));
    let [(true, begun), (false, over), ..] = bypasses(&ended)[..] else {
        panic!("{:?}", bypasses(&ended));
    };
    assert!(
        (250..400).contains(&begun) && (390..450).contains(&(over - begun)),
        "{begun} {over}"
    );

    let captures = ended.artefact("captures.json");
    let reports: Vec<(String, FailureDumpReport)> =
        serde_json::from_str(&captures).expect("captures are JSON");
    let of = |tag: &str| {
        let found = reports.iter().find(|(known, _)| known == tag);
        &found.unwrap_or_else(|| panic!("no {tag}")).1
    };
    let state = |tag: &str| of(tag).scx_sched_state.value().expect("sched_ext's state");
    // The counters exist from Linux 6.15 on.
    let counter = |tag: &str| {
        let counts = of(tag).event_counter_timeline.first();
        counts.map(|sample| sample.counters.bypass_activate)
    };
    let has_counters = crate::common::is_at_least(
        Some(&ended.record.as_ref().expect("a record").path),
        (6, 15),
    );
    // The scheduler is attached at the start of the bypass and after it, and nobody ends it.
    for tag in ["scx_bypass", "periodic_000", "periodic_001"] {
        assert_eq!(state(tag).enable_state, "enabled", "{tag}");
        assert_eq!(
            state(tag).exit_kind_name.as_deref(),
            Some("SCX_EXIT_NONE"),
            "{tag}"
        );
    }
    assert_eq!(
        state("scx_bypass").bypass_depth,
        Some(0),
        "the capture is before the first change"
    );
    // Both periodic captures are after the bypass: they are at 0.73 s and 1.27 s, which is 0.2 s plus one third and two thirds
    // of 1.6 s.
    assert_eq!(state("periodic_001").bypass_depth, Some(0));
    assert_eq!(counter("scx_bypass").is_some(), has_counters);
    if has_counters {
        assert!(counter("periodic_001") > counter("scx_bypass"));
    }
    // If the kernel does not let the scheduler create queues, it inserts tasks into the kernel's queues. These inserts count too.
    let inserts = |from_ms: u64| inserts_between(&ended, from_ms, from_ms + 300);
    assert_eq!(
        inserts(begun + 50),
        0,
        "the scheduler inserts tasks although it is bypassed"
    );
    assert!(inserts(over + 50) > 20, "it drives the tasks again");
}

/// Returns the number of inserts by the BPF scheduler between two times in milliseconds since the first step began.
fn inserts_between(ended: &Ended, from_ms: u64, to_ms: u64) -> usize {
    let record = ended.record.as_ref().expect("a record");
    let file = std::fs::read(record.path.with_file_name("schedule.bin")).expect("a schedule");
    let schedule = Schedule::read(&file).expect("a schedule that can be read");
    let events = schedule.events().expect("all of them");
    let step = |what: &What| matches!(what, What::Phase { number: 1 });
    let zero = events.iter().find(|event| step(&event.what));
    let zero = zero.expect("a step").time_ns;
    let is_in = |ns: u64| (from_ms..to_ms).contains(&(ns.saturating_sub(zero) / 1_000_000));
    let is_insert = |event: &&Event| matches!(event.what, What::Insert { .. });
    let inserts: Vec<&Event> = events.iter().filter(is_insert).collect();
    let doubled = inserts.windows(2).filter(|pair| pair[0] == pair[1]);
    assert_eq!(doubled.count(), 0, "each insert is one event");
    let inserts = inserts.iter();
    inserts.filter(|event| is_in(event.time_ns)).count()
}

#[test]
fn a_scheduler_that_is_bypassed_most_of_the_time_did_not_drive_the_tasks() {
    let ended = Case::new("bypass_long").run();
    let record = &ended.record.as_ref().expect("a record").record;
    assert_eq!(record.verdict, RunVerdict::Fail, "{}", ended.text);
    ended.says(1, &["bypass"]);
    assert!(
        record
            .findings
            .iter()
            .any(|f| f.data.pointer("/not_driven").is_some()),
        "{}",
        ended.text
    );
}
