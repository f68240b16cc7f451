//! Warm start: each machine is a copy-on-write fork of a template, which is a saved machine. Templates form a chain: one that
//! has booted, one that also has the scheduler attached, and one in which the test process also waits for its job.
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
pub(super) use housekeeping::cap;
pub use housekeeping::{Summary, clean, list, root, unload};

/// The stamps that identify the contents of files, by their path in the guest.
pub(super) type Stamps = BTreeMap<String, String>;

/// The reason why there is no template to start from.
#[derive(Debug, thiserror::Error)]
pub(super) enum TemplateError {
    /// A machine could not be started, driven or restored.
    #[error(transparent)]
    Run(#[from] super::RunError),
    /// The template could not be written or read.
    #[error("{what}: {cause}")]
    Files {
        /// The operation that failed.
        what: String,
        /// The underlying I/O error.
        cause: std::io::Error,
    },
    /// The folder of templates, or a lock in it, cannot be used.
    #[error(transparent)]
    State(#[from] ktstr_state::StateError),
    /// The template has changed since it was built, or QEMU cannot restore it.
    #[error("the template {key} is damaged: {reason}")]
    Damaged {
        /// The template's key, which is the name of its folder.
        key: String,
        /// What is wrong with the template.
        reason: String,
    },
    /// The guest did not reach the point at which a template is saved. Holds what the guest did instead.
    #[error("no template could be made: the guest {0}")]
    NotReached(String),
}

impl From<ktstr_machine::MachineError> for TemplateError {
    fn from(error: ktstr_machine::MachineError) -> Self {
        Self::Run(error.into())
    }
}

impl TemplateError {
    fn files(what: impl Into<String>, cause: impl Into<std::io::Error>) -> Self {
        Self::Files {
            what: what.into(),
            cause: cause.into(),
        }
    }
}
