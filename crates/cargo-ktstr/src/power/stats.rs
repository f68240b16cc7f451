//! Confidence intervals of rates that are measured in few runs.

use serde::Serialize;

/// The quantile of the normal distribution for 95 %, two-sided.
const Z: f64 = 1.959_964;

/// A count of hits among runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// The number of hits.
    pub hits: u64,
    /// The number of runs.
    pub runs: u64,
}

impl Count {
    /// Counts one more run.
    pub fn add(&mut self, hit: bool) {
        self.runs += 1;
        self.hits += u64::from(hit);
    }

    /// Returns the share of hits; `None` without runs.
    pub fn rate(&self) -> Option<f64> {
        (self.runs > 0).then(|| self.hits as f64 / self.runs as f64)
    }

    /// Returns the 95 % interval of the rate by Wilson's score, which is valid for small counts and rates near 0 and 1 too
    /// (Wilson 1927). Without runs it is 0 to 1.
    pub fn wilson(&self) -> (f64, f64) {
        let Some(rate) = self.rate() else {
            return (0.0, 1.0);
        };
        let n = self.runs as f64;
        let z2 = Z * Z;
        let centre = rate + z2 / (2.0 * n);
        let half = Z * (rate * (1.0 - rate) / n + z2 / (4.0 * n * n)).sqrt();
        let scale = 1.0 + z2 / n;
        let low = if self.hits == 0 {
            0.0
        } else {
            (centre - half) / scale
        };
        let high = if self.hits == self.runs {
            1.0
        } else {
            (centre + half) / scale
        };
        (low.max(0.0), high.min(1.0))
    }

    /// Returns an upper confidence bound of the rate. Without hits it is the one-sided 95 % bound, 1 − 0.05^(1/n), which the rule
    /// of three approximates. With hits it is the upper end of the two-sided 95 % interval. Without runs it is 1.
    pub fn upper_bound(&self) -> f64 {
        match (self.hits, self.runs) {
            (_, 0) => 1.0,
            (0, n) => 1.0 - 0.05_f64.powf(1.0 / n as f64),
            _ => self.wilson().1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 5e-4
    }

    #[test]
    fn wilson_s_interval() {
        let (low, high) = Count { hits: 18, runs: 20 }.wilson();
        assert!(near(low, 0.6990) && near(high, 0.9721), "{low} {high}");
        let (low, high) = Count { hits: 20, runs: 20 }.wilson();
        assert!(near(low, 0.8389) && near(high, 1.0), "{low} {high}");
        let (low, high) = Count { hits: 0, runs: 20 }.wilson();
        assert!(near(low, 0.0) && near(high, 0.1611), "{low} {high}");
        assert_eq!(Count::default().wilson(), (0.0, 1.0));
    }

    #[test]
    fn the_rule_of_three() {
        assert!(near(Count { hits: 0, runs: 200 }.upper_bound(), 0.0149));
        assert!(Count { hits: 1, runs: 200 }.upper_bound() > 0.0149);
        assert!(near(Count::default().upper_bound(), 1.0));
    }

    #[test]
    fn counting() {
        let mut count = Count::default();
        count.add(true);
        count.add(false);
        assert_eq!(count, Count { hits: 1, runs: 2 });
        assert_eq!(count.rate(), Some(0.5));
    }
}
