//! The error type of this crate.

use std::io;
use std::path::{Path, PathBuf};

/// Why a run's record could not be written or read, or the runs could not be listed or removed.
///
/// None of these errors concerns the scheduler under test: a caller attributes them to the host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The file system is full or over quota.
    #[error(
        "cannot {action} {}: the disk is full; free some space there, or point KTSTR_RUNS_ROOT at another disk",
        path.display()
    )]
    DiskFull {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or folder on which it was tried.
        path: PathBuf,
    },
    /// Any other failure of the file system.
    #[error("cannot {action} {}: {cause}; check the path and its permissions, or set KTSTR_RUNS_ROOT", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or folder on which it was tried.
        path: PathBuf,
        /// The error of the operating system.
        cause: io::Error,
    },
    /// The folder of runs is not this user's, or cannot be used.
    #[error(transparent)]
    State(ktstr_state::StateError),
    /// An artefact's name is not a plain file name, or is the name of the record.
    #[error(
        "artefact name {name:?} refused: use a plain file name other than `record.json`, without `/`"
    )]
    ArtefactName {
        /// The name that was asked for.
        name: String,
    },
    /// A record that does not exist or cannot be parsed.
    #[error("cannot read the record {}: {why}", path.display())]
    Damaged {
        /// The path of the `record.json` that was to be read.
        path: PathBuf,
        /// Why the record could not be read, in one line.
        why: String,
    },
    /// A value could not be turned into JSON.
    #[error("cannot write {name} as JSON: {cause}")]
    Json {
        /// The file that was to be written.
        name: String,
        /// The error of the serializer.
        cause: serde_json::Error,
    },
}

impl RecordError {
    /// Wraps an error of the file system; a full disk is a separate variant, since its remedy differs.
    pub(crate) fn io(action: &'static str, path: &Path, cause: io::Error) -> Self {
        let path = path.to_path_buf();
        match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { action, path }
            }
            _ => Self::Io {
                action,
                path,
                cause,
            },
        }
    }
}

impl From<ktstr_state::StateError> for RecordError {
    fn from(error: ktstr_state::StateError) -> Self {
        match error {
            ktstr_state::StateError::Io {
                action,
                path,
                cause,
                ..
            } => Self::io(action, &path, cause),
            other => Self::State(other),
        }
    }
}
