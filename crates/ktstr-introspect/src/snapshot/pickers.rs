//! Ready-made pickers for [`Snapshot::live_var_via`](super::Snapshot::live_var_via) and
//! [`Snapshot::live_vars_via`](super::Snapshot::live_vars_via).
//!
//! Both assume that, among several copies of a scheduler, the active one has the largest counters.

use super::SnapshotField;

/// The copy whose value is largest; copies that do not read as `u64` are ignored, and the first of equals wins.
pub fn max_by_counter_value(copies: &[(&str, SnapshotField<'_>)]) -> Option<usize> {
    largest(copies.iter().map(|(_, field)| field.as_u64().ok()))
}

/// The copy whose values have the largest sum (saturating); fields that do not read as `u64` count as 0, copies without any
/// readable field are ignored, and the first of equals wins.
pub fn max_by_sum_u64(copies: &[(&str, Vec<SnapshotField<'_>>)]) -> Option<usize> {
    largest(copies.iter().map(|(_, fields)| {
        fields
            .iter()
            .filter_map(|field| field.as_u64().ok())
            .reduce(u64::saturating_add)
    }))
}

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
