//! The sign-flip permutation test on paired differences (Fisher 1935): if neither of two schedulers is better, each difference
//! is equally likely to have the other sign. The test is two-sided, on the mean.

use super::signs::{self, Sums};

/// Returns the p-value of `differences`: the probability that random signs give a mean at least as far from 0 as the
/// observed mean. It is exact for up to 12 pairs, else estimated from 10 000 draws with a fixed seed. `sums` has
/// the sum of `differences` under each choice of signs that is tried.
pub fn p_value(differences: &[f64], sums: &Sums) -> f64 {
    let sum = differences.iter().sum::<f64>().abs();
    // A sum that differs only by rounding counts as equally far.
    let as_far = sum - 1e-12 * differences.iter().map(|d| d.abs()).sum::<f64>();
    let is_far = |sum: &&signs::Sum| sum.differences.abs() >= as_far;
    // If the signs are drawn, the observed signs count as one more draw.
    let far = sums.of.iter().filter(is_far).count() + sums.observed();
    far as f64 / sums.all() as f64
}

/// A sign vector is one choice of the signs of all pairs. Returns how many of `all` sign vectors may give a mean at least as far
/// from 0 as the observed mean, if p is to be at most `level`.
pub fn allowed(level: f64, all: usize) -> usize {
    // A product that falls short of a whole number only by rounding counts as that number.
    (level * all as f64 + 1e-9).floor() as usize
}

/// Returns the smallest p that `n` pairs can have.
pub fn smallest_p(n: usize) -> f64 {
    let counts = signs::counts(n);
    counts.always as f64 / counts.all as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p_value(differences: &[f64]) -> f64 {
        super::p_value(differences, &Sums::of(differences))
    }

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} is not {b}");
    }

    #[test]
    fn by_hand() {
        // All differences have the same sign, so only the vectors that flip all signs or none are as far: 2 of 8.
        near(p_value(&[1.0, 2.0, 3.0]), 0.25);
        // The sums of ±1±2±3 at least as far from 0 as 4 = -1+2+3 are ±6 and ±4: 4 of 8.
        near(p_value(&[-1.0, 2.0, 3.0]), 0.5);
        // 0 = 1+2-3 is the smallest possible distance.
        near(p_value(&[1.0, 2.0, -3.0]), 1.0);
        near(p_value(&[1.0; 6]), 2.0 / 64.0);
        near(p_value(&[0.0; 5]), 1.0);
        near(p_value(&[]), 1.0);
    }

    #[test]
    fn rounding_is_no_difference() {
        // 0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1 to the last bit.
        near(p_value(&[0.1, 0.2, 0.3]), 0.25);
        near(p_value(&[0.3, 0.2, 0.1]), 0.25);
    }

    #[test]
    fn the_signs_of_many_pairs_are_drawn() {
        let clear = p_value(&[1.0; 20]);
        near(clear, 1.0 / 10_001.0);
        near(clear, smallest_p(20));
        let alternating: Vec<f64> = (0..20).map(|n| f64::from(n % 2) * 2.0 - 1.0).collect();
        near(p_value(&alternating), 1.0);
        // The sum of 16 ones and 4 minus ones is 12: a binomial tail, 2·P(X ≤ 4 of 20) = 0.0118.
        let mostly: Vec<f64> = (0..20).map(|n| if n < 4 { -1.0 } else { 1.0 }).collect();
        let p = p_value(&mostly);
        assert!((0.008..0.016).contains(&p), "{p}");
    }

    #[test]
    fn the_smallest_p() {
        near(smallest_p(6), 0.03125);
        near(smallest_p(12), 2.0 / 4096.0);
        near(p_value(&[1.0, 5.0, 0.1, 7.0, 9.0, 2.0]), smallest_p(6));
    }
}
