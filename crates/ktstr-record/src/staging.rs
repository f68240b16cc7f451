//! Staging folders: where a run is written before it is moved into place, and how the dead ones are swept.
//!
//! A lock is an flock on the folder itself. It needs no file of its own, moves with the folder when that is renamed,
//! and the kernel drops it however its holder ends.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use ktstr_state::{Folder, Lock, Place};

use crate::error::RecordError;

/// The hidden folder, beside the runs, that holds the unfinished ones.
pub(crate) const STAGING: &str = ".staging";

/// A locked staging folder of this process.
#[derive(Debug)]
pub(crate) struct Staging {
    pub(crate) path: PathBuf,
    /// Held for its lock alone.
    _lock: Lock,
}

/// Makes and locks the staging folder `name` under `root`, after sweeping what dead processes left.
///
/// The root may be read by others, as the rest of cargo's target folder; it must be this user's, and nobody else may
/// write it. The folders of runs are this user's alone: they hold what the guest printed.
///
/// `Ok(None)` if the name is taken, by a folder in the making or by a finished run.
pub(crate) fn enter(root: &Path, name: &str) -> Result<Option<Staging>, RecordError> {
    let staging = Folder::owned(root, Place::RUNS)?.subfolder(STAGING)?;
    // Without this lock a sweeper could take a folder for a dead one between its creation and its locking.
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

/// Removes every staging folder that nobody holds a lock on. Best effort: a folder that cannot be removed today is
/// tried again by the next run.
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
