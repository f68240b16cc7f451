//! The errors of starting, controlling and reading a machine.

use std::path::PathBuf;
use std::time::Duration;

use ktstr_state::arch::QEMU;

/// Why a machine could not be started, controlled or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// No QEMU was found.
    #[error(
        "no QEMU: looked for `{QEMU}` in {looked}; install QEMU {needed} or newer \
         (`make deps` does it on Debian) or name one with KTSTR_QEMU"
    )]
    NoQemu {
        /// The places that were searched.
        looked: String,
        /// The oldest major version that works.
        needed: u32,
    },
    /// The version of QEMU is too old, or its output for `--version` is not that of QEMU.
    #[error(
        "{} says it is \"{found}\", and QEMU {needed} or newer is needed (`make deps` installs \
         it on Debian; Debian 12 has it in bookworm-backports)", path.display()
    )]
    QemuTooOld {
        /// The path of the program.
        path: PathBuf,
        /// The first line that it prints for `--version`.
        found: String,
        /// The oldest major version that works.
        needed: u32,
    },
    /// The program that the user named is not QEMU.
    #[error(
        "KTSTR_QEMU={}: {found}; set it to the path of a {QEMU} of version {needed} or newer, \
         or unset it", path.display()
    )]
    NotQemu {
        /// The path that was named.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
        /// The oldest major version that works.
        needed: u32,
    },
    /// The program started QEMU as another process, instead of becoming it.
    #[error(
        "{} is not QEMU itself: it ran as process {started} ({name}) and started QEMU as another process, which the harness \
         can neither read nor reliably end; in a script, start QEMU with `exec`, as in `exec {QEMU} \"$@\"`",
        path.display()
    )]
    NotExecuted {
        /// The path of the program.
        path: PathBuf,
        /// The ID of the process that was started.
        started: u32,
        /// The name of that process, such as `sh`, or `it has exited`.
        name: String,
    },
    /// QEMU could not be started, or did not succeed with `--version`.
    #[error("could not start {}: {cause}", path.display())]
    Spawn {
        /// The path of the program.
        path: PathBuf,
        /// The underlying I/O error.
        cause: std::io::Error,
    },
    /// QEMU exited, was killed or closed its monitor, although the host had not requested it.
    #[error("QEMU {status} while {during}; it printed: {stderr}")]
    Died {
        /// How QEMU ended, such as `exited with code 1`.
        status: String,
        /// What the host was doing at the time.
        during: &'static str,
        /// The end of QEMU's standard error.
        stderr: String,
    },
    /// QEMU refused a command.
    #[error("QEMU refused `{command}`: {reason}")]
    Refused {
        /// The QMP command that QEMU refused.
        command: String,
        /// QEMU's description of the error.
        reason: String,
    },
    /// QEMU did not answer.
    #[error("QEMU did not answer `{command}` within {within:?}")]
    NoAnswer {
        /// The QMP command or the request to which there was no answer.
        command: String,
        /// How long the host waited.
        within: Duration,
    },
    /// QEMU's monitor sent data that is not QMP.
    #[error("QEMU's monitor sent something that is not QMP: {what}")]
    BadQmp {
        /// A description of the data.
        what: String,
    },
    /// An operation on the host failed, in most cases a system call.
    #[error("{what}: {cause}")]
    System {
        /// The operation that failed.
        what: String,
        /// The underlying I/O error.
        cause: std::io::Error,
    },
    /// The address is not in guest memory.
    #[error("guest memory {gpa:#x}+{len:#x} is not RAM of this machine ({size:#x} bytes)")]
    NoSuchMemory {
        /// The guest-physical address that was accessed.
        gpa: u64,
        /// The length of the access.
        len: usize,
        /// The size of the machine's RAM, in bytes.
        size: u64,
    },
    /// QEMU cannot build the requested topology.
    #[error("QEMU cannot build the topology {topology}: {reason}")]
    Topology {
        /// The topology, as `{numa}n{llcs}l{cores}c{threads}t`.
        topology: String,
        /// What is wrong with the topology, in a few words.
        reason: String,
    },
}

impl MachineError {
    /// Wraps an I/O error with the operation that failed.
    pub fn system(what: impl Into<String>, cause: impl Into<std::io::Error>) -> Self {
        Self::System {
            what: what.into(),
            cause: cause.into(),
        }
    }
}
