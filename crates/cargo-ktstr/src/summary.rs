//! What is told of a quantity that was measured several times.

use std::time::Duration;

use serde::Serialize;

/// Median and range, seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The middle value; of an even number, the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// How many there were.
    pub samples: usize,
}

impl Summary {
    /// Of `times`; `None` if there are none.
    pub fn of(times: &[Duration]) -> Option<Self> {
        let mut sorted = times.to_vec();
        sorted.sort_unstable();
        let (min, max) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            0 => (sorted[middle - 1] + sorted[middle]) / 2,
            _ => sorted[middle],
        };
        Some(Self {
            median: median.as_secs_f64(),
            min: min.as_secs_f64(),
            max: max.as_secs_f64(),
            samples: sorted.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ms: &[u64]) -> Option<(f64, f64, f64, usize)> {
        let times: Vec<Duration> = ms.iter().map(|&ms| Duration::from_millis(ms)).collect();
        Summary::of(&times).map(|s| (s.median, s.min, s.max, s.samples))
    }

    #[test]
    fn the_middle_and_the_ends() {
        assert_eq!(of(&[30, 10, 20]), Some((0.02, 0.01, 0.03, 3)));
        assert_eq!(of(&[40, 10, 20, 30]), Some((0.025, 0.01, 0.04, 4)));
        assert_eq!(of(&[5]), Some((0.005, 0.005, 0.005, 1)));
        assert_eq!(of(&[]), None);
    }
}
