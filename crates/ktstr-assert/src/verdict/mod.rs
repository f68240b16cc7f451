//! Claims: one value or collection, one expectation, one record.
//!
//! A claim that does not hold adds a failure with the message `<label>: expected <relation>, was <value>`, followed by
//! the reason in parentheses if there is one. A claim about an absent metric fails with `<label>: metric absent`. A
//! claim that holds adds a [`PassDetail`](crate::PassDetail) and no outcome. In this module, only claims that one
//! measurement is better than another can be inconclusive.

mod better;
mod collection;
mod core;
#[cfg(test)]
mod tests;
mod value;

pub use better::{BetterClaim, BetterThanPhase};
pub use collection::{SeqClaim, SetClaim};
pub use core::{LOG_PASSES, Verdict};
pub use value::{ClaimBuilder, PresentClaim};

/// Starts a claim about the value of an expression. The expression's text is the label.
///
/// ```
/// # use ktstr_assert::{Verdict, claim};
/// let mut v = Verdict::new();
/// let gap_ms = 3;
/// claim!(v, gap_ms).at_most(10);
/// assert!(v.is_pass());
/// ```
#[macro_export]
macro_rules! claim {
    ($verdict:expr, $value:expr $(,)?) => {
        $verdict.claim(stringify!($value), $value)
    };
}

/// Starts a claim about a metric that may be absent. The expression's text is the label.
///
/// ```
/// # use ktstr_assert::{Verdict, claim_present};
/// let mut v = Verdict::new();
/// let rate: Option<f64> = None;
/// claim_present!(v, rate).at_least(1.0);
/// assert!(v.is_fail());
/// ```
#[macro_export]
macro_rules! claim_present {
    ($verdict:expr, $value:expr $(,)?) => {
        $verdict.claim_present(stringify!($value), $value)
    };
}
