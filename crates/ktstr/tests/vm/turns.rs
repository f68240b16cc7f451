//! Tests of bounded turns of the virtual clock: an idle CPU runs a task soon after its wake-up, as on a real machine, and runs
//! with the same seed are still identical.

use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use crate::common::Case;
use anyhow::{Result, ensure};
use ktstr::prelude::*;
use ktstr::test_support::ClockMode;

use ktstr_schedule::query::{Answers, WaitCause, percentile};
use ktstr_schedule::{SCHEDULE_FILE, Schedule};

macro_rules! spare {
    ($( $entry:ident = $name:literal, $topology:expr; )*) => { $(
        case!(
            $entry = $name,
            half_busy,
            topology: $topology,
            duration: Duration::from_secs(1),
            clock: ClockMode::Virtual,
            num_snapshots: 0,
        );
    )* };
}

// All shapes have a single LLC, because at a wake-up EEVDF searches for an idle CPU only in the LLC of the task, and
// the test needs the search to find one.
spare! {
    TWO = "turns_2", Topology::new(1, 1, 2, 1);
    FOUR = "turns_4", Topology::new(1, 1, 4, 1);
    EIGHT = "turns_8", Topology::new(1, 1, 8, 1);
    SIXTEEN = "turns_16", Topology::new(1, 1, 16, 1);
}

/// The number of wake-ups of each thread of a pair.
const ROUNDS: u32 = 150;

/// Pairs of threads that wake each other alternately, one pair per four CPUs but at least one, and one spinning thread per four
/// CPUs. Each pair keeps one CPU busy, so half of the CPUs are busy.
fn half_busy(ctx: &Ctx) -> Result<AssertResult> {
    let pairs = (ctx.topo.total_cpus() / 4).max(1);
    let spinners = ctx.topo.total_cpus() / 4;
    let end = Instant::now() + Duration::from_millis(500);
    let mut threads = Vec::new();
    for _ in 0..pairs {
        let (to_right, from_left) = sync_channel::<()>(1);
        let (to_left, from_right) = sync_channel::<()>(1);
        threads.push(std::thread::spawn(move || {
            (0..ROUNDS).all(|_| compute() && to_right.send(()).is_ok() && from_right.recv().is_ok())
        }));
        threads.push(std::thread::spawn(move || {
            (0..ROUNDS).all(|_| from_left.recv().is_ok() && compute() && to_left.send(()).is_ok())
        }));
    }
    for _ in 0..spinners {
        threads.push(std::thread::spawn(move || {
            while Instant::now() < end {
                std::hint::black_box(0);
            }
            true
        }));
    }
    for thread in threads {
        ensure!(
            thread.join().is_ok_and(|went_on| went_on),
            "a thread ended early"
        );
    }
    Ok(AssertResult::pass())
}

/// Computes for longer than a turn, and long enough that its partner has gone to sleep.
fn compute() -> bool {
    let until = Instant::now() + Duration::from_micros(500);
    while Instant::now() < until {
        std::hint::black_box(0);
    }
    true
}

/// Returns the sorted latencies of wake-ups by other tasks in nanoseconds, and the digest of the run.
fn latencies(name: &str, turn_us: &str) -> (Vec<u64>, Option<String>) {
    // An empty value counts as unset, so the seed determines how long a turn is.
    let ended = Case::new(name).env("KTSTR_TURN_US", turn_us).run();
    ended.says(0, &[]);
    let record = ended.record.as_ref().expect("the run left a record");
    let file = std::fs::read(record.path.with_file_name(SCHEDULE_FILE)).expect("a schedule");
    let answers = Answers::of(&Schedule::read(&file).expect("it can be read")).expect("its events");
    // Lower pids belong to the template: kernel threads and PID 1.
    let test = |pid: u32| pid > 900;
    let mut waits = answers.waits_ns(|wait| wait.cause == WaitCause::Woken && test(wait.task.0));
    waits.sort_unstable();
    (waits, record.record.digest.clone())
}

#[test]
fn a_task_is_soon_run_by_a_spare_cpu() {
    for name in ["turns_2", "turns_4", "turns_8", "turns_16"] {
        let (waits, _) = latencies(name, "");
        assert!(waits.len() as u32 >= ROUNDS, "{} wake-ups", waits.len());
        let [median, p99] = [50.0, 99.0].map(|p| percentile(&waits, p).expect("some") / 1000);
        println!(
            "{name}: {} wake-ups, median {median} us, p99 {p99} us",
            waits.len()
        );
        // The CPU that sends the wake-up ends its turn, and then every busy CPU in between has one: three of 70 us on 8 CPUs,
        // seven of 35 us on 16.
        assert!(p99 <= 250, "{name}: {p99} us");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let [first, second] = [(); 2].map(|()| latencies("turns_4", "50"));
    assert!(first.1.is_some());
    assert_eq!(first, second);
    assert_ne!(first.1, latencies("turns_4", "100").1);
}
