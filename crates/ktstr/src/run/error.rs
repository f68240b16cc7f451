//! Why a run could not start, and who has to fix that.

use std::path::PathBuf;

use ktstr_kernel::KernelError;
use ktstr_machine::MachineError;

use super::{EXIT_FAIL, EXIT_INCONCLUSIVE};

/// An error because of which a run could not be started or judged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The test's declaration is invalid, or cannot be met in this environment.
    #[error("the declaration of test `{test}` is invalid: {reason}")]
    Declaration {
        /// The name of the test.
        test: String,
        /// What is wrong with the declaration.
        reason: String,
    },
    /// There is no kernel to run, or the kernel or the cache cannot be used.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A program for the guest could not be prepared, the machine could not be started, or the host could not
    /// communicate with it.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// A folder or a lock that several runs use together cannot be used, for example because another user owns or can write it.
    #[error(transparent)]
    State(#[from] ktstr_state::StateError),
    /// The scheduler's binary was not found.
    #[error(
        "the scheduler `{name}` was not found. Run the test in the workspace that has the package, or give the path of the \
         scheduler's binary (a test: in KTSTR_SCHEDULER; `cargo ktstr run`: after --scheduler). What was tried:\n{looked}"
    )]
    SchedulerNotFound {
        /// The name of the scheduler.
        name: String,
        /// The places that were searched, one per line.
        looked: String,
    },
    /// The file that was named or found as the scheduler's binary cannot run as a scheduler.
    #[error("{role}: `{}` cannot run as a scheduler: {found} ({advice})", path.display())]
    SchedulerUnusable {
        /// Where the path of the file comes from.
        role: String,
        /// The path of the file.
        path: PathBuf,
        /// What is wrong with the file.
        found: String,
        /// How to fix it.
        advice: String,
    },
    /// The profile that a scheduler's declaration sets (`Scheduler::build_profile`) is no name of a cargo profile.
    #[error(
        "the scheduler `{name}` declares the build profile {profile:?}: expected the name of a cargo profile, such as `release`"
    )]
    BuildProfile {
        /// The name of the scheduler.
        name: String,
        /// The name of the profile as declared.
        profile: String,
    },
    /// The scheduler's package does not build.
    #[error(
        "the scheduler `{name}` does not build: {what} ended with {status}; the last lines of its output:\n{last_lines}"
    )]
    SchedulerBuild {
        /// The name of the scheduler.
        name: String,
        /// The build command and the folder in which it ran.
        what: String,
        /// The exit status of the command.
        status: String,
        /// The end of the command's output.
        last_lines: String,
    },
    /// A file that has to be packed into the guest is missing or cannot be read.
    #[error("{what} `{path}`: {cause}")]
    Include {
        /// The role of the file.
        what: &'static str,
        /// The path that was tried.
        path: String,
        /// The underlying I/O error.
        cause: std::io::Error,
    },
    /// A file that was named without a folder was not found.
    #[error(
        "file for the guest `{name}`: neither in the current folder nor a program of PATH; tried\n{looked}\n\
         install the program, or write the path of the file"
    )]
    IncludeNotFound {
        /// The name as declared.
        name: String,
        /// The places that were searched, one per line.
        looked: String,
    },
    /// The program of a payload, or a file that it needs, cannot be packed into the guest.
    #[error("payload `{payload}`: {cause}")]
    Payload {
        /// The name of the payload's declaration.
        payload: String,
        /// What is wrong with the file.
        cause: Box<RunError>,
    },
    /// Two files of the host would have the same path in the guest, or one would be below the other.
    #[error(
        "`{}` and `{}` would both be {place} in the guest, or one of them would be below the other there: rename one of them",
        first.display(),
        second.display()
    )]
    IncludeClash {
        /// The file of the host that was declared first.
        first: PathBuf,
        /// The other file.
        second: PathBuf,
        /// The path that the other file would have in the guest.
        place: String,
    },
    /// An environment variable has an invalid value.
    #[error("{name}={value}: {wanted}")]
    Environment {
        /// The name of the variable.
        name: &'static str,
        /// The value of the variable.
        value: String,
        /// Which values are accepted, or why this one is not.
        wanted: String,
    },
}

impl From<ktstr_state::env::Invalid> for RunError {
    fn from(invalid: ktstr_state::env::Invalid) -> Self {
        Self::Environment {
            name: invalid.name,
            value: invalid.value,
            wanted: invalid.wanted,
        }
    }
}

impl RunError {
    /// Returns 1 if the user has to fix the error, and 2 if the host is at fault.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Kernel(error) => error.exit_code(),
            Self::Machine(
                MachineError::Topology { .. }
                | MachineError::NotQemu { .. }
                | MachineError::NotExecuted { .. },
            ) => EXIT_FAIL,
            Self::Machine(_) | Self::State(_) => EXIT_INCONCLUSIVE,
            Self::Payload { cause, .. } => cause.exit_code(),
            Self::Declaration { .. }
            | Self::SchedulerNotFound { .. }
            | Self::SchedulerUnusable { .. }
            | Self::BuildProfile { .. }
            | Self::SchedulerBuild { .. }
            | Self::Include { .. }
            | Self::IncludeNotFound { .. }
            | Self::IncludeClash { .. }
            | Self::Environment { .. } => EXIT_FAIL,
        }
    }
}
