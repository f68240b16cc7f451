//! Projections of the scheduler's BPF state. A projection is a field with one value for each capture.

use super::{Sample, SampleSeries, SeriesField};
use ktstr_snapshot::snapshot::{Snapshot, SnapshotError, SnapshotField, SnapshotResult};

/// Returns the error for a sample without data.
pub(super) fn placeholder(s: &Sample<'_>) -> SnapshotError {
    let reason = s.snapshot.report().placeholder_reason.clone();
    SnapshotError::PlaceholderSample {
        tag: s.tag.to_owned(),
        reason: reason.unwrap_or_else(|| "no reason was recorded".into()),
    }
}

impl SampleSeries {
    /// Projects one value per capture. A placeholder gives an error, and `f` is not called for it.
    pub fn bpf<T>(
        &self,
        label: impl Into<String>,
        f: impl Fn(&Snapshot<'_>) -> SnapshotResult<T>,
    ) -> SeriesField<T> {
        self.project(label, |s| {
            if s.snapshot.is_placeholder() {
                Err(placeholder(s))
            } else {
                f(&s.snapshot)
            }
        })
    }

    /// Projects the attached scheduler's global variable `name` as an unsigned integer.
    pub fn bpf_live_u64(&self, name: &str) -> SeriesField<u64> {
        self.bpf(name, |snap| snap.live_var(name).as_u64())
    }

    /// Projects the attached scheduler's global variable `name` as a signed integer.
    pub fn bpf_live_i64(&self, name: &str) -> SeriesField<i64> {
        self.bpf(name, |snap| snap.live_var(name).as_i64())
    }

    /// Projects the attached scheduler's global variable `name` as a float.
    pub fn bpf_live_f64(&self, name: &str) -> SeriesField<f64> {
        self.bpf(name, |snap| snap.live_var(name).as_f64())
    }

    /// Projects several global variables as unsigned integers. A capture may contain several copies of the scheduler, so all
    /// values of a capture are read from one copy. `picker` gets the copies that have any of `names`, and returns the index of
    /// the copy to read. If the picker returns `None` or an index that is out of range, all values of that capture are errors.
    pub fn live_bpf_vars_via<const N: usize>(
        &self,
        names: [&str; N],
        picker: impl Fn(&[(&str, Vec<SnapshotField<'_>>)]) -> Option<usize>,
    ) -> [SeriesField<u64>; N] {
        std::array::from_fn(|i| {
            self.bpf(names[i], |snap| {
                let fields = snap.live_vars_via(&names, &picker);
                match fields.get(i) {
                    Some(field) => field.as_u64(),
                    None => Err(SnapshotError::ProjectionFailed {
                        requested: names[i].to_owned(),
                        reason: "the copy that the picker chose does not have it".into(),
                    }),
                }
            })
        })
    }
}
