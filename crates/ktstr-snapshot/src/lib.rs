//! What ktstr reads from a guest, as plain data: captures with their sections, samples of runqueues, exits of schedulers.
//!
//! A [`report::FailureDumpReport`] is one capture, and a [`snapshot::Snapshot`] answers questions about it. This crate reads no
//! memory and knows neither page tables nor BTF: `ktstr-introspect` reads the guest and fills the types of this crate in, and
//! the judgement and the tests only see the result. For each section of a capture, the reader implements [`ReadSection`].
// The numbers come from a guest, so no cast may change a number unnoticed.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]

pub mod report;
mod sections;
pub mod snapshot;

pub use sections::reading::{ReadSection, read_sections};
