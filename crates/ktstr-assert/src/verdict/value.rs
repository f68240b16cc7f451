//! Claims about a single value.

use super::Verdict;
use crate::outcome::{AssertDetail, DetailKind, Finding, PassDetail};
use std::fmt::Display;

/// What claims about values and collections have in common before they are judged: the verdict, and the label, the
/// kind and the reason.
pub(super) struct Subject<'a> {
    pub verdict: &'a mut Verdict,
    pub name: &'static str,
    pub kind: DetailKind,
    pub reason: Option<String>,
}

impl<'a> Subject<'a> {
    pub fn new(verdict: &'a mut Verdict, name: &'static str) -> Self {
        Subject {
            verdict,
            name,
            kind: DetailKind::Other,
            reason: None,
        }
    }

    /// Records a claim as a pass if `holds` is true. Otherwise records a failure, whose message states `relation`, which was
    /// expected, and the actual `value`.
    pub fn settle(
        self,
        holds: bool,
        comparator: &'static str,
        relation: String,
        expected: Option<String>,
        value: String,
    ) -> &'a mut Verdict {
        if holds {
            let pass = PassDetail {
                expected,
                ..PassDetail::unary(self.name, comparator, value)
            };
            self.verdict.pass(pass)
        } else {
            let detail = AssertDetail::of(Finding::Claim {
                label: self.name.to_owned(),
                expected: relation,
                actual: value,
                reason: self.reason,
            });
            self.verdict.fail(detail.with_kind(self.kind))
        }
    }

    /// Records the failure of a claim about an absent metric.
    pub fn fail_absent(self) -> &'a mut Verdict {
        let reason = self.reason.map(|r| format!(" ({r})")).unwrap_or_default();
        let message = format!("{}: metric absent{reason}", self.name);
        self.verdict.fail(AssertDetail::new(self.kind, message))
    }
}

macro_rules! modifiers {
    () => {
        /// Sets the kind of a failure. The default is [`DetailKind::Other`].
        pub fn kind(mut self, kind: DetailKind) -> Self {
            self.subject.kind = kind;
            self
        }

        /// Adds a reason, which a failure shows in parentheses.
        pub fn because(mut self, reason: &str) -> Self {
            self.subject.reason = Some(reason.to_owned());
            self
        }
    };
}
pub(super) use modifiers;

/// A claim about a value; see [`Verdict::claim`].
#[must_use = "a claim checks nothing until one of its methods is called"]
pub struct ClaimBuilder<'a, T> {
    subject: Subject<'a>,
    value: T,
}

impl<'a, T> ClaimBuilder<'a, T> {
    pub(super) fn new(verdict: &'a mut Verdict, name: &'static str, value: T) -> Self {
        let subject = Subject::new(verdict, name);
        ClaimBuilder { subject, value }
    }

    modifiers!();

    fn settle(
        self,
        comparator: &'static str,
        words: &str,
        expected: T,
        holds: impl FnOnce(&T, &T) -> bool,
    ) -> &'a mut Verdict
    where
        T: Display,
    {
        let (holds, x) = (holds(&self.value, &expected), expected.to_string());
        let value = self.value.to_string();
        let relation = format!("{words}{x}");
        self.subject
            .settle(holds, comparator, relation, Some(x), value)
    }
}

impl<'a, T: PartialEq + Display> ClaimBuilder<'a, T> {
    /// Claims that the value equals `x`.
    pub fn eq(self, x: T) -> &'a mut Verdict {
        self.settle("eq", "", x, |v, x| v == x)
    }

    /// Claims that the value does not equal `x`.
    pub fn ne(self, x: T) -> &'a mut Verdict {
        self.settle("ne", "!= ", x, |v, x| v != x)
    }
}

impl<'a, T: PartialOrd + Display> ClaimBuilder<'a, T> {
    /// Claims that the value is `x` or more.
    pub fn at_least(self, x: T) -> &'a mut Verdict {
        self.settle("ge", "at least ", x, |v, x| v >= x)
    }

    /// Claims that the value is `x` or less.
    pub fn at_most(self, x: T) -> &'a mut Verdict {
        self.settle("le", "at most ", x, |v, x| v <= x)
    }

    /// Claims that the value is less than `x`.
    pub fn lt(self, x: T) -> &'a mut Verdict {
        self.settle("lt", "less than ", x, |v, x| v < x)
    }

    /// Claims that the value is more than `x`.
    pub fn gt(self, x: T) -> &'a mut Verdict {
        self.settle("gt", "greater than ", x, |v, x| v > x)
    }

    /// Claims that the value is between `lo` and `hi`, both included. The claim fails for an empty range.
    pub fn between(self, lo: T, hi: T) -> &'a mut Verdict {
        let range = format!("[{lo}, {hi}]");
        // A range is empty if a bound is NaN, or if the lower bound is above the upper one.
        let is_range = lo <= hi;
        let relation = match is_range {
            true => format!("in {range}"),
            false => format!("in {range} (an empty range)"),
        };
        let holds = is_range && self.value >= lo && self.value <= hi;
        let value = self.value.to_string();
        self.subject
            .settle(holds, "in_range", relation, Some(range), value)
    }
}

impl<'a> ClaimBuilder<'a, f64> {
    /// Claims that the value is neither NaN nor infinite.
    pub fn is_finite(self) -> &'a mut Verdict {
        let value = self.value.to_string();
        let holds = self.value.is_finite();
        self.subject
            .settle(holds, "is_finite", "finite".into(), None, value)
    }

    /// Claims that the value differs from `target` by at most `tol`.
    pub fn near(self, target: f64, tol: f64) -> &'a mut Verdict {
        let holds = (self.value - target).abs() <= tol;
        let x = format!("{target} (±{tol})");
        let value = self.value.to_string();
        let relation = format!("near {x}");
        self.subject
            .settle(holds, "near_within", relation, Some(x), value)
    }
}

/// A claim about a metric that may be absent; see [`Verdict::claim_present`]. Every claim fails if the metric is absent.
#[must_use = "a claim checks nothing until one of its methods is called"]
pub struct PresentClaim<'a> {
    subject: Subject<'a>,
    value: Option<f64>,
}

macro_rules! present {
    ($($(#[$doc:meta])* $name:ident($($arg:ident),*);)*) => { $(
        $(#[$doc])*
        pub fn $name(self $(, $arg: f64)*) -> &'a mut Verdict {
            match self.value {
                Some(value) => ClaimBuilder { subject: self.subject, value }.$name($($arg),*),
                None => self.subject.fail_absent(),
            }
        }
    )* };
}

impl<'a> PresentClaim<'a> {
    pub(super) fn new(verdict: &'a mut Verdict, name: &'static str, value: Option<f64>) -> Self {
        let subject = Subject::new(verdict, name);
        PresentClaim { subject, value }
    }

    modifiers!();

    present! {
        /// Claims that the metric is present and equals `x`.
        eq(x);
        /// Claims that the metric is present and does not equal `x`.
        ne(x);
        /// Claims that the metric is present and is `x` or more.
        at_least(x);
        /// Claims that the metric is present and is `x` or less.
        at_most(x);
        /// Claims that the metric is present and is less than `x`.
        lt(x);
        /// Claims that the metric is present and is more than `x`.
        gt(x);
        /// Claims that the metric is present and is between `lo` and `hi`, both included.
        between(lo, hi);
        /// Claims that the metric is present, and neither NaN nor infinite.
        is_finite();
        /// Claims that the metric is present and differs from `target` by at most `tol`.
        near(target, tol);
    }
}
