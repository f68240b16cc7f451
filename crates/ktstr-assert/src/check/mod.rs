//! The checks a test can ask for, and their judgement over worker reports.
//!
//! By default nothing is judged, only measured. What could not be measured is inconclusive, never
//! a zero that happens to pass or fail. Thresholds are guest time: the same in debug and release
//! builds, as neither the host's speed nor its noise is in them.

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
