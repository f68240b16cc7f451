//! A 95 % confidence interval of a mean by the percentile bootstrap (Efron 1979): the values are resampled with replacement, and
//! the ends of the interval are the 2.5 and the 97.5 percentile of the means of these samples.

use super::rng::Rng;

/// The number of samples that are drawn, each with as many values as were measured.
const SAMPLES: usize = 2000;
/// The seed of the draws, so that the same numbers give the same interval.
const SEED: u64 = 0x626f_6f74;

/// Returns the 95 % interval of the mean of `values`, its lower end first; `None` if there are no values.
pub fn interval(values: &[f64]) -> Option<(f64, f64)> {
    if values.is_empty() {
        return None;
    }
    let mut rng = Rng::new(SEED);
    let mut means: Vec<f64> = (0..SAMPLES)
        .map(|_| {
            let drawn = (0..values.len()).map(|_| values[rng.below(values.len())]);
            drawn.sum::<f64>() / values.len() as f64
        })
        .collect();
    means.sort_unstable_by(f64::total_cmp);
    // 2.5 % of the means lie outside the interval on each side.
    let outside = SAMPLES / 40;
    Some((means[outside], means[SAMPLES - 1 - outside]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_contains_the_mean_and_is_as_wide_as_theory_predicts() {
        // 20 zeros and 20 ones: the standard error of the mean is 0.5/√40 = 0.0791, and 1.96 times that is 0.155.
        let coins: Vec<f64> = (0..40).map(|n| f64::from(n % 2)).collect();
        let (low, high) = interval(&coins).expect("an interval");
        assert!(
            (low - 0.345).abs() < 0.03 && (high - 0.655).abs() < 0.03,
            "{low} {high}"
        );
        assert_eq!(interval(&coins), interval(&coins), "the seed is fixed");
    }

    #[test]
    fn equal_values_give_an_interval_of_one_point() {
        assert_eq!(interval(&[2.5; 6]), Some((2.5, 2.5)));
        assert_eq!(interval(&[]), None);
    }
}
