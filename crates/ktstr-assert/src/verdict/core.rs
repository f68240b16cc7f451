//! The verdict on which claims are made.

use super::{BetterClaim, ClaimBuilder, PresentClaim, SeqClaim, SetClaim};
use crate::check::Assert;
use crate::metric::MetricId;
use crate::outcome::{AssertDetail, AssertResult, DetailKind, NoteValue, PassDetail};
use std::collections::BTreeSet;

/// The name of the environment variable that makes [`Verdict`] print the claims that hold on standard error. Nothing is printed
/// if the variable is unset, empty or `0`.
pub const LOG_PASSES: &str = "KTSTR_LOG_PASSES";

/// Collects claims into an [`AssertResult`].
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    result: AssertResult,
    assert: Option<Assert>,
    log_passes: bool,
}

impl Verdict {
    /// Creates an empty verdict, which is a pass. Claims that hold are printed if [`LOG_PASSES`] is set to a value
    /// other than `0`.
    pub fn new() -> Self {
        let asked = std::env::var(LOG_PASSES).unwrap_or_default();
        Self::default().with_log_passes(!matches!(asked.as_str(), "" | "0"))
    }

    /// Returns this verdict with the checks of the test to which it belongs.
    pub fn with_assert(mut self, assert: Assert) -> Self {
        self.assert = Some(assert);
        self
    }

    /// Sets whether claims that hold are printed on standard error.
    pub fn with_log_passes(mut self, on: bool) -> Self {
        self.log_passes = on;
        self
    }

    /// Returns whether claims that hold are printed on standard error.
    pub fn log_passes(&self) -> bool {
        self.log_passes
    }

    /// Adds a remark to the result, which does not change the outcome.
    pub fn note(&mut self, message: impl Into<String>) -> &mut Self {
        self.result.note(message);
        self
    }

    /// Records a value with the verdict. It replaces an earlier value with the same key.
    pub fn note_value(&mut self, key: impl Into<String>, value: impl Into<NoteValue>) -> &mut Self {
        self.result.note_value(key, value);
        self
    }

    /// Adds a skip: the check does not apply, for this reason.
    pub fn skip(&mut self, reason: impl Into<String>) -> &mut Self {
        let detail = AssertDetail::new(DetailKind::Skip, reason);
        self.result.record_skip(detail);
        self
    }

    /// Adds a skip if `cond` holds.
    pub fn skip_if(&mut self, cond: bool, reason: impl Into<String>) -> &mut Self {
        if cond { self.skip(reason) } else { self }
    }

    /// Adds an inconclusive outcome.
    pub fn inconclusive(&mut self, detail: impl Into<AssertDetail>) -> &mut Self {
        self.result.record_inconclusive(detail.into());
        self
    }

    /// Adds an inconclusive outcome if `cond` holds.
    pub fn inconclusive_if(&mut self, cond: bool, detail: impl Into<AssertDetail>) -> &mut Self {
        if cond {
            self.inconclusive(detail)
        } else {
            self
        }
    }

    /// Adds a failure with its detail to the result.
    pub(crate) fn fail(&mut self, detail: AssertDetail) -> &mut Self {
        self.result.record_fail(detail);
        self
    }

    /// Adds a claim that held.
    pub(crate) fn pass(&mut self, pass: PassDetail) -> &mut Self {
        if self.log_passes {
            eprintln!("pass: {pass}");
        }
        self.result.record_pass(pass);
        self
    }

    /// Adds the outcomes of another result.
    pub fn merge(&mut self, other: AssertResult) -> &mut Self {
        self.result.merge(other);
        self
    }

    /// Whether the verdict is a pass: neither a failure, nor inconclusive, nor a skip.
    pub fn is_pass(&self) -> bool {
        self.result.is_pass()
    }

    /// Whether there is a failure.
    pub fn is_fail(&self) -> bool {
        self.result.is_fail()
    }

    /// Whether there is an inconclusive outcome and no failure.
    pub fn is_inconclusive(&self) -> bool {
        self.result.is_inconclusive()
    }

    /// Whether there are outcomes, and all of them are skips.
    pub fn is_skip(&self) -> bool {
        self.result.is_skip()
    }

    /// Returns the number of outcomes that have a detail: failures, inconclusive outcomes and skips.
    pub fn detail_count(&self) -> usize {
        let details = self.result.outcomes.iter().filter_map(|o| o.detail());
        details.count()
    }

    /// Returns the checks of the test to which the verdict belongs; `None` if [`Self::with_assert`] did not set them.
    pub fn assert(&self) -> Option<&Assert> {
        self.assert.as_ref()
    }

    /// Returns the result of the claims, with all details.
    pub fn into_result(self) -> AssertResult {
        self.result
    }

    /// Returns a copy of the result so far.
    pub fn to_result(&self) -> AssertResult {
        self.result.clone()
    }

    /// Converts the result for a test that uses `?`; see [`AssertResult::into_anyhow_or_log`].
    pub fn into_anyhow_or_log(self) -> anyhow::Result<()> {
        self.result.into_anyhow_or_log()
    }

    /// Starts a claim about a value. Messages call it `name`.
    pub fn claim<T>(&mut self, name: &'static str, value: T) -> ClaimBuilder<'_, T> {
        ClaimBuilder::new(self, name, value)
    }

    /// Starts a claim about a metric that may be absent. The claim fails if the metric is absent.
    pub fn claim_present(&mut self, name: &'static str, value: Option<f64>) -> PresentClaim<'_> {
        PresentClaim::new(self, name, value)
    }

    /// Starts a claim about a set.
    pub fn claim_set<'a, T>(
        &'a mut self,
        name: &'static str,
        set: &'a BTreeSet<T>,
    ) -> SetClaim<'a, T> {
        SetClaim::new(self, name, set)
    }

    /// Starts a claim about a sequence.
    pub fn claim_seq<'a, T>(&'a mut self, name: &'static str, seq: &'a [T]) -> SeqClaim<'a, T> {
        SeqClaim::new(self, name, seq)
    }

    /// Starts a claim that a metric has improved to `candidate`, in the direction that the registry defines for it.
    pub fn claim_better(&mut self, metric: impl Into<MetricId>, candidate: f64) -> BetterClaim<'_> {
        BetterClaim::new(self, metric.into(), candidate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The environment belongs to the whole process, so the test runs a child process with the variable.
    #[test]
    fn the_variable_turns_the_log_of_passes_on() {
        if std::env::var_os("VERDICT_OF_A_CHILD").is_some() {
            println!("logs: {}", Verdict::new().log_passes());
            return;
        }
        for (value, logs) in [("1", true), ("0", false), ("", false)] {
            let child = std::process::Command::new(std::env::current_exe().expect("our binary"))
                .args(["--exact", "--nocapture"])
                .arg("verdict::core::tests::the_variable_turns_the_log_of_passes_on")
                .env("VERDICT_OF_A_CHILD", "1")
                .env(LOG_PASSES, value)
                .output()
                .expect("the child process runs");
            let output = String::from_utf8_lossy(&child.stdout).into_owned();
            assert!(
                output.contains(&format!("logs: {logs}")),
                "{value:?}: {output}"
            );
        }
    }
}
