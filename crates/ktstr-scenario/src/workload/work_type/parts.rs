//! Types of the parameters of work types.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a waker reaches its wakee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WakeMechanism {
    /// A byte through a pipe (a synchronous wake in the kernel).
    Pipe,
    /// By `FUTEX_WAKE` on a word that both share.
    Futex,
}

/// How a lock of [`WorkType::PriorityInversion`](super::WorkType::PriorityInversion) is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FutexLockMode {
    /// `FUTEX_LOCK_PI2`: the holder inherits the priority of the highest waiter.
    Pi,
    /// `FUTEX_WAIT` and `FUTEX_WAKE`: the holder keeps its own priority.
    Plain,
}

/// Who collects the children of
/// [`WorkType::CgroupAttachStorm`](super::WorkType::CgroupAttachStorm).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReapMode {
    /// The kernel, since `SIGCHLD` is ignored; a child may have disappeared before it is attached.
    SigIgn,
    /// The worker, by `waitpid(2)` after it has attached the child.
    Waitpid,
}

/// The width of the registers in which [`WorkType::AluHot`](super::WorkType::AluHot) computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AluWidth {
    /// General registers, 64 bits.
    Scalar,
    /// The 128-bit registers of SSE2. The worker reports a CPU that lacks them.
    Vec128,
    /// The 256-bit registers of AVX2. The worker reports a CPU that lacks them.
    Vec256,
    /// The 512-bit registers of AVX-512F. The worker reports a CPU that lacks them.
    Vec512,
    /// Tiles of AMX. No CPU model that the harness uses has them, which the worker reports.
    Amx,
    /// The widest of `Scalar` to `Vec512` that the CPU has, by CPUID.
    Widest,
}

/// One phase of [`WorkType::Sequence`](super::WorkType::Sequence).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkPhase {
    /// Use the CPU for this long.
    Spin(Duration),
    /// Sleep for this long.
    Sleep(Duration),
    /// Call `sched_yield` for this long.
    Yield(Duration),
    /// Write and sync a temporary file for this long, as
    /// [`WorkType::IoSyncWrite`](super::WorkType::IoSyncWrite) does.
    Io(Duration),
    /// Compute in wide registers for this long, as [`WorkType::AluHot`](super::WorkType::AluHot)
    /// does.
    AluHot {
        /// The width of the registers.
        width: AluWidth,
        /// How long the phase lasts.
        duration: Duration,
    },
}

impl WorkPhase {
    /// How long the phase lasts.
    pub const fn duration(&self) -> Duration {
        match self {
            Self::Spin(d) | Self::Sleep(d) | Self::Yield(d) | Self::Io(d) => *d,
            Self::AluHot { duration, .. } => *duration,
        }
    }
}
