//! The four ways a judgement can end, and which of two is worse.

use super::detail::AssertDetail;
use serde::{Deserialize, Serialize};

/// One judgement. `Fail` is the scheduler's fault, `Inconclusive` the host's, the harness's or
/// missing data's, `Skip` nobody's.
///
/// Severity: `Fail` > `Inconclusive` > `Pass` > `Skip`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// What was looked at holds.
    #[default]
    Pass,
    /// There was nothing to look at.
    Skip(AssertDetail),
    /// There is no evidence for either verdict.
    Inconclusive(AssertDetail),
    /// It does not hold.
    Fail(AssertDetail),
}

/// A borrowed [`Outcome`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OutcomeRef<'a> {
    /// What was looked at holds.
    Pass,
    /// There was nothing to look at.
    Skip(&'a AssertDetail),
    /// There is no evidence for either verdict.
    Inconclusive(&'a AssertDetail),
    /// It does not hold.
    Fail(&'a AssertDetail),
}

impl Outcome {
    /// The same outcome, with its details borrowed.
    pub fn as_ref(&self) -> OutcomeRef<'_> {
        match self {
            Outcome::Pass => OutcomeRef::Pass,
            Outcome::Skip(d) => OutcomeRef::Skip(d),
            Outcome::Inconclusive(d) => OutcomeRef::Inconclusive(d),
            Outcome::Fail(d) => OutcomeRef::Fail(d),
        }
    }

    /// The reason; a pass has none.
    pub fn detail(&self) -> Option<&AssertDetail> {
        self.as_ref().detail()
    }

    /// The worse of the two; of two equally bad ones, `self`.
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

    /// The reason; a pass has none.
    pub fn detail(self) -> Option<&'a AssertDetail> {
        match self {
            OutcomeRef::Pass => None,
            OutcomeRef::Skip(d) | OutcomeRef::Inconclusive(d) | OutcomeRef::Fail(d) => Some(d),
        }
    }

    /// An owned copy.
    pub fn to_owned(self) -> Outcome {
        match self {
            OutcomeRef::Pass => Outcome::Pass,
            OutcomeRef::Skip(d) => Outcome::Skip(d.clone()),
            OutcomeRef::Inconclusive(d) => Outcome::Inconclusive(d.clone()),
            OutcomeRef::Fail(d) => Outcome::Fail(d.clone()),
        }
    }

    /// The worse of the two; of two equally bad ones, `self`.
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
