//! Runs the canned scenarios under scx-ktstr and under EEVDF: a correct scheduler must pass all of them with the default checks.
//! The scenarios of the core run under both schedulers, the others under one of the two.

#[macro_use]
mod common;

use std::time::Duration;

use ktstr::prelude::*;

const SCX_KTSTR: Scheduler =
    Scheduler::named("scx_ktstr").binary(SchedulerSpec::Discover("scx-ktstr"));
const CHECKS: Assert = Assert::NO_OVERRIDES.check_not_stuck().check_isolation();
/// Returns a topology with one LLC, or with two LLCs for a scenario that needs more than one.
const fn topology(name: &str) -> Topology {
    match name.as_bytes() {
        b"steady_llc" | b"custom_cgroup_cpuset_cross_llc_race" => Topology::new(1, 2, 2, 1),
        _ => Topology::new(1, 1, 4, 1),
    }
}
/// The window of each core scenario.
const WINDOW: Duration = Duration::from_secs(2);
/// Returns the window of a scenario outside of the core. Some judge a part of it that is only long enough for load balancing if
/// the whole is longer.
const fn window(name: &str) -> Duration {
    match name.as_bytes() {
        b"custom_cgroup_cpuset_apply_midrun"
        | b"custom_cgroup_cpuset_clear_midrun"
        | b"custom_cgroup_cpuset_add_remove"
        | b"custom_cgroup_add_midrun"
        | b"custom_cgroup_remove_midrun"
        | b"custom_cgroup_add_during_imbalance"
        | b"custom_cgroup_add_load_imbalance"
        | b"custom_cgroup_no_ctrl_load_imbalance"
        | b"custom_cgroup_multicpu_pin"
        | b"custom_cgroup_dsq_contention"
        | b"custom_nested_cgroup_no_ctrl" => WINDOW,
        _ => Duration::from_secs(1),
    }
}

fn passes(entry: &'static KtstrTestEntry) {
    let finished = ktstr::run::run(entry);
    assert_eq!(finished.exit_code(), 0, "{}", finished.text);
    assert!(finished.result.is_pass(), "{:?}", finished.result.outcomes);
    for pass in &finished.result.passes {
        println!("{}: {pass}", entry.name);
    }
    let mut notes = finished.result.info_notes.iter().map(|note| &note.message);
    let unjudged = notes.find(|note| note.contains("too short to judge shares"));
    let is_sum = |name: &str| SUMMED.iter().any(|summed| name.contains(summed));
    if let Some(note) = unjudged.filter(|note| !note.starts_with("step ") || !is_sum(entry.name)) {
        panic!("{}: {note}", entry.name);
    }
}

/// The scenarios some of whose steps are too short for judging shares in them alone. They are judged in all steps together.
const SUMMED: &[&str] = &[
    "_nested_task_move_",
    "_custom_nested_cgroup_task_move_",
    "_custom_cgroup_load_oscillation_",
    "_custom_cgroup_no_ctrl_task_migration_",
];

macro_rules! entries {
    ($name:ident, $window:expr) => {
        use super::*;

        const TOPOLOGY: Topology = topology(stringify!($name));
        case!(UNDER_SCX = concat!(stringify!($name), "_scx"), scenarios::$name,
            scheduler: &SCX_KTSTR, topology: TOPOLOGY, assert: CHECKS,
            duration: $window, watchdog_timeout: Duration::from_secs(20));
        case!(UNDER_EEVDF = concat!(stringify!($name), "_eevdf"), scenarios::$name,
            topology: TOPOLOGY, assert: CHECKS, duration: $window);
    };
}

macro_rules! canned {
    (core: $($core:ident)+; more: $($more:ident)+;) => {
        $(mod $core {
            entries!($core, WINDOW);

            #[test]
            fn under_scx_ktstr() {
                passes(&UNDER_SCX);
            }

            #[test]
            fn under_eevdf() {
                passes(&UNDER_EEVDF);
            }
        })+

        $(mod $more {
            entries!($more, window(stringify!($more)));

            #[test]
            fn under_its_schedulers() {
                in_turn(stringify!($more), &UNDER_SCX, &UNDER_EEVDF);
            }
        })+

        const TESTED: &[(&str, bool)] = &[
            $((stringify!($core), true),)+
            $((stringify!($more), false)),+
        ];
    };
}

/// Outside of the core, each scenario runs under one scheduler, alternating in the order of the table. If a seed is set
/// (`make seeds`), the purpose is to find false alarms, so each scenario runs under both.
fn in_turn(name: &str, scx_ktstr: &'static KtstrTestEntry, eevdf: &'static KtstrTestEntry) {
    let mut names = scenarios::CANNED.iter().map(|canned| canned.name);
    let at = names
        .position(|one| one == name)
        .expect("it is in the table");
    let both = std::env::var_os("KTSTR_SEED").is_some_and(|seed| !seed.is_empty());
    for (turn, entry) in [scx_ktstr, eevdf].into_iter().enumerate() {
        if both || at % 2 == turn {
            passes(entry);
        }
    }
}

canned! {
    core:
        steady steady_llc oversubscribed host_contention mixed_workloads
        cpuset_apply cpuset_clear cpuset_resize custom_cgroup_cpuset_swap_disjoint
        custom_cgroup_cpuset_widen custom_cgroup_cpuset_merge
        cgroup_add cgroup_remove custom_cgroup_rapid_churn nested_steady nested_task_move
        affinity_change affinity_pinned custom_affinity_churn
        custom_cgroup_4way_load_imbalance custom_cgroup_load_oscillation
        custom_nice_mix custom_nice_sweep
        custom_cgroup_pipe_io custom_futex_ping_pong custom_wake_chain custom_wake_under_load
        custom_fan_out_wake custom_thundering_herd custom_lock_convoy
        custom_bursts custom_bursts_spare custom_fork_storm custom_idle_churn custom_yield_storm;
    more:
        custom_host_cgroup_contention custom_sched_mixed custom_crash_light
        custom_cgroup_affinity_change custom_cgroup_multicpu_pin custom_cgroup_cpuset_multicpu_pin
        custom_cgroup_cpuset_apply_midrun custom_cgroup_cpuset_clear_midrun
        custom_cgroup_cpuset_resize custom_cgroup_cpuset_workload_imbalance
        custom_cgroup_cpuset_change_imbalance custom_cgroup_cpuset_load_shift
        custom_cgroup_add_midrun custom_cgroup_remove_midrun custom_cgroup_cpuset_add_remove
        custom_cgroup_add_during_imbalance custom_cgroup_add_load_imbalance
        custom_cgroup_imbalance_mixed_workload custom_cgroup_cpuset_imbalance_combined
        custom_cgroup_cpuset_overlap_imbalance_combined custom_cgroup_no_ctrl_task_migration
        custom_cgroup_no_ctrl_imbalance custom_cgroup_no_ctrl_cpuset_change
        custom_cgroup_no_ctrl_load_imbalance custom_cgroup_io_compute_imbalance
        custom_nested_cgroup_steady custom_nested_cgroup_task_move custom_nested_cgroup_rapid_churn
        custom_nested_cgroup_cpuset custom_nested_cgroup_imbalance custom_nested_cgroup_no_ctrl
        custom_cache_pressure_imbalance custom_cache_yield_wake_affine custom_fan_out_compute
        custom_cgroup_per_cpu custom_cgroup_exhaust_reuse custom_cgroup_dsq_contention
        custom_cgroup_workload_variety custom_cgroup_cpuset_workload_variety
        custom_cgroup_dynamic_workload_variety custom_cgroup_cpuset_cross_llc_race
        custom_cache_pipe_io_compute_imbalance;
}

#[test]
fn all_of_them_are_here() {
    let all: Vec<_> = scenarios::CANNED
        .iter()
        .map(|canned| (canned.name, canned.core))
        .collect();
    assert_eq!(all, TESTED);
}

/// Tests of the scenarios' own claims: each runs a scheduler that breaks a claim, and expects the claim to fail.
mod claims {
    use super::*;

    /// The window of these tests. The worker that starts first has the machine to itself for a tenth of a second. In a short
    /// window, this head start would hide that the worker is starved later.
    const LONG: Duration = Duration::from_secs(4);

    fn says(entry: &'static KtstrTestEntry, claim: &str) {
        let finished = ktstr::run::run(entry);
        assert!(finished.result.is_fail(), "{}", finished.text);
        let mut messages = finished.result.failure_details().map(|d| &d.message);
        assert!(
            messages.any(|message| message.contains(claim)),
            "{claim:?} is not in {}",
            finished.text
        );
    }

    // Which of several cgroups a scheduler neglects depends on the schedule, and the entitlement depends on the cgroup. So the
    // texts about shares leave the expected number out.
    macro_rules! broken {
        ($($test:ident: $scenario:ident under $($arg:literal)+, says $claim:literal;)+) => { $(
            #[test]
            fn $test() {
                case!(ENTRY = concat!("claim_", stringify!($test)), scenarios::$scenario,
                    scheduler: &SCX_KTSTR, extra_sched_args: &[$($arg),+],
                    topology: Topology::new(1, 2, 2, 1), assert: CHECKS,
                    duration: LONG, watchdog_timeout: Duration::from_secs(20));
                says(&ENTRY, $claim);
            }
        )+ };
    }

    broken! {
        cpus_are_busy: steady under "--idle-llc",
            says "share of CPU time used while workers waited: expected at least 0.8";
        every_cpu_is_used: steady under "--idle-llc",
            says "CPUs that no worker ran on while others waited: expected empty";
        equals_get_equal_time: steady under "--starve-cgroup",
            says "CPU time per worker in the best served cgroup, divided by that in the worst served one";
        switches_are_few: steady under "--switch-storm",
            says "context switches per CPU-second: expected at most 2500";
        weights_count: custom_nice_mix under "--invert-priority",
            says "CPU time of the favoured over the other: expected at least 1.5";
        shares_are_kept: custom_nice_sweep under "--starve-cgroup",
            says "share of the CPU time: expected at least";
        wake_ups_are_quick: custom_bursts_spare under "--wrong-cpu",
            says "median wake latency, µs: expected at most 1000";
        kinds_are_woken: custom_cgroup_imbalance_mixed_workload under "--slow-wake",
            says "median wake latency, µs: expected at most 20000";
        leaves_are_served: custom_nested_cgroup_no_ctrl under "--starve-cgroup",
            says "share of the CPU time: expected at least";
        cpus_of_one_cgroup_are_busy: custom_cgroup_cpuset_load_shift under "--idle-cpu",
            says "share of CPU time used while workers waited: expected at least 0.8";
    }
}
