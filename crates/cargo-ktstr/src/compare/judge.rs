//! Tests a family: the paired numbers of each metric in each place, over the looks that were taken there. Holm's procedure
//! adjusts the p-values of all these tests.
//!
//! A difference is called a regression only if its adjusted p is at most the level, it reaches the gate of its metric, and
//! B is worse.

use serde::Serialize;

use super::looks::Looks;
use super::signs::Sums;
use super::{holm, permutation, smallest};
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
    /// How many of the looks were taken in this place; at least one.
    pub taken: usize,
}

/// The test of one metric in one place, without the others of the family.
#[derive(Clone, Copy, Debug)]
struct Tested {
    /// The p-value over all looks that were taken.
    p: f64,
    /// The smallest difference that the last of the looks taken can show; `None` if it can show none.
    smallest: Option<f64>,
    /// Whether the seeds of the later looks could show a difference as large as the observed one. False at the last look.
    can_be_shown: bool,
}

impl Paired {
    /// Returns the mean of `of` over all pairs.
    pub fn mean(&self, of: impl Fn(&(u64, f64, f64)) -> f64) -> f64 {
        self.values.iter().map(of).sum::<f64>() / self.values.len() as f64
    }

    /// Tests the differences at each look that was taken. `strictest` is the level of the strictest step of Holm's procedure.
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
                // The smallest difference that can be shown falls with the square root of the number of pairs.
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
    /// In every pair the two values are equal.
    Identical,
    /// The difference is significant and reaches the gate, and B is worse.
    Regression,
    /// The difference is significant and reaches the gate, and B is better.
    Improvement,
    /// The difference is significant and reaches the gate, and neither direction of the metric is better.
    Different,
    /// The difference is significant, but does not reach the gate.
    Slight,
    /// The difference is not significant, although the pairs are enough to show a large one.
    #[serde(rename = "not_told")]
    NotShown,
    /// The pairs are too few to show any difference.
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

/// The judgement of one test, within its family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// The p-value of this test alone, over all its looks.
    pub p: f64,
    /// The p-value adjusted for the family.
    pub p_adjusted: f64,
    /// The smallest difference that the last of the looks taken can show; `None` if it can show none.
    pub smallest: Option<f64>,
    /// What follows from these numbers and the gate.
    pub conclusion: Conclusion,
    /// Whether there is a difference that would matter and that more seeds would make significant if it stayed as large.
    pub undecided: bool,
}

/// Tests a family, and returns the judgement of each test. A metric with fewer than two pairs in a place is left out, since there
/// is nothing to test.
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
