//! The rows of a comparison of two schedulers, A and B: one row for each metric in each place (a scenario, a kernel and a shape),
//! with the numbers of the metric and the conclusion of its test. All tests are one family, whose p-values are adjusted together.

use serde::Serialize;

use super::bootstrap;
use super::judge::{Conclusion, Paired, judge};
use crate::cell::Gate;

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
    /// The number of pairs of which both runs have the metric.
    pub pairs: usize,
    /// The number of looks at this place: how often its pairs were tested, each time after more seeds had been run.
    pub looks: usize,
    /// The mean of A's values.
    pub a: f64,
    /// The mean of B's values.
    pub b: f64,
    /// The mean of B − A.
    pub difference: f64,
    /// The 95 % interval of `difference` by the bootstrap, its lower end first.
    pub interval: (f64, f64),
    /// The p-value of this test alone, over all its looks.
    pub p: f64,
    /// The p-value adjusted for the family.
    pub p_adjusted: f64,
    /// The size from which a difference counts.
    pub gate: Gate,
    /// The smallest difference that this number of pairs, with this noise, can show in this family; `None` if they are too few
    /// to show any.
    pub smallest: Option<f64>,
    /// What follows from the adjusted p-value, the gate, and the direction in which the metric improves.
    #[serde(rename = "said")]
    pub conclusion: Conclusion,
}

/// Returns the rows of a family: the conclusion of each test with its numbers. A metric with fewer than two pairs has no row.
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
    use crate::compare::looks::Looks;
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
    fn a_significant_but_slight_difference_is_no_regression() {
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
    fn too_few_pairs_give_no_conclusion() {
        // The p of five pairs is at least 2/32. That is above 0.05, so five pairs cannot even decide a family of one test.
        let few = paired("wake_p99", "a", 1000.0, &SHIFTED[..5]);
        let row = &rows(std::slice::from_ref(&few))[0];
        assert_eq!(
            (row.conclusion, row.smallest),
            (Conclusion::TooFewSeeds, None)
        );
        // Six pairs can decide one test, but not two.
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

    /// Returns the pairs of a metric with two looks, one after 8 seeds and one after 16. Each look uses half of the significance
    /// level. The first `taken` looks were taken.
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
        assert!(
            row.smallest > once.smallest,
            "with half of the level, only larger differences can be shown"
        );
        // What was shown at the first look stays shown, whatever comes later.
        let later: Vec<f64> = SHIFTED.into_iter().chain(NOISE).collect();
        let row = rows(&[looked(&later, 2)]).remove(0);
        assert!(row.p <= 2.0 * once.p && row.looks == 2, "{}", row.p);
    }

    #[test]
    fn more_seeds_are_run_for_a_difference_that_they_could_show() {
        // Six of eight pairs are clearly worse: the difference matters, is not significant, and eight more such pairs show it.
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
        // No more seeds are run for noise around the same value, equal values, or a difference that is too small to matter.
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
