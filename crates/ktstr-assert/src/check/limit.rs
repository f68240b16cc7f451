//! A bound that the harness sets by default, and that a test can change or turn off.

use serde::Serialize;

/// The bound of a check that is on by default.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The check is off.
    Off,
    /// The bound in the unit of the check: the largest value that passes or, for a check that requires a minimum, the smallest.
    At(f64),
}

impl Limit {
    /// Returns the value of the bound; `None` if the check is off.
    pub const fn value(self) -> Option<f64> {
        match self {
            Self::Off => None,
            Self::At(value) => Some(value),
        }
    }
}
