//! The operation that moves the tasks of a cgroup to another one.

use anyhow::{Result, bail};

use super::Call;
use crate::engine::scene::{Owner, RUNNER};

pub(super) fn all(call: &mut Call, from: &str, to: &str) -> Result<()> {
    let (ctx, scene) = (call.ctx, &mut *call.scene);
    if from == to {
        bail!("from and to are the same cgroup {from:?}");
    }
    for name in [from, to] {
        if name == RUNNER {
            scene.runner(call.owner);
        }
    }
    let from_owner = scene.get(from)?.owner;
    let to_owner = scene.get(to)?.owner;
    if from_owner == Owner::Backdrop && to_owner == Owner::Step {
        bail!(
            "cgroup {to:?} is removed with the step, but the workers of {from:?} live on: move them to a \
             cgroup of the backdrop"
        );
    }
    let pids: Vec<i32> = if from == RUNNER {
        let handles = &scene.get(from)?.handles;
        handles.iter().flat_map(|h| h.worker_pids()).collect()
    } else {
        ctx.cgroups.read_procs(from)?
    };
    if to == RUNNER {
        ctx.cgroups.drain_tasks(from)?;
    } else {
        ctx.cgroups.move_tasks(to, &pids)?;
    }
    // Workers are stopped, counted and judged with the cgroup that they are in.
    let handles = std::mem::take(&mut scene.get(from)?.handles);
    let cpuset = scene.get(from)?.cpuset.clone();
    scene.get(to)?.adopt(handles, cpuset.as_ref());
    Ok(())
}
