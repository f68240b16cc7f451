//! The result of a test function, a step or a single check: outcomes, evidence and measurements.

use super::MAX_RECORDED_PASSES;
use super::{AssertDetail, DetailKind, InfoNote, NoteValue, Outcome, OutcomeRef, PassDetail};
use crate::stats::ScenarioStats;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The outcomes of checks, and the measurements made for them.
///
/// An empty result is a pass: a claim that holds adds a [`PassDetail`] but no outcome.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AssertResult {
    /// The outcomes, in the order in which they were recorded. A claim that holds adds none.
    pub outcomes: Vec<Outcome>,
    /// The claims that held; at most [`MAX_RECORDED_PASSES`], followed by one sentinel.
    pub passes: Vec<PassDetail>,
    /// The measurements of the workers, by cgroup and by phase, and the results of payloads.
    pub stats: ScenarioStats,
    /// Values that the test recorded with its verdict.
    pub measurements: BTreeMap<String, NoteValue>,
    /// Remarks, which never affect the verdict.
    pub info_notes: Vec<InfoNote>,
}

impl AssertResult {
    /// Creates an empty result, which is a pass.
    pub fn pass() -> Self {
        Self::default()
    }

    /// Creates a skip with this reason.
    pub fn skip(reason: impl Into<String>) -> Self {
        Self::of(Outcome::Skip(AssertDetail::new(DetailKind::Skip, reason)))
    }

    /// Creates a failure with this detail.
    pub fn fail(detail: AssertDetail) -> Self {
        Self::of(Outcome::Fail(detail))
    }

    /// Creates a failure of kind [`DetailKind::Other`].
    pub fn fail_msg(message: impl Into<String>) -> Self {
        Self::fail(message.into().into())
    }

    /// Creates an inconclusive result with this detail.
    pub fn inconclusive(detail: AssertDetail) -> Self {
        Self::of(Outcome::Inconclusive(detail))
    }

    /// Creates an inconclusive result of kind [`DetailKind::Other`].
    pub fn inconclusive_msg(message: impl Into<String>) -> Self {
        Self::inconclusive(message.into().into())
    }

    fn of(outcome: Outcome) -> Self {
        let mut result = Self::default();
        result.record_outcome(outcome);
        result
    }

    /// Adds a failure with its detail, which gets the phase label of this thread unless it has one.
    pub fn record_fail(&mut self, detail: AssertDetail) -> &mut Self {
        self.record_outcome(Outcome::Fail(detail))
    }

    /// Adds a skip with its detail, which gets the phase label of this thread unless it has one.
    pub fn record_skip(&mut self, detail: AssertDetail) -> &mut Self {
        self.record_outcome(Outcome::Skip(detail))
    }

    /// Adds an inconclusive outcome with its detail, which gets the phase label of this thread unless it has one.
    pub fn record_inconclusive(&mut self, detail: AssertDetail) -> &mut Self {
        self.record_outcome(Outcome::Inconclusive(detail))
    }

    /// Adds an outcome. Its detail gets the phase label of this thread unless it has one.
    pub fn record_outcome(&mut self, outcome: Outcome) -> &mut Self {
        self.outcomes.push(outcome.stamped());
        self
    }

    /// Adds a claim that held. Claims beyond [`MAX_RECORDED_PASSES`] are not kept; one sentinel represents them.
    pub fn record_pass(&mut self, pass: PassDetail) -> &mut Self {
        self.push_pass(pass.stamped());
        self
    }

    pub(super) fn push_pass(&mut self, pass: PassDetail) {
        if self.passes.len() < MAX_RECORDED_PASSES {
            self.passes.push(pass);
        } else if self.passes.len() == MAX_RECORDED_PASSES {
            self.passes.push(PassDetail::truncated());
        }
    }

    /// Adds a remark, which does not change the outcome.
    pub fn note(&mut self, message: impl Into<String>) -> &mut Self {
        self.info_notes.push(InfoNote::new(message).stamped());
        self
    }

    /// Returns this result with a remark added.
    pub fn with_note(mut self, message: impl Into<String>) -> Self {
        self.note(message);
        self
    }

    /// Records a value with the verdict. It replaces an earlier value with the same key.
    pub fn note_value(&mut self, key: impl Into<String>, value: impl Into<NoteValue>) -> &mut Self {
        self.measurements.insert(key.into(), value.into());
        self
    }

    /// Returns this result with a value added.
    pub fn with_note_value(mut self, key: impl Into<String>, value: impl Into<NoteValue>) -> Self {
        self.note_value(key, value);
        self
    }

    /// Whether there is a failure.
    pub fn is_fail(&self) -> bool {
        self.outcomes.iter().any(Outcome::is_fail)
    }

    /// Whether there is an inconclusive outcome and no failure.
    pub fn is_inconclusive(&self) -> bool {
        !self.is_fail() && self.outcomes.iter().any(Outcome::is_inconclusive)
    }

    /// Whether there are outcomes, and all of them are skips.
    pub fn is_skip(&self) -> bool {
        !self.outcomes.is_empty() && self.outcomes.iter().all(Outcome::is_skip)
    }

    /// Whether the result is a pass: neither a failure, nor inconclusive, nor a skip.
    pub fn is_pass(&self) -> bool {
        self.outcome_ref().is_pass()
    }

    /// Returns the details of failures.
    pub fn failure_details(&self) -> impl Iterator<Item = &AssertDetail> {
        self.details(Outcome::is_fail)
    }

    /// Returns the details of skips.
    pub fn skip_details(&self) -> impl Iterator<Item = &AssertDetail> {
        self.details(Outcome::is_skip)
    }

    /// Returns the details of inconclusive outcomes.
    pub fn inconclusive_details(&self) -> impl Iterator<Item = &AssertDetail> {
        self.details(Outcome::is_inconclusive)
    }

    fn details(&self, which: fn(&Outcome) -> bool) -> impl Iterator<Item = &AssertDetail> {
        self.outcomes
            .iter()
            .filter(move |o| which(o))
            .filter_map(Outcome::detail)
    }

    /// Returns an owned copy of the worst outcome.
    pub fn outcome(&self) -> Outcome {
        self.outcome_ref().to_owned()
    }

    /// Returns the worst outcome, or the first of equally bad ones. Without any outcomes it is a pass.
    pub fn outcome_ref(&self) -> OutcomeRef<'_> {
        self.outcomes
            .iter()
            .map(Outcome::as_ref)
            .reduce(OutcomeRef::merge)
            .unwrap_or(OutcomeRef::Pass)
    }

    /// Converts the result for a test that uses `?`. Failures are an error with their details. Without a failure,
    /// inconclusive outcomes are an error. A pass or a skip is `Ok`.
    ///
    /// Notes are printed to standard error, because an `anyhow::Result` cannot carry them.
    pub fn into_anyhow_or_log(self) -> anyhow::Result<()> {
        for note in &self.info_notes {
            eprintln!("note: {note}");
        }
        let (word, bad): (_, Vec<_>) = if self.is_fail() {
            ("failed", self.failure_details().collect())
        } else {
            ("inconclusive", self.inconclusive_details().collect())
        };
        if bad.is_empty() {
            return Ok(());
        }
        let lines: Vec<_> = bad.iter().map(|d| d.display_with_kind()).collect();
        anyhow::bail!("{word}: {}", lines.join("; "))
    }
}
