//! A bound that the harness sets by itself, and that a test can move or turn off.

use serde::Serialize;

/// The bound of a check that is on by default.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Nothing is asked.
    Off,
    /// The largest or smallest value that passes, in the unit of the check.
    At(f64),
}

impl Limit {
    /// The value; `None` if nothing is asked.
    pub const fn value(self) -> Option<f64> {
        match self {
            Self::Off => None,
            Self::At(value) => Some(value),
        }
    }
}
