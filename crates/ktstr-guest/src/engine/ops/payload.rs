//! Operations that start, await and kill payloads: programs from the host that run in the guest, next to the workers.

use std::borrow::Cow;

use anyhow::Result;
use ktstr_scenario::payload::Payload;

use super::Call;

type Name = Option<Cow<'static, str>>;

pub(super) fn run(
    call: &mut Call,
    payload: &&'static Payload,
    args: &[String],
    cgroup: &Name,
) -> Result<()> {
    let cgroup = cgroup.as_deref();
    if let Some(name) = cgroup {
        call.scenario.get(name)?.runs_payloads = true;
    }
    let (ctx, owner) = (call.ctx, call.owner);
    call.scenario
        .payloads
        .start(ctx, owner, payload, args, cgroup)
}

pub(super) fn wait(call: &mut Call, name: &str, cgroup: &Name) -> Result<()> {
    call.scenario.payloads.wait(name, cgroup.as_deref())
}

pub(super) fn kill(call: &mut Call, name: &str, cgroup: &Name) -> Result<()> {
    call.scenario.payloads.kill(name, cgroup.as_deref())
}
