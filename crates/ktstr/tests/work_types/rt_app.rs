//! Tests of the work type `RtApp`: each action has its effect, and a worker that waits is woken only through the object that it
//! names.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ktstr::prelude::*;

use super::watch::{Seen, each, of, on, one, watch};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub fn all(ctx: &Ctx) -> Result<AssertResult> {
    each(
        ctx,
        &[
            ("run, sleep", bursts),
            ("runtime", runtime),
            ("timer", timers),
            ("repeat, delay", repeats),
            ("wait, signal, broadcast", conditions),
            ("suspend, resume", suspended),
            ("barrier", barrier),
            ("sem_post, sem_wait", semaphore),
            ("lock, unlock", locks),
            ("lock with priority inheritance", inherited),
            ("yield", yields),
            ("cpus, policy, priority", attributes),
            ("slice", slices),
        ],
    )
}

/// Returns a work type with one phase of these actions, which is repeated without end.
fn work(actions: impl IntoIterator<Item = RtAction>) -> WorkType {
    WorkType::rt_app(vec![RtPhase::once(actions)], 0, Duration::ZERO, false)
}

fn name(text: &str) -> String {
    text.to_owned()
}

fn timer(period: Duration, absolute: bool, shared: bool) -> RtAction {
    RtAction::Timer {
        name: name("tick"),
        period,
        absolute,
        shared,
    }
}

/// Runs one worker of each of these work types at the same time.
fn together(ctx: &Ctx, all: &[WorkType], time: u64) -> Result<Vec<Seen>> {
    let (first, rest) = all.split_first().expect("one worker");
    let config = rest.iter().fold(of(first.clone(), 1), |config, work| {
        config.push_composed(WorkSpec::new(work.clone()).workers(1))
    });
    watch(ctx, &config, time)
}

/// Returns whether a worker used `each` of CPU time for every iteration, and at most as much again for the iteration that the
/// stop cut short.
fn costs(seen: &Seen, each: Duration) -> bool {
    let (had, times) = (seen.report.cpu_time_ns, seen.report.iterations);
    let each = each.as_nanos() as u64;
    // The worker's own bookkeeping may take 2 % more.
    (times * each..=(times + 1) * each * 102 / 100).contains(&had)
}

/// Returns whether a worker finished one iteration in every `ms` milliseconds of its life. The first and the last iteration
/// may be missing.
fn every(seen: &Seen, ms: u64) -> bool {
    let times = seen.report.wall_time_ns / (ms * 1_000_000);
    (times.saturating_sub(2)..=times).contains(&seen.report.iterations)
}

fn bursts(ctx: &Ctx) -> Result<()> {
    let twenty = || work([RtAction::Run(ms(20)), RtAction::Sleep(ms(80))]);
    let alone = one(ctx, twenty(), 450)?;
    ensure!(alone.report.iterations == 4 && alone.woken(), "{alone:?}");
    ensure!(costs(&alone, ms(20)), "{alone:?}");
    // Workers that share their CPU with a spinner use the same CPU time in each iteration, but get it later.
    let config = on(twenty(), 2, &[1]).push_composed(
        WorkSpec::new(WorkType::SpinWait)
            .workers(1)
            .affinity(AffinityIntent::exact([1])),
    );
    let beside = watch(ctx, &config, 450)?;
    for seen in &beside[..2] {
        let waited = seen.report.schedstat_run_delay_ns;
        ensure!(costs(seen, ms(20)) && waited > 20_000_000, "{beside:?}");
    }
    Ok(())
}

fn runtime(ctx: &Ctx) -> Result<()> {
    let both = watch(ctx, &on(work([RtAction::Runtime(ms(40))]), 2, &[1]), 400)?;
    // The 40 ms of wall time pass for both workers, whichever of them has the CPU, so each uses about 20 ms of CPU time.
    for seen in &both {
        let report = &seen.report;
        ensure!(
            report.iterations <= report.wall_time_ns / 40_000_000
                && report.cpu_time_ns < (report.iterations + 1) * 32_000_000,
            "{both:?}"
        );
    }
    Ok(())
}

fn timers(ctx: &Ctx) -> Result<()> {
    // The CPU time is part of the period. With a sleep instead of the timer it would be added to the sleep.
    let seen = one(
        ctx,
        work([RtAction::Run(ms(5)), timer(ms(20), false, false)]),
        // The worker is stopped while it waits, so that no burst is counted in part.
        212,
    )?;
    ensure!(every(&seen, 20), "{seen:?}");
    let report = &seen.report;
    ensure!(
        report.timer_sample_total == report.iterations && report.wake_sample_total == 0,
        "{seen:?}"
    );
    // The slack is what is left of 20 ms after 5 ms of CPU time.
    let bench = report
        .bench
        .as_ref()
        .context("a worker with a timer has reported no slack")?;
    let slacks = &bench.samples;
    ensure!(
        slacks.len() as u64 >= report.iterations && bench.hits == 0,
        "{bench:?}"
    );
    // The worker also waits for its CPU, and uses CPU time for its first page faults and its bookkeeping, which is less than 5 %
    // of its bursts. The CPU time of a context switch is charged to no task. A wait has two switches of some 3,000 instructions
    // or 12 µs each, so 30 µs are allowed for each wait.
    let (most, bursts) = (15_000_000_u64, 5_000_000 * slacks.len() as u64);
    let own = report.cpu_time_ns.saturating_sub(bursts);
    let used = report.schedstat_run_delay_ns + own + 30_000 * slacks.len() as u64;
    let missing: u64 = slacks.iter().map(|slack| most.saturating_sub(*slack)).sum();
    ensure!(
        slacks.iter().all(|slack| *slack < most + 100_000) && missing <= used && own < bursts / 20,
        "{missing} ns of slack are missing, and waits for the CPU, overhead and switches explain at most {used} ns: {seen:?}"
    );
    // Two workers that share a timer take turns in using its periods. Otherwise each of them uses all periods of its own timer.
    let ticks = |shared| watch(ctx, &of(work([timer(ms(20), false, shared)]), 2), 205);
    let sum = |all: Vec<Seen>| -> u64 { all.iter().map(|seen| seen.report.iterations).sum() };
    let (shared, own) = (sum(ticks(true)?), sum(ticks(false)?));
    // The workers run for 205 ms, plus the time that it takes to read their state.
    ensure!(
        (10..=12).contains(&shared) && (20..=24).contains(&own),
        "{shared} and {own} periods"
    );
    // After 50 ms of CPU time in a period of 20 ms, only an absolute timer catches up.
    let late = |absolute| {
        let phases = vec![
            RtPhase::once([RtAction::Run(ms(50)), timer(ms(20), absolute, false)]),
            RtPhase {
                repeat: 0,
                actions: vec![timer(ms(20), absolute, false)],
            },
        ];
        one(ctx, WorkType::rt_app(phases, 1, Duration::ZERO, false), 195)
    };
    let (relative, absolute) = (late(false)?, late(true)?);
    let missed = |seen: &Seen| seen.report.bench.as_ref().map_or(0, |bench| bench.hits);
    ensure!(
        missed(&relative) == 1 && missed(&absolute) == 2,
        "{relative:?}\n{absolute:?}"
    );
    // The absolute timer goes on at the multiples of 20 ms, and the relative one every 20 ms from 50 ms on.
    let periods = |seen: &Seen, from: u64| (seen.report.wall_time_ns - from) / 20_000_000;
    ensure!(
        relative
            .report
            .iterations
            .abs_diff(1 + periods(&relative, 50_000_000))
            <= 1
            && absolute.report.iterations.abs_diff(periods(&absolute, 0)) <= 1,
        "{relative:?}\n{absolute:?}"
    );
    Ok(())
}

fn repeats(ctx: &Ctx) -> Result<()> {
    let phases = vec![
        RtPhase {
            repeat: 3,
            actions: vec![RtAction::Run(ms(1))],
        },
        RtPhase::once([RtAction::Run(ms(10))]),
    ];
    let seen = one(ctx, WorkType::rt_app(phases, 2, ms(30), false), 150)?;
    ensure!(seen.report.iterations == 8, "{seen:?}");
    let had = seen.report.cpu_time_ns;
    ensure!((26_000_000..27_000_000).contains(&had), "{seen:?}");
    let runs = work([RtAction::Run(ms(1))]);
    let WorkType::RtApp { phases, .. } = runs else {
        unreachable!("it was made above")
    };
    let late = one(ctx, WorkType::rt_app(phases, 0, ms(100), false), 150)?;
    let after = late.report.wall_time_ns.saturating_sub(100_000_000);
    ensure!(
        late.report.iterations > 30 && late.report.cpu_time_ns < after + 2_000_000,
        "{late:?}"
    );
    Ok(())
}

fn conditions(ctx: &Ctx) -> Result<()> {
    let waits = || {
        work([
            RtAction::Lock(name("m")),
            RtAction::Wait {
                condition: name("c"),
                mutex: name("m"),
            },
            RtAction::Unlock(name("m")),
            RtAction::Run(ms(1)),
        ])
    };
    let calls = |call| {
        work([
            RtAction::Sleep(ms(10)),
            RtAction::Lock(name("m")),
            call,
            RtAction::Unlock(name("m")),
        ])
    };
    // Nobody signals the condition.
    let alone = one(ctx, waits(), 60)?;
    ensure!(
        alone.report.iterations == 0 && alone.report.cpu_time_ns < 5_000_000,
        "{alone:?}"
    );
    // A signal wakes one of the two waiters, and a broadcast wakes both.
    let signal = calls(RtAction::Signal(name("c")));
    let all = together(ctx, &[signal, waits(), waits()], 105)?;
    let times: Vec<u64> = all.iter().map(|seen| seen.report.iterations).collect();
    ensure!(times[0] >= 8 && times[1] + times[2] <= times[0], "{all:?}");
    ensure!(
        times[1] + times[2] + 1 >= times[0] && times[1].abs_diff(times[2]) <= 1,
        "{all:?}"
    );
    let broadcast = calls(RtAction::Broadcast(name("c")));
    let all = together(ctx, &[broadcast, waits(), waits()], 105)?;
    for seen in &all[1..] {
        let behind = all[0].report.iterations.abs_diff(seen.report.iterations);
        ensure!(behind <= 1 && seen.woken(), "{all:?}");
    }
    Ok(())
}

fn suspended(ctx: &Ctx) -> Result<()> {
    let sleeper = || work([RtAction::Suspend(name("me")), RtAction::Run(ms(1))]);
    let waker = |whom: &str| work([RtAction::Sleep(ms(10)), RtAction::Resume(name(whom))]);
    let all = together(ctx, &[waker("me"), sleeper()], 105)?;
    let (calls, woken) = (all[0].report.iterations, all[1].report.iterations);
    ensure!(
        calls >= 8 && calls.abs_diff(woken) <= 1 && all[1].woken(),
        "{all:?}"
    );
    let other = together(ctx, &[waker("you"), sleeper()], 55)?;
    ensure!(other[1].report.iterations == 0, "{other:?}");
    Ok(())
}

fn barrier(ctx: &Ctx) -> Result<()> {
    let meet = |time| {
        let barrier = RtAction::Barrier {
            name: name("all"),
            threads: 3,
        };
        work([RtAction::Sleep(ms(time)), barrier])
    };
    // All workers are as slow as the slowest one.
    let all = together(ctx, &[meet(1), meet(5), meet(20)], 210)?;
    for seen in &all {
        ensure!(every(seen, 20), "{all:?}");
    }
    Ok(())
}

fn semaphore(ctx: &Ctx) -> Result<()> {
    let posts = [RtPhase::once([
        RtAction::SemPost(name("s")),
        RtAction::SemPost(name("s")),
        RtAction::SemPost(name("s")),
    ])];
    let posts = WorkType::rt_app(posts.to_vec(), 2, Duration::ZERO, false);
    let takes = work([RtAction::SemWait(name("s")), RtAction::Sleep(ms(2))]);
    let all = together(ctx, &[posts, takes], 60)?;
    ensure!(
        all[0].report.iterations == 2 && all[1].report.iterations == 6,
        "{all:?}"
    );
    Ok(())
}

fn locks(ctx: &Ctx) -> Result<()> {
    for inherits in [false, true] {
        let holds = [RtPhase::once([
            RtAction::Lock(name("m")),
            RtAction::Run(ms(5)),
            RtAction::Unlock(name("m")),
        ])];
        let holds = WorkType::rt_app(holds.to_vec(), 0, Duration::ZERO, inherits);
        let all = watch(ctx, &of(holds, 3), 150)?;
        let (cpu, wall) = all.iter().fold((0, 0), |(cpu, wall), seen| {
            let report = &seen.report;
            (cpu + report.cpu_time_ns, wall + report.wall_time_ns)
        });
        // One of the three workers runs at a time, although there are four CPUs.
        ensure!(
            cpu < wall * 2 / 5,
            "priority inheritance {inherits}: {cpu} ns of CPU time in {wall} ns: {all:?}"
        );
        ensure!(
            all.iter().map(|seen| seen.report.iterations).sum::<u64>() > 20,
            "{all:?}"
        );
    }
    Ok(())
}

/// Returns how often a worker of high priority gets a lock that a worker of low priority holds, while a worker of medium
/// priority, which does not use the lock, competes with them for their CPU.
fn inversions(ctx: &Ctx, inherits: bool) -> Result<u64> {
    let thread = |priority: Option<u32>, actions: &[RtAction]| {
        let policy = priority.map(|priority| RtAction::Policy(SchedPolicy::Fifo(priority)));
        let all = policy.into_iter().chain(actions.iter().cloned());
        WorkType::rt_app(vec![RtPhase::once(all)], 0, Duration::ZERO, inherits)
    };
    let [take, give] = [RtAction::Lock(name("m")), RtAction::Unlock(name("m"))];
    let [run, pause] = [RtAction::Run(ms(5)), RtAction::Sleep(ms(5))];
    let low = thread(None, &[take.clone(), run, give.clone()]);
    let medium = thread(Some(20), &[RtAction::Run(ms(30)), pause.clone()]);
    let high = thread(Some(40), &[pause, take, give]);
    let beside = |work| {
        let spec = WorkSpec::new(work).workers(1);
        spec.affinity(AffinityIntent::exact([1]))
    };
    let config = on(low, 1, &[1])
        .push_composed(beside(medium))
        .push_composed(beside(high));
    Ok(watch(ctx, &config, 400)?[2].report.iterations)
}

fn inherited(ctx: &Ctx) -> Result<()> {
    let (plain, inherits) = (inversions(ctx, false)?, inversions(ctx, true)?);
    ensure!(
        inherits > 2 * plain,
        "the lock was taken {inherits} times with priority inheritance, {plain} times without it"
    );
    Ok(())
}

fn yields(ctx: &Ctx) -> Result<()> {
    let switches = |actions: Vec<RtAction>| -> Result<u64> {
        let both = watch(ctx, &on(work(actions), 2, &[1]), 50)?;
        Ok(both.iter().map(|w| w.task.preempted + w.task.blocked).sum())
    };
    let run = || RtAction::Run(Duration::from_micros(100));
    let (without, with) = (
        switches(vec![run()])?,
        switches(vec![run(), RtAction::Yield])?,
    );
    ensure!(
        with > 4 * without.max(10),
        "{with} switches with yields, {without} without them"
    );
    Ok(())
}

fn attributes(ctx: &Ctx) -> Result<()> {
    let phase = |cpus: &[usize], policy, priority| {
        RtPhase::once([
            RtAction::Cpus(cpus.iter().copied().collect()),
            RtAction::Policy(policy),
            RtAction::Priority(priority),
            RtAction::Sleep(ms(200)),
        ])
    };
    let in_first = |phases: &[RtPhase]| {
        one(
            ctx,
            WorkType::rt_app(phases.to_vec(), 0, Duration::ZERO, false),
            50,
        )
    };
    let batch = in_first(&[phase(&[1, 3], SchedPolicy::Batch, 7)])?.task;
    ensure!(
        batch.allowed == [1, 3] && batch.policy == 3 && batch.nice == 7,
        "{batch:?}"
    );
    let fifo = in_first(&[phase(&[2], SchedPolicy::Fifo(10), 20)])?;
    ensure!(
        fifo.task.allowed == [2] && fifo.task.policy == 1 && fifo.report.realtime,
        "{fifo:?}"
    );
    let deadline = SchedPolicy::deadline(ms(2), ms(10), ms(20));
    let deadline = in_first(&[phase(&[], deadline, 0)])?;
    ensure!(
        deadline.task.policy == 6 && deadline.report.realtime,
        "{deadline:?}"
    );
    // A phase without CPUs gives the worker the affinity that it had at its start.
    let mut short = phase(&[2], SchedPolicy::Fifo(10), 20);
    short.actions.pop();
    let back = in_first(&[short, phase(&[], SchedPolicy::Normal, -3)])?.task;
    ensure!(
        back.allowed.len() == 4 && back.policy == 0 && back.nice == -3,
        "{back:?}"
    );
    Ok(())
}

/// Returns the runtime that `sched_getattr(2)` reports for a thread, in nanoseconds. Under `SCHED_OTHER` it is the slice.
fn runtime_of(tid: i32) -> Result<u64> {
    // The first version of struct sched_attr has 48 bytes, with the runtime at offset 24.
    let mut attr = [0u64; 6];
    // SAFETY: the kernel writes at most the 48 bytes that the call allows; the flags are 0.
    let rc = unsafe { libc::syscall(libc::SYS_sched_getattr, tid, attr.as_mut_ptr(), 48, 0) };
    ensure!(
        rc == 0,
        "sched_getattr: {}",
        std::io::Error::last_os_error()
    );
    Ok(attr[3])
}

/// Checks that a slice stays when the nice value changes, and is reset when the policy changes.
fn slices(ctx: &Ctx) -> Result<()> {
    let slice = || RtAction::Slice(ms(30));
    let nice = || RtAction::Priority(4);
    let normal = || RtAction::Policy(SchedPolicy::Normal);
    let batch = || RtAction::Policy(SchedPolicy::Batch);
    for (actions, stays) in [
        (vec![slice()], true),
        (vec![slice(), normal(), nice()], true),
        (vec![slice(), batch(), normal()], false),
        (vec![nice()], false),
    ] {
        // The worker has executed all actions once when it reports its first iteration, and then parks.
        let config = of(work(actions), 1)
            .signal_first_iteration(true)
            .park_after_iterations(1);
        let mut handle = WorkloadHandle::spawn_seeded(&config, ctx.seed)?;
        handle.start();
        handle.wait_first_iterations(Duration::from_secs(2))?;
        let runtime = runtime_of(handle.worker_pids()[0])?;
        let report = handle.stop_and_collect().remove(0);
        ensure!(report.sched_policy_error.is_none(), "{report:?}");
        ensure!((runtime == 30_000_000) == stays, "{config:?}: {runtime} ns");
    }
    Ok(())
}
