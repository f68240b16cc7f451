//! Buckets: everything that was measured in one phase, from captures, the timeline of stimuli, the monitor's samples, the
//! guest's reports about its workers, and the exact schedule.

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
