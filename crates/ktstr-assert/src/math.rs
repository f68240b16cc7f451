//! Small statistics over samples. The functions are total: an empty input gives `None`, and nothing overflows.

/// The nearest-rank percentile of `sorted` (ascending): element `ceil(n·p) − 1`, clamped.
///
/// `p` is a fraction, 0.99 for the 99th percentile. `None` when there are no samples.
pub(crate) fn percentile(sorted: &[u64], p: f64) -> Option<u64> {
    let n = sorted.len();
    let rank = (n as f64 * p).ceil() as usize;
    sorted.get(rank.clamp(1, n.max(1)) - 1).copied()
}

/// A sorted copy.
pub(crate) fn sorted(values: &[u64]) -> Vec<u64> {
    let mut v = values.to_vec();
    v.sort_unstable();
    v
}

/// The arithmetic mean. Sums in `f64`, so it cannot overflow.
pub(crate) fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (mut n, mut sum) = (0u64, 0.0);
    for v in values {
        n += 1;
        sum += v;
    }
    (n > 0).then(|| sum / n as f64)
}

/// The coefficient of variation: population standard deviation over mean.
///
/// `None` without samples or when the mean is zero, where it is not defined.
pub(crate) fn cv(values: impl IntoIterator<Item = f64> + Clone) -> Option<f64> {
    let m = mean(values.clone())?;
    if m == 0.0 {
        return None;
    }
    let var = mean(values.into_iter().map(|v| (v - m) * (v - m)))?;
    Some(var.sqrt() / m)
}

/// Smallest and largest value. `None` without samples.
pub(crate) fn min_max(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    values.into_iter().fold(None, |acc, v| match acc {
        None => Some((v, v)),
        Some((lo, hi)) => Some((lo.min(v), hi.max(v))),
    })
}

/// `num / den`, or `None` when the denominator is zero.
pub(crate) fn ratio(num: u64, den: u64) -> Option<f64> {
    (den > 0).then(|| num as f64 / den as f64)
}

/// Nanoseconds as microseconds.
pub(crate) fn us(ns: u64) -> f64 {
    ns as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nearest_rank() {
        let v: Vec<u64> = (1..=100).collect();
        assert_eq!(percentile(&v, 0.99), Some(99));
        assert_eq!(percentile(&v, 0.5), Some(50));
        assert_eq!(percentile(&v, 0.0), Some(1));
        assert_eq!(percentile(&v, 1.0), Some(100));
        assert_eq!(percentile(&[7], 0.999), Some(7));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn cv_of_equal_values_is_zero_and_of_zeros_undefined() {
        assert_eq!(cv([3.0, 3.0, 3.0]), Some(0.0));
        assert_eq!(cv([0.0, 0.0]), None);
        assert_eq!(cv([1.0, 3.0]), Some(0.5));
    }

    proptest! {
        /// The definition: at least a share `p` of the samples is at or below the answer, and the
        /// answer is the smallest sample for which this holds.
        #[test]
        fn percentile_is_the_smallest_that_covers(mut v in prop::collection::vec(any::<u64>(), 1..200), p in 0.01f64..1.0) {
            v.sort_unstable();
            let q = percentile(&v, p).expect("not empty");
            let covered = |x: u64| v.iter().filter(|s| **s <= x).count() as f64;
            let need = v.len() as f64 * p;
            prop_assert!(covered(q) >= need);
            if let Some(below) = v.iter().rev().find(|s| **s < q) {
                prop_assert!(covered(*below) < need);
            }
        }
    }
}
