//! Keeps the templates of a host within a size limit.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ktstr_kernel::KernelError;
use ktstr_kernel::cache::Cache;
use ktstr_machine::Program;
use ktstr_state::{Lock, Place, env};

use super::template::{self, Description};
use crate::run::{RunError, plan};

/// The size limit of all templates together in MiB, unless `KTSTR_TEMPLATES_MIB` sets another.
const CAP_MIB: u64 = 8 << 10;

/// Returns the size limit in bytes.
///
/// # Errors
/// Returns an error if the variable is set to something that is no number of MiB.
pub(in crate::run) fn cap() -> Result<u64, RunError> {
    Ok(env::TEMPLATES_MIB.get()?.unwrap_or(CAP_MIB) << 20)
}

/// The description of a template for people.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The template's key, which is the name of its folder.
    pub key: String,
    /// The level, kernel, topology and memory of the template, and its scheduler and its test's binary if it has them;
    /// `damaged` if its description cannot be read.
    pub what: String,
    /// The size on disk, in bytes.
    pub size: u64,
    /// When the template was last used; the epoch if that is unknown.
    pub used: SystemTime,
    kernel: PathBuf,
    qemu: PathBuf,
    /// The hash of the test's program that is loaded, as it is packed.
    program: Option<String>,
}

/// The name of the templates' folder in the cache.
const FOLDER: &str = "templates";

/// Returns the folder of all templates, which need not exist.
///
/// # Errors
/// Returns an error if no folder for the cache is known.
pub fn root() -> Result<PathBuf, KernelError> {
    Ok(Cache::from_env()?.root().join(FOLDER))
}

/// Returns the folder of all templates, and creates it if it is missing. It is an error if other users have access to
/// it.
pub(super) fn folder() -> Result<PathBuf, KernelError> {
    Ok(Cache::from_env()?.folder(FOLDER)?.path().to_owned())
}

/// Returns the folder of all templates; `None` if it does not exist. It is an error if other users have access to it.
fn existing() -> Result<Option<PathBuf>, KernelError> {
    let folder = Cache::from_env()?.existing(FOLDER)?;
    Ok(folder.map(|folder| folder.path().to_owned()))
}

/// Returns all templates, the most recently used first.
///
/// # Errors
/// Returns an error if the cache cannot be used.
pub fn list() -> Result<Vec<Summary>, KernelError> {
    let mut all = existing()?.map_or_else(Vec::new, |root| summaries(&root));
    all.sort_by_key(|s| std::cmp::Reverse(s.used));
    Ok(all)
}

/// Removes all templates, and returns the number of those that could be removed.
///
/// # Errors
/// Returns an error if the cache cannot be used.
pub fn clean() -> Result<usize, KernelError> {
    let Some(root) = existing()? else {
        return Ok(0);
    };
    let all = summaries(&root);
    let gone = all
        .iter()
        .filter(|summary| template::discard(&root, &summary.key).is_ok())
        .count();
    sweep(&root);
    Ok(gone)
}

/// Removes the templates in which a test process of `program` is loaded, and returns the number of those that could be removed.
/// The next run of the program is then like the first one after a rebuild. The program is compared by what of it is packed, as in
/// the templates' keys, because the template may have been made for a copy of it at another path.
///
/// # Errors
/// Returns an error if the cache cannot be used, or the program cannot be read.
pub fn unload(program: &Path) -> Result<usize, RunError> {
    let Some(root) = existing()? else {
        return Ok(0);
    };
    let program = Program::read(program, Some(plan::programs()?.path()))?;
    Ok(unload_from(&root, &program.packed_blake3))
}

/// Removes the templates below `root` in which the program with this hash is loaded, and returns their number.
pub(super) fn unload_from(root: &Path, hash: &str) -> usize {
    let all = summaries(root);
    let loaded = all
        .iter()
        .filter(|one| one.program.as_deref() == Some(hash));
    loaded
        .filter(|one| template::discard(root, &one.key).is_ok())
        .count()
}

/// Removes templates whose description cannot be read, templates whose kernel or QEMU no longer exists, and the least recently
/// used ones, so that the rest fits into `cap` bytes. The most recently used one always stays. A template that cannot be removed
/// is left for the next time.
pub(super) fn make_room(cap: u64) {
    let Ok(root) = folder() else { return };
    sweep(&root);
    let mut all = summaries(&root);
    all.sort_by_key(|s| std::cmp::Reverse(s.used));
    let mut total = 0;
    for (at, summary) in all.iter().enumerate() {
        let vanished = !summary.kernel.exists() || !summary.qemu.exists();
        if !vanished {
            total += summary.size;
        }
        // The most recently used template is kept, because it is about to be used.
        if at > 0 && (vanished || total > cap) {
            let _ = template::discard(&root, &summary.key);
        }
    }
}

/// Removes the temporary folders of builders that were killed. A folder whose template is locked is in use, and stays.
fn sweep(root: &Path) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(key) = name.strip_prefix(".making-")
            && let Ok(path) = template::lock_path(root, key)
            && let Ok(Some(_lock)) = Lock::try_take(&path, Place::CACHE)
        {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn summaries(root: &Path) -> Vec<Summary> {
    std::fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let key = entry.file_name().to_string_lossy().into_owned();
            if key.starts_with('.') {
                return None;
            }
            let path = entry.path().join("template.json");
            let used = std::fs::metadata(&path)
                .and_then(|m| m.modified())
                .unwrap_or(SystemTime::UNIX_EPOCH);
            let text = std::fs::read(&path).unwrap_or_default();
            let description = serde_json::from_slice::<Description>(&text).ok();
            let (what, kernel, qemu, program) = description.map_or_else(
                || ("damaged".to_owned(), PathBuf::new(), PathBuf::new(), None),
                |d| (d.what, d.kernel, d.qemu, d.program),
            );
            let size = std::fs::read_dir(entry.path())
                .into_iter()
                .flatten()
                .flatten()
                .filter_map(|file| Some(file.metadata().ok()?.blocks() * 512))
                .sum();
            Some(Summary {
                key,
                what,
                size,
                used,
                kernel,
                qemu,
                program,
            })
        })
        .collect()
}
