//! The verdict that claims are made on.

use super::{BetterClaim, ClaimBuilder, PresentClaim, SeqClaim, SetClaim};
use crate::check::Assert;
use crate::metric::MetricId;
use crate::outcome::{AssertDetail, AssertResult, DetailKind, NoteValue, PassDetail};
use std::collections::BTreeSet;

/// The variable that has claims that hold printed on standard error: neither empty nor `0`.
pub const LOG_PASSES: &str = "KTSTR_LOG_PASSES";

/// Collects claims into an [`AssertResult`].
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    result: AssertResult,
    assert: Option<Assert>,
    log_passes: bool,
}

impl Verdict {
    /// An empty verdict: a pass. Claims that hold are printed if [`LOG_PASSES`] asks for it.
    pub fn new() -> Self {
        let asked = std::env::var(LOG_PASSES).unwrap_or_default();
        Self::default().with_log_passes(!matches!(asked.as_str(), "" | "0"))
    }

    /// A verdict that carries the checks it belongs to.
    pub fn with_assert(mut self, assert: Assert) -> Self {
        self.assert = Some(assert);
        self
    }

    /// Whether claims that hold are printed on standard error.
    pub fn with_log_passes(mut self, on: bool) -> Self {
        self.log_passes = on;
        self
    }

    /// Whether claims that hold are printed on standard error.
    pub fn log_passes(&self) -> bool {
        self.log_passes
    }

    /// Adds a remark.
    pub fn note(&mut self, message: impl Into<String>) -> &mut Self {
        self.result.note(message);
        self
    }

    /// Puts a value beside the verdict.
    pub fn note_value(&mut self, key: impl Into<String>, value: impl Into<NoteValue>) -> &mut Self {
        self.result.note_value(key, value);
        self
    }

    /// Adds a skip.
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
        self.result.record_inconclusive(detail);
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

    /// Adds a failure.
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

    /// Takes over a result.
    pub fn merge(&mut self, other: AssertResult) -> &mut Self {
        self.result.merge(other);
        self
    }

    /// Whether it is none of fail, inconclusive and skip.
    pub fn is_pass(&self) -> bool {
        self.result.is_pass()
    }

    /// Whether anything failed.
    pub fn is_fail(&self) -> bool {
        self.result.is_fail()
    }

    /// Whether something is inconclusive and nothing failed.
    pub fn is_inconclusive(&self) -> bool {
        self.result.is_inconclusive()
    }

    /// Whether there are outcomes and all are skips.
    pub fn is_skip(&self) -> bool {
        self.result.is_skip()
    }

    /// How many outcomes carry a reason.
    pub fn detail_count(&self) -> usize {
        let details = self.result.outcomes.iter().filter_map(|o| o.detail());
        details.count()
    }

    /// The checks it belongs to.
    pub fn assert(&self) -> Option<&Assert> {
        self.assert.as_ref()
    }

    /// The result that the claims came to, with all their details.
    pub fn into_result(self) -> AssertResult {
        self.result
    }

    /// A copy of the result so far.
    pub fn to_result(&self) -> AssertResult {
        self.result.clone()
    }

    /// See [`AssertResult::into_anyhow_or_log`].
    pub fn into_anyhow_or_log(self) -> anyhow::Result<()> {
        self.result.into_anyhow_or_log()
    }

    /// Claims something about a value.
    pub fn claim<T>(&mut self, name: &'static str, value: T) -> ClaimBuilder<'_, T> {
        ClaimBuilder::new(self, name, value)
    }

    /// Claims something about a metric that may be absent; absence fails.
    pub fn claim_present(&mut self, name: &'static str, value: Option<f64>) -> PresentClaim<'_> {
        PresentClaim::new(self, name, value)
    }

    /// Claims something about a set.
    pub fn claim_set<'a, T>(
        &'a mut self,
        name: &'static str,
        set: &'a BTreeSet<T>,
    ) -> SetClaim<'a, T> {
        SetClaim::new(self, name, set)
    }

    /// Claims something about a sequence.
    pub fn claim_seq<'a, T>(&'a mut self, name: &'static str, seq: &'a [T]) -> SeqClaim<'a, T> {
        SeqClaim::new(self, name, seq)
    }

    /// Claims that a metric got better, in the direction the registry knows for it.
    pub fn claim_better(&mut self, metric: impl Into<MetricId>, candidate: f64) -> BetterClaim<'_> {
        BetterClaim::new(self, metric.into(), candidate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The variable belongs to the whole process, so that a process of its own is asked.
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
                .expect("it runs");
            let said = String::from_utf8_lossy(&child.stdout).into_owned();
            assert!(said.contains(&format!("logs: {logs}")), "{value:?}: {said}");
        }
    }
}
