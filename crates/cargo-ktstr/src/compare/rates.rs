//! Measures how often the comparison raises a false alarm and how often it finds a real shift, on synthetic pairs with a fixed
//! seed. A family is the eight metrics of a scenario, each with noise of 5 % of its value, on as many seeds as the command
//! takes by default.

use super::enough;
use super::family::{Conclusion, Paired, rows};
use super::rng::Rng;
use crate::cell::METRICS;

/// The number of families without a difference; a rate of 5 % is then known to within 3 percentage points.
const EQUAL: u64 = 200;
/// The number of families with a shift.
const SHIFTED: u64 = 60;
const MEAN: f64 = 10_000.0;
const NOISE: f64 = MEAN / 20.0;

/// Returns a family in which B's values of the first metric are larger by this share. With each seed A and B have the same
/// machine, so half of the variance of the noise is common to both.
fn family(rng: &mut Rng, shift: f64) -> Vec<Paired> {
    let seeds = enough(METRICS.len()) as u64;
    let mut one = |metric: &'static crate::cell::Metric, shift: f64| Paired {
        place: ["steady", "7.3.4", "own"].map(str::to_owned),
        metric,
        gate: metric.gate(),
        values: (1..=seeds)
            .map(|seed| {
                let common = MEAN + NOISE * rng.normal() * 0.5_f64.sqrt();
                let mut own = || NOISE * rng.normal() * 0.5_f64.sqrt();
                let (a, b) = (common + own(), common + own());
                (seed, a, b * (1.0 + shift))
            })
            .collect(),
    };
    let shifts = METRICS.iter().enumerate();
    shifts
        .map(|(at, metric)| one(metric, if at == 0 { shift } else { 0.0 }))
        .collect()
}

#[test]
fn of_equals_at_most_one_family_in_twenty_is_called_a_regression() {
    let mut rng = Rng::new(14);
    let wrong = (0..EQUAL).filter(|_| {
        let rows = rows(&family(&mut rng, 0.0));
        rows.iter()
            .any(|row| row.conclusion == Conclusion::Regression)
    });
    // Half of the false alarms are improvements, and a slight difference is no alarm, so 5 % of the families is a generous
    // limit.
    let wrong = wrong.count() as u64;
    assert!(wrong * 20 <= EQUAL, "{wrong} of {EQUAL}");
}

#[test]
fn a_shift_that_so_many_seeds_can_show_is_found_nine_times_in_ten() {
    let mut rng = Rng::new(14);
    // A tenth of the value is two standard deviations of the differences.
    let found = (0..SHIFTED)
        .filter(|_| rows(&family(&mut rng, 0.1))[0].conclusion == Conclusion::Regression);
    let found = found.count() as u64;
    assert!(found * 10 >= SHIFTED * 9, "{found} of {SHIFTED}");
}

#[test]
fn what_is_smaller_than_can_be_shown_is_not_found_by_luck() {
    let mut rng = Rng::new(15);
    for _ in 0..20 {
        let row = rows(&family(&mut rng, 0.02)).remove(0);
        let can = row.smallest.unwrap_or(f64::INFINITY);
        if row.difference.abs() < can * 0.9 {
            assert_ne!(
                row.conclusion,
                Conclusion::Regression,
                "{} of {can}",
                row.difference
            );
        }
    }
}
