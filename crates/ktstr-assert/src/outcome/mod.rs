//! What a judgement consists of: details, notes, passes, outcomes and the result that holds them.

mod detail;
mod fold;
mod kind;
mod note;
mod pass;
mod result;

pub use detail::{AssertDetail, DetailKind, InfoNote, LatencyGate};
pub use kind::{Outcome, OutcomeRef};
pub use note::NoteValue;
pub use pass::{
    COMPARATOR_VOCABULARY, MAX_RECORDED_PASSES, PASSES_TRUNCATION_SENTINEL_COMPARATOR,
    PASSES_TRUNCATION_SENTINEL_NAME, PassDetail,
};
pub use result::AssertResult;
