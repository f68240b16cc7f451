//! Comparisons of one phase with another.

use super::SeriesField;
use crate::outcome::{AssertDetail, DetailKind};
use crate::phase::Phase;
use crate::verdict::Verdict;
use std::collections::BTreeMap;
use std::fmt::Display;

/// The ratio of the value in a later phase to the value in an earlier phase, before it is compared with a bound.
///
/// The ratio is undefined if a phase has no value, or if the value in the earlier phase is 0. The claim is then
/// inconclusive, because a missing value is not the scheduler's fault, and a note gives the reason.
#[must_use = "a ratio checks nothing until one of its methods is called"]
pub struct CrossPhaseRatio<'a> {
    verdict: &'a mut Verdict,
    label: String,
    earlier: (Phase, Option<f64>),
    later: (Phase, Option<f64>),
}

impl<'a> CrossPhaseRatio<'a> {
    /// Claims that the ratio is `ceiling` or less. A ratio that is not finite fails.
    pub fn at_most(self, ceiling: f64) -> &'a mut Verdict {
        let (label, verdict) = (self.label, self.verdict);
        let ((p0, v0), (p1, v1)) = (self.earlier, self.later);
        let detail = |m: String| AssertDetail::new(DetailKind::Temporal, m);
        let unsure = |verdict: &'a mut Verdict, why: String| {
            let m = format!("{label}: ratio_across_phases({p0} -> {p1}) is not defined: {why}");
            verdict.note(m.clone());
            verdict.inconclusive(detail(m))
        };
        let missing = match (v0, v1) {
            (Some(0.0), Some(b)) => {
                return unsure(
                    verdict,
                    format!("the value in {p0} is 0, in {p1} it is {b}"),
                );
            }
            (Some(a), Some(b)) => {
                let ratio = b / a;
                let m =
                    format!("{label}: ratio_across_phases({p0} -> {p1}) = {b} / {a} = {ratio:.6}");
                return if ratio.is_finite() && ratio <= ceiling {
                    verdict.note(format!("{m}, at most {ceiling}"))
                } else {
                    verdict.fail(detail(format!("{m}, expected at most {ceiling}")))
                };
            }
            (None, Some(_)) => p0.to_string(),
            (Some(_), None) => p1.to_string(),
            (None, None) => format!("{p0} and {p1}"),
        };
        unsure(verdict, format!("no readable value in {missing}"))
    }
}

impl<T: Copy + Into<f64> + Display> SeriesField<T> {
    /// Divides the last readable value in the phase `later` by the last readable value in the phase `earlier`, for a claim.
    pub fn ratio_across_phases<'a>(
        &self,
        verdict: &'a mut Verdict,
        earlier: Phase,
        later: Phase,
    ) -> CrossPhaseRatio<'a> {
        let at = |p| (p, self.value_at_phase(p).map(Into::into));
        CrossPhaseRatio {
            verdict,
            label: self.label().to_owned(),
            earlier: at(earlier),
            later: at(later),
        }
    }
}

/// Operations on maps of values by phase.
pub trait PhaseMapExt<T> {
    /// Applies `f` to both values of each phase that both maps contain.
    fn zip_per_phase<U, R>(
        &self,
        other: &BTreeMap<Phase, U>,
        f: impl FnMut(&T, &U) -> R,
    ) -> BTreeMap<Phase, R>;

    /// Divides the value of the phase `later` by the value of the phase `earlier`, for a claim. Messages start with `label`.
    fn ratio_across_phases<'a>(
        &self,
        verdict: &'a mut Verdict,
        label: &str,
        earlier: Phase,
        later: Phase,
    ) -> CrossPhaseRatio<'a>
    where
        T: Copy + Into<f64>;
}

impl<T> PhaseMapExt<T> for BTreeMap<Phase, T> {
    fn zip_per_phase<U, R>(
        &self,
        other: &BTreeMap<Phase, U>,
        mut f: impl FnMut(&T, &U) -> R,
    ) -> BTreeMap<Phase, R> {
        let both = self.iter().filter_map(|(p, a)| Some((p, a, other.get(p)?)));
        both.map(|(p, a, b)| (*p, f(a, b))).collect()
    }

    fn ratio_across_phases<'a>(
        &self,
        verdict: &'a mut Verdict,
        label: &str,
        earlier: Phase,
        later: Phase,
    ) -> CrossPhaseRatio<'a>
    where
        T: Copy + Into<f64>,
    {
        let at = |p| (p, self.get(&p).map(|v| (*v).into()));
        CrossPhaseRatio {
            verdict,
            label: label.to_owned(),
            earlier: at(earlier),
            later: at(later),
        }
    }
}

/// The share of one counter in the sum of two counters.
pub trait FracPair {
    /// Returns `self / (self + other)` for each phase that both maps contain. Phases with a sum of 0 are left out.
    fn frac_pair(&self, other: &Self) -> BTreeMap<Phase, f64>;
}

impl FracPair for BTreeMap<Phase, u64> {
    fn frac_pair(&self, other: &Self) -> BTreeMap<Phase, f64> {
        let pairs = self.zip_per_phase(other, |a, b| crate::math::ratio(*a, a.saturating_add(*b)));
        pairs
            .into_iter()
            .filter_map(|(p, f)| Some((p, f?)))
            .collect()
    }
}
