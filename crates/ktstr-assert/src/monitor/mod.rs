//! The monitor's data: samples of the runqueues, taken from outside the guest while the test ran, their summary, and
//! the thresholds for judging them. The host fills in the data; nothing in this module reads guest memory.

mod claims;
mod data;
mod metrics;
mod queues;
mod summary;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_waiting;
mod thresholds;
mod work;

pub use data::{
    CpuSchedstat, CpuSnapshot, MonitorReport, MonitorSample, MonitorSummary, SchedDomain,
    ScxEventCounters, WaitingTask, WaitsIn, WatchdogObservation,
};
pub use metrics::{fold_into, metrics};
pub(crate) use summary::event_seconds;
pub use thresholds::{MonitorThresholds, MonitorVerdict};
