//! Why a run could not even start, and whose fault that is.

use ktstr_kernel::KernelError;
use ktstr_machine::MachineError;

use super::{EXIT_FAIL, EXIT_INCONCLUSIVE};

/// A run that produced no verdict of its own.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The test's declaration makes no sense.
    #[error("the declaration of test `{test}` makes no sense: {reason}")]
    Declaration {
        /// The test.
        test: String,
        /// Why.
        reason: String,
    },
    /// No kernel.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// No machine.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// A folder that runs share is not this user's alone, or cannot be used.
    #[error(transparent)]
    State(#[from] ktstr_state::StateError),
    /// No scheduler.
    #[error(
        "the scheduler `{name}` was not found; looked at\n{looked}\nbuild it, or name its binary \
         with KTSTR_SCHEDULER"
    )]
    SchedulerNotFound {
        /// What was looked for.
        name: String,
        /// One place a line.
        looked: String,
    },
    /// A file that is to go into the guest is not there.
    #[error("{what} `{path}`: {source}")]
    Include {
        /// What it was to be.
        what: &'static str,
        /// Where it was looked for.
        path: String,
        /// The system's word.
        source: std::io::Error,
    },
    /// A variable with a value that makes no sense.
    #[error("{name}={value}: {wanted}")]
    Environment {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What was expected.
        wanted: String,
    },
}

impl RunError {
    /// 1 for the user's fault, 2 for the host's.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Kernel(error) => error.exit_code(),
            Self::Machine(MachineError::Topology { .. }) => EXIT_FAIL,
            Self::Machine(_) | Self::State(_) => EXIT_INCONCLUSIVE,
            Self::Declaration { .. }
            | Self::SchedulerNotFound { .. }
            | Self::Include { .. }
            | Self::Environment { .. } => EXIT_FAIL,
        }
    }
}
