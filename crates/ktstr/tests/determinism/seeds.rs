//! Tests that adjacent seeds give different runs.

use std::collections::BTreeSet;

use ktstr::run::run;

use crate::{runs, with};

#[test]
fn other_seeds_are_other_runs() {
    // `make determinism` sets this variable, and compares more seeds.
    let seeds = if std::env::var_os("KTSTR_DETERMINISM_RUNS").is_some() {
        50
    } else {
        8
    };
    let switches: BTreeSet<_> = (0..seeds)
        .map(|seed| {
            let entry = with(|entry| entry.seed = Some(seed));
            let run = runs::of(&run(entry));
            run.record
                .switches
                .expect("all switches were followed")
                .digest
        })
        .collect();
    let distinct = switches.len() as u64;
    println!("{seeds} seeds gave {distinct} different digests of the switches");
    assert!(distinct * 10 >= seeds * 9, "{distinct} of {seeds}");
}
