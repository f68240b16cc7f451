//! Why a run could not even start, and whose fault that is.

use std::path::PathBuf;

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
        /// The name of the test.
        test: String,
        /// What is wrong with the declaration.
        reason: String,
    },
    /// There is no kernel to run, or it cannot be used.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The machine could not be made or talked to.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// A folder that runs share is not this user's alone, or cannot be used.
    #[error(transparent)]
    State(#[from] ktstr_state::StateError),
    /// The scheduler's binary was not found.
    #[error(
        "the scheduler `{name}` was not found; tried\n{looked}\nrun the test in the workspace that has \
         the package, or name the scheduler's binary with KTSTR_SCHEDULER"
    )]
    SchedulerNotFound {
        /// What was looked for.
        name: String,
        /// One attempt a line.
        looked: String,
    },
    /// A file that is named as the scheduler's binary and cannot be one.
    #[error("{role}: `{}` cannot run as a scheduler: {found}; {advice}", path.display())]
    SchedulerUnusable {
        /// Who named it.
        role: String,
        /// The file that was named.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
        /// What to do.
        advice: &'static str,
    },
    /// The scheduler's package does not build.
    #[error(
        "the scheduler `{name}` does not build: {what} ended with {status}; its last lines:\n{said}"
    )]
    SchedulerBuild {
        /// The name of the scheduler.
        name: String,
        /// The command and where it ran.
        what: String,
        /// How it ended.
        status: String,
        /// The end of what it printed.
        said: String,
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
    /// A file that is named without a folder and lies nowhere.
    #[error(
        "file for the guest `{name}`: neither in the current folder nor a program of PATH; tried\n{looked}\n\
         install the program, or write the path of the file"
    )]
    IncludeNotFound {
        /// The name as it was declared.
        name: String,
        /// One attempt a line.
        looked: String,
    },
    /// The program of a payload, or a file that it needs, cannot go into the guest.
    #[error("payload `{payload}`: {source}")]
    Payload {
        /// The name of the payload's declaration.
        payload: String,
        /// What is wrong with the file.
        source: Box<RunError>,
    },
    /// Two files of the host that would be one in the guest.
    #[error(
        "`{}` and `{}` would both be {place} in the guest: rename one of them",
        first.display(),
        second.display()
    )]
    IncludeClash {
        /// One of the files.
        first: PathBuf,
        /// The other of the files.
        second: PathBuf,
        /// Their place in the guest.
        place: String,
    },
    /// A variable with a value that makes no sense.
    #[error("{name}={value}: {wanted}")]
    Environment {
        /// The name of the variable.
        name: &'static str,
        /// The value that it has.
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
            Self::Machine(MachineError::Topology { .. } | MachineError::NotQemu { .. }) => {
                EXIT_FAIL
            }
            Self::Machine(_) | Self::State(_) => EXIT_INCONCLUSIVE,
            Self::Payload { source, .. } => source.exit_code(),
            Self::Declaration { .. }
            | Self::SchedulerNotFound { .. }
            | Self::SchedulerUnusable { .. }
            | Self::SchedulerBuild { .. }
            | Self::Include { .. }
            | Self::IncludeNotFound { .. }
            | Self::IncludeClash { .. }
            | Self::Environment { .. } => EXIT_FAIL,
        }
    }
}
