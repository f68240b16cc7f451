//! Claims that one measurement beats another, in the metric's own direction.

use super::Verdict;
use crate::metric::MetricId;
use crate::outcome::{AssertDetail, DetailKind, PassDetail};

/// A claim that a metric got better.
#[must_use = "a claim does nothing until it is compared"]
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

    /// It is better than `baseline`.
    pub fn than(self, baseline: f64) -> &'a mut Verdict {
        self.judge(baseline, None)
    }

    /// It is better than `baseline` by at least this fraction of it.
    pub fn than_by(self, baseline: f64, margin_fraction: f64) -> &'a mut Verdict {
        self.judge(baseline, Some(margin_fraction))
    }

    /// A metric without a direction and a margin of a zero baseline are inconclusive; a value that
    /// is not finite fails.
    fn judge(self, baseline: f64, margin: Option<f64>) -> &'a mut Verdict {
        let (name, is) = (self.metric.wire_name().to_owned(), self.candidate);
        let Some(gain) = self.metric.polarity().gain(is, baseline) else {
            return self.verdict.inconclusive(format!(
                "{name}: no direction is known for it, so {is} is neither better nor worse than {baseline}"
            ));
        };
        let by = margin.map(|m| format!(" by at least {}%", m * 100.0));
        let relation = format!("better than {baseline}{}", by.unwrap_or_default());
        let failure = |why: &str| {
            let message = format!("{name}: expected {relation}, was {is}{why}");
            AssertDetail::new(DetailKind::Benchmark, message)
        };
        if !is.is_finite() || !baseline.is_finite() {
            return self.verdict.fail(failure(" (not finite)"));
        }
        let holds = match margin {
            Some(_) if baseline == 0.0 => {
                return self.verdict.inconclusive(format!(
                    "{name}: a margin of a baseline of 0 says nothing; was {is}"
                ));
            }
            Some(m) => gain / baseline.abs() >= m,
            None => gain > 0.0,
        };
        if !holds {
            return self.verdict.fail(failure(""));
        }
        let comparator = if is > baseline { "gt" } else { "lt" };
        let pass = PassDetail::binary(name, comparator, is.to_string(), baseline.to_string());
        self.verdict.pass(pass)
    }
}
