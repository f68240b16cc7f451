//! Tests of work that blocks, yields, computes or interrupts.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ktstr::prelude::*;

use super::watch::{Seen, each, list, of, on, one, refusal, watch, watch_handle};

const fn us(us: u64) -> Duration {
    Duration::from_micros(us)
}

pub fn all(ctx: &Ctx) -> Result<AssertResult> {
    each(
        ctx,
        &[
            ("SpinWait", spins),
            ("Sequence", sequence),
            ("Bursty", bursts),
            ("CachePipe", cache_pipe),
            ("SignalStorm", signals),
            ("CrossAffinityChurn", affinity),
            ("SmtSiblingSpin", siblings),
            ("AluHot", arithmetic),
            ("IpcVariance", variance),
            ("IoSyncWrite", sync_write),
            ("IoRandRead", rand_read),
            ("IoConvoy", convoy),
        ],
    )
}

/// The reference from which all other work types have to differ.
fn spins(ctx: &Ctx) -> Result<()> {
    let seen = one(ctx, WorkType::SpinWait, 50)?;
    ensure!(!seen.woken() && seen.task.written_bytes == 0, "{seen:?}");
    ensure!(
        seen.report.work_units >= 1024 * seen.report.iterations,
        "{seen:?}"
    );
    Ok(())
}

fn sequence(ctx: &Ctx) -> Result<()> {
    let phase = |phase, ms| {
        one(
            ctx,
            WorkType::sequence(WorkPhase::Spin(us(200)), vec![phase]),
            ms,
        )
    };
    let sleeps = phase(WorkPhase::Sleep(us(800)), 50)?;
    ensure!(sleeps.woken(), "{sleeps:?}");
    // Each iteration takes a millisecond or more.
    ensure!(sleeps.one_each(1000), "{sleeps:?}");
    let writes = phase(WorkPhase::Io(us(800)), 20)?;
    ensure!(writes.task.written_bytes >= 4096 * 4, "{writes:?}");
    let hot = |width| WorkPhase::AluHot {
        width,
        duration: us(800),
    };
    let computes = phase(hot(AluWidth::Scalar), 50)?;
    ensure!(computes.one_each(1000) && !computes.woken(), "{computes:?}");
    let amx = WorkType::sequence(hot(AluWidth::Amx), Vec::new());
    let refused = refusal(ctx, amx, 1)?;
    ensure!(refused.contains("AMX"), "{refused}");
    // Two workers on one CPU hand the CPU to each other all the time, while a spinner keeps it for a slice.
    let yields = WorkType::sequence(WorkPhase::Yield(us(500)), Vec::new());
    let switches = |work| -> Result<u64> {
        let both = watch(ctx, &on(work, 2, &[1]), 50)?;
        Ok(both.iter().map(|w| w.task.preempted + w.task.blocked).sum())
    };
    let (spinning, yielding) = (switches(WorkType::SpinWait)?, switches(yields)?);
    ensure!(
        yielding > 4 * spinning.max(20),
        "{yielding} switches yielding, {spinning} spinning"
    );
    Ok(())
}

fn bursts(ctx: &Ctx) -> Result<()> {
    let seen = one(ctx, WorkType::bursty(us(1000), Duration::ZERO), 50)?;
    ensure!(!seen.woken(), "{seen:?}");
    ensure!(seen.one_each(1000), "{seen:?}");
    Ok(())
}

fn cache_pipe(ctx: &Ctx) -> Result<()> {
    for seen in watch(ctx, &of(WorkType::cache_pipe(16, 64), 2), 50)? {
        ensure!(seen.woken(), "{seen:?}");
        let turn = 64 + 16 * 1024 / 64;
        let (units, turns) = (seen.report.work_units, seen.report.iterations);
        ensure!(
            units >= (turns - 1) * turn && units <= (turns + 1) * turn,
            "{seen:?}"
        );
    }
    Ok(())
}

/// Each worker has its own CPU, so every series of signals finds its target running.
fn signals(ctx: &Ctx) -> Result<()> {
    let config = of(WorkType::signal_storm(4, 256), 2);
    let mut handle = WorkloadHandle::spawn_seeded(&config, ctx.seed)?;
    for cpu in 0..2 {
        handle.set_affinity(cpu, &[cpu].into())?;
    }
    let both = watch_handle(handle, 150)?;
    let rounds: u64 = both.iter().map(|seen| seen.report.iterations).sum();
    let units: u64 = both.iter().map(|seen| seen.report.work_units).sum();
    // A round is 256 units of work, and one unit per signal that arrived. Of a series of four signals, between one and four
    // arrive. The last round of each worker may be incomplete.
    ensure!(
        rounds > 1000 && units > 256 * rounds + rounds / 2 && units <= 260 * rounds,
        "{units} units in {rounds} rounds: {both:?}"
    );
    Ok(())
}

fn affinity(ctx: &Ctx) -> Result<()> {
    let config = of(WorkType::cross_affinity_churn(256), 1)
        .push_composed(WorkSpec::new(WorkType::SpinWait).workers(1));
    let both = watch(ctx, &config, 100)?;
    let victim = both.last().context("two workers")?;
    ensure!(
        victim.task.allowed.len() == 1 && victim.report.migration_count > 2,
        "{victim:?}"
    );
    Ok(())
}

fn siblings(ctx: &Ctx) -> Result<()> {
    let pairs = watch(ctx, &of(WorkType::SmtSiblingSpin, 4), 30)?;
    let mut cores = Vec::new();
    for pair in pairs.chunks(2) {
        let cpus: Vec<usize> = pair.iter().flat_map(|w| w.task.allowed.clone()).collect();
        let path = format!(
            "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list",
            cpus.first().context("a CPU")?
        );
        ensure!(list(&std::fs::read_to_string(path)?) == cpus, "{pair:?}");
        cores.push(cpus);
    }
    ensure!(cores.len() == 2 && cores[0] != cores[1], "{cores:?}");
    // CPUs 0 and 2 are threads of different cores, so they are not a pair.
    let mut handle = WorkloadHandle::spawn(&on(WorkType::SmtSiblingSpin, 2, &[0, 2]))?;
    handle.start();
    std::thread::sleep(Duration::from_millis(10));
    for report in handle.stop_and_collect() {
        let why = format!("{:?}", report.exit_info);
        ensure!(why.contains("two threads of one core"), "{why}");
    }
    Ok(())
}

fn arithmetic(ctx: &Ctx) -> Result<()> {
    let seen = one(ctx, WorkType::alu_hot(AluWidth::Widest), 20)?;
    ensure!(seen.report.iterations > 3, "{seen:?}");
    let flags = std::fs::read_to_string("/proc/cpuinfo")?;
    for (width, flag) in [
        (AluWidth::Vec128, "sse2"),
        (AluWidth::Vec256, "avx2"),
        (AluWidth::Vec512, "avx512f"),
    ] {
        let work = WorkType::alu_hot(width);
        if flags.split_whitespace().any(|word| word == flag) {
            println!("this CPU has {flag}");
            ensure!(one(ctx, work, 20)?.report.iterations > 3, "{width:?}");
        } else {
            println!("this CPU has no {flag}");
            let why = refusal(ctx, work, 1)?;
            ensure!(why.contains("Widest"), "{why}");
        }
    }
    let why = refusal(ctx, WorkType::alu_hot(AluWidth::Amx), 1)?;
    ensure!(why.contains("AMX"), "{why}");
    Ok(())
}

fn variance(ctx: &Ctx) -> Result<()> {
    // The loads touch 4 MiB, which are 1024 pages.
    let varied = one(ctx, WorkType::ipc_variance(640, 64, 4)?, 200)?;
    ensure!(varied.task.faults >= 1024, "{varied:?}");
    let (units, rounds) = (varied.report.work_units, varied.report.iterations);
    ensure!(
        rounds > 3 && units >= 40 * (rounds - 1) && units <= 40 * (rounds + 1),
        "{varied:?}"
    );
    Ok(())
}

/// Returns the iterations, and the bytes read and written. The kernel's byte counts were read before the worker was stopped, so
/// they may lack the last iterations.
fn moved(ctx: &Ctx, work: WorkType) -> Result<(u64, u64, u64)> {
    let Seen { report, task } = one(ctx, work, 50)?;
    Ok((report.iterations, task.read_bytes, task.written_bytes))
}

fn sync_write(ctx: &Ctx) -> Result<()> {
    let (rounds, _, written) = moved(ctx, WorkType::IoSyncWrite)?;
    ensure!(
        rounds > 3 && written >= 16 * 4096 * 3 && written <= (rounds + 1) * 16 * 4096,
        "{rounds} rounds, {written} bytes written"
    );
    Ok(())
}

fn rand_read(ctx: &Ctx) -> Result<()> {
    let (rounds, read, _) = moved(ctx, WorkType::IoRandRead)?;
    ensure!(
        rounds > 20 && read >= 20 * 4096,
        "{rounds} rounds, {read} bytes read"
    );
    Ok(())
}

fn convoy(ctx: &Ctx) -> Result<()> {
    let (rounds, read, written) = moved(ctx, WorkType::IoConvoy)?;
    ensure!(
        rounds > 2 && read >= 2 * 16 * 4096 && written >= 256 * 4096 + 2 * 16 * 4096,
        "{rounds} rounds, {read} bytes read, {written} written"
    );
    Ok(())
}

pub fn queues(ctx: &Ctx) -> Result<AssertResult> {
    each(
        ctx,
        &[
            ("EpollStorm", epoll),
            ("ThunderingHerd", herd),
            ("FanOutCompute", fan_out),
            ("ProducerConsumerImbalance", imbalance),
        ],
    )
}

fn epoll(ctx: &Ctx) -> Result<()> {
    let storm = |burst| {
        // The producer has its own CPU; otherwise the consumers would wait for it.
        let all = watch(ctx, &of(WorkType::epoll_storm(1, 2, burst), 3), 50)?;
        let (producer, consumers) = all.split_first().context("three workers")?;
        ensure!(producer.report.wake_sample_total == 0, "{producer:?}");
        let taken: u64 = consumers.iter().map(|c| c.report.iterations).sum();
        let samples: u64 = consumers.iter().map(|c| c.report.wake_sample_total).sum();
        // A wait ends with a posted event, no matter which consumer takes the event.
        let posted = burst * (producer.report.iterations + 1);
        ensure!(
            taken > 20 && taken <= posted && samples <= posted,
            "{taken} events taken and {samples} waits of {posted} events: {consumers:?}"
        );
        consumers.iter().try_for_each(waits_for_cpu)?;
        Ok(samples)
    };
    // In a burst an event may always be there when a consumer asks, and then nobody waits.
    storm(4)?;
    // For a single event a producer does four times as much work as a consumer, so the consumers wait.
    let samples = storm(1)?;
    ensure!(samples > 3, "{samples} waits");
    Ok(())
}

/// The samples of a consumer are parts of the time for which it was runnable and did not run, whoever took the event that woke
/// it.
fn waits_for_cpu(consumer: &Seen) -> Result<()> {
    let report = &consumer.report;
    let sampled: u64 = report.wake_latencies_ns.iter().sum();
    ensure!(
        sampled <= report.schedstat_run_delay_ns,
        "{sampled} ns sampled: {report:?}"
    );
    Ok(())
}

fn herd(ctx: &Ctx) -> Result<()> {
    let all = watch(ctx, &of(WorkType::thundering_herd(3, 5, 2), 4), 60)?;
    let (waker, waiters) = all.split_first().context("four workers")?;
    ensure!(waker.report.iterations == 5, "{waker:?}");
    for waiter in waiters {
        // A call that comes before the waiter sleeps wakes nobody.
        let (turns, woken) = (waiter.report.iterations, waiter.report.wake_sample_total);
        ensure!(
            (1..=5).contains(&turns) && (1..=turns).contains(&woken),
            "{waiter:?}"
        );
        // The waiter had nothing to do for most of the time, which does not count as a gap.
        ensure!(waiter.report.max_gap_ms < 30, "{waiter:?}");
    }
    Ok(())
}

fn fan_out(ctx: &Ctx) -> Result<()> {
    let work = WorkType::fan_out_compute(2, 24, 3, 2000);
    let all = watch(ctx, &of(work, 3), 100)?;
    for receiver in &all[1..] {
        ensure!(receiver.woken(), "{receiver:?}");
        let rounds = receiver.report.iterations;
        // Each receiver sleeps for two milliseconds per round.
        ensure!(receiver.one_each(2000), "{receiver:?}");
        // Three matrices of 32 x 32 numbers fill 24 KiB. A multiplication is 32 x 32 units, and a round is three multiplications.
        let (units, turn) = (receiver.report.work_units, 1 + 3 * 32 * 32);
        ensure!(
            units >= (rounds - 1) * turn && units <= (rounds + 1) * turn,
            "{receiver:?}"
        );
    }
    Ok(())
}

fn imbalance(ctx: &Ctx) -> Result<()> {
    let of_rate = |rate, units, target| {
        let work = WorkType::producer_consumer_imbalance(2, 1, rate, units, target);
        watch(ctx, &of(work, 3), 100)
    };
    // The consumer is too slow: the queue fills, and producers block.
    let slow = of_rate(20_000, 16_384, 4)?;
    let [made, taken] = [&slow[..2], &slow[2..]]
        .map(|workers| workers.iter().map(|w| w.report.iterations).sum::<u64>());
    ensure!(
        taken > 3 && made >= taken && made - taken <= 4 + 2,
        "{made} made, {taken} taken"
    );
    ensure!(slow[0].task.blocked > 3, "{:?}", slow[0]);
    // The consumer is fast, and sleeps until the next item.
    let fast = of_rate(500, 1, 1024)?;
    ensure!(fast[2].woken(), "{:?}", fast[2]);
    waits_for_cpu(&fast[2])?;
    let items = fast[2].report.iterations;
    let most = 2 * (fast[2].report.wall_time_ns / 2_000_000 + 1);
    ensure!(
        (20..=most).contains(&items),
        "{items} items, {most} at most"
    );
    Ok(())
}
