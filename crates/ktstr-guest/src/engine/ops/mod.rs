//! The operations of a step: one line in the table below for each, which says who carries it out. An
//! operation without a line does not compile.

mod affinity;
mod capture;
mod cgroups;
mod cpu;
mod cpuset;
mod exclusive;
mod freeze;
mod hotplug;
mod irq;
mod kill;
mod memory;
mod move_tasks;
mod pids;
mod spawn;

use std::borrow::Cow;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ktstr_scenario::Ctx;
use ktstr_scenario::ops::{
    CgroupDef, CpusetPartition, CpusetSpec, IrqSelector, Op, OpRunner, SpawnPlacement,
};
use ktstr_scenario::workload::{AffinityIntent, WorkSpec};

use super::scene::{Owner, Scene};

/// A name as an operation holds it.
type Name = Cow<'static, str>;

/// Applies one operation. What it makes belongs to `owner`.
pub(super) fn apply(ctx: &Ctx, scene: &mut Scene, owner: Owner, op: &Op) -> Result<()> {
    op.run(&mut Call { ctx, scene, owner })
        .with_context(|| op.name().to_owned())
}

/// What an operation works on.
struct Call<'a, 'c> {
    ctx: &'a Ctx<'c>,
    scene: &'a mut Scene,
    /// Who has what it makes.
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
    add_cgroup(name: Name) => cgroups::add;
    add_cgroup_def(def: CgroupDef) => cgroups::add_def;
    remove_cgroup(cgroup: Name) => cgroups::remove;
    set_cpuset(cgroup: Name, cpus: CpusetSpec) => cpuset::set;
    clear_cpuset(cgroup: Name) => cpuset::clear;
    swap_cpusets(a: Name, b: Name) => cpuset::swap;
    spawn(placement: SpawnPlacement, work: WorkSpec) => spawn::spawn;
    stop_cgroup(cgroup: Name) => cgroups::stop;
    set_affinity(cgroup: Name, affinity: AffinityIntent) => affinity::set;
    move_all_tasks(from: Name, to: Name) => move_tasks::all;
    freeze_cgroup(cgroup: Name) => freeze::freeze;
    unfreeze_cgroup(cgroup: Name) => freeze::thaw;
    capture_snapshot(name: Name) => capture::snapshot;
    capture_cgroup_procs(tag: Name, cgroup: Name) => capture::cgroup_procs;
    steer_irq(irq: IrqSelector, cpu: usize) => irq::steer;
    set_cpu_max(cgroup: Name, quota: Option<Duration>, period: Duration) => cpu::max;
    set_cpu_weight(cgroup: Name, weight: u32) => cpu::weight;
    set_cpu_idle(cgroup: Name, idle: bool) => cpu::idle;
    set_uclamp_min(cgroup: Name, percent: f64) => cpu::uclamp_min;
    set_uclamp_max(cgroup: Name, percent: Option<f64>) => cpu::uclamp_max;
    set_memory_max(cgroup: Name, bytes: Option<u64>) => memory::max;
    set_memory_high(cgroup: Name, bytes: Option<u64>) => memory::high;
    set_memory_low(cgroup: Name, bytes: Option<u64>) => memory::low;
    set_pids_max(cgroup: Name, max: Option<u64>) => pids::max;
    set_cpuset_partition(cgroup: Name, partition: CpusetPartition) => cpuset::partition;
    kill_cgroup(cgroup: Name) => kill::kill;
    cpu_offline(cpu: usize) => hotplug::offline;
    cpu_online(cpu: usize) => hotplug::online;
}
