//! Metrics: their names, the meaning of a change, and how they are looked up and folded.

mod def;
mod id;
mod lookup;
mod perf_delta;
mod registry;
mod scope;

pub use def::{GaugeFold, MetricDef, MetricKind, Polarity, Reduction, Source};
pub use id::MetricId;
pub use lookup::of_phases;
pub(crate) use lookup::{merge_worst, quotients, run_value};
pub use perf_delta::{PerfDeltaAssertion, PerfDeltaError};
pub use registry::{BuiltinMetric, REGISTRY};
