//! Canned scenarios: typical loads for a scheduler. Each is a function that a test can call, or that can serve as a test
//! function itself. A scenario adapts its size to the machine, holds each step for a fraction of the workload window, and
//! returns a skip with the reason if the topology does not fit.
//!
//! In addition to the test's own checks, almost every scenario checks what any correct scheduler does: CPUs are not idle
//! while workers wait, equal workers get equal CPU time within a factor of two, wakeups are not delayed for long, and a
//! task stays on the CPUs to which it is confined. The bounds here and in `expect.rs` are generous. They catch schedulers
//! that are broken; they do not measure how good a scheduler is.

mod affinity;
mod arrivals;
mod caches;
mod cgroups;
mod cpusets;
mod crowds;
mod expect;
mod loads;
mod midrun;
mod nested;
mod no_ctrl;
mod pins;
mod policies;
mod steady;
mod storms;
mod variety;
mod wakes;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use ktstr_assert::{Assert, AssertResult};
use ktstr_record::brief::counted;
use ktstr_scenario::Ctx;
use ktstr_scenario::ops::{CgroupDef, CpusetSpec};
use ktstr_scenario::workload::WorkType;

pub use affinity::{affinity_change, affinity_pinned, custom_affinity_churn};
pub use arrivals::{
    custom_cgroup_add_during_imbalance, custom_cgroup_add_load_imbalance, custom_cgroup_add_midrun,
    custom_cgroup_cpuset_add_remove, custom_cgroup_remove_midrun,
};
pub use caches::{
    custom_cache_pipe_io_compute_imbalance, custom_cache_pressure_imbalance,
    custom_cache_yield_wake_affine, custom_fan_out_compute,
};
pub use cgroups::{
    cgroup_add, cgroup_remove, custom_cgroup_rapid_churn, nested_steady, nested_task_move,
};
pub use cpusets::{
    cpuset_apply, cpuset_clear, cpuset_resize, custom_cgroup_cpuset_merge,
    custom_cgroup_cpuset_swap_disjoint, custom_cgroup_cpuset_widen,
};
pub use crowds::{
    custom_cgroup_cpuset_cross_llc_race, custom_cgroup_dsq_contention, custom_cgroup_exhaust_reuse,
    custom_cgroup_per_cpu,
};
pub use loads::{
    custom_cgroup_4way_load_imbalance, custom_cgroup_load_oscillation, custom_nice_mix,
    custom_nice_sweep,
};
pub use midrun::{
    custom_cgroup_cpuset_apply_midrun, custom_cgroup_cpuset_change_imbalance,
    custom_cgroup_cpuset_clear_midrun, custom_cgroup_cpuset_imbalance_combined,
    custom_cgroup_cpuset_load_shift, custom_cgroup_cpuset_overlap_imbalance_combined,
    custom_cgroup_cpuset_resize, custom_cgroup_cpuset_workload_imbalance,
};
pub use nested::{
    custom_nested_cgroup_cpuset, custom_nested_cgroup_imbalance, custom_nested_cgroup_no_ctrl,
    custom_nested_cgroup_rapid_churn, custom_nested_cgroup_steady, custom_nested_cgroup_task_move,
};
pub use no_ctrl::{
    custom_cgroup_imbalance_mixed_workload, custom_cgroup_io_compute_imbalance,
    custom_cgroup_no_ctrl_cpuset_change, custom_cgroup_no_ctrl_imbalance,
    custom_cgroup_no_ctrl_load_imbalance, custom_cgroup_no_ctrl_task_migration,
};
pub use pins::{
    custom_cgroup_affinity_change, custom_cgroup_cpuset_multicpu_pin, custom_cgroup_multicpu_pin,
};
pub use policies::{custom_crash_light, custom_host_cgroup_contention, custom_sched_mixed};
pub use steady::{host_contention, mixed_workloads, oversubscribed, steady, steady_llc};
pub use storms::{
    custom_bursts, custom_bursts_spare, custom_fork_storm, custom_idle_churn, custom_yield_storm,
};
pub use variety::{
    custom_cgroup_cpuset_workload_variety, custom_cgroup_dynamic_workload_variety,
    custom_cgroup_workload_variety,
};
pub use wakes::{
    custom_cgroup_pipe_io, custom_fan_out_wake, custom_futex_ping_pong, custom_lock_convoy,
    custom_thundering_herd, custom_wake_chain, custom_wake_under_load,
};

/// An entry of [`CANNED`]: a scenario and its name.
#[derive(Clone, Copy, Debug)]
pub struct Canned {
    /// The name of the function.
    pub name: &'static str,
    /// The function that runs the scenario.
    pub run: fn(&Ctx) -> Result<AssertResult>,
    /// Whether the scenario belongs to the core set. `cargo ktstr check` runs this set by default, and `cargo ktstr power` runs
    /// it for every planted defect. The other scenarios are variations for closer study of a single subject.
    pub core: bool,
}

macro_rules! canned {
    (core: $($core:ident)+; more: $($more:ident)+;) => {
        /// All canned scenarios, the core ones first.
        pub const CANNED: &[Canned] = &[
            $(Canned { name: stringify!($core), run: $core, core: true },)+
            $(Canned { name: stringify!($more), run: $more, core: false },)+
        ];
    };
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

/// Declares a cgroup with `workers` spinning workers.
fn spinners(name: &str, workers: usize) -> CgroupDef {
    CgroupDef::named(name).workers(workers)
}

/// Declares a cgroup with `workers` workers that do `work`.
fn group(name: &str, work: WorkType, workers: usize) -> CgroupDef {
    CgroupDef::named(name).work_type(work).workers(workers)
}

/// Returns work that looks to the scheduler like waiting for a device: 0.2 ms of work between sleeps of 2 ms. A timer
/// interrupt ends each sleep.
fn device_io() -> WorkType {
    WorkType::idle_churn(Duration::from_micros(200), ms(2), true)
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A bound on the spread of the workers' shares of CPU time, in percentage points, that accepts everything. It is for
/// workers whose CPU times may differ, for example because they change their own weight or yield.
const ANY: f64 = 100.0;

/// Upper bounds for wakeup latencies, in µs.
#[derive(Clone, Copy)]
struct WakeBounds {
    /// The bound for the median.
    median_us: f64,
    /// The bound for the 99th percentile.
    p99_us: f64,
}

/// The bounds for wakeups while some CPUs are idle. The bound for the median is about three orders of magnitude above the
/// time that a CPU needs to leave idle.
const SPARE: WakeBounds = WakeBounds {
    median_us: 1_000.0,
    p99_us: 10_000.0,
};
/// The bounds for wakeups while all CPUs are busy: one default slice of sched_ext for the median, and two for the 99th percentile
/// (`SCX_SLICE_DFL`, 20 ms: include/linux/sched/ext.h).
const LOADED: WakeBounds = WakeBounds {
    median_us: 20_000.0,
    p99_us: 40_000.0,
};

/// Returns the test's checks. If the default bound on spread applies (`not_stuck` without `max_spread_pct`), `pct` replaces it.
fn spread(ctx: &Ctx, pct: f64) -> Assert {
    match (ctx.assert.not_stuck, ctx.assert.max_spread_pct) {
        (Some(true), None) => ctx.assert.max_spread_pct(pct),
        _ => ctx.assert,
    }
}

/// Splits the machine's CPUs into two parts that are not empty, the first with about `share` of them. Returns `None`
/// for a machine with one CPU or fewer than `at_least`.
fn split(ctx: &Ctx, share: f64, at_least: usize) -> Option<[BTreeSet<usize>; 2]> {
    let all = ctx.topo.all_cpus();
    if all.len() < at_least.max(2) {
        return None;
    }
    let first = (all.len() as f64 * share).round() as usize;
    let (a, b) = all.split_at(first.clamp(1, all.len() - 1));
    Some([a, b].map(|cpus| cpus.iter().copied().collect()))
}

/// Splits the CPUs like [`split`]. If there are several LLCs, the cut is between two of them, and `share` is a share of the
/// LLCs, because EEVDF fails scenarios in which a cpuset splits an LLC: see [`cpuset_resize`].
fn cut(ctx: &Ctx, share: f64, at_least: usize) -> Option<[BTreeSet<usize>; 2]> {
    let llcs = ctx.topo.num_llcs();
    if llcs < 2 || ctx.topo.total_cpus() < at_least {
        return split(ctx, share, at_least);
    }
    let first = ((llcs as f64 * share).round() as usize).clamp(1, llcs - 1);
    let part = |llcs: std::ops::Range<usize>| {
        llcs.flat_map(|llc| ctx.topo.llc_aligned_cpuset(llc))
            .collect()
    };
    Some([part(0..first), part(first..llcs)])
}

/// Returns a cpuset of exactly these CPUs.
fn exactly(cpus: &BTreeSet<usize>) -> CpusetSpec {
    CpusetSpec::exact(cpus.iter().copied())
}

fn needs_cpus(ctx: &Ctx, count: usize) -> AssertResult {
    AssertResult::skip(format!(
        "the scenario needs {}, the machine has {}",
        counted(count, "CPU"),
        ctx.topo.total_cpus()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ktstr_scenario::topology::{TestTopology, Topology};

    #[test]
    fn parts_are_never_empty() {
        let cgroups = ktstr_guest::cgroup::CgroupManager::new("/nowhere");
        for cpus in 1..=9 {
            let topo = TestTopology::from_vm_topology(&Topology::new(1, 1, cpus, 1));
            let ctx = Ctx::builder(&cgroups, &topo).build();
            for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
                match split(&ctx, share, 2) {
                    None => assert_eq!(cpus, 1),
                    Some([a, b]) => {
                        assert!(!a.is_empty() && !b.is_empty());
                        assert_eq!(a.len() + b.len(), cpus as usize);
                    }
                }
            }
        }
    }

    #[test]
    fn cuts_go_between_llcs() {
        let cgroups = ktstr_guest::cgroup::CgroupManager::new("/nowhere");
        for llcs in 2..=4 {
            let topo = TestTopology::from_vm_topology(&Topology::new(1, llcs, 3, 1));
            let ctx = Ctx::builder(&cgroups, &topo).build();
            for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
                let [a, b] = cut(&ctx, share, 2).expect("there are enough CPUs");
                assert!(!a.is_empty() && !b.is_empty());
                assert_eq!(&a | &b, topo.all_cpuset());
                for llc in topo.split_by_llc() {
                    assert!(llc.is_subset(&a) || llc.is_subset(&b), "{llc:?} {a:?}");
                }
            }
        }
    }
}
