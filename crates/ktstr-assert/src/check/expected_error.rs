//! Checks that a scheduler ended with the error that its test expects.

use super::Assert;
use crate::outcome::{AssertDetail, AssertResult, Finding};
use regex_lite::{Error, Regex, RegexBuilder};

/// The largest number of characters of the message about the scheduler's end that a finding quotes.
const MOST: usize = 400;

/// The reason why the expectation of a test cannot distinguish errors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpectedErrorError {
    /// The pattern matches any text.
    #[error(
        "{field} = {pattern:?} matches any text, even an empty one: write a part of the expected error"
    )]
    MatchesAll {
        /// The name of the field of [`Assert`].
        field: &'static str,
        /// The pattern as it was written.
        pattern: &'static str,
    },
    /// The pattern is not a regular expression.
    #[error("expect_scx_bpf_error_matches = {pattern:?} is not a regular expression: {why}")]
    Pattern {
        /// The pattern as it was written.
        pattern: &'static str,
        /// What is wrong with the pattern.
        why: String,
    },
}

impl Assert {
    /// Checks that [`Assert::evaluate_scx_bpf_error_match`] can distinguish one error from another.
    ///
    /// # Errors
    /// Returns an [`ExpectedErrorError`] if an expectation is empty, is not a regular expression, or matches the empty text.
    pub fn validate_expected_error(&self) -> Result<(), ExpectedErrorError> {
        let all = |field, pattern| Err(ExpectedErrorError::MatchesAll { field, pattern });
        if let Some(pattern @ "") = self.expect_scx_bpf_error_contains {
            return all("expect_scx_bpf_error_contains", pattern);
        }
        let Some(pattern) = self.expect_scx_bpf_error_matches else {
            return Ok(());
        };
        match compiled(pattern) {
            Ok(regex) if regex.is_match("") => all("expect_scx_bpf_error_matches", pattern),
            Ok(_) => Ok(()),
            Err(error) => Err(ExpectedErrorError::Pattern {
                pattern,
                why: error.to_string(),
            }),
        }
    }

    /// Judges the message about the scheduler's end, which comes from the kernel or the scheduler. In the regular expression,
    /// `^` and `$` match at the start and the end of each line. The result is a pass if the test expects no particular error.
    pub fn evaluate_scx_bpf_error_match(&self, printed: &str) -> AssertResult {
        let mut out = AssertResult::default();
        let mut fail = |wanted: String| {
            let printed = tail(printed.trim());
            out.record_fail(AssertDetail::of(Finding::OtherError { wanted, printed }));
        };
        if let Some(text) = self.expect_scx_bpf_error_contains
            && !printed.contains(text)
        {
            fail(format!("the scheduler's error should contain {text:?}"));
        }
        if let Some(pattern) = self.expect_scx_bpf_error_matches {
            match compiled(pattern) {
                Ok(regex) if regex.is_match(printed) => {}
                Ok(_) => fail(format!("the scheduler's error should match {pattern:?}")),
                Err(error) => fail(format!(
                    "the scheduler's error should match {pattern:?} (which is no regular expression: {error})"
                )),
            }
        }
        out
    }
}

fn compiled(pattern: &str) -> Result<Regex, Error> {
    RegexBuilder::new(pattern).multi_line(true).build()
}

/// Returns the last [`MOST`] characters, with `…` in front if text was cut: a scheduler prints the reason for its exit last.
fn tail(printed: &str) -> String {
    let count = printed.chars().count();
    let text: String = printed.chars().skip(count.saturating_sub(MOST)).collect();
    let cut = if count > MOST { "…" } else { "" };
    format!("{cut}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Assert = Assert::NO_OVERRIDES;
    const PRINTED: &str =
        "ktstr: attached\nktstr: exit kind 1025: scx_bpf_error (ktstr: host-triggered crash)\n";

    fn lines(assert: Assert, printed: &str) -> String {
        let result = assert.evaluate_scx_bpf_error_match(printed);
        let all: Vec<_> = result
            .failure_details()
            .map(|d| d.display_with_kind().to_string())
            .collect();
        all.join("\n")
    }

    #[test]
    fn the_expected_error_passes() {
        for assert in [
            NONE,
            NONE.expect_scx_bpf_error_contains("host-triggered crash"),
            NONE.expect_scx_bpf_error_matches(r"^ktstr: exit kind \d+: scx_bpf_error"),
        ] {
            assert!(assert.evaluate_scx_bpf_error_match(PRINTED).is_pass());
        }
        assert!(NONE.evaluate_scx_bpf_error_match("").is_pass());
    }

    #[test]
    fn another_error_fails() {
        let both = NONE
            .expect_scx_bpf_error_contains("stall")
            .expect_scx_bpf_error_matches("^runtime error");
        insta::assert_snapshot!(lines(both, PRINTED), @r#"
        [SchedulerEvent] the scheduler's error should contain "stall", but was: ktstr: attached
        ktstr: exit kind 1025: scx_bpf_error (ktstr: host-triggered crash)
        [SchedulerEvent] the scheduler's error should match "^runtime error", but was: ktstr: attached
        ktstr: exit kind 1025: scx_bpf_error (ktstr: host-triggered crash)
        "#);
        insta::assert_snapshot!(lines(NONE.expect_scx_bpf_error_contains("x"), " \n"), @r#"[SchedulerEvent] the scheduler's error should contain "x", but nothing was reported about the scheduler's end"#);
        let long = lines(NONE.expect_scx_bpf_error_contains("x"), &"é".repeat(5000));
        assert!(long.chars().count() < 500, "{long}");
    }

    #[test]
    fn a_pattern_that_matches_anything_is_refused() {
        let why = |assert: Assert| {
            let error = assert
                .validate_expected_error()
                .expect_err("the expectation must be refused");
            error.to_string()
        };
        insta::assert_snapshot!(why(NONE.expect_scx_bpf_error_contains("")), @r#"expect_scx_bpf_error_contains = "" matches any text, even an empty one: write a part of the expected error"#);
        insta::assert_snapshot!(why(NONE.expect_scx_bpf_error_matches("a*")), @r#"expect_scx_bpf_error_matches = "a*" matches any text, even an empty one: write a part of the expected error"#);
        insta::assert_snapshot!(why(NONE.expect_scx_bpf_error_matches("(")), @r#"expect_scx_bpf_error_matches = "(" is not a regular expression: found open group without closing ')'"#);
        assert!(NONE.validate_expected_error().is_ok());
        assert!(
            NONE.expect_scx_bpf_error_contains("a")
                .expect_scx_bpf_error_matches("b+")
                .validate_expected_error()
                .is_ok()
        );
    }
}
