//! The operation that steers an interrupt to a CPU.

use anyhow::{Context as _, Result, bail};
use ktstr_scenario::ops::IrqSelector;
use ktstr_scenario::topology::parse_cpulist;

use super::Call;
use crate::link;

/// The kernel's list of CPUs that are online.
const ONLINE: &str = "/sys/devices/system/cpu/online";

pub(super) fn steer(call: &mut Call, irq: &IrqSelector, cpu: &usize) -> Result<()> {
    if !link::is_there() {
        bail!("a host_only test shares the host's devices and must not steer their interrupts");
    }
    let cpus = call.ctx.topo.all_cpuset();
    if !cpus.contains(cpu) {
        bail!("the machine has no CPU {cpu}: its CPUs are {cpus:?}");
    }
    // An offline CPU handles no interrupt. The kernel reports this as an invalid value, or chooses another CPU
    // (`write_irq_affinity()` in kernel/irq/proc.c).
    let online = std::fs::read_to_string(ONLINE).with_context(|| format!("reading {ONLINE}"))?;
    if !parse_cpulist(&online)?.contains(cpu) {
        bail!(
            "CPU {cpu} is offline and takes no interrupts: steer the interrupt to one of the CPUs {}, or bring the CPU online \
             first (Op::cpu_online)",
            online.trim()
        );
    }
    let number = match irq {
        IrqSelector::ByNumber(number) => *number,
        IrqSelector::ByLabel(label) => {
            let text = std::fs::read_to_string("/proc/interrupts")?;
            by_label(&text, label)?
        }
    };
    let path = format!("/proc/irq/{number}/smp_affinity_list");
    std::fs::write(&path, cpu.to_string()).with_context(|| {
        format!("writing {cpu} to {path} (the interrupt may not exist, or may not be steerable)")
    })
}

/// Returns the number of the interrupt whose handler has this name. The name is the last word of the line of
/// the interrupt in `/proc/interrupts`. It is an error if no interrupt has the name, or several have it.
fn by_label(interrupts: &str, label: &str) -> Result<u32> {
    let mut labels = Vec::new();
    let mut found = Vec::new();
    for line in interrupts.lines() {
        let Some((number, rest)) = line.split_once(':') else {
            continue;
        };
        // A line without a number has nothing to steer: it counts per-CPU interrupts, such as the local timer's, or errors.
        let (Ok(number), Some(last)) = (number.trim().parse(), rest.split_whitespace().last())
        else {
            continue;
        };
        if last == label {
            found.push(number);
        }
        labels.push(format!("{number} {last}"));
    }
    match found[..] {
        [number] => Ok(number),
        _ => bail!(
            "{} interrupts have the label {label:?}; the labels are: {}",
            found.len(),
            labels.join(", ")
        ),
    }
}
