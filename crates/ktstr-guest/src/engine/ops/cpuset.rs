//! Operations that change the cpuset of a cgroup, or make it a partition.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use ktstr_scenario::ops::{CpusetPartition, CpusetSpec, NO_PARTITION};

use super::Call;
use crate::engine::partition;
use crate::link;

/// A cgroup with its new CPUs; `None` clears them.
type Change<'a> = (&'a str, Option<BTreeSet<usize>>);

pub(super) fn set(call: &mut Call, cgroup: &str, cpus: &CpusetSpec) -> Result<()> {
    let cpus = cpus.resolve(call.ctx)?;
    put(call, &[(cgroup, Some(cpus))])
}

pub(super) fn clear(call: &mut Call, cgroup: &str) -> Result<()> {
    put(call, &[(cgroup, None)])
}

pub(super) fn swap(call: &mut Call, a: &str, b: &str) -> Result<()> {
    let of_a = call.scenario.get(a)?.cpuset.clone();
    let of_b = call.scenario.get(b)?.cpuset.clone();
    put(call, &[(a, of_b), (b, of_a)])
}

/// Changes the CPUs of cgroups. Partitions among these cgroups are plain members until all cpusets are written, for two reasons:
/// the kernel lets a partition keep its exclusive CPUs whatever cpuset is written, and two partitions must never share a CPU.
fn put(call: &mut Call, changes: &[Change<'_>]) -> Result<()> {
    for (name, cpus) in changes {
        let is_member = call.scenario.get(name)?.partition == CpusetPartition::Member;
        match cpus {
            Some(cpus) if cpus.is_empty() => bail!("the cpuset of cgroup {name:?} would be empty"),
            None if !is_member => bail!("cgroup {name:?} would be a {NO_PARTITION}"),
            _ => {}
        }
    }
    let mut partitions = Vec::new();
    for (name, cpus) in changes {
        let kind = call.scenario.get(name)?.partition;
        if let (Some(cpus), true) = (cpus, kind != CpusetPartition::Member) {
            dissolve(call, name)?;
            partitions.push((*name, cpus, kind));
        }
    }
    for (name, cpus) in changes {
        match cpus {
            Some(cpus) => call.ctx.cgroups.set_cpuset(name, cpus)?,
            None => call.ctx.cgroups.clear_cpuset(name)?,
        }
        call.scenario.get(name)?.cpuset = cpus.clone();
        call.scenario.note_effective_cpus(call.ctx);
    }
    for (name, cpus, kind) in partitions {
        form(call, name, cpus, kind)?;
    }
    call.scenario.partitions_are_valid(call.ctx)
}

/// Makes a cgroup a partition, or a plain member again.
pub(super) fn partition(call: &mut Call, name: &str, to: &CpusetPartition) -> Result<()> {
    if !link::is_there() {
        bail!("a host_only test shares the host's CPUs and must not partition them");
    }
    let cpus = call.scenario.get(name)?.cpuset.clone();
    match (to, cpus) {
        (CpusetPartition::Member, _) => dissolve(call, name),
        (_, None) => bail!("cgroup {name:?} would be a {NO_PARTITION}"),
        (to, Some(cpus)) => form(call, name, &cpus, *to),
    }
}

fn form(call: &mut Call, name: &str, cpus: &BTreeSet<usize>, to: CpusetPartition) -> Result<()> {
    partition::form(call.ctx, name, cpus, to)?;
    call.scenario.get(name)?.partition = to;
    call.scenario.note_effective_cpus(call.ctx);
    Ok(())
}

fn dissolve(call: &mut Call, name: &str) -> Result<()> {
    partition::dissolve(call.ctx, name)?;
    call.scenario.get(name)?.partition = CpusetPartition::Member;
    call.scenario.note_effective_cpus(call.ctx);
    Ok(())
}
