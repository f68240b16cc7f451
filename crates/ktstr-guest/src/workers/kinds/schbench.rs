//! Requests that messengers hand out to waiting workers: see [`SchbenchConfig`].

use ktstr_assert::BenchRole;
use ktstr_scenario::workload::{SchbenchConfig, WorkType};

use super::super::ctx::WorkerCtx;
use super::super::{arch, sys, unable::Unable};
use super::matrix::Matrices;
use super::pace::Pace;
use super::{cpu_lock, desk};

/// Runs a messenger or a worker. The first `message_threads` members of a group are its messengers.
pub(super) fn schbench(ctx: &mut WorkerCtx<'_>) {
    match ctx.work_type {
        WorkType::Schbench { config } if ctx.member < config.message_threads => {
            hand_out(ctx, config);
        }
        WorkType::Schbench { config } => serve(ctx, config),
        _ => {}
    }
}

/// Returns the number of bytes that a group of `group` members has to share: the bytes that the members pass to each other,
/// or the shared matrices. The number is 0 if the members share nothing.
pub(in super::super) fn shared_bytes(work: &WorkType, group: usize) -> usize {
    let WorkType::Schbench { config } = work else {
        return 0;
    };
    if config.pipe_transfer_bytes > 0 {
        let workers = group.saturating_sub(config.message_threads);
        return workers.saturating_mul(config.pipe_transfer_bytes);
    }
    match config.split() {
        [_, (_, 0)] => 0,
        [_, (kib, _)] => Matrices::bytes(kib as u64),
    }
}

/// How long a messenger counts requests for one sample of its rate, in nanoseconds.
const RATE_WINDOW_NS: u64 = 100_000_000;

/// Counts requests, and records a sample of their rate, in requests per second, at the end of each window.
struct Rate {
    /// The monotonic time in nanoseconds at which the window ends.
    ends: u64,
    count: u64,
    /// The number of messengers. A sample estimates the rate of all messengers together: it assumes that each of them hands out
    /// as many requests as this one.
    messengers: u64,
}

impl Rate {
    fn count(&mut self, ctx: &mut WorkerCtx<'_>) {
        let now = sys::now_ns();
        while now >= self.ends {
            let windows = 1_000_000_000 / RATE_WINDOW_NS;
            ctx.bench_sample(
                self.count
                    .saturating_mul(windows)
                    .saturating_mul(self.messengers),
            );
            (self.count, self.ends) = (0, self.ends.saturating_add(RATE_WINDOW_NS));
        }
        self.count += 1;
    }
}

fn hand_out(ctx: &mut WorkerCtx<'_>, config: &SchbenchConfig) {
    ctx.only_wakes_others();
    ctx.plays(BenchRole::SchbenchMessenger);
    let messengers = config.message_threads.max(1);
    let workers = (messengers + ctx.member..ctx.group).step_by(messengers);
    let mut pace = Pace::of(config, sys::now_ns());
    let mut rate = Rate {
        ends: sys::now_ns().saturating_add(RATE_WINDOW_NS),
        count: 0,
        messengers: messengers as u64,
    };
    desk::keep(ctx, workers, |ctx, worker| {
        let goes_on = pace.wait(ctx);
        if config.pipe_transfer_bytes > 0 {
            pass(ctx, worker - messengers, config.pipe_transfer_bytes);
        } else {
            rate.count(ctx);
        }
        goes_on
    });
}

/// Writes all bytes that a worker and its messenger pass to each other; 64 bytes are a unit of work.
fn pass(ctx: &mut WorkerCtx<'_>, worker: usize, len: usize) {
    let Some((at, all)) = ctx.bytes.map(|bytes| bytes.place()) else {
        return;
    };
    let from = worker.saturating_mul(len);
    if from.saturating_add(len) > all {
        return;
    }
    // SAFETY: the range is inside the mapping by the check above. The messenger writes while the worker waits for it, and
    // the worker writes before it waits again: the futex words of `desk.rs` order the two.
    let bytes = unsafe { std::slice::from_raw_parts_mut(at.add(from), len) };
    let touched = arch::touch(bytes, 1);
    ctx.count_units(touched.div_ceil(64));
}

fn serve(ctx: &mut WorkerCtx<'_>, config: &SchbenchConfig) {
    ctx.plays(BenchRole::SchbenchWorker);
    let messengers = config.message_threads.max(1);
    let messenger = ctx.member % messengers;
    if config.pipe_transfer_bytes > 0 {
        let place = ctx.member.saturating_sub(messengers);
        while let Some(called) = desk::ask(ctx, messenger) {
            ctx.sample(sys::now_ns().saturating_sub(called));
            ctx.checkpoint();
            pass(ctx, place, config.pipe_transfer_bytes);
            ctx.iteration();
        }
        return;
    }
    let [(own_kib, own_operations), (shared_kib, shared_operations)] = config.split();
    let own = match own_operations {
        0 => None,
        _ => Matrices::map(own_kib as u64),
    };
    let shared = match (shared_operations, ctx.bytes) {
        (0, _) | (_, None) => None,
        // SAFETY: the mapping is that of `shared_bytes`, lives as long as the process, and is used for nothing else.
        (_, Some(bytes)) => unsafe { Matrices::at(bytes.place(), shared_kib as u64) },
    };
    if own.is_some() != (own_operations > 0) || shared.is_some() != (shared_operations > 0) {
        return ctx.unable(Unable::Memory, sys::errno());
    }
    let thought = config.sleep_usec.saturating_mul(1000);
    while let Some(called) = desk::ask(ctx, messenger) {
        ctx.sample(sys::now_ns().saturating_sub(called));
        ctx.checkpoint();
        if thought > 0 && ctx.nap(thought).is_none() {
            return;
        }
        let lock = match config.skip_locking {
            true => None,
            false => match cpu_lock::take(ctx) {
                Ok(lock) => Some(lock),
                Err(cpu_lock::End::Stopped) => return,
                Err(cpu_lock::End::NoRoom) => return ctx.unable(Unable::Objects, 0),
            },
        };
        let done = multiply(ctx, own.as_ref(), own_operations)
            && multiply(ctx, shared.as_ref(), shared_operations);
        if let Some(lock) = lock {
            cpu_lock::give(lock);
        }
        if !done {
            return;
        }
        ctx.bench_sample(sys::now_ns().saturating_sub(called));
        ctx.iteration();
    }
}

/// Multiplies the matrices as often as `times` says; without matrices there is nothing to do. Returns `false` if the worker
/// has to stop.
fn multiply(ctx: &mut WorkerCtx<'_>, matrices: Option<&Matrices>, times: u64) -> bool {
    matrices.is_none_or(|matrices| (0..times).all(|_| matrices.multiply(ctx)))
}
