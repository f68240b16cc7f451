//! Cache look-ups, some of which miss and wait for a slow worker: see [`TaobenchConfig`].

use ktstr_assert::BenchRole;
use ktstr_scenario::workload::{TaobenchConfig, WorkType};

use super::super::ctx::WorkerCtx;
use super::super::{arch, sys, unable::Unable};
use super::desk;

/// Size of a value in bytes.
const VALUE: usize = 1024;

/// Runs a client or a slow worker. The clients are the first members of a group.
pub(super) fn taobench(ctx: &mut WorkerCtx<'_>) {
    let WorkType::Taobench { config } = ctx.work_type else {
        return;
    };
    let clients = config.clients_of(ctx.group);
    let slow = ctx.group.saturating_sub(clients).max(1);
    let Some(of_slow) = ctx.member.checked_sub(clients) else {
        return look_up(ctx, config, clients, clients + ctx.member % slow);
    };
    ctx.plays(BenchRole::TaobenchSlow);
    let (usual, rare) = (config.slow_path_sleep_us, config.slow_path_p99_us);
    desk::keep(ctx, (of_slow..clients).step_by(slow), |ctx, _| {
        ctx.work(256);
        // One fetch in a hundred takes as long as the declared 99th percentile.
        let tail = rare > 0 && ctx.rng.below(100) == 0;
        let fetch = if tail { rare } else { usual }.saturating_mul(1000);
        fetch == 0 || ctx.nap(fetch).is_some()
    });
}

fn look_up(ctx: &mut WorkerCtx<'_>, config: &TaobenchConfig, clients: usize, slow: usize) {
    let bytes = config.cache_capacity_mib.saturating_mul(1 << 20) / clients.max(1);
    let values = (bytes / VALUE).max(1);
    let Some(cache) = sys::map(values.saturating_mul(VALUE)) else {
        return ctx.unable(Unable::Memory, sys::errno());
    };
    ctx.plays(BenchRole::TaobenchClient);
    // Nanoseconds between two look-ups of this client.
    let pace = (1_000_000_000 * clients as u64).checked_div(config.arrival_rate);
    let mut due = sys::now_ns();
    while !ctx.stopped() {
        due = due.saturating_add(pace.unwrap_or(0));
        if pace.is_some() && !desk::wait_for(ctx, due) {
            return;
        }
        ctx.work(64);
        let hit = ctx.rng.below(100) < u64::from(config.target_hit_pct);
        if hit {
            ctx.hit();
        } else if desk::ask(ctx, slow).is_none() {
            return;
        }
        let at = ctx.rng.below(values as u64) as usize * VALUE;
        let value = cache.get_mut(at..at + VALUE);
        ctx.count_units(value.map_or(0, |value| arch::touch(value, 64)));
        if pace.is_some() {
            ctx.bench_sample(sys::now_ns().saturating_sub(due));
        }
        ctx.iteration();
    }
}
