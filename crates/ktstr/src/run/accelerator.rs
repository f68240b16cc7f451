//! KVM or not: found out by booting, and remembered.
//!
//! `/dev/kvm` can be there and of no use: a nested host may create VMs and yet stop at a stock
//! kernel's first page tables. What the guest did is kept under a name that changes with everything
//! it depends on, for a time (see [`kvm`]). What the host did, being busy or out of something, is
//! told and forgotten.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ktstr_machine::{Accelerator, ClockMode, Halt, Initramfs, Machine, WatchPoints};
use ktstr_record::terminal::tell;

use super::conversation::{Conversation, End};
use super::engine::Engine;
use super::kvm::{self, Finding};
use super::plan::Plan;
use super::{RunError, admission, environment, start, warm};
use crate::vm_result::WatchdogKillReason;

const VARIABLE: &str = "KTSTR_ACCEL";
/// CPU time in which a kernel that boots at all under KVM has PID 1 running, with a wide margin: it takes
/// about a second.
const BOOT_CPU: Duration = Duration::from_secs(10);
/// An idle guest that has not come up after this waits for something that does not come.
const BOOT_IDLE: Duration = Duration::from_secs(30);
/// CPU time below this share of wall time is "idle".
const IDLE_SHARE: f64 = 0.02;
/// Wall time after which a host that gives no CPU time is called too slow.
const BOOT_WALL: Duration = Duration::from_secs(300);

/// Why KVM is not used although `/dev/kvm` can be opened.
static LOST: OnceLock<String> = OnceLock::new();

/// Why runs of this process are without KVM, on a host that seems to have it.
pub(super) fn why_no_kvm() -> Option<&'static str> {
    LOST.get().map(String::as_str)
}

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
    if let Some(known) = Finding::read(&memory) {
        return Ok(accept(&known));
    }
    let release = &plan.kernel.release;
    let finding = |failed| Finding::now(failed, release, &plan.qemu.version);
    Ok(match outcome(boot(plan)) {
        Outcome::Works => {
            let found = finding(None);
            found.keep(&memory);
            accept(&found)
        }
        Outcome::Guest(why) => {
            let found = finding(Some(why));
            found.keep(&memory);
            lose(&format!("{found}"), true);
            Accelerator::Tcg
        }
        Outcome::Host(why) => {
            let why = format!("it could not be tried, and will be in the next run: {why}");
            lose(&why, true);
            Accelerator::Tcg
        }
    })
}

fn accept(known: &Finding) -> Accelerator {
    if known.failed.is_none() {
        return Accelerator::Kvm;
    }
    // Told when it was found; a report of a failure tells of it again.
    lose(&known.to_string(), false);
    Accelerator::Tcg
}

/// Remembers for this process why there is no KVM, and says so once if it is `news`.
fn lose(why: &str, news: bool) {
    if LOST.set(why.to_owned()).is_ok() && news {
        tell(&format!(
            "ktstr: /dev/kvm is there but not used: {why} (`cargo ktstr doctor` shows it; \
             KTSTR_ACCEL=kvm uses it all the same)"
        ));
    }
}

/// The file that remembers the answer for this host, QEMU and kernel.
fn memory_of(plan: &Plan) -> Result<PathBuf, RunError> {
    let parts = format!(
        "{} {} {}",
        kvm::host(),
        plan.qemu.version,
        plan.kernel.boot_sha256
    );
    Ok(kvm::folder()?.join(format!("{:016x}", ktstr_machine::hash(&parts))))
}

/// What a boot says of KVM.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Works,
    /// The guest had what it needed of the host, and did not come up.
    Guest(String),
    /// The host did not get as far as to show anything.
    Host(String),
}

/// How a boot ended that did not come to PID 1.
#[derive(Debug)]
enum Stopped {
    End(End),
    /// It did not end: wall time and CPU time of QEMU, and the time its vCPUs waited for a host CPU.
    Slow {
        wall: Duration,
        cpu: Duration,
        waited: Duration,
    },
}

/// The kinds of failure: see [`Outcome`].
fn outcome(booted: Result<Option<Stopped>, RunError>) -> Outcome {
    let stopped = match booted {
        Ok(None) => return Outcome::Works,
        Ok(Some(stopped)) => stopped,
        // QEMU could not start, or was killed: no memory, no descriptors, KVM taken by another
        // hypervisor. The kernel had no part in it.
        Err(error) => return Outcome::Host(error.to_string()),
    };
    let guest = |why: &str| Outcome::Guest(why.to_owned());
    match stopped {
        Stopped::End(End::Halted(Halt::AcceleratorFailed)) => {
            guest("KVM stopped with an internal error, as where it cannot emulate an instruction")
        }
        Stopped::End(End::Halted(Halt::Reset)) => guest("the kernel reset the machine"),
        Stopped::End(End::Halted(Halt::PowerOff)) => guest("the kernel powered the machine off"),
        Stopped::End(End::GaveUp(WatchdogKillReason::Tier3Deadman, _)) => {
            Outcome::Host("the host was too slow".to_owned())
        }
        Stopped::End(End::GaveUp(..)) => guest("the kernel hung before PID 1"),
        Stopped::End(end @ (End::Bye | End::Garbled(_) | End::Lost(_))) => {
            Outcome::Host(format!("the mailbox could not be read ({end:?})"))
        }
        Stopped::Slow { wall, cpu, waited } => match () {
            () if cpu >= BOOT_CPU => Outcome::Guest(format!(
                "the kernel used {:.0} s of CPU time without starting PID 1",
                cpu.as_secs_f64()
            )),
            () if waited < cpu => Outcome::Guest(format!(
                "the kernel went idle before PID 1, for {:.0} s",
                wall.as_secs_f64()
            )),
            () => Outcome::Host(format!(
                "in {:.0} s the host gave it {:.1} s of CPU time",
                wall.as_secs_f64(),
                cpu.as_secs_f64()
            )),
        },
    }
}

/// Whether there is nothing more to wait for. Wall time alone says nothing of a guest.
fn is_over(wall: Duration, cpu: Duration, waited: Duration) -> bool {
    let idle = cpu.as_secs_f64() < wall.as_secs_f64() * IDLE_SHARE && waited < cpu;
    cpu >= BOOT_CPU || (idle && wall >= BOOT_IDLE) || wall >= BOOT_WALL
}

/// Boots `plan`'s kernel under KVM to PID 1. `None`: it came there.
fn boot(plan: &Plan) -> Result<Option<Stopped>, RunError> {
    let mut archive = Initramfs::new();
    start::pack(&mut archive, &plan.base, &mut warm::Stamps::new())?;
    let engine = Engine {
        accelerator: Accelerator::Kvm,
        clock: ClockMode::Real,
        turn_us: 0,
    };
    let spec = plan.machine(engine);
    let _turn = admission::enter(plan, engine)?;
    let points = WatchPoints::default();
    let machine = Machine::prepare(&plan.qemu, &spec, &archive.build()?, &points)?;
    let mut conversation = Conversation::new(machine, plan.shape.cpus());
    conversation.run()?;
    let began = Instant::now();
    let mut next_check = began;
    while conversation.said.hello.is_none() {
        if let Some(end) = conversation.look(Duration::MAX)? {
            return Ok(Some(Stopped::End(end)));
        }
        if Instant::now() < next_check {
            continue;
        }
        next_check += Duration::from_millis(250);
        let wall = began.elapsed();
        let cpu = conversation.machine.cpu_time().unwrap_or_default();
        let vcpus = conversation.machine.vcpu_times();
        let waited = vcpus.iter().flatten().map(|vcpu| vcpu.waited_ns);
        let waited = Duration::from_nanos(waited.fold(0, u64::saturating_add));
        if is_over(wall, cpu, waited) {
            return Ok(Some(Stopped::Slow { wall, cpu, waited }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn slow(wall: Duration, cpu: Duration, waited: Duration) -> Outcome {
        assert!(is_over(wall, cpu, waited), "{wall:?} {cpu:?} {waited:?}");
        outcome(Ok(Some(Stopped::Slow { wall, cpu, waited })))
    }

    #[test]
    fn what_the_guest_did_is_its_own() {
        for end in [
            End::Halted(Halt::AcceleratorFailed),
            End::Halted(Halt::Reset),
            End::GaveUp(
                WatchdogKillReason::Tier1CpuBudget,
                super::super::watch::Silence::default(),
            ),
        ] {
            let found = outcome(Ok(Some(Stopped::End(end))));
            assert!(matches!(found, Outcome::Guest(_)), "{found:?}");
        }
        // It burns CPU time, or needs none and gets on all the same.
        assert!(matches!(slow(11 * S, 11 * S, S), Outcome::Guest(_)));
        assert!(matches!(slow(31 * S, S / 10, S / 20), Outcome::Guest(_)));
    }

    #[test]
    fn what_the_host_did_is_not_the_guests() {
        let busy = std::io::Error::from_raw_os_error(libc::EBUSY);
        let error = ktstr_machine::MachineError::system("starting QEMU", busy);
        let deadman = End::GaveUp(
            WatchdogKillReason::Tier3Deadman,
            super::super::watch::Silence::default(),
        );
        for found in [
            outcome(Err(RunError::Machine(error))),
            outcome(Ok(Some(Stopped::End(deadman)))),
            slow(301 * S, 2 * S, 100 * S),
        ] {
            assert!(matches!(found, Outcome::Host(_)), "{found:?}");
        }
    }

    #[test]
    fn a_busy_host_is_waited_for() {
        // Two minutes, of which it got five seconds and waited for the rest.
        assert!(!is_over(120 * S, 5 * S, 100 * S));
        // It got next to nothing, and wanted more.
        assert!(!is_over(60 * S, S, 50 * S));
        assert_eq!(outcome(Ok(None)), Outcome::Works);
    }
}
