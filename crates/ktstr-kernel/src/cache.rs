//! The kernel cache: `<root>/kernels/<id>/` holds one complete entry for each kernel image.
//!
//! An entry is written to a temporary folder, and then renamed into place, so a reader sees a complete entry or none. The writer
//! holds a lock, which the operating system releases if the writer is killed. The folders are used only if this user
//! owns them and nobody else can write to them. What a killed process left in temporary folders is removed by the next writer.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ktstr_state::{Folder, Lock, Place, env};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::image::{self, ImageError, MAX_IMAGE};
use crate::kallsyms;
use crate::kernel::{Kernel, Source, file};
use crate::progress::{self, Listener};
use crate::{KernelError, features, stamps, version};

/// The format of entries, which is incremented when the meaning of their files changes. An entry of another format counts as
/// damaged, and is created again when its image is imported.
const FORMAT: u32 = 2;
/// Prefix of the temporary folders in which entries are written.
const ASIDE: &str = ".making-";
const LOCK: &str = ".lock";
const KERNELS: &str = "kernels";

/// The kernel cache under one root folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    root: PathBuf,
}

/// A folder in the cache that cannot be used as an entry: it is incomplete, was changed after the import, or
/// has another format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// The name of the folder in the cache.
    pub id: String,
    /// The reason why it cannot be used, such as `its btf is missing (…)`.
    pub reason: String,
}

/// The inputs of a new entry.
#[derive(Debug, Clone)]
pub(crate) struct Material {
    /// The bzImage or vmlinux.
    pub(crate) image: PathBuf,
    /// The file with its configuration; if `None`, a configuration that the image itself contains is used.
    pub(crate) config: Option<PathBuf>,
    /// The source to record in the entry.
    pub(crate) source: Source,
}

/// The field of `kernel.json` that determines how the others are read.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// The contents of `kernel.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Meta {
    format: u32,
    id: String,
    release: String,
    version_text: String,
    source: Source,
    image_sha256: String,
    has_sched_ext: bool,
    sched_ext_looked_at: String,
    has_btf: bool,
    /// The name of the file to boot.
    boot: String,
    /// SHA-256 of each file of the entry, hexadecimal.
    files: BTreeMap<String, String>,
}

/// Returns the complete kernels in this user's cache, in order of preference.
pub fn list() -> Result<Vec<Kernel>, KernelError> {
    Ok(Cache::from_env()?.scan()?.0)
}

/// Removes a kernel, complete or damaged, from this user's cache.
pub fn remove(id: &str) -> Result<(), KernelError> {
    Cache::from_env()?.remove(id)
}

impl Cache {
    /// Returns the cache in `KTSTR_CACHE_DIR`, else in `$XDG_CACHE_HOME/ktstr`, else in `~/.cache/ktstr`.
    pub fn from_env() -> Result<Self, KernelError> {
        match env::CACHE_DIR.get() {
            Some(root) => {
                let root =
                    std::path::absolute(&root).map_err(|e| KernelError::io("find", root, e))?;
                Ok(Self::at(root))
            }
            None => Self::of_user().ok_or(KernelError::NoCacheDir),
        }
    }

    /// Returns this user's default cache, regardless of `KTSTR_CACHE_DIR`; `None` if `XDG_CACHE_HOME` and `HOME` are unset
    /// or empty, or if the path is relative and the current folder is unknown.
    pub fn of_user() -> Option<Self> {
        let root = env::XDG_CACHE_HOME
            .get()
            .map(|base| base.join("ktstr"))
            .or_else(|| Some(env::HOME.get()?.join(".cache/ktstr")))?;
        Some(Self::at(std::path::absolute(root).ok()?))
    }

    /// Returns the cache in a folder, which need not exist yet.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Returns the root folder of the cache.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the folder that holds the entries.
    pub fn kernels(&self) -> PathBuf {
        self.root.join(KERNELS)
    }

    /// Opens the folder `name` of the cache, and creates it if it is missing. Fails if the cache or this folder
    /// belongs to another user, can be written by others, or is a link. Otherwise the folder's mode is set to 0700.
    pub fn folder(&self, name: &str) -> Result<Folder, KernelError> {
        Ok(Folder::owned(&self.root, Place::CACHE)?.subfolder(name)?)
    }

    /// Opens the folder `name` of the cache, without creating anything; `None` if it does not exist.
    /// Fails like [`Cache::folder`].
    pub fn existing(&self, name: &str) -> Result<Option<Folder>, KernelError> {
        match Folder::existing(&self.root, Place::CACHE)? {
            Some(root) => Ok(Folder::existing(&root.path().join(name), Place::CACHE)?),
            None => Ok(None),
        }
    }

    /// Returns the complete kernels in order of preference, and the damaged entries.
    pub fn scan(&self) -> Result<(Vec<Kernel>, Vec<Damaged>), KernelError> {
        let Some(folder) = self.existing(KERNELS)? else {
            return Ok((Vec::new(), Vec::new()));
        };
        let dir = folder.path();
        let entries = fs::read_dir(dir).map_err(|e| KernelError::io("list", dir, e))?;
        let (mut whole, mut damaged) = (Vec::new(), Vec::new());
        for entry in entries {
            let entry = entry.map_err(|e| KernelError::io("list", dir, e))?;
            let id = entry.file_name().to_string_lossy().into_owned();
            if id.starts_with('.') {
                continue;
            }
            match self.load(&id) {
                Ok(kernel) => whole.push(kernel),
                Err(reason) => damaged.push(Damaged { id, reason }),
            }
        }
        // Of two builds of one release, the later import is preferred.
        let imported = |kernel: &Kernel| {
            let meta = fs::metadata(dir.join(&kernel.id).join(file::META));
            meta.and_then(|meta| meta.modified()).ok()
        };
        // If a user built a kernel with PREEMPT_RT, its release does not show this, but its version line does
        // (`UTS_VERSION`, scripts/mkcompile_h). Such kernels come last.
        let real_time = |kernel: &Kernel| kernel.version_text.contains("PREEMPT_RT");
        whole.sort_by(|a, b| {
            (real_time(a).cmp(&real_time(b)))
                .then_with(|| version::by_preference(&a.release, &b.release))
                .then_with(|| imported(b).cmp(&imported(a)))
                .then_with(|| a.id.cmp(&b.id))
        });
        damaged.sort_by(|a, b| a.id.cmp(&b.id));
        Ok((whole, damaged))
    }

    /// Removes an entry, complete or damaged.
    pub fn remove(&self, id: &str) -> Result<(), KernelError> {
        let path = self.kernels().join(id);
        let is_name = !id.is_empty() && !id.starts_with('.') && !id.contains('/');
        if !is_name || !path.exists() {
            return Err(KernelError::NotCached {
                id: id.to_owned(),
                cache: self.kernels(),
            });
        }
        let _lock = self.lock()?;
        crate::modules::forget(self, id)?;
        // Move the entry away first, so that a partly removed entry is not taken for a damaged one.
        let aside = self.aside()?;
        let gone = aside.path().join("removed");
        fs::rename(&path, &gone).map_err(|e| KernelError::io("remove", &path, e))?;
        aside
            .close()
            .map_err(|e| KernelError::io("remove", gone, e))
    }

    /// Loads the entry `id` and checks that its files are those that were imported.
    fn load(&self, id: &str) -> Result<Kernel, String> {
        let dir = self.kernels().join(id);
        Folder::existing(&dir, Place::CACHE).map_err(|e| e.to_string())?;
        let text = fs::read(dir.join(file::META))
            .map_err(|e| format!("its {} cannot be read ({e})", file::META))?;
        let damaged = |e| format!("its {} is damaged ({e})", file::META);
        let Format { format } = serde_json::from_slice(&text).map_err(damaged)?;
        if format != FORMAT {
            return Err(format!(
                "it has format {format}, but this program uses {FORMAT}"
            ));
        }
        let meta: Meta = serde_json::from_slice(&text).map_err(damaged)?;
        if meta.id != id {
            return Err(format!("its {} belongs to {}", file::META, meta.id));
        }
        for needed in [file::IMAGE, file::VMLINUX, file::SYMBOLS] {
            if !meta.files.contains_key(needed) {
                return Err(format!("its {} does not list {needed}", file::META));
            }
        }
        let Some(boot_sha256) = meta.files.get(&meta.boot).cloned() else {
            return Err(format!("its {} does not list the file to boot", file::META));
        };
        stamps::check(&dir, &meta.files)?;
        Ok(Kernel {
            image: dir.join(file::IMAGE),
            vmlinux: dir.join(file::VMLINUX),
            config: meta
                .files
                .contains_key(file::CONFIG)
                .then(|| dir.join(file::CONFIG)),
            modules: None,
            id: meta.id,
            release: meta.release,
            version_text: meta.version_text,
            source: meta.source,
            has_sched_ext: meta.has_sched_ext,
            has_btf: meta.has_btf,
            image_sha256: meta.image_sha256,
            boot: dir.join(&meta.boot),
            boot_sha256,
            looked_at: meta.sched_ext_looked_at,
            dir,
        })
    }

    /// Imports an image as an entry, unless one exists already. An entry is created again if it is damaged, or if it lacks a
    /// configuration that is now known. The entry of an image that was built from source or fetched is also created again if
    /// it records another source.
    pub(crate) fn import(
        &self,
        material: &Material,
        listener: &mut Listener<'_>,
    ) -> Result<Kernel, KernelError> {
        let bytes = read_limited(&material.image)?;
        let sha256 = hex(&Sha256::digest(&bytes));
        let good_enough = |cache: &Self| {
            let (whole, _) = cache.scan()?;
            Ok::<_, KernelError>(whole.into_iter().find(|kernel| {
                kernel.image_sha256 == sha256
                    && (kernel.config.is_some() || material.config.is_none())
                    // A built kernel is looked up by its inputs and a fetched one by its package, so an entry with another
                    // source must be replaced even if its image is the same.
                    && (kernel.source == material.source
                        || !matches!(
                            material.source,
                            Source::Built { .. } | Source::Debian { .. }
                        ))
            }))
        };
        if let Some(kernel) = good_enough(self)? {
            return Ok(kernel);
        }
        let _lock = self.lock()?;
        // Another process may have imported the image while this process waited for the lock.
        if let Some(kernel) = good_enough(self)? {
            return Ok(kernel);
        }
        let stage = format!("unpacking {}", material.image.display());
        progress::begin(listener, &stage);
        let aside = self.aside()?;
        let meta = write_entry(aside.path(), &bytes, &sha256, material)?;
        let place = self.kernels().join(&meta.id);
        publish(aside.path(), &place)?;
        progress::end(listener, &stage);
        self.load(&meta.id).map_err(|reason| KernelError::Io {
            action: "read back",
            path: place,
            error: io::Error::other(reason),
        })
    }

    /// Takes the lock that all writers share, and removes what killed writers left behind.
    fn lock(&self) -> Result<Lock, KernelError> {
        let folder = self.folder(KERNELS)?;
        let dir = folder.path();
        let lock = Lock::take(&dir.join(LOCK), Place::CACHE, "the cache of kernels")?;
        for entry in fs::read_dir(dir)
            .map_err(|e| KernelError::io("list", dir, e))?
            .flatten()
        {
            // A writer holds the lock as long as its temporary folder exists. This process holds it now, so any such folder was
            // left by a process that was killed.
            if entry.file_name().to_string_lossy().starts_with(ASIDE) {
                let path = entry.path();
                fs::remove_dir_all(&path).map_err(|e| KernelError::io("remove", path, e))?;
            }
        }
        Ok(lock)
    }

    /// Creates a temporary folder in the cache. The caller must hold the lock.
    fn aside(&self) -> Result<tempfile::TempDir, KernelError> {
        let dir = self.kernels();
        tempfile::Builder::new()
            .prefix(ASIDE)
            // This folder becomes an entry, which is rejected if others can write to it. Do not depend on the umask.
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(&dir)
            .map_err(|e| KernelError::io("create a folder in", dir, e))
    }
}

/// Reads a file, which must not exceed the maximum size of a kernel.
fn read_limited(path: &Path) -> Result<Vec<u8>, KernelError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?
            .take(MAX_IMAGE + 1)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|e| KernelError::io("read", path, e))?;
    if bytes.len() as u64 > MAX_IMAGE {
        return Err(KernelError::NotAKernel {
            path: path.to_owned(),
            found: format!("a file of more than {} MiB", MAX_IMAGE >> 20),
        });
    }
    Ok(bytes)
}

/// Writes all files of an entry into `dir`.
fn write_entry(
    dir: &Path,
    bytes: &[u8],
    sha256: &str,
    material: &Material,
) -> Result<Meta, KernelError> {
    let opened = image::open(bytes).map_err(|e| match e {
        ImageError::NotAKernel(found) => KernelError::NotAKernel {
            path: material.image.clone(),
            found,
        },
        ImageError::Compression(compression) => KernelError::Compression {
            path: material.image.clone(),
            compression,
        },
    })?;
    let id = format!("{}-{}", opened.release, &sha256[..8]);
    let mut files = BTreeMap::new();
    let mut write = |name: &str, data: &[u8]| -> Result<(), KernelError> {
        let path = dir.join(name);
        write_file(&path, data).map_err(|e| KernelError::io("write", path, e))?;
        files.insert(name.to_owned(), hex(&Sha256::digest(data)));
        Ok(())
    };
    write(file::IMAGE, bytes)?;
    let vmlinux = opened.unpacked.as_deref().unwrap_or(bytes);
    write(file::VMLINUX, vmlinux)?;
    let symbols = kallsyms::decode(vmlinux).map_err(|e| KernelError::Unreadable {
        kernel: material.image.display().to_string(),
        what: "symbols",
        reason: e.to_string(),
    })?;
    write(file::SYMBOLS, kallsyms::to_text(&symbols).as_bytes())?;
    let btf = image::btf(vmlinux);
    if let Some(btf) = btf {
        write(file::BTF, btf)?;
    }
    let config = match &material.config {
        Some(path) => Some(fs::read(path).map_err(|e| KernelError::io("read", path, e))?),
        None => image::embedded_config(vmlinux).map(String::into_bytes),
    };
    if let Some(config) = &config {
        write(file::CONFIG, config)?;
    }
    let (has_sched_ext, sched_ext_looked_at) = features::sched_ext(config.as_deref(), &symbols);
    let boot = if image::has_pvh(vmlinux) {
        file::VMLINUX
    } else {
        file::IMAGE
    };
    let meta = Meta {
        format: FORMAT,
        boot: boot.to_owned(),
        id,
        release: opened.release,
        version_text: opened.version_text,
        source: material.source.clone(),
        image_sha256: sha256.to_owned(),
        has_sched_ext,
        sched_ext_looked_at,
        has_btf: btf.is_some(),
        files,
    };
    let text =
        serde_json::to_vec_pretty(&meta).map_err(|e| KernelError::io("write", dir, e.into()))?;
    let path = dir.join(file::META);
    write_file(&path, &text).map_err(|e| KernelError::io("write", path, e))?;
    stamps::write(dir, &meta.files).map_err(|e| KernelError::io("write", dir, e))?;
    Ok(meta)
}

/// Writes a file and syncs it to the disk, because some file systems report a full disk only then.
fn write_file(path: &Path, data: &[u8]) -> io::Result<()> {
    let mut file = ktstr_state::create_file(path)?;
    file.write_all(data)?;
    file.sync_all()
}

/// Moves a finished entry into place. A previous entry ends up in the temporary folder, which is then removed.
fn publish(made: &Path, place: &Path) -> Result<(), KernelError> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let flags = if place.exists() {
        RenameFlags::EXCHANGE
    } else {
        RenameFlags::NOREPLACE
    };
    renameat_with(CWD, made, CWD, place, flags)
        .map_err(|e| KernelError::io("put in place", place, e.into()))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
