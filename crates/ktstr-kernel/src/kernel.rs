//! A kernel that is ready to be used: its files in the cache and what is known of it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::KernelError;

/// Names of the files of a cache entry.
pub(crate) mod file {
    pub(crate) const IMAGE: &str = "image";
    pub(crate) const VMLINUX: &str = "vmlinux";
    pub(crate) const BTF: &str = "btf";
    pub(crate) const SYMBOLS: &str = "symbols";
    pub(crate) const CONFIG: &str = "config";
    pub(crate) const MODULES: &str = "modules";
    pub(crate) const META: &str = "kernel.json";
    pub(crate) const STAMPS: &str = "stamps.json";
}

/// Where a kernel came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A package of the Debian archive.
    Debian {
        /// Name of the package that holds the image.
        package: String,
        /// Version of that package.
        version: String,
    },
    /// A file, folder or package that the user named.
    Path(PathBuf),
    /// The kernel this machine runs.
    Host(PathBuf),
    /// Built by ktstr.
    Built {
        /// The source: a tree, a tarball, a package and its version.
        from: String,
        /// SHA-256 over the source's identity, the configuration asked for, and the compiler, hexadecimal.
        inputs_sha256: String,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Debian { package, version } => write!(f, "Debian package {package} {version}"),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Built { from, .. } => write!(f, "built from {from}"),
            Self::Host(path) => write!(f, "this machine's own, {}", path.display()),
        }
    }
}

/// A kernel, unpacked and understood. Its files are never changed once they are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Release and the beginning of the image's SHA-256: `7.3.4+deb13-cloud-amd64-1a2b3c4d`.
    pub id: String,
    /// `uname -r`.
    pub release: String,
    /// The version line: release, builder, build number, date.
    pub version_text: String,
    /// What it was imported from: a bzImage, or an ELF vmlinux with a PVH entry.
    pub image: PathBuf,
    /// The unpacked ELF.
    pub vmlinux: PathBuf,
    /// The configuration it was built with, where known.
    pub config: Option<PathBuf>,
    /// The folder of its modules (`lib/modules/<release>`), where known.
    pub modules: Option<PathBuf>,
    /// Where it came from.
    pub source: Source,
    /// It can run sched_ext schedulers.
    pub has_sched_ext: bool,
    /// It carries BTF.
    pub has_btf: bool,
    /// SHA-256 of the image, hexadecimal.
    pub image_sha256: String,
    /// The file to boot: the unpacked ELF, which saves the guest the unpacking, or the image itself when that ELF has no PVH
    /// entry.
    pub boot: PathBuf,
    /// SHA-256 of the file to boot, hexadecimal.
    pub boot_sha256: String,
    /// What `has_sched_ext` was concluded from.
    pub(crate) looked_at: String,
    /// The cache entry.
    pub(crate) dir: PathBuf,
}

impl Kernel {
    /// The kernel itself when it has sched_ext, else [`KernelError::NoSchedExt`].
    pub fn require_sched_ext(&self) -> Result<&Self, KernelError> {
        if self.has_sched_ext {
            return Ok(self);
        }
        Err(KernelError::NoSchedExt {
            kernel: self.id.clone(),
            source_text: self.source.to_string(),
            looked_at: self.looked_at.clone(),
        })
    }

    /// The kernel itself when it has BTF, else [`KernelError::NoBtf`].
    pub fn require_btf(&self) -> Result<&Self, KernelError> {
        if self.has_btf {
            return Ok(self);
        }
        Err(KernelError::NoBtf {
            kernel: self.id.clone(),
            source_text: self.source.to_string(),
        })
    }

    /// The folder of the cache that holds this kernel's files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The raw BTF of the kernel.
    pub fn btf_bytes(&self) -> Result<Vec<u8>, KernelError> {
        self.require_btf()?;
        let path = self.dir.join(file::BTF);
        fs::read(&path).map_err(|e| KernelError::io("read", path, e))
    }

    /// The kernel's types.
    pub fn btf(&self) -> Result<ktstr_introspect::btf::Btf, KernelError> {
        ktstr_introspect::btf::Btf::parse(self.btf_bytes()?).map_err(|e| self.unreadable("BTF", &e))
    }

    /// The kernel's symbols at their link addresses: those in use with `nokaslr`.
    pub fn symbols(&self) -> Result<ktstr_introspect::symbols::Symbols, KernelError> {
        ktstr_introspect::symbols::Symbols::from_kallsyms(&self.symbols_text()?)
            .map_err(|e| self.unreadable("symbols", &e))
    }

    fn unreadable(&self, what: &'static str, reason: &dyn fmt::Display) -> KernelError {
        KernelError::Unreadable {
            kernel: self.id.clone(),
            what,
            reason: reason.to_string(),
        }
    }

    /// The kernel's symbols at their link addresses, in the form of `/proc/kallsyms`.
    pub fn symbols_text(&self) -> Result<String, KernelError> {
        let path = self.dir.join(file::SYMBOLS);
        fs::read_to_string(&path).map_err(|e| KernelError::io("read", path, e))
    }
}
