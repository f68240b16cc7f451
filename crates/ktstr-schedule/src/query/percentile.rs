//! Percentiles of exact values.

/// Returns a percentile (`percent` is 0 to 100) by the nearest-rank method: the smallest value such that at least `percent` % of
/// the values are less than or equal to it. The values must be in ascending order. Returns `None` if there are none.
pub fn percentile(sorted: &[u64], percent: f64) -> Option<u64> {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the rank is between 0 and the number of values"
    )]
    let rank = (percent.clamp(0.0, 100.0) / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let values: Vec<u64> = (1..=100).collect();
        for (percent, value) in [(0.0, 1), (50.0, 50), (99.0, 99), (100.0, 100)] {
            assert_eq!(percentile(&values, percent), Some(value));
        }
        assert_eq!(percentile(&[7], 50.0), Some(7));
        assert_eq!(percentile(&[], 50.0), None);
    }
}
