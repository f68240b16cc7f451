//! Chooses the accelerator of a run. Whether KVM works is determined by booting a kernel, and the result is kept.
//!
//! `/dev/kvm` may exist and still be useless: a nested host may be able to create VMs, and yet fail when a stock kernel
//! sets up its first page tables. A result that the guest caused is kept, under a name that depends on everything that
//! may change it; a failure expires after a day (see [`kvm`]). A failure that the host caused, because it was busy or out
//! of some resource, is reported and not kept.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ktstr_machine::{Accelerator, ClockMode, Halt, Initramfs, Machine, WatchPoints};
use ktstr_record::terminal::eprint_line;
use ktstr_state::env;

use super::guest_session::{End, GuestSession};
use super::kvm::{self, Finding};
use super::machine_kind::MachineKind;
use super::plan::Plan;
use super::{RunError, admission, start, templates};
use crate::vm_result::WatchdogKillReason;

/// A kernel that has used this much CPU time without starting PID 1 does not boot under KVM. The margin is wide, because a boot
/// takes about a second.
const BOOT_CPU: Duration = Duration::from_secs(10);
/// A guest that is idle and has not booted after this time waits for an event that will never come.
const BOOT_IDLE: Duration = Duration::from_secs(30);
/// A guest is idle if its CPU time is below this share of wall time, and the host did not keep it waiting for longer
/// than it ran.
const IDLE_SHARE: f64 = 0.02;
/// The wall time after which a host that gives the guest too little CPU time counts as too slow.
const BOOT_WALL: Duration = Duration::from_secs(300);

/// The reason why KVM is not used although `/dev/kvm` can be opened.
static LOST: OnceLock<String> = OnceLock::new();

/// Returns the reason why the runs of this process do not use KVM although `/dev/kvm` can be opened; `None` if no run has
/// found such a reason so far.
pub(super) fn why_no_kvm() -> Option<&'static str> {
    LOST.get().map(String::as_str)
}

/// Returns the accelerator that `KTSTR_ACCEL` names (`kvm` or `tcg`); `None` if it names none (`auto`, or not set).
pub(super) fn named() -> Result<Option<Accelerator>, RunError> {
    let named = env::ACCEL.get_as(|word| match word {
        "auto" => Some(None),
        "tcg" => Some(Some(Accelerator::Tcg)),
        "kvm" => Some(Some(Accelerator::Kvm)),
        _ => None,
    })?;
    Ok(named.flatten())
}

/// Chooses the accelerator for `plan`: the one that `KTSTR_ACCEL` names, otherwise KVM if it works.
pub(super) fn choose(plan: &Plan) -> Result<Accelerator, RunError> {
    if let Some(named) = named()? {
        return Ok(named);
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
            let why = format!("it could not be tried, and the next run tries again: {why}");
            lose(&why, true);
            Accelerator::Tcg
        }
    })
}

fn accept(known: &Finding) -> Accelerator {
    if known.failed.is_none() {
        return Accelerator::Kvm;
    }
    // The reason was reported when it was found, and the report of a failed run repeats it.
    lose(&known.to_string(), false);
    Accelerator::Tcg
}

/// Stores for this process why KVM is not used. The first reason is reported if it is `news`, which means that it was not read
/// from a file.
fn lose(why: &str, news: bool) {
    if LOST.set(why.to_owned()).is_ok() && news {
        eprint_line(&format!(
            "ktstr: /dev/kvm exists but is not used: {why} (`cargo ktstr doctor` shows this; \
             KTSTR_ACCEL=kvm uses it anyway)"
        ));
    }
}

/// Returns the file that stores the result for this host, QEMU and kernel.
fn memory_of(plan: &Plan) -> Result<PathBuf, RunError> {
    let parts = format!(
        "{} {} {}",
        kvm::host(),
        plan.qemu.version,
        plan.kernel.boot_sha256
    );
    Ok(kvm::folder()?.join(format!("{:016x}", ktstr_machine::hash(&parts))))
}

/// What a boot shows about KVM.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Works,
    /// The host gave the guest what it needed, but the guest did not boot.
    Guest(String),
    /// The host failed before the boot could show anything.
    Host(String),
}

/// How a boot that did not reach PID 1 ended.
#[derive(Debug)]
enum Stopped {
    End(End),
    /// The host gave up on a boot that had not ended. Holds the wall time, QEMU's CPU time, and the time that its vCPUs
    /// waited for a host CPU.
    Slow {
        wall: Duration,
        cpu: Duration,
        waited: Duration,
    },
}

/// Classifies how a boot ended, see [`Outcome`]. `None` stands for a boot that reached PID 1.
fn outcome(booted: Result<Option<Stopped>, RunError>) -> Outcome {
    let stopped = match booted {
        Ok(None) => return Outcome::Works,
        Ok(Some(stopped)) => stopped,
        // QEMU could not start, or was killed: the host lacks memory or descriptors, or another hypervisor has taken
        // KVM. The kernel had no part in it.
        Err(error) => return Outcome::Host(error.to_string()),
    };
    let guest = |why: &str| Outcome::Guest(why.to_owned());
    match stopped {
        Stopped::End(End::Halted(Halt::AcceleratorFailed)) => guest(
            "KVM stopped with an internal error, as it does when it cannot emulate an instruction",
        ),
        Stopped::End(End::Halted(Halt::Reset)) => guest("the kernel reset the machine"),
        Stopped::End(End::Halted(Halt::PowerOff)) => guest("the kernel powered the machine off"),
        Stopped::End(End::TimedOut(WatchdogKillReason::Tier3Deadman, _)) => {
            Outcome::Host("the host was too slow".to_owned())
        }
        Stopped::End(End::TimedOut(..)) => guest("the kernel hung before PID 1"),
        Stopped::End(end @ (End::Completed | End::Garbled(_) | End::Lost(_))) => {
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

/// Returns whether a boot that has not reached PID 1 is given up: the guest has used enough CPU time, it is idle although
/// the host does not keep it waiting, or the host has been too slow for too long.
fn is_over(wall: Duration, cpu: Duration, waited: Duration) -> bool {
    let idle = cpu.as_secs_f64() < wall.as_secs_f64() * IDLE_SHARE && waited < cpu;
    cpu >= BOOT_CPU || (idle && wall >= BOOT_IDLE) || wall >= BOOT_WALL
}

/// Boots `plan`'s kernel under KVM until PID 1 starts. Returns `None` if PID 1 has started, otherwise how the boot ended.
fn boot(plan: &Plan) -> Result<Option<Stopped>, RunError> {
    let mut archive = Initramfs::new();
    start::pack(&mut archive, &plan.base, &mut templates::Stamps::new())?;
    let machine_kind = MachineKind {
        accelerator: Accelerator::Kvm,
        clock: ClockMode::Real,
        turn_us: 0,
    };
    let spec = plan.machine(machine_kind);
    let _turn = admission::enter(plan, machine_kind)?;
    let points = WatchPoints::default();
    let machine = Machine::prepare(&plan.qemu, &spec, &archive.build()?, &points)?;
    let mut session = GuestSession::new(machine, plan.shape.cpus());
    session.run()?;
    let began = Instant::now();
    let mut next_check = began;
    while session.guest.hello.is_none() {
        if let Some(end) = session.poll(Duration::MAX)? {
            return Ok(Some(Stopped::End(end)));
        }
        if Instant::now() < next_check {
            continue;
        }
        next_check += Duration::from_millis(250);
        let wall = began.elapsed();
        let cpu = session.machine.cpu_time().unwrap_or_default();
        let vcpus = session.machine.vcpu_times();
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
    fn failures_of_the_guest_are_attributed_to_the_guest() {
        for end in [
            End::Halted(Halt::AcceleratorFailed),
            End::Halted(Halt::Reset),
            End::TimedOut(
                WatchdogKillReason::Tier1CpuBudget,
                super::super::stall::StallReport::default(),
            ),
        ] {
            let found = outcome(Ok(Some(Stopped::End(end))));
            assert!(matches!(found, Outcome::Guest(_)), "{found:?}");
        }
        // The guest used much CPU time, or it was idle and did not wait for a CPU of the host.
        assert!(matches!(slow(11 * S, 11 * S, S), Outcome::Guest(_)));
        assert!(matches!(slow(31 * S, S / 10, S / 20), Outcome::Guest(_)));
    }

    #[test]
    fn failures_of_the_host_are_not_attributed_to_the_guest() {
        let busy = std::io::Error::from_raw_os_error(libc::EBUSY);
        let error = ktstr_machine::MachineError::system("starting QEMU", busy);
        let deadman = End::TimedOut(
            WatchdogKillReason::Tier3Deadman,
            super::super::stall::StallReport::default(),
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
        // In two minutes the guest got five seconds of CPU time, and waited for most of the rest.
        assert!(!is_over(120 * S, 5 * S, 100 * S));
        // The guest got very little CPU time, and was runnable for the rest.
        assert!(!is_over(60 * S, S, 50 * S));
        assert_eq!(outcome(Ok(None)), Outcome::Works);
    }
}
