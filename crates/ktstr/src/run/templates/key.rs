//! The key of a template: a short name derived from everything on which the template's contents depend.

use ktstr_machine::Accelerator;

use crate::run::machine_kind::MachineKind;
use crate::run::plan::{Files, Plan};

/// The number of characters of a key.
const LEN: usize = 20;
/// The version of the way in which the host builds and stores templates. It has to be increased with every change of either.
const FORMAT: u32 = 17;

/// Returns the key of the booted template. The key covers each byte that is in the guest before a scheduler or a test is loaded.
/// The same seed must give the same run, and each byte of a file can change how long the kernel takes to unpack the file, and
/// where its pages lie.
pub(super) fn booted(plan: &Plan, machine_kind: MachineKind) -> String {
    let mut parts = vec![
        format!("format {FORMAT}"),
        format!("qemu {} {}", plan.qemu.path.display(), plan.qemu.version),
        format!("kernel {}", plan.kernel.boot_sha256),
        plan.machine(machine_kind).fingerprint(),
    ];
    // Under KVM the guest has the features of the host's CPU, to which its kernel adapts itself when it boots.
    if machine_kind.accelerator == Accelerator::Kvm {
        parts.push(crate::run::kvm::host());
    }
    parts.extend(stamps(&plan.base));
    name(&parts)
}

/// Returns the key of the template in which the scheduler is attached. It is built on the booted template whose key is `booted`.
pub(super) fn attached(booted: &str, plan: &Plan) -> String {
    let mut parts = vec![
        booted.to_owned(),
        serde_json::to_string(&plan.setup).unwrap_or_default(),
    ];
    parts.extend(stamps(&plan.for_scheduler));
    name(&parts)
}

/// Returns the key of the template in which the test process waits for its job. It is built on the template whose key is `base`.
pub(super) fn loaded(base: &str, plan: &Plan) -> String {
    let mut parts = vec![base.to_owned(), plan.job.workload_root.clone()];
    parts.extend(stamps(&plan.for_load));
    name(&parts)
}

fn stamps(files: &Files) -> impl Iterator<Item = String> + '_ {
    files
        .iter()
        .map(|(path, file)| format!("{path} {}", file.stamp))
}

fn name(parts: &[String]) -> String {
    let mut text = blake3::hash(parts.join("\n").as_bytes())
        .to_hex()
        .to_string();
    text.truncate(LEN);
    text
}
