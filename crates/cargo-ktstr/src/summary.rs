//! The summary of a quantity that was measured several times.

use serde::Serialize;

/// The median and the range, in the unit of the values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The middle value; for an even number of values, the mean of the two in the middle.
    pub median: f64,
    /// The smallest of the values.
    pub min: f64,
    /// The largest of the values.
    pub max: f64,
    /// The number of values.
    pub samples: usize,
}

impl Summary {
    /// Returns the summary of `values`; `None` if there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
            _ => sorted[middle],
        };
        Some(Self {
            median,
            min,
            max,
            samples: sorted.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> Option<(f64, f64, f64, usize)> {
        Summary::of(values.iter().copied()).map(|s| (s.median, s.min, s.max, s.samples))
    }

    #[test]
    fn the_middle_and_the_ends() {
        assert_eq!(of(&[30.0, 10.0, 20.0]), Some((20.0, 10.0, 30.0, 3)));
        assert_eq!(of(&[40.0, 10.0, 20.0, 30.0]), Some((25.0, 10.0, 40.0, 4)));
        assert_eq!(of(&[5.0]), Some((5.0, 5.0, 5.0, 1)));
        assert_eq!(of(&[]), None);
    }
}
