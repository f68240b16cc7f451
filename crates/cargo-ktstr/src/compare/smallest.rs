//! The smallest effect that pairs with this noise can show: the smallest shift of all differences that the sign-flip test finds
//! significant at the level of the family's strictest step.

use super::permutation;
use super::signs::Sums;

/// Returns the infimum of the shifts `d` for which the differences, moved to a mean of `d`, have a p of at most `level`;
/// `None` if there is no such shift, because there are too few pairs. `sums` are the sums of `differences`.
///
/// With the residuals r, which are the differences minus their mean, the mean under a sign vector s is at least as far from
/// 0 as the shifted mean if |Σ s·r + d·Σ s| ≥ n·d. For d > 0 this holds up to d = R/(n − S) or −R/(n + S), whichever is
/// larger, with R = Σ s·r and S = Σ s.
pub fn effect(differences: &[f64], sums: &Sums, level: f64) -> Option<f64> {
    if sums.pairs == 0 {
        return None;
    }
    let n = sums.pairs as f64;
    let mean = differences.iter().sum::<f64>() / n;
    // Vectors that flip no sign or all signs are as far for any shift; they are counted separately.
    let mixed = sums.of.iter().filter(|sum| sum.signs.abs() < n);
    let mut ends: Vec<f64> = mixed
        .map(|sum| {
            let (r, s) = (sum.differences - mean * sum.signs, sum.signs);
            (r / (n - s)).max(-r / (n + s)).max(0.0)
        })
        .collect();
    let always = sums.all() - ends.len();
    let allowed = permutation::allowed(level, sums.all()).checked_sub(always)?;
    if allowed >= ends.len() {
        return Some(0.0);
    }
    let (_, end, _) = ends.select_nth_unstable_by(allowed, |a, b| b.total_cmp(a));
    Some(*end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(differences: &[f64], level: f64) -> Option<f64> {
        super::effect(differences, &Sums::of(differences), level)
    }

    /// Finds the same value by a bisection over shifts.
    fn tried(differences: &[f64], level: f64) -> f64 {
        let mean = differences.iter().sum::<f64>() / differences.len() as f64;
        let real = |shift: f64| {
            let moved: Vec<f64> = differences.iter().map(|d| d - mean + shift).collect();
            permutation::p_value(&moved, &Sums::of(&moved)) <= level
        };
        let (mut low, mut high) = (0.0, 1000.0);
        assert!(real(high));
        for _ in 0..60 {
            let middle = (low + high) / 2.0;
            if real(middle) {
                high = middle
            } else {
                low = middle
            }
        }
        high
    }

    #[test]
    fn the_formula_finds_what_a_bisection_finds() {
        let noisy = [1.0, -2.0, 0.5, 3.0, -1.5, 2.0, 0.0, -0.7];
        for level in [0.05, 0.02, 0.0079] {
            let (formula, search) = (effect(&noisy, level), tried(&noisy, level));
            let formula = formula.expect("eight pairs can show it");
            assert!(
                (formula - search).abs() < 1e-6,
                "{level}: {formula}, {search}"
            );
        }
        let many: Vec<f64> = (0..15).map(|n| f64::from(n * 7 % 11) - 4.0).collect();
        let formula = effect(&many, 0.01).expect("fifteen pairs can show it");
        assert!((formula - tried(&many, 0.01)).abs() < 1e-6);
    }

    #[test]
    fn by_hand() {
        // Residuals -1, 0, 1 and a level at which only the vectors that flip no sign or all signs may be as far (2 of 8): the
        // largest of R/(n-S) and -R/(n+S) over the six others is 1, for s = (-,+,+) with R = 2, S = 1.
        assert_eq!(effect(&[4.0, 5.0, 6.0], 0.25), Some(1.0));
        assert_eq!(effect(&[4.0, 5.0, 6.0], 0.2), None, "p is at least 2/8");
        assert_eq!(effect(&[3.0; 6], 0.05), Some(0.0), "no noise");
        assert_eq!(effect(&[], 1.0), None);
    }

    #[test]
    fn noise_raises_the_smallest_effect_and_more_pairs_lower_it() {
        let few: Vec<f64> = (0..8).map(|n| f64::from(n % 4)).collect();
        let loud: Vec<f64> = few.iter().map(|d| d * 10.0).collect();
        let many: Vec<f64> = (0..12).map(|n| f64::from(n % 4)).collect();
        let at = |d: &[f64]| effect(d, 0.01).expect("there are enough pairs");
        assert!(at(&loud) > 9.0 * at(&few));
        assert!(at(&many) < at(&few));
    }
}
