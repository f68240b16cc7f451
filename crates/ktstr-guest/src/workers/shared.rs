//! Memory that a worker and its parent share: one anonymous mapping a worker for its numbers,
//! one a handle for gate and wake words, one a scenario for the phase. Whatever way a worker
//! ends, the parent still has what the worker had written.

use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicU16, AtomicU32, AtomicU64};

use super::WorkerError;
use super::sys::MASK_WORDS;

/// Samples kept a worker; beyond it a reservoir replaces at random (CONTRACT: 100 000).
pub const MAX_SAMPLES: usize = 100_000;
/// Migrations listed a worker; the count goes on.
pub const MAX_MIGRATIONS: usize = 4096;
/// Phase slices a worker; later phases count into the last one.
pub const MAX_SLICES: usize = 256;
/// Wake words a handle (futex rings): one a worker.
pub const MAX_WORDS: usize = 4096;

/// A shared anonymous mapping holding one `T`, zeroed at first.
///
/// `T` must be made of atomics only, for which all-zero bytes are valid: see [`Zeroed`].
#[derive(Debug)]
pub struct Shared<T: Zeroed>(NonNull<T>);

/// Types made of atomics and arrays of atomics: any bytes are valid, all access is shared.
///
/// # Safety
/// Implementers must be `repr(C)` and hold nothing but atomics.
pub unsafe trait Zeroed: Sync {}

// SAFETY: the mapping belongs to the value and `T` is `Sync`.
unsafe impl<T: Zeroed> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Zeroed> Sync for Shared<T> {}

impl<T: Zeroed> Shared<T> {
    /// Maps a new one. Pages cost memory only once they are written to.
    pub fn new() -> Result<Self, WorkerError> {
        // SAFETY: a fresh anonymous mapping, nothing is replaced.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<T>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(WorkerError::sys("map memory shared with a worker"));
        }
        NonNull::new(at.cast())
            .map(Self)
            .ok_or_else(|| WorkerError::sys("map memory shared with a worker"))
    }
}

impl<T: Zeroed> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: mapped for as long as self lives, page-aligned, all bytes valid (`Zeroed`).
        unsafe { self.0.as_ref() }
    }
}

impl<T: Zeroed> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this size; nobody borrows from a value being dropped.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<T>()) };
    }
}

/// The live phase ordinal of a scenario (0 = BASELINE), read by workers at checkpoints.
#[repr(C)]
#[derive(Debug)]
pub struct PhasePage {
    /// 1-based step ordinal.
    pub phase: AtomicU16,
}
// SAFETY: repr(C), atomics only.
unsafe impl Zeroed for PhasePage {}

/// What the workers of one handle share.
#[repr(C)]
#[derive(Debug)]
pub struct Control {
    /// 0: workers wait; 1: they run. A futex.
    pub gate: AtomicU32,
    /// Monotonic time of the release, ns.
    pub released_at_ns: AtomicU64,
    /// Futex words of wake rings, one a worker.
    pub words: [AtomicU32; MAX_WORDS],
    /// When each word's owner was woken, ns.
    pub stamps: [AtomicU64; MAX_WORDS],
    /// Thread ids of the workers, written before the gate opens.
    pub tids: [AtomicI32; MAX_WORDS],
    /// How many workers there are.
    pub workers: AtomicU32,
    /// How many workers have done their first iteration, where they were asked to tell. A futex.
    pub first_iterations: AtomicU32,
}
// SAFETY: repr(C), atomics only.
unsafe impl Zeroed for Control {}

/// Counters of one phase of one worker, as of its last checkpoint.
#[repr(C)]
#[derive(Debug)]
pub struct Slice {
    /// The phase: 0 before the first step, 1 in the first step.
    pub phase: AtomicU32,
    /// Longest gap's CPU.
    pub max_gap_cpu: AtomicU32,
    /// Longest gap between checkpoints, ns of guest time.
    pub max_gap_ns: AtomicU64,
    /// End of that gap since the release, ns.
    pub max_gap_at_ns: AtomicU64,
    /// Work units done.
    pub work_units: AtomicU64,
    /// Loop iterations done.
    pub iterations: AtomicU64,
    /// CPU time, ns.
    pub cpu_ns: AtomicU64,
    /// Wall (guest) time, ns.
    pub wall_ns: AtomicU64,
    /// Run delay, ns.
    pub run_delay_ns: AtomicU64,
    /// Times put on a CPU.
    pub run_count: AtomicU64,
    /// Schedstat's own CPU time, ns.
    pub sched_cpu_ns: AtomicU64,
    /// CPU changes seen.
    pub migrations: AtomicU64,
    /// Samples offered to the reservoir.
    pub samples: AtomicU64,
    /// Samples that a benchmark offered to its own reservoir.
    pub bench_samples: AtomicU64,
    /// Look-ups of a benchmark that found their key.
    pub bench_hits: AtomicU64,
    /// The CPUs that the worker was seen on, one bit each.
    pub cpus: [AtomicU64; MASK_WORDS],
}

/// One CPU change.
#[repr(C)]
#[derive(Debug)]
pub struct Move {
    /// Since the release, ns.
    pub at_ns: AtomicU64,
    /// From (high half) and to (low half).
    pub cpus: AtomicU64,
}

/// All numbers of one worker. Written by it alone.
#[repr(C)]
#[derive(Debug)]
pub struct Telemetry {
    /// 1 once the worker wrote its last number.
    pub finished: AtomicU32,
    /// Non-zero: the errno of a failed set-up before the gate.
    pub setup_errno: AtomicI32,
    /// Its thread id, where it is a thread of a leader.
    pub tid: AtomicI32,
    /// Non-zero: why it gave up, and the errno beside it: see `unable`.
    pub unable: AtomicU32,
    /// The errno that came with it; 0 for none.
    pub unable_errno: AtomicI32,
    /// Non-zero: the errno with which the kernel refused the policy below.
    pub policy_errno: AtomicI32,
    /// The policy that it gave itself, as the kernel numbers them.
    pub policy: AtomicI32,
    /// Set when it gave itself a policy above all schedulers of fair and sched_ext tasks.
    pub realtime: AtomicU32,
    /// The CPUs that it was allowed at the release.
    pub allowed: [AtomicU64; MASK_WORDS],
    /// CPU time that it took to leave both marks in the exact schedule, ns.
    pub slack_ns: AtomicU64,
    /// Slices in use.
    pub slices_used: AtomicU32,
    /// Set when samples are timer latencies, not wake latencies.
    pub timer_samples: AtomicU32,
    /// Set when the worker only wakes others.
    pub messenger: AtomicU32,
    /// The worker's role in a benchmark, as its place in `BenchRole::ALL` plus one; 0 for all other work types.
    pub bench_role: AtomicU32,
    /// CPU of the last checkpoint.
    pub last_cpu: AtomicU32,
    /// Migrations of the whole run, those that `moves` has no room for included.
    pub moves_seen: AtomicU64,
    /// Samples of the whole run, those that the reservoir did not keep included.
    pub samples_seen: AtomicU64,
    /// The same of the benchmark's own samples.
    pub bench_seen: AtomicU64,
    /// Iterations so far, for a reader while the worker runs.
    pub live_iterations: AtomicU64,
    /// Per-phase numbers.
    pub slices: [Slice; MAX_SLICES],
    /// The first migrations of the run; `moves_seen` says how many there were.
    pub moves: [Move; MAX_MIGRATIONS],
    /// Latency reservoir: phase in the top 16 bits, nanoseconds below.
    pub samples: [AtomicU64; MAX_SAMPLES],
    /// The benchmark's own reservoir, laid out in the same way.
    pub bench: [AtomicU64; MAX_SAMPLES],
}
// SAFETY: repr(C), atomics only, all the way down.
unsafe impl Zeroed for Telemetry {}

/// Bits of a sample that hold nanoseconds (78 hours); the phase is above.
pub const SAMPLE_NS_BITS: u32 = 48;
