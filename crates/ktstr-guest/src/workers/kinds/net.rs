//! Work that sends frames over the loopback device. A softirq delivers each frame to its receiver, which is the sender
//! itself or another worker that waits for frames.

use std::sync::atomic::Ordering::{Acquire, Release};

use super::super::ctx::WorkerCtx;
use super::super::{sys, unable::Unable};
use super::loopback::Socket;

/// Sends frames to itself. Parameters: ns between two frames, bytes per frame.
pub(super) fn traffic(ctx: &mut WorkerCtx<'_>) {
    let [interval, bytes, ..] = ctx.params;
    let socket = match Socket::open() {
        Ok(socket) => socket,
        Err(errno) => return ctx.unable(Unable::Loopback, errno),
    };
    while !ctx.stopped() {
        match socket.send(socket.port(), bytes) {
            Ok(true) => {}
            Ok(false) => continue,
            Err(errno) => return ctx.unable(Unable::Loopback, errno),
        }
        if socket.receive().is_none() {
            continue;
        }
        ctx.count_units(1);
        ctx.iteration();
        match interval {
            0 => ctx.checkpoint(),
            _ => ctx.sleep(interval),
        }
    }
}

/// The first member sends frames to the second member. The second member sleeps until a frame arrives, so a softirq wakes it.
/// Parameters: ns between two frames, bytes per frame.
pub(super) fn irq_wake(ctx: &mut WorkerCtx<'_>) {
    let [interval, bytes, ..] = ctx.params;
    let (socket, Some((port, _))) = (Socket::open(), ctx.shared_futex(0)) else {
        return;
    };
    let socket = match socket {
        Ok(socket) => socket,
        Err(errno) => return ctx.unable(Unable::Loopback, errno),
    };
    if ctx.member > 0 {
        port.store(u32::from(socket.port()), Release);
        sys::futex_wake(port, 1);
        while !ctx.stopped() {
            let Some(sent) = socket.receive() else {
                continue;
            };
            ctx.sample(sys::now_ns().saturating_sub(sent));
            ctx.checkpoint();
            ctx.count_units(1);
            ctx.iteration();
        }
        return;
    }
    ctx.only_wakes_others();
    while port.load(Acquire) == 0 && !ctx.stopped() {
        sys::futex_wait(port, 0);
    }
    while !ctx.stopped() && ctx.nap(interval).is_some() {
        match socket.send(port.load(Acquire) as u16, bytes) {
            Ok(true) => ctx.iteration(),
            Ok(false) => {}
            Err(errno) => return ctx.unable(Unable::Loopback, errno),
        }
        ctx.checkpoint();
    }
}
