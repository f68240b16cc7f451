//! Operations on the files of the `cpu` controller. The host traces in the kernel how these files change the CPU time to
//! which tasks are entitled, so the operations need not report anything to the host.

use std::time::Duration;

use anyhow::{Result, bail};
use ktstr_scenario::cgroup::Controller;

use super::Call;

pub(super) fn max(
    call: &mut Call,
    cgroup: &str,
    quota: &Option<Duration>,
    period: &Duration,
) -> Result<()> {
    let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let tracked = call.scenario.get(cgroup)?;
    let (quota, period) = (quota.map(us), us(*period));
    call.ctx.cgroups.set_cpu_max(cgroup, quota, period)?;
    tracked.quotas.set(quota, period);
    Ok(())
}

pub(super) fn weight(call: &mut Call, cgroup: &str, weight: &u32) -> Result<()> {
    call.scenario.get(cgroup)?;
    Ok(call.ctx.cgroups.set_cpu_weight(cgroup, *weight)?)
}

pub(super) fn idle(call: &mut Call, cgroup: &str, idle: &bool) -> Result<()> {
    put(call, cgroup, "cpu.idle", if *idle { "1" } else { "0" })
}

pub(super) fn uclamp_min(call: &mut Call, cgroup: &str, percent: &f64) -> Result<()> {
    let text = percentage(*percent)?;
    put(call, cgroup, "cpu.uclamp.min", &text)
}

pub(super) fn uclamp_max(call: &mut Call, cgroup: &str, percent: &Option<f64>) -> Result<()> {
    let text = percent.map_or_else(|| Ok("max".to_owned()), percentage)?;
    put(call, cgroup, "cpu.uclamp.max", &text)
}

fn put(call: &mut Call, cgroup: &str, file: &str, value: &str) -> Result<()> {
    call.scenario.get(cgroup)?;
    let cgroups = call.ctx.cgroups;
    Ok(cgroups.set_file(cgroup, Some(Controller::Cpu), file, value)?)
}

fn percentage(percent: f64) -> Result<String> {
    if (0.0..=100.0).contains(&percent) {
        Ok(format!("{percent:.2}"))
    } else {
        bail!("{percent} percent is out of range: give 0 to 100 percent of the capacity of a CPU")
    }
}
