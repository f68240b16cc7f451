//! Requests that messengers hand out to waiting workers: see [`SchbenchConfig`].

use ktstr_assert::BenchRole;
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

/// How long a messenger counts requests for one sample of its rate, in nanoseconds.
const RATE_WINDOW_NS: u64 = 100_000_000;

/// Counts requests, and has a sample of their rate at the end of each window.
struct Rate {
    ends: u64,
    count: u64,
    /// Messengers of the benchmark: each has its part of the requests.
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
    // Nanoseconds between two requests of this messenger.
    let pace = (1_000_000_000 * messengers as u64).checked_div(config.requests_per_sec);
    let mut due = sys::now_ns();
    let mut rate = Rate {
        ends: due.saturating_add(RATE_WINDOW_NS),
        count: 0,
        messengers: messengers as u64,
    };
    desk::keep(ctx, workers, |ctx| {
        let goes_on = match pace {
            None => true,
            Some(pace) => {
                due = due.saturating_add(pace);
                desk::wait_for(ctx, due)
            }
        };
        rate.count(ctx);
        goes_on
    });
}

fn serve(ctx: &mut WorkerCtx<'_>, config: &SchbenchConfig) {
    let Some(mut matrices) = Matrices::map(config.cache_footprint_kib as u64) else {
        return ctx.unable(Unable::Memory, sys::errno());
    };
    ctx.plays(BenchRole::SchbenchWorker);
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
        ctx.bench_sample(sys::now_ns().saturating_sub(called));
        ctx.iteration();
    }
}
