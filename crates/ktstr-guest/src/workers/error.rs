//! What can go wrong with workers before and at their start.

/// Why workers could not be started or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The work type is part of the language but has no body yet.
    #[error("work type {name} is not available yet: use one of {built}")]
    NotAvailable {
        /// The name of the work type.
        name: &'static str,
        /// The names of those that have one.
        built: String,
    },
    /// A feature of the language that is not built yet.
    #[error("{0} is not available yet")]
    Feature(&'static str),
    /// The configuration contradicts itself.
    #[error("{0}")]
    Invalid(String),
    /// A system call failed.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: String,
        /// What the kernel answered.
        source: std::io::Error,
    },
}

impl WorkerError {
    /// The last system call's error, with what was tried.
    pub(super) fn sys(action: impl Into<String>) -> Self {
        Self::System {
            action: action.into(),
            source: std::io::Error::last_os_error(),
        }
    }
}
