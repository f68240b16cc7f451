//! Tests of the monitor's thresholds: runs within all of them, runs that break one, and runs without usable samples. Work
//! conservation is tested in `tests_waiting.rs`.

use super::*;
use crate::check::Assert;

const SEC: u64 = 1_000_000_000;

/// Creates a report with six samples of two CPUs, 100 ms apart. `f` gets `i`, `c` and CPU `c` of sample `i`, and can
/// modify this CPU.
fn report(f: impl Fn(usize, usize, &mut CpuSnapshot)) -> MonitorReport {
    let cpu = |i: usize, c: usize| {
        let mut cpu = CpuSnapshot {
            nr_running: 2,
            local_dsq_depth: 1,
            rq_clock: (i as u64 + 1) * 100_000_000 + c as u64,
            vcpu_cpu_time_ns: Some(i as u64 * SEC),
            event_counters: Some(ScxEventCounters::default()),
            ..CpuSnapshot::default()
        };
        f(i, c, &mut cpu);
        cpu
    };
    let sample = |i: usize| MonitorSample {
        elapsed_ms: i as u64 * 100,
        cpus: vec![cpu(i, 0), cpu(i, 1)],
        ..MonitorSample::default()
    };
    let samples: Vec<_> = (0..6).map(sample).collect();
    MonitorReport {
        summary: MonitorSummary::of(&samples),
        samples,
        ..MonitorReport::default()
    }
}

fn judged(f: impl Fn(usize, usize, &mut CpuSnapshot)) -> MonitorVerdict {
    let thresholds = MonitorThresholds {
        enforce: true,
        ..MonitorThresholds::default()
    };
    thresholds.evaluate(&report(f))
}

#[test]
fn a_sound_run() {
    let v = judged(|_, _, _| {});
    assert!(v.passed && v.summary == "monitor OK", "{v:?}");
    assert!(v.into_result().is_pass());
    let s = report(|_, _, _| {}).summary;
    assert_eq!(
        (s.total_samples, s.stuck_count, s.avg_nr_running),
        (6, 0, 2.0)
    );
}

#[test]
fn each_threshold_broken() {
    for (f, message) in [
        (
            (|_, c, cpu| {
                if c == 0 {
                    cpu.nr_running = 20
                }
            }) as fn(usize, usize, &mut CpuSnapshot),
            "imbalance ratio above 4 for 5 samples in a row, until +400ms",
        ),
        (
            |_, c, cpu| {
                if c == 1 {
                    cpu.local_dsq_depth = 51
                }
            },
            "cpu1: local DSQ deeper than 50 for 5 samples in a row, until +400ms",
        ),
        (
            |_, c, cpu| {
                if c == 1 {
                    cpu.rq_clock = 7
                }
            },
            "cpu1: runqueue clock did not advance for 5 samples in a row, until +500ms",
        ),
        (
            |i, c, cpu| {
                if c == 0 {
                    cpu.event_counters
                        .get_or_insert_default()
                        .select_cpu_fallback = i as i64 * 402
                }
            },
            "select_cpu_fallback above 200 events per vCPU-second for 5 samples in a row, until +500ms",
        ),
        (
            |i, c, cpu| {
                if c == 0 {
                    cpu.event_counters
                        .get_or_insert_default()
                        .dispatch_keep_last = i as i64 * 202
                }
            },
            "dispatch_keep_last above 100 events per vCPU-second for 5 samples in a row, until +500ms",
        ),
    ] {
        let v = judged(f);
        assert_eq!(v.details, [message]);
        assert_eq!(v.summary, "monitor FAILED: 1 violation(s)");
        assert!(v.into_result().is_fail());
    }
}

#[test]
fn a_short_breach_is_not_a_violation() {
    assert!(
        judged(|i, c, cpu| if i < 4 && c == 0 {
            cpu.nr_running = 20
        })
        .passed
    );
}

#[test]
fn idle_and_starved_cpus_are_not_stuck() {
    let idle = |_, c, cpu: &mut CpuSnapshot| {
        if c == 1 {
            (cpu.rq_clock, cpu.nr_running) = (7, 0)
        }
    };
    assert!(judged(idle).passed);
    let starved = |_, c, cpu: &mut CpuSnapshot| {
        if c == 1 {
            (cpu.rq_clock, cpu.vcpu_cpu_time_ns) = (7, Some(0))
        }
    };
    assert!(judged(starved).passed);
}

#[test]
fn implausible_samples_are_inconclusive() {
    let none = MonitorThresholds::default().evaluate(&MonitorReport::default());
    assert_eq!(none.summary, "no monitor samples");
    assert!(none.into_result().is_inconclusive());
    let deep = judged(|_, _, cpu| cpu.local_dsq_depth = 10_001);
    assert_eq!(
        deep.summary,
        "monitor data not yet initialized: the samples of the runqueues are implausible"
    );
    assert!(judged(|_, _, cpu| cpu.rq_clock = 0).inconclusive);
}

#[test]
fn without_enforcement_violations_are_notes() {
    let broken = report(|_, c, cpu| {
        if c == 0 {
            cpu.nr_running = 20
        }
    });
    let v = MonitorThresholds::default().evaluate(&broken);
    let r = v.into_result();
    assert!(r.is_pass() && r.info_notes.len() == 1);
}

#[test]
fn thresholds_come_from_the_test() {
    assert_eq!(
        MonitorThresholds::from_assert(&Assert::default_checks()),
        None
    );
    let t = MonitorThresholds::from_assert(&Assert::NO_OVERRIDES.with_monitor_defaults())
        .expect("a bound is set");
    assert_eq!(
        t,
        MonitorThresholds {
            enforce: true,
            ..MonitorThresholds::default()
        }
    );
}

#[test]
fn only_the_named_bounds_of_an_enforced_set_are_judged() {
    let one = Assert {
        enforce_monitor_thresholds: true,
        ..Assert::NO_OVERRIDES.work_conservation(true)
    };
    let enforced = MonitorThresholds::from_assert(&one).expect("a bound is set");
    assert!(enforced.enforce && enforced.work_conservation);
    assert_eq!(enforced.max_local_dsq_depth, u32::MAX);
    let reported =
        MonitorThresholds::from_assert(&one.report_monitor_only(true)).expect("a bound is set");
    assert!(!reported.enforce && reported.work_conservation);
    assert_eq!(reported.max_local_dsq_depth, 50);
}
