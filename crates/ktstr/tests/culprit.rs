//! The matrix of faults: runs that fail in many ways, each with its expected fault. Users stop trusting a harness that accuses
//! the scheduler wrongly.
//!
//! Each row is a run in a separate process. The test compares the verdict and the fault in the record.

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use common::{Case, scx_ktstr};
use ktstr::prelude::*;
use ktstr_record::RunVerdict::{self, Fail, Inconclusive, Pass};

const SOUND: Scheduler = scx_ktstr(&[]);
const TWO_CPUS: Topology = Topology::new(1, 1, 2, 1);
const SECOND: Duration = Duration::from_secs(1);
/// The longest wall time of a run without the wait for its turn, also if the host gives up on the guest. The bound is wide,
/// because other tests share the host.
const WALL: Duration = Duration::from_secs(300);

/// The defaults of all rows.
const BASE: KtstrTestEntry = KtstrTestEntry {
    topology: TWO_CPUS,
    clock: ClockMode::Virtual,
    duration: SECOND,
    watchdog_timeout: SECOND,
    ..KtstrTestEntry::DEFAULT
};

/// Declares rows: each is an entry, and a test that runs it.
macro_rules! rows {
    ($($row:ident: $func:expr, $verdict:expr, $fault:expr $(, $field:ident: $value:expr)*;)*) => { $(
        mod $row {
            use super::*;

            #[ktstr::distributed_slice(ktstr::test_support::KTSTR_TESTS)]
            #[linkme(crate = ktstr::linkme)]
            static ENTRY: KtstrTestEntry = KtstrTestEntry {
                name: concat!("__unit_test_", stringify!($row), "__"),
                func: $func,
                $($field: $value,)*
                ..BASE
            };

            #[test]
            fn ends_as_expected() {
                check(stringify!($row), $verdict, $fault);
            }
        }
    )* };
}

/// Runs a row, prints its outcome, and fails if the verdict or the fault differs.
fn check(row: &str, verdict: RunVerdict, fault: Option<&str>) {
    let began = Instant::now();
    let ended = Case::new(row).run();
    let wall = began.elapsed();
    let record = ended.record.as_ref().expect("every run leaves a record");
    let record = &record.record;
    println!(
        "{row:<28} {:<12} {:<12} {:>5.1} s  {}",
        record.verdict.as_str(),
        record.fault.as_deref().unwrap_or("-"),
        wall.as_secs_f64(),
        record.reason.as_deref().unwrap_or("")
    );
    assert_eq!(
        (record.verdict, record.fault.as_deref()),
        (verdict, fault),
        "{}",
        ended.text
    );
    // The record has no times if there was no machine.
    let waited = record.timings.get("slot").copied().unwrap_or_default();
    let own = wall.saturating_sub(Duration::from_secs_f64(waited));
    assert!(own <= WALL, "{own:?}:\n{}", ended.text);
}

fn pass() -> Result<AssertResult> {
    Ok(AssertResult::pass())
}

fn spins(_: &Ctx) -> Result<AssertResult> {
    loop {
        std::hint::black_box(());
    }
}

fn spins_in_a_thread(_: &Ctx) -> Result<AssertResult> {
    std::thread::spawn(|| {
        loop {
            std::hint::black_box(());
        }
    });
    std::thread::sleep(600 * SECOND);
    pass()
}

fn sleeps(_: &Ctx) -> Result<AssertResult> {
    std::thread::sleep(600 * SECOND);
    pass()
}

fn reads_a_pipe_that_nobody_writes(_: &Ctx) -> Result<AssertResult> {
    use std::io::Read;
    let (mut read, _write) = std::io::pipe()?;
    read.read_exact(&mut [0])?;
    pass()
}

fn stops_itself(_: &Ctx) -> Result<AssertResult> {
    // SAFETY: the arguments are plain integers.
    unsafe { libc::raise(libc::SIGSTOP) };
    pass()
}

fn forks_spinners(_: &Ctx) -> Result<AssertResult> {
    for _ in 0..4 {
        // SAFETY: the child spins and never returns.
        if unsafe { libc::fork() } == 0 {
            loop {
                std::hint::black_box(());
            }
        }
    }
    std::thread::sleep(600 * SECOND);
    pass()
}

fn forks_without_end(_: &Ctx) -> Result<AssertResult> {
    loop {
        // SAFETY: parent and child only fork and sleep.
        if unsafe { libc::fork() } < 0 {
            std::thread::sleep(600 * SECOND);
        }
    }
}

fn eats_memory(_: &Ctx) -> Result<AssertResult> {
    let mut eaten = Vec::new();
    loop {
        eaten.push(vec![1u8; 1 << 20]);
        std::hint::black_box(&eaten);
    }
}

fn returns_20_mb(_: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::fail_msg("x".repeat(20 << 20)))
}

fn returns_an_error(_: &Ctx) -> Result<AssertResult> {
    anyhow::bail!("planted")
}

fn returns_an_error_of_20_mb(_: &Ctx) -> Result<AssertResult> {
    anyhow::bail!("x".repeat(20 << 20))
}

fn panics(_: &Ctx) -> Result<AssertResult> {
    panic!("planted")
}

fn calls_it_a_failure(_: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::fail_msg("planted"))
}

/// The memory limit of the cgroup kills a worker. No check asks whether the workers got anything done.
fn exceeds_a_limit(ctx: &Ctx) -> Result<AssertResult> {
    let faults = WorkType::page_fault_churn(16 << 10, 4096, 64);
    let limited = CgroupDef::named("limited").workers(1).work_type(faults);
    execute_defs(ctx, vec![limited.memory_max(3 << 20)])
}

fn exits(_: &Ctx) -> Result<AssertResult> {
    std::process::exit(7)
}

fn aborts(_: &Ctx) -> Result<AssertResult> {
    std::process::abort()
}

fn kills_itself(_: &Ctx) -> Result<AssertResult> {
    // SAFETY: the arguments are plain integers.
    unsafe { libc::raise(libc::SIGKILL) };
    pass()
}

fn crashes_the_kernel(_: &Ctx) -> Result<AssertResult> {
    std::fs::write("/proc/sysrq-trigger", "c")?;
    pass()
}

fn switches_off(_: &Ctx) -> Result<AssertResult> {
    std::fs::write("/proc/sysrq-trigger", "o")?;
    std::thread::sleep(600 * SECOND);
    pass()
}

fn resets(_: &Ctx) -> Result<AssertResult> {
    std::fs::write("/proc/sysrq-trigger", "b")?;
    std::thread::sleep(600 * SECOND);
    pass()
}

fn reboots(_: &Ctx) -> Result<AssertResult> {
    // SAFETY: the arguments are plain integers.
    unsafe { libc::reboot(libc::RB_AUTOBOOT) };
    pass()
}

fn powers_off(_: &Ctx) -> Result<AssertResult> {
    // SAFETY: the arguments are plain integers.
    unsafe { libc::reboot(libc::RB_POWER_OFF) };
    pass()
}

// The kernel waits forever for its root device, while its timers go on.
rows! {
    waits_for_its_root: spins, Inconclusive, Some("undetermined"),
        kargs: &["rdinit=/missing", "root=/dev/missing", "rootwait"];
}

// Tests that misbehave.
rows! {
    spins: spins, Fail, Some("test");
    spins_scx: spins, Fail, Some("test"), scheduler: &SOUND;
    spins_in_a_thread: spins_in_a_thread, Fail, Some("test"), scheduler: &SOUND;
    sleeps: sleeps, Fail, Some("test");
    sleeps_scx: sleeps, Fail, Some("test"), scheduler: &SOUND;
    reads_a_pipe: reads_a_pipe_that_nobody_writes, Fail, Some("test"), scheduler: &SOUND;
    stops_itself: stops_itself, Fail, Some("test"), scheduler: &SOUND;
    forks_spinners: forks_spinners, Fail, Some("test"), scheduler: &SOUND;
    exceeds_a_limit: exceeds_a_limit, Fail, Some("test"), scheduler: &SOUND;
    forks_without_end: forks_without_end, Fail, Some("test"), scheduler: &SOUND;
    eats_memory: eats_memory, Fail, Some("test"), scheduler: &SOUND;
    returns_20_mb: returns_20_mb, Fail, Some("test"), scheduler: &SOUND;
    returns_an_error: returns_an_error, Fail, Some("test"), scheduler: &SOUND;
    error_of_20_mb: returns_an_error_of_20_mb, Fail, Some("test"), scheduler: &SOUND;
    panics: panics, Fail, Some("test"), scheduler: &SOUND;
    calls_it_a_failure: calls_it_a_failure, Fail, Some("test"), scheduler: &SOUND;
    exits: exits, Fail, Some("test"), scheduler: &SOUND;
    aborts: aborts, Fail, Some("test"), scheduler: &SOUND;
    kills_itself: kills_itself, Fail, Some("test"), scheduler: &SOUND;
    crashes_the_kernel: crashes_the_kernel, Fail, Some("test"), scheduler: &SOUND;
    switches_off: switches_off, Fail, Some("test"), scheduler: &SOUND;
    resets: resets, Fail, Some("test"), scheduler: &SOUND;
    reboots: reboots, Fail, Some("test"), scheduler: &SOUND;
    powers_off: powers_off, Fail, Some("test"), scheduler: &SOUND;
}

fn signals(ctx: &Ctx, signal: i32) -> Result<AssertResult> {
    let pid = ctx.sched_pid.expect("a scheduler is under test");
    // SAFETY: the arguments are plain integers.
    unsafe { libc::kill(pid, signal) };
    execute_defs(ctx, vec![CgroupDef::named("a").workers(2)])
}

fn kills_the_scheduler(ctx: &Ctx) -> Result<AssertResult> {
    signals(ctx, libc::SIGKILL)
}

fn ends_the_scheduler(ctx: &Ctx) -> Result<AssertResult> {
    signals(ctx, libc::SIGTERM)
}

fn crashes_the_scheduler(ctx: &Ctx) -> Result<AssertResult> {
    signals(ctx, libc::SIGABRT)
}

/// Stops the scheduler's process. The scheduler's BPF programs continue, because that process only waits.
fn stops_the_scheduler(ctx: &Ctx) -> Result<AssertResult> {
    signals(ctx, libc::SIGSTOP)
}

/// Takes a CPU offline while the workers run, so that they share the other CPU from then on.
fn takes_a_cpu_off_line(ctx: &Ctx) -> Result<AssertResult> {
    let online = "/sys/devices/system/cpu/cpu1/online";
    let switch = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        std::fs::write(online, "0")
    });
    let result = execute_defs(ctx, vec![CgroupDef::named("a").workers(2)]);
    switch.join().expect("it only writes a file")?;
    result
}

fn steps(ctx: &Ctx, ops: Vec<Op>) -> Result<AssertResult> {
    let a = vec![CgroupDef::named("a").workers(2)];
    execute_steps(ctx, vec![Step::with_defs(a, HoldSpec::FULL).set_ops(ops)])
}

fn an_op_on_no_cgroup(ctx: &Ctx) -> Result<AssertResult> {
    steps(
        ctx,
        vec![Op::FreezeCgroup {
            cgroup: "missing".into(),
        }],
    )
}

fn the_same_cgroup_twice(ctx: &Ctx) -> Result<AssertResult> {
    steps(ctx, vec![Op::AddCgroup { name: "a".into() }])
}

fn a_capture_without_a_tag(ctx: &Ctx) -> Result<AssertResult> {
    steps(ctx, vec![Op::CaptureSnapshot { name: "".into() }])
}

fn a_cpuset_that_is_not_there(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = CpusetSpec::Exact(BTreeSet::from([63]));
    steps(
        ctx,
        vec![
            Op::AddCgroup { name: "b".into() },
            Op::SetCpuset {
                cgroup: "b".into(),
                cpus,
            },
        ],
    )
}

const SHELL: Payload = Payload::binary("shell", "sh");

fn a_payload_in_a_frozen_cgroup(ctx: &Ctx) -> Result<AssertResult> {
    steps(
        ctx,
        vec![
            Op::add_cgroup("frozen"),
            Op::freeze_cgroup("frozen"),
            Op::run_payload_in_cgroup(&SHELL, Vec::new(), "frozen"),
        ],
    )
}

fn own_worker(ctx: &Ctx, name: &'static str, run: CustomFn) -> Result<AssertResult> {
    let a = CgroupDef::named("a").workers(2);
    execute_defs(ctx, vec![a.work_type(WorkType::custom(name, run))])
}

fn a_worker_that_ignores_the_stop(ctx: &Ctx) -> Result<AssertResult> {
    own_worker(ctx, "ignores", |_| {
        loop {
            std::hint::black_box(());
        }
    })
}

fn a_worker_that_sleeps_through_the_stop(ctx: &Ctx) -> Result<AssertResult> {
    own_worker(ctx, "sleeps", |_| {
        loop {
            std::thread::sleep(600 * SECOND);
        }
    })
}

fn a_worker_that_panics(ctx: &Ctx) -> Result<AssertResult> {
    own_worker(ctx, "panics", |_| panic!("planted"))
}

fn a_worker_that_exits(ctx: &Ctx) -> Result<AssertResult> {
    own_worker(ctx, "exits", |_| std::process::exit(3))
}

/// Works until the request to stop, and returns a report of its own.
fn works(ctx: &WorkerCtx) -> WorkerReport {
    let mut report = WorkerReport::default();
    while !ctx.stop().load(Relaxed) {
        report.iterations += 1;
        report.work_units += 1;
    }
    report
}

/// A worker of a cgroup with a cpuset moves itself to the root cgroup, where it may run on all CPUs, and pins itself to CPU 0.
fn a_worker_that_leaves_its_cgroup(ctx: &Ctx) -> Result<AssertResult> {
    let a = CgroupDef::named("a")
        .workers(1)
        .cpuset(CpusetSpec::exact([1]));
    let work = WorkType::custom("leaves", |ctx| {
        let root = "/sys/fs/cgroup/cgroup.procs";
        std::fs::write(root, std::process::id().to_string()).expect("the test is root");
        let mut first = rustix::thread::CpuSet::new();
        first.set(0);
        rustix::thread::sched_setaffinity(None, &first).expect("CPU 0 is allowed there");
        works(ctx)
    });
    let b = CgroupDef::named("b").workers(3);
    execute_defs(ctx, vec![a.work_type(work), b])
}

/// Four workers share two CPUs, and each iteration takes 600 ms of CPU time, so it takes more than a second.
fn workers_whose_iterations_are_long(ctx: &Ctx) -> Result<AssertResult> {
    let work = WorkType::custom("computes", |ctx| {
        let mut report = WorkerReport::default();
        while !ctx.stop().load(Relaxed) {
            let began = Instant::now();
            let cpu_time = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            let millis =
                |time: rustix::time::Timespec| time.tv_sec * 1000 + time.tv_nsec / 1_000_000;
            let from_ms = millis(cpu_time());
            while millis(cpu_time()) - from_ms < 600 && !ctx.stop().load(Relaxed) {}
            report.iterations += 1;
            report.work_units += 1;
            report.max_gap_ms = report.max_gap_ms.max(began.elapsed().as_millis() as u64);
        }
        report
    });
    execute_defs(ctx, vec![CgroupDef::named("a").workers(4).work_type(work)])
}

// Tests that request something wrong, or kill their scheduler.
rows! {
    leaves_its_cgroup: a_worker_that_leaves_its_cgroup, Fail, Some("test"), scheduler: &SOUND,
        assert: Assert::NO_OVERRIDES.check_isolation();
    works_long_between_reports: workers_whose_iterations_are_long, Fail, Some("test"), scheduler: &SOUND,
        duration: Duration::from_secs(3), assert: NOT_STUCK.max_gap_ms(500);
    kills_the_scheduler: kills_the_scheduler, Fail, Some("test"), scheduler: &SOUND;
    ends_the_scheduler: ends_the_scheduler, Fail, Some("test"), scheduler: &SOUND;
    crashes_the_scheduler: crashes_the_scheduler, Fail, Some("test"), scheduler: &SOUND;
    op_on_no_cgroup: an_op_on_no_cgroup, Fail, Some("test"), scheduler: &SOUND;
    cgroup_twice: the_same_cgroup_twice, Fail, Some("test"), scheduler: &SOUND;
    capture_without_tag: a_capture_without_a_tag, Fail, Some("test"), scheduler: &SOUND;
    cpuset_not_there: a_cpuset_that_is_not_there, Fail, Some("test"), scheduler: &SOUND;
    payload_in_frozen_cgroup: a_payload_in_a_frozen_cgroup, Fail, Some("test"), scheduler: &SOUND, workloads: &[&SHELL];
    ignores_the_stop: a_worker_that_ignores_the_stop, Fail, Some("test"), scheduler: &SOUND, assert: NOT_STUCK;
    sleeps_through_the_stop: a_worker_that_sleeps_through_the_stop, Fail, Some("test"), scheduler: &SOUND, assert: NOT_STUCK;
    panics_in_a_worker: a_worker_that_panics, Fail, Some("test"), scheduler: &SOUND, assert: NOT_STUCK;
    exits_in_a_worker: a_worker_that_exits, Fail, Some("test"), scheduler: &SOUND, assert: NOT_STUCK;
}

const NOT_STUCK: Assert = Assert::NO_OVERRIDES.check_not_stuck();

fn two_spinners(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(
        ctx,
        vec![CgroupDef::named("a").workers(2 * ctx.topo.total_cpus())],
    )
}

fn two_cgroups(ctx: &Ctx) -> Result<AssertResult> {
    let defs = ["left", "right"].map(|name| CgroupDef::named(name).workers(2));
    execute_defs(ctx, defs.to_vec())
}

/// Pins each worker to a random CPU, and to another random CPU every 100 ms: some workers share a CPU, others have one to
/// themselves.
fn affinity_at_random(ctx: &Ctx) -> Result<AssertResult> {
    let all: BTreeSet<usize> = ctx.topo.all_cpuset();
    let affinity = AffinityIntent::RandomSubset {
        from: all,
        count: 1,
    };
    let op = Op::SetAffinity {
        cgroup: "a".into(),
        affinity,
    };
    let a = CgroupDef::named("a").workers(4);
    let backdrop = Backdrop {
        cgroups: vec![a],
        ..Backdrop::new()
    };
    let hold = HoldSpec::loop_at(Duration::from_millis(100));
    execute_scenario(ctx, backdrop, vec![Step::with_op(op, hold)])
}

/// Moves the workers of two cgroups into a third one, one cgroup after the other, so that the workers in the third one have been
/// there for different times.
fn moved_one_after_the_other(ctx: &Ctx) -> Result<AssertResult> {
    let defs = ["a", "b", "c"].map(|name| CgroupDef::named(name).workers(2));
    let to_a = |from: &'static str| Op::MoveAllTasks {
        from: from.into(),
        to: "a".into(),
    };
    let backdrop = Backdrop {
        cgroups: defs.to_vec(),
        ..Backdrop::new()
    };
    let step = |op: Op| Step::with_op(op, HoldSpec::frac(0.4));
    execute_scenario(ctx, backdrop, vec![step(to_a("b")), step(to_a("c"))])
}

/// A quota of 1 ms of CPU time per 100 ms.
fn a_small_quota(ctx: &Ctx) -> Result<AssertResult> {
    let quota = Duration::from_millis(1);
    let period = Duration::from_millis(100);
    execute_defs(
        ctx,
        vec![CgroupDef::named("a").workers(2).cpu_quota(quota, period)],
    )
}

/// Workers that the test freezes for longer than the check of stuck workers allows.
fn frozen_for_long(ctx: &Ctx) -> Result<AssertResult> {
    let backdrop = Backdrop {
        cgroups: vec![CgroupDef::named("a").workers(2)],
        ..Backdrop::new()
    };
    let step = |op, ms| Step::with_op(op, HoldSpec::fixed(Duration::from_millis(ms)));
    let steps = vec![
        step(Op::FreezeCgroup { cgroup: "a".into() }, 2500),
        step(Op::UnfreezeCgroup { cgroup: "a".into() }, 300),
    ];
    execute_scenario(ctx, backdrop, steps)
}

/// Freezes a worker that has competitors before and after, and workers that sleep. The gap and the latency that follow are above
/// the bounds of [`TIGHT`].
fn frozen_beside_others(ctx: &Ctx) -> Result<AssertResult> {
    let ms = Duration::from_millis;
    // They sleep a little, because a bound on latencies is judged only where somebody is woken.
    let busy = |name: &'static str, workers| {
        let work = WorkType::bursty(ms(20), ms(1));
        CgroupDef::named(name).workers(workers).work_type(work)
    };
    let backdrop = Backdrop::from_cgroups([
        busy("a", 1),
        busy("b", 2),
        CgroupDef::named("sleeps")
            .workers(2)
            .work_type(WorkType::bursty(ms(1), ms(50))),
    ]);
    let both = |op: fn(&'static str) -> Op| vec![op("a"), op("sleeps")];
    let step = |ops, hold| Step {
        setup: Vec::new().into(),
        ops,
        hold: HoldSpec::fixed(ms(hold)),
    };
    let steps = vec![
        step(Vec::new(), 700),
        step(both(Op::freeze_cgroup), 600),
        step(both(Op::unfreeze_cgroup), 600),
    ];
    execute_scenario(ctx, backdrop, steps)
}

/// A deadline task that needs several budgets for each burst, and workers that need more than their quota. The kernel keeps both
/// from running for longer than [`TIGHT`] allows.
fn budgets_that_run_out(ctx: &Ctx) -> Result<AssertResult> {
    let ms = Duration::from_millis;
    let deadline = SchedPolicy::deadline(ms(5), ms(400), ms(400));
    let defs = vec![
        CgroupDef::named("deadline")
            .workers(1)
            .work_type(WorkType::bursty(ms(6), ms(1)))
            .sched_policy(deadline),
        CgroupDef::named("quota")
            .workers(2)
            .work_type(WorkType::bursty(ms(1), ms(5)))
            .cpu_quota(ms(2), ms(400)),
    ];
    execute_defs(ctx, defs)
}

/// Bounds that a frozen or throttled worker breaks, and no other worker of a sound scheduler.
const TIGHT: Assert = Assert::NO_OVERRIDES
    .max_gap_ms(300)
    .max_p99_wake_latency_ns(200_000_000);

/// Custom workers: their function sleeps for longer than the check of stuck workers allows, and reports no work.
fn a_worker_that_sleeps_for_long(ctx: &Ctx) -> Result<AssertResult> {
    own_worker(ctx, "sleeps for long", |ctx| {
        while !ctx.stop().load(Relaxed) {
            std::thread::sleep(3 * SECOND);
        }
        WorkerReport::default()
    })
}

/// Two workers in a cgroup of weight 1, and two in a cgroup of weight 10000. Under EEVDF the first two are entitled to less than
/// a millisecond in the step, so they notice the stop only with help. scx-ktstr ignores the weights of cgroups.
fn the_smallest_weight(ctx: &Ctx) -> Result<AssertResult> {
    let weights = [("small", 1), ("big", 10_000)];
    let defs = weights.map(|(name, weight)| CgroupDef::named(name).workers(2).cpu_weight(weight));
    execute_defs(ctx, defs.to_vec())
}

/// Six workers on four CPUs in two nodes. A waiting task is in the queue of one CPU, so some workers share a CPU with another
/// worker and get half of it, although an equal share would be two thirds of a CPU.
fn more_workers_than_queues(ctx: &Ctx) -> Result<AssertResult> {
    let always = CgroupDef::named("always")
        .workers(3)
        .work_type(WorkType::page_fault_churn(4096, 256, 64));
    let often = CgroupDef::named("often")
        .workers(3)
        .work_type(WorkType::bursty(
            Duration::from_millis(30),
            Duration::from_millis(10),
        ));
    execute_defs(ctx, vec![always, often])
}

/// Many workers that wake each other, together with some workers of the lowest weight that yield all the time.
fn a_crowd(ctx: &Ctx) -> Result<AssertResult> {
    let pipes = CgroupDef::named("pipes")
        .workers(128)
        .work_type(WorkType::pipe_io(16));
    let yields = CgroupDef::named("yields")
        .workers(16)
        .work_type(WorkType::YieldHeavy)
        .nice(19);
    execute_defs(ctx, vec![pipes, yields])
}

/// Leaves files open until no more can be opened, while the scenario runs.
fn opens_all_files(ctx: &Ctx) -> Result<AssertResult> {
    std::thread::scope(|scope| {
        let (over, wait) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            std::thread::sleep(SECOND / 3);
            let few = libc::rlimit {
                rlim_cur: 256,
                rlim_max: 256,
            };
            // SAFETY: the structure is on this stack.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &few) }, 0);
            let open = || std::fs::File::open("/dev/null").ok();
            let files: Vec<_> = std::iter::from_fn(open).collect();
            // The sender is dropped when the scenario is over.
            let _ = wait.recv();
            drop(files);
        });
        let result = two_spinners(ctx);
        drop(over);
        result
    })
}

/// Starts its own program twice, as a test does that has a helper process.
fn runs_itself(ctx: &Ctx) -> Result<AssertResult> {
    for _ in 0..2 {
        std::process::Command::new("/proc/self/exe")
            .arg("--list")
            .stdout(std::process::Stdio::null())
            .status()?;
    }
    two_spinners(ctx)
}

// Nobody is at fault in these runs, so they must pass and blame nobody.
rows! {
    runs_itself: runs_itself, Pass, None, scheduler: &SOUND, assert: NOT_STUCK;
    two_spinners: two_spinners, Pass, None, scheduler: &SOUND, assert: NOT_STUCK;
    opens_all_files: opens_all_files, Pass, None, scheduler: &SOUND, assert: NOT_STUCK;
    affinity_at_random: affinity_at_random, Pass, None, scheduler: &SOUND,
        assert: NOT_STUCK;
    moved_in_turn: moved_one_after_the_other, Pass, None, scheduler: &SOUND,
        assert: NOT_STUCK;
    moved_in_turn_eevdf: moved_one_after_the_other, Pass, None, assert: NOT_STUCK;
    cpu_off_line: takes_a_cpu_off_line, Pass, None, scheduler: &SOUND,
        duration: Duration::from_secs(2), assert: NOT_STUCK;
    cpu_off_line_eevdf: takes_a_cpu_off_line, Pass, None,
        duration: Duration::from_secs(2), assert: NOT_STUCK;
    stops_the_scheduler: stops_the_scheduler, Pass, None, scheduler: &SOUND,
        assert: NOT_STUCK;
    small_quota: a_small_quota, Pass, None, assert: NOT_STUCK;
    frozen_for_long: frozen_for_long, Pass, None, scheduler: &SOUND,
        duration: Duration::from_secs(4), assert: NOT_STUCK;
    frozen_beside_others: frozen_beside_others, Pass, None, topology: Topology::new(1, 1, 1, 1),
        duration: Duration::from_secs(2), assert: TIGHT;
    budgets_that_run_out: budgets_that_run_out, Pass, None,
        duration: Duration::from_secs(2), assert: TIGHT;
    weights_that_nobody_tells: the_smallest_weight, Pass, None, scheduler: &SOUND,
        duration: Duration::from_secs(2), assert: NOT_STUCK;
    smallest_weight: the_smallest_weight, Pass, None,
        duration: Duration::from_secs(2), assert: NOT_STUCK;
    frozen_by_the_real_clock: frozen_for_long, Pass, None, scheduler: &SOUND, clock: ClockMode::Real,
        watchdog_timeout: Duration::from_secs(20), duration: Duration::from_secs(4), assert: NOT_STUCK;
    sleeps_for_long: a_worker_that_sleeps_for_long, Pass, None, scheduler: &SOUND,
        duration: Duration::from_secs(2), assert: NOT_STUCK;
    sleeps_by_the_real_clock: a_worker_that_sleeps_for_long, Pass, None, scheduler: &SOUND, clock: ClockMode::Real,
        watchdog_timeout: Duration::from_secs(20), duration: Duration::from_secs(2), assert: NOT_STUCK;
    more_workers_than_queues: more_workers_than_queues, Pass, None, topology: Topology::new(2, 2, 2, 1),
        duration: Duration::from_secs(2), assert: NOT_STUCK;
    crowd: a_crowd, Pass, None, topology: Topology::new(1, 1, 8, 1), assert: NOT_STUCK;
}

const REFUSED: Scheduler = scx_ktstr(&["--fail-verify"]);
const CRASHES: Scheduler = scx_ktstr(&["--crash-after", "0.3"]);
const STALLS: Scheduler = scx_ktstr(&["--stall-after", "0.3"]);
const LEAVES: Scheduler = scx_ktstr(&["--exit-after", "0.3"]);
const FORGETS: Scheduler = scx_ktstr(&["--forget"]);
const STARVES: Scheduler = scx_ktstr(&["--starve-cgroup"]);
const STARVES_NICE: Scheduler = scx_ktstr(&["--starve-nice"]);
const LATE: Scheduler = scx_ktstr(&["--late-newcomers"]);
const EXITS_AT_ONCE: Scheduler =
    Scheduler::named("exits").binary(SchedulerSpec::Path("/bin/false"));
const MISSING: Scheduler =
    Scheduler::named("missing").binary(SchedulerSpec::Path("/no/such/scheduler"));

/// Workers that start beside busy ones. Under a scheduler that queues new tasks behind all others, they get no CPU before the
/// step is over.
fn newcomers(ctx: &Ctx) -> Result<AssertResult> {
    let backdrop = Backdrop::from_cgroups([CgroupDef::named("old").workers(4)]);
    let new = CgroupDef::named("new").workers(2);
    let steps = vec![
        Step::hold(HoldSpec::fixed(SECOND / 2)),
        Step::with_defs(vec![new], HoldSpec::FULL),
    ];
    execute_scenario(ctx, backdrop, steps)
}

/// The test cannot decide something itself, which does not make the scheduler better.
fn undecided_beside_starved_workers(ctx: &Ctx) -> Result<AssertResult> {
    let nice = CgroupDef::named("nice").workers(2).nice(10);
    let mut result = execute_defs(ctx, vec![CgroupDef::named("a").workers(3), nice])?;
    result.record_inconclusive("the test has too few samples of its own".into());
    Ok(result)
}

/// Only the check of stuck workers; those of the exact schedule are off, as they are under the real clock.
const STUCK_ALONE: Assert = NOT_STUCK
    .max_gap_ms(1000)
    .max_owed_ms(Limit::Off)
    .min_task_share(Limit::Off)
    .min_entitled_share(Limit::Off);

// Runs with a defective scheduler.
rows! {
    refused: two_spinners, Fail, Some("scheduler"), scheduler: &REFUSED;
    crashes: two_spinners, Fail, Some("scheduler"), scheduler: &CRASHES,
        duration: Duration::from_secs(2);
    stalls: two_spinners, Fail, Some("scheduler"), scheduler: &STALLS,
        duration: Duration::from_secs(4);
    leaves: two_spinners, Fail, Some("scheduler"), scheduler: &LEAVES,
        duration: Duration::from_secs(2);
    forgets: two_spinners, Fail, Some("scheduler"), scheduler: &FORGETS,
        duration: Duration::from_secs(4);
    starves: two_cgroups, Fail, Some("scheduler"), scheduler: &STARVES,
        duration: Duration::from_secs(4), assert: NOT_STUCK;
    starves_beside_an_undecided_claim: undecided_beside_starved_workers, Fail, Some("scheduler"), scheduler: &STARVES_NICE,
        duration: Duration::from_secs(3), watchdog_timeout: Duration::from_secs(20);
    newcomers_starve: newcomers, Fail, Some("scheduler"), scheduler: &LATE,
        duration: Duration::from_secs(3), watchdog_timeout: Duration::from_secs(20), assert: STUCK_ALONE;
    exits_at_once: two_spinners, Fail, Some("scheduler"), scheduler: &EXITS_AT_ONCE;
    missing: two_spinners, Fail, Some("user"), scheduler: &MISSING;
}
