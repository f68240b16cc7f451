//! Results of a check whose runs were never made: random metrics in as many runs as are asked for. `cargo ktstr bench` uses
//! these results to measure the cost of a comparison. They show nothing about any scheduler.

use ktstr_record::RunVerdict;
use ktstr_record::settings::Settings;

use super::again::Again;
use super::config::Config;
use super::date::Date;
use super::matrix::{Level, Matrix, Place};
use super::report::Checked;
use super::results::{Asked, Results};
use super::walk::{Pair, Walked};
use crate::cell::axes::Kernel;
use crate::cell::{METRICS, Outcome};
use crate::compare::rng::Rng;
use crate::explore::Seeds;

/// The mean of every metric of EEVDF, around which its values vary by noise.
const MEAN: f64 = 10_000.0;
/// The standard deviation of the noise.
const NOISE: f64 = MEAN / 20.0;

/// Returns results of these scenarios with the seeds from 1 to `seeds`. `draw` is the seed of the random numbers. Apart from
/// noise, all metrics of the scheduler are larger than those of EEVDF by the share `shift`.
pub fn results(scenarios: &[String], seeds: u64, draw: u64, shift: f64) -> Results {
    let kernel = Kernel {
        id: "7.3.4-made-up".to_owned(),
        release: "7.3.4".to_owned(),
        asked: None,
    };
    let place = |scenario: &String| Place {
        scenario: scenario.clone(),
        kernel: kernel.clone(),
        topology: None,
    };
    let places: Vec<Place> = scenarios.iter().map(place).collect();
    let mut rng = Rng::new(draw);
    let mut pairs = Vec::new();
    for seed in 1..=seeds {
        for place in &places {
            pairs.push(Pair {
                place: place.clone(),
                seed,
                ours: outcome(&mut rng, shift),
                eevdf: Some(outcome(&mut rng, 0.0)),
            });
        }
    }
    let asked = Asked {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        scheduler: Checked {
            path: "./scx_made_up".into(),
            args: Vec::new(),
            hash: format!("{draw:064x}"),
        },
        level: Level::Usual,
        matrix: Matrix {
            places,
            seeds: Seeds {
                first: 1,
                end: seeds + 1,
            },
            scenarios: scenarios.to_vec(),
            kernels: vec![kernel],
            missing: Vec::new(),
            topologies: vec![None],
        },
        config: Config::default(),
        again: Again {
            binary: "./scx_made_up".into(),
            args: Vec::new(),
            config: None,
            memory_mib: None,
        },
        settings: Settings::new(),
    };
    let walked = Walked {
        pairs,
        left_out: 0,
        eevdf_runs: 0,
    };
    Results::new(asked, None, Date::today(), walked, 0.0)
}

/// Returns the outcome of a run that passed. It takes about as much space in a file as that of a real run.
fn outcome(rng: &mut Rng, shift: f64) -> Outcome {
    let metrics = METRICS.iter().map(|metric| {
        let value = (MEAN + NOISE * rng.normal()) * (1.0 + shift);
        (metric.name.to_owned(), value)
    });
    let metrics = metrics.collect();
    let mut outcome = Outcome::without_answer(String::new());
    outcome.verdict = RunVerdict::Pass;
    outcome.fault = None;
    outcome.findings.clear();
    outcome.details.clear();
    outcome.metrics = metrics;
    outcome.digest = Some(format!("{:016x}", rng.next()).repeat(4));
    outcome.wall_s = 2.5;
    outcome.kernel = Some("7.3.4".to_owned());
    outcome.topology = Some("1n1l2c1t".to_owned());
    let run = "20260101T000000.000Z-canned-custom_cgroup_4way_load_imbalance-12345.0";
    outcome.record = Some(format!("/home/user/scheduler/target/ktstr/{run}/record.json").into());
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_results_are_written_and_read_like_those_of_a_check() {
        let scenarios = ["steady", "custom_bursts"].map(str::to_owned);
        let made = results(&scenarios, 3, 1, 0.0);
        let read = Results::parse(&made.text().expect("text")).expect("results");
        assert_eq!(read.walked.pairs.len(), 6);
        assert_eq!(read, made);
        assert_ne!(made.walked, results(&scenarios, 3, 2, 0.0).walked);
        assert_eq!(made.report().runs, 6);
    }
}
