//! Locks between the processes of one user. They are flocks, which the kernel releases however the holder ends.
//!
//! A process that waits longer than [`PATIENCE`] prints which process holds the lock. No forked child inherits
//! a lock (`inherit.rs`).

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::inherit::{self, OwnFile};
use crate::{Folder, Place, StateError};

/// If a wait for a lock, or for a turn in a [`Queue`](crate::Queue), takes longer than this, it is reported to the user.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// The interval at which a lock is polled during the first [`PATIENCE`]. After that the process blocks until it gets the lock.
const POLL: Duration = Duration::from_millis(10);

/// A lock that this process holds. Dropping it releases the lock.
#[derive(Debug)]
pub struct Lock {
    file: OwnFile,
    path: PathBuf,
}

impl Lock {
    /// Waits for the exclusive lock of the file `path`, which is created if it is missing. In the notice to a
    /// waiting user, `what` names what the lock protects, such as "the kernel cache".
    pub fn take(path: &Path, place: Place, what: &str) -> Result<Self, StateError> {
        Self::open(path, place)?.wait(place, what)
    }

    /// Waits for the exclusive lock of a folder itself, like [`Lock::take`]. The lock stays with the folder when the
    /// folder is renamed.
    pub fn of_folder(folder: &Folder, what: &str) -> Result<Self, StateError> {
        Self::open_folder(folder)?.wait(folder.place(), what)
    }

    /// Takes the exclusive lock of the file `path`. Returns `None` if another process, or this one, holds it already.
    pub fn try_take(path: &Path, place: Place) -> Result<Option<Self>, StateError> {
        let lock = Self::open(path, place)?;
        Ok(match lock.attempt(place)? {
            true => Some(lock),
            false => None,
        })
    }

    /// Takes the exclusive lock of a folder. Returns `None` if another process, or this one, holds it already.
    pub fn try_of_folder(folder: &Folder) -> Result<Option<Self>, StateError> {
        let lock = Self::open_folder(folder)?;
        Ok(match lock.attempt(folder.place())? {
            true => Some(lock),
            false => None,
        })
    }

    /// Returns the locked file or folder, which is open.
    pub fn file(&self) -> &File {
        &self.file
    }

    fn open(path: &Path, place: Place) -> Result<Self, StateError> {
        let open = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(path)
        };
        let file =
            inherit::open(open).map_err(|e| StateError::io("open the lock", place, path, e))?;
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    fn open_folder(folder: &Folder) -> Result<Self, StateError> {
        let file = inherit::open(|| folder.reopen())
            .map_err(|e| StateError::io("open", folder.place(), folder.path(), e))?;
        Ok(Self {
            file,
            path: folder.path().to_owned(),
        })
    }

    fn attempt(&self, place: Place) -> Result<bool, StateError> {
        match self.file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(e)) => Err(StateError::io("lock", place, &self.path, e)),
        }
    }

    fn wait(self, place: Place, what: &str) -> Result<Self, StateError> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if self.attempt(place)? {
                return Ok(self);
            }
            std::thread::sleep(POLL);
        }
        eprintln!("{}", self.notice(what));
        self.file
            .lock()
            .map_err(|e| StateError::io("lock", place, &self.path, e))?;
        Ok(self)
    }

    /// Returns the message for the user of a waiting process.
    fn notice(&self, what: &str) -> String {
        let holders = Holder::of(&self.file).unwrap_or_default();
        let holders = if holders.is_empty() {
            "a process that /proc/locks does not show".to_owned()
        } else {
            let all: Vec<String> = holders.iter().map(Holder::to_string).collect();
            all.join(", ")
        };
        format!(
            "ktstr: waiting for {what}: {holders} holds the lock {}",
            self.path.display()
        )
    }
}

/// A process that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The process id of the holder.
    pub pid: u32,
    /// The name of the process; empty if it cannot be read.
    pub name: String,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {}", self.pid)?;
        if !self.name.is_empty() {
            write!(f, " ({})", self.name)?;
        }
        Ok(())
    }
}

impl Holder {
    /// Returns the processes that hold an flock on this file, according to /proc/locks. A holder of a file with the same
    /// inode number on another file system is included, too.
    pub fn of(file: &File) -> io::Result<Vec<Self>> {
        let inode = file.metadata()?.ino();
        let text = std::fs::read_to_string("/proc/locks")?;
        let pids = pids_in(&text, inode);
        let name = |pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Ok(pids
            .into_iter()
            .map(|pid| Self {
                pid,
                name: name(pid).trim().to_owned(),
            })
            .collect())
    }
}

/// Parses /proc/locks (see `proc_locks(5)`) for the holders of flocks on `inode`. Lines of waiting processes have an
/// arrow and are skipped. The device is not compared, because some file systems show one device in /proc/locks and
/// another in stat(2).
fn pids_in(text: &str, inode: u64) -> Vec<u32> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (kind, pid) = (fields.next()?, fields.nth(2)?);
            let of = fields.next()?.rsplit(':').next()?.parse::<u64>().ok()?;
            (kind == "FLOCK" && of == inode).then(|| pid.parse().ok())?
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use super::*;

    const PLACE: Place = Place::CACHE;

    #[test]
    fn a_lock_has_one_holder_and_is_free_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        let lock = Lock::take(&path, PLACE, "x").unwrap();
        assert!(Lock::try_take(&path, PLACE).unwrap().is_none());
        drop(lock);
        assert!(Lock::try_take(&path, PLACE).unwrap().is_some());
        let mode = std::fs::metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_folder_is_locked_without_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::private(dir.path(), PLACE).unwrap();
        let lock = Lock::of_folder(&folder, "x").unwrap();
        assert!(Lock::try_of_folder(&folder).unwrap().is_none());
        drop(lock);
        assert!(Lock::try_of_folder(&folder).unwrap().is_some());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_lock_file_that_is_a_link_is_rejected() {
        let dir = tempfile::tempdir().unwrap();
        let (elsewhere, path) = (dir.path().join("elsewhere"), dir.path().join("x.lock"));
        symlink(&elsewhere, &path).unwrap();
        let error = Lock::take(&path, PLACE, "x").unwrap_err();
        assert!(error.to_string().contains("x.lock"), "{error}");
        assert!(!elsewhere.exists());
    }

    #[test]
    fn the_notice_names_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        let held = Lock::take(&path, PLACE, "x").unwrap();
        let waiter = Lock::open(&path, PLACE).unwrap();
        let notice = waiter.notice("the kernel cache");
        let us = format!("process {} (", std::process::id());
        for part in ["waiting for the kernel cache", &us, "x.lock"] {
            assert!(notice.contains(part), "no {part} in {notice}");
        }
        drop(held);
    }

    #[test]
    fn a_waiter_gets_the_lock_that_is_released_after_the_notice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        let held = Lock::take(&path, PLACE, "x").unwrap();
        let other = path.clone();
        let waiter = std::thread::spawn(move || Lock::take(&other, PLACE, "x").is_ok());
        std::thread::sleep(PATIENCE + Duration::from_millis(100));
        assert!(!waiter.is_finished());
        drop(held);
        assert!(waiter.join().unwrap());
    }

    #[test]
    fn the_holders_are_parsed_from_proc_locks() {
        let text = "1: POSIX  ADVISORY  WRITE 11 08:02:77 0 EOF\n\
                    2: FLOCK  ADVISORY  WRITE 22 08:02:77 0 EOF\n\
                    2: -> FLOCK  ADVISORY  WRITE 33 08:02:77 0 EOF\n\
                    3: FLOCK  ADVISORY  READ 44 00:1b:78 0 EOF\n";
        assert_eq!(pids_in(text, 77), [22]);
        assert_eq!(pids_in(text, 78), [44]);
        assert_eq!(pids_in("nonsense\n1: FLOCK\n", 77), [0u32; 0]);
    }

    #[test]
    fn a_forked_child_does_not_hold_its_parents_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("x.lock");
        let _lock = Lock::take(&path, PLACE, "x").unwrap();
        // SAFETY: the child only stops itself until it is killed.
        let child = unsafe { libc::fork() };
        if child == 0 {
            loop {
                // SAFETY: no memory is involved.
                unsafe { libc::raise(libc::SIGSTOP) };
            }
        }
        assert!(child > 0);
        // The child has returned from fork(2) once it has stopped.
        // SAFETY: our own child; the status is not requested.
        let stopped = unsafe { libc::waitpid(child, std::ptr::null_mut(), libc::WUNTRACED) };
        assert_eq!(stopped, child);
        let still_ours = Lock::try_take(&path, PLACE).unwrap().is_none();
        let has = |pid: i32| {
            let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
            fds.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok())
                .any(|open| open == path)
        };
        let parent_has = has(std::process::id().cast_signed());
        let child_has = has(child);
        // SAFETY: our own child, which nobody else waits for.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
        assert!(still_ours, "the fork took the lock from its parent");
        assert!(parent_has, "the lock's file is not open under its path");
        assert!(!child_has, "the child has the lock's file open");
    }

    /// A spawned child shares the lock's descriptor until its exec. In this test a clone of the descriptor plays that part.
    #[test]
    fn a_lock_is_free_after_its_release_even_if_a_spawned_child_shares_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        let lock = Lock::take(&path, PLACE, "x").unwrap();
        let shared = lock.file().try_clone().unwrap();
        drop(lock);
        assert!(Lock::try_take(&path, PLACE).unwrap().is_some());
        drop(shared);
    }
}
