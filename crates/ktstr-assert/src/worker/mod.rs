//! What one worker measured about itself, and how workers become cgroups.

mod fold;
mod report;

pub use fold::{carrier, carriers_by_phase, cgroup_stats};
pub use report::{Migration, PhaseSlice, WorkerExitInfo, WorkerReport};
