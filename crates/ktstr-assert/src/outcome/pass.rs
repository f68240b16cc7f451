//! Claims that held: the evidence that a passing test checked something.

use crate::phase::current_phase_label;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// The values that [`PassDetail::comparator`] can have for a claim that held.
pub const COMPARATOR_VOCABULARY: [&str; 23] = [
    "eq",
    "ne",
    "ge",
    "le",
    "lt",
    "gt",
    "in_range",
    "near_within",
    "is_finite",
    "set_is_empty",
    "set_is_non_empty",
    "set_len_eq",
    "set_len_le",
    "set_len_ge",
    "set_contains",
    "subset_of",
    "disjoint_from",
    "sequence_is_empty",
    "sequence_is_non_empty",
    "sequence_len_eq",
    "sequence_len_le",
    "sequence_len_ge",
    "sequence_contains",
];

/// The largest number of passes in a result, so that a claim in a hot loop does not fill the guest's memory.
pub const MAX_RECORDED_PASSES: usize = 10_000;
/// The name of the one pass that represents all passes beyond [`MAX_RECORDED_PASSES`].
pub const PASSES_TRUNCATION_SENTINEL_NAME: &str = "__ktstr_passes_truncated__";
/// The comparator of the one pass that represents all passes beyond [`MAX_RECORDED_PASSES`].
pub const PASSES_TRUNCATION_SENTINEL_COMPARATOR: &str = "truncated";

/// One claim that held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassDetail {
    /// The label of the claim.
    pub name: Cow<'static, str>,
    /// The relation that holds: one of [`COMPARATOR_VOCABULARY`], or [`PASSES_TRUNCATION_SENTINEL_COMPARATOR`].
    pub comparator: Cow<'static, str>,
    /// The value that was found.
    pub value: String,
    /// The value with which `value` was compared; `None` for comparators without an argument.
    pub expected: Option<String>,
    /// The label of the phase in which the claim was recorded; `None` outside of phases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Cow<'static, str>>,
}

impl PassDetail {
    /// Creates a pass that compares a value with another one.
    pub fn binary(
        name: impl Into<Cow<'static, str>>,
        comparator: impl Into<Cow<'static, str>>,
        value: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        PassDetail {
            expected: Some(expected.into()),
            ..Self::unary(name, comparator, value)
        }
    }

    /// Creates a pass for a property of a single value.
    pub fn unary(
        name: impl Into<Cow<'static, str>>,
        comparator: impl Into<Cow<'static, str>>,
        value: impl Into<String>,
    ) -> Self {
        PassDetail {
            name: name.into(),
            comparator: comparator.into(),
            value: value.into(),
            expected: None,
            phase: None,
        }
    }

    /// Sets the phase in which the claim held.
    pub fn with_phase(mut self, phase: impl Into<Cow<'static, str>>) -> Self {
        self.phase = Some(phase.into());
        self
    }

    pub(crate) fn stamped(mut self) -> Self {
        self.phase = self.phase.or_else(current_phase_label);
        self
    }

    /// Creates the sentinel, which represents the passes beyond [`MAX_RECORDED_PASSES`].
    pub(crate) fn truncated() -> Self {
        Self::unary(
            PASSES_TRUNCATION_SENTINEL_NAME,
            PASSES_TRUNCATION_SENTINEL_COMPARATOR,
            format!("cap={MAX_RECORDED_PASSES}"),
        )
    }

    pub(crate) fn is_truncation(&self) -> bool {
        self.name == PASSES_TRUNCATION_SENTINEL_NAME
    }
}

impl fmt::Display for PassDetail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.name, self.value, self.comparator)?;
        match &self.expected {
            Some(e) => write!(f, " {e}"),
            None => Ok(()),
        }
    }
}
