//! Tests of the parameters of Schbench that change how its workers work: the lock of a CPU, shared matrices, a rate that
//! follows the load, and bytes that are passed back and forth.

use std::os::unix::fs::FileExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ktstr::prelude::*;

use super::watch::{Seen, each, of, on, watch};

pub fn all(ctx: &Ctx) -> Result<AssertResult> {
    each(
        ctx,
        &[
            ("skip_locking", locking),
            ("split_percent", split),
            ("auto_rps", auto_rps),
            ("pipe_transfer_bytes", transfer),
            ("limits", limits),
        ],
    )
}

/// Returns the messenger and the workers.
fn parts(all: &[Seen]) -> Result<(&Seen, &[Seen])> {
    let (messenger, workers) = all.split_first().context("workers")?;
    ensure!(
        messenger.report.is_messenger && !workers.is_empty(),
        "{all:?}"
    );
    Ok((messenger, workers))
}

/// A request takes longer than a slice, so three workers on one CPU preempt each other in their work. Whoever comes next finds
/// the CPU's lock taken, and spins for its slice.
fn locking(ctx: &Ctx) -> Result<()> {
    let config = SchbenchConfig::DEFAULT
        .worker_threads(3)
        .cache_footprint_kib(24)
        .operations(30)
        .sleep_usec(0);
    let cost = |config| -> Result<u64> {
        let all = watch(ctx, &on(WorkType::schbench(config), 1, &[0]), 900)?;
        let (_, workers) = parts(&all)?;
        let cpu: u64 = workers.iter().map(|seen| seen.report.cpu_time_ns).sum();
        let served: u64 = workers.iter().map(|seen| seen.report.iterations).sum();
        ensure!(served > 3, "{workers:?}");
        Ok(cpu / served)
    };
    let (locked, free) = (cost(config)?, cost(config.skip_locking(true))?);
    ensure!(
        locked > free * 3 / 2,
        "a request took {locked} ns of CPU time with locks and {free} ns without them"
    );
    Ok(())
}

/// Returns the inodes of the mappings of `len` bytes that a task shares, with their first addresses.
fn shared_mappings(tid: i32, len: u64) -> Result<Vec<(String, u64)>> {
    let maps = std::fs::read_to_string(format!("/proc/{tid}/maps"))?;
    let found = maps.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (range, mode) = (words.next()?, words.next()?);
        let inode = words.nth(2)?.to_owned();
        let (first, end) = range.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let (first, end) = (number(first)?, number(end)?);
        (mode == "rw-s" && end - first == len).then_some((inode, first))
    });
    Ok(found.collect())
}

/// A fifth of the 30 KiB and of the 10 multiplications is private to each worker: three matrices of 16 x 16 numbers fill 6 KiB.
/// The rest is shared: three matrices of 32 x 32 numbers fill 24 KiB.
fn split(ctx: &Ctx) -> Result<()> {
    let config = SchbenchConfig::DEFAULT
        .worker_threads(2)
        .cache_footprint_kib(30)
        .operations(10)
        .sleep_usec(1000)
        .split_percent(20);
    let all = watch(ctx, &of(WorkType::schbench(config), 1), 100)?;
    let (_, workers) = parts(&all)?;
    let request = 2 * 16 * 16 + 8 * 32 * 32;
    for worker in workers {
        let (units, served) = (worker.report.work_units, worker.report.iterations);
        ensure!(
            served > 2 && units >= served * request && units <= (served + 1) * request,
            "{worker:?}"
        );
    }
    // Both workers map the memory of the shared matrices.
    let config = of(WorkType::schbench(config), 1).signal_first_iteration(true);
    let mut handle = WorkloadHandle::spawn_seeded(&config, ctx.seed)?;
    handle.start();
    handle.wait_first_iterations(Duration::from_secs(2))?;
    let pids = handle.worker_pids();
    let shared: Vec<_> = pids
        .into_iter()
        .map(|pid| shared_mappings(pid, 24 << 10))
        .collect::<Result<_>>()?;
    handle.stop_and_collect();
    ensure!(shared[1].len() == 1 && shared[1] == shared[2], "{shared:?}");
    Ok(())
}

/// The rate reaches the target only after half a second. An adaptation looks at CPU time that an earlier rate caused, so the load
/// can be above the target, by a fifth here. The CPUs share the instructions of the virtual clock, so under a high load a request
/// takes longer, and the rate oscillates. Therefore both targets are low.
fn auto_rps(ctx: &Ctx) -> Result<()> {
    let busy = |percent| -> Result<u64> {
        let config = SchbenchConfig::DEFAULT
            .worker_threads(8)
            .cache_footprint_kib(24)
            .operations(2)
            .auto_rps(percent);
        let all = watch(ctx, &of(WorkType::schbench(config), 1), 2500)?;
        let (messenger, workers) = parts(&all)?;
        let cpu: u64 = workers.iter().map(|seen| seen.report.cpu_time_ns).sum();
        Ok(cpu * 100 / 4 / messenger.report.wall_time_ns.max(1))
    };
    let (low, high) = (busy(7)?, busy(15)?);
    ensure!(
        (4..=9).contains(&low) && (9..=18).contains(&high) && low < high,
        "workers took {low} % of the CPUs for a target of 7 %, and {high} % for 15 %"
    );
    Ok(())
}

fn transfer(ctx: &Ctx) -> Result<()> {
    let config = SchbenchConfig::DEFAULT
        .worker_threads(2)
        .pipe_transfer_bytes(32 << 10);
    let work = of(WorkType::schbench(config), 1);
    let all = watch(ctx, &work, 100)?;
    let (messenger, workers) = parts(&all)?;
    // A unit of work is 64 bytes that are passed on, and the workers do nothing else.
    for seen in &all {
        let (units, turns) = (seen.report.work_units, seen.report.iterations);
        ensure!(
            turns > 10 && units >= turns * 512 && units <= (turns + 1) * 512,
            "{seen:?}"
        );
        let bench = seen.report.bench.as_ref().context("a benchmark")?;
        ensure!(
            bench.sample_total == 0,
            "only wake-ups are measured: {seen:?}"
        );
    }
    let served: u64 = workers.iter().map(|seen| seen.report.iterations).sum();
    let handed_out = messenger.report.iterations;
    ensure!(
        (served..=served + 2).contains(&handed_out) && workers.iter().all(Seen::woken),
        "{handed_out} handed out: {workers:?}"
    );
    // The bytes are in memory that messenger and worker share, and each pass changes every one of them. There are many passes
    // in the time between two readings.
    let mut handle = WorkloadHandle::spawn_seeded(&work, ctx.seed)?;
    handle.start();
    let pids = handle.worker_pids();
    let mut states = Vec::new();
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(10));
        let both = [
            shared_mappings(pids[0], 64 << 10)?,
            shared_mappings(pids[1], 64 << 10)?,
        ];
        ensure!(both[0].len() == 1 && both[0] == both[1], "{both:?}");
        let mut bytes = vec![0; 64 << 10];
        let memory = std::fs::File::open(format!("/proc/{}/mem", pids[1]))?;
        memory.read_exact_at(&mut bytes, both[0][0].1)?;
        states.push(bytes);
    }
    handle.stop_and_collect();
    let still = (0..64 << 10).filter(|at| states.iter().all(|bytes| bytes[*at] == states[0][*at]));
    ensure!(still.count() == 0, "not every byte is written in each pass");
    Ok(())
}

fn limits(_: &Ctx) -> Result<()> {
    for (config, wrong) in [
        (SchbenchConfig::DEFAULT.auto_rps(101), "auto_rps"),
        (SchbenchConfig::DEFAULT.split_percent(101), "split_percent"),
        (
            SchbenchConfig::DEFAULT.pipe_transfer_bytes((1 << 20) + 1),
            "pipe_transfer_bytes",
        ),
    ] {
        let refused = WorkloadHandle::spawn(&of(WorkType::schbench(config), 1));
        let text = refused.err().context(wrong)?.to_string();
        ensure!(text.contains(wrong) && text.contains("10"), "{text}");
    }
    Ok(())
}
