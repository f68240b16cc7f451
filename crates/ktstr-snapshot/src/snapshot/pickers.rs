//! Ready-made pickers for [`Snapshot::live_var_via`](super::Snapshot::live_var_via) and
//! [`Snapshot::live_vars_via`](super::Snapshot::live_vars_via).
//!
//! Use them if several copies of a scheduler are loaded and its variables are counters: they assume that the copy in use
//! has counted furthest.

use super::SnapshotField;

/// Returns the index of the copy with the largest value, the lowest index if several copies have it. Copies that cannot be read
/// as `u64` are ignored; `None` if none can be read.
pub fn max_by_counter_value(copies: &[(&str, SnapshotField<'_>)]) -> Option<usize> {
    largest(copies.iter().map(|(_, field)| field.as_u64().ok()))
}

/// Returns the index of the copy whose values have the largest sum, the lowest index if several copies have it. The sum
/// saturates. Fields that cannot be read as `u64` count as 0, and copies without any field that can be read are ignored; `None`
/// if no copy remains.
pub fn max_by_sum_u64(copies: &[(&str, Vec<SnapshotField<'_>>)]) -> Option<usize> {
    largest(copies.iter().map(|(_, fields)| {
        fields
            .iter()
            .filter_map(|field| field.as_u64().ok())
            .reduce(u64::saturating_add)
    }))
}

/// Returns the index of the largest value, the lowest index if there are several; `None` if all values are `None`.
fn largest(values: impl Iterator<Item = Option<u64>>) -> Option<usize> {
    let mut best: Option<(u64, usize)> = None;
    for (index, value) in values.enumerate() {
        let Some(value) = value else { continue };
        if best.is_none_or(|(most, _)| value > most) {
            best = Some((value, index));
        }
    }
    best.map(|(_, index)| index)
}
