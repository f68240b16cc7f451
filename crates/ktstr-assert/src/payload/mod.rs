//! The results of a program that a test ran as its workload: how the program ended, what it printed, which metrics its
//! output contains, and whether these meet the checks of the test.
//!
//! The guest (`ktstr-guest`) starts programs, and the scenario (`ktstr-scenario`) declares them.

mod check;
mod extract;
mod format;
mod judge;
mod metrics;

pub use check::{CheckError, MetricCheck};
pub use extract::{MAX_DEPTH, extract_metrics};
pub use format::{MetricHint, MetricPattern, OutputFormat, PatternError};
pub use judge::judge;
pub use metrics::{
    Captured, EXCERPT, MAX_METRICS, MAX_PAYLOADS, Metric, MetricStream, PayloadEnd, PayloadMetrics,
};
