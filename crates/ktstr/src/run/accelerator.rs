//! KVM or not: found out by booting, once for each host and kernel, and remembered.
//!
//! `/dev/kvm` can be there and of no use: a nested host may create VMs and yet stop at a stock
//! kernel's first page tables. What was found is kept under a name that changes with everything
//! it depends on, so a changed host forgets it by itself.

use std::path::PathBuf;
use std::time::Duration;

use ktstr_machine::{Accelerator, ClockMode, Halt, Initramfs, Machine, WatchPoints};

use super::conversation::{Conversation, End};
use super::engine::Engine;
use super::plan::Plan;
use super::{RunError, admission, environment, start, warm};

const VARIABLE: &str = "KTSTR_ACCEL";
/// A kernel that boots at all under KVM has PID 1 running in about a second.
const BOOT: Duration = Duration::from_secs(30);

/// What to run `plan` on: `KTSTR_ACCEL` if it says `kvm` or `tcg`, else KVM where it works.
pub(super) fn choose(plan: &Plan) -> Result<Accelerator, RunError> {
    match environment(VARIABLE).as_deref() {
        None | Some("auto") => {}
        Some("tcg") => return Ok(Accelerator::Tcg),
        Some("kvm") => return Ok(Accelerator::Kvm),
        Some(other) => {
            return Err(RunError::Environment {
                name: VARIABLE,
                value: other.to_owned(),
                wanted: "expected `auto`, `kvm` or `tcg`".to_owned(),
            });
        }
    }
    let usable = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_ok();
    if !usable {
        return Ok(Accelerator::Tcg);
    }
    let memory = memory_of(plan)?;
    let known = std::fs::read_to_string(&memory).unwrap_or_default();
    let works = match known.lines().next() {
        Some("works") => true,
        Some("fails") => false,
        _ => {
            let outcome = probe(plan);
            let text = match &outcome {
                Ok(()) => "works\n".to_owned(),
                Err(why) => format!("fails\n{why}\n"),
            };
            // What cannot be remembered is found out again.
            let _ = std::fs::write(&memory, text);
            outcome.is_ok()
        }
    };
    Ok(if works {
        Accelerator::Kvm
    } else {
        Accelerator::Tcg
    })
}

/// The file that remembers the answer for this host, QEMU and kernel.
fn memory_of(plan: &Plan) -> Result<PathBuf, RunError> {
    let host = rustix::system::uname();
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu: Vec<&str> = cpu
        .lines()
        .filter(|l| l.starts_with("model name") || l.starts_with("microcode"))
        .take(2)
        .collect();
    let parts = format!(
        "{:?} {:?} {} {} {cpu:?}",
        host.release(),
        host.version(),
        plan.qemu.version,
        plan.kernel.image_sha256
    );
    Ok(ktstr_kernel::cache::Cache::from_env()?
        .folder("kvm")?
        .path()
        .join(format!("{:016x}", ktstr_machine::hash(&parts))))
}

/// Boots `plan`'s kernel under KVM to PID 1.
fn probe(plan: &Plan) -> Result<(), String> {
    let boot = || -> Result<Option<End>, RunError> {
        let mut archive = Initramfs::new();
        start::pack(&mut archive, &plan.base, &mut warm::Stamps::new())?;
        let engine = Engine {
            accelerator: Accelerator::Kvm,
            clock: ClockMode::Real,
        };
        let spec = plan.machine(engine);
        let _turn = admission::enter(plan, engine)?;
        let points = WatchPoints::default();
        let machine = Machine::prepare(&plan.qemu, &spec, &archive.build()?, &points)?;
        let mut conversation = Conversation::new(machine, plan.shape.cpus());
        conversation.run()?;
        let deadline = std::time::Instant::now() + BOOT;
        while conversation.said.hello.is_none() {
            if let Some(end) = conversation.look(Duration::MAX)? {
                return Ok(Some(end));
            }
            if std::time::Instant::now() > deadline {
                return Ok(Some(End::Halted(Halt::AcceleratorFailed)));
            }
        }
        Ok(None)
    };
    match boot() {
        Ok(None) => Ok(()),
        Ok(Some(end)) => Err(format!("the guest did not come up: {end:?}")),
        Err(error) => Err(error.to_string()),
    }
}
