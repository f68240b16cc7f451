//! A template on disk: written whole or not at all, checked before each use.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ktstr_machine::{WatchPoints, anonymous_file};
use ktstr_mailbox::Place;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::{Stamps, WarmError, sparse};
use crate::run::conversation::Places;
use crate::run::transcript::{Attached, Hello, Transcript};
use crate::vm_result::GuestLifecyclePhase;

const DESCRIPTION: &str = "template.json";
const STATE: &str = "state";
const LOCKS: &str = ".locks";

/// What the host must know of a template.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Description {
    pub(super) key: String,
    /// For people.
    pub(super) what: String,
    pub(super) kernel: PathBuf,
    pub(super) qemu: PathBuf,
    state: Checked,
    ram: Vec<Untouched>,
    agent: (u64, u32),
    host: (u64, u32),
    hello: Option<Hello>,
    attached: Option<Attached>,
    #[serde(default)]
    loaded: bool,
    scheduler_log: String,
    /// What the guest had printed.
    pub(super) console: String,
    pub(super) present: Stamps,
    /// Where the virtual clock's plugin looks.
    pub(super) points: WatchPoints,
}

/// A small file, known by its checksum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Checked {
    len: u64,
    crc32: u32,
}

/// A large file, known by its size and by when it was last written: reading it all would take
/// longer than a fork.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Untouched {
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A template ready for use.
#[derive(Debug)]
pub(super) struct Template {
    folder: PathBuf,
    pub(super) description: Description,
    /// Guest RAM, a file a node.
    pub(super) ram: Vec<File>,
}

impl Template {
    /// Opens and checks the template `key`. `None`: there is none.
    pub(super) fn open(root: &Path, key: &str) -> Result<Option<Self>, WarmError> {
        let folder = root.join(key);
        let text = match std::fs::read(folder.join(DESCRIPTION)) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !folder.exists() => {
                return Ok(None);
            }
            Err(e) => return Err(damaged(key, format!("{DESCRIPTION}: {e}"))),
        };
        let description: Description = serde_json::from_slice(&text)
            .map_err(|e| damaged(key, format!("{DESCRIPTION}: {e}")))?;
        if description.key != key {
            return Err(damaged(key, format!("it says it is {}", description.key)));
        }
        let state =
            checked(&folder.join(STATE)).map_err(|e| damaged(key, format!("{STATE}: {e}")))?;
        if state != description.state {
            return Err(damaged(key, "its device state has changed".to_owned()));
        }
        let mut ram = Vec::new();
        for (node, expected) in description.ram.iter().enumerate() {
            let file = File::open(folder.join(ram_name(node)))
                .map_err(|e| damaged(key, format!("{}: {e}", ram_name(node))))?;
            let found = untouched(&file).map_err(|e| damaged(key, e.to_string()))?;
            if found != *expected {
                return Err(damaged(key, "its RAM has been written to".to_owned()));
            }
            ram.push(file);
        }
        touch(root, key);
        Ok(Some(Self {
            folder,
            description,
            ram,
        }))
    }

    /// Path of the device state.
    pub(super) fn state(&self) -> PathBuf {
        self.folder.join(STATE)
    }

    /// Where both sides of the mailbox stood.
    pub(super) fn places(&self) -> Places {
        let place = |(bytes, sequence)| Place { bytes, sequence };
        Places {
            agent: place(self.description.agent),
            host: place(self.description.host),
        }
    }

    /// What the guest had said.
    pub(super) fn said(&self) -> Transcript {
        Transcript {
            hello: self.description.hello.clone(),
            attached: self.description.attached.clone(),
            prepared: self.description.attached.is_some(),
            loaded: self.description.loaded,
            scheduler_log: self.description.scheduler_log.clone(),
            phase: GuestLifecyclePhase::Attach,
            ..Transcript::default()
        }
    }
}

/// Marks a template as used, for whoever has to make room.
pub(super) fn touch(root: &Path, key: &str) {
    let _ = File::options()
        .append(true)
        .open(root.join(key).join(DESCRIPTION))
        .and_then(|file| file.set_modified(SystemTime::now()));
}

fn damaged(key: &str, reason: String) -> WarmError {
    WarmError::Damaged {
        key: key.to_owned(),
        reason,
    }
}

fn ram_name(node: usize) -> String {
    format!("ram{node}")
}

fn checked(path: &Path) -> std::io::Result<Checked> {
    let bytes = std::fs::read(path)?;
    Ok(Checked {
        len: bytes.len() as u64,
        crc32: crc32fast::hash(&bytes),
    })
}

fn untouched(file: &File) -> std::io::Result<Untouched> {
    let meta = file.metadata()?;
    Ok(Untouched {
        len: meta.len(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
    })
}

/// A template in the making: a folder aside that goes away unless it is committed.
#[derive(Debug)]
pub(super) struct Making {
    root: PathBuf,
    key: String,
    folder: PathBuf,
    /// Guest RAM while the template is made, in memory: a guest whose RAM is a file of a disk
    /// waits for the disk.
    pub(super) ram: Vec<File>,
    committed: bool,
    _lock: Lock,
}

/// Takes the right to make `key`, waiting for another maker. `None`: it was made meanwhile.
pub(super) fn begin(root: &Path, key: &str, nodes: &[u64]) -> Result<Option<Making>, WarmError> {
    let lock = lock_file(root, key)?;
    flock(&lock, FlockOperation::LockExclusive)
        .map_err(|e| WarmError::files("waiting for another maker of the template", e))?;
    if root.join(key).exists() {
        return Ok(None);
    }
    let folder = root.join(format!(".making-{key}"));
    // Whoever left it there did not hold the lock any more.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)
        .map_err(|e| WarmError::files(format!("making {}", folder.display()), e))?;
    let mut making = Making {
        root: root.to_owned(),
        key: key.to_owned(),
        folder,
        ram: Vec::new(),
        committed: false,
        _lock: lock,
    };
    for len in nodes {
        making.ram.push(anonymous_file("ktstr-template", *len)?);
    }
    Ok(Some(making))
}

/// The lock of a template. It is released when this is dropped, even if a process that was forked
/// meanwhile, and goes on without an exec, has inherited the descriptor: the lock is that of the open
/// file, which both share (flock(2)).
#[derive(Debug)]
pub(super) struct Lock(File);

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // If it was not held, nothing happens.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// The lock of `key`, not yet taken.
pub(super) fn lock_file(root: &Path, key: &str) -> Result<Lock, WarmError> {
    let folder = root.join(LOCKS);
    std::fs::create_dir_all(&folder)
        .map_err(|e| WarmError::files(format!("making {}", folder.display()), e))?;
    let path = folder.join(key);
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map(Lock)
        .map_err(|e| WarmError::files(format!("opening {}", path.display()), e))
}

/// What is told of a finished template, besides its files.
pub(super) struct Told<'a> {
    pub(super) what: String,
    pub(super) kernel: PathBuf,
    pub(super) qemu: PathBuf,
    pub(super) places: Places,
    pub(super) said: &'a Transcript,
    pub(super) console: String,
    pub(super) present: Stamps,
    pub(super) points: WatchPoints,
}

impl Making {
    /// Where the device state belongs.
    pub(super) fn state(&self) -> PathBuf {
        self.folder.join(STATE)
    }

    /// Makes the template visible. Its QEMU must be gone.
    pub(super) fn commit(mut self, told: Told) -> Result<(), WarmError> {
        let wrap = |e| WarmError::files(format!("writing the template {}", self.key), e);
        let ram = (0..self.ram.len())
            .map(|node| self.keep_ram(node))
            .collect::<std::io::Result<_>>()
            .map_err(wrap)?;
        let place = |p: Place| (p.bytes, p.sequence);
        let description = Description {
            key: self.key.clone(),
            what: told.what,
            kernel: told.kernel,
            qemu: told.qemu,
            state: checked(&self.state()).map_err(wrap)?,
            ram,
            agent: place(told.places.agent),
            host: place(told.places.host),
            hello: told.said.hello.clone(),
            attached: told.said.attached.clone(),
            loaded: told.said.loaded,
            scheduler_log: told.said.scheduler_log.clone(),
            console: told.console,
            present: told.present,
            points: told.points,
        };
        let text = serde_json::to_vec(&description).map_err(|e| wrap(e.into()))?;
        std::fs::write(self.folder.join(DESCRIPTION), text).map_err(wrap)?;
        std::fs::rename(&self.folder, self.root.join(&self.key)).map_err(wrap)?;
        self.committed = true;
        Ok(())
    }
}

impl Making {
    /// Writes a node's RAM to its file.
    fn keep_ram(&self, node: usize) -> std::io::Result<Untouched> {
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(self.folder.join(ram_name(node)))?;
        sparse::copy(&self.ram[node], &file)?;
        untouched(&file)
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if !self.committed {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// Throws a template away, under its lock, so that nobody takes half of it.
pub(super) fn discard(root: &Path, key: &str) -> Result<(), WarmError> {
    let lock = lock_file(root, key)?;
    flock(&lock, FlockOperation::LockExclusive)
        .map_err(|e| WarmError::files("waiting for a maker of the template", e))?;
    let aside = root.join(format!(".making-{key}"));
    let _ = std::fs::remove_dir_all(&aside);
    match std::fs::rename(root.join(key), &aside) {
        Ok(()) => std::fs::remove_dir_all(&aside)
            .map_err(|e| WarmError::files(format!("removing {}", aside.display()), e)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(WarmError::files(format!("removing the template {key}"), e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_released_though_a_forked_process_has_its_descriptor() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let lock = lock_file(root.path(), "key").expect("own folder");
        flock(&lock, FlockOperation::NonBlockingLockExclusive).expect("nobody has it");
        // What a fork leaves in the child, as a second descriptor of the same open file.
        let inherited = lock.0.try_clone().expect("a descriptor");
        let other = lock_file(root.path(), "key").expect("own folder");
        let take = || flock(&other, FlockOperation::NonBlockingLockExclusive);
        assert!(take().is_err());
        drop(lock);
        assert!(take().is_ok());
        drop(inherited);
    }
}
