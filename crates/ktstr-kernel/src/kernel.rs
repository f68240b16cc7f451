//! A kernel that is ready for use: its files in the cache and its properties.

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
    pub(crate) const META: &str = "kernel.json";
    pub(crate) const STAMPS: &str = "stamps.json";
}

/// The source of a kernel.
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
    /// The running kernel of this machine, with the path of its image.
    Host(PathBuf),
    /// A kernel that ktstr built.
    Built {
        /// The source: a tree, a tarball, or a package and its version.
        from: String,
        /// SHA-256 over the source's identity, the requested configuration, and the versions of compiler, linker and
        /// pahole, in hexadecimal.
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

/// A kernel that has been unpacked and examined. Its files in the cache are never modified; its entry may be replaced as a
/// whole, e.g. once its configuration becomes known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// The release and the beginning of the image's SHA-256: `7.3.4+deb13-cloud-amd64-1a2b3c4d`.
    pub id: String,
    /// The release, as `uname -r` prints it.
    pub release: String,
    /// The version line: release, builder, build number, date.
    pub version_text: String,
    /// The image as imported: a bzImage, or an ELF vmlinux with a PVH entry.
    pub image: PathBuf,
    /// The uncompressed kernel, an ELF file.
    pub vmlinux: PathBuf,
    /// The configuration that the kernel was built with; `None` if it is unknown.
    pub config: Option<PathBuf>,
    /// The folder of its modules (`lib/modules/<release>`) outside of the cache; `None` if it is unknown.
    pub modules: Option<PathBuf>,
    /// The source of the kernel.
    pub source: Source,
    /// Whether it can run sched_ext schedulers.
    pub has_sched_ext: bool,
    /// Whether it has BTF.
    pub has_btf: bool,
    /// SHA-256 of the image, in hexadecimal.
    pub image_sha256: String,
    /// The file to boot. This is the uncompressed ELF, which saves the guest the decompression, or the image itself if
    /// the ELF has no PVH entry.
    pub boot: PathBuf,
    /// SHA-256 of the file to boot, in hexadecimal.
    pub boot_sha256: String,
    /// The evidence for the value of `has_sched_ext`, as a text for error messages.
    pub(crate) looked_at: String,
    /// The folder of the cache entry.
    pub(crate) dir: PathBuf,
}

impl Kernel {
    /// Returns the kernel itself if it has sched_ext, else [`KernelError::NoSchedExt`].
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

    /// Returns the kernel itself if it has BTF, else [`KernelError::NoBtf`].
    pub fn require_btf(&self) -> Result<&Self, KernelError> {
        if self.has_btf {
            return Ok(self);
        }
        Err(KernelError::NoBtf {
            kernel: self.id.clone(),
            source_text: self.source.to_string(),
        })
    }

    /// Returns the folder of the cache that holds this kernel's files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the raw BTF of the kernel.
    pub fn btf_bytes(&self) -> Result<Vec<u8>, KernelError> {
        self.require_btf()?;
        let path = self.dir.join(file::BTF);
        fs::read(&path).map_err(|e| KernelError::io("read", path, e))
    }

    /// Returns the kernel's types, parsed from its BTF.
    pub fn btf(&self) -> Result<ktstr_introspect::btf::Btf, KernelError> {
        ktstr_introspect::btf::Btf::parse(self.btf_bytes()?).map_err(|e| self.unreadable("BTF", &e))
    }

    /// Returns the kernel's symbols at their link addresses, which are the actual ones with `nokaslr`.
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

    /// Returns the kernel's symbols at their link addresses, in the format of `/proc/kallsyms`.
    pub fn symbols_text(&self) -> Result<String, KernelError> {
        let path = self.dir.join(file::SYMBOLS);
        fs::read_to_string(&path).map_err(|e| KernelError::io("read", path, e))
    }
}
