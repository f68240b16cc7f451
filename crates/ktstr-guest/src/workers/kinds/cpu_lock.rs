//! A lock for each CPU: only one member of a group works on a CPU at a time. A member that was preempted during its work
//! keeps the lock. Another member that the scheduler then puts on the CPU spins, so that the preemption costs CPU time.
//! The spinning does not count as work.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::super::ctx::WorkerCtx;
use super::super::objects::{self, Kind, Object};
use super::super::{arch, sys};

/// Why the lock was not taken.
pub(super) enum End {
    /// The worker is told to stop.
    Stopped,
    /// The table of the objects that workers share by name has no free entry for the lock.
    NoRoom,
}

/// Takes the lock for the CPU that the worker runs on.
pub(super) fn take<'a>(ctx: &WorkerCtx<'a>) -> Result<&'a Object, End> {
    let first = ctx.tid_of(ctx.base);
    loop {
        if ctx.stopped() {
            return Err(End::Stopped);
        }
        let cpu = sys::current_cpu();
        let lock = objects::find(ctx.objects(), Kind::of_cpu(cpu, first), "").ok_or(End::NoRoom)?;
        if lock.word.compare_exchange(0, 1, Acquire, Relaxed).is_err() {
            arch::spin(1);
        } else if sys::current_cpu() == cpu {
            return Ok(lock);
        } else {
            // The worker was moved after it read its CPU, so it holds the lock for a CPU on which it no longer runs.
            give(lock);
        }
    }
}

/// Releases a lock that this worker has taken.
pub(super) fn give(lock: &Object) {
    lock.word.store(0, Release);
}
