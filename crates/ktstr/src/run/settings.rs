//! The settings of a run that change its numbers, for the comparison with a baseline (`perf_delta.rs`). The shape of the machine,
//! the kernel arguments and the sysctls are not among them: they make a run another variant, whose baseline is another file. The
//! kernel and the clock are not among them either, because the comparison checks them by itself.

use ktstr_record::settings::Settings;
use ktstr_record::{HostRecord, brief::counted};
use ktstr_state::env;

use super::machine_kind::MachineKind;
use super::plan::Plan;

/// Returns the settings of a run with this plan on this machine, which could use `cpu_budget` of the host's CPUs.
pub(super) fn of(plan: &Plan, machine_kind: MachineKind, cpu_budget: u32) -> Settings {
    // Most variables that a record notes can change what a guest does. The following variables are left out. What they choose is
    // covered by the settings below, by the variant, or by the comparison of kernel and clock. `KTSTR_SCHEDULER` is left out
    // because the runs to compare may differ in the scheduler's binary.
    let chosen = [
        env::KERNEL.name(),
        env::SCHEDULER.name(),
        env::QEMU.name(),
        env::ACCEL.name(),
        env::CLOCK.name(),
        env::VIRTUAL_MIPS.name(),
        env::TOPOLOGY.name(),
        env::SEED.name(),
    ];
    let noted = env::recorded().filter(|row| !chosen.contains(&row.name));
    let mut settings: Settings = noted
        .filter_map(|row| Some((row.name.to_owned(), row.compared()?)))
        .collect();
    let mut add = |name: &str, value: String| settings.insert(name.to_owned(), value);
    add(
        "the accelerator",
        machine_kind.accelerator.name().to_owned(),
    );
    // Only the declared memory counts: the memory that is added for the guest's files depends on the sizes of the binaries.
    add("memory_mib", plan.entry.memory_mib.to_string());
    add("the seed", plan.job.seed.to_string());
    add("the window", format!("{:?}", plan.entry.duration));
    add("QEMU", plan.qemu.version.clone());
    // The virtual clock counts instructions, so the host does not matter to it.
    if machine_kind.mips().is_none() {
        add("the CPU of the host", HostRecord::detect().cpu_model);
        add("the CPU budget", counted(cpu_budget, "CPU"));
    }
    settings
}
