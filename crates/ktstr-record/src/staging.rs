//! Staging folders: where a run is written before it is moved into place, and how the dead ones are swept.
//!
//! A lock is an flock on the folder itself. It needs no file of its own, moves with the folder when that is renamed,
//! and the kernel drops it however its holder ends.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::RecordError;

/// The hidden folder, beside the runs, that holds the unfinished ones.
pub(crate) const STAGING: &str = ".staging";

/// A locked staging folder of this process.
#[derive(Debug)]
pub(crate) struct Staging {
    pub(crate) path: PathBuf,
    /// Held for its lock alone.
    _lock: File,
}

/// Makes and locks the staging folder `name` under `root`, after sweeping what dead processes left.
///
/// `Ok(None)` if the name is taken, by a folder in the making or by a finished run.
pub(crate) fn enter(root: &Path, name: &str) -> Result<Option<Staging>, RecordError> {
    let staging = root.join(STAGING);
    fs::create_dir_all(&staging).map_err(|e| RecordError::io("create", &staging, e))?;
    // Without this lock a sweeper could take a folder for a dead one between its creation and its locking.
    let gate = File::open(&staging).map_err(|e| RecordError::io("open", &staging, e))?;
    gate.lock()
        .map_err(|e| RecordError::io("lock", &staging, e))?;
    sweep(&staging);

    let path = staging.join(name);
    if root.join(name).exists() {
        return Ok(None);
    }
    match fs::create_dir(&path) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        Err(e) => return Err(RecordError::io("create", &path, e)),
    }
    let lock = File::open(&path).map_err(|e| RecordError::io("open", &path, e))?;
    lock.lock().map_err(|e| RecordError::io("lock", &path, e))?;
    Ok(Some(Staging { path, _lock: lock }))
}

/// Removes every staging folder that nobody holds a lock on. Best effort: a folder that cannot be removed today is
/// tried again by the next run.
fn sweep(staging: &Path) {
    let Ok(entries) = fs::read_dir(staging) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let Ok(folder) = File::open(&path) else {
            continue;
        };
        match folder.try_lock() {
            Ok(()) => {
                let _ = fs::remove_dir_all(&path);
            }
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
}
