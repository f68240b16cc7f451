//! Finds kernel modules for a guest to load: in the folder of the kernel's modules, in its build tree, or in Debian's
//! archive, from which they are fetched once.
//!
//! The cache has one folder of modules for each kernel image, so kernels of one release do not share modules. A module is
//! copied again if its copy is damaged, or if the original file has changed while the image that belongs to it has stayed the
//! same.

mod fit;
mod kept;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ktstr_state::Lock;

use crate::cache::Cache;
use crate::kernel::{Kernel, Source};
use crate::progress::Listener;
use crate::{KernelError, apt, command, features, progress};
use fit::Magic;
use kept::Kept;

/// The folder of the cache for modules, with a subfolder for each kernel.
const FOLDER: &str = "modules";
/// The endings of compressed modules, with the programs that decompress them in place.
const COMPRESSED: [(&str, &str); 3] = [("xz", "xz"), ("zst", "zstd"), ("gz", "gzip")];

/// Where the folder of an installed kernel has its modules.
const MODULES: [&str; 2] = ["usr/lib/modules", "lib/modules"];

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

/// Returns the files of the `wanted` modules, in the same order, without those that are built into the kernel. Each is an
/// uncompressed module. For a Debian kernel, the package with all its modules is fetched, unless this has been done before
/// or `offline` is set.
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
    let needed = not_built_in(kernel, wanted)?;
    let folder = cache.folder(FOLDER)?.subfolder(&kernel.id)?;
    let place = |module: &Module| folder.path().join(module.file());
    if !absent(kernel, &needed, folder.path(), &Kept::read(folder.path())).is_empty() {
        let _lock = Lock::of_folder(&folder, "the modules of a kernel")?;
        // Another process may have put the modules there while this process waited for the lock.
        let mut kept = Kept::read(folder.path());
        let magic = Magic::of(kernel)?;
        adopt(&needed, folder.path(), &magic, &mut kept);
        let absent = absent(kernel, &needed, folder.path(), &kept);
        if !absent.is_empty() {
            if let Some(damage) = kept.damage(folder.path(), &needed) {
                progress::note(
                    listener,
                    &format!(
                        "note: the modules of {} in the cache are damaged and will be replaced: {damage}",
                        kernel.id
                    ),
                );
            }
            let to = &mut Target {
                folder: folder.path(),
                magic,
                kept: &mut kept,
            };
            // What was copied before an error is recorded as well; otherwise it would look damaged later.
            let got = get(kernel, &absent, cache, offline, to, listener);
            let written = kept.write(folder.path());
            written.map_err(|e| KernelError::io("write in", folder.path(), e))?;
            got?;
        } else {
            let written = kept.write(folder.path());
            written.map_err(|e| KernelError::io("write in", folder.path(), e))?;
        }
    }
    Ok(needed.iter().map(place).collect())
}

/// Records the modules that an earlier version of ktstr, which kept no record, has put into `folder`, if they are whole and fit
/// the kernel. They are not fetched again, because Debian's archive may not have them any more.
fn adopt(needed: &[Module], folder: &Path, magic: &Magic, kept: &mut Kept) {
    for module in needed {
        let path = folder.join(module.file());
        let fits = |bytes: Vec<u8>| fit::is_whole(&bytes) && magic.check(&bytes, &path).is_ok();
        if kept.lacks(module) && fs::read(&path).is_ok_and(fits) {
            // If the module cannot be recorded, it is fetched again.
            let _ = kept.note(folder, module, None);
        }
    }
}

/// Returns those of the `needed` modules that have to be put into `folder`.
fn absent(kernel: &Kernel, needed: &[Module], folder: &Path, kept: &Kept) -> Vec<Module> {
    let is_damaged = kept.damage(folder, needed).is_some();
    // If the place from which `kernel` came has another kernel now, the copies are the only modules of `kernel` that exist, so
    // they are not replaced by the modules there.
    let mut still_there = None;
    let mut is_still_there = || *still_there.get_or_insert_with(|| fit::source_has(kernel).is_ok());
    let needed = needed.iter().copied();
    needed
        .filter(|module| {
            is_damaged || kept.lacks(module) || (kept.has_changed(module) && is_still_there())
        })
        .collect()
}

/// Returns those of the `wanted` modules that are not built into the kernel. It is an error if the kernel lacks one of them
/// altogether. Without the kernel's configuration this is unknown, so all modules are returned.
fn not_built_in(kernel: &Kernel, wanted: &[Module]) -> Result<Vec<Module>, KernelError> {
    let Some(path) = &kernel.config else {
        return Ok(wanted.to_vec());
    };
    let config = fs::read(path).map_err(|e| KernelError::io("read", path, e))?;
    let mut needed = Vec::new();
    for module in wanted {
        if features::is_module(&config, module.option) {
            needed.push(*module);
        } else if !features::is_set(&config, module.option) {
            let reason = "its configuration does not set it".to_owned();
            return Err(no_module(kernel, module, reason));
        }
    }
    Ok(needed)
}

fn no_module(kernel: &Kernel, module: &Module, reason: String) -> KernelError {
    KernelError::NoModule {
        kernel: kernel.id.clone(),
        module: module.file().to_owned(),
        option: module.option,
        reason,
    }
}

/// The folder of the cache into which modules are copied. Whoever has this value holds the folder's lock.
struct Target<'a> {
    folder: &'a Path,
    magic: Magic,
    kept: &'a mut Kept,
}

/// Puts the modules into the folder `to`.
fn get(
    kernel: &Kernel,
    modules: &[Module],
    cache: &Cache,
    offline: bool,
    to: &mut Target<'_>,
    listener: &mut Listener<'_>,
) -> Result<(), KernelError> {
    // If `kernel.modules` is set, the image in the same place was read at the same time, so it needs no check here.
    if kernel.modules.is_none()
        && let (Err(reason), Some(module)) = (fit::source_has(kernel), modules.first())
    {
        return Err(no_module(kernel, module, reason));
    }
    let copy = |from: &Path, is_lasting: bool, to: &mut Target<'_>| {
        copy(kernel, from, is_lasting, modules, to)
    };
    let (found, missing) = match (&kernel.modules, &kernel.source) {
        (Some(folder), _) => (
            copy(&folder.join("kernel"), true, to)?,
            format!("{} does not have it", folder.display()),
        ),
        (None, Source::Debian { .. }) if offline => (
            Vec::new(),
            "it has to be fetched from Debian's archive, and KTSTR_OFFLINE is set".to_owned(),
        ),
        (None, Source::Debian { package, version }) => {
            let fetched = apt::fetch_modules(cache, package, version, listener, |unpacked| {
                let mut places = MODULES.map(|place| unpacked.join(place)).into_iter();
                let place = places.find(|place| place.exists()).unwrap_or_default();
                copy(&place.join(&kernel.release).join("kernel"), false, to)
            })?;
            let package = apt::modules_package(package);
            let missing = match fetched {
                Some(_) => format!("the package {package} does not have it"),
                None => format!("Debian's archive does not have {package} {version}"),
            };
            (fetched.unwrap_or_default(), missing)
        }
        (None, Source::Path(path)) => {
            // The path of an image in a build tree is some folders below the tree.
            let first = modules.first();
            let has = |folder: &&Path| first.is_some_and(|m| folder.join(m.path).is_file());
            let tree = path.ancestors().find(has).map(Path::to_owned);
            // A folder of an installed kernel has the modules beside the image.
            let installed =
                MODULES.map(|place| path.join(place).join(&kernel.release).join("kernel"));
            let installed = installed.into_iter().find(|folder| folder.is_dir());
            let from = tree.or(installed).unwrap_or_else(|| path.clone());
            let missing = format!("there is no build tree with it at {}", path.display());
            (copy(&from, true, to)?, missing)
        }
        (None, Source::Host(image)) => {
            let folder = Path::new("/lib/modules").join(&kernel.release);
            let missing = format!(
                "{} of {} does not have it",
                folder.display(),
                image.display()
            );
            (copy(&folder.join("kernel"), true, to)?, missing)
        }
        (None, source) => (Vec::new(), format!("its file was not found with {source}")),
    };
    match modules.iter().find(|module| !found.contains(module)) {
        Some(module) => Err(no_module(kernel, module, missing)),
        None => Ok(()),
    }
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

/// Copies those of the modules that exist below `from` into the folder `to`, decompresses them, and returns these modules.
/// A module of another kernel is an error. `is_lasting` is whether the files below `from` stay there.
fn copy(
    kernel: &Kernel,
    from: &Path,
    is_lasting: bool,
    modules: &[Module],
    to: &mut Target<'_>,
) -> Result<Vec<Module>, KernelError> {
    let mut found = Vec::new();
    for module in modules {
        let plain = from.join(module.path);
        // Until the file is complete, it has a name that no reader looks for. What a killed process left is replaced.
        let aside = to.folder.join(format!(".{}", module.file()));
        let packed = COMPRESSED.map(|(ending, program)| {
            let packed = PathBuf::from(format!("{}.{ending}", plain.display()));
            (packed, Some((ending, program)))
        });
        let mut origins = [(plain, None)].into_iter().chain(packed);
        let Some((origin, packing)) = origins.find(|(path, _)| path.is_file()) else {
            continue;
        };
        match packing {
            None => copy_file(&origin, &aside)?,
            Some((ending, program)) => {
                let copied = PathBuf::from(format!("{}.{ending}", aside.display()));
                copy_file(&origin, &copied)?;
                decompress(program, &copied, &origin)?;
            }
        }
        let bytes = fs::read(&aside).map_err(|e| KernelError::io("read", &aside, e))?;
        if let Err(reason) = to.magic.check(&bytes, &origin) {
            // The next attempt writes over the file if it cannot be removed.
            let _ = fs::remove_file(&aside);
            return Err(no_module(kernel, module, reason));
        }
        let place = to.folder.join(module.file());
        fs::rename(&aside, &place).map_err(|e| KernelError::io("put in place", &place, e))?;
        let origin = is_lasting.then_some(origin.as_path());
        let noted = to.kept.note(to.folder, module, origin);
        noted.map_err(|e| KernelError::io("examine", &place, e))?;
        found.push(*module);
    }
    Ok(found)
}

/// Copies a file. An earlier copy, which may be read-only as its original was, is replaced.
fn copy_file(origin: &Path, copy: &Path) -> Result<(), KernelError> {
    match fs::remove_file(copy) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(KernelError::io("remove", copy, e));
        }
        _ => {}
    }
    fs::copy(origin, copy).map_err(|e| KernelError::io("copy", origin, e))?;
    Ok(())
}

/// Decompresses the file `copied`, a copy of `origin`, in place.
fn decompress(program: &str, copied: &Path, origin: &Path) -> Result<(), KernelError> {
    let mut decompress = Command::new(program);
    decompress.args(["-d", "-f", "-q"]).arg(copied);
    if program == "zstd" {
        decompress.arg("--rm");
    }
    let Err(failure) = command::run(&mut decompress, |_| {}) else {
        return Ok(());
    };
    // The next attempt writes over the file if it cannot be removed.
    let _ = fs::remove_file(copied);
    let what = format!("{program} -d {}", origin.display());
    let hint = match failure {
        command::Failure::Missing => "Install the packages xz-utils, zstd and gzip",
        _ => "The module may be damaged",
    };
    Err(failure.into_error(&what, copied, hint))
}
