//! For each comparator one claim that holds and one that does not.

use super::*;
use crate::outcome::{AssertResult, COMPARATOR_VOCABULARY, DetailKind, Outcome};
use std::collections::BTreeSet;

fn judged(f: impl FnOnce(&mut Verdict)) -> AssertResult {
    let mut v = Verdict::new();
    f(&mut v);
    v.into_result()
}

/// Makes a claim that must hold, and returns its comparator.
fn passes(f: impl FnOnce(&mut Verdict)) -> String {
    let r = judged(f);
    assert!(r.outcomes.is_empty(), "{:?}", r.outcomes);
    assert_eq!(r.passes.len(), 1);
    let token = r.passes[0].comparator.to_string();
    assert!(COMPARATOR_VOCABULARY.contains(&token.as_str()), "{token}");
    token
}

/// Makes a claim that must not hold, and returns its message.
fn fails(f: impl FnOnce(&mut Verdict)) -> String {
    let r = judged(f);
    assert!(r.passes.is_empty());
    let [Outcome::Fail(detail)] = &r.outcomes[..] else {
        panic!("{:?}", r.outcomes);
    };
    detail.message.clone()
}

macro_rules! both {
    ($holding:expr, $token:literal, $failing:expr, $message:literal) => {
        assert_eq!(
            passes(|v| {
                $holding(v);
            }),
            $token
        );
        assert_eq!(
            fails(|v| {
                $failing(v);
            }),
            $message
        );
    };
}

type V<'a> = &'a mut Verdict;

#[test]
fn values() {
    both!(
        |v: V| {
            v.claim("n", 3).eq(3);
        },
        "eq",
        |v: V| {
            v.claim("n", 3).eq(4);
        },
        "n: expected 4, was 3"
    );
    both!(
        |v: V| {
            v.claim("n", 3).ne(4);
        },
        "ne",
        |v: V| {
            v.claim("n", 3).ne(3);
        },
        "n: expected != 3, was 3"
    );
    both!(
        |v: V| {
            v.claim("n", 3).at_least(3);
        },
        "ge",
        |v: V| {
            v.claim("n", 3).at_least(4);
        },
        "n: expected at least 4, was 3"
    );
    both!(
        |v: V| {
            v.claim("n", 3).at_most(3);
        },
        "le",
        |v: V| {
            v.claim("n", 3).at_most(2);
        },
        "n: expected at most 2, was 3"
    );
    both!(
        |v: V| {
            v.claim("n", 3).lt(4);
        },
        "lt",
        |v: V| {
            v.claim("n", 3).lt(3);
        },
        "n: expected less than 3, was 3"
    );
    both!(
        |v: V| {
            v.claim("n", 3).gt(2);
        },
        "gt",
        |v: V| {
            v.claim("n", 3).gt(3);
        },
        "n: expected greater than 3, was 3"
    );
    both!(
        |v: V| {
            v.claim("n", 3).between(1, 3);
        },
        "in_range",
        |v: V| {
            v.claim("n", 3).between(4, 5);
        },
        "n: expected in [4, 5], was 3"
    );
    both!(
        |v: V| {
            v.claim("f", 1.5).is_finite();
        },
        "is_finite",
        |v: V| {
            v.claim("f", f64::NAN).is_finite();
        },
        "f: expected finite, was NaN"
    );
    both!(
        |v: V| {
            v.claim("f", 1.5).near(1.0, 0.5);
        },
        "near_within",
        |v: V| {
            v.claim("f", 1.5).near(1.0, 0.25);
        },
        "f: expected near 1 (±0.25), was 1.5"
    );
}

#[test]
fn a_reversed_range_and_nan_never_hold() {
    assert_eq!(
        fails(|v| {
            v.claim("n", 3).between(5, 1);
        }),
        "n: expected in [5, 1] (an empty range), was 3"
    );
    fails(|v| {
        v.claim("f", f64::NAN).at_most(1e9);
    });
    fails(|v| {
        v.claim("f", f64::NAN).at_least(-1e9);
    });
    fails(|v| {
        v.claim("f", 1.0).near(f64::NAN, 1.0);
    });
}

#[test]
fn kind_and_reason() {
    let r = judged(|v| {
        v.claim("gap", 9)
            .kind(DetailKind::Stuck)
            .because("slice is 5")
            .at_most(5);
    });
    let detail = r.failure_details().next().expect("one failure");
    assert_eq!(
        detail.display_with_kind(),
        "[Stuck] gap: expected at most 5, was 9 (slice is 5)"
    );
}

#[test]
fn presence() {
    both!(
        |v: V| {
            v.claim_present("rate", Some(2.0)).at_least(1.0);
        },
        "ge",
        |v: V| {
            v.claim_present("rate", None).at_least(1.0);
        },
        "rate: metric absent"
    );
    both!(
        |v: V| {
            v.claim_present("rate", Some(2.0)).is_finite();
        },
        "is_finite",
        |v: V| {
            v.claim_present("rate", Some(2.0)).gt(3.0);
        },
        "rate: expected greater than 3, was 2"
    );
    let rate: Option<f64> = None;
    assert_eq!(
        fails(|v| {
            crate::claim_present!(v, rate).between(0.0, 1.0);
        }),
        "rate: metric absent"
    );
}

#[test]
fn sets() {
    let (s, none) = (BTreeSet::from([1, 2]), BTreeSet::new());
    both!(
        |v: V| {
            v.claim_set("s", &none).empty();
        },
        "set_is_empty",
        |v: V| {
            v.claim_set("s", &s).empty();
        },
        "s: expected empty, was [1, 2] (len 2)"
    );
    both!(
        |v: V| {
            v.claim_set("s", &s).nonempty();
        },
        "set_is_non_empty",
        |v: V| {
            v.claim_set("s", &none).nonempty();
        },
        "s: expected non-empty, was [] (len 0)"
    );
    both!(
        |v: V| {
            v.claim_set("s", &s).len_eq(2);
        },
        "set_len_eq",
        |v: V| {
            v.claim_set("s", &s).len_eq(3);
        },
        "s: expected len == 3, was [1, 2] (len 2)"
    );
    both!(
        |v: V| {
            v.claim_set("s", &s).len_at_most(2);
        },
        "set_len_le",
        |v: V| {
            v.claim_set("s", &s).len_at_most(1);
        },
        "s: expected len <= 1, was [1, 2] (len 2)"
    );
    both!(
        |v: V| {
            v.claim_set("s", &s).len_at_least(2);
        },
        "set_len_ge",
        |v: V| {
            v.claim_set("s", &s).len_at_least(3);
        },
        "s: expected len >= 3, was [1, 2] (len 2)"
    );
    both!(
        |v: V| {
            v.claim_set("s", &s).contains(&1);
        },
        "set_contains",
        |v: V| {
            v.claim_set("s", &s).contains(&7);
        },
        "s: expected to contain 7, was [1, 2] (len 2)"
    );
    let (wide, other) = (BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 9]));
    both!(
        |v: V| {
            v.claim_set("s", &s).subset_of(&wide);
        },
        "subset_of",
        |v: V| {
            v.claim_set("s", &s).subset_of(&other);
        },
        "s: expected a subset of [2, 9] (len 2), was [1, 2] (len 2)"
    );
    both!(
        |v: V| {
            v.claim_set("s", &s).disjoint_from(&none);
        },
        "disjoint_from",
        |v: V| {
            v.claim_set("s", &s).disjoint_from(&other);
        },
        "s: expected disjoint from [2, 9] (len 2), was [1, 2] (len 2)"
    );
}

#[test]
fn sequences() {
    let (s, none): (&[u8], &[u8]) = (&[5, 5], &[]);
    both!(
        |v: V| {
            v.claim_seq("s", none).empty();
        },
        "sequence_is_empty",
        |v: V| {
            v.claim_seq("s", s).empty();
        },
        "s: expected empty, was [5, 5] (len 2)"
    );
    both!(
        |v: V| {
            v.claim_seq("s", s).nonempty();
        },
        "sequence_is_non_empty",
        |v: V| {
            v.claim_seq("s", none).nonempty();
        },
        "s: expected non-empty, was [] (len 0)"
    );
    both!(
        |v: V| {
            v.claim_seq("s", s).len_eq(2);
        },
        "sequence_len_eq",
        |v: V| {
            v.claim_seq("s", s).len_eq(1);
        },
        "s: expected len == 1, was [5, 5] (len 2)"
    );
    both!(
        |v: V| {
            v.claim_seq("s", s).len_at_most(2);
        },
        "sequence_len_le",
        |v: V| {
            v.claim_seq("s", s).len_at_most(1);
        },
        "s: expected len <= 1, was [5, 5] (len 2)"
    );
    both!(
        |v: V| {
            v.claim_seq("s", s).len_at_least(2);
        },
        "sequence_len_ge",
        |v: V| {
            v.claim_seq("s", s).len_at_least(3);
        },
        "s: expected len >= 3, was [5, 5] (len 2)"
    );
    both!(
        |v: V| {
            v.claim_seq("s", s).contains(&5);
        },
        "sequence_contains",
        |v: V| {
            v.claim_seq("s", s).contains(&6);
        },
        "s: expected to contain 6, was [5, 5] (len 2)"
    );
}

#[test]
fn better_follows_the_metrics_direction() {
    both!(
        |v: V| {
            v.claim_better("worst_gap_ms", 4.0).than(5.0);
        },
        "lt",
        |v: V| {
            v.claim_better("worst_gap_ms", 6.0).than(5.0);
        },
        "worst_gap_ms: expected better than 5, was 6"
    );
    both!(
        |v: V| {
            v.claim_better("iteration_rate", 11.0).than_by(10.0, 0.1);
        },
        "gt",
        |v: V| {
            v.claim_better("iteration_rate", 10.5).than_by(10.0, 0.1);
        },
        "iteration_rate: expected better than 10 by at least 10%, was 10.5"
    );
    assert!(
        judged(|v| {
            v.claim_better("total_iterations", 2.0).than(1.0);
        })
        .is_inconclusive()
    );
    assert!(
        judged(|v| {
            v.claim_better("unheard_of", 2.0).than(1.0);
        })
        .is_inconclusive()
    );
    assert!(
        judged(|v| {
            v.claim_better("iteration_rate", 2.0).than_by(0.0, 0.1);
        })
        .is_inconclusive()
    );
    assert!(
        judged(|v| {
            v.claim_better("iteration_rate", f64::NAN).than(1.0);
        })
        .is_fail()
    );
}
