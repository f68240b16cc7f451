//! The scenarios of the matrix: tests of this binary, each the same under every scheduler. Windows are short and shapes
//! small, since each is run some hundred times: two CPUs, or four in two LLCs.
//!
//! Which scheduler runs, and with which arguments, the host says (`case`): here it stands for all of them.

use std::time::Duration;

use ktstr::prelude::*;

use super::case::SCX_KTSTR;
use super::expect;

const TWO_CPUS: Topology = Topology::new(1, 1, 2, 1);
const TWO_LLCS: Topology = Topology::new(1, 2, 2, 1);
const WINDOW: Duration = Duration::from_secs(3);

/// The default checks of the matrix.
const CHECKS: Assert = Assert::NO_OVERRIDES
    .check_not_stuck()
    .check_isolation()
    .with_monitor_defaults();

const ENTRY: KtstrTestEntry = KtstrTestEntry {
    scheduler: &SCX_KTSTR,
    topology: TWO_CPUS,
    assert: CHECKS,
    duration: WINDOW,
    watchdog_timeout: Duration::from_secs(3),
    auto_repro: false,
    ..KtstrTestEntry::DEFAULT
};

macro_rules! scenarios {
    ($($(#[$doc:meta])* $entry:ident = $func:ident on $topology:expr;)+) => { $(
        $(#[$doc])*
        #[ktstr_test_entry]
        static $entry: KtstrTestEntry = KtstrTestEntry {
            name: concat!("power_", stringify!($func)),
            func: $func,
            topology: $topology,
            ..ENTRY
        };
    )+ };
}

scenarios! {
    STEADY = steady on TWO_CPUS;
    OVERSUBSCRIBED = oversubscribed on TWO_CPUS;
    NICE_MIX = nice_mix on TWO_CPUS;
    WAKE_HOGS = wake_hogs on TWO_CPUS;
    WAKE_IDLE = wake_idle on TWO_CPUS;
    PING_PONG = ping_pong on TWO_CPUS;
    FORK_STORM = fork_storm on TWO_CPUS;
    AFFINITY_SWAP = affinity_swap on TWO_CPUS;
    CGROUP_CHURN = cgroup_churn on TWO_CPUS;
    STEADY_LLCS = steady_llcs on TWO_LLCS;
    CPUSET_RESIZE = cpuset_resize on TWO_LLCS;
    CPUSET_CLEAR = cpuset_clear on TWO_LLCS;
    CPUSET_MERGE = cpuset_merge on TWO_LLCS;
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn spin(name: &str, workers: usize) -> CgroupDef {
    CgroupDef::named(name).workers(workers)
}

fn step(ops: Vec<Op>, fraction: f64) -> Step {
    Step::new(ops, HoldSpec::frac(fraction))
}

/// The result with the scenario's own expectations, unless it has failed already: a scheduler that is gone, or one that
/// forgot a task, has nothing more to be asked.
fn judged(result: AssertResult, expect: impl FnOnce(&mut Verdict, &ScenarioStats)) -> AssertResult {
    if result.is_fail() {
        return result;
    }
    let mut verdict = Verdict::new();
    expect(&mut verdict, &result.stats);
    verdict.merge(result);
    verdict.into_result()
}

/// Two equal cgroups, two hogs each, on two CPUs.
fn steady(ctx: &Ctx) -> Result<AssertResult> {
    let result = execute_defs(ctx, vec![spin("left", 2), spin("right", 2)])?;
    Ok(judged(result, |v, stats| {
        expect::busy(v, stats, 2, ctx.duration);
        expect::equal(v, stats, "left", "right", None);
    }))
}

/// Eight hogs a CPU.
fn oversubscribed(ctx: &Ctx) -> Result<AssertResult> {
    let before = expect::switches();
    let result = execute_defs(ctx, vec![spin("left", 8), spin("right", 8)])?;
    Ok(judged(result, |v, stats| {
        expect::busy(v, stats, 2, ctx.duration);
        expect::equal(v, stats, "left", "right", None);
        expect::few_switches(v, before, 2, ctx.duration);
    }))
}

/// Hogs of nice 0 and of nice 10: their weights are as 9 to 1.
fn nice_mix(ctx: &Ctx) -> Result<AssertResult> {
    let result = execute_defs(ctx, vec![spin("plain", 3), spin("nice", 3).nice(10)])?;
    Ok(judged(result, |v, stats| {
        expect::busy(v, stats, 2, ctx.duration);
        expect::heavier(v, stats, "plain", "nice", 2.5);
    }))
}

/// Short bursts among hogs.
fn wake_hogs(ctx: &Ctx) -> Result<AssertResult> {
    let sleepers = CgroupDef::named("sleepers")
        .workers(4)
        .work_type(WorkType::bursty(ms(1), ms(9)));
    let result = execute_defs(ctx, vec![spin("hogs", 4), sleepers])?;
    Ok(judged(result, |v, stats| {
        expect::woken_within(v, stats, "sleepers", ms(20));
    }))
}

/// Bursts that always find a CPU free.
fn wake_idle(ctx: &Ctx) -> Result<AssertResult> {
    let sleepers = CgroupDef::named("sleepers")
        .workers(2)
        .work_type(WorkType::bursty(ms(20), ms(10)));
    let result = execute_defs(ctx, vec![sleepers])?;
    Ok(judged(result, |v, stats| {
        expect::woken_within(v, stats, "sleepers", ms(5));
    }))
}

/// Pairs that wake each other as fast as they can.
fn ping_pong(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(
        ctx,
        vec![
            CgroupDef::named("futexes")
                .workers(4)
                .work_type(WorkType::futex_ping_pong(64)),
            CgroupDef::named("pipes")
                .workers(4)
                .work_type(WorkType::pipe_io(64)),
        ],
    )
}

/// Processes that come and go beside hogs.
fn fork_storm(ctx: &Ctx) -> Result<AssertResult> {
    let forks = CgroupDef::named("forks")
        .workers(2)
        .work_type(WorkType::fork_exit());
    execute_defs(ctx, vec![spin("hogs", 2), forks])
}

/// Hogs bound to one CPU each, then to the other.
fn affinity_swap(ctx: &Ctx) -> Result<AssertResult> {
    let on = |cpu: usize| AffinityIntent::exact([cpu]);
    let backdrop = Backdrop::from_cgroups([
        spin("left", 2).affinity(on(0)),
        spin("right", 2).affinity(on(1)),
    ]);
    let swap = vec![
        Op::set_affinity("left", on(1)),
        Op::set_affinity("right", on(0)),
    ];
    let result = execute_scenario(ctx, backdrop, vec![step(vec![], 0.5), step(swap, 0.5)])?;
    Ok(judged(result, |v, stats| {
        expect::busy(v, stats, 2, ctx.duration);
        expect::equal(v, stats, "left", "right", None);
    }))
}

/// A cgroup that stays, and six that come and go.
fn cgroup_churn(ctx: &Ctx) -> Result<AssertResult> {
    const GENERATIONS: [&str; 6] = ["first", "second", "third", "fourth", "fifth", "sixth"];
    let steps = GENERATIONS
        .iter()
        .map(|name| Step::with_defs(vec![spin(name, 2)], HoldSpec::frac(1.0 / 6.0)));
    let backdrop = Backdrop::from_cgroups([spin("stays", 2)]);
    let result = execute_scenario(ctx, backdrop, steps.collect())?;
    Ok(judged(result, |v, stats| {
        for (k0, name) in GENERATIONS.iter().enumerate() {
            expect::equal(v, stats, "stays", name, Some(Phase::step(k0 as u16)));
        }
    }))
}

/// Ten hogs on four CPUs in two LLCs: they cannot be divided evenly, so they have to take turns.
fn steady_llcs(ctx: &Ctx) -> Result<AssertResult> {
    let result = execute_defs(ctx, vec![spin("left", 6), spin("right", 4)])?;
    Ok(judged(result, |v, stats| {
        expect::busy(v, stats, 4, ctx.duration);
        expect::equal(v, stats, "left", "right", None);
    }))
}

/// Two cgroups with CPUs of their own; one takes from the other, then the other from the one.
fn cpuset_resize(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = |range: std::ops::Range<usize>| CpusetSpec::exact(range);
    let backdrop = Backdrop::from_cgroups([
        spin("left", 6).cpuset(cpus(0..2)),
        spin("right", 6).cpuset(cpus(2..4)),
    ]);
    let resize = |at: usize| {
        vec![
            Op::set_cpuset("left", cpus(0..at)),
            Op::set_cpuset("right", cpus(at..4)),
        ]
    };
    let third = 1.0 / 3.0;
    let steps = vec![
        step(vec![], third),
        step(resize(1), third),
        step(resize(3), third),
    ];
    let result = execute_scenario(ctx, backdrop, steps)?;
    Ok(judged(result, |v, stats| {
        expect::busy(v, stats, 4, ctx.duration);
    }))
}

/// Hogs on one LLC which are then given the whole machine.
fn cpuset_clear(ctx: &Ctx) -> Result<AssertResult> {
    let backdrop = Backdrop::from_cgroups([spin("hogs", 8).cpuset(CpusetSpec::llc(0))]);
    let clear = vec![Op::ClearCpuset {
        cgroup: "hogs".into(),
    }];
    let steps = vec![step(vec![], 0.4), step(clear, 0.6)];
    let result = execute_scenario(ctx, backdrop, steps)?;
    Ok(judged(result, |v, stats| {
        expect::busy_phase(v, stats, Phase::step(1), 4, ctx.duration.mul_f64(0.6));
    }))
}

/// A crowd on one LLC and a few on the other, which then have to join the crowd.
fn cpuset_merge(ctx: &Ctx) -> Result<AssertResult> {
    let backdrop = Backdrop::from_cgroups([
        spin("crowd", 8).cpuset(CpusetSpec::llc(0)),
        spin("few", 4).cpuset(CpusetSpec::llc(1)),
    ]);
    let merge = vec![Op::set_cpuset("few", CpusetSpec::llc(0))];
    let result = execute_scenario(ctx, backdrop, vec![step(vec![], 0.5), step(merge, 0.5)])?;
    Ok(judged(result, |v, stats| {
        expect::equal(v, stats, "crowd", "few", Some(Phase::step(1)));
    }))
}
