//! What a program that a test ran as its load has left: how it ended, what it printed, the metrics in that, and whether
//! they are what the test wants.
//!
//! Starting programs is the guest's business (`ktstr-guest`), declaring them the scenario's (`ktstr-scenario`).

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
