//! From which size on a difference of a metric is worth a word. Each metric has a gate of its own; `ktstr.toml` moves it.

use serde::{Deserialize, Serialize};

/// A difference counts if it is as large by both measures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// Fewest units of the metric.
    pub least: f64,
    /// Smallest share of the value that it is held against.
    pub share: f64,
}

impl Gate {
    /// Whether a difference from `other` is worth a word.
    pub fn counts(self, difference: f64, other: f64) -> bool {
        difference.abs() >= self.least && difference.abs() >= self.share * other.abs()
    }
}

/// What a configuration says of a metric's gate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GateWish {
    /// The metric is not compared at all: the family is smaller by it.
    Off,
    /// The gate is moved; what is `None` stays.
    At {
        /// The value of [`Gate::least`]; the metric's own where it is absent.
        least: Option<f64>,
        /// The value of [`Gate::share`]; the metric's own where it is absent.
        share: Option<f64>,
    },
}

impl GateWish {
    /// The gate that comes of it; `None` where the metric is not compared.
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
    fn a_wish_moves_what_it_names() {
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
