//! Requests that messengers hand out to waiting workers: see [`SchbenchConfig`].

use ktstr_scenario::workload::{SchbenchConfig, WorkType};

use super::super::ctx::WorkerCtx;
use super::super::{sys, unable::Unable};
use super::desk;
use super::matrix::Matrices;

pub(super) fn schbench(ctx: &mut WorkerCtx<'_>) {
    match ctx.work_type {
        WorkType::Schbench { config } if ctx.member < config.message_threads => {
            hand_out(ctx, config);
        }
        WorkType::Schbench { config } => serve(ctx, config),
        _ => {}
    }
}

fn hand_out(ctx: &mut WorkerCtx<'_>, config: &SchbenchConfig) {
    ctx.only_wakes_others();
    let messengers = config.message_threads.max(1);
    let workers = (messengers + ctx.member..ctx.group).step_by(messengers);
    // Nanoseconds between two requests of this messenger.
    let pace = (1_000_000_000 * messengers as u64).checked_div(config.requests_per_sec);
    let mut due = sys::now_ns();
    desk::keep(ctx, workers, |ctx| match pace {
        None => true,
        Some(pace) => {
            due = due.saturating_add(pace);
            desk::wait_for(ctx, due)
        }
    });
}

fn serve(ctx: &mut WorkerCtx<'_>, config: &SchbenchConfig) {
    let Some(mut matrices) = Matrices::map(config.cache_footprint_kib as u64) else {
        return ctx.unable(Unable::Memory, sys::errno());
    };
    let messenger = ctx.member % config.message_threads.max(1);
    let thought = config.sleep_usec.saturating_mul(1000);
    while let Some(called) = desk::ask(ctx, messenger) {
        ctx.sample(sys::now_ns().saturating_sub(called));
        ctx.checkpoint();
        if thought > 0 && ctx.nap(thought).is_none() {
            return;
        }
        if !(0..config.operations).all(|_| matrices.multiply(ctx)) {
            return;
        }
        ctx.iteration();
    }
}
