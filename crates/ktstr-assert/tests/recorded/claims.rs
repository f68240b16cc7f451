//! Claims about single values and collections, each about measurements of a run.

use std::collections::BTreeSet;

use super::fixture::{Pair, hold_and_fail, judged, phases, workers};
use ktstr_assert::{
    COMPARATOR_VOCABULARY, CgroupStatsClaim, DetailKind, Phase, PhaseBucketClaim,
    PhaseCgroupStatsClaim, ScenarioStatsClaim, Verdict, WorkerReport, WorkerReportClaim, claim,
    claim_present,
};

/// Returns the report of a worker that was seen on all four CPUs in a sound run.
fn even() -> WorkerReport {
    workers("sound", "even").reports.swap_remove(0)
}

/// Returns the report of a worker that starved, and was never seen on any CPU.
fn starved() -> WorkerReport {
    workers("starve-nice", "nicer").reports.swap_remove(0)
}

/// Returns a metric of the cgroup `first` in the first step of a sound run; `None` if it was not measured.
fn metric(name: &str) -> Option<f64> {
    phases("sound").stats.phase(Phase::step(0))?.per_cgroup["first"].get(name)
}

/// Makes the same claim about a value for which it holds and a value for which it fails.
fn pair<T>(
    what: &'static str,
    claim: impl Fn(&mut Verdict, T),
    holds: T,
    fails: T,
    with: &'static str,
) -> Pair {
    Pair {
        what,
        holds: judged(|v| claim(v, holds)),
        fails: judged(|v| claim(v, fails)),
        with,
    }
}

fn values() -> Vec<Pair> {
    let (even, starved) = (even(), starved());
    let done = |w: &WorkerReport| w.completed;
    let units = |w: &WorkerReport| w.work_units;
    let off_cpu = |w: &WorkerReport| w.off_cpu_ns as f64 / w.wall_time_ns as f64;
    vec![
        pair(
            "eq",
            |v, completed| {
                claim!(v, completed).eq(true);
            },
            done(&even),
            done(&starved),
            "FAIL [Other] completed: expected true, was false",
        ),
        pair(
            "ne",
            |v, units| {
                claim!(v, units).ne(0);
            },
            units(&even),
            units(&starved),
            "FAIL [Other] units: expected != 0, was 0",
        ),
        pair(
            "ge",
            |v, units| {
                claim!(v, units).at_least(1000);
            },
            units(&even),
            units(&starved),
            "FAIL [Other] units: expected at least 1000, was 0",
        ),
        pair(
            "le",
            |v, units| {
                claim!(v, units).at_most(1000);
            },
            units(&starved),
            units(&even),
            "FAIL [Other] units: expected at most 1000, was 1050624",
        ),
        pair(
            "lt",
            |v, units| {
                claim!(v, units).lt(1);
            },
            units(&starved),
            units(&even),
            "FAIL [Other] units: expected less than 1, was 1050624",
        ),
        pair(
            "gt",
            |v, units| {
                claim!(v, units).gt(0);
            },
            units(&even),
            units(&starved),
            "FAIL [Other] units: expected greater than 0, was 0",
        ),
        pair(
            "in_range",
            |v, units| {
                claim!(v, units).between(1, 10_000_000);
            },
            units(&even),
            units(&starved),
            "FAIL [Other] units: expected in [1, 10000000], was 0",
        ),
        // For a worker that never ran, the off-CPU share is 0 divided by 0, which is NaN.
        pair(
            "is_finite",
            |v, off_cpu| {
                claim!(v, off_cpu).is_finite();
            },
            off_cpu(&even),
            off_cpu(&starved),
            "FAIL [Other] off_cpu: expected finite, was NaN",
        ),
        pair(
            "near_within",
            |v, off_cpu| {
                claim!(v, off_cpu).near(0.5, 0.4);
            },
            off_cpu(&even),
            off_cpu(&starved),
            "FAIL [Other] off_cpu: expected near 0.5 (±0.4), was NaN",
        ),
    ]
}

fn sets() -> Vec<Pair> {
    let (even, starved) = (even().cpus_used, starved().cpus_used);
    let pinned = workers("sound", "pinned").reports.swap_remove(0).cpus_used;
    let pair = |what,
                claim: fn(&mut Verdict, &BTreeSet<usize>),
                holds: &BTreeSet<usize>,
                fails: &BTreeSet<usize>,
                with| {
        pair(
            what,
            |v, set: &BTreeSet<usize>| claim(v, set),
            holds,
            fails,
            with,
        )
    };
    vec![
        pair(
            "set_is_empty",
            |v, cpus| {
                v.claim_set("cpus", cpus).empty();
            },
            &starved,
            &even,
            "FAIL [Other] cpus: expected empty, was [0, 1, 2, 3] (len 4)",
        ),
        pair(
            "set_is_non_empty",
            |v, cpus| {
                v.claim_set("cpus", cpus).nonempty();
            },
            &even,
            &starved,
            "FAIL [Other] cpus: expected non-empty, was [] (len 0)",
        ),
        pair(
            "set_len_eq",
            |v, cpus| {
                v.claim_set("cpus", cpus).len_eq(4);
            },
            &even,
            &pinned,
            "FAIL [Other] cpus: expected len == 4, was [1] (len 1)",
        ),
        pair(
            "set_len_le",
            |v, cpus| {
                v.claim_set("cpus", cpus).len_at_most(1);
            },
            &pinned,
            &even,
            "FAIL [Other] cpus: expected len <= 1, was [0, 1, 2, 3] (len 4)",
        ),
        pair(
            "set_len_ge",
            |v, cpus| {
                v.claim_set("cpus", cpus).len_at_least(2);
            },
            &even,
            &pinned,
            "FAIL [Other] cpus: expected len >= 2, was [1] (len 1)",
        ),
        pair(
            "set_contains",
            |v, cpus| {
                v.claim_set("cpus", cpus).contains(&3);
            },
            &even,
            &pinned,
            "FAIL [Other] cpus: expected to contain 3, was [1] (len 1)",
        ),
        pair(
            "subset_of",
            |v, cpus| {
                v.claim_set("cpus", cpus).subset_of(&[0, 1].into());
            },
            &pinned,
            &even,
            "FAIL [Other] cpus: expected a subset of [0, 1] (len 2), was [0, 1, 2, 3] (len 4)",
        ),
        pair(
            "disjoint_from",
            |v, cpus| {
                v.claim_set("cpus", cpus).disjoint_from(&[2, 3].into());
            },
            &pinned,
            &even,
            "FAIL [Other] cpus: expected disjoint from [2, 3] (len 2), was [0, 1, 2, 3] (len 4)",
        ),
    ]
}

fn sequences() -> Vec<Pair> {
    // The CPUs to which a worker moved in its first three migrations. One worker moved around, and the other was bound to a
    // CPU.
    let moves =
        |w: WorkerReport| -> Vec<usize> { w.migrations.iter().map(|m| m.to_cpu).take(3).collect() };
    let (moved, bound) = (
        moves(even()),
        moves(workers("sound", "pinned").reports.swap_remove(0)),
    );
    let pair = |what, claim: fn(&mut Verdict, &[usize]), holds: &[usize], fails: &[usize], with| {
        pair(what, |v, seq: &[usize]| claim(v, seq), holds, fails, with)
    };
    vec![
        pair(
            "sequence_is_empty",
            |v, seq| {
                v.claim_seq("moves", seq).empty();
            },
            &bound,
            &moved,
            "FAIL [Other] moves: expected empty, was [2, 3, 0] (len 3)",
        ),
        pair(
            "sequence_is_non_empty",
            |v, seq| {
                v.claim_seq("moves", seq).nonempty();
            },
            &moved,
            &bound,
            "FAIL [Other] moves: expected non-empty, was [] (len 0)",
        ),
        pair(
            "sequence_len_eq",
            |v, seq| {
                v.claim_seq("moves", seq).len_eq(3);
            },
            &moved,
            &bound,
            "FAIL [Other] moves: expected len == 3, was [] (len 0)",
        ),
        pair(
            "sequence_len_le",
            |v, seq| {
                v.claim_seq("moves", seq).len_at_most(2);
            },
            &bound,
            &moved,
            "FAIL [Other] moves: expected len <= 2, was [2, 3, 0] (len 3)",
        ),
        pair(
            "sequence_len_ge",
            |v, seq| {
                v.claim_seq("moves", seq).len_at_least(1);
            },
            &moved,
            &bound,
            "FAIL [Other] moves: expected len >= 1, was [] (len 0)",
        ),
        pair(
            "sequence_contains",
            |v, seq| {
                v.claim_seq("moves", seq).contains(&seen());
            },
            &moved,
            &bound,
            "FAIL [Other] moves: expected to contain 2, was [] (len 0)",
        ),
    ]
}

/// Returns a CPU to which the migrating worker moved.
fn seen() -> usize {
    even().migrations[0].to_cpu
}

#[test]
fn values_and_collections() {
    hold_and_fail(&values());
    hold_and_fail(&sets());
    hold_and_fail(&sequences());
}

/// Each comparator of the vocabulary has a pair, and the pass of this pair names it.
#[test]
fn no_comparator_is_without_a_pair() {
    let all: Vec<Pair> = values()
        .into_iter()
        .chain(sets())
        .chain(sequences())
        .collect();
    let paired: BTreeSet<&str> = all.iter().map(|p| p.what).collect();
    assert_eq!(paired, BTreeSet::from(COMPARATOR_VOCABULARY));
    for pair in &all {
        let named: Vec<&str> = pair.holds.passes.iter().map(|p| &*p.comparator).collect();
        assert_eq!(named, [pair.what]);
        assert!(pair.fails.passes.is_empty());
    }
}

/// Claims about a metric that may be absent: spinning workers have no wakeups to measure.
#[test]
fn metrics_that_may_be_absent() {
    let spread = metric("off_cpu_spread_pct");
    let wakes = metric("p99_wake_latency_us");
    let is = spread.expect("two workers have a spread");
    // A measured metric is always finite, so `is_finite` fails only for an absent one.
    let absent = "FAIL [Other] wakes: metric absent";
    macro_rules! present {
        ($($what:literal: $held:ident($($x:expr),*), $value:ident.$broken:ident($($y:expr),*) = $with:expr;)*) => {
            hold_and_fail(&[$(
                Pair {
                    what: $what,
                    holds: judged(|v| {
                        claim_present!(v, spread).$held($($x),*);
                    }),
                    fails: judged(|v| {
                        claim_present!(v, $value).$broken($($y),*);
                    }),
                    with: $with,
                },
            )*]);
        };
    }
    present! {
        "eq": eq(is), spread.eq(0.0) = "FAIL [Other] spread: expected 0, was 6.330359986363419";
        "ne": ne(0.0), spread.ne(is) = "FAIL [Other] spread: expected != 6.330359986363419, was 6.330359986363419";
        "ge": at_least(0.0), spread.at_least(50.0) = "FAIL [Other] spread: expected at least 50, was 6.330359986363419";
        "le": at_most(50.0), spread.at_most(0.0) = "FAIL [Other] spread: expected at most 0, was 6.330359986363419";
        "lt": lt(50.0), spread.lt(is) = "FAIL [Other] spread: expected less than 6.330359986363419, was 6.330359986363419";
        "gt": gt(0.0), spread.gt(is) = "FAIL [Other] spread: expected greater than 6.330359986363419, was 6.330359986363419";
        "in_range": between(0.0, 50.0), spread.between(50.0, 60.0) = "FAIL [Other] spread: expected in [50, 60], was 6.330359986363419";
        "near_within": near(is, 1.0), spread.near(50.0, 1.0) = "FAIL [Other] spread: expected near 50 (±1), was 6.330359986363419";
        "is_finite": is_finite(), wakes.is_finite() = absent;
    }
    present! {
        "absent eq": eq(is), wakes.eq(is) = absent;
        "absent ne": ne(0.0), wakes.ne(0.0) = absent;
        "absent ge": at_least(0.0), wakes.at_least(0.0) = absent;
        "absent le": at_most(50.0), wakes.at_most(50.0) = absent;
        "absent lt": lt(50.0), wakes.lt(50.0) = absent;
        "absent gt": gt(0.0), wakes.gt(0.0) = absent;
        "absent in_range": between(0.0, 50.0), wakes.between(0.0, 50.0) = absent;
        "absent near_within": near(is, 1.0), wakes.near(is, 1.0) = absent;
    }
}

#[test]
fn kind_and_reason_go_into_the_failure() {
    let worker = starved();
    let result = judged(|v| {
        claim!(v, worker.work_units)
            .kind(DetailKind::NoProgress)
            .because("it waited for seconds")
            .gt(0);
    });
    let detail = result.failure_details().next().expect("a failure");
    assert_eq!(
        detail.display_with_kind(),
        "[NoProgress] worker.work_units: expected greater than 0, was 0 (it waited for seconds)"
    );
}

/// Claims about fields of each type that derives claims.
#[test]
fn derived_claims() {
    let (even, starved) = (even(), starved());
    let recorded = phases("sound");
    let bucket = &recorded.buckets[0];
    let first = &bucket.per_cgroup["first"];
    let cgroup = &recorded.stats.cgroups[0];
    hold_and_fail(&[
        Pair {
            what: "WorkerReport",
            holds: judged(|v| {
                even.claim_work_units(v).gt(0);
                even.claim_cpus_used(v).contains(&3);
                even.claim_migrations(v).nonempty();
            }),
            fails: judged(|v| {
                starved.claim_work_units(v).gt(0);
                starved.claim_cpus_used(v).contains(&3);
                starved.claim_migrations(v).nonempty();
            }),
            with: "FAIL [Other] work_units: expected greater than 0, was 0\n\
                   FAIL [Other] cpus_used: expected to contain 3, was [] (len 0)\n\
                   FAIL [Other] migrations: expected non-empty, was [] (len 0)",
        },
        Pair {
            what: "CgroupStats",
            holds: judged(|v| {
                cgroup.claim_spread(v).lt(10.0);
                cgroup.claim_cgroup_name(v).eq("first");
            }),
            fails: judged(|v| {
                cgroup.claim_spread(v).lt(5.0);
                cgroup.claim_page_locality(v).at_least(0.5);
                cgroup.claim_cgroup_name(v).eq("second");
            }),
            with: "FAIL [Other] spread: expected less than 5, was 6.330359986363419\n\
                   FAIL [Other] page_locality: metric absent\n\
                   FAIL [Other] cgroup_name: expected second, was first",
        },
        Pair {
            what: "PhaseCgroupStats, PhaseBucket, ScenarioStats",
            holds: judged(|v| {
                first.claim_num_workers(v).eq(2);
                bucket.claim_label(v).eq("Step[0]");
                recorded.stats.claim_total_workers(v).eq(5);
            }),
            fails: judged(|v| {
                first.claim_off_cpu_pcts(v).len_eq(3);
                bucket.claim_sample_count(v).at_least(4);
                recorded.stats.claim_total_workers(v).lt(5);
            }),
            with: "FAIL [Other] off_cpu_pcts: expected len == 3, was [65.5449717626065, 71.87533174896991] (len 2)\n\
                   FAIL [Other] sample_count: expected at least 4, was 3\n\
                   FAIL [Other] total_workers: expected less than 5, was 5",
        },
    ]);
}
