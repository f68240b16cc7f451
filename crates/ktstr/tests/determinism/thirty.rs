//! Tests of thirty runs. A comparison of two runs can miss a race for weeks if it occurs in one run of thirty. So one entry is
//! run at least thirty times, every fifth run on a busy host; and a difference that is planted in one of the runs must be found.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use ktstr::prelude::*;
use ktstr::run::run;

use crate::runs::{Busy, assert_one, differences, of, repeated};
use crate::{SCHED, contended};

const RUNS: usize = 30;
const FILE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/one-in-thirty");

case!(
    SHORT = "short",
    short,
    scheduler: &SCHED,
    topology: Topology::new(1, 1, 2, 1),
    duration: Duration::from_millis(200),
    clock: ClockMode::Virtual,
    num_snapshots: 0,
    extra_include_files: &[FILE],
);

/// Does the same work as the other tests, after sleeping for the number of microseconds in the planted file.
fn short(ctx: &Ctx) -> Result<AssertResult> {
    let text =
        std::fs::read_to_string("/include-files/one-in-thirty").context("the planted file")?;
    std::thread::sleep(Duration::from_micros(text.trim().parse()?));
    contended(ctx)
}

#[test]
fn thirty_runs_are_identical_and_a_difference_in_one_of_them_is_found() {
    let plant = |us: u32| std::fs::write(FILE, us.to_string()).expect("a folder of cargo's");
    plant(1000);
    let runs = repeated(100).max(RUNS);
    let mut same: Vec<_> = (0..runs)
        .map(|round| {
            let _busy = (round % 5 == 1).then(Busy::new);
            of(&run(&SHORT))
        })
        .collect();
    assert_one("2 CPUs, short", &same);

    // The position of the different run must not matter, so the host's time chooses it. The first run is excluded,
    // because all other runs would differ from it.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let place = 1 + now.map_or(0, |now| now.subsec_micros() as usize) % (same.len() - 1);
    plant(1001);
    same[place] = of(&run(&SHORT));
    let found: Vec<usize> = differences(&same)
        .into_iter()
        .map(|(number, _)| number)
        .collect();
    assert_eq!(found, [place], "the planted run among {}", same.len());
}
