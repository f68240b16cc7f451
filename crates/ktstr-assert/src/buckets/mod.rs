//! Phases as buckets: captures, stimulus and the guest's carriers brought together.

mod build;
mod captured;
mod cpu_time;
mod schedule;
#[cfg(test)]
mod tests;

pub use build::{build_phase_buckets, build_phase_buckets_with_stimulus, fold_carriers};
pub use schedule::fold_schedule;
