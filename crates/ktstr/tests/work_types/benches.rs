//! Tests of the benchmarks and the network work types: requests, look-ups in a cache, and frames on the loopback device.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ktstr::prelude::*;
use ktstr_assert::WorkerExitInfo;

use super::watch::{Seen, each, of, one, watch};

pub fn all(ctx: &Ctx) -> Result<AssertResult> {
    each(ctx, &[("Schbench", requests), ("Taobench", look_ups)])
}

pub fn frames(ctx: &Ctx) -> Result<AssertResult> {
    each(
        ctx,
        &[
            ("NetTraffic", traffic),
            ("IrqWake", irq_wake),
            ("both without an address", without_address),
        ],
    )
}

fn rounds(all: &[Seen]) -> u64 {
    all.iter().map(|seen| seen.report.iterations).sum()
}

fn requests(ctx: &Ctx) -> Result<()> {
    let config = SchbenchConfig::DEFAULT
        .worker_threads(2)
        .cache_footprint_kib(24)
        .operations(3)
        .sleep_usec(2000);
    let bench = |config, ms| watch(ctx, &of(WorkType::schbench(config), 1), ms);
    let all = bench(config, 100)?;
    let (messenger, workers) = all.split_first().context("three workers")?;
    ensure!(
        workers.len() == 2 && messenger.report.is_messenger,
        "{all:?}"
    );
    for worker in workers {
        ensure!(worker.woken() && worker.one_each(2000), "{worker:?}");
        // Three matrices of 32 x 32 numbers fill 24 KiB. A multiplication is 32 rows of 32 units.
        // A request consists of three multiplications.
        let (units, served, turn) = (
            worker.report.work_units,
            worker.report.iterations,
            3 * 32 * 32,
        );
        ensure!(
            units >= served * turn && units <= (served + 1) * turn,
            "{worker:?}"
        );
    }
    // The requests that the stop cut short were handed out, too.
    let (handed_out, served) = (messenger.report.iterations, rounds(workers));
    ensure!(
        (served..=served + 2).contains(&handed_out),
        "{handed_out} handed out, {served} served"
    );
    // The messenger hands out one request every ten milliseconds.
    let small = SchbenchConfig::DEFAULT.cache_footprint_kib(6).operations(1);
    let paced = bench(small.worker_threads(2).requests_per_sec(100), 200)?;
    let handed_out = paced[0].report.iterations;
    // Waiting for the next request does not count as a gap.
    ensure!(paced[0].report.max_gap_ms < 30, "{:?}", paced[0]);
    let most = paced[0].report.wall_time_ns / 10_000_000 + 1;
    ensure!((10..=most).contains(&handed_out), "{handed_out} of {most}");
    // The latency of a request is the time from the moment at which the messenger hands it out to the end of the work, including
    // the sleep. The rate is sampled every tenth of a second.
    let request = |seen: &Seen| seen.report.bench.clone().context("a worker of a benchmark");
    for worker in workers {
        let (bench, served) = (request(worker)?, worker.report.iterations);
        ensure!(bench.role == BenchRole::SchbenchWorker, "{worker:?}");
        ensure!(
            (served..=served + 1).contains(&bench.sample_total),
            "{worker:?}"
        );
        ensure!(
            bench.samples.iter().all(|ns| *ns >= 2_000_000),
            "{worker:?}"
        );
    }
    let rate = request(&paced[0])?;
    ensure!(rate.role == BenchRole::SchbenchMessenger, "{rate:?}");
    let near = |rate: &u64| (70..=110).contains(rate);
    ensure!(
        !rate.samples.is_empty() && rate.samples.iter().all(near),
        "{rate:?}"
    );
    // There are two messengers, and by default one worker for each of the four CPUs.
    let two = bench(small.message_threads(2), 50)?;
    ensure!(two.len() == 6, "{} workers", two.len());
    for seen in &two {
        ensure!(seen.report.iterations > 3, "{seen:?}");
    }
    let refused = WorkloadHandle::spawn(&of(WorkType::schbench(config), 2));
    let refused = refused.err().context("`workers(2)` was accepted")?;
    ensure!(
        refused.to_string().contains("declare workers(1)"),
        "{refused}"
    );
    Ok(())
}

fn look_ups(ctx: &Ctx) -> Result<()> {
    let config = TaobenchConfig::DEFAULT
        .client_threads(2)
        .slow_threads(1)
        .cache_capacity_mib(1);
    let bench = |config, ms| watch(ctx, &of(WorkType::taobench(config), 1), ms);
    // All keys are present, so no client waits, and the slow worker has nothing to do.
    let hits = bench(config.target_hit_pct(100), 50)?;
    let [clients, slow] = [&hits[..2], &hits[2..]];
    ensure!(slow.len() == 1 && rounds(slow) == 0, "{slow:?}");
    ensure!(
        slow[0].report.max_gap_ms < 30,
        "the wait for a miss is counted as a gap: {slow:?}"
    );
    for client in clients {
        let (units, done) = (client.report.work_units, client.report.iterations);
        // A look-up takes 64 units, and 16 more for the cache lines of its value.
        ensure!(
            done > 100 && units >= 80 * done && units <= 80 * (done + 1),
            "{client:?}"
        );
        ensure!(
            client.task.blocked < 10 && client.report.wake_sample_total == 0,
            "{client:?}"
        );
    }
    let found = |seen: &Seen| seen.report.bench.as_ref().map(|bench| bench.hits);
    for client in clients {
        ensure!(
            found(client) == Some(client.report.iterations),
            "{client:?}"
        );
    }
    // No key is present, so the slow worker fetches each one, which takes a millisecond.
    let misses = bench(config.target_hit_pct(0).slow_path_sleep_us(1000), 100)?;
    let [clients, slow] = [&misses[..2], &misses[2..]];
    ensure!(slow[0].one_each(1000), "{slow:?}");
    let (done, fetched) = (rounds(clients), rounds(slow));
    ensure!(
        done > 20 && (done..=done + 2).contains(&fetched),
        "{done} look-ups, {fetched} fetched"
    );
    ensure!(
        clients.iter().all(|client| found(client) == Some(0)),
        "{clients:?}"
    );
    // About one fetch in a hundred takes 50 ms. The number of slow fetches is random, but always large enough to reduce the
    // number of fetched keys to less than two thirds.
    let quick = config.target_hit_pct(0).slow_path_sleep_us(10);
    let usual = bench(quick, 400)?[2].report.iterations;
    let rare = bench(quick.slow_path_p99_us(50_000), 400)?[2]
        .report
        .iterations;
    ensure!(
        rare > 0 && rare < usual * 2 / 3,
        "{rare} keys fetched with slow fetches, {usual} without them"
    );
    // Half of the keys are present.
    let both = bench(config.target_hit_pct(50).slow_path_sleep_us(50), 200)?;
    let (done, fetched) = (rounds(&both[..2]), rounds(&both[2..]));
    ensure!(
        done > 200 && (done * 35 / 100..=done * 65 / 100).contains(&fetched),
        "{done} look-ups, {fetched} fetched"
    );
    // Each client makes 500 look-ups per second, and reports the latency of each.
    let paced = bench(config.arrival_rate(1000).target_hit_pct(100), 100)?;
    for client in &paced[..2] {
        let done = client.report.iterations;
        ensure!(client.one_each(2000) && done > 20, "{client:?}");
        let bench = client
            .report
            .bench
            .as_ref()
            .context("a client has a report of its benchmark")?;
        ensure!(
            (done..=done + 1).contains(&bench.sample_total),
            "{client:?}"
        );
        ensure!(
            client.report.wake_sample_total == 0,
            "a look-up counts as a wake-up: {client:?}"
        );
    }
    // Four clients on four CPUs, and a slow worker.
    let many = bench(TaobenchConfig::DEFAULT.cache_capacity_mib(1), 20)?;
    ensure!(many.len() == 5, "{} workers", many.len());
    Ok(())
}

/// Returns three of the kernel's counters: frames and bytes of the loopback device, without their Ethernet headers, and the
/// receive softirqs (`NET_RX`) of all CPUs.
fn counted() -> Result<[u64; 3]> {
    let numbers = |text: &str| -> Vec<u64> {
        let words = text.split_whitespace();
        words.filter_map(|word| word.parse().ok()).collect()
    };
    let line = |file, key: &str| -> Result<Vec<u64>> {
        let text = std::fs::read_to_string(file)?;
        let line = text.lines().find_map(|line| line.trim().strip_prefix(key));
        Ok(numbers(line.context("no such line")?))
    };
    let device = line("/proc/net/dev", "lo:")?;
    let softirqs = line("/proc/softirqs", "NET_RX:")?;
    Ok([device[1], device[0], softirqs.iter().sum()])
}

/// Runs workers, and returns their reports and the growth of the counters.
fn with_frames(ctx: &Ctx, work: WorkType, workers: usize) -> Result<(Vec<Seen>, [u64; 3])> {
    let before = counted()?;
    let all = watch(ctx, &of(work, workers), 60)?;
    let after = counted()?;
    Ok((all, std::array::from_fn(|at| after[at] - before[at])))
}

fn traffic(ctx: &Ctx) -> Result<()> {
    // This brings the device up.
    one(ctx, WorkType::net_traffic(1000, 60), 5)?;
    let (_, spinning) = with_frames(ctx, WorkType::SpinWait, 2)?;
    ensure!(
        spinning[0] == 0,
        "{spinning:?} counted, although nobody sent frames"
    );
    for (interval, bytes, least) in [(0, 100, 200), (2000, 1514, 10)] {
        let (all, [frames, counted, softirqs]) =
            with_frames(ctx, WorkType::net_traffic(interval, bytes), 2)?;
        let done = rounds(&all);
        ensure!(
            done > least && (done..=done + 2).contains(&frames),
            "{done} sent, {frames} counted"
        );
        ensure!(
            counted == frames * (u64::from(bytes) - 14),
            "{counted} bytes of {frames} frames"
        );
        ensure!(softirqs >= done / 2, "{softirqs} softirqs for {done}");
        let paced = all.iter().all(|seen| seen.one_each(2000) && seen.woken());
        ensure!(paced == (interval > 0), "{all:?}");
    }
    Ok(())
}

fn irq_wake(ctx: &Ctx) -> Result<()> {
    let (all, [frames, _, softirqs]) = with_frames(ctx, WorkType::irq_wake(1000, 60), 2)?;
    let [sender, receiver] = all.as_slice() else {
        anyhow::bail!("{} workers", all.len());
    };
    ensure!(
        sender.report.is_messenger && sender.one_each(1000),
        "{sender:?}"
    );
    ensure!(receiver.woken() && receiver.one_each(1000), "{receiver:?}");
    let (sent, got) = (sender.report.iterations, receiver.report.iterations);
    ensure!(
        got > 20 && sent.abs_diff(got) <= 2 && frames.abs_diff(sent) <= 1 && softirqs >= got / 2,
        "{sent} sent, {got} received, {frames} frames and {softirqs} softirqs counted"
    );
    Ok(())
}

/// Takes the address of the loopback device away between two frames, which are a second apart: IPv4 is turned off for a device
/// whose MTU is below 68 bytes (`inetdev_event()` in net/ipv4/devinet.c). The worker that sends must say what it lacks, instead
/// of trying to send all the time.
fn without_address(ctx: &Ctx) -> Result<()> {
    let half = Duration::from_millis(500);
    for (work, workers) in [
        (WorkType::net_traffic(1_000_000, 60), 1),
        (WorkType::irq_wake(1_000_000, 60), 2),
    ] {
        let name = work.name();
        let mut handle = WorkloadHandle::spawn_seeded(&of(work, workers), ctx.seed)?;
        handle.start();
        std::thread::sleep(half);
        std::fs::write("/sys/class/net/lo/mtu", "60")?;
        std::thread::sleep(2 * half);
        let sender = handle.stop_and_collect().into_iter().next();
        std::fs::write("/sys/class/net/lo/mtu", "65536")?;
        // The device gets its address again when the next worker brings it up. Now it is down: of its flags, only IFF_LOOPBACK is
        // left.
        std::fs::write("/sys/class/net/lo/flags", "0x8")?;
        let why = match sender.context("a report")?.exit_info {
            Some(WorkerExitInfo::WaitFailed(why)) => why,
            other => anyhow::bail!("the sender of {name} did not give up: {other:?}"),
        };
        ensure!(
            why.contains("could not send or receive a frame") && why.contains("unreachable"),
            "{name}: {why}"
        );
    }
    Ok(())
}

/// Runs three work types one after the other, and prints the pid of the second worker of each. The host then looks up in the
/// schedule what woke these workers.
pub fn woken(ctx: &Ctx) -> Result<AssertResult> {
    for work in [
        WorkType::irq_wake(1000, 60),
        WorkType::pipe_io(1024),
        WorkType::SpinWait,
    ] {
        let name = work.name();
        let mut handle = WorkloadHandle::spawn_seeded(&of(work, 2), ctx.seed)?;
        println!("{name} {}", handle.worker_pids()[1]);
        handle.start();
        std::thread::sleep(Duration::from_millis(80));
        for report in handle.stop_and_collect() {
            ensure!(
                report.completed,
                "a worker of {name} ended early: {report:?}"
            );
        }
    }
    Ok(AssertResult::pass())
}
