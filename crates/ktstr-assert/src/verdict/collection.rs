//! Claims about sets and sequences.

use super::Verdict;
use super::value::{Subject, modifiers};
use crate::outcome::DetailKind;
use std::collections::BTreeSet;
use std::fmt::Debug;

macro_rules! sized {
    ($prefix:literal) => {
        /// Claims that the collection has no elements.
        pub fn empty(self) -> &'a mut Verdict {
            let holds = self.items.is_empty();
            self.settle(holds, concat!($prefix, "_is_empty"), "empty".into(), None)
        }

        /// Claims that the collection has at least one element.
        pub fn nonempty(self) -> &'a mut Verdict {
            let holds = !self.items.is_empty();
            self.settle(
                holds,
                concat!($prefix, "_is_non_empty"),
                "non-empty".into(),
                None,
            )
        }

        /// Claims that the collection has exactly `n` elements.
        pub fn len_eq(self, n: usize) -> &'a mut Verdict {
            let holds = self.items.len() == n;
            self.settle(
                holds,
                concat!($prefix, "_len_eq"),
                format!("len == {n}"),
                Some(n.to_string()),
            )
        }

        /// Claims that the collection has at most `n` elements.
        pub fn len_at_most(self, n: usize) -> &'a mut Verdict {
            let holds = self.items.len() <= n;
            self.settle(
                holds,
                concat!($prefix, "_len_le"),
                format!("len <= {n}"),
                Some(n.to_string()),
            )
        }

        /// Claims that the collection has at least `n` elements.
        pub fn len_at_least(self, n: usize) -> &'a mut Verdict {
            let holds = self.items.len() >= n;
            self.settle(
                holds,
                concat!($prefix, "_len_ge"),
                format!("len >= {n}"),
                Some(n.to_string()),
            )
        }

        /// Claims that the collection contains `x`.
        pub fn contains(self, x: &T) -> &'a mut Verdict {
            let (holds, x) = (self.items.contains(x), format!("{x:?}"));
            self.settle(
                holds,
                concat!($prefix, "_contains"),
                format!("to contain {x}"),
                Some(x),
            )
        }

        fn settle(
            self,
            holds: bool,
            comparator: &'static str,
            relation: String,
            expected: Option<String>,
        ) -> &'a mut Verdict {
            let value = shown(self.items.iter(), self.items.len());
            self.subject
                .settle(holds, comparator, relation, expected, value)
        }
    };
}

/// A claim about a set; see [`Verdict::claim_set`].
#[must_use = "a claim checks nothing until one of its methods is called"]
pub struct SetClaim<'a, T> {
    subject: Subject<'a>,
    items: &'a BTreeSet<T>,
}

impl<'a, T> SetClaim<'a, T> {
    pub(super) fn new(
        verdict: &'a mut Verdict,
        name: &'static str,
        items: &'a BTreeSet<T>,
    ) -> Self {
        let subject = Subject::new(verdict, name);
        SetClaim { subject, items }
    }

    modifiers!();
}

impl<'a, T: Ord + Debug> SetClaim<'a, T> {
    sized!("set");

    /// Claims that every element is also in `other`.
    pub fn subset_of(self, other: &BTreeSet<T>) -> &'a mut Verdict {
        let (holds, x) = (
            self.items.is_subset(other),
            shown(other.iter(), other.len()),
        );
        self.settle(holds, "subset_of", format!("a subset of {x}"), Some(x))
    }

    /// Claims that no element is in `other`.
    pub fn disjoint_from(self, other: &BTreeSet<T>) -> &'a mut Verdict {
        let (holds, x) = (
            self.items.is_disjoint(other),
            shown(other.iter(), other.len()),
        );
        self.settle(
            holds,
            "disjoint_from",
            format!("disjoint from {x}"),
            Some(x),
        )
    }
}

/// A claim about a sequence; see [`Verdict::claim_seq`].
#[must_use = "a claim checks nothing until one of its methods is called"]
pub struct SeqClaim<'a, T> {
    subject: Subject<'a>,
    items: &'a [T],
}

impl<'a, T> SeqClaim<'a, T> {
    pub(super) fn new(verdict: &'a mut Verdict, name: &'static str, items: &'a [T]) -> Self {
        let subject = Subject::new(verdict, name);
        SeqClaim { subject, items }
    }

    modifiers!();
}

impl<'a, T: PartialEq + Debug> SeqClaim<'a, T> {
    sized!("sequence");
}

/// Formats the first 16 elements and the number of all elements, so that a message does not become megabytes long.
fn shown<T: Debug>(items: impl Iterator<Item = T>, len: usize) -> String {
    const SHOWN: usize = 16;
    let first: Vec<_> = items.take(SHOWN).map(|i| format!("{i:?}")).collect();
    let more = if len > SHOWN { ", …" } else { "" };
    format!("[{}{more}] (len {len})", first.join(", "))
}
