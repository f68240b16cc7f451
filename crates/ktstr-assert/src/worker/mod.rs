//! The measurements of a worker about itself, and how workers are folded into cgroups.

mod bench;
mod fold;
mod pages;
mod report;

pub use bench::{BenchRole, BenchSlice};
pub use fold::{carrier, carriers_by_phase, cgroup_stats};
pub use pages::{page_locality, parse_numa_maps, parse_vmstat_numa_pages_migrated};
pub use report::{
    Migration, PhaseSlice, SampleKind, SamplesMut, WorkerExitInfo, WorkerReport, WorkerReportClaim,
};
