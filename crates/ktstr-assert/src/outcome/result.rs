//! The result of a test function, a step or one check: outcomes, evidence and measurements.

use super::MAX_RECORDED_PASSES;
use super::{AssertDetail, DetailKind, InfoNote, NoteValue, Outcome, OutcomeRef, PassDetail};
use crate::stats::ScenarioStats;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What was judged, and what was measured on the way.
///
/// An empty result is a pass: claims that hold leave a [`PassDetail`], not an outcome.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AssertResult {
    /// Everything that was not simply a pass, in the order it was recorded.
    pub outcomes: Vec<Outcome>,
    /// The claims that held; at most [`MAX_RECORDED_PASSES`] and one sentinel.
    pub passes: Vec<PassDetail>,
    /// What the workers measured.
    pub stats: ScenarioStats,
    /// Values the test put beside its verdict.
    pub measurements: BTreeMap<String, NoteValue>,
    /// Remarks that never change the verdict.
    pub info_notes: Vec<InfoNote>,
}

impl AssertResult {
    /// An empty result: a pass.
    pub fn pass() -> Self {
        Self::default()
    }

    /// A skip for this reason.
    pub fn skip(reason: impl Into<String>) -> Self {
        Self::of(Outcome::Skip(AssertDetail::new(DetailKind::Skip, reason)))
    }

    /// A result that fails with this one detail.
    pub fn fail(detail: AssertDetail) -> Self {
        Self::of(Outcome::Fail(detail))
    }

    /// A failure of kind [`DetailKind::Other`].
    pub fn fail_msg(message: impl Into<String>) -> Self {
        Self::fail(message.into().into())
    }

    /// An inconclusive outcome.
    pub fn inconclusive(detail: AssertDetail) -> Self {
        Self::of(Outcome::Inconclusive(detail))
    }

    /// An inconclusive outcome of kind [`DetailKind::Other`].
    pub fn inconclusive_msg(message: impl Into<String>) -> Self {
        Self::inconclusive(message.into().into())
    }

    fn of(outcome: Outcome) -> Self {
        let mut result = Self::default();
        result.record_outcome(outcome);
        result
    }

    /// Adds a failure.
    pub fn record_fail(&mut self, detail: impl Into<AssertDetail>) -> &mut Self {
        self.record_outcome(Outcome::Fail(detail.into()))
    }

    /// Adds a skip.
    pub fn record_skip(&mut self, detail: impl Into<AssertDetail>) -> &mut Self {
        self.record_outcome(Outcome::Skip(detail.into()))
    }

    /// Adds an inconclusive outcome.
    pub fn record_inconclusive(&mut self, detail: impl Into<AssertDetail>) -> &mut Self {
        self.record_outcome(Outcome::Inconclusive(detail.into()))
    }

    /// Adds an outcome, stamped with this thread's phase label.
    pub fn record_outcome(&mut self, outcome: Outcome) -> &mut Self {
        self.outcomes.push(outcome.stamped());
        self
    }

    /// Adds a claim that held. Beyond [`MAX_RECORDED_PASSES`] only a sentinel is kept.
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

    /// Adds a remark.
    pub fn note(&mut self, message: impl Into<String>) -> &mut Self {
        self.info_notes.push(InfoNote::new(message).stamped());
        self
    }

    /// This result with a remark.
    pub fn with_note(mut self, message: impl Into<String>) -> Self {
        self.note(message);
        self
    }

    /// Puts a value beside the verdict; a later one under the same key wins.
    pub fn note_value(&mut self, key: impl Into<String>, value: impl Into<NoteValue>) -> &mut Self {
        self.measurements.insert(key.into(), value.into());
        self
    }

    /// This result with a value beside the verdict.
    pub fn with_note_value(mut self, key: impl Into<String>, value: impl Into<NoteValue>) -> Self {
        self.note_value(key, value);
        self
    }

    /// Whether anything failed.
    pub fn is_fail(&self) -> bool {
        self.outcomes.iter().any(Outcome::is_fail)
    }

    /// Whether something is inconclusive and nothing failed.
    pub fn is_inconclusive(&self) -> bool {
        !self.is_fail() && self.outcomes.iter().any(Outcome::is_inconclusive)
    }

    /// Whether there are outcomes and all of them are skips.
    pub fn is_skip(&self) -> bool {
        !self.outcomes.is_empty() && self.outcomes.iter().all(Outcome::is_skip)
    }

    /// Whether it is none of fail, inconclusive and skip.
    pub fn is_pass(&self) -> bool {
        self.outcome_ref().is_pass()
    }

    /// The reasons for failure.
    pub fn failure_details(&self) -> impl Iterator<Item = &AssertDetail> {
        self.details(Outcome::is_fail)
    }

    /// The reasons for skipping.
    pub fn skip_details(&self) -> impl Iterator<Item = &AssertDetail> {
        self.details(Outcome::is_skip)
    }

    /// The reasons why something is inconclusive.
    pub fn inconclusive_details(&self) -> impl Iterator<Item = &AssertDetail> {
        self.details(Outcome::is_inconclusive)
    }

    fn details(&self, which: fn(&Outcome) -> bool) -> impl Iterator<Item = &AssertDetail> {
        self.outcomes
            .iter()
            .filter(move |o| which(o))
            .filter_map(Outcome::detail)
    }

    /// The worst outcome, owned.
    pub fn outcome(&self) -> Outcome {
        self.outcome_ref().to_owned()
    }

    /// The worst outcome; of equally bad ones the first. No outcomes at all are a pass.
    pub fn outcome_ref(&self) -> OutcomeRef<'_> {
        self.outcomes
            .iter()
            .map(Outcome::as_ref)
            .reduce(OutcomeRef::merge)
            .unwrap_or(OutcomeRef::Pass)
    }

    /// For a test that wants `?`: an error on a failure, then on something inconclusive.
    ///
    /// Notes go to standard error, as there is no other place left to tell them.
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
