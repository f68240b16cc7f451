//! Waiting tasks in hand-made samples: imbalance, depth, keep-last and work conservation.

use super::*;

const BOTH: u64 = 0b11;

/// Creates `n` waiting tasks with consecutive pids from `pid` on.
fn waiting(pid: i32, n: i32, allowed: u64, queue: WaitsIn) -> Vec<WaitingTask> {
    let task = |pid| WaitingTask {
        pid,
        comm: "w".into(),
        allowed: vec![allowed],
        queue,
        ran_ns: 5,
        behind_higher_class: false,
    };
    (pid..pid + n).map(task).collect()
}

fn cpu(idle: bool, waiting: Vec<WaitingTask>) -> CpuSnapshot {
    CpuSnapshot {
        nr_running: waiting.len() as u32 + u32::from(!idle),
        local_dsq_depth: waiting.len() as u32,
        idle: Some(idle),
        nr_switches: Some(7),
        waiting: Some(waiting),
        ..CpuSnapshot::default()
    }
}

fn sample(i: usize, cpus: Vec<CpuSnapshot>) -> MonitorSample {
    let mut cpus = cpus;
    for cpu in &mut cpus {
        cpu.rq_clock = (i as u64 + 1) * 100_000_000;
    }
    MonitorSample {
        elapsed_ms: i as u64 * 100,
        cpus,
        ..MonitorSample::default()
    }
}

fn judged(f: impl Fn(usize) -> Vec<CpuSnapshot>) -> Vec<String> {
    judged_long(6, f)
}

fn judged_long(samples: usize, f: impl Fn(usize) -> Vec<CpuSnapshot>) -> Vec<String> {
    let report = MonitorReport {
        samples: (0..samples).map(|i| sample(i, f(i))).collect(),
        ..MonitorReport::default()
    };
    MonitorThresholds::default().evaluate(&report).details
}

#[test]
fn a_cpuset_makes_no_imbalance() {
    let confined = |_| {
        let tasks = waiting(1, 8, 0b01, WaitsIn::Local);
        vec![cpu(false, tasks), cpu(true, vec![])]
    };
    assert_eq!(judged(confined), [""; 0]);
    let free = |_| {
        let tasks = waiting(1, 8, BOTH, WaitsIn::Local);
        vec![cpu(false, tasks), cpu(false, vec![])]
    };
    assert_eq!(
        judged(free),
        ["imbalance ratio above 4 for 5 samples in a row, until +400ms"]
    );
    // In a queue that both CPUs serve, the CPU on which a task is counted means nothing.
    let shared = |_| {
        let tasks = waiting(1, 8, BOTH, WaitsIn::Shared);
        vec![cpu(false, tasks), cpu(false, vec![])]
    };
    assert_eq!(judged(shared), [""; 0]);
}

#[test]
fn a_local_queue_of_tasks_that_cannot_leave_is_not_too_deep() {
    let deep = |allowed| {
        move |_| {
            let tasks = waiting(1, 60, allowed, WaitsIn::Local);
            vec![cpu(false, tasks), cpu(false, vec![])]
        }
    };
    let depth = |details: Vec<String>| details.iter().any(|d| d.contains("local DSQ deeper"));
    assert!(depth(judged(deep(BOTH))));
    assert!(!depth(judged(deep(0b01))));
    // The list has 64 of the queue's 69 tasks; the others are unknown. In the first case none of the listed tasks can leave,
    // in the second all can.
    let more = |allowed, queue| {
        move |_| {
            let mut full = cpu(false, waiting(1, 64, allowed, queue));
            full.local_dsq_depth = 69;
            vec![full, cpu(false, vec![])]
        }
    };
    assert!(!depth(judged(more(0b01, WaitsIn::Local))));
    assert!(depth(judged(more(BOTH, WaitsIn::Local))));
    // The list shows no task of the local queue.
    assert!(!depth(judged(more(BOTH, WaitsIn::Shared))));
    // Other tasks take up much of the list, and all of the local queue's tasks in it could leave.
    let mixed = |_| {
        let mut tasks = waiting(1, 20, BOTH, WaitsIn::Shared);
        tasks.extend(waiting(100, 44, BOTH, WaitsIn::Local));
        let mut full = cpu(false, tasks);
        full.local_dsq_depth = 5000;
        vec![full, cpu(false, vec![])]
    };
    assert!(depth(judged(mixed)));
    // Of the local queue's tasks in the list, only one could leave.
    let one = |_| {
        let mut tasks = waiting(1, 63, 0b01, WaitsIn::Local);
        tasks.extend(waiting(100, 1, BOTH, WaitsIn::Local));
        let mut full = cpu(false, tasks);
        full.local_dsq_depth = 69;
        vec![full, cpu(false, vec![])]
    };
    assert!(!depth(judged(one)));
}

/// Only the first sample confines the tasks to CPU 0. After that sample, a balancer has 1000 ms to start using CPU 1. After this
/// time, five samples of an idle CPU 1 are enough for a finding.
#[test]
fn a_cpu_that_was_newly_allowed_may_idle_for_a_second() {
    let widened = |i| {
        let allowed = if i == 0 { 0b01 } else { BOTH };
        let tasks = waiting(1, 8, allowed, WaitsIn::Local);
        vec![cpu(false, tasks), cpu(true, vec![])]
    };
    assert_eq!(judged_long(14, widened), [""; 0]);
    let late = judged_long(15, widened);
    assert_eq!(
        late[0],
        "imbalance ratio above 4 for 5 samples in a row, until +1400ms"
    );
    assert!(late[1].starts_with("cpu1 idled while w[1]"), "{late:?}");
}

/// An offline CPU runs its idle task. No other task may run on it, so it is not wasted.
#[test]
fn an_offline_cpu_is_not_idle_while_tasks_wait() {
    let with = |online| {
        move |_| {
            let mut other = cpu(true, vec![]);
            other.online = online;
            vec![cpu(false, waiting(1, 3, BOTH, WaitsIn::Local)), other]
        }
    };
    assert_eq!(judged(with(Some(false))), [""; 0]);
    for online in [Some(true), None] {
        assert!(judged(with(online))[0].starts_with("cpu1 idled while w[1]"));
    }
}

#[test]
fn a_cpu_that_idles_while_tasks_wait() {
    let other = |i: usize| i as i32 * 10;
    // A different task waits each time, so the finding is about the CPU.
    let skipped = |i| {
        let mut idle = cpu(true, vec![]);
        idle.nr_switches = Some(3);
        vec![
            cpu(false, waiting(other(i) + 1, 1, BOTH, WaitsIn::Shared)),
            idle,
        ]
    };
    assert_eq!(
        judged(skipped),
        [
            "cpu1 idled while w[41], which may run there, waited, for 5 samples in a row, until +400ms"
        ]
    );
    // The idle CPU ran other tasks between the samples.
    let came_and_went = |i| {
        let mut cpus = skipped(i);
        cpus[1].nr_switches = Some(i as u64);
        cpus
    };
    assert_eq!(judged_long(9, came_and_went), [""; 0]);
    // Ten samples, in all of which the CPU was idle, are nevertheless enough for a finding.
    assert_eq!(
        judged_long(10, came_and_went),
        [
            "cpu1 idled while w[91], which may run there, waited, for 10 samples in a row, until +900ms"
        ]
    );
    // The waiting task may not run on the idle CPU.
    let elsewhere = |i| {
        let tasks = waiting(other(i) + 1, 1, 0b01, WaitsIn::Shared);
        vec![cpu(false, tasks), cpu(true, vec![])]
    };
    assert_eq!(judged(elsewhere), [""; 0]);
    // The host kept the idle CPU's vCPU from running.
    let starved = |i| {
        let mut cpus = skipped(i);
        cpus[1].vcpu_run_delay_ns = Some(i as u64 * 50_000_000);
        cpus
    };
    assert_eq!(judged_long(20, starved), [""; 0]);
}

#[test]
fn a_task_that_waits_while_cpus_come_and_go() {
    let forgotten = |ran: fn(usize) -> u64| {
        move |i: usize| {
            let mut task = waiting(9, 1, BOTH, WaitsIn::Bpf);
            task[0].ran_ns = ran(i);
            let mut cpus = vec![
                cpu(i.is_multiple_of(2), task),
                cpu(!i.is_multiple_of(2), vec![]),
            ];
            for cpu in &mut cpus {
                cpu.nr_switches = Some(i as u64);
            }
            cpus
        }
    };
    assert_eq!(
        judged(forgotten(|_| 5)),
        [
            "w[9] waited and got no CPU while cpu0, where it may run, idled, for 5 samples in a row, \
             until +400ms"
        ]
    );
    assert_eq!(judged(forgotten(|i| i as u64)), [""; 0]);
}

#[test]
fn keeping_the_last_task_is_correct_while_no_task_waits() {
    let keeps = |waits: bool| {
        move |i: usize| {
            let tasks = match waits {
                true => waiting(3, 1, BOTH, WaitsIn::Shared),
                false => vec![],
            };
            let mut cpus = vec![cpu(false, tasks), cpu(false, vec![])];
            for cpu in &mut cpus {
                cpu.event_counters = Some(ScxEventCounters {
                    dispatch_keep_last: i as i64 * 20,
                    ..ScxEventCounters::default()
                });
            }
            cpus
        }
    };
    assert_eq!(judged(keeps(false)), [""; 0]);
    assert_eq!(
        judged(keeps(true)),
        [
            "dispatch_keep_last above 100 events per vCPU-second for 5 samples in a row, until +500ms"
        ]
    );
}

#[test]
fn samples_after_the_schedulers_end_are_not_judged() {
    let deep = |_: usize| {
        let tasks = waiting(1, 60, BOTH, WaitsIn::Local);
        vec![cpu(false, tasks), cpu(false, vec![])]
    };
    let samples = (0..6).map(|i| MonitorSample {
        scx_attached: Some(i < 3),
        ..sample(i, deep(i))
    });
    let report = MonitorReport {
        samples: samples.collect(),
        ..MonitorReport::default()
    };
    let verdict = MonitorThresholds::default().evaluate(&report);
    assert!(verdict.passed && !verdict.inconclusive, "{verdict:?}");
}

/// Samples before a detach and after the next attach do not add up to a violation.
#[test]
fn samples_on_both_sides_of_a_time_without_the_scheduler_are_not_consecutive() {
    let verdict = |attached: fn(usize) -> bool| {
        let samples = (0..9).map(|i| MonitorSample {
            scx_attached: Some(attached(i)),
            ..sample(
                i,
                vec![
                    cpu(false, waiting(1, 60, BOTH, WaitsIn::Local)),
                    cpu(false, vec![]),
                ],
            )
        });
        let report = MonitorReport {
            samples: samples.collect(),
            ..MonitorReport::default()
        };
        MonitorThresholds::default().evaluate(&report)
    };
    assert!(verdict(|i| i != 4).passed);
    assert!(!verdict(|i| i != 3).passed);
}

#[test]
fn metrics_of_a_run_and_of_a_phase() {
    assert!(metrics(&[]).is_empty());
    let samples: Vec<_> = (0..6)
        .map(|i| {
            let mut cpus = vec![cpu(false, vec![]), cpu(true, vec![])];
            for cpu in &mut cpus {
                cpu.event_counters = Some(ScxEventCounters {
                    select_cpu_fallback: i as i64 * 10,
                    ..ScxEventCounters::default()
                });
                cpu.schedstat = Some(CpuSchedstat {
                    run_delay: i as u64 * 1000,
                    pcount: i as u64 * 2,
                    ..CpuSchedstat::default()
                });
            }
            sample(i, cpus)
        })
        .collect();
    let run = metrics(&samples);
    let get = |name: &str| run.get(name).copied();
    assert_eq!(get("total_fallback"), Some(100.0));
    assert_eq!(get("total_event_vcpu_sec"), Some(1.0));
    assert_eq!(get("fallback_per_vcpu_sec"), Some(100.0));
    assert_eq!(get("total_run_delay_ns_per_sched"), Some(500.0));
    assert_eq!(get("avg_nr_running"), Some(0.5));
    // Without kernel.sched_schedstats=1 the kernel does not count wakeups.
    assert_eq!(get("total_ttwu_count"), None);
    assert_eq!(get("ttwu_local_fraction"), None);
    // A single sample shows no growth.
    assert_eq!(metrics(&samples[..1]).get("total_fallback"), None);

    let mut phases = vec![crate::PhaseBucket::new(crate::Phase::step(0))];
    (phases[0].start_ms, phases[0].end_ms) = (100, 300);
    fold_into(&mut phases, &samples);
    assert_eq!(phases[0].get("total_fallback"), Some(40.0));
}

/// The kernel itself puts a task that was preempted by a real-time task into the CPU's local queue, without asking the scheduler.
#[test]
fn a_task_behind_a_real_time_task_is_not_left_waiting_by_the_scheduler() {
    let behind = |behind_higher_class| {
        judged_long(6, |_| {
            let mut tasks = waiting(1, 1, BOTH, WaitsIn::Local);
            tasks[0].behind_higher_class = behind_higher_class;
            vec![cpu(false, tasks), cpu(true, vec![])]
        })
    };
    assert_eq!(behind(true), [""; 0]);
    assert_eq!(behind(false).len(), 2, "{:?}", behind(false));
}
