//! Errors of starting or changing workers.

/// Why workers could not be started or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The configuration contradicts itself.
    #[error("{0}")]
    Invalid(String),
    /// A system call failed.
    #[error("cannot {action}: {cause}")]
    System {
        /// The operation that failed, as a verb phrase.
        action: String,
        /// The error that the kernel returned.
        cause: std::io::Error,
    },
}

impl WorkerError {
    /// Creates an error from the last system call's errno and the operation that failed.
    pub(super) fn sys(action: impl Into<String>) -> Self {
        Self::System {
            action: action.into(),
            cause: std::io::Error::last_os_error(),
        }
    }
}
