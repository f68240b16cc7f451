//! What can go wrong with workers before and at their start.

/// Why workers could not be started or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
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
