//! QEMU's model of the guest's CPUs, under TCG and under KVM.

use std::sync::OnceLock;

use crate::Accelerator;

/// The features that every model gets, for QEMU's option `-cpu`.
///
/// Linux reads the die topology from CPUID leaf 0x1f, and only if the vendor is Intel (see [`under_kvm`]). The level is the
/// highest leaf that the CPU offers, so it has to be 0x1f or more.
pub(crate) const FEATURES: &str = "vendor=GenuineIntel,l3-cache=on,level=0x20";

/// Returns the name of QEMU's CPU model, followed by the features that depend on the accelerator.
/// The caller appends [`FEATURES`].
pub(crate) fn model(accelerator: Accelerator) -> &'static str {
    match accelerator {
        // TCG emulates "rep movsb" byte by byte. Without ERMS and FSRM the kernel copies and clears memory in steps of
        // eight bytes instead, which is five times as fast.
        Accelerator::Tcg => "max,erms=off,fsrm=off",
        Accelerator::Kvm => under_kvm(host_is_amd()),
    }
}

/// Returns the name of a model, without its features.
pub(crate) fn name(model: &str) -> &str {
    model.split(',').next().unwrap_or(model)
}

/// Returns QEMU's CPU model for a guest under KVM, on an AMD host or on an Intel host. It is the host's processor
/// without the features that are explained below. [`FEATURES`] makes the guest see Intel as the vendor on any host.
///
/// Linux reads dies from CPUID leaf 0x1f for that vendor only (`arch/x86/kernel/cpu/topology_common.c`; for AMD it reads
/// leaf 0x80000026, which QEMU 10 does not offer), and the guest must see the topology that the test declares. The register
/// behind `ARCH_CAPABILITIES` exists on Intel's hardware only. The feature is disabled, so that guests see the same features
/// on both kinds of hosts.
///
/// On AMD hardware a guest that assumes an Intel CPU makes hypercalls with VMCALL, which is an undefined instruction there.
/// KVM patches that instruction in the guest's text (`emulator_fix_hypercall()` in arch/x86/kvm/x86.c), and with read-only
/// text the guest faults. The features that make the guest use hypercalls are therefore disabled. This follows from the
/// sources and was not tried on AMD hardware: if a kernel makes such a call nevertheless and does not boot, ktstr's probe of
/// KVM detects and reports it, and runs do not use KVM.
fn under_kvm(amd: bool) -> &'static str {
    match amd {
        false => "host,arch-capabilities=off",
        true => {
            "host,arch-capabilities=off,kvm-pv-unhalt=off,kvm-pv-ipi=off,kvm-pv-sched-yield=off"
        }
    }
}

/// Returns whether the host's processor is from AMD, or from a vendor that licenses AMD's design.
fn host_is_amd() -> bool {
    static AMD: OnceLock<bool> = OnceLock::new();
    *AMD.get_or_init(|| {
        let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let vendor = cpus.lines().find(|line| line.starts_with("vendor_id"));
        vendor.is_some_and(|line| {
            ["AuthenticAMD", "HygonGenuine"]
                .iter()
                .any(|v| line.ends_with(v))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_models_under_kvm_differ_in_calls_to_the_hypervisor() {
        let (intel, amd) = (under_kvm(false), under_kvm(true));
        assert_eq!(
            amd.strip_prefix(intel),
            Some(",kvm-pv-unhalt=off,kvm-pv-ipi=off,kvm-pv-sched-yield=off")
        );
    }
}
