//! Tests of series, reductions, ratios and patterns, and of captures that are placeholders.

use super::*;
use crate::metric::BuiltinMetric;
use crate::phase::Phase;
use crate::verdict::Verdict;
use ktstr_snapshot::report::FailureDumpReport;
use ktstr_snapshot::snapshot::{SnapshotError, SnapshotResult};
use std::fmt::Display;

const S0: Phase = Phase::step(0);
const S1: Phase = Phase::step(1);

fn broken<T>() -> SnapshotResult<T> {
    Err(SnapshotError::ProjectionFailed {
        requested: "x".into(),
        reason: "test".into(),
    })
}

/// Creates samples that are 100 ms apart, the first half in Step[0] and the rest in Step[1].
fn field<T>(values: Vec<SnapshotResult<T>>) -> SeriesField<T> {
    let n = values.len();
    SeriesField::from_parts_with_phases(
        "f",
        (0..n).map(|i| format!("periodic_{i:03}")).collect(),
        (0..n).map(|i| Some(i as u64 * 100)).collect(),
        values,
        (0..n).map(|i| if i < n / 2 { S0 } else { S1 }).collect(),
    )
}

fn of<T: Copy>(values: &[T]) -> SeriesField<T> {
    field(values.iter().map(|v| Ok(*v)).collect())
}

fn verdict(f: impl FnOnce(&mut Verdict)) -> Verdict {
    let mut v = Verdict::new();
    f(&mut v);
    v
}

fn message(f: impl FnOnce(&mut Verdict)) -> String {
    let r = verdict(f).into_result();
    let all: Vec<_> = r.failure_details().map(ToString::to_string).collect();
    all.join("\n")
}

fn ratio<T: Copy + Into<f64> + Display>(f: &SeriesField<T>, ceiling: f64) -> Verdict {
    verdict(|v| {
        f.ratio_across_phases(v, S0, S1).at_most(ceiling);
    })
}

#[test]
fn reductions() {
    let f = field(vec![Ok(1u32), Ok(4), broken(), Ok(10)]);
    assert_eq!(f.value_at_phase(S0), Some(4));
    assert_eq!(f.value_at_phase(Phase::BASELINE), None);
    assert_eq!(f.first_per_phase(), [(S0, 1), (S1, 10)].into());
    assert_eq!(f.last_per_phase(), [(S0, 4), (S1, 10)].into());
    assert_eq!(f.counter_delta_per_phase(), [(S0, 3), (S1, 0)].into());
    assert_eq!(of(&[9u64, 2]).counter_delta_per_phase().len(), 2);
    assert_eq!(
        of(&[9u64, 2, 3, 3]).counter_delta_per_phase()[&S0],
        0,
        "reset"
    );
    assert_eq!(f.sum_by_phase(), [(S0, 5), (S1, 10)].into());
    let peak = BuiltinMetric::MaxDsqDepth.def();
    assert_eq!(f.aggregate_by_phase(peak), [(S0, 4.0), (S1, 10.0)].into());
    assert_eq!(f.by_phase().0[&S1].len(), 2);
    assert_eq!(f.phase(S1).len(), 2);
}

#[test]
fn ratios_always_leave_a_trace() {
    let traced = |v: &Verdict| {
        let r = v.to_result();
        r.info_notes
            .iter()
            .any(|n| n.message.contains("ratio_across_phases"))
            || r.failure_details()
                .any(|d| d.message.contains("ratio_across_phases"))
    };
    let grown = of(&[1.0, 2.0, 5.0, 6.0]);
    let v = ratio(&grown, 3.0);
    assert!(v.is_pass() && traced(&v));
    let v = ratio(&grown, 2.9);
    assert!(v.is_fail() && traced(&v));
    let zero = ratio(&of(&[0.0, 0.0, 5.0, 6.0]), 1e9);
    assert!(zero.is_inconclusive() && traced(&zero));
    let absent = ratio(&field(vec![broken::<f64>(), Ok(1.0)]), 1e9);
    assert!(absent.is_inconclusive() && traced(&absent));
    let nan = ratio(&of(&[1.0, f64::NAN]), 1e9);
    assert!(nan.is_fail() && traced(&nan));
    let maps = verdict(|v| {
        grown
            .last_per_phase()
            .ratio_across_phases(v, "m", S0, S1)
            .at_most(3.0);
    });
    insta::assert_snapshot!(maps.to_result().info_notes[0], @"m: ratio_across_phases(Step[0] -> Step[1]) = 6 / 2 = 3.000000, at most 3");
}

#[test]
fn fractions_drop_zero_totals() {
    let (a, b) = (
        of(&[1u64, 0]).last_per_phase(),
        of(&[3u64, 0]).last_per_phase(),
    );
    assert_eq!(a.frac_pair(&b), [(S0, 0.25)].into());
}

#[test]
fn each() {
    let f = of(&[1, 2, 3]);
    assert!(
        verdict(|v| {
            f.each(v).between(1, 3);
        })
        .is_pass()
    );
    assert!(
        verdict(|v| {
            f.each(v).at_least(1).is_pass();
        })
        .is_pass()
    );
    insta::assert_snapshot!(message(|v| { f.each(v).at_most(2); }), @"f: expected each sample to be at most 2, periodic_002 was 3");
    assert!(
        verdict(|v| {
            of(&[f64::NAN]).each(v).at_least(0.0);
        })
        .is_fail()
    );
    assert!(
        verdict(|v| {
            field(vec![broken::<u8>()]).each(v).at_least(0);
        })
        .is_fail()
    );
}

#[test]
fn order() {
    let gap = field(vec![Ok(1), broken(), Ok(1), Ok(2)]);
    let v = verdict(|v| {
        gap.nondecreasing(v);
    });
    assert!(v.is_pass());
    assert!(
        v.to_result().info_notes[0]
            .message
            .contains("gap at periodic_001")
    );
    insta::assert_snapshot!(message(|v| { gap.strictly_increasing(v); }), @"f: expected strictly_increasing, was 1 at periodic_000 and 1 at periodic_002");
    assert!(
        verdict(|v| {
            of(&[2, 1]).nondecreasing(v);
        })
        .is_fail()
    );
    assert!(
        verdict(|v| {
            of(&[2]).nondecreasing(v);
        })
        .is_pass()
    );
}

#[test]
fn rates() {
    let f = of(&[0.0, 100.0, 300.0]);
    assert!(
        verdict(|v| {
            f.rate_within(v, 1.0, 2.0);
        })
        .is_pass()
    );
    insta::assert_snapshot!(message(|v| { f.rate_within(v, 1.0, 1.5); }), @"f: rate from periodic_001 to periodic_002 expected in [1, 1.5] per ms, was 2");
    let at = |at: [Option<u64>; 2]| {
        let tags = vec!["a".into(), "b".into()];
        SeriesField::from_parts("f", tags, at.to_vec(), vec![Ok(1.0), Ok(2.0)])
    };
    assert!(
        verdict(|v| {
            at([Some(5), Some(5)]).rate_within(v, 0.0, 1.0);
        })
        .is_inconclusive()
    );
    let unmeasured = verdict(|v| {
        at([None, Some(5)]).rate_within(v, 0.0, 1.0);
    });
    assert!(unmeasured.is_pass() && !unmeasured.to_result().info_notes.is_empty());
}

#[test]
fn steadiness_and_convergence() {
    let f = of(&[90.0, 10.0, 11.0, 10.0, 9.0]);
    assert!(
        verdict(|v| {
            f.steady_within(v, 100, 0.11);
        })
        .is_pass()
    );
    assert!(
        verdict(|v| {
            f.steady_within(v, 0, 0.11);
        })
        .is_fail()
    );
    assert!(
        verdict(|v| {
            f.converges_to(v, 10.0, 1.0, 100);
        })
        .is_pass()
    );
    assert!(
        verdict(|v| {
            f.converges_to(v, 10.0, 1.0, 99);
        })
        .is_fail()
    );
    assert!(
        verdict(|v| {
            of(&[1.0, 9.0]).converges_to(v, 5.0, 0.1, 100);
        })
        .is_pass(),
        "with fewer than three samples the claim is not judged"
    );
}

#[test]
fn ratios_sample_by_sample_and_truth() {
    let (a, b) = (of(&[1.0, 2.0]), of(&[2.0, 4.0]));
    assert!(
        verdict(|v| {
            a.ratio_within(v, &b, 0.5, 0.5);
        })
        .is_pass()
    );
    assert!(
        verdict(|v| {
            a.ratio_within(v, &b, 0.6, 0.7);
        })
        .is_fail()
    );
    assert!(
        verdict(|v| {
            a.ratio_within(v, &of(&[1.0]), 0.0, 9.0);
        })
        .is_fail()
    );
    assert!(
        verdict(|v| {
            a.ratio_within(v, &of(&[0.0, 4.0]), 0.0, 9.0);
        })
        .is_inconclusive()
    );
    assert!(
        verdict(|v| {
            of(&[true, true]).always_true(v);
        })
        .is_pass()
    );
    assert!(
        verdict(|v| {
            of(&[true, false]).always_true(v);
        })
        .is_fail()
    );
    assert!(
        verdict(|v| {
            field(vec![broken::<bool>()]).always_true(v);
        })
        .is_fail()
    );
}

#[test]
fn a_placeholder_counts_as_a_sample_whose_value_is_an_error() {
    let entry = |tag: &str, report| DrainedSnapshotEntry {
        step_index: Some(1),
        stats: Ok(serde_json::json!({"a": {"b": 7}})),
        ..DrainedSnapshotEntry::new(tag, report)
    };
    let series = SampleSeries::from_drained_typed(
        vec![
            entry(
                "periodic_000",
                FailureDumpReport::placeholder("no rendezvous"),
            ),
            entry("mine", FailureDumpReport::default()),
        ],
        None,
    );
    assert_eq!(series.periodic_ref().len(), 1);
    let f = series.bpf("x", |_| Ok(1));
    let values: Vec<_> = f.values_iter().collect();
    assert!(
        matches!(values[0], Err(SnapshotError::PlaceholderSample { tag, reason }) if tag == "periodic_000" && reason == "no rendezvous")
    );
    assert_eq!(values[1], &Ok(1));
    assert_eq!(
        series.stats_path("a").field_u64("b").value_at_phase(S0),
        Some(7)
    );
    assert_eq!(series.stats_path("").key_names(), ["a"]);
}
