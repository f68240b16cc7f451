//! Many tests at once: Holm's step-down procedure (1979), which keeps the probability that the whole family has any false alarm
//! at or below the level of one test.

/// Returns the p-values adjusted for the family that they form, in the same order. Each can be compared with the level of
/// a single test.
pub fn adjusted(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut out = vec![1.0; p.len()];
    let mut so_far = 0.0_f64;
    for (rank, at) in order.into_iter().enumerate() {
        so_far = so_far.max((p.len() - rank) as f64 * p[at]).min(1.0);
        out[at] = so_far;
    }
    out
}

/// Returns the smallest number of pairs of runs that can decide a family of `tests` permutation tests (`permutation.rs`) at
/// `level`: the smallest p that such a test can have with that many pairs is small enough for the strictest step. `None` if no
/// number of pairs can: with many pairs, p is estimated from 10,000 random choices of signs, so it is never below 1/10,001, which
/// is too large for a large family.
pub fn pairs_needed(tests: usize, level: f64) -> Option<usize> {
    let strictest = level / tests.max(1) as f64;
    (2..=64).find(|pairs| super::permutation::smallest_p(*pairs) <= strictest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // 0.01·4 = 0.04, then 0.02·3 = 0.06, 0.03·2 = 0.06, and 0.04·1, which is raised to the value before it.
        let found = adjusted(&[0.04, 0.01, 0.03, 0.02]);
        for (found, wanted) in found.iter().zip([0.06, 0.04, 0.06, 0.06]) {
            assert!((found - wanted).abs() < 1e-12, "{found} is not {wanted}");
        }
        assert_eq!(adjusted(&[0.6, 0.7]), [1.0, 1.0]);
        assert_eq!(adjusted(&[0.03]), [0.03]);
        assert!(adjusted(&[]).is_empty());
    }

    #[test]
    fn how_many_pairs_a_family_needs() {
        // 2/2^n ≤ 0.05/m.
        assert_eq!(pairs_needed(1, 0.05), Some(6));
        assert_eq!(pairs_needed(2, 0.05), Some(7));
        assert_eq!(pairs_needed(16, 0.05), Some(10));
        assert_eq!(pairs_needed(32, 0.05), Some(11));
        // Beyond twelve pairs the signs are drawn at random: the smallest p is about 2/2^n, but never below 1/10001.
        let many = pairs_needed(200, 0.05);
        assert!(many.is_some_and(|n| (13..17).contains(&n)), "{many:?}");
        assert_eq!(pairs_needed(1000, 0.05), None);
    }
}
