//! Small statistics over samples. The functions are total: a statistic of no samples is `None`, and no integer overflows.

/// Adds two counters. The sum saturates, because a guest may send absurd values, which must not cause a panic.
pub(crate) fn sum(a: u64, b: u64) -> u64 {
    a.saturating_add(b)
}

/// Whether a count is 0, for fields that a record leaves out if they are 0.
pub(crate) fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Returns the larger of two counters.
pub(crate) fn max(a: u64, b: u64) -> u64 {
    a.max(b)
}

/// Returns the nearest-rank percentile of `sorted` (ascending): element `ceil(n·p) − 1`, clamped.
///
/// `p` is a fraction, 0.99 for the 99th percentile. `None` without samples.
pub(crate) fn percentile(sorted: &[u64], p: f64) -> Option<u64> {
    let n = sorted.len();
    let rank = (n as f64 * p).ceil() as usize;
    sorted.get(rank.clamp(1, n.max(1)) - 1).copied()
}

/// Below this number of values a comparison sort is at least as fast as the radix sort.
const RADIX_FROM: usize = 256;

/// Returns a copy of `values` in ascending order.
///
/// The guest calls this function with up to 100 000 samples per worker, in unoptimised test binaries on an emulated CPU, where
/// the sort of the standard library executes some 300 instructions for each comparison. This function is a radix sort instead: it
/// sorts by one byte after the other, in plain loops, and skips the bytes in which all values agree.
pub(crate) fn sorted(values: &[u64]) -> Vec<u64> {
    let mut from = values.to_vec();
    if from.len() < RADIX_FROM {
        from.sort_unstable();
        return from;
    }
    let mut to = vec![0; from.len()];
    let differing = differing(&from);
    for shift in (0..u64::BITS).step_by(8) {
        if (differing >> shift) & 0xff != 0 {
            by_byte(&from, &mut to, shift);
            std::mem::swap(&mut from, &mut to);
        }
    }
    from
}

/// Returns the bits in which not all values are the same.
fn differing(values: &[u64]) -> u64 {
    let mut differing = 0;
    let mut i = 0;
    while i < values.len() {
        differing |= values[i] ^ values[0];
        i += 1;
    }
    differing
}

/// Copies `from` to `to`, which has the same length, in the order of the byte at `shift`. Values in which this byte is
/// equal keep their order.
fn by_byte(from: &[u64], to: &mut [u64], shift: u32) {
    let mut next = [0usize; 256];
    let mut i = 0;
    while i < from.len() {
        next[((from[i] >> shift) & 0xff) as usize] += 1;
        i += 1;
    }
    let mut start = 0;
    for place in &mut next {
        start += std::mem::replace(place, start);
    }
    i = 0;
    while i < from.len() {
        let byte = ((from[i] >> shift) & 0xff) as usize;
        to[next[byte]] = from[i];
        next[byte] += 1;
        i += 1;
    }
}

/// Returns the arithmetic mean; `None` without values. The sum is an `f64`, because a sum of `u64` could overflow.
pub(crate) fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (mut n, mut sum) = (0u64, 0.0);
    for v in values {
        n += 1;
        sum += v;
    }
    (n > 0).then(|| sum / n as f64)
}

/// Returns the coefficient of variation: the population standard deviation divided by the mean.
///
/// `None` if there are no samples, or if the mean is zero, because the coefficient is then undefined.
pub(crate) fn cv(values: impl IntoIterator<Item = f64> + Clone) -> Option<f64> {
    let m = mean(values.clone())?;
    if m == 0.0 {
        return None;
    }
    let var = mean(values.into_iter().map(|v| (v - m) * (v - m)))?;
    Some(var.sqrt() / m)
}

/// Returns the same as [`cv`], for integers. It uses plain loops for the reason that [`sorted`] gives.
pub(crate) fn cv_of(values: &[u64]) -> Option<f64> {
    let n = values.len() as f64;
    let (mut sum, mut i) = (0.0, 0);
    while i < values.len() {
        sum += values[i] as f64;
        i += 1;
    }
    let mean = sum / n;
    if values.is_empty() || mean == 0.0 {
        return None;
    }
    let mut squares = 0.0;
    i = 0;
    while i < values.len() {
        let off = values[i] as f64 - mean;
        squares += off * off;
        i += 1;
    }
    Some((squares / n).sqrt() / mean)
}

/// Returns the smallest and the largest value; `None` without values.
pub(crate) fn min_max(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    values.into_iter().fold(None, |acc, v| match acc {
        None => Some((v, v)),
        Some((lo, hi)) => Some((lo.min(v), hi.max(v))),
    })
}

/// Returns `num / den`; `None` if the denominator is zero.
pub(crate) fn ratio(num: u64, den: u64) -> Option<f64> {
    (den > 0).then(|| num as f64 / den as f64)
}

/// Converts nanoseconds to microseconds; fractions are preserved.
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
        /// The lists are shorter or longer than [`RADIX_FROM`], and their values differ in few or in many bytes.
        #[test]
        fn sorted_is_the_order_of_the_standard_library(
            v in prop::collection::vec(any::<u64>(), 0..3 * RADIX_FROM), keep in any::<u64>(),
        ) {
            let v: Vec<u64> = v.into_iter().map(|v| v & keep).collect();
            let mut expected = v.clone();
            expected.sort_unstable();
            prop_assert_eq!(sorted(&v), expected);
        }

        #[test]
        fn both_coefficients_of_variation_agree(v in prop::collection::vec(0u64..1 << 40, 0..50)) {
            prop_assert_eq!(cv_of(&v), cv(v.iter().map(|v| *v as f64)));
        }

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
