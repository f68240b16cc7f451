//! Warm start: a machine is a copy-on-write fork of one that was booted, or booted and handed to
//! the scheduler, once.
//!
//! A template is a folder of the cache: RAM, device state, and what the host must know to go on
//! talking to it. It is made by whoever comes first, under a lock that the kernel drops when its
//! holder ends, written aside and renamed whole.

mod fork;
mod housekeeping;
mod key;
mod make;
mod sparse;
mod template;

use std::collections::BTreeMap;

pub(super) use fork::fork;
pub use housekeeping::{Summary, clean, list, root};

/// Stamps of files by their path in the guest.
pub(super) type Stamps = BTreeMap<String, String>;

/// Why there is no template to start from.
#[derive(Debug, thiserror::Error)]
pub(super) enum WarmError {
    /// A machine could not be made, driven or restored.
    #[error(transparent)]
    Run(#[from] super::RunError),
    /// The template could not be written or read.
    #[error("{what}: {source}")]
    Files {
        /// What was tried.
        what: String,
        /// The system's word.
        source: std::io::Error,
    },
    /// The folder of templates, or a lock in it, cannot be used.
    #[error(transparent)]
    State(#[from] ktstr_state::StateError),
    /// The template is not what it was when it was made.
    #[error("the template {key} is damaged: {reason}")]
    Damaged {
        /// The template's key, which is the name of its folder.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// The guest did not come to the point where a template can be taken.
    #[error("no template could be made: the guest {0}")]
    NotReached(String),
}

impl From<ktstr_machine::MachineError> for WarmError {
    fn from(error: ktstr_machine::MachineError) -> Self {
        Self::Run(error.into())
    }
}

impl WarmError {
    fn files(what: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        Self::Files {
            what: what.into(),
            source: source.into(),
        }
    }
}
