//! Patterns over time, applied to recorded captures: the counters of a sound scheduler, and the counters of a scheduler
//! that stops serving its queues after the first capture.

use super::fixture::{Pair, hold_and_fail, judged, pairs_are_of, series, shown};
use ktstr_assert::{SeriesField, Verdict};

/// Returns a counter of the scheduler in each capture.
fn counter(run: &str, name: &str) -> SeriesField<u64> {
    series(run).bpf(name, |snap| snap.var(name).as_u64())
}

fn float(run: &str, name: &str) -> SeriesField<f64> {
    series(run).bpf(name, |snap| snap.var(name).as_f64())
}

/// Returns the length of the longest runqueue in each capture, the running task included.
fn longest(run: &str) -> SeriesField<u64> {
    series(run).bpf("longest runqueue", |snap| {
        let lengths = snap.rq_scx_states().iter().map(|rq| rq.nr_running);
        Ok(lengths.max().unwrap_or_default().into())
    })
}

/// Returns the number of runnable tasks on all CPUs in each capture.
fn runnable(run: &str) -> SeriesField<f64> {
    series(run).bpf("runnable", |snap| {
        let lengths = snap
            .rq_scx_states()
            .iter()
            .map(|rq| f64::from(rq.nr_running));
        Ok(lengths.sum())
    })
}

fn served(run: &str) -> SeriesField<bool> {
    series(run).bpf("served", |snap| Ok(snap.var("stall").as_u64()? == 0))
}

/// Applies a pattern to the fields of two runs.
fn pair(
    what: &'static str,
    pattern: impl Fn(&mut Verdict, &str),
    holds: &str,
    fails: &str,
    with: &'static str,
) -> Pair {
    Pair {
        what,
        holds: judged(|v| pattern(v, holds)),
        fails: judged(|v| pattern(v, fails)),
        with,
    }
}

fn pairs() -> Vec<Pair> {
    let (sound, stall) = ("sound", "stall");
    vec![
        pair(
            "at_least",
            |v, run| {
                counter(run, "nr_dispatched").each(v).at_least(930);
            },
            sound,
            stall,
            "FAIL [Temporal] nr_dispatched: expected each sample to be at least 930, periodic_000 was 925",
        ),
        pair(
            "at_most",
            |v, run| {
                counter(run, "stall").each(v).at_most(0);
            },
            sound,
            stall,
            "FAIL [Temporal] stall: expected each sample to be at most 0, periodic_001 was 1\n\
             FAIL [Temporal] stall: expected each sample to be at most 0, periodic_002 was 1\n\
             FAIL [Temporal] stall: expected each sample to be at most 0, periodic_003 was 1\n\
             FAIL [Temporal] stall: expected each sample to be at most 0, periodic_004 was 1\n\
             FAIL [Temporal] stall: expected each sample to be at most 0, periodic_005 was 1",
        ),
        // The stalled scheduler does not serve its queues, so their lengths stay nearly the same.
        pair(
            "between",
            |v, run| {
                longest(run).each(v).between(5, 6);
            },
            stall,
            sound,
            "FAIL [Temporal] longest runqueue: expected each sample to be in [5, 6], periodic_001 was 7\n\
             FAIL [Temporal] longest runqueue: expected each sample to be in [5, 6], periodic_003 was 7",
        ),
        Pair {
            what: "nondecreasing",
            holds: judged(|v| {
                counter(stall, "nr_enqueued").nondecreasing(v);
            }),
            fails: judged(|v| {
                longest(sound).nondecreasing(v);
            }),
            with: "FAIL [Temporal] longest runqueue: expected nondecreasing, was 7 at periodic_001 and 5 at periodic_002\n\
             FAIL [Temporal] longest runqueue: expected nondecreasing, was 7 at periodic_003 and 5 at periodic_004",
        },
        pair(
            "strictly_increasing",
            |v, run| {
                counter(run, "nr_enqueued").strictly_increasing(v);
            },
            sound,
            stall,
            "FAIL [Temporal] nr_enqueued: expected strictly_increasing, was 979 at periodic_001 and 979 at periodic_002",
        ),
        pair(
            "rate_within",
            |v, run| {
                float(run, "nr_dispatched").rate_within(v, 0.5, 2.0);
            },
            sound,
            stall,
            "FAIL [Temporal] nr_dispatched: rate from periodic_000 to periodic_001 expected in [0.5, 2] per ms, was 0.3129496402877698\n\
             FAIL [Temporal] nr_dispatched: rate from periodic_001 to periodic_002 expected in [0.5, 2] per ms, was 0.04044117647058824\n\
             FAIL [Temporal] nr_dispatched: rate from periodic_002 to periodic_003 expected in [0.5, 2] per ms, was 0.017857142857142856\n\
             FAIL [Temporal] nr_dispatched: rate from periodic_003 to periodic_004 expected in [0.5, 2] per ms, was 0.015625\n\
             FAIL [Temporal] nr_dispatched: rate from periodic_004 to periodic_005 expected in [0.5, 2] per ms, was 0.013888888888888888",
        ),
        pair(
            "steady_within",
            |v, run| {
                runnable(run).steady_within(v, 500, 0.12);
            },
            sound,
            stall,
            "FAIL [Temporal] runnable: expected steady within 0.12 x |mean| of the mean 21.166666666666668, was 17 at periodic_000",
        ),
        pair(
            "converges_to",
            |v, run| {
                runnable(run).converges_to(v, 22.0, 0.5, 1000);
            },
            stall,
            sound,
            "FAIL [Temporal] runnable: expected to converge to 22 (±0.5) by 1000ms, no 3 samples in a row did; the last was 17",
        ),
        pair(
            "ratio_within",
            |v, run| {
                let dispatched = float(run, "nr_dispatched");
                float(run, "nr_enqueued").ratio_within(v, &dispatched, 0.96, 1.0);
            },
            sound,
            stall,
            "FAIL [Temporal] nr_enqueued / nr_dispatched: expected in [0.96, 1], was 0.956989247311828 at periodic_002\n\
             FAIL [Temporal] nr_enqueued / nr_dispatched: expected in [0.96, 1], was 0.953443258971872 at periodic_003\n\
             FAIL [Temporal] nr_enqueued / nr_dispatched: expected in [0.96, 1], was 0.9535333978702807 at periodic_004\n\
             FAIL [Temporal] nr_enqueued / nr_dispatched: expected in [0.96, 1], was 0.9546769527483124 at periodic_005",
        ),
        pair(
            "always_true",
            |v, run| {
                served(run).always_true(v);
            },
            sound,
            stall,
            "FAIL [Temporal] served: expected always true, periodic_001 was false\n\
             FAIL [Temporal] served: expected always true, periodic_002 was false\n\
             FAIL [Temporal] served: expected always true, periodic_003 was false\n\
             FAIL [Temporal] served: expected always true, periodic_004 was false\n\
             FAIL [Temporal] served: expected always true, periodic_005 was false",
        ),
    ]
}

#[test]
fn each_pattern_holds_on_one_run_and_not_on_another() {
    hold_and_fail(&pairs());
}

#[test]
fn no_pattern_is_without_a_pair() {
    // `each` does not judge by itself.
    pairs_are_of(
        include_str!("../../src/series/patterns.rs"),
        &["each"],
        &pairs(),
    );
}

/// Patterns that judge each sample fail if a sample cannot be read. Patterns that judge a trend leave a note and skip the
/// sample.
#[test]
fn samples_that_cannot_be_read() {
    let strict = judged(|v| {
        counter("sound", "no_such").each(v).at_least(0);
        let unread = series("sound").bpf("unread", |s| s.var("no_such").as_bool());
        unread.always_true(v);
    });
    let lines: Vec<String> = shown(&strict).lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 12, "{lines:?}");
    assert!(lines.iter().all(|l| l.starts_with("FAIL [Temporal]")
        && l.contains("could not be read: ")
        && l.contains("no_such")));
    let trend = judged(|v| {
        let field = float("sound", "no_such");
        field.nondecreasing(v);
        field.strictly_increasing(v);
        field.rate_within(v, 0.0, 1.0);
        field.steady_within(v, 0, 0.1);
        field.converges_to(v, 1.0, 0.1, 1000);
        field.ratio_within(v, &float("sound", "nr_dispatched"), 0.0, 1.0);
    });
    assert!(trend.outcomes.is_empty(), "{}", shown(&trend));
    let notes = |part: &str| {
        let messages = trend.info_notes.iter().map(|n| n.message.as_str());
        messages.filter(|m| m.contains(part)).count()
    };
    assert_eq!(
        (notes("gap at "), notes("readable samples, has 0")),
        (36, 5)
    );
}

/// Tests patterns on a division by 0, on fields of different lengths, and on a field with too few samples.
#[test]
fn undefined_ratios_and_unequal_lengths() {
    let dispatched = float("sound", "nr_dispatched");
    let by_zero = judged(|v| {
        dispatched.ratio_within(v, &float("sound", "stall"), 0.0, 1.0);
    });
    assert!(by_zero.is_inconclusive());
    assert_eq!(
        shown(&by_zero).lines().next(),
        Some("UNSURE [Temporal] nr_dispatched / stall is unknown at periodic_000: 935 / 0")
    );
    let first = series("sound").entries()[..1].to_vec();
    let first = ktstr_assert::SampleSeries::from_drained_typed(first, None);
    let first = first.bpf("first", |s| s.var("nr_dispatched").as_f64());
    let uneven = judged(|v| {
        dispatched.ratio_within(v, &first, 0.0, 1.0);
    });
    assert_eq!(
        shown(&uneven),
        "FAIL [Temporal] nr_dispatched / first: lengths differ, 6 and 1 samples"
    );
    let lone = judged(|v| {
        first.rate_within(v, 0.0, 1.0).note("chains");
    });
    assert!(lone.outcomes.is_empty() && lone.info_notes.len() == 2);
}
