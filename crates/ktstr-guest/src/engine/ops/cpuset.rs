//! Operations that change the cpuset of a cgroup, or make it a partition.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use ktstr_scenario::cgroup::Controller;
use ktstr_scenario::ops::{CpusetPartition, CpusetSpec};
use ktstr_scenario::topology::cpuset_string;

use super::{Call, exclusive};
use crate::link;

const PARTITION: &str = "cpuset.cpus.partition";
/// The file with the CPUs that the cgroup or its descendants may use for partitions.
pub(super) const EXCLUSIVE: &str = "cpuset.cpus.exclusive";

pub(super) fn set(call: &mut Call, cgroup: &str, cpus: &CpusetSpec) -> Result<()> {
    let cpus = cpus.resolve(call.ctx)?;
    put(call, cgroup, Some(cpus))
}

pub(super) fn clear(call: &mut Call, cgroup: &str) -> Result<()> {
    put(call, cgroup, None)
}

pub(super) fn swap(call: &mut Call, a: &str, b: &str) -> Result<()> {
    let of_a = call.scenario.get(a)?.cpuset.clone();
    let of_b = call.scenario.get(b)?.cpuset.clone();
    put(call, a, of_b)?;
    put(call, b, of_a)
}

fn put(call: &mut Call, name: &str, cpus: Option<BTreeSet<usize>>) -> Result<()> {
    let tracked = call.scenario.get(name)?;
    match &cpus {
        Some(cpus) if cpus.is_empty() => bail!("the cpuset of cgroup {name:?} would be empty"),
        Some(cpus) => call.ctx.cgroups.set_cpuset(name, cpus)?,
        None => call.ctx.cgroups.clear_cpuset(name)?,
    }
    tracked.set_cpuset(cpus);
    call.scenario.note_effective_cpus(call.ctx);
    Ok(())
}

/// Makes a cgroup a partition, or a plain member again. A cgroup deep in the tree can be a partition only if all of
/// its ancestors pass its CPUs down (`cpuset.cpus.exclusive`, since Linux 6.7). If a partition is impossible, the write
/// succeeds nevertheless, and the kernel marks the partition as invalid in the file. The file is therefore read back.
pub(super) fn partition(call: &mut Call, name: &str, to: &CpusetPartition) -> Result<()> {
    if !link::is_there() {
        bail!("a host_only test shares the host's CPUs and must not partition them");
    }
    let cpus = call.scenario.get(name)?.cpuset.clone();
    let cgroups = call.ctx.cgroups;
    let put = |file, value: &str| cgroups.set_file(name, Some(Controller::Cpuset), file, value);
    if *to != CpusetPartition::Member {
        let Some(cpus) = cpus else {
            bail!("cgroup {name:?} has no CPUs of its own: give it some with Op::set_cpuset first")
        };
        exclusive::hand_down(&cgroups.parent_path().join(name), &cpus)?;
        put(EXCLUSIVE, &cpuset_string(&cpus))?;
    }
    put(PARTITION, to.as_str())?;
    if *to == CpusetPartition::Member {
        // Clear the exclusive CPUs, so that another cgroup can become a partition of them.
        put(EXCLUSIVE, "\n")?;
    }
    let path = cgroups.parent_path().join(name).join(PARTITION);
    match std::fs::read_to_string(&path) {
        Ok(now) if now.contains("invalid") => bail!(
            "{} is now `{}`: a partition needs CPUs that no sibling cgroup has",
            path.display(),
            now.trim()
        ),
        _ => {
            call.scenario.note_effective_cpus(call.ctx);
            Ok(())
        }
    }
}
