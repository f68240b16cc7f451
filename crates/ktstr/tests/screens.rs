//! What people read when a test is red, of real runs: a screen for each main way to fail. Under the
//! virtual clock, so the numbers are the guest's.

#[macro_use]
mod common;

use std::time::Duration;

use common::wedge;
use ktstr::prelude::*;
use ktstr::run::{Fault, Finished, run};
use ktstr::test_support::ClockMode;

const fn scx_ktstr(args: &'static [&'static str]) -> Scheduler {
    Scheduler::named("ktstr_sched")
        .binary(SchedulerSpec::Discover("scx-ktstr"))
        .sched_args(args)
}

const SOUND: Scheduler = scx_ktstr(&[]);
const STALLS: Scheduler = scx_ktstr(&["--stall-after", "1"]);
const CRASHES: Scheduler = scx_ktstr(&["--crash-after", "1"]);
const IGNORES_AFFINITY: Scheduler = scx_ktstr(&["--ignore-affinity"]);
const LEAVES: Scheduler = scx_ktstr(&["--exit-after", "1"]);
const SCATTERS: Scheduler = scx_ktstr(&["--scattershot"]);
const WAKES_SLOWLY: Scheduler = scx_ktstr(&["--slow-wake"]);
const STARVES: Scheduler = scx_ktstr(&["--starve-cgroup"]);
const REFUSED: Scheduler = scx_ktstr(&["--fail-verify"]);
const REFUSED_LATE: Scheduler = scx_ktstr(&["--verify-loop"]);

const CHECKED: Assert = Assert::NO_OVERRIDES.check_not_stuck().check_isolation();
const TWO: Topology = Topology::new(1, 1, 2, 1);
const FOUR: Topology = Topology::new(1, 2, 2, 1);

macro_rules! screens {
    ($($entry:ident = $name:literal, $func:expr, $seconds:literal, $sched:ident $timeout:literal,
        $assert:expr, $topology:ident;)*) => { $(
        case!($entry = $name, $func, clock: ClockMode::Virtual, topology: $topology,
            duration: Duration::from_secs($seconds), scheduler: &$sched,
            watchdog_timeout: Duration::from_secs($timeout), assert: $assert);
    )* };
}

screens! {
    STALL = "stall", two_cgroups, 4, STALLS 2, CHECKED, TWO;
    CRASH = "crash", two_cgroups, 3, CRASHES 5, CHECKED, TWO;
    AFFINITY = "affinity", bound, 2, IGNORES_AFFINITY 5, CHECKED, TWO;
    LEFT = "left", two_steps, 3, LEAVES 5, CHECKED, TWO;
    LEFT_AT_THE_END = "left_at_the_end", two_cgroups, 3, LEAVES 5, CHECKED, TWO;
    KILLED = "killed", kills_the_scheduler, 2, SOUND 5, CHECKED, TWO;
    UNFAIR = "unfair", crowded, 2, SCATTERS 5, CHECKED.max_spread_pct(5.0), FOUR;
    SLOW_WAKE = "slow_wake", wakes, 2, WAKES_SLOWLY 5, CHECKED.max_p99_wake_latency_ns(20_000_000), TWO;
    STARVED = "starved", crowded, 3, STARVES 20, CHECKED.max_gap_ms(1000), TWO;
    NOT_LOADED = "not_loaded", two_cgroups, 2, REFUSED 5, CHECKED, TWO;
    NOT_LOADED_LATE = "not_loaded_late", two_cgroups, 2, REFUSED_LATE 5, CHECKED, TWO;
    PANIC = "panic", panics_the_kernel, 2, SOUND 5, CHECKED, TWO;
    HANG = "hang", hangs, 2, SOUND 2, CHECKED, TWO;
}

fn two_cgroups(ctx: &Ctx) -> Result<AssertResult> {
    let cgroup = |name| CgroupDef::named(name).workers(2);
    execute_defs(ctx, vec![cgroup("left"), cgroup("right")])
}

fn two_steps(ctx: &Ctx) -> Result<AssertResult> {
    let step = |name| Step {
        setup: vec![CgroupDef::named(name).workers(4)].into(),
        ops: vec![],
        hold: HoldSpec::frac(0.5),
    };
    execute_steps(ctx, vec![step("first"), step("second")])
}

fn bound(ctx: &Ctx) -> Result<AssertResult> {
    let on = |name, cpu| {
        CgroupDef::named(name)
            .workers(3)
            .cpuset(CpusetSpec::exact([cpu]))
    };
    execute_defs(ctx, vec![on("left", 0), on("right", 1)])
}

fn crowded(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let cgroup = |name| CgroupDef::named(name).workers(2 * cpus);
    execute_defs(ctx, vec![cgroup("left"), cgroup("right")])
}

fn wakes(ctx: &Ctx) -> Result<AssertResult> {
    let pipes = CgroupDef::named("pipes").work_type(WorkType::PipeIo { burst_iters: 64 });
    execute_defs(
        ctx,
        vec![pipes.workers(2), CgroupDef::named("spin").workers(4)],
    )
}

fn kills_the_scheduler(ctx: &Ctx) -> Result<AssertResult> {
    let pid = ctx.sched_pid.expect("a scheduler is under test");
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        // SAFETY: no memory is involved.
        unsafe { libc::kill(pid, libc::SIGKILL) }
    });
    two_cgroups(ctx)
}

fn panics_the_kernel(ctx: &Ctx) -> Result<AssertResult> {
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_millis(500));
        std::fs::write("/proc/sysrq-trigger", "c")
    });
    two_cgroups(ctx)
}

fn hangs(ctx: &Ctx) -> Result<AssertResult> {
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_millis(500));
        wedge::loop_with_interrupts_off()
    });
    two_cgroups(ctx)
}

#[test]
fn gallery() {
    for entry in [
        &STALL,
        &CRASH,
        &AFFINITY,
        &LEFT,
        &LEFT_AT_THE_END,
        &KILLED,
        &UNFAIR,
        &SLOW_WAKE,
        &STARVED,
        &NOT_LOADED,
        &NOT_LOADED_LATE,
        &PANIC,
        &HANG,
    ] {
        let only = std::env::var("ONLY").unwrap_or_default();
        if !only.is_empty() && !only.split(',').any(|o| entry.name.contains(o)) {
            continue;
        }
        let finished: Finished = run(entry);
        println!(
            "=== {} {:?} {:?}",
            entry.name,
            finished.fault == Some(Fault::Scheduler),
            finished.wall
        );
        println!("{}", finished.text);
        if let (Ok(folder), Some(vm)) = (std::env::var("SCREENS"), &finished.vm) {
            let folder = std::path::Path::new(&folder).join(
                entry
                    .name
                    .trim_matches('_')
                    .trim_start_matches("unit_test_"),
            );
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(
                folder.join("result.json"),
                serde_json::to_vec(&finished.result).unwrap(),
            )
            .unwrap();
            if let Some(exit) = &vm.scx_exit {
                std::fs::write(
                    folder.join("scx_exit.json"),
                    serde_json::to_vec_pretty(exit).unwrap(),
                )
                .unwrap();
            }
        }
    }
}
