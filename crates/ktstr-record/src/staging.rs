//! Staging folders: where a run is written before it is moved into place, and how the leftovers of dead processes are removed.
//!
//! A lock is an flock on the folder itself. It needs no separate file, stays on a folder that is renamed, and is released by
//! the kernel however its holder ends.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use ktstr_state::{Folder, Lock, Place};

use crate::error::RecordError;

/// The name of the hidden folder, next to the finished runs, that holds the unfinished runs.
pub(crate) const STAGING: &str = ".staging";

/// A staging folder that this process has locked.
#[derive(Debug)]
pub(crate) struct Staging {
    pub(crate) path: PathBuf,
    /// The lock on the folder, which is held until this value is dropped.
    _lock: Lock,
}

/// Creates and locks the staging folder `name` under `root`, after removing the staging folders of dead processes.
///
/// Other users may read the root, like the rest of cargo's target folder, but it must belong to this user, and nobody else may
/// write to it. The folders of runs are accessible to this user alone, since they hold the output of the guest.
///
/// Returns `Ok(None)` if the name is taken by an unfinished or a finished run.
pub(crate) fn enter(root: &Path, name: &str) -> Result<Option<Staging>, RecordError> {
    let staging = Folder::owned(root, Place::RUNS)?.subfolder(STAGING)?;
    // Without this lock, another process could remove the folder between its creation and its locking.
    let _gate = Lock::of_folder(&staging, "another run that begins its record")?;
    sweep(staging.path());

    let path = staging.path().join(name);
    if root.join(name).exists() {
        return Ok(None);
    }
    match DirBuilder::new().mode(0o700).create(&path) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        Err(e) => return Err(RecordError::io("create", &path, e)),
    }
    let folder = Folder::private(&path, Place::RUNS)?;
    let lock = Lock::of_folder(&folder, "the record of this run")?;
    Ok(Some(Staging { path, _lock: lock }))
}

/// Removes every staging folder that is not locked. This is best effort: the next run tries again to remove a folder that
/// cannot be removed now.
fn sweep(staging: &Path) {
    let Ok(entries) = fs::read_dir(staging) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let Ok(Some(folder)) = Folder::existing(&path, Place::RUNS) else {
            continue;
        };
        if let Ok(Some(_lock)) = Lock::try_of_folder(&folder) {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn runs_are_closed_to_others_and_their_root_keeps_its_mode() {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let staging = enter(root.path(), "run").unwrap().unwrap();
        assert_eq!(mode(root.path()), 0o755);
        assert_eq!(mode(&root.path().join(STAGING)), 0o700);
        assert_eq!(mode(&staging.path), 0o700);
    }

    #[test]
    fn a_root_that_others_can_write_or_lead_elsewhere_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let (real, link) = (root.path().join("real"), root.path().join("link"));
        fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        let error = enter(&link, "run").unwrap_err().to_string();
        assert!(
            error.contains("is a symbolic link") && error.contains("KTSTR_RUNS_ROOT"),
            "{error}"
        );
        fs::set_permissions(&real, fs::Permissions::from_mode(0o777)).unwrap();
        let error = enter(&real, "run").unwrap_err().to_string();
        assert!(error.contains("can be written by other users"), "{error}");
        assert_eq!(fs::read_dir(&real).unwrap().count(), 0);
    }
}
