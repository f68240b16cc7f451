//! Memory that a worker shares with its parent: one anonymous mapping per worker for its counters,
//! one per handle for the gate and the wake words, one per scenario for the phase and the named
//! objects, and one per group if the members share bytes. However a worker ends, the parent still
//! has everything that the worker has written.

use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicU16, AtomicU32, AtomicU64};

use super::WorkerError;
use super::counters::Slice;
use super::objects::Objects;
use super::sys::MASK_WORDS;

/// Number of latency samples kept for each worker. Later samples replace earlier ones at random.
pub const MAX_SAMPLES: usize = 100_000;
/// Number of migrations listed for each worker. Later ones are only counted.
pub const MAX_MIGRATIONS: usize = 4096;
/// Number of phase slices of each worker. Later phases count in the last slice.
pub const MAX_SLICES: usize = 256;
/// Maximum number of workers of a handle, and of their futex words.
pub const MAX_WORDS: usize = 4096;

/// A shared anonymous mapping that holds one `T`, zeroed initially.
///
/// `T` must consist of atomics only, for which all-zero bytes are valid: see [`Zeroed`].
#[derive(Debug)]
pub struct Shared<T: Zeroed>(NonNull<T>);

/// Types that consist of integer atomics and arrays of them. Any bytes are a valid value of such a type, and several
/// processes may access the value at once.
///
/// # Safety
/// Implementers must be `repr(C)` and contain nothing but integer atomics.
pub unsafe trait Zeroed: Sync {}

// SAFETY: the mapping belongs to the value and `T` is `Sync`.
unsafe impl<T: Zeroed> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Zeroed> Sync for Shared<T> {}

impl<T: Zeroed> Shared<T> {
    /// Creates a mapping. Its pages take memory only once they are touched.
    pub fn new() -> Result<Self, WorkerError> {
        map_shared(size_of::<T>()).map(|at| Self(at.cast()))
    }
}

impl<T: Zeroed> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: mapped for as long as `self` lives, page-aligned, and any bytes are valid
        // (`Zeroed`).
        unsafe { self.0.as_ref() }
    }
}

impl<T: Zeroed> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this size; nothing borrows from a value that is being
        // dropped.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<T>()) };
    }
}

/// Bytes that the members of one group share, zeroed initially. The pages take memory only once they are touched.
#[derive(Debug)]
pub struct Bytes(NonNull<u8>, usize);

// SAFETY: the mapping belongs to the value; whoever uses the bytes upholds the rules of shared memory.
unsafe impl Send for Bytes {}
// SAFETY: as above.
unsafe impl Sync for Bytes {}

impl Bytes {
    /// Creates a mapping of `len` bytes.
    pub fn new(len: usize) -> Result<Self, WorkerError> {
        map_shared(len).map(|at| Self(at.cast(), len))
    }

    /// Returns the address of the first byte, and the number of bytes.
    pub fn place(&self) -> (*mut u8, usize) {
        (self.0.as_ptr(), self.1)
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this size; only worker processes access the bytes, through
        // mappings of their own, which this munmap does not remove.
        unsafe { libc::munmap(self.0.as_ptr().cast(), self.1) };
    }
}

/// Maps `len` bytes of anonymous memory that children share with their parent.
fn map_shared(len: usize) -> Result<NonNull<libc::c_void>, WorkerError> {
    // SAFETY: a fresh anonymous mapping; no other mapping is replaced.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    let at = if at == libc::MAP_FAILED {
        None
    } else {
        NonNull::new(at)
    };
    at.ok_or_else(|| WorkerError::sys("map memory shared with a worker"))
}

/// What all workers of a scenario share: the ordinal of the current phase, which they read at checkpoints, the number of parts
/// of the disk that are taken, and the objects that they name.
#[repr(C)]
#[derive(Debug)]
pub struct PhasePage {
    /// The ordinal: 0 is BASELINE, the first step is 1.
    pub phase: AtomicU16,
    /// The number of parts of the disk that workers have taken.
    pub disk_parts: AtomicU32,
    /// The locks, condition variables, barriers, semaphores and timers that workers name.
    pub objects: Objects,
}
// SAFETY: repr(C), atomics only.
unsafe impl Zeroed for PhasePage {}

/// The state that the workers of one handle share.
#[repr(C)]
#[derive(Debug)]
pub struct Control {
    /// The gate, a futex: 0 while the workers wait, 1 when they run.
    pub gate: AtomicU32,
    /// The monotonic time of the release in ns.
    pub released_at_ns: AtomicU64,
    /// The futex words of the workers, one for each.
    pub words: [AtomicU32; MAX_WORDS],
    /// A monotonic time in ns for each word. In a ring, it is the time at which the word's owner was last woken. Each other
    /// work type defines what the time means.
    pub stamps: [AtomicU64; MAX_WORDS],
    /// The thread ids of the workers, written before the gate opens.
    pub tids: [AtomicI32; MAX_WORDS],
    /// The number of workers.
    pub workers: AtomicU32,
    /// The number of workers that have completed their first iteration, if they were asked to
    /// report it. This is a futex.
    pub first_iterations: AtomicU32,
    /// 1 if the NUMA nodes of the workers' pages are measured.
    pub measures_pages: AtomicU32,
}
// SAFETY: repr(C), atomics only.
unsafe impl Zeroed for Control {}

/// One migration that the worker noticed.
#[repr(C)]
#[derive(Debug)]
pub struct MigrationSlot {
    /// Time in ns since the release.
    pub at_ns: AtomicU64,
    /// The old CPU in the high half, the new CPU in the low half.
    pub cpus: AtomicU64,
}

/// All counters of one worker. Only the worker writes them, with two exceptions: its parent writes `allowed`, `delay_before_ns`
/// and `delay_known` before the release, and its leader may write `setup_errno`, too.
#[repr(C)]
#[derive(Debug)]
pub struct Telemetry {
    /// 1 once the worker has published its final counters.
    pub finished: AtomicU32,
    /// The errno of a failed setup before the gate; 0 if there was no failure.
    pub setup_errno: AtomicI32,
    /// The worker's thread id, if it is a thread of a leader.
    pub tid: AtomicI32,
    /// The reason why the worker gave up, encoded by `unable`; 0 if it did not.
    pub unable: AtomicU32,
    /// The errno that belongs to the reason; 0 for none.
    pub unable_errno: AtomicI32,
    /// The errno of the last refused change of policy; 0 if none was refused.
    pub policy_errno: AtomicI32,
    /// The real-time priority that the worker should have had, if it got a lower one; 0 otherwise.
    pub lowered_from: AtomicU32,
    /// The policy of the refused change, as the kernel's constant.
    pub policy: AtomicI32,
    /// 1 if the last policy that the worker set successfully takes precedence over all fair and sched_ext tasks.
    pub realtime: AtomicU32,
    /// The CPUs that the worker was allowed to use at the release.
    pub allowed: [AtomicU64; MASK_WORDS],
    /// CPU time in ns that passed between the clock readings just before and just after a mark in the exact schedule, summed over
    /// the worker's first and last mark. The worker's CPU time between the marks is uncertain by this much.
    pub slack_ns: AtomicU64,
    /// The time in ns for which the worker was runnable without a CPU before its release, as the parent read it.
    pub delay_before_ns: AtomicU64,
    /// 1 if the parent could read `delay_before_ns`.
    pub delay_known: AtomicU32,
    /// The time in ns for which the worker was runnable without a CPU, from its release until its end.
    pub waited_ns: AtomicU64,
    /// 1 once `waited_ns` is known, which needs a kernel with schedstats and a known `delay_before_ns`.
    pub waited_known: AtomicU32,
    /// Number of slices in use.
    pub slices_used: AtomicU32,
    /// The kind of the samples, as its index in `SampleKind::ALL`.
    pub sample_kind: AtomicU32,
    /// 1 if the worker only wakes others.
    pub messenger: AtomicU32,
    /// The worker's role in a benchmark, as its index in `BenchRole::ALL` plus one; 0 for all other work types.
    pub bench_role: AtomicU32,
    /// The CPU at the last checkpoint.
    pub last_cpu: AtomicU32,
    /// Number of migrations in the worker's life, including those that `moves` has no room for.
    pub moves_seen: AtomicU64,
    /// Number of samples in the worker's life, including those that the reservoir dropped.
    pub samples_seen: AtomicU64,
    /// Number of the benchmark's samples in the worker's life, including those that its reservoir dropped.
    pub bench_seen: AtomicU64,
    /// Number of iterations whose cost was measured in the worker's life, including those that the reservoir dropped.
    pub costs_seen: AtomicU64,
    /// Number of iterations so far, for readers while the worker runs.
    pub live_iterations: AtomicU64,
    /// The counters of each phase.
    pub slices: [Slice; MAX_SLICES],
    /// The first migrations of the worker; `moves_seen` counts all of them.
    pub moves: [MigrationSlot; MAX_MIGRATIONS],
    /// The latency reservoir: the phase in the top 16 bits, nanoseconds below.
    pub samples: [AtomicU64; MAX_SAMPLES],
    /// The benchmark's reservoir, laid out in the same way.
    pub bench: [AtomicU64; MAX_SAMPLES],
    /// The reservoir of the iterations' costs, laid out in the same way.
    pub costs: [AtomicU64; MAX_SAMPLES],
}
// SAFETY: repr(C), and atomics only at all levels.
unsafe impl Zeroed for Telemetry {}

/// Number of bits of a sample that hold nanoseconds (78 hours); the phase is above them.
pub const SAMPLE_NS_BITS: u32 = 48;
