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
