//! Producers and consumers: a queue that is only a counter, and events that are waited for with epoll.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use super::super::ctx::{WakeLink, WorkerCtx};
use super::super::sys;
use super::super::unable::Unable;

/// A queue whose depth is the group's first shared word. Parameters: number of producers, ns between two items of a
/// producer, units of work per item, and the depth at which producers block.
pub(super) fn imbalance(ctx: &mut WorkerCtx<'_>) {
    if (ctx.member as u64) < ctx.params[0] {
        produce(ctx);
    } else {
        consume(ctx);
    }
}

fn produce(ctx: &mut WorkerCtx<'_>) {
    let Some((depth, _)) = ctx.shared_futex(0) else {
        return;
    };
    let [_, interval, _, target] = ctx.params;
    let mut due = sys::now_ns();
    while !ctx.stopped() {
        due = due.saturating_add(interval);
        let now = sys::now_ns();
        match due.checked_sub(now) {
            Some(left) if left > 0 => {
                if ctx.nap(left).is_none() {
                    return;
                }
            }
            // The producer is late, for instance because the queue was full. It does not make up for the items that it missed.
            _ => due = now,
        }
        loop {
            let seen = depth.load(Acquire);
            if u64::from(seen) < target || ctx.stopped() {
                break;
            }
            sys::futex_wait(depth, seen);
        }
        if ctx.stopped() {
            return;
        }
        depth.fetch_add(1, AcqRel);
        sys::futex_wake(depth, 1);
        ctx.count_units(1);
        ctx.iteration();
        ctx.checkpoint();
    }
}

fn consume(ctx: &mut WorkerCtx<'_>) {
    let Some((depth, _)) = ctx.shared_futex(0) else {
        return;
    };
    let [_, _, units, target] = ctx.params;
    while !ctx.stopped() {
        let seen = depth.load(Acquire);
        if seen == 0 {
            let before = Before::now();
            sys::futex_wait(depth, 0);
            sample_wait_for_cpu(ctx, before);
            continue;
        }
        let taken = depth.compare_exchange(seen, seen - 1, AcqRel, Relaxed);
        if taken.is_err() {
            continue;
        }
        if u64::from(seen) >= target {
            // There is room now: wake the producers that block at the target.
            sys::futex_wake(depth, i32::MAX);
        }
        ctx.checkpoint();
        ctx.count_units(1);
        ctx.work(units);
        ctx.iteration();
    }
}

/// Producers post to the group's eventfd, and consumers wait for it with epoll. Parameters: number of producers,
/// events per burst.
pub(super) fn epoll_storm(ctx: &mut WorkerCtx<'_>) {
    let WakeLink::Event { fd } = ctx.wake_link else {
        return;
    };
    let [producers, burst, ..] = ctx.params;
    if (ctx.member as u64) < producers {
        while !ctx.stopped() {
            for _ in 0..burst {
                let one = 1u64;
                // SAFETY: eight readable bytes. The counter of the eventfd cannot overflow in practice.
                unsafe { libc::write(fd, std::ptr::from_ref(&one).cast(), 8) };
            }
            ctx.count_units(burst);
            ctx.work(64);
            ctx.iteration();
            ctx.checkpoint();
        }
        return;
    }
    let epoll = match epoll_of(fd) {
        Ok(epoll) => epoll,
        Err(errno) => return ctx.unable(Unable::Epoll, errno),
    };
    while !ctx.stopped() {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: room for one event; the descriptor is our own.
        let mut wait = |timeout| match unsafe { libc::epoll_wait(epoll, &mut event, 1, timeout) } {
            // The number is read at once: taking the sample below changes it if a file cannot be read.
            ready if ready < 0 => Err(sys::errno()),
            ready => Ok(ready),
        };
        let mut ready = wait(0);
        if ready == Ok(0) {
            let before = Before::now();
            ready = wait(-1);
            sample_wait_for_cpu(ctx, before);
        }
        match ready {
            Err(errno) if errno != libc::EINTR => return ctx.unable(Unable::Epoll, errno),
            Err(_) => continue,
            Ok(_) => {}
        }
        if ready != Ok(1) {
            continue;
        }
        let mut value = 0u64;
        // SAFETY: room for eight bytes; the eventfd is non-blocking and yields one event per read.
        let got = unsafe { libc::read(fd, std::ptr::from_mut(&mut value).cast(), 8) };
        if got != 8 {
            // Another consumer took the event.
            continue;
        }
        ctx.work(16);
        ctx.iteration();
        ctx.checkpoint();
    }
}

/// Records the latency of a wake-up: how long the consumer was runnable until it ran. `before` was read before the consumer
/// blocked. The latency comes from the kernel's counters, because time stamps of the producers would be wrong with several
/// consumers: a consumer does not see which event woke it, and another consumer may have taken that event. A wait has a sample
/// only if the consumer blocked once and was put on a CPU once, because a further delay may come from a preemption. A wake-up by
/// the stop signal is not part of the workload, so it has no sample.
fn sample_wait_for_cpu(ctx: &mut WorkerCtx<'_>, before: Before) {
    let now = Before::now();
    let once = |now: u64, before: u64| now == before.wrapping_add(1);
    let woken = once(now.stat.count, before.stat.count) && once(now.blocked, before.blocked);
    if !ctx.stopped() && woken {
        let delay = now.stat.run_delay_ns;
        ctx.sample(delay.saturating_sub(before.stat.run_delay_ns));
    }
}

/// The kernel's counters of a consumer. They are read before the consumer blocks and again after its wake-up, and then compared.
struct Before {
    stat: sys::SchedStat,
    /// The number of times that the consumer has blocked.
    blocked: u64,
}

impl Before {
    fn now() -> Self {
        Self {
            stat: sys::schedstat(),
            blocked: sys::blocked(),
        }
    }
}

/// Creates an epoll instance that waits for `fd` exclusively, so that each event wakes one consumer.
fn epoll_of(fd: i32) -> Result<i32, i32> {
    let mut event = libc::epoll_event {
        events: (libc::EPOLLIN | libc::EPOLLEXCLUSIVE) as u32,
        u64: 0,
    };
    // SAFETY: plain integers, and an event on the stack.
    unsafe {
        let epoll = libc::epoll_create1(libc::EPOLL_CLOEXEC);
        if epoll < 0 || libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event) < 0 {
            return Err(sys::errno());
        }
        Ok(epoll)
    }
}
