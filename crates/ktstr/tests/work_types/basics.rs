//! Tests of the basic work types.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ktstr::prelude::*;

use super::watch::{Seen, Task, each, of, on, one, watch};

const fn us(us: u64) -> Duration {
    Duration::from_micros(us)
}

pub fn all(ctx: &Ctx) -> Result<AssertResult> {
    each(
        ctx,
        &[
            ("YieldHeavy, Mixed, CacheYield", yields),
            ("PipeIo, FutexPingPong, WakeChain", rings),
            ("FutexFanOut", fan_out),
            ("MutexContention", mutex),
            ("CachePressure", cache),
            ("Bursty, IdleChurn, TimerLatency", timers),
            ("ForkExit", forks),
            ("NiceSweep", nice),
            ("AffinityChurn", affinity),
            ("PolicyChurn", policy),
        ],
    )
}

/// Two workers on one CPU hand the CPU to each other all the time, while a spinner keeps it for a slice.
fn yields(ctx: &Ctx) -> Result<()> {
    let switches = |work| -> Result<u64> {
        let both = watch(ctx, &on(work, 2, &[1]), 50)?;
        Ok(both.iter().map(|w| w.task.preempted + w.task.blocked).sum())
    };
    let spinning = switches(WorkType::SpinWait)?;
    for work in [
        WorkType::YieldHeavy,
        WorkType::Mixed,
        WorkType::cache_yield(4, 64),
    ] {
        let name = work.name();
        let yielding = switches(work)?;
        ensure!(
            yielding > 2 * spinning.max(20),
            "{name}: {yielding} switches, {spinning} spinning"
        );
    }
    Ok(())
}

fn rings(ctx: &Ctx) -> Result<()> {
    for work in [
        WorkType::pipe_io(64),
        WorkType::futex_ping_pong(64),
        WorkType::wake_chain(3, WakeMechanism::Pipe, us(50)),
        WorkType::wake_chain(3, WakeMechanism::Futex, us(50)),
    ] {
        let size = work.worker_group_size().context("a ring")?;
        let all = watch(ctx, &of(work.clone(), size), 40)?;
        ensure!(all.iter().all(Seen::woken), "{}: {all:?}", work.name());
        // One token circulates, so the workers' numbers of turns differ by at most 1.
        let turns: BTreeSet<_> = all.iter().map(|w| w.report.iterations).collect();
        let (least, most) = (turns.first(), turns.last());
        ensure!(
            least.zip(most).is_some_and(|(a, b)| b - a <= 1),
            "{}: {turns:?} turns",
            work.name()
        );
    }
    Ok(())
}

fn fan_out(ctx: &Ctx) -> Result<()> {
    let all = watch(ctx, &of(WorkType::futex_fan_out(2, 64), 3), 40)?;
    let calls = all[0].report.iterations;
    ensure!(
        all[0].report.is_messenger && all[0].report.wake_sample_total == 0,
        "{all:?}"
    );
    for receiver in &all[1..] {
        ensure!(
            receiver.woken() && receiver.report.iterations.abs_diff(calls) <= 1,
            "{all:?}"
        );
    }
    Ok(())
}

fn mutex(ctx: &Ctx) -> Result<()> {
    let all = watch(ctx, &of(WorkType::mutex_contention(4, 512, 16), 4), 60)?;
    // One of the four workers holds the mutex nearly all the time, so the others wait although each has a CPU.
    ensure!(all.iter().all(Seen::woken), "{all:?}");
    let (cpu, wall) = all.iter().fold((0, 0), |(cpu, wall), seen| {
        (
            cpu + seen.report.cpu_time_ns,
            wall + seen.report.wall_time_ns,
        )
    });
    ensure!(cpu < wall / 2, "the workers ran for {cpu} of {wall} ns");
    Ok(())
}

fn cache(ctx: &Ctx) -> Result<()> {
    let seen = one(ctx, WorkType::cache_pressure(1024, 128), 60)?;
    ensure!(seen.task.faults > 256, "{seen:?}");
    let passes = seen.report.iterations;
    ensure!(
        passes > 2 && seen.report.work_units == passes * 1024 * 1024 / 128,
        "{seen:?}"
    );
    Ok(())
}

fn timers(ctx: &Ctx) -> Result<()> {
    let slack = |precise: bool| -> Result<String> {
        let work = WorkType::idle_churn(us(200), us(800), precise);
        let mut handle = WorkloadHandle::spawn_seeded(&of(work, 1), ctx.seed)?;
        handle.start();
        std::thread::sleep(Duration::from_millis(30));
        let pid = handle.worker_pids()[0];
        let slack = std::fs::read_to_string(format!("/proc/{pid}/timerslack_ns"))?;
        let report = handle.stop_and_collect().remove(0);
        ensure!(report.wake_sample_total > 5, "{report:?}");
        Ok(slack.trim().to_owned())
    };
    let (precise, default) = (slack(true)?, slack(false)?);
    ensure!(precise == "1" && default != "1", "{precise} and {default}");
    let bursts = one(ctx, WorkType::bursty(us(200), us(800)), 30)?;
    ensure!(bursts.woken() && bursts.one_each(1000), "{bursts:?}");
    let timer = one(ctx, WorkType::timer_latency(1000), 30)?;
    ensure!(
        timer.report.timer_sample_total > 5 && timer.report.wake_sample_total == 0,
        "{timer:?}"
    );
    ensure!(timer.one_each(1000), "{timer:?}");
    Ok(())
}

/// Returns the number of processes that were ever created, from /proc/stat.
fn forked() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("processes "));
    Ok(line.context("processes")?.trim().parse()?)
}

fn forks(ctx: &Ctx) -> Result<()> {
    let before = forked()?;
    let seen = one(ctx, WorkType::ForkExit, 40)?;
    let made = forked()? - before;
    ensure!(
        seen.report.iterations > 3 && made >= seen.report.iterations,
        "{made} processes: {seen:?}"
    );
    Ok(())
}

/// Returns 40 samples of the state of a worker's task. They are taken 1 to 1.8 ms apart: with equal intervals, all samples could
/// fall into the same part of the worker's cycle.
fn moments(ctx: &Ctx, work: WorkType) -> Result<Vec<Task>> {
    let mut handle = WorkloadHandle::spawn_seeded(&of(work, 1), ctx.seed)?;
    handle.start();
    let tid = handle.worker_pids()[0];
    let seen = (0..40).map(|look| {
        std::thread::sleep(Duration::from_micros(1000 + 137 * (look % 7)));
        Task::of(tid)
    });
    let seen = seen.collect();
    let report = handle.stop_and_collect().remove(0);
    ensure!(report.completed && report.iterations > 5, "{report:?}");
    Ok(seen)
}

fn nice(ctx: &Ctx) -> Result<()> {
    let seen = moments(ctx, WorkType::NiceSweep)?;
    let values: BTreeSet<_> = seen.iter().map(|task| task.nice).collect();
    ensure!(
        values.len() > 5 && values.iter().any(|n| *n < 0) && values.iter().any(|n| *n > 0),
        "{values:?}"
    );
    Ok(())
}

fn affinity(ctx: &Ctx) -> Result<()> {
    let seen = moments(ctx, WorkType::affinity_churn(512))?;
    let values: BTreeSet<_> = seen.iter().map(|task| task.allowed.clone()).collect();
    ensure!(
        values.len() > 1 && values.iter().filter(|cpus| cpus.len() == 1).count() > 1,
        "{values:?}"
    );
    Ok(())
}

fn policy(ctx: &Ctx) -> Result<()> {
    let seen = moments(ctx, WorkType::policy_churn(512))?;
    let values: BTreeSet<_> = seen.iter().map(|task| task.policy).collect();
    ensure!(values == BTreeSet::from([0, 3, 5]), "{values:?}");
    Ok(())
}
