//! Bounds of the checks on the exact schedule, as a configuration file sets them.

use std::collections::BTreeMap;

use ktstr::assert::{Assert, Limit};
use serde::{Deserialize, Serialize};

/// A bound: a number in the unit of the check, or no bound at all.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// The check is not made.
    Off,
    /// The largest value that passes for a bound `max_…`, or the smallest value that passes for a bound `min_…`.
    At(f64),
}

// A `Cell` contains bounds and has a total order. `f64` has only a partial order, so the traits of `Bound` are written by hand.
// NaN needs no care, because `check/config.rs` refuses it as a bound.
impl PartialEq for Bound {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Bound {}

impl PartialOrd for Bound {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bound {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        match (self, other) {
            (Self::Off, Self::Off) => std::cmp::Ordering::Equal,
            (Self::Off, Self::At(_)) => std::cmp::Ordering::Less,
            (Self::At(_), Self::Off) => std::cmp::Ordering::Greater,
            (Self::At(a), Self::At(b)) => a.total_cmp(b),
        }
    }
}

/// A function that sets one bound.
type Set = fn(Assert, Limit) -> Assert;

/// The keys of `[bounds]` in `ktstr.toml`, each with the function that sets its bound.
pub const BOUNDS: [(&str, Set); 7] = [
    ("max_owed_ms", Assert::max_owed_ms),
    ("min_entitled_share", Assert::min_entitled_share),
    ("min_task_share", Assert::min_task_share),
    ("max_wasted_share", Assert::max_wasted_share),
    ("max_wake_wait_ms", Assert::max_wake_wait_ms),
    ("max_preemption_rate", Assert::max_preemption_rate),
    ("min_driven_share", Assert::min_driven_share),
];

/// Returns `checks` with these bounds applied.
pub fn over(checks: Assert, bounds: &BTreeMap<String, Bound>) -> Assert {
    BOUNDS
        .iter()
        .fold(checks, |checks, (key, set)| match bounds.get(*key) {
            None => checks,
            Some(Bound::Off) => set(checks, Limit::Off),
            Some(Bound::At(value)) => set(checks, Limit::At(*value)),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_given_bounds_are_set() {
        let bounds = BTreeMap::from([
            ("max_owed_ms".to_owned(), Bound::At(80.0)),
            ("min_task_share".to_owned(), Bound::Off),
        ]);
        let checks = over(Assert::NO_OVERRIDES, &bounds);
        assert_eq!(checks.max_owed_ms, Some(Limit::At(80.0)));
        assert_eq!(checks.min_task_share, Some(Limit::Off));
        assert_eq!(checks.max_wasted_share, None);
    }
}
