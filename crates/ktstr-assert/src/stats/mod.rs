//! What was measured: by cgroup and phase, by cgroup, by phase, and over the whole scenario.

mod bucket;
mod carrier;
mod cgroup;
mod scenario;
mod summary;

pub use bucket::PhaseBucket;
pub use carrier::PhaseCgroupStats;
pub use cgroup::{CgroupStats, SampleSource};
pub use scenario::ScenarioStats;
pub(crate) use scenario::merge_phases;
