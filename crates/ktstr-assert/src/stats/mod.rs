//! Measurements: per cgroup and phase, per cgroup, per phase, and over the whole scenario.

pub(crate) mod bench;
mod bucket;
mod carrier;
mod cgroup;
mod scenario;
mod summary;

pub use bench::{BenchCarrier, BenchTotals, TaobenchStats};
pub use bucket::{PhaseBucket, PhaseBucketClaim};
pub use carrier::{PhaseCgroupStats, PhaseCgroupStatsClaim};
pub use cgroup::{CgroupStats, CgroupStatsClaim, SampleSource};
pub(crate) use scenario::merge_phases;
pub use scenario::{ScenarioStats, ScenarioStatsClaim};
