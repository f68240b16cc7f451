//! The canned scenarios, and one in which a CPU goes offline, as tests of this binary. Each is the same under every scheduler.
//! Windows are short and shapes are small, because each scenario is run hundreds of times. Most machines have two CPUs. The
//! others have four CPUs, in two LLCs except in `cpuset_resize`.
//!
//! The host decides which scheduler runs and with which arguments (`run.rs`). The scheduler declared here is only a placeholder
//! for it.

use std::time::Duration;

use ktstr::prelude::*;
use ktstr::scenario::scenarios::*;

use super::SCX_KTSTR;

const TWO_CPUS: Topology = Topology::new(1, 1, 2, 1);
const FOUR_CPUS: Topology = Topology::new(1, 1, 4, 1);
const TWO_LLCS: Topology = Topology::new(1, 2, 2, 1);

/// The checks of every scenario, unless a cell changes their bounds.
const CHECKS: Assert = Assert::NO_OVERRIDES
    .check_not_stuck()
    .check_isolation()
    .with_monitor_defaults();

const ENTRY: KtstrTestEntry = KtstrTestEntry {
    scheduler: &SCX_KTSTR,
    assert: CHECKS,
    duration: Duration::from_secs(3),
    watchdog_timeout: Duration::from_secs(3),
    ..KtstrTestEntry::DEFAULT
};

macro_rules! scenarios {
    ($($topology:ident: $($func:ident)+;)+) => { $($(
        const _: () = {
            #[ktstr_test_entry]
            static ENTRY_OF: KtstrTestEntry = KtstrTestEntry {
                name: concat!("canned-", stringify!($func)),
                func: $func,
                topology: $topology,
                ..ENTRY
            };
        };
    )+)+ };
}

/// Takes a CPU offline while the workers run, and brings it back.
fn cpu_off_and_on(ctx: &Ctx) -> Result<AssertResult> {
    let online = "/sys/devices/system/cpu/cpu1/online";
    let third = ctx.duration / 3;
    let switch = std::thread::spawn(move || {
        ["0", "1"].into_iter().try_for_each(|state| {
            std::thread::sleep(third);
            std::fs::write(online, state)
        })
    });
    let workers = ctx.topo.total_cpus();
    let result = execute_defs(ctx, vec![CgroupDef::named("busy").workers(workers)]);
    switch
        .join()
        .map_err(|_| anyhow::anyhow!("the thread that switches a CPU panicked"))??;
    result
}

scenarios! {
    TWO_CPUS:
        steady oversubscribed host_contention mixed_workloads
        cgroup_add cgroup_remove custom_cgroup_rapid_churn nested_steady nested_task_move
        affinity_change affinity_pinned custom_affinity_churn
        custom_cgroup_load_oscillation custom_nice_mix custom_nice_sweep
        custom_cgroup_pipe_io custom_futex_ping_pong custom_wake_chain custom_wake_under_load
        custom_fan_out_wake custom_thundering_herd custom_lock_convoy
        custom_bursts custom_bursts_spare custom_fork_storm custom_idle_churn custom_yield_storm
        cpu_off_and_on;
    FOUR_CPUS:
        cpuset_resize;
    TWO_LLCS:
        steady_llc custom_cgroup_4way_load_imbalance
        cpuset_apply cpuset_clear custom_cgroup_cpuset_swap_disjoint
        custom_cgroup_cpuset_widen custom_cgroup_cpuset_merge;
}
