//! Tests of the screens of failed runs, one for each main way to fail, with real runs under the virtual clock.

use std::time::Duration;

use crate::common::scx_ktstr;
use ktstr::prelude::*;
use ktstr::run::{Fault, Finished, run};
use ktstr::test_support::ClockMode;

const SOUND: Scheduler = scx_ktstr(&[]);
const STALLS: Scheduler = scx_ktstr(&["--stall-after", "1"]);
const CRASHES: Scheduler = scx_ktstr(&["--crash-after", "1"]);
const IGNORES_AFFINITY: Scheduler = scx_ktstr(&["--ignore-affinity"]);
const LEAVES: Scheduler = scx_ktstr(&["--exit-after", "1"]);
const WAKES_SLOWLY: Scheduler = scx_ktstr(&["--slow-wake"]);
const STARVES: Scheduler = scx_ktstr(&["--starve-cgroup"]);

const CHECKED: Assert = Assert::NO_OVERRIDES.check_not_stuck().check_isolation();
const TWO: Topology = Topology::new(1, 1, 2, 1);

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
    SLOW_WAKE = "slow_wake", wakes, 2, WAKES_SLOWLY 5, CHECKED.max_p99_wake_latency_ns(20_000_000).without_defaults(), TWO;
    STARVED = "starved", crowded, 3, STARVES 20, CHECKED.max_gap_ms(1000), TWO;
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
        // SAFETY: the arguments are plain integers.
        unsafe { libc::kill(pid, libc::SIGKILL) }
    });
    two_cgroups(ctx)
}

/// Runs a test that fails by the scheduler's fault, and checks that its screen has the parts that every screen has.
fn screen(entry: &'static KtstrTestEntry, says: &[&str]) -> Finished {
    screen_of(Fault::Scheduler, entry, says)
}

fn screen_of(fault: Fault, entry: &'static KtstrTestEntry, says: &[&str]) -> Finished {
    let finished = run(entry);
    let text = &finished.text;
    assert_eq!(finished.exit_code(), 1, "{text}");
    assert_eq!(finished.fault, Some(fault), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        (8..=40).contains(&lines.len()),
        "{} lines:\n{text}",
        lines.len()
    );
    let start = format!(
        "ktstr_test '{}' [sched=scx-ktstr] [topo={}] failed: ",
        entry.name, entry.topology
    );
    assert!(lines[0].starts_with(&start), "{text}");
    let blamed = format!(" — {fault} fault.");
    assert!(lines[0].ends_with(&blamed), "{text}");
    let count = |start: &str| lines.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!(
        (
            count(&format!("  fault: {fault} (")),
            count("again: "),
            count("record: ")
        ),
        (1, 1, 1),
        "{text}"
    );
    for part in says {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    finished
}

/// Returns the kind of the first failure about the scheduler's exit.
fn end(finished: &Finished) -> Option<DetailKind> {
    let mut details = finished.result.failure_details();
    details.find_map(|d| {
        d.message
            .starts_with("scheduler process died")
            .then_some(d.kind)
    })
}

/// Which task waits longest depends on the schedule: it may be a worker, another task, or the kernel's watchdog.
#[test]
fn a_scheduler_that_stalls() {
    screen(
        &STALL,
        &[
            "failed: the kernel ejected scx-ktstr, which ",
            " no CPU ",
            "(sched_ext reported SCX_EXIT_ERROR_STALL; detected in scx_",
            "stall=1",
            "  <-- main finding\n",
        ],
    );
}

#[test]
fn a_scheduler_that_breaks_a_rule() {
    screen(
        &AFFINITY,
        &[
            "failed: the kernel ejected scheduler `scx-ktstr`: runtime error (SCX_DSQ_LOCAL[_ON] target CPU ",
            "(sched_ext reported SCX_EXIT_ERROR; detected in ",
        ],
    );
}

#[test]
fn a_scheduler_that_reports_an_error_of_its_own() {
    // The message names the function of the scheduler that reported the error.
    let finished = screen(
        &CRASH,
        &[
            "scx_bpf_error (ktstr: host-triggered crash)",
            "detected in bpf_prog_",
        ],
    );
    // Which callback is the first to run after the scheduler's variable `crash` is set depends on the schedule.
    let callbacks = ["_ktstr_enqueue+", "_ktstr_dispatch+", "_ktstr_select_cpu+"];
    assert!(
        callbacks.iter().any(|name| finished.text.contains(name)),
        "{}",
        finished.text
    );
}

/// The scheduler exits in a test of two steps, and in a test of one step. In neither case does the kernel eject it.
#[test]
fn a_scheduler_that_leaves_by_itself() {
    for entry in [&LEFT, &LEFT_AT_THE_END] {
        let finished = screen(
            entry,
            &[
                "failed: scx-ktstr stopped on its own",
                "scheduler process died: `scx-ktstr` stopped on its own",
                "SCX_EXIT_UNREG: unregistered from user space",
                "exiting, because the time of --exit-after has passed",
            ],
        );
        assert_eq!(end(&finished), Some(DetailKind::SchedulerExitedCleanly));
        assert!(!finished.text.contains("eject"), "{}", finished.text);
        let vm = finished.vm.as_ref().expect("it ran");
        assert_eq!(vm.scx_exit, None);
    }
}

#[test]
fn a_scheduler_that_is_killed() {
    // The trace of signals shows the sender.
    let finished = screen_of(
        Fault::Test,
        &KILLED,
        &[
            "failed: scx-ktstr was killed by signal 9 before the test was over",
            " sent it signal 9)",
        ],
    );
    assert_eq!(end(&finished), Some(DetailKind::SchedulerCrashed));
    assert!(!finished.text.contains("eject"), "{}", finished.text);
}

#[test]
fn wake_ups_that_come_late() {
    screen(
        &SLOW_WAKE,
        &[
            "failed: the p99 wake latency of cgroup `pipes` was ",
            ", more than the allowed 20.0 ms",
            "  <-- main finding\nspin ",
        ],
    );
}

#[test]
fn a_cgroup_that_is_starved() {
    let finished = screen(&STARVED, &[" made no progress (0 work units)"]);
    let text = &finished.text;
    // The schedule decides which of the two cgroups is starved, and whether the kernel ejects the scheduler in time.
    let marked = text.lines().find(|line| line.ends_with("<-- main finding"));
    let name = marked.and_then(|line| line.split(' ').next());
    let name = name.unwrap_or_else(|| panic!("no cgroup is marked in {text}"));
    assert!(["left", "right"].contains(&name), "{text}");
    let sentence = text.lines().next().unwrap_or_default();
    assert!(sentence.contains(&format!(" of cgroup `{name}`")), "{text}");
    assert!(
        [" no CPU for ", " did no work at all"]
            .iter()
            .any(|shown| sentence.contains(shown)),
        "{text}"
    );
}
