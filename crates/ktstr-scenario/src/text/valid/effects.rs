//! The effects of operations on the cgroups that exist ([`Stage`]), and the checks that need several fields of an operation. In
//! the table of operations, `effect` is followed by the name of the operation's function in this file.

use std::borrow::Cow;

use super::Checked;
use super::stage::{Life, Live, Stage, is_below};
use crate::ops::{CgroupDef, CpusetPartition, CpusetSpec, NO_PARTITION, SpawnPlacement};
use crate::payload::Payload;
use crate::workload::{AffinityIntent, WorkSpec};

pub(super) fn add(stage: &mut Stage<'_>, name: &str) -> Checked {
    stage.add(stage.life, name)
}

pub(super) fn add_def(stage: &mut Stage<'_>, def: &CgroupDef) -> Checked {
    stage.add_def(stage.life, def)
}

pub(super) fn remove(stage: &mut Stage<'_>, name: &str) -> Checked {
    // The engine removes the cgroups below, too, and only warns if there is no such cgroup.
    stage
        .cgroups
        .retain(|other, _| other != name && !is_below(other, name));
    Ok(())
}

pub(super) fn set_cpuset(stage: &mut Stage<'_>, cgroup: &str, cpus: &CpusetSpec) -> Checked {
    let cpus = stage.cpus_of(cpus)?;
    stage.get(cgroup)?.cpus = Some(cpus);
    Ok(())
}

pub(super) fn clear_cpuset(stage: &mut Stage<'_>, cgroup: &str) -> Checked {
    let live = stage.get(cgroup)?;
    live.cpus = None;
    has_cpus(cgroup, live)
}

pub(super) fn swap_cpusets(stage: &mut Stage<'_>, a: &str, b: &str) -> Checked {
    let of_a = stage.get(a)?.cpus.clone();
    let of_b = std::mem::replace(&mut stage.get(b)?.cpus, of_a);
    stage.get(a)?.cpus = of_b;
    for name in [a, b] {
        has_cpus(name, stage.get(name)?)?;
    }
    Ok(())
}

pub(super) fn partition(stage: &mut Stage<'_>, cgroup: &str, to: &CpusetPartition) -> Checked {
    let live = stage.get(cgroup)?;
    live.partition = *to != CpusetPartition::Member;
    has_cpus(cgroup, live)
}

/// Checks that a cgroup which is a partition has CPUs of its own.
fn has_cpus(name: &str, live: &Live) -> Checked {
    match live.partition && live.cpus.is_none() {
        true => Err(format!("cgroup {name:?} would be a {NO_PARTITION}")),
        false => Ok(()),
    }
}

pub(super) fn spawn(stage: &mut Stage<'_>, placement: &SpawnPlacement, work: &WorkSpec) -> Checked {
    match placement {
        SpawnPlacement::Cgroup(name) => stage.spawn(name, work),
        SpawnPlacement::RunnerCgroup if work.workers_pct.is_some() => Err(
            "workers_pct cannot be used in the harness's own cgroup: give `workers` instead"
                .to_owned(),
        ),
        SpawnPlacement::RunnerCgroup => {
            stage.in_harness.get_or_insert(stage.life);
            stage.work(None, work)
        }
    }
}

pub(super) fn stop(stage: &mut Stage<'_>, cgroup: &str) -> Checked {
    stage.get(cgroup)?.busy = false;
    Ok(())
}

pub(super) fn kill(stage: &mut Stage<'_>, cgroup: &str) -> Checked {
    stage.get(cgroup)?;
    for (name, live) in &mut stage.cgroups {
        if name == cgroup || is_below(name, cgroup) {
            live.busy = false;
            live.programs.clear();
        }
    }
    Ok(())
}

/// Checks that the affinity selects CPUs of the cgroup.
pub(super) fn affinity(stage: &mut Stage<'_>, cgroup: &str, affinity: &AffinityIntent) -> Checked {
    stage.get(cgroup)?;
    let cpus = stage.cpus_in(cgroup);
    let resolved = affinity.resolve(cpus.as_ref(), stage.topology);
    resolved.map(drop).map_err(|error| error.to_string())
}

pub(super) fn move_all(stage: &mut Stage<'_>, from: &str, to: &str) -> Checked {
    if from == to {
        return Err(format!("from and to are the same cgroup {from:?}"));
    }
    // The harness's own cgroup always exists. Its workers have the lifetime of the first ones.
    let of_from = match from {
        "" => *stage.in_harness.get_or_insert(stage.life),
        from => stage.get(from)?.life,
    };
    let of_to = match to {
        "" => *stage.in_harness.get_or_insert(of_from),
        to => stage.get(to)?.life,
    };
    if (of_from, of_to) == (Life::Scenario, Life::Step) {
        let place = match to {
            "" => "the harness's own cgroup already has workers of this step, which are stopped with it".to_owned(),
            to => format!("cgroup {to:?} ends with the step"),
        };
        return Err(format!(
            "{place}, but the workers of {from:?} live on: move them to a cgroup of the backdrop"
        ));
    }
    let (busy, programs) = match from {
        "" => (true, Vec::new()),
        from => {
            let live = stage.get(from)?;
            (
                std::mem::take(&mut live.busy),
                std::mem::take(&mut live.programs),
            )
        }
    };
    if !to.is_empty() && (busy || !programs.is_empty()) {
        let live = stage.occupied(to)?;
        live.busy |= busy;
        live.programs.extend(programs);
    }
    Ok(())
}

pub(super) fn run_payload(
    stage: &mut Stage<'_>,
    payload: &'static Payload,
    args: &[String],
    cgroup: &Option<Cow<'static, str>>,
) -> Checked {
    payload.validate().map_err(|error| error.to_string())?;
    (args.iter())
        .try_for_each(|arg| payload.validate_arg(arg))
        .map_err(|error| error.to_string())?;
    (cgroup.iter()).try_for_each(|name| stage.start_program(name, payload.name))
}

/// Records that the program of this name in `cgroup` has ended. `None` is allowed only if one program of this name has been
/// started and has not ended by an operation, so the program is removed from whichever cgroup has it.
pub(super) fn end_payload(
    stage: &mut Stage<'_>,
    program: &str,
    cgroup: &Option<Cow<'static, str>>,
) -> Checked {
    for (name, live) in &mut stage.cgroups {
        if cgroup.as_ref().is_none_or(|cgroup| cgroup == name) {
            live.programs.retain(|(_, other)| *other != program);
        }
    }
    Ok(())
}
