//! The exit codes, and which error leads to which code.

use std::ffi::{OsStr, OsString};
use std::io;
use std::process::ExitCode;

use ktstr_kernel::KernelError;
use ktstr_record::RecordError;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The command succeeded, or the run passed or was skipped.
    Done = 0,
    /// The run failed, or the user asked for something impossible.
    Failed = 1,
    /// The host lacks something, or the run was inconclusive.
    Host = 2,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Returns how a run of a test ended, from the exit code of its process.
pub fn from_code(code: i32) -> Exit {
    match code {
        ktstr::test_support::EXIT_PASS => Exit::Done,
        ktstr::test_support::EXIT_FAIL => Exit::Failed,
        _ => Exit::Host,
    }
}

/// Returns [`Exit::Failed`] for an error about a kernel or an artefact that the user can avoid by asking for another one,
/// and [`Exit::Host`] for any other error.
pub fn of(error: &anyhow::Error) -> Exit {
    match error.downcast_ref::<KernelError>() {
        Some(kernel) if kernel.exit_code() == 1 => Exit::Failed,
        _ => match error.downcast_ref::<RecordError>() {
            Some(RecordError::ArtefactName { .. }) => Exit::Failed,
            _ => Exit::Host,
        },
    }
}

/// Returns the exit code for an invalid command line. It is 2 for the commands for which 1 is a result: the scheduler is broken
/// (`check`, `compare`, `merge` and `verifier`), or the two runs differ (`replay`).
pub fn of_usage(args: impl Iterator<Item = OsString>) -> Exit {
    let command = args.skip(1).find(|word| word != "ktstr");
    match command.as_deref().and_then(OsStr::to_str) {
        Some("check" | "compare" | "merge" | "replay" | "verifier") => Exit::Host,
        _ => Exit::Failed,
    }
}

/// Returns whether the reader of our output has closed the pipe.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
        || error
            .downcast_ref::<serde_json::Error>()
            .is_some_and(|e| e.io_error_kind() == Some(io::ErrorKind::BrokenPipe))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheduler_is_not_broken_by_a_wrong_flag() {
        let of = |line: &str| of_usage(line.split(' ').map(OsString::from));
        assert_eq!(of("cargo-ktstr ktstr check --nonsense"), Exit::Host);
        assert_eq!(of("cargo-ktstr compare"), Exit::Host);
        assert_eq!(of("cargo-ktstr ktstr replay"), Exit::Host);
        assert_eq!(of("cargo-ktstr runs check"), Exit::Failed);
        assert_eq!(of("cargo-ktstr"), Exit::Failed);
    }

    #[test]
    fn faults_of_the_user_and_of_the_host_are_distinguished() {
        let spec = KernelError::NoSuchRequest {
            request: "x".to_owned(),
        };
        assert_eq!(
            of(&anyhow::Error::new(spec).context("while looking")),
            Exit::Failed
        );
        assert_eq!(of(&anyhow::Error::new(KernelError::NoCacheDir)), Exit::Host);
        assert_eq!(of(&anyhow::anyhow!("anything")), Exit::Host);
    }
}
