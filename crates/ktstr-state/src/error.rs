//! Errors of the folders and locks in which ktstr keeps a user's state.

use std::io;
use std::path::{Path, PathBuf};

use crate::Place;

/// Why a folder or a lock on disk cannot be used. Each of these is a fault of the host, never of a test or a scheduler.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The folder is a symbolic link.
    #[error(
        "{} {} is a symbolic link to {}, which ktstr does not follow, because whoever can change the link decides where \
         files are written; {}",
        place.name, path.display(), target.display(), place.remedy()
    )]
    Link {
        /// What the folder is for.
        place: Place,
        /// The path that is a link.
        path: PathBuf,
        /// The target of the link.
        target: PathBuf,
    },
    /// The path exists and is not a folder.
    #[error("{} {} is not a folder; remove it, or {}", place.name, path.display(), place.remedy())]
    NotAFolder {
        /// What the folder is for.
        place: Place,
        /// The path that is not a folder.
        path: PathBuf,
    },
    /// Another user owns the folder.
    #[error(
        "{} {} belongs to user {owner}, and this process runs as user {user}; what others can write is not trusted, so {}",
        place.name, path.display(), place.remedy()
    )]
    Foreign {
        /// What the folder is for.
        place: Place,
        /// The folder that belongs to another user.
        path: PathBuf,
        /// The user id of its owner.
        owner: u32,
        /// The user id of this process.
        user: u32,
    },
    /// This user owns the folder, but other users can write to it.
    #[error(
        "{} {} can be written by other users (mode {mode:03o}), so what lies there is not trusted; look through it, then run \
         `chmod go-w {}`, or {}",
        place.name, path.display(), path.display(), place.remedy()
    )]
    OthersCanWrite {
        /// What the folder is for.
        place: Place,
        /// The folder that others can write.
        path: PathBuf,
        /// The permission bits of the folder, from 0 to 0o777.
        mode: u32,
    },
    /// A system call failed.
    #[error("cannot {action} {} ({}): {cause}; check its permissions, or {}", path.display(), place.name, place.remedy())]
    Io {
        /// The operation that failed, as a verb phrase, such as `write the ticket`.
        action: &'static str,
        /// What the folder is for.
        place: Place,
        /// The file or folder.
        path: PathBuf,
        /// The underlying I/O error.
        cause: io::Error,
    },
}

impl StateError {
    pub(crate) fn io(
        action: &'static str,
        place: Place,
        path: &Path,
        cause: impl Into<io::Error>,
    ) -> Self {
        Self::Io {
            action,
            place,
            path: path.to_owned(),
            cause: cause.into(),
        }
    }

    /// Returns whether a system call failed because of the location: it does not exist, is read-only, or may not be
    /// accessed. The caller may then try another location.
    pub fn is_unwritable(&self) -> bool {
        matches!(self, Self::Io { cause, .. } if matches!(
            cause.kind(),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::NotFound
        ))
    }
}
