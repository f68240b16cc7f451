//! Buckets: each holds what was measured in one phase. The sources are the captures, the timeline of the scenario, the monitor's
//! samples, the guest's reports about its workers, and the exact schedule.

mod build;
mod captured;
mod cpu_time;
mod pressure;
mod schedule;
mod task_time;
#[cfg(test)]
mod tests;

pub use build::{build_phase_buckets, build_phase_buckets_with_stimulus, fold_carriers};
pub use schedule::fold_schedule;
