//! Tests of the operations of a step by their effect on the kernel: the content of its files, the behaviour of tasks, and the
//! content of its memory.
//!
//! The setup function of a step is called before the step's operations, and after the hold of the step before. So a setup
//! function that creates no cgroups can check the effects of the operations of the step before.

#[macro_use]
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use ktstr::prelude::*;
use ktstr::snapshot::CgroupProcsSnapshot;

const TWO_CPUS: Topology = Topology::new(1, 1, 2, 1);
const FOUR_CPUS: Topology = Topology::new(1, 1, 4, 1);
const MS: Duration = Duration::from_millis(1);

fn passes(entry: &'static KtstrTestEntry) -> VmResult {
    let finished = ktstr::run::run(entry);
    assert_eq!(finished.exit_code(), 0, "{}", finished.text);
    assert!(finished.result.is_pass(), "{:?}", finished.result.outcomes);
    finished.vm.expect("it ran in a machine")
}

/// The contents of [`FILES`] at each reading, in the order of the readings. The keys are the names of the files.
static SEEN: Mutex<Vec<BTreeMap<&str, String>>> = Mutex::new(Vec::new());

/// The files to read: relative paths start at the root of the test's cgroups.
const FILES: &[&str] = &[
    "a/cpu.max",
    "a/cpu.weight",
    "a/cpu.uclamp.min",
    "a/memory.max",
    "a/memory.high",
    "a/memory.low",
    "a/pids.max",
    "a/cpuset.cpus.effective",
    "a/cpu.stat",
    "b/cpu.idle",
    "b/cpuset.cpus.partition",
    "b/cpuset.cpus.effective",
    "top/cpuset.cpus.exclusive",
    "top/c/cpuset.cpus.partition",
    "top/c/cpuset.cpus.effective",
    "b/cgroup.procs",
    "/sys/devices/system/cpu/online",
    STATE,
    "/sys/kernel/sched_ext/enable_seq",
    "/proc/irq/1/smp_affinity_list",
];

fn look(ctx: &Ctx) -> Vec<CgroupDef> {
    let read = |file: &&'static str| {
        // An absolute path replaces the root.
        let text = std::fs::read_to_string(ctx.cgroups.parent_path().join(file)).ok()?;
        Some((*file, text.trim().to_owned()))
    };
    let found = FILES.iter().filter_map(read).collect();
    SEEN.lock()
        .expect("no thread panics while it holds the lock")
        .push(found);
    Vec::new()
}

/// A step that only reads the files.
fn looking() -> Step {
    Step {
        setup: Setup::with_factory(look),
        ops: Vec::new(),
        hold: HoldSpec::fixed(Duration::ZERO),
    }
}

/// Returns what the `nth` reading found in `file`.
fn seen(nth: usize, file: &str) -> String {
    let seen = SEEN
        .lock()
        .expect("no thread panics while it holds the lock");
    let text = seen.get(nth).and_then(|files| files.get(file));
    text.cloned().unwrap_or_else(|| NONE.to_owned())
}

fn expect(result: &mut AssertResult, nth: usize, file: &str, wanted: &str) {
    let found = seen(nth, file);
    if found != wanted {
        result.merge(AssertResult::fail_msg(format!(
            "reading {nth}: {file} is {found:?}, not {wanted:?}"
        )));
    }
}

fn limits(ctx: &Ctx) -> Result<AssertResult> {
    let mib = 1 << 20;
    let clamps = Path::new("/proc/sys/kernel/sched_util_clamp_min").exists();
    let backdrop = Backdrop::new()
        .push_op(Op::add_cgroup("a"))
        .push_op(Op::add_cgroup("b"));
    let mut set = vec![
        Op::set_cpu_max("a", 20 * MS, 50 * MS),
        Op::set_cpu_weight("a", 321),
        Op::set_memory_max("a", 64 * mib),
        Op::set_memory_high("a", 32 * mib),
        Op::set_memory_low("a", 8 * mib),
        Op::set_pids_max("a", 77),
        Op::set_cpu_idle("b", true),
        Op::set_cpuset("b", CpusetSpec::exact([1])),
        Op::set_cpuset_partition("b", CpusetPartition::Isolated),
        Op::steer_irq(IrqSelector::by_number(1), 2),
    ];
    let mut lift = vec![
        Op::set_cpu_max("a", None, 50 * MS),
        Op::set_memory_max("a", None),
        Op::set_memory_low("a", None),
        Op::set_pids_max("a", None),
        Op::set_cpu_idle("b", false),
        Op::set_cpuset_partition("b", CpusetPartition::Member),
        Op::cpu_offline(3),
    ];
    if clamps {
        set.push(Op::set_uclamp_min("a", 12.5));
        lift.push(Op::set_uclamp_min("a", 0.0));
    }
    let short = HoldSpec::fixed(MS);
    let steps = vec![
        Step::new(set, short),
        looking(),
        Step::new(lift, short),
        looking(),
        Step::with_op(Op::cpu_online(3), short),
        looking(),
    ];
    let mut result = execute_scenario(ctx, backdrop, steps)?;
    for (file, first, second) in [
        ("a/cpu.max", "20000 50000", "max 50000"),
        ("a/cpu.weight", "321", "321"),
        ("a/memory.max", "67108864", "max"),
        ("a/memory.high", "33554432", "33554432"),
        ("a/memory.low", "8388608", "0"),
        ("a/pids.max", "77", "max"),
        ("b/cpu.idle", "1", "0"),
        ("b/cpuset.cpus.partition", "isolated", "member"),
        // The partition `b` has its CPU exclusively, so `a` lacks that CPU.
        ("a/cpuset.cpus.effective", "0,2-3", "0-2"),
        ("/proc/irq/1/smp_affinity_list", "2", "2"),
        ("/sys/devices/system/cpu/online", "0-3", "0-2"),
    ] {
        expect(&mut result, 0, file, first);
        expect(&mut result, 1, file, second);
    }
    if clamps {
        expect(&mut result, 0, "a/cpu.uclamp.min", "12.50");
    }
    expect(&mut result, 2, "/sys/devices/system/cpu/online", "0-3");
    Ok(result)
}

case!(LIMITS = "ops_limits", limits, topology: FOUR_CPUS);

#[test]
fn limits_and_devices_are_as_the_operations_set_them() {
    passes(&LIMITS);
}

/// What [`seen`] returns for a file that does not exist.
const NONE: &str = "(nothing)";

/// Two partitions, one of them below another cgroup: one gets another CPU, the two exchange their CPUs, and both end.
fn partitions(ctx: &Ctx) -> Result<AssertResult> {
    let backdrop = Backdrop::new()
        .push_cgroup(CgroupDef::named("a").workers(2))
        .push_cgroup(on("b", 1).workers(1))
        .push_op(Op::add_cgroup("top"))
        .push_op(Op::add_cgroup_def(on("top/c", 2).workers(1)));
    let make = |name, to| Op::set_cpuset_partition(name, to);
    let short = HoldSpec::fixed(50 * MS);
    let mut steps = Vec::new();
    for ops in [
        vec![
            make("b", CpusetPartition::Isolated),
            make("top/c", CpusetPartition::Root),
        ],
        vec![Op::set_cpuset("b", CpusetSpec::exact([3]))],
        vec![Op::swap_cpusets("b", "top/c")],
        vec![
            make("top/c", CpusetPartition::Member),
            Op::clear_cpuset("top/c"),
        ],
        vec![Op::remove_cgroup("b"), Op::remove_cgroup("top")],
    ] {
        steps.extend([Step::new(ops, short), looking()]);
    }
    let mut result = execute_scenario(ctx, backdrop, steps)?;

    let wanted = [
        ("isolated", "1", "root", "2", "2", "0,3"),
        ("isolated", "3", "root", "2", "2", "0-1"),
        ("isolated", "2", "root", "3", "3", "0-1"),
        ("isolated", "2", "member", "0-1,3", "", "0-1,3"),
        (NONE, NONE, NONE, NONE, NONE, "0-3"),
    ];
    for (nth, (kind_b, cpus_b, kind_c, cpus_c, handed_down, others)) in wanted.iter().enumerate() {
        for (file, wanted) in [
            ("b/cpuset.cpus.partition", kind_b),
            ("b/cpuset.cpus.effective", cpus_b),
            ("top/c/cpuset.cpus.partition", kind_c),
            ("top/c/cpuset.cpus.effective", cpus_c),
            ("top/cpuset.cpus.exclusive", handed_down),
            ("a/cpuset.cpus.effective", others),
        ] {
            expect(&mut result, nth, file, wanted);
        }
    }
    // The worker of `top/c` must have followed its partition to CPU 3.
    let mut cgroups = result.stats.cgroups.iter();
    let cpus = cgroups
        .find(|c| c.cgroup_name == "top/c")
        .map(|c| c.cpus_used.clone());
    if !cpus.as_ref().is_some_and(|cpus| cpus.contains(&3)) {
        result.merge(AssertResult::fail_msg(format!("top/c ran on {cpus:?}")));
    }
    // Only cgroups that the scenario created are removed. Any other one makes the operation fail.
    ctx.cgroups.create_cgroup("own/foreign")?;
    let ops = vec![Op::add_cgroup("own"), Op::remove_cgroup("own")];
    let refused = execute_steps(ctx, vec![Step::new(ops, short)])?;
    let why = refused
        .failure_details()
        .next()
        .map(|detail| detail.message.clone());
    let wanted = "cgroup \"own\" cannot be removed: it contains the cgroups foreign, which the scenario did not create: ";
    let of_kernel = "Device or resource busy (os error 16)";
    if !why
        .as_ref()
        .is_some_and(|why| why.contains(wanted) && why.contains(of_kernel))
    {
        result.merge(AssertResult::fail_msg(format!("{why:?}")));
    }
    ctx.cgroups.remove_cgroup("own/foreign")?;
    ctx.cgroups.remove_cgroup("own")?;
    Ok(result)
}

fn on(name: &'static str, cpu: usize) -> CgroupDef {
    CgroupDef::named(name).cpuset(CpusetSpec::exact([cpu]))
}

case!(PARTITIONS = "ops_partitions", partitions, topology: FOUR_CPUS,
    assert: Assert::NO_OVERRIDES.check_isolation());

#[test]
fn partitions_keep_to_the_cpus_that_they_get() {
    passes(&PARTITIONS);
}

/// The cgroup of a scenario that runs while the test ignores the signals of its children.
const CHILDREN: &str = "children";

/// Runs scenarios that the kernel refuses in part, or that do not fit. Each message must name the cause and what to do.
fn refusals(ctx: &Ctx) -> Result<AssertResult> {
    let one = |name| CgroupDef::named(name).workers(1);
    let hold = HoldSpec::fixed(10 * MS);
    let deadline = SchedPolicy::deadline(2 * MS, 10 * MS, 10 * MS);
    let nested = vec![one("p"), one("p/c").cpu_weight(50)];
    let offline = vec![
        Op::cpu_offline(3),
        Op::steer_irq(IrqSelector::by_number(1), 3),
    ];
    let confined = vec![
        one("d")
            .cpuset(CpusetSpec::exact([1]))
            .sched_policy(deadline),
    ];
    // The advice for the last one: the cgroup becomes a partition before its worker starts.
    let advised = vec![
        Op::add_cgroup("d"),
        Op::set_cpuset("d", CpusetSpec::exact([1])),
        Op::set_cpuset_partition("d", CpusetPartition::Root),
        Op::spawn(
            SpawnPlacement::cgroup("d"),
            WorkSpec::default().workers(1).sched_policy(deadline),
        ),
    ];
    let mut result = AssertResult::pass();
    for (step, parts) in [
        (
            Step::with_defs(nested, hold),
            &["`domain invalid`", "/p\" has tasks", "into a child"][..],
        ),
        (
            Step::new(offline, hold),
            &["CPU 3 is offline", "CPUs 0-2", "Op::cpu_online"],
        ),
        (
            Step::with_defs(confined, hold),
            &[
                "all CPUs of its root domain",
                "on CPUs 1.",
                "CpusetPartition::Root",
            ],
        ),
        (Step::new(advised, hold), &[]),
        (
            Step::hold(HoldSpec::fixed(2 * ctx.duration)),
            &["step 1 from ", "`duration_s`"],
        ),
        (
            Step::with_defs(vec![one(CHILDREN)], hold),
            &["the test ignores SIGCHLD"],
        ),
    ] {
        let ignores = step.setup.defs(ctx).iter().any(|def| def.name == CHILDREN);
        // SAFETY: the handlers are constants of the kernel.
        unsafe {
            libc::signal(
                libc::SIGCHLD,
                [libc::SIG_DFL, libc::SIG_IGN][usize::from(ignores)],
            )
        };
        let done = execute_steps(ctx, vec![step])?;
        let mut said: Vec<String> = done.failure_details().map(|d| d.message.clone()).collect();
        said.extend(done.info_notes.iter().map(|note| note.message.to_string()));
        let said = said.join("\n");
        let missing = parts.iter().find(|part| !said.contains(**part));
        if let Some(part) = missing {
            result.merge(AssertResult::fail_msg(format!("no {part:?} in {said:?}")));
        } else if parts.is_empty() && !said.is_empty() {
            result.merge(AssertResult::fail_msg(said));
        }
    }
    Ok(result)
}

case!(REFUSALS = "ops_refusals", refusals, topology: FOUR_CPUS);

#[test]
fn what_the_kernel_refuses_is_explained() {
    passes(&REFUSALS);
}

/// Returns the CPU time of cgroup `a` at a reading, in microseconds.
fn usage_us(nth: usize) -> u64 {
    let stat = seen(nth, "a/cpu.stat");
    let line = stat
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "));
    line.and_then(|us| us.parse().ok()).unwrap_or_default()
}

/// Two cgroups with two spinners each on two CPUs: `a` gets a quota for the second half, and the CPU time that it then lacks is
/// not the scheduler's fault.
fn a_quota_that_comes_later(ctx: &Ctx) -> Result<AssertResult> {
    let cgroups = ["a", "b"].map(|name| CgroupDef::named(name).workers(2));
    let part = HoldSpec::frac(0.5);
    let steps = vec![
        Step::new(vec![], part),
        looking(),
        Step::with_op(Op::set_cpu_max("a", 10 * MS, 100 * MS), part),
        looking(),
    ];
    let mut result = execute_scenario(ctx, Backdrop::from_cgroups(cgroups), steps)?;
    let half = ctx.duration.as_micros() as u64 / 2;
    let (free, held) = (usage_us(0), usage_us(1).saturating_sub(usage_us(0)));
    // A tenth of a CPU, plus 30 ms: the quota of the period that had begun (10 ms), a slice of 5 ms by which each of the two CPUs
    // may exceed the quota, and a margin of 10 ms.
    if held > half / 10 + 30_000 {
        result.merge(AssertResult::fail_msg(format!(
            "{held} us under a quota of 10 %, {free} us without"
        )));
    }
    if free < half / 2 {
        result.merge(AssertResult::fail_msg(format!("{free} us without a quota")));
    }
    Ok(result)
}

case!(QUOTA = "ops_quota", a_quota_that_comes_later, topology: TWO_CPUS,
    duration: Duration::from_secs(2));

#[test]
fn a_quota_holds_from_its_operation_on_and_blames_nobody() {
    passes(&QUOTA);
}

/// Kills a cgroup with its workers, next to another cgroup.
fn killing(ctx: &Ctx) -> Result<AssertResult> {
    let cgroups = ["a", "b"].map(|name| CgroupDef::named(name).workers(2));
    let part = HoldSpec::fixed(100 * MS);
    let steps = vec![
        Step::hold(part),
        looking(),
        Step::new(
            vec![Op::kill_cgroup("b"), Op::set_cpu_idle("a", true)],
            part,
        ),
        looking(),
    ];
    let mut result = execute_scenario(ctx, Backdrop::from_cgroups(cgroups), steps)?;
    let before = seen(0, "b/cgroup.procs").lines().count();
    if before != 2 {
        result.merge(AssertResult::fail_msg(format!("{before} workers before")));
    }
    expect(&mut result, 1, "b/cgroup.procs", "");
    Ok(result)
}

case!(KILLING = "ops_kill", killing, topology: TWO_CPUS);

#[test]
fn a_killed_cgroup_is_empty_and_the_end_of_its_workers_is_no_failure() {
    passes(&KILLING);
}

/// Takes three captures: before the workers of a step exist, while they exist, and in the next step.
fn capturing(ctx: &Ctx) -> Result<AssertResult> {
    let steps = vec![
        Step::new(
            vec![
                Op::capture_snapshot("before"),
                Op::add_cgroup_def(CgroupDef::named("w").workers(3)),
                Op::capture_snapshot("after"),
                Op::capture_cgroup_procs("workers", "w"),
            ],
            HoldSpec::frac(0.5),
        ),
        Step::with_op(Op::capture_snapshot("second step"), HoldSpec::frac(0.5)),
    ];
    execute_steps(ctx, steps)
}

case!(CAPTURING = "ops_capture", capturing, topology: TWO_CPUS, num_snapshots: 1);

#[test]
fn a_capture_shows_the_moment_of_its_operation() {
    let vm = passes(&CAPTURING);
    let series = vm.captures_series();
    let tags: Vec<_> = series
        .entries()
        .iter()
        .map(|entry| (entry.tag.as_str(), entry.step_index))
        .filter(|(tag, _)| !tag.starts_with("periodic_"))
        .collect();
    assert_eq!(
        tags,
        [
            ("before", Some(1)),
            ("after", Some(1)),
            ("second step", Some(2))
        ]
    );
    let periodic = vm.periodic_series();
    assert_eq!(
        periodic.len(),
        1,
        "only the periodic capture is in this series"
    );
    assert_eq!(periodic.entries()[0].tag, "periodic_000");
    let list = vm.snapshot_bridge.cgroup_procs_by_tag("workers");
    let CgroupProcsSnapshot { cgroup, pids, .. } = list.expect("the list was kept");
    assert_eq!((cgroup.as_str(), pids.len()), ("w", 3));
    let tasks = |tag: &str| -> BTreeSet<i32> {
        let entry = series.entries().iter().find(|entry| entry.tag == tag);
        let report = &entry.expect("it is there").report;
        report
            .task_enrichments
            .iter()
            .map(|task| task.pid)
            .collect()
    };
    let (before, after, second) = (tasks("before"), tasks("after"), tasks("second step"));
    for pid in &pids {
        assert!(!before.contains(pid), "worker {pid} was there too early");
        assert!(after.contains(pid), "worker {pid} is not in the capture");
        assert!(!second.contains(pid), "worker {pid} outlived its step");
    }
    assert_eq!(vm.snapshot_bridge.drain_cgroup_procs().len(), 1);
    assert!(vm.snapshot_bridge.cgroup_procs_by_tag("workers").is_none());
}

/// Checks that controllers are enabled down to a deep tree, also for cgroups without declared limits.
fn deep(ctx: &Ctx) -> Result<AssertResult> {
    let mut result = AssertResult::pass();
    for folder in ["/sys/fs/cgroup", "/sys/fs/cgroup/x", "/sys/fs/cgroup/x/y"] {
        let on = std::fs::read_to_string(format!("{folder}/cgroup.subtree_control"))?;
        for controller in ["cpu", "cpuset", "memory", "pids"] {
            if !on.split_whitespace().any(|word| word == controller) {
                result.merge(AssertResult::fail_msg(format!(
                    "{folder} does not hand down {controller}: {on:?}"
                )));
            }
        }
    }
    result.merge(execute_defs(ctx, vec![CgroupDef::named("a").workers(1)])?);
    Ok(result)
}

case!(DEEP = "ops_deep", deep, topology: TWO_CPUS, duration: Duration::from_millis(100),
    workload_root_cgroup: Some(CgroupPath::new("/x/y/z")));

#[test]
fn a_tree_that_lies_deep_has_its_controllers() {
    passes(&DEEP);
}

const OWN: Scheduler = Scheduler::named("scx_ktstr").binary(SchedulerSpec::Discover("scx-ktstr"));
const OTHER: Scheduler = Scheduler::named("other").binary(SchedulerSpec::Discover("scx-ktstr"));
const BROKEN: Scheduler = Scheduler::named("broken")
    .binary(SchedulerSpec::Discover("scx-ktstr"))
    .sched_args(&["--stall-after", "soon"]);

const STATE: &str = "/sys/kernel/sched_ext/state";

/// Returns how many schedulers had attached since the boot when the `nth` reading took place.
fn attached(nth: usize) -> u64 {
    let text = seen(nth, "/sys/kernel/sched_ext/enable_seq");
    text.parse().unwrap_or_default()
}

fn comes_and_goes(ctx: &Ctx) -> Result<AssertResult> {
    let hold = HoldSpec::fixed(200 * MS);
    let steps = vec![
        Step::hold(hold),
        looking(),
        Step::with_op(Op::detach_scheduler(), hold),
        looking(),
        Step::with_op(Op::attach_scheduler(&OTHER), hold),
        looking(),
        Step::with_op(Op::replace_scheduler(&OWN), hold),
        looking(),
        Step::with_op(Op::restart_scheduler(), hold),
        looking(),
    ];
    let backdrop = Backdrop::from_cgroups([CgroupDef::named("a").workers(2)]);
    let mut result = execute_scenario(ctx, backdrop, steps)?;
    for (nth, state, count) in [
        (0, "enabled", 0),
        (1, "disabled", 0),
        (2, "enabled", 1),
        (3, "enabled", 2),
        (4, "enabled", 3),
    ] {
        expect(&mut result, nth, STATE, state);
        let more = attached(nth).saturating_sub(attached(0));
        if more != count {
            result.merge(AssertResult::fail_msg(format!(
                "reading {nth}: {more} schedulers have attached since reading 0, not {count}"
            )));
        }
    }
    Ok(result)
}

case!(COMES_AND_GOES = "ops_schedulers", comes_and_goes, topology: TWO_CPUS, scheduler: &OWN,
    staged_schedulers: &[&OTHER], duration: Duration::from_secs(2),
    watchdog_timeout: Duration::from_secs(20));

#[test]
fn schedulers_come_and_go_and_nobody_is_blamed() {
    passes(&COMES_AND_GOES);
}

const EXITER: Scheduler = Scheduler::named("exiter")
    .binary(SchedulerSpec::Discover("scx-ktstr"))
    .sched_args(&["--exit-after", "0.3"]);

fn replaces_by_one_that_leaves(ctx: &Ctx) -> Result<AssertResult> {
    let steps = vec![
        Step::hold(HoldSpec::fixed(200 * MS)),
        Step::with_op(Op::replace_scheduler(&EXITER), HoldSpec::fixed(1500 * MS)),
    ];
    execute_steps(ctx, steps)
}

case!(STAGED_LEAVES = "ops_staged_leaves", replaces_by_one_that_leaves, topology: TWO_CPUS, scheduler: &OWN,
    staged_schedulers: &[&EXITER], duration: Duration::from_secs(2), watchdog_timeout: Duration::from_secs(20));

/// The finding, its evidence and the quoted log are about the scheduler that left, not about the one before it.
#[test]
fn a_staged_scheduler_that_leaves_is_named() {
    let finished = ktstr::run::run(&STAGED_LEAVES);
    assert!(finished.result.is_fail(), "{}", finished.text);
    let parts = [
        "failed: exiter stopped on its own",
        "scheduler process died: `exiter` stopped on its own and exited with code 0",
        "ktstr: exiting, because the time of --exit-after has passed",
        "the scheduler's fault",
        "ended: `exiter`, which the test started later (scx-ktstr --exit-after 0.3)",
        "(the process of `exiter`, which the test started, exited with code 0",
    ];
    for part in parts {
        let text = &finished.text;
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    // Both schedulers have printed this line.
    let quoted = finished.text.matches("ktstr: attached").count();
    assert_eq!(quoted, 1, "{}", finished.text);
}

/// In each scenario, the harness watches the scheduler that the scenario before has left attached, if there is one.
fn two_scenarios(ctx: &Ctx) -> Result<AssertResult> {
    let hold = HoldSpec::fixed(300 * MS);
    let mut result = AssertResult::pass();
    for op in [Op::restart_scheduler(), Op::detach_scheduler()] {
        result.merge(execute_steps(ctx, vec![Step::with_op(op, hold)])?);
        result.merge(execute_steps(ctx, vec![Step::hold(hold)])?);
    }
    Ok(result)
}

case!(TWO_SCENARIOS = "ops_two_scenarios", two_scenarios, topology: TWO_CPUS, scheduler: &OWN,
    duration: Duration::from_secs(2), watchdog_timeout: Duration::from_secs(20));

#[test]
fn the_scheduler_that_a_scenario_leaves_is_that_of_the_next() {
    passes(&TWO_SCENARIOS);
}

fn starts_a_broken_one(ctx: &Ctx) -> Result<AssertResult> {
    let step = Step::with_op(Op::attach_scheduler(&BROKEN), HoldSpec::FULL);
    execute_steps(ctx, vec![step])
}

case!(BROKEN_START = "ops_broken_start", starts_a_broken_one, topology: TWO_CPUS,
    staged_schedulers: &[&BROKEN], duration: Duration::from_millis(200));

#[test]
fn a_scheduler_that_does_not_start_fails_its_step() {
    let finished = ktstr::run::run(&BROKEN_START);
    assert!(finished.result.is_fail(), "{}", finished.text);
    let parts = [
        "step 1",
        "AttachScheduler",
        "startup death",
        "broken",
        // The request of the test is valid, so the failure is not the test's fault.
        "the scheduler's fault",
    ];
    for part in parts {
        assert!(
            finished.text.contains(part),
            "no {part:?} in {}",
            finished.text
        );
    }
}
