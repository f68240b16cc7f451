//! Phases: the values of fields and metrics in each phase, and comparisons of phases.

use std::collections::BTreeMap;

use super::fixture::{Pair, hold_and_fail, judged, pairs_are_of, phases, series, shown};
use ktstr_assert::{
    BetterThanPhase, BuiltinMetric, FracPair, MetricId, Phase, PhaseMapExt, SeriesField, Verdict,
    build_phase_buckets_with_stimulus,
};

const S0: Phase = Phase::step(0);
const S1: Phase = Phase::step(1);

fn counter(run: &str, name: &str) -> SeriesField<u64> {
    series(run).bpf(name, |snap| snap.var(name).as_u64())
}

fn float(run: &str, name: &str) -> SeriesField<f64> {
    series(run).bpf(name, |snap| snap.var(name).as_f64())
}

/// Returns a metric of each phase of a run.
fn metric(run: &str, name: &str) -> BTreeMap<Phase, f64> {
    let buckets = phases(run).buckets.into_iter();
    buckets
        .filter_map(|b| Some((b.phase(), b.metric(name)?)))
        .collect()
}

/// Claims that a metric is better in the second step than in the first.
fn better<'v>(v: &'v mut Verdict, run: &str, name: &str) -> BetterThanPhase<'v> {
    let values = metric(run, name);
    let at = |p| (p, values.get(&p).copied());
    BetterThanPhase::new(v, MetricId::from(name), None, at(S0), at(S1))
}

#[test]
fn one_phase_over_another() {
    hold_and_fail(&[
        Pair {
            what: "ratio_across_phases of a field",
            holds: judged(|v| {
                float("sound", "nr_dispatched")
                    .ratio_across_phases(v, S0, S1)
                    .at_most(1.63);
            }),
            fails: judged(|v| {
                float("sound", "nr_enqueued")
                    .ratio_across_phases(v, S0, S1)
                    .at_most(1.63);
            }),
            with: "FAIL [Temporal] nr_enqueued: ratio_across_phases(Step[0] -> Step[1]) = 2243 / 1363 = 1.645635, expected at most 1.63",
        },
        Pair {
            what: "ratio_across_phases of a map",
            holds: judged(|v| {
                metric("slow-wake", "iteration_rate")
                    .ratio_across_phases(v, "iteration_rate", S0, S1)
                    .at_most(0.95);
            }),
            fails: judged(|v| {
                metric("sound", "iteration_rate")
                    .ratio_across_phases(v, "iteration_rate", S0, S1)
                    .at_most(0.95);
            }),
            with: "FAIL [Temporal] iteration_rate: ratio_across_phases(Step[0] -> Step[1]) = 891.7430698235793 / 926.4652452180275 = 0.962522, expected at most 0.95",
        },
    ]);
}

/// A missing phase, or a divisor of 0, is not the scheduler's fault, but is reported.
#[test]
fn undefined_ratios_are_inconclusive() {
    let says = |run: &str, name: &str| {
        let result = judged(|v| {
            let field = float(run, name);
            field.ratio_across_phases(v, S0, S1).at_most(1e9);
        });
        assert!(result.is_inconclusive());
        assert!(result.info_notes[0].message.contains("ratio_across_phases"));
        shown(&result)
    };
    // The scheduler stalled in the first step, and the second step never started.
    insta::assert_snapshot!(says("stall", "nr_dispatched"), @"UNSURE [Temporal] nr_dispatched: ratio_across_phases(Step[0] -> Step[1]) is not defined: no readable value in Step[1]");
    insta::assert_snapshot!(says("sound", "stall"), @"UNSURE [Temporal] stall: ratio_across_phases(Step[0] -> Step[1]) is not defined: the value in Step[0] is 0, in Step[1] it is 0");
}

fn better_pairs() -> Vec<Pair> {
    vec![
        Pair {
            what: "better_than",
            holds: judged(|v| {
                better(v, "sound", "worst_spread").better_than();
            }),
            fails: judged(|v| {
                better(v, "slow-wake", "worst_spread").better_than();
            }),
            with: "FAIL [Temporal] worst_spread: Step[1] against Step[0]: expected better than 0.8035600857846248, was 1.4998450835321648",
        },
        Pair {
            what: "by_at_least",
            holds: judged(|v| {
                better(v, "sound", "worst_spread").by_at_least(0.5);
            }),
            fails: judged(|v| {
                better(v, "sound", "worst_spread").by_at_least(0.9);
            }),
            with: "FAIL [Temporal] worst_spread: Step[1] against Step[0]: expected better than 6.330359986363419 by at least 90%, was 1.4815329523853222",
        },
        Pair {
            what: "than",
            holds: judged(|v| {
                let (good, bad) = rates();
                v.claim_better("iteration_rate", good).than(bad);
            }),
            fails: judged(|v| {
                let (good, bad) = rates();
                v.claim_better("iteration_rate", bad).than(good);
            }),
            with: "FAIL [Benchmark] iteration_rate: expected better than 926.4652452180275, was 687.5351633177146",
        },
        Pair {
            what: "than_by",
            holds: judged(|v| {
                let (good, bad) = rates();
                v.claim_better("iteration_rate", good).than_by(bad, 0.2);
            }),
            fails: judged(|v| {
                let (good, bad) = rates();
                v.claim_better("iteration_rate", good).than_by(bad, 0.8);
            }),
            with: "FAIL [Benchmark] iteration_rate: expected better than 687.5351633177146 by at least 80%, was 926.4652452180275",
        },
    ]
}

/// Returns the iterations per CPU-second of the workers under a sound scheduler, and under one that never balances.
fn rates() -> (f64, f64) {
    let of = |run| metric(run, "iteration_rate")[&S0];
    (of("sound"), of("no-steal"))
}

#[test]
fn better_or_not() {
    hold_and_fail(&better_pairs());
    pairs_are_of(
        include_str!("../../src/verdict/better.rs"),
        &["new"],
        &better_pairs(),
    );
}

#[test]
fn neither_better_nor_worse() {
    let says = |name: &str| {
        let result = judged(|v| {
            better(v, "sound", name).better_than();
        });
        assert!(result.is_inconclusive());
        shown(&result)
    };
    insta::assert_snapshot!(says("p99_wake_latency_us"), @"UNSURE [Temporal] p99_wake_latency_us: Step[1] against Step[0] is unknown: it was not measured in Step[0]");
    insta::assert_snapshot!(says("total_iterations"), @"UNSURE [Temporal] total_iterations: Step[1] against Step[0] is unknown: the metric has no direction (983, 920)");
    insta::assert_snapshot!(says("stuck_count"), @"UNSURE [Temporal] stuck_count: Step[1] against Step[0] is unknown: it was 0 in Step[0], then 0");
}

/// Tests each way to compute a value of a phase from its captures, on a sound run with three captures in each step.
#[test]
fn the_values_of_a_field_in_each_phase() {
    let f = counter("sound", "nr_dispatched");
    let (first, last) = (f.first_per_phase(), f.last_per_phase());
    assert_eq!(first.keys().copied().collect::<Vec<_>>(), [S0, S1]);
    assert_eq!(f.value_at_phase(S1), Some(last[&S1]));
    assert_eq!(f.value_at_phase(Phase::BASELINE), None);
    assert!(first[&S0] < last[&S0] && last[&S0] < first[&S1]);
    let grown = f.counter_delta_per_phase();
    assert_eq!(grown[&S0], last[&S0] - first[&S0]);
    let seen = f.phase(S0);
    assert_eq!(seen.len(), 3);
    let sum: u64 = seen.iter().filter_map(|(_, _, v)| v.as_ref().ok()).sum();
    assert_eq!(f.sum_by_phase()[&S0], sum);
    let (by, rest) = f.by_phase();
    assert_eq!((by.len(), rest.len()), (2, 0));
    let mut counted = Vec::new();
    f.for_each_phase(|phase, points| counted.push((phase, points.len())));
    assert_eq!(counted, [(S0, 3), (S1, 3)]);
    let peak = BuiltinMetric::MaxDsqDepth.def();
    let highest = float("sound", "nr_dispatched").aggregate_by_phase(peak);
    assert_eq!(highest[&S1], last[&S1] as f64);
    // The run that stalled has no second step.
    assert_eq!(counter("stall", "nr_dispatched").last_per_phase().len(), 1);
    let source = include_str!("../../src/series/phases.rs");
    assert_eq!(
        source.matches("pub fn ").count(),
        9,
        "a new function needs its own line in this test"
    );
}

/// Two maps by phase are combined, and the share of one counter in the sum of two is computed for each phase.
#[test]
fn maps_by_phase() {
    let (dispatched, selected) = (
        counter("sound", "nr_dispatched").last_per_phase(),
        counter("sound", "nr_select_cpu").last_per_phase(),
    );
    let both = dispatched.zip_per_phase(&selected, |d, s| d + s);
    assert_eq!(both.len(), 2);
    assert_eq!(both[&S0], dispatched[&S0] + selected[&S0]);
    let share = dispatched.frac_pair(&selected);
    assert_eq!(share[&S0], dispatched[&S0] as f64 / both[&S0] as f64);
    // A phase that one of the maps lacks is left out.
    let stalled = counter("stall", "nr_select_cpu").last_per_phase();
    assert_eq!(dispatched.frac_pair(&stalled).len(), 1);
    assert!(
        counter("sound", "stall")
            .last_per_phase()
            .frac_pair(&counter("sound", "crash").last_per_phase())
            .is_empty()
    );
}

/// Captures and the timeline reproduce the windows of the recorded run.
#[test]
fn buckets_of_a_recorded_run() {
    let recorded = phases("sound");
    let buckets = build_phase_buckets_with_stimulus(&series("sound"), &recorded.stimulus);
    for (made, was) in buckets.iter().zip(&recorded.buckets) {
        assert_eq!(made.label, was.label);
        assert_eq!((made.start_ms, made.end_ms), (was.start_ms, was.end_ms));
        assert_eq!((made.sample_count, was.sample_count), (3, 3));
        // The machine has four CPUs with workers on all of them, and no device that interrupts. Local timer interrupts are
        // not counted in `irqs_sum`.
        let of = |name: &str| made.metrics[name];
        let busy_s = of("total_phase_guest_cpu_sec");
        let timers = of("total_softirq_timer") / busy_s;
        assert!((0.5..8.0).contains(&busy_s), "{busy_s}");
        assert!((1.0..500.0).contains(&timers), "{timers}");
        assert_eq!(of("total_hardirqs"), 0.0);
    }
    assert_eq!(buckets.len(), 2);
    let names: Vec<&str> = recorded
        .stats
        .cgroups
        .iter()
        .map(|c| &*c.cgroup_name)
        .collect();
    assert_eq!(names, ["first", "second", "base"]);
}
