//! Claims that one measurement is better than another, in the direction of the metric.

use super::Verdict;
use crate::metric::MetricId;
use crate::outcome::{AssertDetail, DetailKind, Finding, PassDetail};
use crate::phase::Phase;

/// A claim that a metric is better than a baseline; see [`Verdict::claim_better`].
#[must_use = "a claim checks nothing until one of its methods is called"]
pub struct BetterClaim<'a> {
    verdict: &'a mut Verdict,
    metric: MetricId,
    candidate: f64,
}

impl<'a> BetterClaim<'a> {
    pub(super) fn new(verdict: &'a mut Verdict, metric: MetricId, candidate: f64) -> Self {
        BetterClaim {
            verdict,
            metric,
            candidate,
        }
    }

    /// Claims that the metric is better than `baseline`.
    pub fn than(self, baseline: f64) -> &'a mut Verdict {
        self.judge(baseline, None)
    }

    /// Claims that the metric is better than `baseline` by at least the fraction `margin_fraction` of the absolute
    /// value of `baseline`.
    pub fn than_by(self, baseline: f64, margin_fraction: f64) -> &'a mut Verdict {
        self.judge(baseline, Some(margin_fraction))
    }

    /// The claim is inconclusive for a metric without a direction, and for a margin relative to a baseline of 0. A
    /// value that is not finite fails.
    fn judge(self, baseline: f64, margin: Option<f64>) -> &'a mut Verdict {
        let (name, is) = (self.metric.wire_name().to_owned(), self.candidate);
        let Some(gain) = self.metric.polarity().gain(is, baseline) else {
            return self.verdict.inconclusive(format!(
                "{name}: the metric has no direction, so {is} is neither better nor worse than {baseline}"
            ));
        };
        let by = margin.map(|m| format!(" by at least {}%", m * 100.0));
        let relation = format!("better than {baseline}{}", by.unwrap_or_default());
        let failure = |reason: Option<&str>| {
            let label = name.clone();
            claim(DetailKind::Benchmark, label, relation.clone(), is, reason)
        };
        if !is.is_finite() || !baseline.is_finite() {
            return self.verdict.fail(failure(Some("not finite")));
        }
        let holds = match margin {
            Some(_) if baseline == 0.0 => {
                return self.verdict.inconclusive(format!(
                    "{name}: a margin relative to a baseline of 0 is not defined; was {is}"
                ));
            }
            Some(m) => gain / baseline.abs() >= m,
            None => gain > 0.0,
        };
        if !holds {
            return self.verdict.fail(failure(None));
        }
        let comparator = if is > baseline { "gt" } else { "lt" };
        let pass = PassDetail::binary(name, comparator, is.to_string(), baseline.to_string());
        self.verdict.pass(pass)
    }
}

/// A claim that a metric has improved from one phase to another.
///
/// The claim is inconclusive if a phase lacks the metric, if the metric has no direction, or if the baseline is 0,
/// because none of these is the scheduler's fault. A value that is not finite fails.
#[must_use = "a claim checks nothing until one of its methods is called"]
pub struct BetterThanPhase<'a> {
    verdict: &'a mut Verdict,
    metric: MetricId,
    label: String,
    baseline: (Phase, Option<f64>),
    candidate: (Phase, Option<f64>),
}

impl<'a> BetterThanPhase<'a> {
    /// Creates a claim about `metric` in two phases. `baseline` and `candidate` are each a phase and the value of the
    /// metric in it, which is `None` if it was not measured. `cgroup` only names the cgroup in messages; it is `None` if
    /// the values belong to the phases as a whole.
    pub fn new(
        verdict: &'a mut Verdict,
        metric: impl Into<MetricId>,
        cgroup: Option<&str>,
        baseline: (Phase, Option<f64>),
        candidate: (Phase, Option<f64>),
    ) -> Self {
        let metric = metric.into();
        let label = match cgroup {
            Some(cgroup) => format!("{metric} of {cgroup}"),
            None => metric.to_string(),
        };
        BetterThanPhase {
            verdict,
            metric,
            label,
            baseline,
            candidate,
        }
    }

    /// Claims that the metric is better in the candidate phase than in the baseline.
    pub fn better_than(self) -> &'a mut Verdict {
        self.judge(None)
    }

    /// Claims that the metric is better in the candidate phase than in the baseline by at least the fraction
    /// `margin_fraction` of the absolute value in the baseline.
    pub fn by_at_least(self, margin_fraction: f64) -> &'a mut Verdict {
        self.judge(Some(margin_fraction))
    }

    fn judge(self, margin: Option<f64>) -> &'a mut Verdict {
        let ((p0, v0), (p1, v1)) = (self.baseline, self.candidate);
        let what = format!("{}: {p1} against {p0}", self.label);
        let detail = |m: String| AssertDetail::new(DetailKind::Temporal, m);
        let (was, is) = match (v0, v1) {
            (Some(was), Some(is)) => (was, is),
            (was, _) => {
                let missing = if was.is_none() { p0 } else { p1 };
                let why = format!("{what} is unknown: it was not measured in {missing}");
                return self.verdict.inconclusive(detail(why));
            }
        };
        let Some(gain) = self.metric.polarity().gain(is, was) else {
            let why = format!("{what} is unknown: the metric has no direction ({was}, {is})");
            return self.verdict.inconclusive(detail(why));
        };
        let by = margin.map(|m| format!(" by at least {}%", m * 100.0));
        let failure = |reason: Option<&str>| {
            let expected = format!("better than {was}{}", by.clone().unwrap_or_default());
            claim(DetailKind::Temporal, what.clone(), expected, is, reason)
        };
        if !was.is_finite() || !is.is_finite() {
            return self.verdict.fail(failure(Some("not finite")));
        }
        if was == 0.0 {
            let why = format!("{what} is unknown: it was 0 in {p0}, then {is}");
            return self.verdict.inconclusive(detail(why));
        }
        let holds = match margin {
            Some(m) => gain / was.abs() >= m,
            None => gain > 0.0,
        };
        if !holds {
            return self.verdict.fail(failure(None));
        }
        let comparator = if is > was { "gt" } else { "lt" };
        let pass = PassDetail::binary(what, comparator, is.to_string(), was.to_string());
        self.verdict.pass(pass)
    }
}

/// Creates the finding for a claim that does not hold.
fn claim(
    kind: DetailKind,
    label: String,
    expected: String,
    actual: f64,
    reason: Option<&str>,
) -> AssertDetail {
    AssertDetail::of(Finding::Claim {
        label,
        expected,
        actual: actual.to_string(),
        reason: reason.map(str::to_owned),
    })
    .with_kind(kind)
}
