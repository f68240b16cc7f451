//! The four outcomes of a check, and which of two is worse.

use super::detail::AssertDetail;
use serde::{Deserialize, Serialize};

/// The outcome of a check. A `Fail` counts against the scheduler, unless the evidence attributes it to something else.
/// `Inconclusive` is caused by the host, the harness or missing data, and `Skip` is nobody's fault.
///
/// Severity: `Fail` > `Inconclusive` > `Pass` > `Skip`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// The checked property holds.
    #[default]
    Pass,
    /// The check does not apply.
    Skip(AssertDetail),
    /// The evidence supports neither a pass nor a failure.
    Inconclusive(AssertDetail),
    /// The checked property does not hold.
    Fail(AssertDetail),
}

/// An [`Outcome`] whose detail is borrowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OutcomeRef<'a> {
    /// The checked property holds.
    Pass,
    /// The check does not apply.
    Skip(&'a AssertDetail),
    /// The evidence supports neither a pass nor a failure.
    Inconclusive(&'a AssertDetail),
    /// The checked property does not hold.
    Fail(&'a AssertDetail),
}

impl Outcome {
    /// Returns the outcome with a borrowed detail.
    pub fn as_ref(&self) -> OutcomeRef<'_> {
        match self {
            Outcome::Pass => OutcomeRef::Pass,
            Outcome::Skip(d) => OutcomeRef::Skip(d),
            Outcome::Inconclusive(d) => OutcomeRef::Inconclusive(d),
            Outcome::Fail(d) => OutcomeRef::Fail(d),
        }
    }

    /// Returns the detail; `None` for a pass.
    pub fn detail(&self) -> Option<&AssertDetail> {
        self.as_ref().detail()
    }

    /// Returns the worse of the two, or `self` if they are equally bad.
    pub fn merge(self, other: Outcome) -> Outcome {
        if other.as_ref().severity() > self.as_ref().severity() {
            other
        } else {
            self
        }
    }

    /// Whether it is a pass.
    pub fn is_pass(&self) -> bool {
        self.as_ref().is_pass()
    }

    /// Whether it is a skip.
    pub fn is_skip(&self) -> bool {
        self.as_ref().is_skip()
    }

    /// Whether it is inconclusive.
    pub fn is_inconclusive(&self) -> bool {
        self.as_ref().is_inconclusive()
    }

    /// Whether it is a failure.
    pub fn is_fail(&self) -> bool {
        self.as_ref().is_fail()
    }

    /// Adds the phase label of this thread to the detail, unless it has a label already.
    pub(super) fn stamped(self) -> Outcome {
        match self {
            Outcome::Pass => Outcome::Pass,
            Outcome::Skip(d) => Outcome::Skip(d.stamped()),
            Outcome::Inconclusive(d) => Outcome::Inconclusive(d.stamped()),
            Outcome::Fail(d) => Outcome::Fail(d.stamped()),
        }
    }
}

impl<'a> OutcomeRef<'a> {
    fn severity(self) -> u8 {
        match self {
            OutcomeRef::Skip(_) => 0,
            OutcomeRef::Pass => 1,
            OutcomeRef::Inconclusive(_) => 2,
            OutcomeRef::Fail(_) => 3,
        }
    }

    /// Returns the detail; `None` for a pass.
    pub fn detail(self) -> Option<&'a AssertDetail> {
        match self {
            OutcomeRef::Pass => None,
            OutcomeRef::Skip(d) | OutcomeRef::Inconclusive(d) | OutcomeRef::Fail(d) => Some(d),
        }
    }

    /// Returns an owned copy.
    pub fn to_owned(self) -> Outcome {
        match self {
            OutcomeRef::Pass => Outcome::Pass,
            OutcomeRef::Skip(d) => Outcome::Skip(d.clone()),
            OutcomeRef::Inconclusive(d) => Outcome::Inconclusive(d.clone()),
            OutcomeRef::Fail(d) => Outcome::Fail(d.clone()),
        }
    }

    /// Returns the worse of the two, or `self` if they are equally bad.
    pub fn merge(self, other: OutcomeRef<'a>) -> OutcomeRef<'a> {
        if other.severity() > self.severity() {
            other
        } else {
            self
        }
    }

    /// Whether it is a pass.
    pub fn is_pass(self) -> bool {
        matches!(self, OutcomeRef::Pass)
    }

    /// Whether it is a skip.
    pub fn is_skip(self) -> bool {
        matches!(self, OutcomeRef::Skip(_))
    }

    /// Whether it is inconclusive.
    pub fn is_inconclusive(self) -> bool {
        matches!(self, OutcomeRef::Inconclusive(_))
    }

    /// Whether it is a failure.
    pub fn is_fail(self) -> bool {
        matches!(self, OutcomeRef::Fail(_))
    }
}
