//! Types of the parameters of work types.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a waker reaches its wakee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WakeMechanism {
    /// The waker writes a byte to a pipe, which is a synchronous wake-up (`WF_SYNC`) in the kernel.
    Pipe,
    /// The waker calls `FUTEX_WAKE` on a word that the two share.
    Futex,
}

/// How the lock of [`WorkType::PriorityInversion`](super::WorkType::PriorityInversion) is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FutexLockMode {
    /// `FUTEX_LOCK_PI2`: the holder inherits the priority of the waiter with the highest priority.
    Pi,
    /// `FUTEX_WAIT` and `FUTEX_WAKE`: the holder keeps its own priority.
    Plain,
}

/// Who reaps the children of [`WorkType::CgroupAttachStorm`](super::WorkType::CgroupAttachStorm).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReapMode {
    /// The kernel, because the worker ignores `SIGCHLD`. A child may be gone before it is moved. The workers cannot be threads
    /// of one process, because its threads can only ignore a signal together.
    SigIgn,
    /// The worker, by `waitpid(2)` after it has moved the child.
    Waitpid,
}

/// The width of the registers in which [`WorkType::AluHot`](super::WorkType::AluHot) computes. On a CPU without such registers,
/// the worker gives up, and its report has the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AluWidth {
    /// The 64-bit general-purpose registers.
    Scalar,
    /// The 128-bit registers of SSE2.
    Vec128,
    /// The 256-bit registers of AVX2.
    Vec256,
    /// The 512-bit registers of AVX-512F.
    Vec512,
    /// The tiles of AMX. There is no code for them, since no CPU model of the harness has AMX: the worker always gives up.
    Amx,
    /// The widest of `Scalar`, `Vec128`, `Vec256` and `Vec512` that the CPU has according to CPUID.
    Widest,
}

/// One phase of [`WorkType::Sequence`](super::WorkType::Sequence).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkPhase {
    /// Compute until this much time has passed.
    Spin(Duration),
    /// Sleep for this long.
    Sleep(Duration),
    /// Call `sched_yield(2)` after each short piece of work for this long.
    Yield(Duration),
    /// Write and sync a temporary file for this long, in memory as for [`WorkType::IoSyncWrite`](super::WorkType::IoSyncWrite).
    Io(Duration),
    /// Compute in wide registers for this long, as [`WorkType::AluHot`](super::WorkType::AluHot) does.
    AluHot {
        /// The width of the registers.
        width: AluWidth,
        /// How long the phase lasts.
        duration: Duration,
    },
}

impl WorkPhase {
    /// Returns how long the phase lasts.
    pub const fn duration(&self) -> Duration {
        match self {
            Self::Spin(d) | Self::Sleep(d) | Self::Yield(d) | Self::Io(d) => *d,
            Self::AluHot { duration, .. } => *duration,
        }
    }
}
