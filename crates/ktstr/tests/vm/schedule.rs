//! Tests that the recorded schedule is what happened: threads of the guest count what they can observe about themselves, and
//! the schedule has to agree.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ktstr::assert::metric::{MetricDef, REGISTRY, Source};
use ktstr::prelude::*;
use ktstr::run::{Finished, run};
use ktstr_schedule::query::{Answers, WaitCause, percentile, spans};
use ktstr_schedule::{Pid, SCHEDULE_FILE, Schedule};

const SCHED: Scheduler =
    Scheduler::named("ktstr_sched").binary(SchedulerSpec::Discover("scx-ktstr"));

case!(
    ORACLE = "schedule_oracle",
    oracle,
    topology: Topology::new(1, 2, 2, 1),
    duration: Duration::from_secs(3),
    clock: ClockMode::Virtual,
    num_snapshots: 0,
    scheduler: &SCHED,
);
case!(
    ORACLE_EEVDF = "schedule_oracle_eevdf",
    oracle,
    topology: Topology::new(1, 2, 2, 1),
    duration: Duration::from_secs(3),
    clock: ClockMode::Virtual,
    num_snapshots: 0,
);
case!(
    ORACLE_REAL = "schedule_oracle_real",
    oracle,
    topology: Topology::new(1, 2, 2, 1),
    duration: Duration::from_secs(3),
    clock: ClockMode::Real,
    num_snapshots: 0,
    scheduler: &SCHED,
);
case!(
    DELAYS = "schedule_delays",
    delays,
    topology: Topology::new(1, 1, 2, 1),
    duration: Duration::from_secs(3),
    clock: ClockMode::Virtual,
    num_snapshots: 0,
);
case!(
    DELAYS_SCX = "schedule_delays_scx",
    delays,
    topology: Topology::new(1, 1, 2, 1),
    duration: Duration::from_secs(3),
    clock: ClockMode::Virtual,
    num_snapshots: 0,
    scheduler: &SCHED,
);
case!(
    CGROUPS = "schedule_cgroups",
    cgroups,
    topology: Topology::new(1, 1, 2, 1),
    duration: Duration::from_secs(1),
    clock: ClockMode::Virtual,
    num_snapshots: 0,
    scheduler: &SCHED,
    post_vm: Some(claims),
);
case!(
    REAL = "schedule_real",
    cgroups,
    topology: Topology::new(1, 1, 2, 1),
    duration: Duration::from_secs(1),
    clock: ClockMode::Real,
    num_snapshots: 0,
    post_vm: Some(claims_by_tracepoints),
);

/// What a thread can observe about itself.
#[derive(Debug, Default, Clone, Copy)]
struct Own {
    tid: u32,
    cpu_ns: u64,
    switches: u64,
    moves: u64,
}

fn cpu_time_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: every thread has this clock, and the place for its value is on the stack.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn tid() -> u32 {
    // SAFETY: the call has no arguments.
    unsafe { libc::gettid() as u32 }
}

fn switches() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let lines = status
        .lines()
        .filter(|line| line.contains("ctxt_switches:"));
    let numbers = lines.filter_map(|line| line.rsplit_once('\t')?.1.parse::<u64>().ok());
    numbers.sum()
}

/// Sets the thread's name to the name that it has, which leaves a mark in the schedule.
fn leave_mark() {
    let mut name = [0u8; 16];
    // SAFETY: sixteen bytes, which the kernel fills and terminates with a NUL (PR_GET_NAME), and reads (PR_SET_NAME).
    unsafe {
        libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr());
        libc::prctl(libc::PR_SET_NAME, name.as_ptr());
    }
}

/// Alternates between computing for `busy` and sleeping for `idle`, until `end`.
fn live(end: Instant, busy: Duration, idle: Duration) -> Own {
    let mut own = Own::default();
    // The reading of the switches takes much CPU time itself, so it is outside of the two marks.
    let before = switches();
    let cpu_ns = cpu_time_ns();
    leave_mark();
    let mut last = -1;
    while Instant::now() < end {
        let until = Instant::now() + busy;
        while Instant::now() < until {
            // SAFETY: the call has no arguments.
            let cpu = unsafe { libc::sched_getcpu() };
            own.moves += u64::from(last >= 0 && cpu != last);
            last = cpu;
        }
        if !idle.is_zero() {
            std::thread::sleep(idle);
        }
    }
    leave_mark();
    own.cpu_ns = cpu_time_ns() - cpu_ns;
    own.switches = switches() - before;
    own.tid = tid();
    own
}

/// Returns a descriptor that becomes readable when the calling thread exits: `pidfd_open(2)` with `PIDFD_THREAD`, which is
/// `O_EXCL` (Linux 6.9).
fn own_exit() -> std::io::Result<OwnedFd> {
    // SAFETY: the arguments are plain integers, and the new descriptor has no other owner.
    unsafe {
        match libc::syscall(libc::SYS_pidfd_open, libc::gettid(), libc::O_EXCL) {
            -1 => Err(std::io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd as i32)),
        }
    }
}

/// Waits until the thread has exited, which is later than the moment at which it can be joined. The last thread of a process to
/// exit frees the memory and closes the files of the process on its own CPU time, so the main thread must be the last.
fn gone(exit: &OwnedFd) -> Result<()> {
    let mut poll = libc::pollfd {
        fd: exit.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: the pointer leads to one entry, which is on the stack.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 1000) };
    ensure!(
        ready == 1,
        "a thread that was joined did not exit within a second"
    );
    Ok(())
}

/// Returns the time of all CPUs that counts for no task, in nanoseconds: in interrupts, and taken by a hypervisor. The kernel
/// reports it in hundredths of a second (`/proc/stat`; see `proc_stat(5)`).
fn left_out_ns() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let fields: Vec<&str> = text.split_whitespace().collect();
    // Behind the word `cpu` come user, nice, system, idle, iowait, irq, softirq and steal.
    let ticks = fields.get(6..9).context("three times")?.iter();
    let ticks: Vec<u64> = ticks.map(|ticks| ticks.parse()).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<u64>() * 10_000_000)
}

/// Ten threads on four CPUs: some compute, some sleep in between.
fn oracle(_: &Ctx) -> Result<AssertResult> {
    let before_ns = left_out_ns()?;
    // The run is long compared with the exit of a thread, which the thread cannot count.
    let end = Instant::now() + Duration::from_secs(2);
    let threads: Vec<_> = (0..10u64)
        .map(|n| {
            let idle = Duration::from_micros(if n < 5 { 0 } else { 700 * n });
            std::thread::spawn(move || {
                let exit = own_exit();
                (live(end, Duration::from_micros(900 + 100 * n), idle), exit)
            })
        })
        .collect();
    for thread in threads {
        let (own, exit) = thread.join().ok().context("a thread panicked")?;
        gone(&exit.context("a pidfd of a thread")?)?;
        let Own {
            tid,
            cpu_ns,
            switches,
            moves,
        } = own;
        println!("own {tid} {cpu_ns} {switches} {moves}");
    }
    // The last hundredth of a second of each kind is not in the sum yet.
    println!("left out {}", left_out_ns()? - before_ns + 30_000_000);
    Ok(AssertResult::pass())
}

#[track_caller]
fn file_of(finished: &Finished) -> Vec<u8> {
    assert!(finished.text.is_empty(), "{}", finished.text);
    let record = finished.record.as_ref().expect("the run left a record");
    std::fs::read(record.with_file_name(SCHEDULE_FILE)).expect("a schedule in the same folder")
}

/// Returns the numbers on the lines that the guest printed with the prefix `word`.
fn printed(finished: &Finished, word: &str) -> Vec<Vec<u64>> {
    let output = &finished.vm.as_ref().expect("a machine ran").output;
    let lines = output.lines().filter_map(|line| line.strip_prefix(word));
    lines
        .map(|line| {
            let numbers = line.split_whitespace().map(str::parse);
            numbers.collect::<Result<_, _>>().expect("numbers")
        })
        .collect()
}

#[track_caller]
fn agrees(entry: &'static KtstrTestEntry) {
    let finished = run(entry);
    let file = file_of(&finished);
    let schedule = Schedule::read(&file).expect("the schedule can be read");
    let answers = Answers::of(&schedule).expect("its events can be read");
    let tables = schedule.tables();
    assert_eq!((tables.unreadable, schedule.gaps().count()), (0, 0));
    let own = printed(&finished, "own ");
    assert_eq!(own.len(), 10);
    let (mut counted_ns, mut shown_ns) = (0, 0);
    let spans = spans(&answers.marks);
    for own in own {
        let &[tid, cpu_ns, switches, moves] = &own[..] else {
            panic!("four numbers: {own:?}");
        };
        let [seen] = spans[&Pid(tid as u32)][..] else {
            panic!("a thread with two marks: {spans:?}");
        };
        let off = seen.ran_ns.abs_diff(cpu_ns) as f64 / cpu_ns as f64;
        println!(
            "{tid}: {cpu_ns} ns, {switches} switches, {moves} moves; schedule {} ns, {} runs, {} migrations, {off:.4} off",
            seen.ran_ns, seen.runs, seen.migrations,
        );
        counted_ns += cpu_ns;
        shown_ns += seen.ran_ns;
        // Under the real clock, the host can take the CPU between a mark and the reading beside it.
        assert!(
            off <= 0.01 || entry.clock == ClockMode::Real,
            "CPU time of {tid}: {cpu_ns} and {}",
            seen.ran_ns
        );
        // The thread reads its counter shortly before the first mark, and shortly after the last one.
        let between = switches.saturating_sub(8)..=switches;
        assert!(
            between.contains(&seen.runs),
            "{tid}: {switches} and {}",
            seen.runs
        );
        assert!(seen.migrations >= moves, "{tid}");
    }
    let left_out_ns = printed(&finished, "left out ")[0][0];
    let tolerated_ns = counted_ns / 20;
    assert!(
        (counted_ns - tolerated_ns..=counted_ns + left_out_ns + tolerated_ns).contains(&shown_ns),
        "{shown_ns} ns, of which the threads counted {counted_ns} ns, and interrupts took {left_out_ns} ns"
    );
    let switches = finished.vm.as_ref().and_then(|vm| vm.switches);
    let mut events = BTreeMap::<String, u64>::new();
    for event in schedule.events().expect("its events can be read") {
        let name = format!("{:?}", event.what);
        let name = name.split([' ', '{']).next().unwrap_or_default().to_owned();
        *events.entry(name).or_default() += 1;
    }
    let recorded = events.get("Switch").copied().unwrap_or(0);
    // Under the real clock, nobody but the kernel counts the switches.
    if entry.clock == ClockMode::Virtual {
        assert_eq!(Some(recorded), switches.map(|switches| switches.count));
    }
    println!(
        "{recorded} switches, {} bytes: {:.2} a switch; {events:?}; missing {:?}",
        file.len(),
        file.len() as f64 / recorded as f64,
        tables.missing
    );
}

#[test]
fn threads_and_schedule_agree_under_scx_ktstr() {
    agrees(&ORACLE);
}

/// The source of the schedule is the kernel's tracepoints.
#[test]
fn threads_and_schedule_agree_by_the_real_clock() {
    agrees(&ORACLE_REAL);
}

#[test]
fn threads_and_schedule_agree_under_eevdf() {
    agrees(&ORACLE_EEVDF);
}

/// Binds the calling thread to `cpu`, and makes it a real-time thread if there is a `priority`.
fn bind(cpu: usize, priority: Option<i32>) -> Result<()> {
    // SAFETY: the set of CPUs is on the stack and has a place for `cpu`, and the size is that of the set.
    let bound = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    ensure!(
        bound == 0,
        "sched_setaffinity: {}",
        std::io::Error::last_os_error()
    );
    if let Some(sched_priority) = priority {
        let parameter = libc::sched_param { sched_priority };
        // SAFETY: the parameters are on the stack.
        let set = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter) };
        ensure!(
            set == 0,
            "sched_setscheduler: {}",
            std::io::Error::last_os_error()
        );
    }
    Ok(())
}

const INJECTED_MS: [u64; 3] = [5, 50, 500];

/// A thread computes, and another thread of a higher class preempts it three times.
fn delays(_: &Ctx) -> Result<AssertResult> {
    let end = Instant::now() + Duration::from_secs(1);
    let victim = std::thread::spawn(move || -> Result<u32> {
        bind(1, None)?;
        while Instant::now() < end {
            std::hint::black_box(0);
        }
        Ok(tid())
    });
    let thief = std::thread::spawn(move || -> Result<u32> {
        bind(1, Some(50))?;
        for ms in INJECTED_MS {
            std::thread::sleep(Duration::from_millis(80));
            let until = Instant::now() + Duration::from_millis(ms);
            while Instant::now() < until {
                std::hint::black_box(0);
            }
        }
        Ok(tid())
    });
    let [victim, thief] = [victim, thief].map(|thread| thread.join().ok());
    let victim = victim.context("the victim panicked")??;
    let thief = thief.context("the thief panicked")??;
    println!("victim {victim} {thief}");
    Ok(AssertResult::pass())
}

#[track_caller]
fn waits_as_long_as_injected(entry: &'static KtstrTestEntry) {
    let finished = run(entry);
    let file = file_of(&finished);
    let schedule = Schedule::read(&file).expect("the schedule can be read");
    let answers = Answers::of(&schedule).expect("its events can be read");
    let [tids] = &printed(&finished, "victim ")[..] else {
        panic!("one line");
    };
    let waits = answers
        .waits_ns(|wait| u64::from(wait.task.0) == tids[0] && wait.cause == WaitCause::Preempted);
    assert!(waits.len() >= INJECTED_MS.len(), "{waits:?}");
    for (ms, wait) in INJECTED_MS.iter().rev().zip(waits.iter().rev()) {
        let off = wait.abs_diff(ms * 1_000_000);
        println!("{ms} ms: a wait of {wait} ns, {off} ns off");
        // Before and after the injected time there are two switches, system calls of the thief, and up to a turn of a CPU:
        // some 120 us together.
        let most = (ms * 1_000_000 / 50).max(200_000);
        assert!(off <= most, "{ms} ms injected, {wait} ns waited");
    }
    let thief = answers.sum(|key| u64::from(key.task.0) == tids[1]);
    // The thief started as an ordinary thread, so a part of its CPU time does not count here.
    let stolen: u64 = INJECTED_MS.iter().map(|ms| ms * 1_000_000).sum();
    assert!(thief.other_class_ns >= stolen, "{thief:?}");
}

#[test]
fn an_injected_delay_is_a_wait_of_that_length_under_eevdf() {
    waits_as_long_as_injected(&DELAYS);
}

#[test]
fn an_injected_delay_is_a_wait_of_that_length_under_scx_ktstr() {
    waits_as_long_as_injected(&DELAYS_SCX);
}

fn cgroups(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(
        ctx,
        vec![
            CgroupDef::named("spin").workers(3),
            CgroupDef::named("pipe")
                .workers(2)
                .work_type(WorkType::pipe_io(64)),
        ],
    )
}

/// Tests the metrics of the schedule: of a cgroup in a phase, of a phase, and of the run.
fn claims(vm: &VmResult) -> Result<()> {
    let step = Phase::step(0);
    let of = |cgroup, name| vm.phase_cgroup_metric(step, cgroup, name);
    let mut v = Verdict::new();
    v.claim_present("CPU time of spin", of("spin", "schedule_cpu_time_ns"))
        .at_least(5e8);
    // A spinner only waits when it was preempted, and two tasks of a pipe wake each other.
    v.claim_present("wake-ups of spin", of("spin", "schedule_wakeups"))
        .at_most(20.0);
    v.claim_present("wake-ups of pipe", of("pipe", "schedule_wakeups"))
        .at_least(100.0);
    v.claim_present("wake-ups", vm.phase_metric(step, "schedule_wakeups"))
        .at_least(100.0);
    v.claim_present("a median wait", of("pipe", "schedule_median_wake_us"))
        .is_finite();
    v.claim_present("idle", vm.run_metric("schedule_idle_beside_waiter_ns"))
        .is_finite();
    v.into_anyhow_or_log()
}

/// What the kernel's tracepoints do not show is absent, and not 0.
fn claims_by_tracepoints(vm: &VmResult) -> Result<()> {
    let step = Phase::step(0);
    let of = |cgroup, name| vm.phase_cgroup_metric(step, cgroup, name);
    for name in [
        "schedule_throttled_time_ns",
        "schedule_idle_beside_waiter_ns",
    ] {
        ensure!(vm.run_metric(name).is_none(), "{name}");
        ensure!(vm.phase_metric(step, name).is_none(), "{name} of the step");
        ensure!(of("spin", name).is_none(), "{name} of a cgroup");
    }
    let mut v = Verdict::new();
    for cgroup in ["spin", "pipe"] {
        // The host's load decides how much CPU time there was; the two ways of counting agree about it.
        let counted = of(cgroup, "total_cpu_time_ns").context("the workers' own count")?;
        v.claim_present("CPU time", of(cgroup, "schedule_cpu_time_ns"))
            .at_most(1.2 * counted);
        v.claim_present("CPU time", of(cgroup, "schedule_cpu_time_ns"))
            .at_least(0.5 * counted);
    }
    v.claim_present("wake-ups of pipe", of("pipe", "schedule_wakeups"))
        .at_least(20.0);
    v.claim_present("a median wait", of("pipe", "schedule_median_wake_us"))
        .is_finite();
    v.into_anyhow_or_log()
}

fn metrics_of_the_schedule() -> impl Iterator<Item = &'static MetricDef> {
    REGISTRY.iter().filter(|def| def.source == Source::Schedule)
}

#[test]
fn a_run_by_the_real_clock_has_the_metrics_that_tracepoints_show() {
    let finished = run(&REAL);
    assert!(finished.text.is_empty(), "{}", finished.text);
}

/// Checks that every metric of the schedule in the registry exists, with the same number in the record.
#[track_caller]
fn has_all_metrics(finished: &Finished, answers: &Answers, cgroup: u64) {
    let vm = finished.vm.as_ref().expect("a machine ran");
    let record = finished.record.as_ref().expect("the run left a record");
    let record = ktstr_record::read(record).expect("it can be read");
    let phase = &record.stats["phases"][0];
    assert_eq!(phase["step_index"], 1, "{phase}");
    // Before Linux 6.18 the schedule does not show for how long a task is out of quota.
    let shows_quotas = crate::common::is_at_least(finished.record.as_deref(), (6, 18));
    let shown = |name: &&str| shows_quotas || *name != "schedule_throttled_time_ns";
    for name in metrics_of_the_schedule().map(|def| def.name).filter(shown) {
        let of_phase = vm.phase_metric(Phase::step(0), name);
        assert!(of_phase.is_some_and(f64::is_finite), "{name}: {of_phase:?}");
        assert_eq!(phase["metrics"][name].as_f64(), of_phase, "{name}");
        let of_run = vm.run_metric(name);
        assert!(of_run >= of_phase, "{name}: one phase, {of_run:?}");
        assert_eq!(record.stats["ext_metrics"][name].as_f64(), of_run, "{name}");
        let of_cgroup = vm.phase_cgroup_metric(Phase::step(0), "pipe", name);
        let kept = phase["per_cgroup"]["pipe"]["metrics"][name].as_f64();
        assert_eq!(kept, of_cgroup, "{name}");
        let of_all = name == "schedule_idle_beside_waiter_ns";
        assert_eq!(of_cgroup.is_none(), of_all, "{name}: {of_cgroup:?}");
    }
    let waits = answers.waits_ns(|wait| {
        wait.cgroup == Some(cgroup) && wait.phase == Some(1) && wait.cause == WaitCause::Woken
    });
    // The metric also includes the one or two waits that are still open when the phase ends, so it may differ from the median of
    // `waits` a little.
    let median = vm.phase_cgroup_metric(Phase::step(0), "pipe", "schedule_median_wake_us");
    let near = |percent| percentile(&waits, percent).expect("there are wake-ups") as f64 / 1e3;
    let (low, high) = (near(48.0), near(52.0));
    assert!(
        median.is_some_and(|m| (low..=high).contains(&m)),
        "{median:?}"
    );
    let cpu_ns = vm.phase_cgroup_metric(Phase::step(0), "pipe", "schedule_cpu_time_ns");
    let of = answers.sum(|key| key.cgroup == Some(cgroup) && key.phase == Some(1));
    assert_eq!(cpu_ns, Some(of.run_ns as f64));
}

/// Compares what the workers counted between their marks with the schedule of the same intervals.
#[track_caller]
fn workers_left_marks(finished: &Finished, answers: &Answers) {
    let spans = spans(&answers.marks);
    assert_eq!(spans.values().map(Vec::len).sum::<usize>(), 5, "{spans:?}");
    let all: u64 = spans.values().flatten().map(|span| span.ran_ns).sum();
    let cgroups = &finished.result.stats.cgroups;
    let counted: u64 = cgroups.iter().map(|cgroup| cgroup.total_cpu_time_ns).sum();
    let off = all.abs_diff(counted);
    assert!(off <= counted / 100, "{all} ns and {counted} ns");
}

#[test]
fn cgroups_have_their_names_and_phases_their_lengths() {
    let finished = run(&CGROUPS);
    let file = file_of(&finished);
    let schedule = Schedule::read(&file).expect("the schedule can be read");
    let answers = Answers::of(&schedule).expect("its events can be read");
    let id = |name: &str| {
        let mut all = schedule.tables().cgroups.iter();
        let found = all.find(|(_, cgroup)| cgroup.path.ends_with(name));
        *found
            .unwrap_or_else(|| panic!("{name}: {:?}", schedule.tables().cgroups))
            .0
    };
    let of = |name: &str| {
        let id = id(name);
        answers.sum(|key| key.cgroup == Some(id) && key.phase == Some(1))
    };
    let (spin, pipe) = (of("/spin"), of("/pipe"));
    has_all_metrics(&finished, &answers, id("/pipe"));
    workers_left_marks(&finished, &answers);
    assert!(spin.run_ns > 500_000_000, "{spin:?}");
    assert!(pipe.wakeups > 100 && pipe.inserts > 0, "{pipe:?}");
    assert!(spin.other_class_ns * 100 < spin.run_ns, "{spin:?}");
    let step = answers.phases[&Some(1)];
    assert!(
        (900_000_000..1_200_000_000).contains(&step),
        "{:?}",
        answers.phases
    );
    let names = |pid: &Pid| answers.tasks.get(pid).and_then(|task| task.name());
    assert!(
        names(&Pid(1)).is_some(),
        "the schedule has no name for PID 1, which started before the recording: {:?}",
        answers.tasks
    );
}
