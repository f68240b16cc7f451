//! Finds a kernel's image, configuration and modules: in a folder, in an unpacked package, or next to an image. It also
//! unpacks a `.deb`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ktstr_state::arch;

use crate::command;
use crate::{KernelError, version};

/// The files of a kernel that were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) image: PathBuf,
    pub(crate) config: Option<PathBuf>,
    pub(crate) modules: Option<PathBuf>,
}

/// The possible locations of an image in a folder, in the order in which they are tried: those of new and old packages, and
/// those of a kernel's build tree. `*` stands for a release.
const IMAGES: [&str; 6] = [
    "usr/lib/modules/*/vmlinuz",
    "lib/modules/*/vmlinuz",
    "boot/vmlinuz-*",
    "vmlinuz",
    arch::IMAGE_PATH,
    arch::IMAGE,
];
const CONFIGS: [&str; 5] = [
    "usr/lib/modules/*/config",
    "lib/modules/*/config",
    "boot/config-*",
    "config",
    ".config",
];
const MODULES: [&str; 2] = ["usr/lib/modules/*", "lib/modules/*"];

/// Returns the kernel in a folder. Its image is at the first location of [`IMAGES`] that exists, with the highest release
/// if that location has several; if none exists, it is the file `vmlinux`. In a build tree, it is the newer one of
/// the boot image and `vmlinux`.
pub(crate) fn in_folder(folder: &Path) -> Result<Found, KernelError> {
    let image = match (newest(folder, &IMAGES), existing(folder.join("vmlinux"))) {
        // In a build tree, the compressed image is made from the ELF. If only the ELF was rebuilt, the image is
        // an older kernel.
        (Some(image), Some(elf)) if image.ends_with(arch::IMAGE_PATH) && is_newer(&elf, &image) => {
            Some(elf)
        }
        (image, elf) => image.or(elf),
    };
    let Some(image) = image else {
        let is_tree = folder.join("Kconfig").exists() && folder.join(arch::SOURCE).exists();
        let found = if is_tree {
            format!(
                "a kernel source tree in which nothing was built; run `cargo ktstr kernel build {}`, or run `make` in it",
                folder.display()
            )
        } else {
            format!(
                "a folder that contains none of {}, vmlinux",
                IMAGES.join(", ")
            )
        };
        return Err(KernelError::NotAKernel {
            path: folder.to_owned(),
            found,
        });
    };
    // Several kernels may be installed in the folder. The files that belong to the image have the image's release in their path.
    let release = release_of(&image);
    let of_image = |pattern: &&str| match &release {
        Some(release) => existing(folder.join(pattern.replace('*', release))),
        None => newest(folder, &[pattern]),
    };
    let modules = (MODULES.iter().filter_map(of_image)).find(|dir| dir.join("kernel").is_dir());
    let config = (CONFIGS.iter().filter_map(of_image)).find(|path| path.is_file());
    Ok(Found {
        image,
        config,
        modules,
    })
}

/// Returns the release in the path of an image: `boot/vmlinuz-RELEASE` or `lib/modules/RELEASE/vmlinuz`. `None` for a path
/// without one, as in a build tree or with the name of a flavour (`boot/vmlinuz-lts`).
fn release_of(image: &Path) -> Option<String> {
    let name = image.file_name()?.to_str()?;
    if let Some(release) = name.strip_prefix("vmlinuz-") {
        let is_release = release.starts_with(|c: char| c.is_ascii_digit());
        return Some(release.to_owned()).filter(|_| is_release);
    }
    let folder = image.parent()?;
    let is_release = folder.parent()?.ends_with("lib/modules");
    is_release.then(|| folder.file_name()?.to_str().map(str::to_owned))?
}

/// Returns whether `a` was written after `b`. A file whose time cannot be read is not newer.
fn is_newer(a: &Path, b: &Path) -> bool {
    let written = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    matches!((written(a), written(b)), (Some(a), Some(b)) if a > b)
}

/// Returns an image given by its path, with the configuration and modules that belong to it.
pub(crate) fn next_to(image: &Path) -> Found {
    let dir = image.parent().unwrap_or(Path::new("."));
    let name = image
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    let release = name
        .strip_prefix("vmlinuz-")
        .or_else(|| name.strip_prefix("vmlinux-"));
    let config = release
        .map(|release| dir.join(format!("config-{release}")))
        .into_iter()
        .chain(["config", ".config", "../../../.config"].map(|name| dir.join(name)))
        // Not every `.config` is a configuration: a home folder has a folder of that name.
        .find(|path| path.is_file());
    let modules = release
        .and_then(|release| existing(dir.join("../lib/modules").join(release)))
        .or_else(|| Some(dir.to_owned()))
        .filter(|dir| dir.join("kernel").is_dir() && dir.join("modules.order").exists())
        // A build tree has a folder `kernel` with sources or objects, and its own `modules.order`.
        .filter(|dir| {
            !["Kconfig", ".config"]
                .iter()
                .any(|name| dir.join(name).exists())
        });
    Found {
        image: image.to_owned(),
        config,
        modules,
    }
}

/// Unpacks a package into a folder.
pub(crate) fn unpack(deb: &Path, into: &Path) -> Result<(), KernelError> {
    let mut dpkg_deb = Command::new("dpkg-deb");
    dpkg_deb.arg("-x").arg(deb).arg(into);
    match command::run(&mut dpkg_deb, |_| {}) {
        Ok(_) => Ok(()),
        Err(command::Failure::Missing) => Err(KernelError::CannotFetch {
            request: Some(deb.display().to_string()),
            reason: "`dpkg-deb`, which unpacks packages, is not installed (it is part of dpkg)"
                .to_owned(),
        }),
        Err(command::Failure::Ended { output, .. }) => Err(KernelError::NotAKernel {
            path: deb.to_owned(),
            found: format!("`dpkg-deb -x` cannot unpack it:\n{output}\n"),
        }),
        Err(failure) => {
            Err(failure.into_error(&format!("dpkg-deb -x {}", deb.display()), into, ""))
        }
    }
}

/// Returns the path of the package `linux-base-…`, which holds the configuration for the image in `linux-binary-…`; `None`
/// if `deb` has another name, or if there is no such package in its folder.
pub(crate) fn base_beside(deb: &Path) -> Option<PathBuf> {
    let name = deb.file_name()?.to_str()?;
    let rest = name.strip_prefix("linux-binary-")?;
    existing(deb.with_file_name(format!(
        "linux-base-{}",
        rest.strip_prefix("unsigned-").unwrap_or(rest)
    )))
}

fn existing(path: PathBuf) -> Option<PathBuf> {
    path.exists().then_some(path)
}

/// Returns a match of the first pattern that matches anything. If it has several matches, the one with the highest
/// version in its name is returned. Returns `None` if no pattern matches.
fn newest(folder: &Path, patterns: &[&str]) -> Option<PathBuf> {
    patterns.iter().find_map(|pattern| {
        let Some((before, after)) = pattern.split_once('*') else {
            return existing(folder.join(pattern));
        };
        let (dir, prefix) = before.rsplit_once('/').unwrap_or(("", before));
        let dir = folder.join(dir);
        // Joining an empty path would append a slash, which is invalid after the name of a plain file.
        let path_of = |name: &str| match after.trim_start_matches('/') {
            "" => dir.join(name),
            rest => dir.join(name).join(rest),
        };
        let mut names: Vec<String> = fs::read_dir(&dir)
            .ok()?
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.starts_with(prefix) && path_of(name).exists())
            .collect();
        let order = |name: &str| name.replacen("-rc", "~rc", 1);
        // `installkernel` renames the kernel that it replaces to the same name with `.old`.
        names.sort_by(|a, b| {
            (b.ends_with(".old").cmp(&a.ends_with(".old")))
                .then_with(|| version::compare(&order(a), &order(b)))
        });
        names.pop().map(|name| path_of(&name))
    })
}
