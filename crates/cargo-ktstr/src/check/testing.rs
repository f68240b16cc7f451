//! Made-up runs for the tests of this folder.

use ktstr_record::RunVerdict;

use super::matrix::Place;
use super::walk::Pair;
use crate::cell::axes::Kernel;
use crate::cell::{Found, Outcome, Proof};

/// A run that passed.
pub fn passed() -> Outcome {
    let mut outcome = Outcome::without_answer(String::new());
    outcome.verdict = RunVerdict::Pass;
    outcome.fault = None;
    outcome.found.clear();
    outcome.details.clear();
    outcome.topology = Some("1n1l2c1t".to_owned());
    outcome
}

/// A run that failed, by the scheduler's fault.
pub fn failed(check: &str, proof: Proof) -> Outcome {
    Outcome {
        verdict: RunVerdict::Fail,
        fault: Some("scheduler".to_owned()),
        found: vec![Found {
            check: check.to_owned(),
            message: format!("{check} of <worker>"),
            proof,
            speed: false,
        }],
        details: vec![format!("{check} of <worker>"), "R1 invalid".to_owned()],
        record: Some("/runs/run-1/record.json".into()),
        ..passed()
    }
}

/// A pair on the one kernel of tests.
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
