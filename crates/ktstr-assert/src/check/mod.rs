//! The checks that a test can enable, and how they judge worker reports and the error with which a scheduler ended.
//!
//! By default everything is measured and nothing is judged. A check whose data is missing is inconclusive: missing data
//! does not count as a zero that happens to pass or fail. There are two exceptions: page locality counts as 0 for a
//! cgroup without pages, and a worker that left no numbers made no progress. Thresholds are in guest time and apply to
//! debug and release builds alike: under the virtual clock neither the host's speed nor its load affects guest time.

mod assert;
mod expected_error;
mod free;
mod limit;
mod numa;
#[cfg(test)]
mod tests;
mod workers;

pub use assert::Assert;
pub use expected_error::ExpectedErrorError;
pub use free::{
    AbsoluteThresholds, assert_benchmarks, assert_isolation, assert_not_stuck, assert_thresholds,
    assert_throughput_parity,
};
pub use limit::Limit;
pub use numa::CgroupNodes;
pub use workers::{DEFAULT_MAX_GAP_MS, DEFAULT_MAX_SPREAD_PCT};
