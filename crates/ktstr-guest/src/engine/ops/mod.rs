//! The operations of steps and of the backdrop. The table below has one line for each, which names the function that executes
//! it. An operation without a line does not compile.
//!
//! Many operations on a cgroup call [`LiveScenario::get`] only for its error if the scenario has no such cgroup, and drop the
//! result.

mod affinity;
mod capture;
mod cgroups;
mod cpu;
mod cpuset;
mod exclusive;
mod freeze;
mod hotplug;
mod irq;
mod kernel;
mod kill;
mod memory;
mod move_tasks;
mod payload;
mod pids;
mod pin_map;
mod policy;
mod scheduler;
mod spawn;

use std::borrow::Cow;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ktstr_scenario::Ctx;
use ktstr_scenario::ops::{
    CgroupDef, CpusetPartition, CpusetSpec, IrqSelector, KernelTarget, KernelValue,
    KernelValueWidth, Op, OpRunner, SpawnPlacement,
};
use ktstr_scenario::payload::Payload;
use ktstr_scenario::scheduler::Scheduler;
use ktstr_scenario::workload::{AffinityIntent, SchedPolicy, WorkSpec};

use super::live_scenario::{LiveScenario, Owner};

/// Executes one operation. Whatever it creates belongs to `owner`.
pub(super) fn apply(ctx: &Ctx, scenario: &mut LiveScenario, owner: Owner, op: &Op) -> Result<()> {
    op.run(&mut Call {
        ctx,
        scenario,
        owner,
    })
    .with_context(|| op.name().to_owned())
}

/// The state that an operation works on.
struct Call<'a, 'c> {
    ctx: &'a Ctx<'c>,
    scenario: &'a mut LiveScenario,
    /// The owner of whatever the operation creates.
    owner: Owner,
}

macro_rules! runners {
    ($( $op:ident($( $field:ident: $kind:ty ),*) => $file:ident::$function:ident; )*) => {
        impl OpRunner for Call<'_, '_> {
            type Output = Result<()>;
            $(
                fn $op(&mut self, $( $field: &$kind ),*) -> Result<()> {
                    $file::$function(self, $( $field ),*)
                }
            )*
        }
    };
}

runners! {
    add_cgroup(name: str) => cgroups::add;
    add_cgroup_def(def: CgroupDef) => cgroups::add_def;
    remove_cgroup(cgroup: str) => cgroups::remove;
    set_cpuset(cgroup: str, cpus: CpusetSpec) => cpuset::set;
    clear_cpuset(cgroup: str) => cpuset::clear;
    swap_cpusets(a: str, b: str) => cpuset::swap;
    spawn(placement: SpawnPlacement, work: WorkSpec) => spawn::spawn;
    stop_cgroup(cgroup: str) => cgroups::stop;
    set_affinity(cgroup: str, affinity: AffinityIntent) => affinity::set;
    move_all_tasks(from: str, to: str) => move_tasks::all;
    run_payload_in(payload: &'static Payload, args: [String], cgroup: Option<Cow<'static, str>>) => payload::run;
    wait_payload_in(name: str, cgroup: Option<Cow<'static, str>>) => payload::wait;
    kill_payload_in(name: str, cgroup: Option<Cow<'static, str>>) => payload::kill;
    freeze_cgroup(cgroup: str) => freeze::freeze;
    unfreeze_cgroup(cgroup: str) => freeze::thaw;
    capture_snapshot(name: str) => capture::snapshot;
    watch_snapshot(symbol: str) => kernel::watch;
    write_kernel_hot_batch(writes: [(KernelTarget, KernelValue)]) => kernel::write_hot;
    write_kernel_cold_batch(writes: [(KernelTarget, KernelValue)]) => kernel::write_cold;
    read_kernel_hot(tag: str, target: KernelTarget, width: KernelValueWidth) => kernel::read_hot;
    read_kernel_cold(tag: str, target: KernelTarget, width: KernelValueWidth) => kernel::read_cold;
    attach_scheduler(scheduler: &'static Scheduler) => scheduler::attach;
    detach_scheduler() => scheduler::detach;
    restart_scheduler() => scheduler::restart;
    replace_scheduler(scheduler: &'static Scheduler) => scheduler::replace;
    pin_bpf_map(name: str) => pin_map::pin;
    capture_cgroup_procs(tag: str, cgroup: str) => capture::cgroup_procs;
    steer_irq(irq: IrqSelector, cpu: usize) => irq::steer;
    set_cpu_max(cgroup: str, quota: Option<Duration>, period: Duration) => cpu::max;
    set_cpu_weight(cgroup: str, weight: u32) => cpu::weight;
    set_cpu_idle(cgroup: str, idle: bool) => cpu::idle;
    set_uclamp_min(cgroup: str, percent: f64) => cpu::uclamp_min;
    set_uclamp_max(cgroup: str, percent: Option<f64>) => cpu::uclamp_max;
    set_memory_max(cgroup: str, bytes: Option<u64>) => memory::max;
    set_memory_high(cgroup: str, bytes: Option<u64>) => memory::high;
    set_memory_low(cgroup: str, bytes: Option<u64>) => memory::low;
    set_pids_max(cgroup: str, max: Option<u64>) => pids::max;
    set_cpuset_partition(cgroup: str, partition: CpusetPartition) => cpuset::partition;
    kill_cgroup(cgroup: str) => kill::kill;
    cpu_offline(cpu: usize) => hotplug::offline;
    cpu_online(cpu: usize) => hotplug::online;
    set_sched_policy(cgroup: str, policy: SchedPolicy) => policy::set;
}
