//! A field: one value per capture, with the tag, the time and the phase of the capture.

use super::Sample;
use super::SampleSeries;
use crate::phase::Phase;
use ktstr_snapshot::snapshot::SnapshotResult;

/// One projected value for every capture of a series, in order.
#[derive(Clone, Debug)]
pub struct SeriesField<T> {
    label: String,
    pub(super) points: Vec<Point<T>>,
}

#[derive(Clone, Debug)]
pub(super) struct Point<T> {
    pub tag: String,
    pub elapsed_ms: Option<u64>,
    pub value: SnapshotResult<T>,
    pub phase: Option<Phase>,
}

impl<T> SeriesField<T> {
    /// Creates a field of values without phases. All lists are truncated to the length of the shortest.
    pub fn from_parts(
        label: impl Into<String>,
        tags: Vec<String>,
        elapsed_ms: Vec<Option<u64>>,
        values: Vec<SnapshotResult<T>>,
    ) -> Self {
        let phases = vec![None; values.len()];
        Self::from_parts_with_phases_opt(label, tags, elapsed_ms, values, phases)
    }

    /// Creates a field of values that all have a phase. All lists are truncated to the length of the shortest.
    pub fn from_parts_with_phases(
        label: impl Into<String>,
        tags: Vec<String>,
        elapsed_ms: Vec<Option<u64>>,
        values: Vec<SnapshotResult<T>>,
        phases: Vec<Phase>,
    ) -> Self {
        let phases = phases.into_iter().map(Some).collect();
        Self::from_parts_with_phases_opt(label, tags, elapsed_ms, values, phases)
    }

    /// Creates a field of values, some of which have a phase. All lists are truncated to the length of the shortest.
    pub fn from_parts_with_phases_opt(
        label: impl Into<String>,
        tags: Vec<String>,
        elapsed_ms: Vec<Option<u64>>,
        values: Vec<SnapshotResult<T>>,
        phases: Vec<Option<Phase>>,
    ) -> Self {
        let parts = tags.into_iter().zip(elapsed_ms).zip(values).zip(phases);
        let points = parts.map(|(((tag, elapsed_ms), value), phase)| Point {
            tag,
            elapsed_ms,
            value,
            phase,
        });
        SeriesField {
            label: label.into(),
            points: points.collect(),
        }
    }

    /// Returns the name of the field in messages.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Returns the number of values, errors included.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// Returns the values in order.
    pub fn values_iter(&self) -> impl Iterator<Item = &SnapshotResult<T>> {
        self.points.iter().map(|p| &p.value)
    }

    /// Returns the tag, the elapsed milliseconds and the value of each sample, in order.
    pub fn iter_full(&self) -> impl Iterator<Item = (&str, Option<u64>, &SnapshotResult<T>)> {
        self.points.iter().map(Point::triple)
    }

    /// Returns the phase of each sample, in order; `None` for a sample whose phase is unknown.
    pub fn phases_iter(&self) -> impl Iterator<Item = Option<Phase>> + '_ {
        self.points.iter().map(|p| p.phase)
    }
}

impl<T> Point<T> {
    pub fn triple(&self) -> (&str, Option<u64>, &SnapshotResult<T>) {
        (&self.tag, self.elapsed_ms, &self.value)
    }
}

impl SampleSeries {
    /// Projects one value per capture, placeholders included.
    pub(super) fn project<T>(
        &self,
        label: impl Into<String>,
        f: impl Fn(&Sample<'_>) -> SnapshotResult<T>,
    ) -> SeriesField<T> {
        let point = |s: Sample<'_>| Point {
            tag: s.tag.to_owned(),
            elapsed_ms: s.elapsed_ms,
            value: f(&s),
            phase: s.step_index.map(Phase::from),
        };
        SeriesField {
            label: label.into(),
            points: self.iter_samples().map(point).collect(),
        }
    }
}
