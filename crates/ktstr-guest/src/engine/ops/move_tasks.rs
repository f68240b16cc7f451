//! The operation that moves the tasks of a cgroup to another cgroup.

use anyhow::{Result, bail};

use super::Call;
use crate::engine::live_scenario::{Owner, RUNNER};

pub(super) fn all(call: &mut Call, from: &str, to: &str) -> Result<()> {
    let (ctx, scenario) = (call.ctx, &mut *call.scenario);
    if from == to {
        bail!("from and to are the same cgroup {from:?}");
    }
    if from == RUNNER {
        scenario.runner(call.owner);
    }
    let from_owner = scenario.get(from)?.owner;
    if to == RUNNER {
        // If the harness's own cgroup has no entry yet, the new entry gets the owner of the moved workers, so that workers of the
        // backdrop live until the end of the scenario there, too.
        scenario.runner(from_owner);
    }
    let to_owner = scenario.get(to)?.owner;
    if from_owner == Owner::Backdrop && to_owner == Owner::Step {
        let there = match to {
            RUNNER => "the harness's own cgroup already has workers of this step, which are stopped with it".to_owned(),
            _ => format!("cgroup {to:?} is removed with the step"),
        };
        bail!(
            "{there}, but the workers of {from:?} live on: move them to a cgroup of the backdrop"
        );
    }
    let pids: Vec<i32> = if from == RUNNER {
        let handles = &scenario.get(from)?.handles;
        handles.iter().flat_map(|h| h.worker_pids()).collect()
    } else {
        ctx.cgroups.read_procs(from)?
    };
    if to == RUNNER {
        ctx.cgroups.drain_tasks(from)?;
    } else {
        ctx.cgroups.move_tasks(to, &pids)?;
    }
    // The kernel has moved the tasks, so move the records of them, too: workers and programs are stopped, counted and judged with
    // the cgroup whose records contain them.
    if from != RUNNER {
        let there = Some(to).filter(|to| *to != RUNNER);
        let programs = scenario.payloads.moved(from, there);
        scenario.get(to)?.runs_payloads |= programs;
    }
    let reach = scenario.quota_reach(ctx, from);
    // The new cgroup may have other CPUs. What was forced before belongs to the workers, and so to both cgroups.
    scenario.get(from)?.forces_moves();
    let forced = scenario.get(from)?.forced_moves;
    let handles = std::mem::take(&mut scenario.get(from)?.handles);
    let allowed = scenario.get(from)?.allowed.clone();
    let placements = scenario.get(from)?.placements.clone();
    let there = scenario.get(to)?;
    there.forced_moves = there.forced_moves.saturating_add(forced);
    there.adopt(handles, &allowed, placements, reach);
    Ok(())
}
