//! The values of a field in each phase. The reductions leave out values without a phase and values that cannot be read.

use super::SeriesField;
use super::field::Point;
use crate::metric::{GaugeFold, MetricDef, MetricKind};
use crate::phase::Phase;
use ktstr_snapshot::snapshot::SnapshotResult;
use std::collections::BTreeMap;
use std::ops::{Add, Sub};

/// A value with its tag and time.
pub type Triple<'a, T> = (&'a str, Option<u64>, &'a SnapshotResult<T>);
/// Values with their tags and times, in order.
pub type Triples<'a, T> = Vec<Triple<'a, T>>;

impl<T> SeriesField<T> {
    /// Returns all values of a phase.
    pub fn phase(&self, phase: Phase) -> Triples<'_, T> {
        let here = self.points.iter().filter(|p| p.phase == Some(phase));
        here.map(Point::triple).collect()
    }

    /// Returns all values by phase, and the values without a phase.
    pub fn by_phase(&self) -> (BTreeMap<Phase, Triples<'_, T>>, Triples<'_, T>) {
        let (mut by, mut rest): (BTreeMap<_, Vec<_>>, _) = (BTreeMap::new(), Vec::new());
        for p in &self.points {
            match p.phase {
                Some(phase) => by.entry(phase).or_default().push(p.triple()),
                None => rest.push(p.triple()),
            }
        }
        (by, rest)
    }

    /// Calls `f` for each phase in order, with the values of the phase.
    pub fn for_each_phase(&self, mut f: impl FnMut(Phase, &[Triple<'_, T>])) {
        for (phase, points) in self.by_phase().0 {
            f(phase, &points);
        }
    }
}

impl<T: Copy> SeriesField<T> {
    /// Returns the readable values of each phase, in order. A phase without readable values is left out.
    fn readable(&self) -> BTreeMap<Phase, Vec<T>> {
        let mut by: BTreeMap<Phase, Vec<T>> = BTreeMap::new();
        for p in &self.points {
            if let (Some(phase), Ok(value)) = (p.phase, &p.value) {
                by.entry(phase).or_default().push(*value);
            }
        }
        by
    }

    fn reduce<U>(&self, f: impl Fn(&[T]) -> Option<U>) -> BTreeMap<Phase, U> {
        let readable = self.readable().into_iter();
        readable.filter_map(|(p, v)| Some((p, f(&v)?))).collect()
    }

    /// Returns the last readable value of a phase; `None` if the phase has none.
    pub fn value_at_phase(&self, phase: Phase) -> Option<T> {
        let here = self.points.iter().rev().filter(|p| p.phase == Some(phase));
        here.filter_map(|p| p.value.as_ref().ok()).next().copied()
    }

    /// Returns the first readable value of each phase.
    pub fn first_per_phase(&self) -> BTreeMap<Phase, T> {
        self.reduce(|v| v.first().copied())
    }

    /// Returns the last readable value of each phase.
    pub fn last_per_phase(&self) -> BTreeMap<Phase, T> {
        self.reduce(|v| v.last().copied())
    }

    /// Returns the last readable value minus the first for each phase. If the last is smaller, the counter was reset,
    /// and the phase gets the default value instead of a wrapped difference.
    pub fn counter_delta_per_phase(&self) -> BTreeMap<Phase, T>
    where
        T: PartialOrd + Default + Sub<Output = T>,
    {
        self.reduce(|v| {
            let (first, last) = (*v.first()?, *v.last()?);
            Some(if last >= first {
                last - first
            } else {
                T::default()
            })
        })
    }

    /// Returns the sum of the readable values of each phase. The caller must make sure that integers do not overflow.
    pub fn sum_by_phase(&self) -> BTreeMap<Phase, T>
    where
        T: Add<Output = T>,
    {
        self.reduce(|v| v.iter().copied().reduce(|a, b| a + b))
    }

    /// Folds the values of each phase as the metric's kind requires: a counter to its growth, a peak to its maximum, a
    /// timestamp to its last value, and a gauge by its [`GaugeFold`](crate::metric::GaugeFold). The map is empty for
    /// kinds that are not computed from samples.
    pub fn aggregate_by_phase(&self, def: &MetricDef) -> BTreeMap<Phase, f64>
    where
        T: Into<f64>,
    {
        self.reduce(|v| {
            fold(
                def.kind,
                &v.iter().map(|x| (*x).into()).collect::<Vec<f64>>(),
            )
        })
    }
}

/// Returns the value of a phase from its samples; `None` without samples, and for kinds that are not computed from
/// samples. The metrics of a phase that come from captures (`buckets/captured.rs`) are computed with it, too.
pub(crate) fn fold(kind: MetricKind, v: &[f64]) -> Option<f64> {
    let (first, last) = (*v.first()?, *v.last()?);
    let largest = || v.iter().copied().reduce(f64::max);
    match kind {
        MetricKind::Counter | MetricKind::DeltaSum | MetricKind::PerPhaseDeltaSum => {
            Some((last - first).max(0.0))
        }
        MetricKind::Gauge(GaugeFold::Avg) => crate::math::mean(v.iter().copied()),
        MetricKind::Gauge(GaugeFold::Max) | MetricKind::Peak => largest(),
        MetricKind::Gauge(GaugeFold::Last) | MetricKind::Timestamp => Some(last),
        _ => None,
    }
}
