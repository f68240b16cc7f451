//! The monitor's bounds, applied to recorded samples.

use super::fixture::{Pair, hold_and_fail, monitor};
use ktstr_assert::Assert;
use ktstr_assert::monitor::{MonitorReport, MonitorThresholds, MonitorVerdict};

/// Returns thresholds in which every check is off, or has a bound that no sample exceeds.
fn lenient() -> MonitorThresholds {
    MonitorThresholds {
        max_imbalance_ratio: f64::INFINITY,
        max_local_dsq_depth: u32::MAX,
        fail_on_rq_clock_stuck: false,
        sustained_samples: 5,
        max_fallback_rate: f64::INFINITY,
        max_keep_last_rate: f64::INFINITY,
        work_conservation: false,
        enforce: true,
    }
}

fn judge(run: &str, set: impl FnOnce(&mut MonitorThresholds)) -> MonitorVerdict {
    let mut bounds = lenient();
    set(&mut bounds);
    bounds.evaluate(&monitor(run))
}

/// Applies the same bound to two runs.
fn pair(
    what: &'static str,
    set: fn(&mut MonitorThresholds),
    holds: &str,
    fails: &str,
    with: &'static str,
) -> Pair {
    Pair {
        what,
        holds: judge(holds, set).into_result(),
        fails: judge(fails, set).into_result(),
        with,
    }
}

fn pairs() -> Vec<Pair> {
    vec![
        pair(
            "max_imbalance_ratio",
            |t| (t.max_imbalance_ratio, t.sustained_samples) = (2.5, 3),
            "sound",
            "scattershot",
            "FAIL [Monitor] imbalance ratio above 2.5 for 3 samples in a row, until +902ms",
        ),
        pair(
            "max_local_dsq_depth",
            |t| t.max_local_dsq_depth = 3,
            "sound",
            "scattershot",
            "FAIL [Monitor] cpu0: local DSQ deeper than 3 for 5 samples in a row, until +502ms\n\
             FAIL [Monitor] cpu2: local DSQ deeper than 3 for 5 samples in a row, until +1703ms",
        ),
        pair(
            "fail_on_rq_clock_stuck",
            |t| t.fail_on_rq_clock_stuck = true,
            "sound",
            "wedged",
            "FAIL [Monitor] cpu0: runqueue clock did not advance for 5 samples in a row, until +1200ms\n\
             FAIL [Monitor] cpu1: runqueue clock did not advance for 5 samples in a row, until +1200ms\n\
             FAIL [Monitor] cpu2: runqueue clock did not advance for 5 samples in a row, until +1100ms\n\
             FAIL [Monitor] cpu3: runqueue clock did not advance for 5 samples in a row, until +1100ms",
        ),
        // This pair uses one run. Its two results differ only in the number of consecutive samples that make a violation.
        Pair {
            what: "sustained_samples",
            holds: judge("scattershot", |t| {
                (t.max_local_dsq_depth, t.sustained_samples) = (6, 10);
            })
            .into_result(),
            fails: judge("scattershot", |t| {
                (t.max_local_dsq_depth, t.sustained_samples) = (6, 5);
            })
            .into_result(),
            with: "FAIL [Monitor] cpu0: local DSQ deeper than 6 for 5 samples in a row, until +1002ms",
        },
        pair(
            "max_fallback_rate",
            |t| (t.max_fallback_rate, t.sustained_samples) = (10.0, 3),
            "sound",
            "scattershot",
            "FAIL [Monitor] select_cpu_fallback above 10 events per vCPU-second for 3 samples in a row, until +402ms",
        ),
        pair(
            "max_keep_last_rate",
            |t| (t.max_keep_last_rate, t.sustained_samples) = (10.0, 3),
            "sound",
            "slow",
            "FAIL [Monitor] dispatch_keep_last above 10 events per vCPU-second for 3 samples in a row, until +400ms",
        ),
        pair(
            "work_conservation",
            |t| t.work_conservation = true,
            "sound",
            "idle-cpu",
            "FAIL [Monitor] cpu3 idled while test-41030a64f0[1023], which may run there, waited, for 10 samples in a row, until +1003ms\n\
             FAIL [Monitor] test-41030a64f0[1022] waited and got no CPU while cpu3, where it may run, idled, for 5 samples in a row, until +1103ms",
        ),
        // The same findings are failures if the thresholds are enforced, and remarks otherwise.
        Pair {
            what: "enforce",
            holds: judge("idle-cpu", |t| {
                (t.work_conservation, t.enforce) = (true, false);
            })
            .into_result(),
            fails: judge("idle-cpu", |t| t.work_conservation = true).into_result(),
            with: "FAIL [Monitor] cpu3 idled while test-41030a64f0[1023], which may run there, waited, for 10 samples in a row, until +1003ms\n\
             FAIL [Monitor] test-41030a64f0[1022] waited and got no CPU while cpu3, where it may run, idled, for 5 samples in a row, until +1103ms",
        },
    ]
}

#[test]
fn each_bound_is_kept_by_one_run_and_broken_by_another() {
    hold_and_fail(&pairs());
}

/// The thresholds are destructured by name, so a new threshold is a compile error until it is named here.
#[test]
fn no_threshold_is_without_a_pair() {
    macro_rules! fields {
        ($($field:ident)*) => {{
            let MonitorThresholds { $($field: _,)* } = MonitorThresholds::default();
            [$(stringify!($field)),*]
        }};
    }
    let paired: Vec<&str> = pairs().iter().map(|p| p.what).collect();
    assert_eq!(
        paired,
        fields! {
            max_imbalance_ratio max_local_dsq_depth fail_on_rq_clock_stuck sustained_samples
            max_fallback_rate max_keep_last_rate work_conservation enforce
        }
    );
}

/// Sound schedulers keep the default bounds. A CPU that is left idle, queues that are no longer served, and runqueue clocks
/// that do not advance violate them.
#[test]
fn the_usual_bounds() {
    let usual = Assert::NO_OVERRIDES.with_monitor_defaults();
    let usual = MonitorThresholds::from_assert(&usual).expect("it asks for bounds");
    assert_eq!(
        usual,
        MonitorThresholds {
            enforce: true,
            ..MonitorThresholds::default()
        }
    );
    let says = |run: &str| usual.evaluate(&monitor(run)).summary;
    assert_eq!(says("sound"), "monitor OK");
    assert_eq!(says("light"), "monitor OK");
    assert_eq!(says("idle-cpu"), "monitor FAILED: 2 violation(s)");
    assert_eq!(says("stall"), "monitor FAILED: 2 violation(s)");
    assert_eq!(says("wedged"), "monitor FAILED: 4 violation(s)");
    // In a run under EEVDF no sched_ext scheduler is attached, and samples without one are left out, so none remains.
    assert_eq!(says("eevdf"), "no monitor samples");
}

/// A CPU that is left idle only for moments is not detected with the default of five consecutive samples.
#[test]
fn moments_in_which_a_cpu_idles() {
    let moments =
        |t: &mut MonitorThresholds| (t.work_conservation, t.sustained_samples) = (true, 1);
    assert!(judge("light", moments).passed);
    let verdict = judge("wrong-cpu", moments);
    insta::assert_snapshot!(verdict.details.join("\n"), @r"
    cpu1 idled while test-41030a64f0[1008], which may run there, waited (another CPU idled like this, too), for 1 samples in a row, until +1603ms
    test-41030a64f0[1008] waited and got no CPU while cpu1, where it may run, idled, for 1 samples in a row, until +1603ms
    ");
    assert!(judge("wrong-cpu", |t| t.work_conservation = true).passed);
}

#[test]
fn without_samples_the_verdict_is_inconclusive() {
    let none = MonitorThresholds::default().evaluate(&MonitorReport::default());
    assert!(none.inconclusive && !none.passed);
    assert_eq!(none.summary, "no monitor samples");
    // All clocks have the same value, as if the sampler read the wrong memory.
    let mut frozen = monitor("sound");
    for cpu in frozen.samples.iter_mut().flat_map(|s| &mut s.cpus) {
        cpu.rq_clock = 5;
    }
    let verdict = MonitorThresholds::default().evaluate(&frozen);
    assert!(verdict.inconclusive);
    assert_eq!(
        verdict.summary,
        "monitor data not yet initialized: the samples of the runqueues are implausible"
    );
}
