//! The smallest difference of a metric that matters to `compare`: a smaller one is never a regression, however significant it is.
//! Each metric has its own gate, which `ktstr.toml` can change.

use serde::{Deserialize, Serialize};

/// The size from which a difference counts: the difference has to reach both limits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// The smallest difference in units of the metric.
    pub least: f64,
    /// The smallest difference as a share of the reference value, which is A's mean in `compare`.
    pub share: f64,
}

impl Gate {
    /// Returns whether a difference from the reference value `other` is large enough to matter, whatever its sign is.
    pub fn counts(self, difference: f64, other: f64) -> bool {
        difference.abs() >= self.least && difference.abs() >= self.share * other.abs()
    }
}

/// The setting of a metric's gate in a configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GateWish {
    /// The metric is not compared at all, which makes the family of tests smaller.
    Off,
    /// The gate is changed. Values that are `None` keep their default.
    At {
        /// The new [`Gate::least`]; `None` keeps the metric's default.
        least: Option<f64>,
        /// The new [`Gate::share`]; `None` keeps the metric's default.
        share: Option<f64>,
    },
}

impl GateWish {
    /// Returns `gate`, the default of the metric, with the changes of this setting; `None` if the metric is not compared.
    pub fn over(self, gate: Gate) -> Option<Gate> {
        match self {
            Self::Off => None,
            Self::At { least, share } => Some(Gate {
                least: least.unwrap_or(gate.least),
                share: share.unwrap_or(gate.share),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_measures_have_to_be_reached() {
        let gate = Gate {
            least: 50.0,
            share: 0.1,
        };
        assert!(gate.counts(100.0, 1000.0) && gate.counts(-100.0, -1000.0));
        assert!(!gate.counts(99.0, 1000.0), "too small a share");
        assert!(!gate.counts(49.0, 10.0), "too few units");
    }

    #[test]
    fn a_wish_changes_only_the_values_that_it_has() {
        let gate = Gate {
            least: 50.0,
            share: 0.1,
        };
        let least = GateWish::At {
            least: Some(7.0),
            share: None,
        };
        let moved = Gate { least: 7.0, ..gate };
        assert_eq!(least.over(gate), Some(moved));
        assert_eq!(GateWish::Off.over(gate), None);
    }
}
