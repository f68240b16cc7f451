//! Operations that take CPUs offline and bring them back online.

use anyhow::{Context as _, Result, bail};

use super::Call;
use crate::link;

pub(super) fn offline(call: &mut Call, cpu: &usize) -> Result<()> {
    put(call, *cpu, "0")?;
    call.scenario.cpu_is_off(call.ctx, *cpu);
    Ok(())
}

pub(super) fn online(call: &mut Call, cpu: &usize) -> Result<()> {
    put(call, *cpu, "1")?;
    call.scenario.cpu_is_on(*cpu);
    Ok(())
}

fn put(call: &mut Call, cpu: usize, value: &str) -> Result<()> {
    if !link::is_there() {
        bail!("a host_only test runs on the host's own CPUs and must not take them offline");
    }
    let cpus = call.ctx.topo.all_cpuset();
    if !cpus.contains(&cpu) {
        bail!("the machine has no CPU {cpu}: its CPUs are {cpus:?}");
    }
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/online");
    std::fs::write(&path, value).with_context(|| {
        format!("writing {value} to {path} (this kernel may not allow CPU 0 to go offline)")
    })
}
