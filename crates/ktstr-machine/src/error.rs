//! Everything that can go wrong between the host and its QEMU.

use std::path::PathBuf;
use std::time::Duration;

/// Why a machine could not be made, driven or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// No QEMU anywhere.
    #[error(
        "no QEMU: looked for `qemu-system-x86_64` in {looked}; install QEMU {needed} or newer \
         (`make deps` does it on Debian) or name one with KTSTR_QEMU"
    )]
    NoQemu {
        /// Where it was looked for.
        looked: String,
        /// The oldest that will do.
        needed: u32,
    },
    /// A QEMU that is too old, or does not say how old it is.
    #[error(
        "{} says it is \"{found}\", and QEMU {needed} or newer is needed (`make deps` installs \
         it on Debian; Debian 12 has it in bookworm-backports)", path.display()
    )]
    QemuTooOld {
        /// The program asked.
        path: PathBuf,
        /// Its first line of `--version`.
        found: String,
        /// The oldest that will do.
        needed: u32,
    },
    /// What the user names as QEMU is none.
    #[error(
        "KTSTR_QEMU={}: {found}; name the program qemu-system-x86_64 of QEMU {needed} or newer, or unset \
         the variable", path.display()
    )]
    NotQemu {
        /// What is named.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
        /// The oldest that will do.
        needed: u32,
    },
    /// QEMU could not be started.
    #[error("could not start {}: {source}", path.display())]
    Spawn {
        /// The program that was to be started.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// QEMU ended by itself.
    #[error("QEMU {status} while {during}; it said: {stderr}")]
    Died {
        /// Exit code or signal.
        status: String,
        /// What the host was doing.
        during: &'static str,
        /// The end of its standard error.
        stderr: String,
    },
    /// QEMU refused a command.
    #[error("QEMU refused `{command}`: {reason}")]
    Refused {
        /// The QMP command.
        command: String,
        /// QEMU's description.
        reason: String,
    },
    /// QEMU did not answer.
    #[error("QEMU did not answer `{command}` within {within:?}")]
    NoAnswer {
        /// The QMP command.
        command: String,
        /// How long it was waited for.
        within: Duration,
    },
    /// QEMU said something that is no QMP.
    #[error("QEMU's monitor sent something that is not QMP: {what}")]
    BadQmp {
        /// What it was.
        what: String,
    },
    /// A system call of the host failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// The system's word.
        source: std::io::Error,
    },
    /// Guest memory that is not there.
    #[error("guest memory {gpa:#x}+{len:#x} is not RAM of this machine ({size:#x} bytes)")]
    NoSuchMemory {
        /// Guest-physical address.
        gpa: u64,
        /// Length asked for.
        len: usize,
        /// RAM of the machine.
        size: u64,
    },
    /// The machine cannot have the shape.
    #[error("QEMU cannot build the topology {topology}: {reason}")]
    Topology {
        /// As `{numa}n{llcs}l{cores}c{threads}t`.
        topology: String,
        /// What is wrong with it, in one sentence.
        reason: String,
    },
}

impl MachineError {
    /// Wraps an I/O error with what was tried.
    pub fn system(what: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        Self::System {
            what: what.into(),
            source: source.into(),
        }
    }
}
