#![allow(clippy::unwrap_used)]

use std::time::Duration;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;

use ktstr_assert::{WorkerExitInfo, WorkerReport};
use ktstr_scenario::workload::{
    AffinityIntent, AluWidth, CloneMode, CustomCfg, SchedClass, SchedPolicy, WakeMechanism,
    WorkPhase, WorkType, WorkerCtx as SeenCtx,
};

use super::*;

fn run(config: &WorkloadConfig, ms: u64) -> Vec<WorkerReport> {
    let mut handle = WorkloadHandle::spawn(config).unwrap();
    handle.start();
    std::thread::sleep(Duration::from_millis(ms));
    progress(&handle);
    handle.stop_and_collect()
}

/// Waits until every worker has completed a dozen iterations, which can take a while on a busy
/// machine.
pub(crate) fn progress(handle: &WorkloadHandle) {
    for _ in 0..6000 {
        if handle.snapshot_iterations().iter().all(|n| *n >= 12) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("no progress: {:?}", handle.snapshot_iterations());
}

/// Waits until something holds. Only a hang takes as long as the limit.
#[track_caller]
fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..12_000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{what}: not within a minute");
}

/// Waits until a worker sleeps: it is neither running nor waiting for a CPU.
#[track_caller]
pub(crate) fn asleep(pid: i32) {
    until("asleep", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.starts_with('S')
    });
}

#[test]
fn a_stop_before_the_first_run_does_not_kill_a_worker() {
    for _ in 0..50 {
        let mut handle = WorkloadHandle::spawn(&of(WorkType::SpinWait, 4)).unwrap();
        handle.start();
        for r in handle.stop_and_collect() {
            assert!(r.completed, "{r:?}");
        }
    }
}

fn of(work_type: WorkType, workers: usize) -> WorkloadConfig {
    WorkloadConfig {
        num_workers: workers,
        work_type,
        ..WorkloadConfig::default()
    }
}

/// Returns whether the process has been reaped: the pid is not a child of ours any more.
fn gone(pid: i32) -> bool {
    // SAFETY: plain integers and a null status.
    let rc = unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) };
    rc == -1 && sys::errno() == libc::ECHILD
}

#[test]
fn workers_do_not_run_before_the_start() {
    let handle = WorkloadHandle::spawn(&of(WorkType::SpinWait, 2)).unwrap();
    let pids = handle.worker_pids();
    // The work itself never sleeps, so a worker that sleeps has come to the point where it waits for the start.
    pids.iter().copied().for_each(asleep);
    assert_eq!(handle.total_iterations(), 0);
    drop(handle);
    assert!(pids.into_iter().all(gone));
}

#[test]
fn a_shuffled_start_releases_all() {
    // There are more workers than the 32 groups into which `shuffle_start` divides them.
    let mut handle = WorkloadHandle::spawn(&of(WorkType::YieldHeavy, 40)).unwrap();
    handle.shuffle_start(7);
    handle.start();
    progress(&handle);
    assert!(handle.stop_and_collect().iter().all(|r| r.completed));
}

#[test]
fn spin_wait_makes_progress_and_counts_it() {
    let mut handle = WorkloadHandle::spawn(&of(WorkType::SpinWait, 2)).unwrap();
    handle.start();
    let started_ns = sys::now_ns();
    std::thread::sleep(Duration::from_millis(200));
    progress(&handle);
    let held_ns = sys::now_ns() - started_ns;
    let reports = handle.stop_and_collect();
    assert_eq!(reports.len(), 2);
    for r in &reports {
        assert!(r.completed && r.exit_info.is_none(), "{r:?}");
        assert_eq!(r.work_units / 1024, r.iterations.max(1), "{r:?}");
        // The worker runs or waits for a CPU all the time; how much it runs depends on what else the host does. The wait for the
        // first turn is a part of `waited_ns` only. The wall time also contains the time between the release and the wakeup, in
        // which this thread may be preempted.
        let wants_ns = r.cpu_time_ns + r.waited_ns.unwrap_or(r.schedstat_run_delay_ns);
        assert!(r.iterations > 0 && wants_ns > held_ns / 2, "{r:?}");
        assert!(r.wall_time_ns >= 150_000_000, "{r:?}");
        assert!(r.cpu_time_ns <= r.wall_time_ns + 1_000_000, "{r:?}");
        assert!(!r.cpus_used.is_empty());
        assert_eq!(r.migrations.len() as u64, r.migration_count);
        assert!(r.wake_latencies_ns.is_empty());
        assert!(gone(r.tid));
    }
}

/// The kernel's counters of a worker's own work begin when the worker first runs after its release. Its wait for a CPU before
/// that is part of `waited_ns`.
#[test]
fn the_wait_for_the_first_turn_counts() {
    let mut work = of(WorkType::SpinWait, 8);
    // Eight workers on one CPU: all but one have to wait before they first run.
    work.affinity = AffinityIntent::exact([0]);
    let reports = run(&work, 200);
    let waited = |r: &WorkerReport| r.waited_ns.expect("this kernel has schedstats");
    for r in &reports {
        assert!(waited(r) >= r.schedstat_run_delay_ns, "{r:?}");
    }
    let before = |r: &WorkerReport| waited(r) - r.schedstat_run_delay_ns;
    assert!(reports.iter().any(|r| before(r) > 1_000_000), "{reports:?}");
}

/// The only iteration has more work than the worker has time for: its work counts, and the iteration does not.
#[test]
fn an_iteration_that_the_stop_cuts_short_does_not_count() {
    let long = WorkType::cross_affinity_churn(1 << 60);
    let mut handle = WorkloadHandle::spawn(&of(long, 1)).unwrap();
    handle.start();
    // The CPU time in ns that the worker has used, of which its start takes a small part.
    let schedstat = format!("/proc/{}/schedstat", handle.worker_pids()[0]);
    let used = || -> u64 {
        let text = std::fs::read_to_string(&schedstat).unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    };
    while used() < 30_000_000 {
        std::thread::yield_now();
    }
    let report = &handle.stop_and_collect()[0];
    assert!(report.work_units > 0, "{report:?}");
    assert_eq!(report.iterations, 0, "{report:?}");
}

#[test]
fn a_killed_worker_leaves_a_sentinel_and_no_zombie() {
    let mut handle = WorkloadHandle::spawn(&of(WorkType::SpinWait, 2)).unwrap();
    handle.start();
    std::thread::sleep(Duration::from_millis(50));
    let pids = handle.worker_pids();
    // SAFETY: plain integers; the pid is our child's.
    unsafe { libc::kill(pids[0], libc::SIGKILL) };
    let reports = handle.stop_and_collect();
    assert_eq!(reports[0].exit_info, Some(WorkerExitInfo::Signaled(9)));
    // The report does not pass for that of a worker that ended normally.
    assert!(!reports[0].completed && reports[0].exit_info.is_some());
    assert_eq!(reports[0].tid, pids[0]);
    assert!(reports[1].completed);
    assert!(pids.into_iter().all(gone));
}

/// The worker uses the CPU all the time, so it is not starved, although it is runnable at the deadline.
#[test]
fn a_worker_that_ignores_the_stop_has_no_gap_after_it() {
    fn ignores(_: &SeenCtx) -> WorkerReport {
        loop {
            std::hint::black_box(());
        }
    }
    let mut handle = WorkloadHandle::spawn(&of(WorkType::custom("ignores", ignores), 1)).unwrap();
    handle.start();
    let report = &handle.stop_and_collect()[0];
    assert_eq!(report.exit_info, Some(WorkerExitInfo::TimedOut));
    assert!(report.max_gap_ms < 5000, "{report:?}");
}

#[test]
fn a_stopped_worker_misses_the_deadline_and_is_killed() {
    let mut handle = WorkloadHandle::spawn(&of(WorkType::SpinWait, 1)).unwrap();
    handle.start();
    let pid = handle.worker_pids()[0];
    // SAFETY: plain integers; the pid is our child's.
    unsafe { libc::kill(pid, libc::SIGSTOP) };
    let reports = handle.stop_and_collect();
    assert_eq!(reports[0].exit_info, Some(WorkerExitInfo::TimedOut));
    // The worker was not runnable, so the five seconds do not count as a gap.
    assert!(reports[0].max_gap_ms < 5000, "{}", reports[0].max_gap_ms);
    assert!(gone(pid));
}

#[test]
fn rings_wake_each_other_and_measure_it() {
    let chain = WorkType::WakeChain {
        depth: 3,
        wake: WakeMechanism::Futex,
        work_per_hop: Duration::from_micros(20),
    };
    for (work, workers) in [
        (WorkType::PipeIo { burst_iters: 16 }, 4),
        (WorkType::FutexPingPong { spin_iters: 16 }, 2),
        (chain, 3),
    ] {
        let name = work.name();
        for r in run(&of(work, workers), 200) {
            assert!(r.completed, "{name}: {r:?}");
            assert!(r.iterations > 5, "{name}: {}", r.iterations);
            assert!(r.wake_sample_total > 5, "{name}");
            assert_eq!(r.wake_latencies_ns.len() as u64, r.wake_sample_total);
            // Each turn except the first one of member 0 starts with a wakeup.
            assert!(r.iterations.abs_diff(r.wake_sample_total) <= 1, "{name}");
            assert!(r.wake_latencies_ns.iter().all(|ns| *ns < 10_000_000_000));
        }
    }
}

#[test]
fn crowds_wake_each_other_and_measure_it() {
    let cases = [
        (
            WorkType::FutexFanOut {
                fan_out: 3,
                spin_iters: 16,
            },
            8,
        ),
        (
            WorkType::ThunderingHerd {
                waiters: 3,
                batches: u64::MAX,
                inter_batch_ms: 1,
            },
            4,
        ),
        (
            WorkType::MutexContention {
                contenders: 3,
                hold_iters: 64,
                work_iters: 16,
            },
            6,
        ),
    ];
    for (work, workers) in cases {
        let name = work.name();
        let group = work.worker_group_size().unwrap();
        let reports = run(&of(work, workers), 300);
        for (at, r) in reports.iter().enumerate() {
            assert!(r.completed && r.iterations > 5, "{name}: {r:?}");
            let wakes = name != "MutexContention" && at % group == 0;
            assert_eq!(r.is_messenger, wakes, "{name} {at}");
            if name != "MutexContention" && !wakes {
                let woken = r.wake_sample_total;
                // A call that comes while a waiter works wakes nobody.
                let least = if name == "ThunderingHerd" {
                    5
                } else {
                    r.iterations
                };
                // If the stop cuts the work after the last wakeup short, this work does not count as an iteration.
                assert!(
                    (least..=r.iterations + 1).contains(&woken),
                    "{name} {at}: {r:?}"
                );
            }
        }
    }
}

#[test]
fn bodies_without_partners_iterate() {
    let ms = Duration::from_millis;
    for work in [
        WorkType::YieldHeavy,
        WorkType::Mixed,
        WorkType::Bursty {
            burst_duration: ms(2),
            sleep_duration: ms(3),
        },
        WorkType::IdleChurn {
            burst_duration: ms(1),
            sleep_duration: ms(2),
            precise_timing: false,
        },
        WorkType::TimerLatency { interval_us: 500 },
        WorkType::ForkExit,
        WorkType::NiceSweep,
        WorkType::AffinityChurn { spin_iters: 64 },
        WorkType::PolicyChurn { spin_iters: 64 },
        WorkType::CachePressure {
            size_kib: 32,
            stride: 64,
        },
        WorkType::CacheYield {
            size_kib: 32,
            stride: 64,
        },
    ] {
        let name = work.name();
        for r in run(&of(work, 2), 120) {
            assert!(r.completed && r.iterations > 2, "{name}: {r:?}");
            match name {
                "TimerLatency" => assert!(r.timer_sample_total > 2 && r.wake_sample_total == 0),
                "Bursty" | "IdleChurn" => assert!(r.wake_sample_total > 2, "{name}"),
                _ => assert_eq!(r.wake_sample_total, 0, "{name}"),
            }
        }
    }
}

/// The measured iterations do not overlap, so all costs together are at most the worker's CPU time, on any host. If sleep were a
/// part of the cost, the costs of a worker that sleeps for most of each iteration would be far more than that.
#[test]
fn the_cost_of_an_iteration_is_its_cpu_time() {
    let sleeper = WorkType::bursty(Duration::from_millis(1), Duration::from_millis(20));
    for (work, workers) in [
        (WorkType::SpinWait, 2),
        (WorkType::YieldHeavy, 1),
        (WorkType::futex_ping_pong(100_000), 2),
        (sleeper, 1),
    ] {
        let name = work.name();
        for r in run(&of(work, workers), 300) {
            let costs = &r.iteration_costs_ns;
            assert!(!costs.is_empty(), "{name}: {r:?}");
            assert_eq!(costs.len() as u64, r.iteration_cost_sample_total, "{name}");
            // At most one iteration in 10.3 ms is measured.
            let most = r.iterations.min(r.wall_time_ns / 10_300_000 + 1);
            assert!(costs.len() as u64 <= most, "{name}: {r:?}");
            assert!(costs.iter().all(|cost| *cost > 0), "{name}: {r:?}");
            let all: u64 = costs.iter().sum();
            assert!(all <= r.cpu_time_ns, "{name}: {all} ns of {r:?}");
        }
    }
}

#[test]
fn a_long_lived_worker_has_a_slice_for_each_phase() {
    let phase = PhaseCell::new().unwrap();
    let group = Group {
        work: WorkSpec::default(),
        count: 1,
        affinity: ResolvedAffinity::None,
    };
    let mut handle = WorkloadHandle::spawn_groups(&[group], 7, &phase).unwrap();
    handle.start();
    for ordinal in 0..=2 {
        phase.set(ordinal);
        // Work that was done before belongs to the previous phase.
        let seen = handle.total_iterations();
        until("twenty iterations of the phase", || {
            handle.total_iterations() > seen + 20
        });
    }
    let report = handle.stop_and_collect().remove(0);
    let steps: Vec<u16> = report.phase_slices.iter().map(|s| s.step_index).collect();
    assert_eq!(steps, [0, 1, 2]);
    let sum: u64 = report.phase_slices.iter().map(|s| s.iterations).sum();
    assert_eq!(sum, report.iterations);
    assert!(report.phase_slices.iter().all(|s| s.iterations > 0));
    let walls: Vec<u64> = report.phase_slices.iter().map(|s| s.wall_time_ns).collect();
    assert_eq!(walls.iter().sum::<u64>(), report.wall_time_ns);
    // A slice begins when the worker notices the phase, so a busy host may make it short, but never empty.
    assert!(walls.iter().all(|w| *w > 0), "{walls:?}");
}

#[test]
fn affinity_is_set_and_a_failure_is_reported() {
    let mut config = of(WorkType::SpinWait, 1);
    let cpu = sys::mask_nth(&sys::affinity(0), 0).unwrap();
    config.affinity = AffinityIntent::exact([cpu]);
    let report = run(&config, 60).remove(0);
    assert_eq!(report.cpus_used, BTreeSet::from([cpu]));
    assert_eq!(report.affinity_error, None);
    config.affinity = AffinityIntent::exact([1000]);
    let report = run(&config, 20).remove(0);
    let error = report.affinity_error.unwrap();
    assert!(
        error.contains("to CPUs 1000: ") && error.contains("(online: 0"),
        "{error}"
    );
    for refused in [
        AffinityIntent::LlcAligned,
        AffinityIntent::random_subset([], 1),
        AffinityIntent::random_subset([cpu], 0),
    ] {
        config.affinity = refused;
        assert!(WorkloadHandle::spawn(&config).is_err());
    }
    config.affinity = AffinityIntent::random_subset([cpu], 9);
    assert_eq!(run(&config, 20).remove(0).affinity_error, None);
}

#[test]
fn nice_and_policy_are_set_before_the_start() {
    let config = WorkloadConfig {
        nice: Some(7),
        sched_policy: SchedPolicy::Batch,
        comm: Some("kt-worker".to_owned()),
        ..WorkloadConfig::default()
    };
    let mut handle = WorkloadHandle::spawn(&config).unwrap();
    handle.start();
    progress(&handle);
    let pid = handle.worker_pids()[0];
    // SAFETY: plain integers.
    let (nice, policy) = unsafe {
        (
            libc::getpriority(libc::PRIO_PROCESS, pid as u32),
            libc::sched_getscheduler(pid),
        )
    };
    assert_eq!((nice, policy), (7, libc::SCHED_BATCH));
    let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    assert_eq!(comm.trim(), "kt-worker");
    let report = handle.stop_and_collect().remove(0);
    assert_eq!(report.sched_policy_error, None);
}

fn error(config: &WorkloadConfig) -> String {
    match WorkloadHandle::spawn(config) {
        Ok(_) => panic!("the configuration was accepted"),
        Err(e) => e.to_string(),
    }
}

#[test]
fn only_workers_that_are_alike_are_compared() {
    let marks = |config: &WorkloadConfig| {
        let reports = WorkloadHandle::spawn(config).unwrap().stop_and_collect();
        reports.iter().map(|r| r.entitlement).collect::<Vec<_>>()
    };
    let alike = marks(&of(WorkType::SpinWait, 2));
    assert_eq!(alike[0], alike[1]);
    let storms = marks(&of(WorkType::preempt_storm(1, 16, 100), 4));
    assert_ne!(
        storms[0], storms[1],
        "the preempting worker is compared with a preempted one"
    );
    assert_eq!(storms[1], storms[3], "workers of two groups are comparable");
    // If another worker pins a worker, the entitlement of the pinned worker depends on the choices of the other worker.
    let meddler = WorkSpec::new(WorkType::cross_affinity_churn(1)).workers(1);
    let pinned = marks(&of(WorkType::SpinWait, 2).push_composed(meddler));
    assert_eq!(pinned.iter().collect::<BTreeSet<_>>().len(), 3);
    // Workers of different types may need different amounts of CPU time, and a worker that changes its own weight or CPUs is
    // not compared at all.
    let yielder = WorkSpec::new(WorkType::YieldHeavy).workers(1);
    let mixed = marks(&of(WorkType::SpinWait, 2).push_composed(yielder));
    assert!(mixed[0] == mixed[1] && mixed[1] != mixed[2]);
    let sweepers = marks(&of(WorkType::NiceSweep, 2));
    assert_ne!(sweepers[0], sweepers[1]);
}

/// The time that a worker asks to sleep does not count as a gap, even if the stop ends the sleep early.
#[test]
fn a_sleep_that_the_stop_ends_is_no_gap() {
    let bursts = WorkType::bursty(Duration::from_millis(1), Duration::from_secs(10));
    let mut handle = WorkloadHandle::spawn(&of(bursts, 1)).unwrap();
    handle.start();
    // After its burst the worker sleeps for longer than this test takes.
    asleep(handle.worker_pids()[0]);
    std::thread::sleep(Duration::from_secs(3));
    let report = handle.stop_and_collect().remove(0);
    // A wait for a CPU is a gap.
    let waited_ms = report.waited_ns.unwrap_or(0) / 1_000_000;
    assert!(report.max_gap_ms < 2500 + waited_ms, "{report:?}");
}

#[test]
fn a_worker_that_was_real_time_before_is_reported_as_such() {
    let mut handle = WorkloadHandle::spawn(&of(WorkType::SpinWait, 1)).unwrap();
    handle.start();
    // An ordinary user may not set the policy; the worker is then never real-time.
    if handle.set_policy(0, SchedPolicy::fifo(1)).is_ok() {
        // The worker counts as real-time if it has used CPU time under the policy.
        let pid = handle.worker_pids()[0];
        let used = || attrs::cpu_ns(pid).expect("this kernel has schedstats");
        let before = used();
        until("it runs", || used() > before);
        handle.set_policy(0, SchedPolicy::Normal).unwrap();
        assert!(handle.stop_and_collect()[0].realtime);
    } else {
        assert!(!handle.stop_and_collect()[0].realtime);
    }
}

#[test]
fn incomplete_groups_are_rejected() {
    let odd = error(&of(WorkType::PipeIo { burst_iters: 1 }, 3));
    assert!(odd.contains('3'), "{odd}");
}

/// Bodies that need nothing special from the machine: each of them iterates, stops while it waits,
/// and reports no error.
#[test]
fn the_remaining_bodies_iterate_and_stop() {
    let us = Duration::from_micros;
    let phases = WorkType::sequence(
        WorkPhase::Spin(us(50)),
        vec![
            WorkPhase::Sleep(us(50)),
            WorkPhase::Yield(us(50)),
            WorkPhase::Io(us(50)),
            WorkPhase::AluHot {
                width: AluWidth::Widest,
                duration: us(50),
            },
        ],
    );
    let quick = WorkType::FanOutCompute {
        fan_out: 2,
        cache_footprint_kib: 4,
        operations: 1,
        sleep_usec: 10,
    };
    let imbalance = WorkType::ProducerConsumerImbalance {
        producers: 1,
        consumers: 2,
        produce_rate_hz: 5000,
        consume_iters: 16,
        queue_depth_target: 4,
    };
    for (work, workers) in [
        (phases, 1),
        (WorkType::cache_pipe(4, 16), 2),
        (WorkType::page_fault_churn(64, 8, 4), 1),
        (WorkType::signal_storm(4, 1024), 2),
        (WorkType::cross_affinity_churn(64), 3),
        (WorkType::IoSyncWrite, 1),
        (WorkType::IoRandRead, 1),
        (WorkType::IoConvoy, 1),
        (WorkType::alu_hot(AluWidth::Scalar), 1),
        (WorkType::alu_hot(AluWidth::Widest), 1),
        (WorkType::ipc_variance(1000, 100, 4).unwrap(), 1),
        (WorkType::epoll_storm(1, 2, 8), 3),
        (quick, 3),
        (imbalance, 3),
        (WorkType::numa_working_set_sweep(64, 1, Vec::new()), 1),
        (WorkType::bursty(us(100), Duration::ZERO), 1),
        (
            WorkType::asymmetric_waker(SchedClass::Cfs, SchedClass::Batch, 16),
            2,
        ),
    ] {
        let name = work.name();
        for r in run(&of(work, workers), 60) {
            assert!(r.completed && r.iterations > 2, "{name}: {r:?}");
            assert_eq!(r.sched_policy_error, None, "{name}");
        }
    }
}

/// Waits until a worker has exited, and leaves its exit status to the handle.
pub(crate) fn ended(pid: i32) {
    // SAFETY: `siginfo_t` is plain data, and the kernel writes into it.
    let found = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WNOWAIT;
        libc::waitid(libc::P_PID, pid.cast_unsigned(), &mut info, flags)
    };
    assert_eq!(found, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_worker_that_gives_up_reports_why() {
    let why = |work: WorkType| {
        let mut handle = WorkloadHandle::spawn(&of(work, 1)).unwrap();
        handle.start();
        ended(handle.worker_pids()[0]);
        match handle.stop_and_collect().remove(0).exit_info {
            Some(WorkerExitInfo::WaitFailed(why)) => why,
            other => panic!("{other:?}"),
        }
    };
    let amx = why(WorkType::alu_hot(AluWidth::Amx));
    assert!(amx.contains("AMX") && amx.contains("Widest"), "{amx}");
    let nodes = why(WorkType::numa_working_set_sweep(4, 1, vec![1000]));
    assert!(nodes.contains("memory policy"), "{nodes}");
}

#[test]
fn a_herd_stops_after_its_last_batch() {
    let herd = WorkType::thundering_herd(2, 3, 1);
    let mut handle = WorkloadHandle::spawn(&of(herd, 3)).unwrap();
    handle.start();
    until("three batches", || handle.snapshot_iterations()[0] == 3);
    // This is long enough for several more batches, which must not come.
    std::thread::sleep(Duration::from_millis(30));
    let reports = handle.stop_and_collect();
    assert!(reports.iter().all(|r| r.completed && r.iterations <= 3));
    assert_eq!(reports[0].iterations, 3);
}

#[test]
fn threads_share_one_process_and_have_their_own_counters() {
    let mut config = of(WorkType::SpinWait, 2).clone_mode(CloneMode::Thread);
    config.comm = Some("own-name".to_owned());
    let config = config.push_composed(WorkSpec::new(WorkType::futex_ping_pong(16)).workers(2));
    let mut handle = WorkloadHandle::spawn(&config).unwrap();
    assert!(handle.worker_pids_for_cgroup_procs().is_err());
    let leader = handle.process_ids();
    assert_eq!(leader.len(), 1);
    let tids = handle.worker_pids();
    assert_eq!(tids.iter().collect::<BTreeSet<_>>().len(), 4);
    for tid in &tids {
        let status = std::fs::read_to_string(format!("/proc/{}/task/{tid}/status", leader[0]));
        assert!(status.unwrap().contains(&format!("Tgid:\t{}\n", leader[0])));
    }
    let comm = std::fs::read_to_string(format!("/proc/{}/comm", tids[1])).unwrap();
    assert_eq!(comm.trim(), "own-name");
    // A worker that is declared without a name is named after its work type.
    let comm = std::fs::read_to_string(format!("/proc/{}/comm", tids[2])).unwrap();
    assert_eq!(comm.trim(), "FutexPingPong");
    handle.start();
    progress(&handle);
    for (at, report) in handle.stop_and_collect().iter().enumerate() {
        assert!(report.completed && report.iterations > 5, "{report:?}");
        assert_eq!(report.group_idx, at / 2);
        // The stop signal reaches each thread, so none of them stays blocked.
        assert!(report.wall_time_ns < 60_000_000_000, "{report:?}");
        assert_eq!(report.wake_sample_total > 0, at >= 2);
    }
    assert!(gone(leader[0]));
}

#[test]
fn a_leader_has_its_given_name() {
    let config = of(WorkType::SpinWait, 2);
    let handle = WorkloadHandle::spawn_pcomm_cgroup("my-leader", &config).unwrap();
    let procs = handle.worker_pids_for_cgroup_procs().unwrap();
    assert_eq!(procs.len(), 1);
    let comm = std::fs::read_to_string(format!("/proc/{}/comm", procs[0])).unwrap();
    assert_eq!(comm.trim(), "my-leader");
    drop(handle);
    assert!(gone(procs[0]));
    assert!(WorkloadHandle::spawn_pcomm_cgroup("longer-than-fifteen", &config).is_err());
}

#[test]
fn parked_workers_stop_iterating_and_the_first_iteration_is_reported() {
    let mut config = of(WorkType::SpinWait, 2);
    config.park_after_iterations = Some(7);
    config.signal_first_iteration = true;
    let mut handle = WorkloadHandle::spawn(&config).unwrap();
    let early = handle.wait_first_iterations(Duration::from_millis(1));
    assert!(early.unwrap_err().to_string().contains("0 of 2"));
    handle.start();
    handle
        .wait_first_iterations(Duration::from_secs(60))
        .unwrap();
    assert!(handle.total_iterations() <= 14);
    until("seven iterations each", || {
        handle.snapshot_iterations() == [7, 7]
    });
    for report in handle.stop_and_collect() {
        assert!(report.completed);
        assert_eq!(report.iterations, 7);
    }
    let silent = WorkloadHandle::spawn(&of(WorkType::SpinWait, 1)).unwrap();
    assert!(silent.wait_first_iterations(Duration::ZERO).is_err());
}

fn counts(ctx: &SeenCtx) -> WorkerReport {
    // On a busy host, the worker may first run after the stop. It counts one round even then.
    let mut rounds = 1;
    while !ctx.stop().load(Relaxed) {
        rounds += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    WorkerReport {
        iterations: rounds,
        work_units: ctx.cfg().u64s[1] + ctx.cpus().len() as u64,
        migration_count: ctx.sibling_pids().len() as u64,
        ..WorkerReport::default()
    }
}

fn panics(_: &SeenCtx) -> WorkerReport {
    panic!("on purpose");
}

#[test]
fn a_function_of_the_test_is_a_worker() {
    let cfg = CustomCfg {
        u64s: [0, 1000, 0, 0],
        ..CustomCfg::default()
    };
    let config = of(WorkType::custom_with("counts", counts, cfg), 2);
    let mut handle = WorkloadHandle::spawn(&config).unwrap();
    handle.start();
    std::thread::sleep(Duration::from_millis(50));
    let pids = handle.worker_pids();
    let cpus = u64::from(sys::mask_len(&sys::affinity(0)));
    for (at, report) in handle.stop_and_collect().into_iter().enumerate() {
        assert!(report.completed && report.exit_info.is_none(), "{report:?}");
        assert_eq!(report.tid, pids[at]);
        assert!(report.iterations > 0 && report.wall_time_ns > 0);
        assert_eq!(report.work_units, 1000 + cpus);
        assert_eq!(report.migration_count, at as u64, "siblings started before");
        assert_eq!(report.phase_slices.len(), 1);
    }
    let mut handle = WorkloadHandle::spawn(&of(WorkType::custom("panics", panics), 1)).unwrap();
    handle.start();
    std::thread::sleep(Duration::from_millis(50));
    let report = handle.stop_and_collect().remove(0);
    assert_eq!(
        report.exit_info,
        Some(WorkerExitInfo::Panicked("on purpose".to_owned()))
    );
}
