//! Tests of buckets that are built from captures, stimulus events and the guest's reports per cgroup (carriers).

use super::*;
use crate::phase::Phase;
use crate::series::{DrainedSnapshotEntry, SampleSeries};
use crate::stats::PhaseBucket;
use crate::stimulus::StimulusEvent;
use crate::worker::{WorkerReport, carrier};
use ktstr_snapshot::report::{
    CgroupPsi, CpuStat, FailureDumpReport, PerCpuTimeStats, PsiLine, RqScxState, Section,
    TaskEnrichment,
};

fn capture(at: u64, step: u16, depth: u32) -> DrainedSnapshotEntry {
    let report = FailureDumpReport {
        rq_scx_states: vec![RqScxState {
            local_dsq_depth: depth,
            ..RqScxState::default()
        }]
        .into(),
        ..FailureDumpReport::default()
    };
    DrainedSnapshotEntry {
        elapsed_ms: Some(at),
        step_index: Some(step),
        ..DrainedSnapshotEntry::new(format!("periodic_{at}"), report)
    }
}

fn series(entries: Vec<DrainedSnapshotEntry>) -> SampleSeries {
    SampleSeries::from_drained_typed(entries, None)
}

fn guest(step: Phase, cgroup: &str) -> PhaseBucket {
    let worker = WorkerReport {
        iterations: 50,
        cpu_time_ns: 500_000_000,
        ..WorkerReport::default()
    };
    let mut b = PhaseBucket::new(step);
    b.per_cgroup
        .insert(cgroup.into(), carrier(&[worker.clone(), worker]));
    b
}

const S0: Phase = Phase::step(0);
const S1: Phase = Phase::step(1);

#[test]
fn without_events_the_stamps_decide() {
    assert!(build_phase_buckets(&SampleSeries::empty()).is_empty());
    let b = build_phase_buckets(&series(vec![
        capture(10, 1, 3),
        capture(20, 1, 5),
        capture(5, 0, 1),
    ]));
    let labels: Vec<_> = b
        .iter()
        .map(|b| (b.label.as_str(), b.sample_count))
        .collect();
    assert_eq!(labels, [("BASELINE", 1), ("Step[0]", 2)]);
    assert_eq!(b[1].get("max_dsq_depth"), Some(5.0));
    assert_eq!((b[1].start_ms, b[1].end_ms), (10, 20));
}

#[test]
fn a_step_without_captures_gets_its_bucket_and_window() {
    let events = [
        StimulusEvent::step_start(S0, 100).with_total_iterations(0),
        StimulusEvent::step_end(S0, 600).with_total_iterations(1000),
        StimulusEvent::step_start(S1, 600),
    ];
    let s = series(vec![capture(50, 0, 0), capture(300, 1, 2)]);
    let b = build_phase_buckets_with_stimulus(&s, &events);
    assert_eq!(
        b.iter().map(|b| b.step_index).collect::<Vec<_>>(),
        [0, 1, 2]
    );
    assert_eq!(b.iter().map(|b| b.sample_count).sum::<usize>(), s.len());
    assert_eq!((b[0].start_ms, b[0].end_ms), (0, 100));
    assert_eq!((b[1].start_ms, b[1].end_ms), (100, 600));
    assert_eq!(b[1].get("iteration_rate"), Some(2000.0));
    assert_eq!((b[2].sample_count, b[2].get("max_dsq_depth")), (0, None));
}

#[test]
fn carriers_are_merged_into_their_bucket_or_get_a_new_one() {
    let mut host = build_phase_buckets(&series(vec![capture(300, 1, 2)]));
    fold_carriers(
        &mut host,
        vec![guest(S1, "cg_b"), guest(S0, "cg_a"), guest(S0, "cg_c")],
    );
    assert_eq!(
        host.iter().map(|b| b.label.as_str()).collect::<Vec<_>>(),
        ["Step[0]", "Step[1]"]
    );
    assert_eq!(
        host[0].per_cgroup.keys().collect::<Vec<_>>(),
        ["cg_a", "cg_c"]
    );
    assert_eq!((host[1].start_ms, host[1].end_ms), (0, 0));
    assert_eq!(host[0].metric("total_migrations"), Some(0.0));
    assert_eq!(host[0].metric("total_iterations"), Some(200.0));
    assert_eq!(
        host[0].cgroup_metric("cg_a", "total_cpu_time_ns"),
        Some(1e9)
    );
    assert_eq!(
        host[0].cgroup_metric("no_such_cgroup", "total_cpu_time_ns"),
        None
    );
    assert_eq!(host[0].get("iteration_rate"), Some(100.0));
    assert_eq!(PhaseBucket::new(S0).metric("total_migrations"), None);
}

/// The rate of the timeline is per second of guest time, that of the other phases per second of CPU time.
#[test]
fn a_phase_without_the_cpu_time_of_a_worker_has_no_iteration_rate() {
    let events = [
        StimulusEvent::step_start(S0, 100).with_total_iterations(0),
        StimulusEvent::step_end(S0, 600).with_total_iterations(1000),
    ];
    let mut host = build_phase_buckets_with_stimulus(&series(vec![capture(300, 1, 2)]), &events);
    let mut step = PhaseBucket::new(S0);
    let died = WorkerReport {
        iterations: 50,
        cpu_unknown: true,
        ..WorkerReport::default()
    };
    step.per_cgroup.insert("cg".into(), carrier(&[died]));
    fold_carriers(&mut host, vec![step]);
    let step = host.iter().find(|b| b.step_index == S0.as_u16());
    assert_eq!(step.and_then(|b| b.get("iteration_rate")), None);
}

#[test]
fn a_window_without_an_end_does_not_end_before_its_start() {
    let events = [StimulusEvent::step_start(S0, 500)];
    let b = build_phase_buckets_with_stimulus(&SampleSeries::empty(), &events);
    assert_eq!((b[0].start_ms, b[0].end_ms), (500, 500));
}

/// There are two CPUs. CPU 0 takes all interrupts, and is busy for 250 of the 1,000 ms between the first capture and the
/// last; CPU 1 does nothing.
#[test]
fn interrupts_between_the_first_capture_of_a_phase_and_its_last() {
    let at = |ms: u64, per_cpu: [u64; 2]| {
        let mut entry = capture(ms, 1, 0);
        let time = |(cpu, n): (usize, u64)| PerCpuTimeStats {
            cpu: cpu as u32,
            cpustat: CpuStat {
                user_ns: n * 1_000_000,
                irq_ns: n * 250_000,
                idle_ns: ms * 1_000_000,
                steal_ns: 7,
                ..CpuStat::default()
            },
            softirqs: [n, 2 * n, 0, 0, 0, 0, 0, 3 * n, 0, 0],
            irqs_sum: n,
        };
        let times: Vec<_> = per_cpu.into_iter().enumerate().map(time).collect();
        entry.report.per_cpu_time = times.into();
        entry
    };
    let of = |entries| {
        let buckets = build_phase_buckets(&series(entries));
        move |name: &str| buckets[0].metrics.get(name).copied()
    };
    let got = of(vec![
        at(1000, [50, 5]),
        at(1500, [60, 9]),
        at(2000, [250, 5]),
    ]);
    for (name, value) in [
        ("total_hardirqs", 200.0),
        ("max_cpu_hardirqs", 200.0),
        ("max_cpu_hardirq_concentration", 2.0),
        ("total_softirq_timer", 400.0),
        ("total_softirq_sched", 600.0),
        ("total_softirq_net_rx", 0.0),
        ("total_steal_time_ns", 0.0),
        ("total_irq_time_ns", 5e7),
        ("total_phase_guest_cpu_ns", 2.5e8),
        ("total_phase_guest_cpu_sec", 0.25),
        ("hardirqs_per_cpu_sec", 800.0),
        ("irq_time_fraction", 0.2),
    ] {
        assert_eq!(got(name), Some(value), "{name}");
    }
    assert_eq!(got("max_cpu_softirq_net_rx_concentration"), None);
    let one = of(vec![at(1000, [50, 5])]);
    assert_eq!(
        (one("total_hardirqs"), one("avg_nr_running")),
        (None, Some(0.0))
    );
    let other_cpus = of(vec![capture(900, 1, 0), at(1000, [50, 5])]);
    assert_eq!(other_cpus("total_hardirqs"), None);
}

#[test]
fn the_first_event_of_a_step_opens_it_whatever_its_label() {
    let event = |elapsed_ms, step: u16, label: &str| StimulusEvent {
        elapsed_ms,
        label: label.into(),
        step_index: Some(step),
        ..StimulusEvent::default()
    };
    let events = [
        event(10, 1, "start"),
        event(40, 1, "an operation"),
        StimulusEvent {
            is_step_end: true,
            ..event(90, 1, "end")
        },
        event(100, 2, "start"),
    ];
    let buckets = build_phase_buckets_with_stimulus(&SampleSeries::empty(), &events);
    let windows: Vec<_> = buckets
        .iter()
        .map(|b| (b.label.as_str(), b.start_ms, b.end_ms))
        .collect();
    assert_eq!(windows, [("Step[0]", 10, 90), ("Step[1]", 100, 100)]);
}

/// Task 1 is in all captures, task 2 ends after the second capture, and task 3 begins after that capture.
#[test]
fn the_cpu_time_of_tasks_is_what_it_grew_by_between_captures() {
    let task = |pid: i32, kva: u64, utime_ns: u64, stime_ns: u64| TaskEnrichment {
        pid,
        task_kva: kva,
        utime_ns,
        stime_ns,
        ..TaskEnrichment::default()
    };
    let at = |ms: u64, tasks: Vec<TaskEnrichment>| {
        let mut entry = capture(ms, 1, 0);
        entry.report.task_enrichments = tasks.into();
        entry
    };
    let entries = || {
        vec![
            at(
                100,
                vec![task(0, 9, 0, 0), task(1, 10, 50, 5), task(2, 20, 7, 0)],
            ),
            at(
                200,
                vec![task(0, 9, 0, 90), task(1, 10, 70, 5), task(2, 20, 9, 1)],
            ),
            at(
                300,
                vec![task(0, 9, 0, 99), task(1, 10, 71, 8), task(3, 20, 30, 12)],
            ),
        ]
    };
    let of = |entries| {
        let buckets = build_phase_buckets(&series(entries));
        move |name: &str| buckets[0].get(name)
    };
    let got = of(entries());
    for (name, value) in [
        ("user_time_ns", 20.0 + 2.0 + 1.0 + 30.0),
        ("system_time_ns", 1.0 + 3.0 + 12.0),
        ("observed_task_cpu_time_ns", 69.0),
        ("system_cpu_fraction", 16.0 / 69.0),
    ] {
        assert_eq!(got(name), Some(value), "{name}");
    }
    // Task 3 may be older than the second capture, whose list was cut.
    let mut cut = entries();
    let tasks = cut[1].report.task_enrichments.to_vec();
    cut[1].report.task_enrichments = Section::Part(tasks, "cut".to_owned());
    let got = of(cut);
    assert_eq!(got("observed_task_cpu_time_ns"), Some(27.0));
    let one = of(vec![at(100, vec![task(1, 10, 50, 5)])]);
    assert_eq!(one("user_time_ns"), None);
}

/// The root cgroup stands for the whole machine. Cgroup `/b` is younger than the first capture.
#[test]
fn the_pressure_of_interrupts_in_the_machine_and_in_its_cgroups() {
    let at = |ms: u64, line: &str, groups: &[(&str, f64, u64)]| {
        let mut entry = capture(ms, 1, 0);
        let group = |(path, avg10, total_us): &(&str, f64, u64)| CgroupPsi {
            path: (*path).to_owned(),
            lines: [(
                line.to_owned(),
                PsiLine {
                    avg10: *avg10,
                    total_us: *total_us,
                },
            )]
            .into(),
        };
        entry.report.cgroup_psi = groups.iter().map(group).collect::<Vec<_>>().into();
        entry
    };
    let of = |entries| {
        let buckets = build_phase_buckets(&series(entries));
        move |name: &str| buckets[0].get(name)
    };
    let line = "irq.full";
    let first = || at(100, line, &[("/", 1.0, 100), ("/a", 4.0, 50)]);
    let later = vec![
        first(),
        at(
            200,
            line,
            &[("/", 2.0, 150), ("/a", 0.0, 70), ("/b", 9.0, 1)],
        ),
        at(
            300,
            line,
            &[("/", 6.0, 400), ("/a", 0.5, 80), ("/b", 1.0, 11)],
        ),
    ];
    let got = of(later);
    for (name, value) in [
        ("psi_irq_full_avg10", 3.0),
        ("total_irq_pressure_us", 300.0),
        ("max_cgroup_psi_irq_avg10", 9.0),
        ("max_cgroup_irq_pressure", 30.0),
        ("max_cgroup_irq_pressure_concentration", 1.5),
    ] {
        assert_eq!(got(name), Some(value), "{name}");
    }
    let one = of(vec![first()]);
    assert_eq!(one("max_cgroup_psi_irq_avg10"), Some(4.0));
    assert_eq!(one("total_irq_pressure_us"), None);
    // A kernel that does not account the time of interrupts has no such line.
    let other = of(vec![at(100, "cpu.some", &[("/", 1.0, 1), ("/a", 1.0, 1)])]);
    assert_eq!(other("psi_irq_full_avg10"), None);
}
