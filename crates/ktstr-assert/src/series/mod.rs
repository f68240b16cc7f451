//! Series of captures: the samples in order, the fields that are projected from them, and patterns over time.

mod across;
mod bpf;
mod entry;
mod field;
mod map;
mod patterns;
mod phases;
mod samples;
mod stats;
#[cfg(test)]
mod tests;
mod views;

pub use across::{CrossPhaseRatio, FracPair, PhaseMapExt};
pub use entry::{DrainedSnapshotEntry, PERIODIC_TAG_PREFIX};
pub use field::SeriesField;
pub use map::{BpfMapCpuProjector, BpfMapProjector};
pub use patterns::EachClaim;
pub(crate) use phases::fold;
pub use phases::{Triple, Triples};
pub use samples::{DrainedTuple, Sample, SampleSeries};
pub use stats::{StatsPathProjector, StatsValue};
pub use views::{HostView, MonitorView, ScxEvents, assert_scx_events_clean};
