//! What can go wrong on the way to a kernel, and whose fault it is.
//!
//! Each message says what was tried, what was found and what to do. Only text is kept of the
//! cause where the cause is another program's output.

use std::io;
use std::path::{Path, PathBuf};

/// Why there is no kernel to run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A path was given that does not exist, and it is no spec either.
    #[error(
        "kernel `{request}`: there is no such file or folder, and it is no version either; give a \
         bzImage, a vmlinux, an unpacked package folder, a built kernel tree, a .deb, or a spec such as \
         `debian:7.3`, `debian:7.2+rt` or `debian:newest` (`cargo ktstr kernel list --offered` shows them)"
    )]
    NoSuchRequest {
        /// What was asked for.
        request: String,
    },

    /// The file or folder is there, but it is not a kernel this crate can use.
    #[error(
        "{} is no kernel: {found}; give an x86-64 bzImage or an ELF vmlinux, a folder or .deb \
         that holds one, or a spec such as `debian:7.3`",
        path.display()
    )]
    NotAKernel {
        /// The file or folder.
        path: PathBuf,
        /// What it was found to be.
        found: String,
    },

    /// The image is a kernel, but packed in a way this crate does not unpack.
    #[error(
        "{}: the kernel inside is compressed with {compression}, which is not supported (zstd and \
         gzip are); give the unpacked vmlinux instead, or build with CONFIG_KERNEL_ZSTD=y",
        path.display()
    )]
    Compression {
        /// The file that holds the image.
        path: PathBuf,
        /// Name of the compression found.
        compression: &'static str,
    },

    /// The kernel has no sched_ext, and the test needs it.
    #[error(
        "kernel {kernel} ({source_text}) has no sched_ext (CONFIG_SCHED_CLASS_EXT): looked at {looked_at}; \
         use one that has it, e.g. the one that `cargo ktstr kernel fetch` gets"
    )]
    NoSchedExt {
        /// Id of the kernel.
        kernel: String,
        /// Where it came from.
        source_text: String,
        /// What was examined.
        looked_at: String,
    },

    /// The kernel carries no type information, and it is needed to read its memory.
    #[error(
        "kernel {kernel} ({source_text}) has no BTF: its vmlinux has no `.BTF` section \
         (CONFIG_DEBUG_INFO_BTF); use one that has it, e.g. the one that `cargo ktstr kernel fetch` gets"
    )]
    NoBtf {
        /// Id of the kernel.
        kernel: String,
        /// Where it came from.
        source_text: String,
    },

    /// The kernel's symbols or types could not be understood.
    #[error(
        "kernel {kernel}: its {what} cannot be read: {reason}; use another kernel, e.g. the one \
         that `cargo ktstr kernel fetch` gets"
    )]
    Unreadable {
        /// Id of the kernel.
        kernel: String,
        /// `symbols` or `BTF`.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },

    /// No published kernel has the version asked for.
    #[error(
        "no kernel matches `{spec}`: looked in {looked_in}; there are: {available}. Choose one of \
         those, as in `debian:7.2` or `debian:7.2+rt`, or `debian:newest`"
    )]
    UnknownVersion {
        /// What was asked for.
        spec: String,
        /// Where was looked.
        looked_in: String,
        /// What there is, newest first, shortened.
        available: String,
    },

    /// Nothing is cached under this id.
    #[error("no kernel `{id}` in the cache {}; `cargo ktstr kernel list` shows what is there", cache.display())]
    NotCached {
        /// The id asked for.
        id: String,
        /// The folder looked in.
        cache: PathBuf,
    },

    /// The cache folder, or one in it, is not this user's alone, or cannot be used.
    #[error(transparent)]
    State(ktstr_state::StateError),

    /// Fetching is forbidden and nothing else was found.
    #[error(
        "no kernel{}, and KTSTR_OFFLINE is set so none is fetched; looked at:\n{}\nUnset \
         KTSTR_OFFLINE, or set KTSTR_KERNEL to a bzImage, a vmlinux, a package folder or a .deb",
        for_request(request),
        list(looked_at)
    )]
    Offline {
        /// What was asked for, if anything.
        request: Option<String>,
        /// Each place looked at, with what was found there.
        looked_at: Vec<String>,
    },

    /// This machine cannot fetch kernels.
    #[error(
        "cannot fetch a kernel{}: {reason}. Set KTSTR_KERNEL to a bzImage, a vmlinux, a package folder or a .deb",
        for_request(request)
    )]
    CannotFetch {
        /// What was asked for, if anything.
        request: Option<String>,
        /// What is missing on this machine.
        reason: String,
    },

    /// What is to be built is no kernel source, or its configuration is no configuration.
    #[error(
        "cannot build `{source_text}`: {found}. Give a kernel source tree, a tarball of one (.tar.xz, .tar.gz, .tar.zst), or \
         a Debian package such as linux-source-6.12"
    )]
    BadSource {
        /// What was given.
        source_text: String,
        /// What it was found to be.
        found: String,
    },

    /// The source has no such option, or other options keep it from being set.
    #[error(
        "{origin} did not take these lines of the configuration: {lines}. Either it has no such option (sched_ext needs \
         6.12 or newer, BTF needs pahole), or one that it depends on is not set"
    )]
    ConfigRefused {
        /// What was configured.
        origin: String,
        /// The lines that were refused, as they stand in the fragment.
        lines: String,
    },

    /// The source does not compile.
    #[error("{what} failed ({status}); its last words:\n{output}\n{hint}")]
    DoesNotBuild {
        /// The command that failed.
        what: String,
        /// How it ended.
        status: String,
        /// The end of what the compiler printed.
        output: String,
        /// What to do.
        hint: &'static str,
    },

    /// Programs that a build needs are not installed.
    #[error(
        "a kernel cannot be built here; missing:\n{missing}\nIn a checkout of ktstr, `scripts/deps.sh --kernel-build` installs \
         them on Debian; elsewhere install them by hand"
    )]
    BuildNeeds {
        /// A line for each, with what it is for.
        missing: String,
    },

    /// The disk has no room for what is about to be written.
    #[error(
        "{} has {free_mib} MiB free, and a kernel build needs {needed_mib} MiB there: nothing was started. Free some space, or \
         set KTSTR_CACHE_DIR to a folder on a larger disk",
        path.display()
    )]
    NoRoom {
        /// Where it would be written.
        path: PathBuf,
        /// What is needed.
        needed_mib: u64,
        /// What there is.
        free_mib: u64,
    },

    /// A program that was called failed.
    #[error("{what} failed ({status}); its last words:\n{output}\n{hint}")]
    Command {
        /// What it was called for, with its command line.
        what: String,
        /// How it ended.
        status: String,
        /// The end of what it printed.
        output: String,
        /// What to do.
        hint: &'static str,
    },

    /// The disk is full.
    #[error(
        "no space left while writing {}: nothing half-written was kept. Free some space (a cached \
         kernel takes about 90 MB; `cargo ktstr kernel remove` frees one), or set KTSTR_CACHE_DIR \
         to a folder on a larger disk",
        path.display()
    )]
    DiskFull {
        /// What was being written.
        path: PathBuf,
    },

    /// Neither a cache folder was given nor is there a home to put it in.
    #[error(
        "no folder for the kernel cache: KTSTR_CACHE_DIR, XDG_CACHE_HOME and HOME are all unset; \
         set KTSTR_CACHE_DIR"
    )]
    NoCacheDir,

    /// The system refused something.
    #[error("cannot {action} {}: {error}", path.display())]
    Io {
        /// What was tried, e.g. `read`.
        action: &'static str,
        /// The file or folder that it was refused for.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
}

impl KernelError {
    /// The exit code of a command that ends with this error: 1 when the user can mend it by asking
    /// for something else, 2 when the host has to be mended.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::NoSuchRequest { .. }
            | Self::NotAKernel { .. }
            | Self::Compression { .. }
            | Self::NoSchedExt { .. }
            | Self::NoBtf { .. }
            | Self::Unreadable { .. }
            | Self::UnknownVersion { .. }
            | Self::BadSource { .. }
            | Self::ConfigRefused { .. }
            | Self::DoesNotBuild { .. }
            | Self::NotCached { .. } => 1,
            Self::Offline { .. }
            | Self::CannotFetch { .. }
            | Self::Command { .. }
            | Self::BuildNeeds { .. }
            | Self::NoRoom { .. }
            | Self::DiskFull { .. }
            | Self::NoCacheDir
            | Self::State(_)
            | Self::Io { .. } => 2,
        }
    }

    /// Wraps an I/O error, telling a full disk from the rest.
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>, error: io::Error) -> Self {
        let path = path.as_ref().to_owned();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Io {
                action,
                path,
                error,
            },
        }
    }
}

fn for_request(request: &Option<String>) -> String {
    request
        .as_ref()
        .map_or_else(String::new, |r| format!(" for `{r}`"))
}

fn list(items: &[String]) -> String {
    items
        .iter()
        .map(|i| format!("  - {i}"))
        .collect::<Vec<_>>()
        .join("\n")
}

impl From<ktstr_state::StateError> for KernelError {
    fn from(error: ktstr_state::StateError) -> Self {
        match error {
            ktstr_state::StateError::Io {
                action,
                path,
                source,
                ..
            } if source.kind() == io::ErrorKind::StorageFull
                || source.kind() == io::ErrorKind::QuotaExceeded =>
            {
                Self::io(action, path, source)
            }
            other => Self::State(other),
        }
    }
}
