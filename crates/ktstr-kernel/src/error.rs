//! The errors of finding, fetching and building a kernel, and whether the user can help or the host has to be repaired.
//!
//! Each message says what was tried, what was found and what to do. If another program has failed, the
//! message quotes a part of its output.

use std::io;
use std::path::{Path, PathBuf};

use ktstr_state::arch::{IMAGE, NAME as ARCH};

/// Why there is no kernel to run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The request is neither an existing path, nor the id of a cached kernel, nor a spec.
    #[error(
        "kernel `{request}`: there is no such file or folder, and it is not a version either; give a \
         {IMAGE}, a vmlinux, an unpacked package folder, a built kernel tree, a .deb, or a spec such as \
         `debian:7.3`, `debian:7.2+rt` or `debian:newest` (`cargo ktstr kernel list --offered` shows them)"
    )]
    NoSuchRequest {
        /// The request for a kernel, as the user wrote it.
        request: String,
    },

    /// The file or folder exists, but is not a kernel that this crate can use.
    #[error(
        "{} is not a kernel: {found}; give an {ARCH} {IMAGE} or an ELF vmlinux, a folder or .deb \
         that holds one, or a spec such as `debian:7.3`",
        path.display()
    )]
    NotAKernel {
        /// The file or folder.
        path: PathBuf,
        /// What the file or folder appears to be instead.
        found: String,
    },

    /// The kernel does not have a module that a test needs, or the module's file was not found.
    #[error(
        "the kernel {kernel} cannot load {module}: {reason}; use a kernel of Debian (such as KTSTR_KERNEL=debian:newest), or one \
         with {option}=y"
    )]
    NoModule {
        /// The id of the kernel.
        kernel: String,
        /// The name of the module's file.
        module: String,
        /// The option that turns the module on.
        option: &'static str,
        /// Why the kernel does not have the module, or where its file was looked for.
        reason: String,
    },

    /// The image is a kernel, but its compression is not supported.
    #[error(
        "{}: the kernel inside is compressed with {compression}, which is not supported (zstd and \
         gzip are); give the unpacked vmlinux instead, or build with CONFIG_KERNEL_ZSTD=y",
        path.display()
    )]
    Compression {
        /// The file that holds the image.
        path: PathBuf,
        /// The name of the compression.
        compression: &'static str,
    },

    /// The kernel has no sched_ext, but the test needs it.
    #[error(
        "kernel {kernel} ({source_text}) has no sched_ext (CONFIG_SCHED_CLASS_EXT): {looked_at}; \
         use one that has it, e.g. the one that `cargo ktstr kernel fetch` downloads"
    )]
    NoSchedExt {
        /// The id of the kernel.
        kernel: String,
        /// The source of the kernel.
        source_text: String,
        /// Where sched_ext was looked for, with what was found there.
        looked_at: String,
    },

    /// The kernel has no type information, but reading its memory needs it.
    #[error(
        "kernel {kernel} ({source_text}) has no BTF: its vmlinux has no `.BTF` section \
         (CONFIG_DEBUG_INFO_BTF); use one that has it, e.g. the one that `cargo ktstr kernel fetch` downloads"
    )]
    NoBtf {
        /// The id of the kernel.
        kernel: String,
        /// The source of the kernel.
        source_text: String,
    },

    /// The kernel's symbols or types cannot be decoded.
    #[error(
        "kernel {kernel}: its {what} cannot be read: {reason}; use another kernel, e.g. the one \
         that `cargo ktstr kernel fetch` downloads"
    )]
    Unreadable {
        /// The id of the kernel, or the path of its image while it is imported.
        kernel: String,
        /// What could not be decoded: `symbols` or `BTF`.
        what: &'static str,
        /// What is wrong with them.
        reason: String,
    },

    /// No published kernel, or no package with a kernel's source, matches the request.
    #[error(
        "no kernel matches `{spec}`: looked in {looked_in}; available are: {available}. Choose one of \
         those, as in `debian:7.2` or `debian:7.2+rt`, or `debian:newest`"
    )]
    UnknownVersion {
        /// The spec that was asked for, always with `debian:`, or the name of the package.
        spec: String,
        /// The places that were searched.
        looked_in: String,
        /// The available kernels, newest first, in a short form, or the names of the available packages.
        available: String,
    },

    /// The cache has no kernel with this id.
    #[error("no kernel `{id}` in the cache {}; `cargo ktstr kernel list` lists the cached kernels", cache.display())]
    NotCached {
        /// The id that was asked for, as the user wrote it.
        id: String,
        /// The folder that was searched.
        cache: PathBuf,
    },

    /// The cache folder, or a folder in it, cannot be used, or others can write to it.
    #[error(transparent)]
    State(ktstr_state::StateError),

    /// A kernel, its source or the list of kernels would have to be fetched, and `KTSTR_OFFLINE` forbids it.
    #[error(
        "no kernel{}, and KTSTR_OFFLINE is set, so none is fetched; looked at:\n{}\nUnset \
         KTSTR_OFFLINE, or set KTSTR_KERNEL to a {IMAGE}, a vmlinux, a package folder or a .deb",
        for_request(request),
        list(looked_at)
    )]
    Offline {
        /// The request, if there was one.
        request: Option<String>,
        /// Each place that was considered, with what was found there.
        looked_at: Vec<String>,
    },

    /// This machine cannot fetch packages of kernels, or cannot unpack them.
    #[error(
        "cannot fetch a kernel{}: {reason}. Set KTSTR_KERNEL to a {IMAGE}, a vmlinux, a package folder or a .deb",
        for_request(request)
    )]
    CannotFetch {
        /// The request, if there was one.
        request: Option<String>,
        /// What is missing on this machine, or what else prevents it.
        reason: String,
    },

    /// The given source is not a kernel source, or a given configuration file has no options.
    #[error(
        "cannot build `{source_text}`: {found}. Give a kernel source tree, a tarball of one (.tar.xz, .tar.gz, .tar.zst), or \
         a Debian package such as linux-source-6.12"
    )]
    BadSource {
        /// The source or the configuration file.
        source_text: String,
        /// What it appears to be instead.
        found: String,
    },

    /// The source does not have a required option, or other options prevent it from being set.
    #[error(
        "{origin} did not accept these lines of the configuration: {lines}. Either the source lacks such an option (sched_ext \
         needs 6.12 or newer, BTF needs pahole), or an option that it depends on is not set"
    )]
    ConfigRefused {
        /// The source that was configured.
        origin: String,
        /// The rejected lines, in the form that they have in a `.config`.
        lines: String,
    },

    /// The source cannot be configured, or does not compile.
    #[error("{what} failed ({status}); its last output:\n{output}\n{hint}")]
    DoesNotBuild {
        /// The command that failed.
        what: String,
        /// The command's exit status.
        status: String,
        /// The end of the output of `make`.
        output: String,
        /// The advice for the user.
        hint: &'static str,
    },

    /// Programs that a build needs are not installed.
    #[error(
        "a kernel cannot be built on this machine; missing:\n{missing}\nIn a checkout of ktstr, `scripts/deps.sh --kernel-build` installs \
         them on Debian; elsewhere install them by hand"
    )]
    BuildNeeds {
        /// One line for each missing program or header, with its purpose.
        missing: String,
    },

    /// The disk has too little free space for a build.
    #[error(
        "{} has {free_mib} MiB free, and a kernel build needs {needed_mib} MiB there, so it was not started. Free some space, or \
         set KTSTR_CACHE_DIR to a folder on a larger disk",
        path.display()
    )]
    NoRoom {
        /// The folder that would be written to.
        path: PathBuf,
        /// The required space in MiB.
        needed_mib: u64,
        /// The free space in MiB.
        free_mib: u64,
    },

    /// A program that the fetch or the build needs has failed, or could not be started.
    #[error("{what} failed ({status}); its last output:\n{output}\n{hint}")]
    Command {
        /// The command, in a form for the user.
        what: String,
        /// The command's exit status, or the reason why it could not be run.
        status: String,
        /// The end of the program's output.
        output: String,
        /// The advice for the user.
        hint: &'static str,
    },

    /// The disk is full, or the user's quota is used up.
    #[error(
        "no space left while writing {}: incomplete files were removed. Free some space (a cached \
         kernel takes about 90 MB; `cargo ktstr kernel remove` frees one), or set KTSTR_CACHE_DIR \
         to a folder on a larger disk",
        path.display()
    )]
    DiskFull {
        /// The file or folder that was being written.
        path: PathBuf,
    },

    /// No cache folder was given, and there is no home folder for the default one.
    #[error(
        "no folder for the kernel cache: KTSTR_CACHE_DIR, XDG_CACHE_HOME and HOME are all unset; \
         set KTSTR_CACHE_DIR"
    )]
    NoCacheDir,

    /// An environment variable has an invalid value.
    #[error(transparent)]
    Environment(#[from] ktstr_state::env::Invalid),

    /// A system call failed.
    #[error("cannot {action} {}: {error}", path.display())]
    Io {
        /// The operation that failed, as a verb, e.g. `read`.
        action: &'static str,
        /// The file or folder of the operation.
        path: PathBuf,
        /// The underlying I/O error.
        error: io::Error,
    },
}

impl KernelError {
    /// Returns the exit code of a command that fails with this error: 1 if the user can help by requesting something
    /// else, 2 if the host has to be repaired.
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
            | Self::Environment(_)
            | Self::NoModule { .. }
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

    /// Wraps an I/O error. A full disk and an exceeded quota become [`KernelError::DiskFull`].
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
                cause,
                ..
            } if cause.kind() == io::ErrorKind::StorageFull
                || cause.kind() == io::ErrorKind::QuotaExceeded =>
            {
                Self::io(action, path, cause)
            }
            other => Self::State(other),
        }
    }
}
