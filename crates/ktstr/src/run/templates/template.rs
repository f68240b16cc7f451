//! A template on disk. It is written completely or not at all, and checked before each use.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ktstr_machine::{WatchPoints, anonymous_file};
use ktstr_mailbox::RingCursor;
use ktstr_state::{Folder, Lock, Place, create_file};
use serde::{Deserialize, Serialize};

use super::{Stamps, TemplateError, sparse};
use crate::run::guest_session::RingCursors;
use crate::run::guest_state::{Attached, GuestState, Hello};
use crate::vm_result::GuestLifecyclePhase;

const DESCRIPTION: &str = "template.json";
const STATE: &str = "state";
/// The name of a file that identifies a boot of the host: the boot during which the RAM files were written, or were last read in
/// whole to verify them.
const READ_IN: &str = "read-in";
const LOCKS: &str = ".locks";

/// The host's description of a template.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Description {
    pub(super) key: String,
    /// A description of the template for people.
    pub(super) what: String,
    pub(super) kernel: PathBuf,
    pub(super) qemu: PathBuf,
    state: FileChecksum,
    ram: Vec<FileStamp>,
    /// The positions in the rings of PID 1 and of the host: bytes and sequence number.
    agent: (u64, u32),
    host: (u64, u32),
    hello: Option<Hello>,
    attached: Option<Attached>,
    #[serde(default)]
    loaded: bool,
    /// The hash of the test's program that is loaded, as it is packed; `None` if none is.
    #[serde(default)]
    pub(super) program: Option<String>,
    scheduler_log: String,
    /// The console output of the guest.
    pub(super) console: String,
    pub(super) present: Stamps,
    /// The kernel addresses that the virtual clock's plugin observes.
    pub(super) points: WatchPoints,
}

/// A small file, which is verified by its checksum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FileChecksum {
    len: u64,
    crc32: u32,
}

/// A large file, which is verified by its size and its times: reading all of it would take longer than a fork. A time is
/// in seconds and nanoseconds (`st_mtime` and `st_ctime`).
///
/// After the host lost power, a file may have its size and its times but not its contents, because ktstr does not wait until the
/// contents are on the disk. The checksum of the contents is therefore verified once in each boot of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FileStamp {
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    /// The checksum of the contents, by [`sparse::checksum`].
    crc32: u32,
}

/// A template that is ready for use.
#[derive(Debug)]
pub(super) struct Template {
    folder: PathBuf,
    pub(super) description: Description,
    /// Guest RAM, one file per node.
    pub(super) ram: Vec<File>,
}

impl Template {
    /// Opens and checks the template `key`, and marks it as used. Returns `None` if it does not exist.
    pub(super) fn open(root: &Path, key: &str) -> Result<Option<Self>, TemplateError> {
        let folder = root.join(key);
        match Folder::existing(&folder, Place::CACHE) {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(None),
            Err(error) => return Err(damaged(key, error.to_string())),
        }
        let text = match std::fs::read(folder.join(DESCRIPTION)) {
            Ok(text) => text,
            // Another process has just removed the template to free space.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !folder.exists() => {
                return Ok(None);
            }
            Err(e) => return Err(damaged(key, format!("{DESCRIPTION}: {e}"))),
        };
        let description: Description = serde_json::from_slice(&text)
            .map_err(|e| damaged(key, format!("{DESCRIPTION}: {e}")))?;
        if description.key != key {
            return Err(damaged(
                key,
                format!("its description names the key {}", description.key),
            ));
        }
        let state =
            checksum(&folder.join(STATE)).map_err(|e| damaged(key, format!("{STATE}: {e}")))?;
        if state != description.state {
            return Err(damaged(key, "its device state has changed".to_owned()));
        }
        let boot = boot_of_host();
        let read_in = std::fs::read_to_string(folder.join(READ_IN)).ok();
        let was_read = boot.is_some() && read_in == boot;
        let mut ram = Vec::new();
        for (node, expected) in description.ram.iter().enumerate() {
            let name = ram_name(node);
            let file =
                File::open(folder.join(&name)).map_err(|e| damaged(key, format!("{name}: {e}")))?;
            if let Some(wrong) = not_ours(&file).map_err(|e| damaged(key, e.to_string()))? {
                return Err(damaged(key, format!("its RAM, {name}, {wrong}")));
            }
            let crc32 = match was_read {
                true => Ok(expected.crc32),
                false => sparse::checksum(&file),
            };
            let found = crc32.and_then(|crc32| file_stamp(&file, crc32));
            let found = found.map_err(|e| damaged(key, format!("{name}: {e}")))?;
            if found.crc32 != expected.crc32 {
                let reason = format!(
                    "its RAM, {name}, does not have the contents that were saved; the host may have lost power before they \
                     were on the disk"
                );
                return Err(damaged(key, reason));
            }
            if found != *expected {
                return Err(damaged(key, "its RAM has been written to".to_owned()));
            }
            ram.push(file);
        }
        if let Some(boot) = boot.filter(|_| !was_read) {
            // If this cannot be written, the next run reads the RAM again.
            let _ = std::fs::write(folder.join(READ_IN), boot);
        }
        touch(root, key);
        Ok(Some(Self {
            folder,
            description,
            ram,
        }))
    }

    /// Returns the path of the device state.
    pub(super) fn state(&self) -> PathBuf {
        self.folder.join(STATE)
    }

    /// Returns the positions in the mailbox's rings that both sides had reached.
    pub(super) fn cursors(&self) -> RingCursors {
        let cursor = |(bytes, sequence)| RingCursor { bytes, sequence };
        RingCursors {
            agent: cursor(self.description.agent),
            host: cursor(self.description.host),
        }
    }

    /// Returns what the guest had reported, as far as the template keeps it.
    pub(super) fn guest_state(&self) -> GuestState {
        GuestState {
            hello: self.description.hello.clone(),
            attached: self.description.attached.clone(),
            prepared: self.description.attached.is_some(),
            loaded: self.description.loaded,
            scheduler_log: self.description.scheduler_log.clone(),
            phase: GuestLifecyclePhase::Attach,
            ..GuestState::default()
        }
    }
}

/// Marks a template as used, so that it is among the last to be removed when space is needed. If that fails, the only
/// consequence is that the template may be removed earlier.
pub(super) fn touch(root: &Path, key: &str) {
    let _ = File::options()
        .append(true)
        .open(root.join(key).join(DESCRIPTION))
        .and_then(|file| file.set_modified(SystemTime::now()));
}

fn damaged(key: &str, reason: String) -> TemplateError {
    TemplateError::Damaged {
        key: key.to_owned(),
        reason,
    }
}

fn ram_name(node: usize) -> String {
    format!("ram{node}")
}

fn checksum(path: &Path) -> std::io::Result<FileChecksum> {
    let bytes = std::fs::read(path)?;
    Ok(FileChecksum {
        len: bytes.len() as u64,
        crc32: crc32fast::hash(&bytes),
    })
}

/// Returns what is wrong with the owner or the permissions of a template's file; `None` if nothing is.
fn not_ours(file: &File) -> std::io::Result<Option<String>> {
    let meta = file.metadata()?;
    let user = rustix::process::geteuid().as_raw();
    Ok(if meta.uid() != user {
        Some(format!("belongs to user {}, not to {user}", meta.uid()))
    } else if meta.mode() & 0o077 != 0 {
        let mode = meta.mode() & 0o777;
        Some(format!("is open to other users (mode {mode:03o})"))
    } else {
        None
    })
}

/// Returns the identity of the host's present boot; `None` if the kernel does not tell it.
fn boot_of_host() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()
}

fn file_stamp(file: &File, crc32: u32) -> std::io::Result<FileStamp> {
    let meta = file.metadata()?;
    Ok(FileStamp {
        len: meta.len(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
        crc32,
    })
}

/// A template that is being built, in a temporary folder that is removed unless it is committed.
#[derive(Debug)]
pub(super) struct TemplateBuilder {
    root: PathBuf,
    key: String,
    folder: PathBuf,
    /// Guest RAM while the template is being built. It is kept in memory, because a guest whose RAM is a file on disk
    /// waits for the disk.
    pub(super) ram: Vec<File>,
    committed: bool,
    _lock: Lock,
}

/// Acquires the lock for building `key`, waiting for any other builder. Returns `None` if the template was built in the
/// meantime.
pub(super) fn begin_build(
    root: &Path,
    key: &str,
    nodes: &[u64],
) -> Result<Option<TemplateBuilder>, TemplateError> {
    let lock = lock(root, key)?;
    if root.join(key).exists() {
        return Ok(None);
    }
    let folder = root.join(format!(".making-{key}"));
    // This process holds the lock now, so a folder that is still there was left by a builder that is gone.
    let _ = std::fs::remove_dir_all(&folder);
    let wrap = |e| TemplateError::files(format!("making {}", folder.display()), e);
    // The folder must be new: one that could not be removed may belong to another user.
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&folder)
        .map_err(wrap)?;
    create_file(&folder.join(STATE)).map_err(wrap)?;
    let mut builder = TemplateBuilder {
        root: root.to_owned(),
        key: key.to_owned(),
        folder,
        ram: Vec::new(),
        committed: false,
        _lock: lock,
    };
    for len in nodes {
        builder.ram.push(anonymous_file("ktstr-template", *len)?);
    }
    Ok(Some(builder))
}

/// Returns the path of the lock file for `key`.
pub(super) fn lock_path(root: &Path, key: &str) -> Result<PathBuf, TemplateError> {
    let locks = Folder::private(&root.join(LOCKS), Place::CACHE)?;
    Ok(locks.path().join(key))
}

/// Waits for the lock that is needed to build or remove the template `key`.
fn lock(root: &Path, key: &str) -> Result<Lock, TemplateError> {
    let what = format!("the template {key}, which another process is building or removing");
    Ok(Lock::take(&lock_path(root, key)?, Place::CACHE, &what)?)
}

/// The description of a finished template, apart from its files.
pub(super) struct TemplateMeta<'a> {
    pub(super) what: String,
    /// The hash of the test's program, as it is packed, if it is loaded.
    pub(super) program: Option<String>,
    pub(super) kernel: PathBuf,
    pub(super) qemu: PathBuf,
    pub(super) cursors: RingCursors,
    pub(super) guest: &'a GuestState,
    pub(super) console: String,
    pub(super) present: Stamps,
    pub(super) points: WatchPoints,
}

impl TemplateBuilder {
    /// Returns the path for the device state.
    pub(super) fn state(&self) -> PathBuf {
        self.folder.join(STATE)
    }

    /// Publishes the template. Its QEMU must have exited.
    pub(super) fn commit(mut self, meta: TemplateMeta) -> Result<(), TemplateError> {
        let wrap = |e| TemplateError::files(format!("writing the template {}", self.key), e);
        let ram = (0..self.ram.len())
            .map(|node| self.keep_ram(node))
            .collect::<std::io::Result<_>>()
            .map_err(wrap)?;
        let cursor = |p: RingCursor| (p.bytes, p.sequence);
        let description = Description {
            key: self.key.clone(),
            what: meta.what,
            kernel: meta.kernel,
            qemu: meta.qemu,
            state: checksum(&self.state()).map_err(wrap)?,
            ram,
            agent: cursor(meta.cursors.agent),
            host: cursor(meta.cursors.host),
            hello: meta.guest.hello.clone(),
            attached: meta.guest.attached.clone(),
            loaded: meta.guest.loaded,
            program: meta.program,
            scheduler_log: meta.guest.scheduler_log.clone(),
            console: meta.console,
            present: meta.present,
            points: meta.points,
        };
        let text = serde_json::to_vec(&description).map_err(|e| wrap(e.into()))?;
        let write = |name: &str, bytes: &[u8]| {
            create_file(&self.folder.join(name)).and_then(|mut file| file.write_all(bytes))
        };
        write(DESCRIPTION, &text).map_err(wrap)?;
        write(READ_IN, boot_of_host().unwrap_or_default().as_bytes()).map_err(wrap)?;
        std::fs::rename(&self.folder, self.root.join(&self.key)).map_err(wrap)?;
        self.committed = true;
        Ok(())
    }
}

impl TemplateBuilder {
    /// Writes the RAM of a node to its file, which is read-only afterwards, and returns the file's stamp.
    fn keep_ram(&self, node: usize) -> std::io::Result<FileStamp> {
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(self.folder.join(ram_name(node)))?;
        let crc32 = sparse::checksum(&self.ram[node])?;
        sparse::copy(&self.ram[node], &file)?;
        file_stamp(&file, crc32)
    }
}

impl Drop for TemplateBuilder {
    fn drop(&mut self) {
        if !self.committed {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// Removes a template. It is first renamed under its lock, so that no other process opens a part of it.
pub(super) fn discard(root: &Path, key: &str) -> Result<(), TemplateError> {
    let _lock = lock(root, key)?;
    let aside = root.join(format!(".making-{key}"));
    let _ = std::fs::remove_dir_all(&aside);
    match std::fs::rename(root.join(key), &aside) {
        Ok(()) => std::fs::remove_dir_all(&aside)
            .map_err(|e| TemplateError::files(format!("removing {}", aside.display()), e)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(TemplateError::files(
            format!("removing the template {key}"),
            e,
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    const KEY: &str = "0123";
    const PROGRAM: &str = "4567";

    /// Makes a template with one node of RAM, and returns the folder of templates.
    fn made() -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a temporary folder");
        let builder = begin_build(root.path(), KEY, &[1 << 20]).expect("a builder");
        let builder = builder.expect("there is no template yet");
        builder.ram[0].write_all_at(b"memory", 8192).expect("RAM");
        let cursor = RingCursor::default();
        let meta = TemplateMeta {
            what: String::new(),
            program: Some(PROGRAM.to_owned()),
            kernel: PathBuf::new(),
            qemu: PathBuf::new(),
            cursors: RingCursors {
                agent: cursor,
                host: cursor,
            },
            guest: &GuestState::default(),
            console: String::new(),
            present: Stamps::new(),
            points: WatchPoints::default(),
        };
        builder.commit(meta).expect("a template");
        root
    }

    /// What counts is the program that is loaded, and not where it was: the same program can be at several paths, and another one
    /// can be at the same path after a rebuild.
    #[test]
    fn a_program_is_unloaded_by_its_contents() {
        let root = made();
        let unloaded = |hash| super::super::housekeeping::unload_from(root.path(), hash);
        assert_eq!(unloaded("89ab"), 0);
        assert!(root.path().join(KEY).exists());
        assert_eq!(unloaded(PROGRAM), 1);
        assert!(!root.path().join(KEY).exists());
    }

    /// Puts the file `ram0` into the state after a loss of power: its size and times are those that were recorded, but its
    /// contents are not.
    fn lose_contents(root: &Path) {
        let folder = root.join(KEY);
        let place = folder.join(ram_name(0));
        std::fs::remove_file(&place).expect("its own file");
        let mut options = File::options();
        let file = options.write(true).create_new(true).mode(0o400);
        let file = file.open(&place).expect("a file");
        file.set_len(1 << 20).expect("a hole");
        let description = folder.join(DESCRIPTION);
        let text = std::fs::read(&description).expect("a description");
        let mut found: Description = serde_json::from_slice(&text).expect("a description");
        found.ram[0] = file_stamp(&file, found.ram[0].crc32).expect("a stamp");
        let text = serde_json::to_vec(&found).expect("a description");
        std::fs::write(&description, text).expect("its own file");
    }

    #[test]
    fn ram_that_was_lost_with_the_hosts_power_is_noticed_after_the_next_boot() {
        let root = made();
        let open = || Template::open(root.path(), KEY);
        assert!(open().expect("undamaged").is_some());
        let read_in = root.path().join(KEY).join(READ_IN);
        std::fs::write(&read_in, "the boot before").expect("its own file");
        assert!(open().expect("undamaged after a boot").is_some());
        assert_eq!(std::fs::read_to_string(&read_in).ok(), boot_of_host());
        lose_contents(root.path());
        std::fs::write(&read_in, "the boot before").expect("its own file");
        let error = open().expect_err("the RAM is gone").to_string();
        assert!(
            error.contains("is damaged") && error.contains("ram0") && error.contains("lost power"),
            "{error}"
        );
    }
}
