//! Measures how often the comparison raises a false alarm and how often it finds a real shift, on synthetic pairs with a fixed
//! seed, once with a single look and once with several looks, each after more seeds. A family is the eight
//! metrics of one scenario, or of two, each with noise of 5 % of its value, on as many seeds as the command takes by default.

use super::Job;
use super::grow::{self, Made};
use super::judge::{Conclusion, Paired, judge};
use super::looks::{Look, Looks, enough};
use super::report::{Gates, family_of};
use super::rng::Rng;
use crate::cell::axes::Kernel;
use crate::cell::{METRICS, Outcome};
use crate::explore::Seeds;

/// The number of families without a difference: enough to measure a rate of 5 % to within 3 percentage points.
const EQUAL: u64 = 200;
/// The number of families with a shift.
const SHIFTED: u64 = 60;
const MEAN: f64 = 10_000.0;
const NOISE: f64 = MEAN / 20.0;

/// Returns a family in which B's values of the first metric are larger by this share. Half of the variance of the noise is
/// common to A and B, because the two runs of a pair have the same seed.
fn family(rng: &mut Rng, shift: f64) -> Vec<Paired> {
    let seeds = enough(METRICS.len(), 1.0) as u64;
    let looks = Looks::one(Seeds {
        first: 1,
        end: 1 + seeds,
    });
    let mut one = |metric: &'static crate::cell::Metric, shift: f64| Paired {
        place: ["steady", "7.3.4", "own"].map(str::to_owned),
        metric,
        gate: metric.gate(),
        looks: looks.clone(),
        taken: 1,
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
fn without_a_difference_at_most_one_family_in_twenty_has_a_regression() {
    let mut rng = Rng::new(14);
    let wrong = (0..EQUAL).filter(|_| {
        let family = family(&mut rng, 0.0);
        let mut judged = judge(&family).into_iter();
        judged.any(|(_, judged)| judged.conclusion == Conclusion::Regression)
    });
    // Half of the false alarms are improvements, and a slight difference is no alarm, so 5 % of the families is a generous
    // limit.
    let wrong = wrong.count() as u64;
    assert!(wrong * 20 <= EQUAL, "{wrong} of {EQUAL}");
}

#[test]
fn a_shift_of_two_standard_deviations_is_found_nine_times_in_ten() {
    let mut rng = Rng::new(14);
    // A tenth of the value is two standard deviations of the differences.
    let found = (0..SHIFTED)
        .filter(|_| judge(&family(&mut rng, 0.1))[0].1.conclusion == Conclusion::Regression);
    let found = found.count() as u64;
    assert!(found * 10 >= SHIFTED * 9, "{found} of {SHIFTED}");
}

#[test]
fn a_difference_below_the_smallest_that_can_be_shown_is_no_regression() {
    let mut rng = Rng::new(15);
    for _ in 0..20 {
        let family = family(&mut rng, 0.02);
        let (one, judged) = judge(&family)[0];
        let can = judged.smallest.unwrap_or(f64::INFINITY);
        let difference = one.mean(|(_, a, b)| b - a);
        if difference.abs() < can * 0.9 {
            assert_ne!(
                judged.conclusion,
                Conclusion::Regression,
                "{difference} of {can}"
            );
        }
    }
}

/// Returns the places of a family whose seeds grow, by the names of their scenarios.
fn places(scenarios: &[&str]) -> Vec<Job> {
    let place = |scenario: &&str| Job {
        scenario: (*scenario).to_owned(),
        kernel: Kernel {
            id: "7.3.4-ab".to_owned(),
            release: "7.3.4".to_owned(),
            asked: None,
        },
        topology: None,
        seed: 0,
    };
    scenarios.iter().map(place).collect()
}

/// Returns the looks that a comparison of this number of places has by default, and the number of seeds at the first look.
fn growing(places: usize) -> (Looks, usize) {
    let looks = Looks::usual(places * METRICS.len());
    let first = (looks.all[0].end - looks.first) as usize;
    (looks, first)
}

/// Makes a pair of runs whose metrics are noise around the same value. In `steady`, B's values of the first metric are larger by
/// the share `shift`.
fn made(rng: &mut Rng, job: Job, shift: f64) -> Made {
    let run = || Outcome::without_answer(String::new());
    let (mut a, mut b) = (run(), run());
    for (at, metric) in METRICS.iter().enumerate() {
        let shift = if at == 0 && job.scenario == "steady" {
            shift
        } else {
            0.0
        };
        let common = MEAN + NOISE * rng.normal() * 0.5_f64.sqrt();
        let mut own = || common + NOISE * rng.normal() * 0.5_f64.sqrt();
        a.metrics.insert(metric.name.to_owned(), own());
        b.metrics
            .insert(metric.name.to_owned(), own() * (1.0 + shift));
    }
    (job, a, b)
}

/// Makes a whole comparison of made-up runs. Returns the conclusions of all tests, and the number of pairs of runs in each place.
fn compared(
    rng: &mut Rng,
    looks: &Looks,
    scenarios: &[&str],
    shift: f64,
) -> (Vec<Conclusion>, Vec<usize>) {
    let gates = Gates::new();
    let walk = |jobs: Vec<Job>| Ok(jobs.into_iter().map(|job| made(rng, job, shift)).collect());
    let grown = grow::run(looks, &places(scenarios), &gates, walk);
    let grown = grown.expect("made-up runs do not fail");
    let family = family_of(&grown.pairs, &gates, looks, &grown.taken);
    let judged = judge(&family).into_iter();
    let pairs = scenarios.iter().map(|scenario| {
        let of = grown
            .pairs
            .iter()
            .filter(|(job, ..)| job.scenario == *scenario);
        of.count()
    });
    let conclusions = judged.map(|(_, judged)| judged.conclusion).collect();
    (conclusions, pairs.collect())
}

#[test]
fn growing_seeds_keep_to_one_family_in_twenty_without_a_difference() {
    let mut rng = Rng::new(16);
    let (looks, first) = growing(1);
    let (mut wrong, mut more) = (0, 0);
    for _ in 0..EQUAL {
        let (conclusions, pairs) = compared(&mut rng, &looks, &["steady"], 0.0);
        wrong += u64::from(conclusions.contains(&Conclusion::Regression));
        more += u64::from(pairs[0] > first);
    }
    assert!(wrong * 20 <= EQUAL, "{wrong} of {EQUAL}");
    // Some of these families have further looks, so `wrong` includes the false alarms of those looks.
    assert!((5..EQUAL / 2).contains(&more), "{more} of {EQUAL}");
}

#[test]
fn growing_seeds_find_a_shift_nine_times_in_ten() {
    let mut rng = Rng::new(17);
    let (looks, _) = growing(1);
    // A tenth of the value is two standard deviations of the differences.
    let found = (0..SHIFTED).filter(|_| {
        let (conclusions, _) = compared(&mut rng, &looks, &["steady"], 0.1);
        conclusions[0] == Conclusion::Regression
    });
    let found = found.count() as u64;
    assert!(found * 10 >= SHIFTED * 9, "{found} of {SHIFTED}");
}

#[test]
fn more_seeds_are_run_where_a_small_shift_is_open_and_find_it_more_often() {
    const FAMILIES: usize = 20;
    let scenarios = ["steady", "custom_bursts"];
    let (looks, first) = growing(scenarios.len());
    let one = Looks {
        all: vec![Look {
            share: 1.0,
            ..looks.all[0]
        }],
        ..looks.clone()
    };
    let found = |looks: &Looks| {
        let mut rng = Rng::new(18);
        let (mut found, mut pairs) = (0, [0; 2]);
        for _ in 0..FAMILIES {
            // A shift of 5 % is one standard deviation of the differences.
            let (conclusions, taken) = compared(&mut rng, looks, &scenarios, 0.05);
            found += u64::from(conclusions[0] == Conclusion::Regression);
            pairs = [0, 1].map(|place| pairs[place] + taken[place]);
        }
        (found, pairs)
    };
    let (at_once, _) = found(&one);
    let (grown, [shifted, other]) = found(&looks);
    assert!(
        grown > at_once,
        "{grown} with more seeds, {at_once} without"
    );
    // The other place has no difference, so it seldom takes more seeds than at the first look.
    let at_first = FAMILIES * first;
    assert!(
        shifted - at_first > 3 * (other - at_first),
        "{shifted} and {other} of {at_first}"
    );
}
