//! The schedule that a run leaves is what happened: threads of the guest count what they can see of
//! themselves, and the schedule has to agree.

#[macro_use]
mod common;

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ktstr::prelude::*;
use ktstr::run::{Finished, run};
use ktstr_schedule::query::{Answers, WaitCause};
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
    DELAYS = "schedule_delays",
    delays,
    topology: Topology::new(1, 1, 2, 1),
    duration: Duration::from_secs(3),
    clock: ClockMode::Virtual,
    num_snapshots: 0,
);
case!(
    CGROUPS = "schedule_cgroups",
    cgroups,
    topology: Topology::new(1, 1, 2, 1),
    duration: Duration::from_secs(1),
    clock: ClockMode::Virtual,
    num_snapshots: 0,
    scheduler: &SCHED,
);

/// What a thread can see of itself.
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
    // SAFETY: a clock that every thread has, and a place for its value.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn tid() -> u32 {
    // SAFETY: no arguments.
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

/// Computes for `busy` and sleeps for `idle` in turn, until `end`.
fn live(end: Instant, busy: Duration, idle: Duration) -> Own {
    let mut own = Own::default();
    let mut last = -1;
    while Instant::now() < end {
        let until = Instant::now() + busy;
        while Instant::now() < until {
            // SAFETY: no arguments.
            let cpu = unsafe { libc::sched_getcpu() };
            own.moves += u64::from(last >= 0 && cpu != last);
            last = cpu;
        }
        if !idle.is_zero() {
            std::thread::sleep(idle);
        }
    }
    own.tid = tid();
    own.switches = switches();
    // The last: what comes after is in the schedule and not in here.
    own.cpu_ns = cpu_time_ns();
    own
}

/// A file that can be read from once the calling thread has exited: pidfd_open(2) with PIDFD_THREAD, which is O_EXCL (Linux 6.9).
fn own_exit() -> std::io::Result<OwnedFd> {
    // SAFETY: plain integers; the new descriptor has no other owner.
    unsafe {
        match libc::syscall(libc::SYS_pidfd_open, libc::gettid(), libc::O_EXCL) {
            -1 => Err(std::io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd as i32)),
        }
    }
}

/// Waits for the exit, which is later than the moment at which the thread can be joined. The last thread of a process to exit
/// frees the memory of all of them and closes their files, on its own CPU time: the main thread has to be that one.
fn gone(exit: &OwnedFd) -> Result<()> {
    let mut poll = libc::pollfd {
        fd: exit.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one entry on the stack.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 1000) };
    ensure!(
        ready == 1,
        "a thread that was joined did not exit within a second"
    );
    Ok(())
}

/// Ten threads on four CPUs: some compute, some sleep in between.
fn oracle(_: &Ctx) -> Result<AssertResult> {
    // Long beside the end of a thread, which it cannot count any more.
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
    Ok(AssertResult::pass())
}

#[track_caller]
fn file_of(finished: &Finished) -> Vec<u8> {
    assert!(finished.text.is_empty(), "{}", finished.text);
    let record = finished.record.as_ref().expect("the run left a record");
    std::fs::read(record.with_file_name(SCHEDULE_FILE)).expect("a schedule lies beside it")
}

/// The numbers on the lines that the guest printed with `word` before them.
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
    for own in own {
        let &[tid, cpu_ns, switches, moves] = &own[..] else {
            panic!("four numbers: {own:?}");
        };
        let seen = answers.sum(|key| u64::from(key.task.0) == tid);
        let off = seen.run_ns.abs_diff(cpu_ns) as f64 / cpu_ns as f64;
        println!(
            "{tid}: {cpu_ns} ns, {switches} switches, {moves} moves; schedule {} ns, {} of {} runs, \
             {} migrations ({} to another LLC), {} waits, {off:.4} off",
            seen.run_ns,
            seen.slept + seen.preempted + seen.yielded,
            seen.runs,
            seen.migrations,
            seen.llc_migrations,
            answers.waits_ns(|wait| u64::from(wait.task.0) == tid).len(),
        );
        assert!(
            off <= 0.01,
            "CPU time of {tid}: {cpu_ns} and {}",
            seen.run_ns
        );
        assert!(
            seen.slept + seen.preempted + seen.yielded >= switches,
            "{tid}"
        );
        assert!(seen.migrations >= moves, "{tid}");
    }
    let switches = finished.vm.as_ref().and_then(|vm| vm.switches);
    let (switches, _) = switches.expect("every switch was followed");
    let mut events = BTreeMap::<String, u64>::new();
    for event in schedule.events().expect("its events can be read") {
        let name = format!("{:?}", event.what);
        let name = name.split([' ', '{']).next().unwrap_or_default().to_owned();
        *events.entry(name).or_default() += 1;
    }
    assert_eq!(events.get("Switch"), Some(&switches));
    println!(
        "{switches} switches, {} bytes: {:.2} a switch; {events:?}; missing {:?}",
        file.len(),
        file.len() as f64 / switches as f64,
        tables.missing
    );
}

#[test]
fn threads_and_schedule_agree_under_scx_ktstr() {
    agrees(&ORACLE);
}

#[test]
fn threads_and_schedule_agree_under_eevdf() {
    agrees(&ORACLE_EEVDF);
}

/// Binds the calling thread to `cpu`; `priority` makes it a real-time one.
fn bind(cpu: usize, priority: Option<i32>) -> Result<()> {
    // SAFETY: a set of CPUs on the stack, in which `cpu` has a place, and its size.
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
        // SAFETY: parameters on the stack.
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

/// A thread computes, and another of a higher class takes its CPU away, three times.
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

#[test]
fn an_injected_delay_is_a_wait_of_that_length() {
    let finished = run(&DELAYS);
    let file = file_of(&finished);
    let schedule = Schedule::read(&file).expect("the schedule can be read");
    let answers = Answers::of(&schedule).expect("its events can be read");
    let [tids] = &printed(&finished, "victim ")[..] else {
        panic!("one line");
    };
    let waits = answers
        .waits_ns(|wait| u64::from(wait.task.0) == tids[0] && wait.cause == WaitCause::Preempted);
    for (ms, wait) in INJECTED_MS.iter().rev().zip(waits.iter().rev()) {
        let off = wait.abs_diff(ms * 1_000_000) as f64 / (ms * 1_000_000) as f64;
        println!("{ms} ms: a wait of {wait} ns, {off:.4} off");
        assert!(off <= 0.02, "{ms} ms injected, {wait} ns waited");
    }
    let thief = answers.sum(|key| u64::from(key.task.0) == tids[1]);
    assert_eq!(thief.run_ns, thief.other_class_ns, "a real-time thread");
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
        "PID 1 was there before: {:?}",
        answers.tasks
    );
}
