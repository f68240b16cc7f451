//! Warm start: each machine is a copy-on-write fork of a machine that was booted once, or booted once with the
//! scheduler attached.
//!
//! A template is a folder of the cache that holds RAM, device state, and the state of the host's side of the session.
//! The first run that needs a template builds it under a flock, which the kernel releases when the holder exits. The
//! template is written to a temporary folder and published by a rename.

mod fork;
mod housekeeping;
mod key;
mod make;
mod sparse;
mod template;

use std::collections::BTreeMap;

pub(super) use fork::fork;
pub use housekeeping::{Summary, clean, list, root};

/// The stamps of files, by their path in the guest.
pub(super) type Stamps = BTreeMap<String, String>;

/// The reason why there is no template to start from.
#[derive(Debug, thiserror::Error)]
pub(super) enum TemplateError {
    /// A machine could not be started, driven or restored.
    #[error(transparent)]
    Run(#[from] super::RunError),
    /// The template could not be written or read.
    #[error("{what}: {source}")]
    Files {
        /// The operation that failed.
        what: String,
        /// The underlying I/O error.
        source: std::io::Error,
    },
    /// The folder of templates, or a lock in it, cannot be used.
    #[error(transparent)]
    State(#[from] ktstr_state::StateError),
    /// The template has changed since it was built.
    #[error("the template {key} is damaged: {reason}")]
    Damaged {
        /// The template's key, which is the name of its folder.
        key: String,
        /// What has changed in the template since it was made.
        reason: String,
    },
    /// The guest did not reach the point at which a template is saved.
    #[error("no template could be made: the guest {0}")]
    NotReached(String),
}

impl From<ktstr_machine::MachineError> for TemplateError {
    fn from(error: ktstr_machine::MachineError) -> Self {
        Self::Run(error.into())
    }
}

impl TemplateError {
    fn files(what: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        Self::Files {
            what: what.into(),
            source: source.into(),
        }
    }
}
