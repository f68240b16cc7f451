//! Operations whose results the host keeps for the test's callbacks: captures and lists of
//! processes.

use std::sync::atomic::Ordering::Relaxed;

use anyhow::{Result, anyhow, bail};

use super::Call;
use crate::link;
use crate::protocol::{Ask, MAX_TAG};

pub(super) fn snapshot(call: &mut Call, tag: &str) -> Result<()> {
    check(tag)?;
    call.scenario.stats.request(tag);
    ask(Ask::Capture {
        tag: tag.to_owned(),
        step_index: call.ctx.current_step.load(Relaxed),
    })
}

pub(super) fn cgroup_procs(call: &mut Call, tag: &str, cgroup: &str) -> Result<()> {
    check(tag)?;
    call.scenario.get(cgroup)?;
    ask(Ask::CgroupProcs {
        tag: tag.to_owned(),
        cgroup: cgroup.to_owned(),
        pids: call.ctx.cgroups.read_procs(cgroup)?,
    })
}

pub(super) fn check(tag: &str) -> Result<()> {
    if (1..=MAX_TAG).contains(&tag.len()) {
        return Ok(());
    }
    bail!(
        "the tag {tag:?} has {} bytes, but a tag has 1 to {MAX_TAG}",
        tag.len()
    )
}

pub(super) fn ask(ask: Ask) -> Result<()> {
    link::ask(&ask).map_err(|why| anyhow!(why))
}
