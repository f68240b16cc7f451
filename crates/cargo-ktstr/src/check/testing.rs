//! Artificial runs for the tests of `check` and of the commands that read its results.

use ktstr_record::RunVerdict;

use super::again::Again;
use super::config::Config;
use super::matrix::{Level, Matrix, Place};
use super::report::Checked;
use super::results::{Asked, Results};
use super::walk::{Pair, Walked};
use crate::cell::axes::Kernel;
use crate::cell::{Found, Outcome, Proof};
use crate::explore::Seeds;

/// Returns the outcome of a run that passed.
pub fn passed() -> Outcome {
    let mut outcome = Outcome::without_answer(String::new());
    outcome.verdict = RunVerdict::Pass;
    outcome.fault = None;
    outcome.findings.clear();
    outcome.details.clear();
    outcome.topology = Some("1n1l2c1t".to_owned());
    outcome
}

/// Returns the outcome of a run that failed by the scheduler's fault.
pub fn failed(check: &str, proof: Proof) -> Outcome {
    Outcome {
        verdict: RunVerdict::Fail,
        fault: Some("scheduler".to_owned()),
        findings: vec![Found {
            check: check.to_owned(),
            message: format!("{check} of <worker>"),
            proof,
            speed: false,
            counts: true,
        }],
        details: vec![format!("{check} of <worker>"), "R1 invalid".to_owned()],
        record: Some("/runs/run-1/record.json".into()),
        ..passed()
    }
}

/// Returns a pair of runs on the kernel 7.3.4, which all tests use.
pub fn pair(scenario: &str, seed: u64, ours: Outcome, eevdf: Outcome) -> Pair {
    Pair {
        place: Place {
            scenario: scenario.to_owned(),
            kernel: Kernel {
                id: "7.3.4-ab".to_owned(),
                release: "7.3.4".to_owned(),
                asked: None,
            },
            topology: None,
        },
        seed,
        ours,
        eevdf: Some(eevdf),
    }
}

/// Returns a complete file of results with the pairs of `mixed` in `report.rs`: four scenarios, of which one is
/// broken with one of its two seeds, one only misses an expectation, one is inconclusive, and one is sound.
pub fn results() -> Results {
    let pairs = super::report::tests::mixed();
    let mut places: Vec<Place> = Vec::new();
    for pair in &pairs {
        if !places.contains(&pair.place) {
            places.push(pair.place.clone());
        }
    }
    let args = vec!["--fast".to_owned()];
    let asked = Asked {
        version: "1.2.3".to_owned(),
        scheduler: Checked {
            path: "./scx_mine".into(),
            args: args.clone(),
            hash: "ab12".to_owned(),
        },
        level: Level::Quick,
        matrix: Matrix {
            scenarios: places.iter().map(|place| place.scenario.clone()).collect(),
            kernels: vec![places[0].kernel.clone()],
            missing: Vec::new(),
            topologies: vec![None],
            seeds: Seeds { first: 1, end: 3 },
            places,
        },
        config: Config::default(),
        again: Again {
            binary: "./scx_mine".into(),
            args,
            config: None,
            memory_mib: None,
        },
        settings: [("QEMU".to_owned(), "9.2.0".to_owned())].into(),
    };
    let walked = Walked {
        pairs,
        left_out: 0,
        eevdf_runs: 1,
    };
    let day = "2026-11-27".parse().expect("a day");
    Results::new(asked, None, day, walked, 41.3)
}
