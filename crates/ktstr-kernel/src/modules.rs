//! Finds kernel modules for a guest to load: in the folder of the kernel's modules, in its build tree, or in Debian's
//! archive, from which they are fetched once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::Cache;
use crate::kernel::{Kernel, Source};
use crate::progress::Listener;
use crate::{KernelError, apt, command, features};

/// The folder of the cache for modules, with a subfolder for each kernel.
const FOLDER: &str = "modules";
/// The endings of compressed modules, with the programs that decompress them in place.
const COMPRESSED: [(&str, &str); 3] = [("xz", "xz"), ("zst", "zstd"), ("gz", "gzip")];

/// A module of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Module {
    /// The option that turns it on, such as `CONFIG_BLK_DEV_NULL_BLK`.
    pub option: &'static str,
    /// Its path in a build tree, such as `drivers/block/null_blk/null_blk.ko`.
    pub path: &'static str,
}

impl Module {
    /// Returns the name of its file.
    pub fn file(&self) -> &'static str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }
}

/// Returns the files of those of the `wanted` modules that are not built into the kernel, in the same order. Each is an
/// uncompressed module. Those of a Debian kernel are fetched, with the package of all its modules, unless this has been done
/// before or `offline` is set.
///
/// # Errors
/// [`KernelError::NoModule`] names a module that the kernel does not have, or whose file was not found. Fetching the modules
/// can fail for the same reasons as fetching a kernel.
pub fn files(
    kernel: &Kernel,
    wanted: &[Module],
    cache: &Cache,
    offline: bool,
    listener: &mut Listener<'_>,
) -> Result<Vec<PathBuf>, KernelError> {
    let no_module = |module: &Module, reason: String| KernelError::NoModule {
        kernel: kernel.id.clone(),
        module: module.file().to_owned(),
        option: module.option,
        reason,
    };
    let config = match &kernel.config {
        Some(path) => Some(fs::read(path).map_err(|e| KernelError::io("read", path, e))?),
        None => None,
    };
    let mut missing = Vec::new();
    let folder = cache.folder(FOLDER)?.subfolder(&kernel.id)?;
    for module in wanted {
        if let Some(config) = &config {
            if features::is_set(config, module.option) {
                continue;
            }
            if !features::is_module(config, module.option) {
                return Err(no_module(
                    module,
                    "its configuration does not set it".to_owned(),
                ));
            }
        }
        missing.push(*module);
    }
    let place = |module: &Module| folder.path().join(module.file());
    let absent: Vec<Module> = (missing.iter().copied())
        .filter(|module| !place(module).exists())
        .collect();
    if !absent.is_empty() {
        let found = match (&kernel.modules, &kernel.source) {
            (Some(modules), _) => copy(&modules.join("kernel"), &absent, folder.path())?,
            (None, Source::Debian { package, version }) if !offline => {
                let there = || {
                    let all = absent.iter().all(|module| place(module).exists());
                    all.then(|| absent.clone())
                };
                apt::fetch_modules(cache, package, version, listener, there, |unpacked| {
                    let modules = unpacked.join("usr/lib/modules").join(&kernel.release);
                    let old = unpacked.join("lib/modules").join(&kernel.release);
                    let modules = if modules.exists() { modules } else { old };
                    copy(&modules.join("kernel"), &absent, folder.path())
                })?
                .unwrap_or_default()
            }
            (None, Source::Path(tree)) => {
                let tree = if tree.is_dir() {
                    tree
                } else {
                    tree.parent().unwrap_or(tree)
                };
                copy(tree, &absent, folder.path())?
            }
            (None, _) => Vec::new(),
        };
        if let Some(module) = absent.iter().find(|module| !found.contains(module)) {
            let reason = match (&kernel.modules, &kernel.source) {
                (Some(modules), _) => format!("{} does not have it", modules.display()),
                (None, Source::Debian { .. }) if offline => {
                    "it has to be fetched from Debian's archive, and KTSTR_OFFLINE is set"
                        .to_owned()
                }
                (None, Source::Debian { package, .. }) => format!(
                    "the package {} is not in Debian's archive, or does not have it",
                    apt::modules_package(package)
                ),
                (None, source) => format!("its file was not found with {source}"),
            };
            return Err(no_module(module, reason));
        }
    }
    Ok(missing.iter().map(place).collect())
}

/// Removes the modules of a kernel from the cache.
pub(crate) fn forget(cache: &Cache, id: &str) -> Result<(), KernelError> {
    let Some(folder) = cache.existing(FOLDER)? else {
        return Ok(());
    };
    let of_kernel = folder.path().join(id);
    match fs::remove_dir_all(&of_kernel) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(KernelError::io("remove", of_kernel, e))
        }
        _ => Ok(()),
    }
}

/// Copies those of the modules that exist below `from` into the folder `to`, decompresses them, and returns which ones they
/// are.
fn copy(from: &Path, modules: &[Module], to: &Path) -> Result<Vec<Module>, KernelError> {
    let mut found = Vec::new();
    for module in modules {
        let plain = from.join(module.path);
        let put = |file: &Path| -> Result<(), KernelError> {
            let place = to.join(module.file());
            fs::rename(file, &place).map_err(|e| KernelError::io("put in place", place, e))
        };
        // Until the file is complete, it has a name that no reader looks for.
        let aside = to.join(format!(".{}-{}", module.file(), std::process::id()));
        if plain.is_file() {
            fs::copy(&plain, &aside).map_err(|e| KernelError::io("copy", &plain, e))?;
            put(&aside)?;
            found.push(*module);
            continue;
        }
        for (ending, program) in COMPRESSED {
            let packed = PathBuf::from(format!("{}.{ending}", plain.display()));
            if !packed.is_file() {
                continue;
            }
            let copied = PathBuf::from(format!("{}.{ending}", aside.display()));
            fs::copy(&packed, &copied).map_err(|e| KernelError::io("copy", &packed, e))?;
            let mut decompress = Command::new(program);
            decompress.args(["-d", "-f", "-q"]).arg(&copied);
            if program == "zstd" {
                decompress.arg("--rm");
            }
            if let Err(failure) = command::run(&mut decompress, |_| {}) {
                // The next attempt writes over the file if it cannot be removed.
                let _ = fs::remove_file(&copied);
                let what = format!("{program} -d {}", packed.display());
                let hint = match failure {
                    command::Failure::Missing => "Install the packages xz-utils, zstd and gzip",
                    _ => "The module may be damaged",
                };
                return Err(failure.into_error(&what, to, hint));
            }
            put(&aside)?;
            found.push(*module);
            break;
        }
    }
    Ok(found)
}
