//! Turns paired numbers into rows: one for each scenario and metric, with the statistics of the family and the conclusion that
//! they allow.
//!
//! A difference is only called a regression if the adjusted p is below the level. If even the smallest possible p is not, the
//! row says how many seeds it would take.

use serde::Serialize;

use super::signs::Sums;
use super::{bootstrap, holm, permutation, smallest};
use crate::cell::{Better, Gate, Metric};

/// The largest probability of a false alarm in the whole family.
pub const LEVEL: f64 = 0.05;

/// The paired values of one metric in one place.
#[derive(Clone, Debug)]
pub struct Paired {
    /// The place: scenario, kernel and shape.
    pub place: [String; 3],
    /// The metric that was measured.
    pub metric: &'static Metric,
    /// The size from which a difference counts.
    pub gate: Gate,
    /// For each seed, the seed, A's value and B's value.
    pub values: Vec<(u64, f64, f64)>,
}

/// The conclusion of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    /// Every pair is the same, to the last digit.
    Identical,
    /// The difference is significant and reaches the gate, and B is worse.
    Regression,
    /// The difference is significant and reaches the gate, and B is better.
    Improvement,
    /// B differs, and neither direction is better.
    Different,
    /// There is a significant difference that is too small to matter.
    Slight,
    /// The pairs show no significant difference, although they are enough to show a large one.
    #[serde(rename = "not_told")]
    NotShown,
    /// The seeds are too few to show any difference.
    TooFewSeeds,
}

impl Conclusion {
    /// Returns the conclusion in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Identical => "identical",
            Self::Regression => "REGRESSION",
            Self::Improvement => "improvement",
            Self::Different => "different",
            Self::Slight => "real, and too small to matter",
            Self::NotShown => "no difference shows",
            Self::TooFewSeeds => "too few seeds",
        }
    }
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Name of the scenario.
    pub scenario: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Shape of the machine; `own` for the scenario's own.
    pub topology: String,
    /// Name of the metric.
    pub metric: &'static str,
    /// The metric's unit; empty for a plain number.
    pub unit: &'static str,
    /// How many pairs there are.
    pub pairs: usize,
    /// The mean of A's values.
    pub a: f64,
    /// The mean of B's values.
    pub b: f64,
    /// The mean of B − A.
    pub difference: f64,
    /// Its 95 % interval by the bootstrap.
    pub interval: (f64, f64),
    /// The p-value of this test alone.
    pub p: f64,
    /// The p-value adjusted for the family.
    pub p_adjusted: f64,
    /// The size from which a difference counts.
    pub gate: Gate,
    /// The smallest difference that this number of pairs, with this noise, can show in this family; `None` if they can show
    /// none.
    pub smallest: Option<f64>,
    /// What follows from the adjusted p-value, the gate, and the direction in which the metric is better.
    #[serde(rename = "said")]
    pub conclusion: Conclusion,
}

/// Returns the rows of a family. A metric with fewer than two pairs is left out, since there is nothing to test.
pub fn rows(family: &[Paired]) -> Vec<Row> {
    let tested: Vec<&Paired> = family.iter().filter(|one| one.values.len() > 1).collect();
    let differences: Vec<Vec<f64>> = tested
        .iter()
        .map(|one| one.values.iter().map(|(_, a, b)| b - a).collect())
        .collect();
    let strictest = LEVEL / tested.len().max(1) as f64;
    // The sums of a metric are as many as there are sign vectors, so those of one metric at a time are kept.
    let (p, smallest): (Vec<f64>, Vec<Option<f64>>) = differences
        .iter()
        .map(|differences| {
            let sums = Sums::of(differences);
            (
                permutation::p_value(differences, &sums),
                smallest::effect(differences, &sums, strictest),
            )
        })
        .unzip();
    let p_adjusted = holm::adjusted(&p);
    let mut rows = Vec::new();
    for (at, one) in tested.into_iter().enumerate() {
        let differences = &differences[at];
        let mean = |of: fn(&(u64, f64, f64)) -> f64| {
            one.values.iter().map(of).sum::<f64>() / one.values.len() as f64
        };
        let difference = differences.iter().sum::<f64>() / differences.len() as f64;
        let conclusion = if differences.iter().all(|d| *d == 0.0) {
            Conclusion::Identical
        } else if p_adjusted[at] <= LEVEL && !one.gate.counts(difference, mean(|value| value.1)) {
            Conclusion::Slight
        } else if p_adjusted[at] <= LEVEL {
            match (one.metric.better, difference > 0.0) {
                (Better::Neither, _) => Conclusion::Different,
                (Better::Lower, true) | (Better::Higher, false) => Conclusion::Regression,
                (Better::Lower, false) | (Better::Higher, true) => Conclusion::Improvement,
            }
        } else if smallest[at].is_none() {
            Conclusion::TooFewSeeds
        } else {
            Conclusion::NotShown
        };
        let [scenario, kernel, topology] = one.place.clone();
        rows.push(Row {
            scenario,
            kernel,
            topology,
            metric: one.metric.name,
            unit: one.metric.unit,
            pairs: one.values.len(),
            a: mean(|value| value.1),
            b: mean(|value| value.2),
            difference,
            interval: bootstrap::interval(differences).unwrap_or_default(),
            p: p[at],
            p_adjusted: p_adjusted[at],
            gate: one.gate,
            smallest: smallest[at],
            conclusion,
        });
    }
    rows
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::cell::METRICS;

    /// Returns pairs of a metric in which A's value is always `a`.
    pub fn paired(metric: &str, scenario: &str, a: f64, b: &[f64]) -> Paired {
        let metric = METRICS.iter().find(|m| m.name == metric);
        let metric = metric.expect("a metric");
        Paired {
            place: [scenario, "7.3.4", "own"].map(str::to_owned),
            metric,
            gate: metric.gate(),
            values: b.iter().zip(1..).map(|(b, seed)| (seed, a, *b)).collect(),
        }
    }

    const SHIFTED: [f64; 8] = [
        1100.0, 1200.0, 1150.0, 1250.0, 1100.0, 1300.0, 1200.0, 1170.0,
    ];
    const NOISE: [f64; 8] = [900.0, 1100.0, 1000.0, 950.0, 1050.0, 800.0, 1200.0, 1010.0];

    fn conclusions(family: &[Paired]) -> Vec<Conclusion> {
        rows(family).iter().map(|row| row.conclusion).collect()
    }

    #[test]
    fn a_shift_is_a_regression_an_improvement_or_a_difference_by_its_metric() {
        let family = [
            paired("wake_p99", "a", 1000.0, &SHIFTED),
            paired("iterations", "a", 1000.0, &SHIFTED),
            paired("slice", "a", 1000.0, &SHIFTED),
            paired("wake_p50", "a", 1000.0, &NOISE),
            paired("run_delay", "a", 1000.0, &[1000.0; 8]),
        ];
        assert_eq!(
            conclusions(&family),
            [
                Conclusion::Regression,
                Conclusion::Improvement,
                Conclusion::Different,
                Conclusion::NotShown,
                Conclusion::Identical
            ]
        );
    }

    #[test]
    fn what_is_real_and_slight_is_no_regression() {
        let slight = SHIFTED.map(|b| 1000.0 + (b - 1000.0) / 100.0);
        assert_eq!(
            conclusions(&[paired("wake_p99", "a", 1000.0, &slight)]),
            [Conclusion::Slight]
        );
    }

    #[test]
    fn a_gate_that_is_moved_decides_what_is_slight() {
        let mut shifted = paired("wake_p99", "a", 1000.0, &SHIFTED);
        assert_eq!(
            conclusions(std::slice::from_ref(&shifted)),
            [Conclusion::Regression]
        );
        shifted.gate.share = 0.5;
        assert_eq!(conclusions(&[shifted]), [Conclusion::Slight]);
    }

    #[test]
    fn nothing_is_said_that_so_few_pairs_cannot_carry() {
        // Five pairs have a p of at least 2/32, which decides no family of any size.
        let few = paired("wake_p99", "a", 1000.0, &SHIFTED[..5]);
        let row = &rows(std::slice::from_ref(&few))[0];
        assert_eq!(
            (row.conclusion, row.smallest),
            (Conclusion::TooFewSeeds, None)
        );
        // Six can decide one test, and not two.
        let six = paired("wake_p99", "a", 1000.0, &SHIFTED[..6]);
        assert_eq!(
            conclusions(std::slice::from_ref(&six)),
            [Conclusion::Regression]
        );
        let other = paired("wake_p50", "a", 1000.0, &NOISE[..6]);
        assert_eq!(
            conclusions(&[six, other]),
            [Conclusion::TooFewSeeds, Conclusion::TooFewSeeds]
        );
    }

    #[test]
    fn a_row_has_its_numbers() {
        let row = rows(&[paired("wake_p99", "a", 1000.0, &SHIFTED)]).remove(0);
        let sum: f64 = SHIFTED.iter().map(|b| b - 1000.0).sum();
        assert!((row.difference - sum / 8.0).abs() < 1e-9);
        assert!(row.interval.0 > 0.0 && row.interval.1 < 300.0);
        assert!((row.p - 2.0 / 256.0).abs() < 1e-12);
        assert!(row.smallest.is_some_and(|s| s > 0.0 && s < row.difference));
        assert!(rows(&[paired("wake_p99", "a", 1000.0, &SHIFTED[..1])]).is_empty());
    }
}
