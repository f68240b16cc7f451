//! Tests of `#[derive(Claim)]` as a user of the crate sees it.

use ktstr::prelude::*;

#[derive(ktstr::Claim)]
struct Measured {
    late_ms: u64,
    rate: Option<f64>,
    #[claim(skip)]
    note: &'static str,
}

#[test]
fn a_users_struct_has_claims() {
    let measured = Measured {
        late_ms: 7,
        rate: None,
        note: "by hand",
    };
    let mut verdict = Verdict::new();
    measured.claim_late_ms(&mut verdict).at_most(10);
    assert!(verdict.is_pass(), "{}", measured.note);
    measured.claim_late_ms(&mut verdict).at_most(5);
    measured.claim_rate(&mut verdict).at_least(1.0);
    let result = verdict.into_result();
    let shown: Vec<_> = result.failure_details().map(|d| &*d.message).collect();
    assert_eq!(
        shown,
        ["late_ms: expected at most 5, was 7", "rate: metric absent"]
    );
}
