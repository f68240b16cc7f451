//! The checks of worker reports.
//!
//! Both results of a pair are about the same bound. In most pairs, a sound run keeps this bound, and a run under a defective
//! scheduler violates it. If no scheduler can violate the bound, the workload does.

use super::fixture::{Pair, hold_and_fail, shown, workers};
use ktstr_assert::check::CgroupNodes;
use ktstr_assert::{Assert, AssertResult};

const NONE: Assert = Assert::NO_OVERRIDES;

fn judge(bound: Assert, (run, cgroup): (&str, &str)) -> AssertResult {
    let group = workers(run, cgroup);
    bound.assert_cgroup(&group.reports, group.cpuset.as_ref())
}

/// Applies the same bound to cgroups of two runs.
fn pair(
    what: &'static str,
    bound: Assert,
    holds: (&str, &str),
    fails: (&str, &str),
    with: &'static str,
) -> Pair {
    Pair {
        what,
        holds: judge(bound, holds),
        fails: judge(bound, fails),
        with,
    }
}

fn pairs() -> Vec<Pair> {
    vec![
        // The nicer workers never got a CPU while the others kept running, so they could not even exit when they were
        // stopped.
        pair(
            "not_stuck",
            NONE.check_not_stuck(),
            ("sound", "nicer"),
            ("starve-nice", "nicer"),
            "FAIL [NoProgress] tid 1022 made no progress (0 work units); no report: it did not answer when the reports were collected\n\
             FAIL [NoProgress] tid 1023 made no progress (0 work units); no report: it did not answer when the reports were collected\n\
             UNSURE [Stuck] the longest gap of tid 1022 is unknown, so it was not judged; no report: it did not answer when the reports were collected\n\
             UNSURE [Stuck] the longest gap of tid 1023 is unknown, so it was not judged; no report: it did not answer when the reports were collected",
        ),
        // No scheduler can violate this bound, because the kernel ejects one that tries. The recorded test removes the
        // cpuset of its workers, but the check still uses the old one.
        pair(
            "isolation",
            NONE.check_isolation(),
            ("sound", "shifted"),
            ("sound", "bound"),
            "FAIL [Isolation] tid 1016 ran on cpus [2, 3] outside its cpuset {0, 1}",
        ),
        pair(
            "max_gap_ms",
            NONE.max_gap_ms(1000),
            ("sound", "shifted"),
            ("cpuset-unfair", "shifted"),
            "FAIL [Stuck] tid 1018 stuck 4967ms on cpu2 at +8405ms (threshold 1000ms)",
        ),
        pair(
            "max_spread_pct",
            NONE.max_spread_pct(15.0),
            ("sound", "even"),
            ("scattershot", "even"),
            "FAIL [Unfair] unfair cgroup: spread=77% (7-84%) 4 workers on 2 cpus (threshold 15%)",
        ),
        pair(
            "max_throughput_cv",
            NONE.max_throughput_cv(0.15),
            ("sound", "even"),
            ("scattershot", "even"),
            "FAIL [Benchmark] throughput varies too much: cv 0.201 of work units per CPU-second over 4 workers (threshold 0.15)",
        ),
        pair(
            "min_work_rate",
            NONE.min_work_rate(800_000.0),
            ("sound", "even"),
            ("switch-storm", "even"),
            "FAIL [Benchmark] worker 1008 work rate 577402.6/s below floor 800000/s\n\
             FAIL [Benchmark] worker 1009 work rate 553314.3/s below floor 800000/s\n\
             FAIL [Benchmark] worker 1010 work rate 609828.1/s below floor 800000/s\n\
             FAIL [Benchmark] worker 1011 work rate 563722.4/s below floor 800000/s",
        ),
        pair(
            "min_iteration_rate",
            NONE.min_iteration_rate(800.0),
            ("sound", "even"),
            ("switch-storm", "even"),
            "FAIL [Benchmark] worker 1008 iteration rate 563.9/s below floor 800/s\n\
             FAIL [Benchmark] worker 1009 iteration rate 540.3/s below floor 800/s\n\
             FAIL [Benchmark] worker 1010 iteration rate 595.5/s below floor 800/s\n\
             FAIL [Benchmark] worker 1011 iteration rate 550.5/s below floor 800/s",
        ),
        pair(
            "max_p99_wake_latency_ns",
            NONE.max_p99_wake_latency_ns(100_000_000),
            ("sound", "sleepers"),
            ("slow-wake", "sleepers"),
            "FAIL [Benchmark] p99 wake latency 410.4 ms above 100 ms (69 samples)",
        ),
        // The check is about variation, not speed: wakeups that are all late do not vary.
        pair(
            "max_wake_latency_cv",
            NONE.max_wake_latency_cv(0.8),
            ("slow-wake", "sleepers"),
            ("sound", "sleepers"),
            "FAIL [Benchmark] wake latency cv 1.540 above 0.8",
        ),
        pair(
            "max_migration_ratio",
            NONE.max_migration_ratio(0.5),
            ("sound", "sleepers"),
            ("scattershot", "sleepers"),
            "FAIL [Migration] migration ratio 0.787 above 0.5: 251 migrations in 319 iterations",
        ),
    ]
    .into_iter()
    .chain(pages())
    .collect()
}

/// Returns the pairs for the checks of page placement. The workers are on the CPUs of node 0, and node 2 has no CPUs. Some
/// of the pages are shared with the process from which the workers were forked, and are on node 2.
fn pages() -> [Pair; 3] {
    let nodes = CgroupNodes {
        expected: [0].into(),
        memory_only: [2].into(),
    };
    let judge = |bound: Assert, cgroup: &str| {
        let group = workers("numa", cgroup);
        bound.assert_cgroup_on(&group.reports, group.cpuset.as_ref(), Some(&nodes))
    };
    let pair = |what, bound, fails: &str, with| Pair {
        what,
        holds: judge(bound, "near"),
        fails: judge(bound, fails),
        with,
    };
    [
        pair(
            "min_page_locality",
            NONE.min_page_locality(0.5),
            "far",
            "FAIL [PageLocality] page locality 0.040 below 0.5: 2 of 50 pages on the expected nodes",
        ),
        pair(
            "max_cross_node_migration_ratio",
            NONE.max_cross_node_migration_ratio(0.1),
            "wandering",
            "FAIL [CrossNodeMigration] cross-node migration ratio 0.150 above 0.1: 15 pages moved in the whole machine, and the workers have 100",
        ),
        pair(
            "max_slow_tier_ratio",
            NONE.max_slow_tier_ratio(0.5),
            "slow",
            "FAIL [SlowTier] slow tier ratio 0.960 above 0.5: 48 of 50 pages on memory-only nodes",
        ),
    ]
}

#[test]
fn each_bound_is_kept_by_one_run_and_broken_by_another() {
    hold_and_fail(&pairs());
}

/// Only two parts of the table of checks have their pairs in this file: the checks of worker reports and of page placement.
/// The checks of the monitor have pairs in `monitor.rs`. The checks of the schedule, and the two checks of the scheduler's
/// end, are tested next to their own code.
#[test]
fn no_check_is_without_a_pair() {
    macro_rules! judged {
        ($( $part:ident { $( $(#[$doc:meta])* $switch:ident $name:ident: $type:ty; )* } )*) => {
            [$( (stringify!($part), &[$( stringify!($name) ),*][..]) ),*]
        };
    }
    let parts = ktstr_macros::__checks!(judged).into_iter();
    let judged = parts.filter(|(part, _)| matches!(*part, "workers" | "numa"));
    let mut judged: Vec<&str> = judged.flat_map(|(_, names)| names).copied().collect();
    let mut paired: Vec<&str> = pairs().iter().map(|p| p.what).collect();
    judged.sort_unstable();
    paired.sort_unstable();
    assert_eq!(paired, judged);
}

/// Spinning workers have no wakeups, and the NUMA nodes of these workers' pages were not measured.
#[test]
fn checks_without_data_are_inconclusive() {
    let asked = NONE
        .min_page_locality(0.9)
        .max_cross_node_migration_ratio(0.1)
        .max_slow_tier_ratio(0.1);
    insta::assert_snapshot!(shown(&judge(asked, ("sound", "even"))), @r#"
    UNSURE [PageLocality] page locality is unknown, so it was not judged: the cgroup's expected NUMA nodes are unknown
    UNSURE [CrossNodeMigration] cross-node migration is unknown, so it was not judged: no pages were seen
    UNSURE [SlowTier] the share of pages on memory-only nodes is unknown, so it was not judged: the topology is unknown here
    "#);
    let wakes = NONE.max_p99_wake_latency_ns(1).max_wake_latency_cv(0.1);
    insta::assert_snapshot!(shown(&judge(wakes, ("sound", "even"))), @r#"
    UNSURE [Benchmark] p99 wake latency was not judged: the work measures no wake-ups; choose a work type that sleeps, or leave this bound out
    UNSURE [Benchmark] wake latency cv was not judged: the work measures no wake-ups; choose a work type that sleeps, or leave this bound out
    "#);
}

/// The checks that `not_stuck` implies, and the check of isolation, pass on runs without a defect. Two runs with a defect
/// violate the default bounds on gaps and spread.
#[test]
fn a_sound_run_keeps_the_defaults() {
    for run in ["sound", "eevdf"] {
        for cgroup in ["even", "sleepers", "pinned", "shifted", "nice", "nicer"] {
            let usual = NONE.check_not_stuck().check_isolation();
            let result = judge(usual, (run, cgroup));
            assert!(
                result.outcomes.is_empty(),
                "{run} {cgroup}: {}",
                shown(&result)
            );
        }
    }
    let gap = judge(NONE.check_not_stuck(), ("cpuset-unfair", "shifted"));
    insta::assert_snapshot!(shown(&gap), @"FAIL [Stuck] tid 1018 stuck 4967ms on cpu2 at +8405ms (threshold 2000ms)");
    let spread = judge(NONE.check_not_stuck(), ("scattershot", "even"));
    insta::assert_snapshot!(shown(&spread), @"FAIL [Unfair] unfair cgroup: spread=77% (7-84%) 4 workers on 2 cpus (threshold 35%)");
}

/// A latency failure contains the latency and its bound, from which the harness decides whether a busy host explains the
/// failure.
#[test]
fn a_latency_failure_carries_its_gate() {
    let late = judge(
        NONE.max_p99_wake_latency_ns(100_000_000),
        ("slow-wake", "sleepers"),
    );
    let gate = late.failure_details().next().and_then(|d| d.latency_gate);
    let gate = gate.expect("the failure has a latency gate");
    assert_eq!(gate.threshold_ns, 100_000_000);
    assert!(gate.measured_ns > 200_000_000, "{gate:?}");
}
