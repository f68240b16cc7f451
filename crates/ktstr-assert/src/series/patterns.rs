//! Patterns over time.
//!
//! The strict patterns are those of [`EachClaim`] and [`SeriesField::always_true`]: they judge every sample, and a sample that
//! cannot be read or is NaN fails. All other patterns are trends: they skip samples that cannot be read, and leave a note about
//! each gap. A claim about a trend passes with a note if too few samples are readable, because so few samples show no trend.

use super::SeriesField;
use crate::outcome::{AssertDetail, DetailKind};
use crate::verdict::Verdict;
use std::fmt::Display;

/// The number of consecutive samples that must be within the tolerance for a series to count as converged.
const CONVERGED_RUN: usize = 3;

fn fail(v: &mut Verdict, message: String) -> &mut Verdict {
    v.fail(AssertDetail::new(DetailKind::Temporal, message))
}

fn unsure(v: &mut Verdict, message: String) -> &mut Verdict {
    v.inconclusive(AssertDetail::new(DetailKind::Temporal, message))
}

/// A claim about every sample of a field; see [`SeriesField::each`].
#[must_use = "a claim checks nothing until one of its methods is called"]
pub struct EachClaim<'a, 'v, T> {
    field: &'a SeriesField<T>,
    verdict: &'v mut Verdict,
}

impl<T> SeriesField<T> {
    /// Starts a claim about every sample. A sample that cannot be read fails.
    pub fn each<'a, 'v>(&'a self, verdict: &'v mut Verdict) -> EachClaim<'a, 'v, T> {
        EachClaim {
            field: self,
            verdict,
        }
    }
}

impl<'v, T: PartialOrd + Display> EachClaim<'_, 'v, T> {
    fn judge(self, relation: &str, holds: impl Fn(&T) -> bool) -> &'v mut Verdict {
        let label = self.field.label();
        for (tag, _, value) in self.field.iter_full() {
            let was = match value {
                // No comparison with NaN holds, so NaN fails like any other wrong value.
                Ok(v) if holds(v) => continue,
                Ok(v) => format!("was {v}"),
                Err(e) => format!("could not be read: {e}"),
            };
            fail(
                self.verdict,
                format!("{label}: expected each sample to be {relation}, {tag} {was}"),
            );
        }
        self.verdict
    }

    /// Claims that every sample is `x` or more.
    pub fn at_least(self, x: T) -> &'v mut Verdict {
        self.judge(&format!("at least {x}"), |v| *v >= x)
    }

    /// Claims that every sample is `x` or less.
    pub fn at_most(self, x: T) -> &'v mut Verdict {
        self.judge(&format!("at most {x}"), |v| *v <= x)
    }

    /// Claims that every sample is between `lo` and `hi`, both included.
    pub fn between(self, lo: T, hi: T) -> &'v mut Verdict {
        self.judge(&format!("in [{lo}, {hi}]"), |v| *v >= lo && *v <= hi)
    }
}

/// A readable sample: its tag, time and value.
type Seen<'a, T> = (&'a str, Option<u64>, &'a T);

impl<T> SeriesField<T> {
    /// Returns the readable samples, in order. Each sample that cannot be read leaves a note.
    fn seen(&self, v: &mut Verdict) -> Vec<Seen<'_, T>> {
        let mut seen = Vec::new();
        for (tag, at, value) in self.iter_full() {
            match value {
                Ok(value) => seen.push((tag, at, value)),
                Err(e) => {
                    v.note(format!("{}: gap at {tag}: {e}", self.label()));
                }
            }
        }
        seen
    }

    /// Returns whether `have` readable samples are fewer than `need`, and leaves a note if so.
    fn too_few(&self, v: &mut Verdict, pattern: &str, have: usize, need: usize) -> bool {
        if have < need {
            let label = self.label();
            v.note(format!(
                "{label}: {pattern} needs {need} readable samples, has {have}"
            ));
        }
        have < need
    }
}

impl<T: PartialOrd + Display> SeriesField<T> {
    /// Claims that no readable sample is smaller than the readable sample before it.
    pub fn nondecreasing<'v>(&self, v: &'v mut Verdict) -> &'v mut Verdict {
        self.ordered(v, "nondecreasing", |a, b| b >= a)
    }

    /// Claims that every readable sample is larger than the readable sample before it.
    pub fn strictly_increasing<'v>(&self, v: &'v mut Verdict) -> &'v mut Verdict {
        self.ordered(v, "strictly_increasing", |a, b| b > a)
    }

    fn ordered<'v>(
        &self,
        v: &'v mut Verdict,
        pattern: &str,
        holds: fn(&T, &T) -> bool,
    ) -> &'v mut Verdict {
        let seen = self.seen(v);
        self.too_few(v, pattern, seen.len(), 2);
        for pair in seen.windows(2) {
            let ((tag_a, _, a), (tag_b, _, b)) = (pair[0], pair[1]);
            if !holds(a, b) {
                let label = self.label();
                fail(
                    v,
                    format!("{label}: expected {pattern}, was {a} at {tag_a} and {b} at {tag_b}"),
                );
            }
        }
        v
    }
}

impl SeriesField<f64> {
    /// Claims that the change per millisecond between consecutive readable samples is between `lo` and `hi`, both
    /// included. A pair whose times were not measured leaves a note; a pair at the same time is inconclusive.
    pub fn rate_within<'v>(&self, v: &'v mut Verdict, lo: f64, hi: f64) -> &'v mut Verdict {
        let seen = self.seen(v);
        self.too_few(v, "rate_within", seen.len(), 2);
        for pair in seen.windows(2) {
            let ((tag_a, at_a, a), (tag_b, at_b, b)) = (pair[0], pair[1]);
            let what = format!("{}: rate from {tag_a} to {tag_b}", self.label());
            let (Some(at_a), Some(at_b)) = (at_a, at_b) else {
                v.note(format!("{what} is unknown: elapsed time was not measured"));
                continue;
            };
            if at_a == at_b {
                unsure(v, format!("{what} is unknown: no time passed"));
                continue;
            }
            let rate = (b - a) / (at_b as f64 - at_a as f64);
            if !(rate.is_finite() && rate >= lo && rate <= hi) {
                fail(
                    v,
                    format!("{what} expected in [{lo}, {hi}] per ms, was {rate}"),
                );
            }
        }
        v
    }

    /// Claims that each readable sample that was taken at `warmup_ms` or later differs from the mean of these samples by at
    /// most `tol * |mean|`. Samples whose time was not measured are left out.
    pub fn steady_within<'v>(
        &self,
        v: &'v mut Verdict,
        warmup_ms: u64,
        tol: f64,
    ) -> &'v mut Verdict {
        let mut seen = self.seen(v);
        seen.retain(|(_, at, _)| at.is_some_and(|at| at >= warmup_ms));
        if self.too_few(v, "steady_within (after warm-up)", seen.len(), 2) {
            return v;
        }
        let mean = crate::math::mean(seen.iter().map(|s| *s.2)).unwrap_or(f64::NAN);
        for (tag, _, value) in seen {
            let off = (value - mean).abs();
            // The comparison is written so that NaN fails.
            if !matches!(off.partial_cmp(&(tol * mean.abs())), Some(o) if o.is_le()) {
                let label = self.label();
                fail(
                    v,
                    format!(
                        "{label}: expected steady within {tol} x |mean| of the mean {mean}, was {value} at {tag}"
                    ),
                );
            }
        }
        v
    }

    /// Claims that three consecutive readable samples are within `tol` of `target`, the first of them at
    /// `deadline_ms` or earlier.
    pub fn converges_to<'v>(
        &self,
        v: &'v mut Verdict,
        target: f64,
        tol: f64,
        deadline_ms: u64,
    ) -> &'v mut Verdict {
        let seen = self.seen(v);
        if self.too_few(v, "converges_to", seen.len(), CONVERGED_RUN) {
            return v;
        }
        let near = |s: &Seen<'_, f64>| (s.2 - target).abs() <= tol;
        let mut runs = seen.windows(CONVERGED_RUN);
        if runs.any(|w| w[0].1.is_some_and(|at| at <= deadline_ms) && w.iter().all(near)) {
            return v;
        }
        let label = self.label();
        let last = seen.last().map_or(f64::NAN, |s| *s.2);
        fail(
            v,
            format!(
                "{label}: expected to converge to {target} (±{tol}) by {deadline_ms}ms, \
                 no {CONVERGED_RUN} samples in a row did; the last was {last}"
            ),
        )
    }

    /// Claims that in each sample this field divided by `other` is between `lo` and `hi`, both included. A sample that cannot be
    /// read in one of the fields leaves a note, a division by 0 is inconclusive, and fields of different lengths fail.
    pub fn ratio_within<'v>(
        &self,
        v: &'v mut Verdict,
        other: &SeriesField<f64>,
        lo: f64,
        hi: f64,
    ) -> &'v mut Verdict {
        let what = format!("{} / {}", self.label(), other.label());
        if self.len() != other.len() {
            let (a, b) = (self.len(), other.len());
            return fail(v, format!("{what}: lengths differ, {a} and {b} samples"));
        }
        if self.is_empty() {
            v.note(format!(
                "{what}: there are no samples, so nothing was checked"
            ));
        }
        for ((tag, _, a), (_, _, b)) in self.iter_full().zip(other.iter_full()) {
            let (a, b) = match (a, b) {
                (Ok(a), Ok(b)) => (a, b),
                (Err(e), _) | (_, Err(e)) => {
                    v.note(format!("{what}: gap at {tag}: {e}"));
                    continue;
                }
            };
            if *b == 0.0 {
                unsure(v, format!("{what} is unknown at {tag}: {a} / 0"));
                continue;
            }
            let r = a / b;
            if !(r.is_finite() && r >= lo && r <= hi) {
                fail(
                    v,
                    format!("{what}: expected in [{lo}, {hi}], was {r} at {tag}"),
                );
            }
        }
        v
    }
}

impl SeriesField<bool> {
    /// Claims that every sample is true. A sample that cannot be read fails.
    pub fn always_true<'v>(&self, v: &'v mut Verdict) -> &'v mut Verdict {
        for (tag, _, value) in self.iter_full() {
            let was = match value {
                Ok(true) => continue,
                Ok(false) => "was false".to_owned(),
                Err(e) => format!("could not be read: {e}"),
            };
            fail(
                v,
                format!("{}: expected always true, {tag} {was}", self.label()),
            );
        }
        v
    }
}
