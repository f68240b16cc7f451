//! Turns paired numbers into rows: one for each scenario and metric, with the statistics of the family and the conclusion that
//! they allow.
//!
//! A difference is only called a regression if the adjusted p is below the level. If even the smallest possible p is not, the
//! row says how many seeds it would take.

use serde::Serialize;

use super::looks::Looks;
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
    /// The looks of the comparison.
    pub looks: Looks,
    /// How many of them were taken in this place; at least one.
    pub taken: usize,
}

/// The test of one metric in one place, without the others of the family.
#[derive(Clone, Copy, Debug)]
struct Tested {
    /// The p-value over all looks.
    p: f64,
    /// The smallest difference that the last look can show.
    smallest: Option<f64>,
    /// Whether the seeds that are left could show a difference as large as the one that is seen.
    can_be_shown: bool,
}

impl Paired {
    /// Returns the mean over all pairs.
    pub fn mean(&self, of: impl Fn(&(u64, f64, f64)) -> f64) -> f64 {
        self.values.iter().map(of).sum::<f64>() / self.values.len() as f64
    }

    /// Tests the differences at each look that was taken. `strictest` is the level of the strictest step for the whole family.
    fn test(&self, strictest: f64) -> Tested {
        let mut tested = Tested {
            p: 1.0,
            smallest: None,
            can_be_shown: false,
        };
        let last = self.looks.last();
        for (at, look) in self.looks.all.iter().take(self.taken).enumerate() {
            let seen = self.values.iter().filter(|value| value.0 < look.end);
            let differences: Vec<f64> = seen.map(|(_, a, b)| b - a).collect();
            if differences.len() < 2 {
                continue;
            }
            let sums = Sums::of(&differences);
            let p = permutation::p_value(&differences, &sums) / look.share;
            tested.p = tested.p.min(p);
            if at + 1 < self.taken {
                continue;
            }
            tested.smallest = smallest::effect(&differences, &sums, strictest * look.share);
            if look.end < last.end {
                let in_the_end = smallest::effect(&differences, &sums, strictest * last.share);
                // What can be shown falls with the square root of the number of pairs.
                let now = differences.len() as f64;
                let then = now + (last.end - look.end) as f64;
                let mean = differences.iter().sum::<f64>() / now;
                let is_enough = |effect: f64| mean.abs() >= effect * (now / then).sqrt();
                tested.can_be_shown = in_the_end.is_none_or(is_enough);
            }
        }
        tested
    }
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
    /// After how many looks the seeds of this place ended.
    pub looks: usize,
    /// The mean of A's values.
    pub a: f64,
    /// The mean of B's values.
    pub b: f64,
    /// The mean of B − A.
    pub difference: f64,
    /// Its 95 % interval by the bootstrap.
    pub interval: (f64, f64),
    /// The p-value of this test alone, over all its looks.
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

/// What the family says about one of its tests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// The p-value of this test alone, over all its looks.
    pub p: f64,
    /// The p-value adjusted for the family.
    pub p_adjusted: f64,
    /// The smallest difference that the last look can show; `None` if it can show none.
    pub smallest: Option<f64>,
    /// What follows from these.
    pub conclusion: Conclusion,
    /// Whether there is a difference that would matter and that more seeds would make significant if it stayed as large.
    pub undecided: bool,
}

/// Tests a family. A metric with fewer than two pairs is left out, since there is nothing to test.
pub fn judge(family: &[Paired]) -> Vec<(&Paired, Judged)> {
    let tested: Vec<&Paired> = family.iter().filter(|one| one.values.len() > 1).collect();
    let strictest = LEVEL / tested.len().max(1) as f64;
    let tests: Vec<Tested> = tested.iter().map(|one| one.test(strictest)).collect();
    let p: Vec<f64> = tests.iter().map(|test| test.p).collect();
    let adjusted = holm::adjusted(&p).into_iter();
    let judged = tested.into_iter().zip(tests).zip(adjusted);
    judged
        .map(|((one, test), p_adjusted)| {
            let difference = one.mean(|(_, a, b)| b - a);
            let matters = one.gate.counts(difference, one.mean(|(_, a, _)| *a));
            let significant = p_adjusted <= LEVEL;
            let conclusion = if one.values.iter().all(|(_, a, b)| a == b) {
                Conclusion::Identical
            } else if significant && !matters {
                Conclusion::Slight
            } else if significant {
                match (one.metric.better, difference > 0.0) {
                    (Better::Neither, _) => Conclusion::Different,
                    (Better::Lower, true) | (Better::Higher, false) => Conclusion::Regression,
                    (Better::Lower, false) | (Better::Higher, true) => Conclusion::Improvement,
                }
            } else if test.smallest.is_none() {
                Conclusion::TooFewSeeds
            } else {
                Conclusion::NotShown
            };
            let judged = Judged {
                p: test.p,
                p_adjusted,
                smallest: test.smallest,
                conclusion,
                undecided: matters && !significant && test.can_be_shown,
            };
            (one, judged)
        })
        .collect()
}

/// Returns the rows of a family: the judgement of each test with its numbers.
pub fn rows(family: &[Paired]) -> Vec<Row> {
    let rows = judge(family).into_iter().map(|(one, judged)| {
        let differences: Vec<f64> = one.values.iter().map(|(_, a, b)| b - a).collect();
        let [scenario, kernel, topology] = one.place.clone();
        Row {
            scenario,
            kernel,
            topology,
            metric: one.metric.name,
            unit: one.metric.unit,
            pairs: one.values.len(),
            looks: one.taken,
            a: one.mean(|(_, a, _)| *a),
            b: one.mean(|(_, _, b)| *b),
            difference: one.mean(|(_, a, b)| b - a),
            interval: bootstrap::interval(&differences).unwrap_or_default(),
            p: judged.p,
            p_adjusted: judged.p_adjusted,
            gate: one.gate,
            smallest: judged.smallest,
            conclusion: judged.conclusion,
        }
    });
    rows.collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::cell::METRICS;
    use crate::explore::Seeds;

    /// Returns pairs of a metric in which A's value is always `a`.
    pub fn paired(metric: &str, scenario: &str, a: f64, b: &[f64]) -> Paired {
        let metric = METRICS.iter().find(|m| m.name == metric);
        let metric = metric.expect("a metric");
        Paired {
            place: [scenario, "7.3.4", "own"].map(str::to_owned),
            metric,
            gate: metric.gate(),
            values: b.iter().zip(1..).map(|(b, seed)| (seed, a, *b)).collect(),
            looks: Looks::one(Seeds {
                first: 1,
                end: 1 + b.len() as u64,
            }),
            taken: 1,
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

    /// Returns a metric with looks after eight and sixteen seeds, of which `taken` were taken.
    fn looked(b: &[f64], taken: usize) -> Paired {
        let eight = Seeds { first: 1, end: 9 };
        let mut all = Looks::growing(eight, 16);
        all.all.remove(1);
        all.all[1].share = 0.5;
        Paired {
            looks: all,
            taken,
            ..paired("wake_p99", "a", 1000.0, b)
        }
    }

    #[test]
    fn a_look_costs_its_share() {
        let once = &rows(&[paired("wake_p99", "a", 1000.0, &SHIFTED)])[0];
        let row = rows(&[looked(&SHIFTED, 1)]).remove(0);
        assert_eq!(row.conclusion, Conclusion::Regression);
        assert!((row.p - 2.0 * once.p).abs() < 1e-12, "{} {}", row.p, once.p);
        assert!(row.smallest > once.smallest, "half of the level shows less");
        // What was shown at the first look stays shown, whatever comes later.
        let later: Vec<f64> = SHIFTED.into_iter().chain(NOISE).collect();
        let row = rows(&[looked(&later, 2)]).remove(0);
        assert!(row.p <= 2.0 * once.p && row.looks == 2, "{}", row.p);
    }

    #[test]
    fn more_seeds_are_for_what_they_could_still_show() {
        // Six of eight are clearly worse: it would matter, it is not significant, and eight more such pairs would show it.
        let mostly = [1100.0, 1200.0, 950.0, 1250.0, 1100.0, 960.0, 1200.0, 1170.0];
        let row = |b: &[f64], taken| judge(&[looked(b, taken)])[0].1;
        assert!(row(&mostly, 1).undecided);
        let doubled: Vec<f64> = mostly.into_iter().chain(mostly).collect();
        let end = row(&doubled, 2);
        assert_eq!(
            (end.conclusion, end.undecided),
            (Conclusion::Regression, false)
        );
        assert!(!row(&mostly, 2).undecided, "no look is left");
        // Noise around the same value, what is the same, and what is too small to matter.
        let slight = mostly.map(|b| 1000.0 + (b - 1000.0) / 100.0);
        for b in [NOISE, [1000.0; 8], slight] {
            assert!(!row(&b, 1).undecided, "{b:?}");
        }
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
