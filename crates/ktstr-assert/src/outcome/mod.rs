//! The parts of a verdict: details, notes, passes and outcomes, and the result that contains them.

mod detail;
pub mod finding;
mod fold;
mod kind;
mod note;
mod pass;
mod result;

pub use detail::{AssertDetail, DetailKind, InfoNote, LatencyGate, QuotaEffect};
pub use finding::{Ejection, Finding, MonitorBound, SchedulerEnd};
pub use kind::{Outcome, OutcomeRef};
pub use note::NoteValue;
pub use pass::{
    COMPARATOR_VOCABULARY, MAX_RECORDED_PASSES, PASSES_TRUNCATION_SENTINEL_COMPARATOR,
    PASSES_TRUNCATION_SENTINEL_NAME, PassDetail,
};
pub use result::AssertResult;
