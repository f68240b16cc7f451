//! Brings a machine to the point where its test process receives its job: from a kernel image, from a template that has booted,
//! or from a template that has the scheduler attached already. Either template may also have the test process loaded.

use std::time::{Duration, SystemTime};

use ktstr_guest::protocol::ToGuest;
use ktstr_machine::{ClockMode, Initramfs, Machine, MachineError, WatchPoints};

use ktstr_record::terminal::eprint_line;
use ktstr_state::env;

use super::captures::{self, LazyKernelInfo};
use super::guest_session::{End, GuestSession};
use super::machine_kind::MachineKind;
use super::plan::{Files, Plan, TEST_BINARY};
use super::schedule::{self, Recorder};
use super::{RunError, templates};

/// The state from which a machine was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Level {
    /// A kernel image. Holds the reason why no template could be used; `None` if `KTSTR_COLD` is on.
    Cold(Option<String>),
    /// A template that had booted.
    Booted,
    /// A template in which the scheduler was attached already.
    Attached,
}

impl Level {
    /// Returns the name of the level in records.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cold(_) => "cold",
            Self::Booted => "booted",
            Self::Attached => "attached",
        }
    }
}

/// A machine that has not received its job yet, with the state of its files and its console.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) session: GuestSession,
    pub(super) level: Level,
    /// The stamps of the files in the guest, by path.
    pub(super) present: templates::Stamps,
    /// The console output from before the machine was saved.
    pub(super) console: String,
}

/// Starts a machine for `plan`: as a fork of its template, or cold if that is not possible or `KTSTR_COLD` is on.
pub(super) fn start(
    plan: &Plan,
    machine_kind: MachineKind,
    kernel_info: &mut LazyKernelInfo,
) -> Result<Started, RunError> {
    let why = if env::COLD.is_on() {
        None
    } else {
        match templates::fork(plan, machine_kind, kernel_info) {
            Ok(started) => return Ok(started),
            Err(why) => {
                eprint_line(&format!("ktstr: starting cold: {why}"));
                Some(why.to_string())
            }
        }
    };
    cold(plan, machine_kind, why, kernel_info)
}

fn cold(
    plan: &Plan,
    machine_kind: MachineKind,
    why: Option<String>,
    kernel_info: &mut LazyKernelInfo,
) -> Result<Started, RunError> {
    let mut present = templates::Stamps::new();
    let mut archive = Initramfs::new();
    for files in [&plan.base, &plan.for_scheduler, &plan.for_load] {
        pack(&mut archive, files, &mut present)?;
    }
    let points = schedule::points_of_run(&boot_points(machine_kind, kernel_info)?, machine_kind);
    let spec = plan.machine(machine_kind);
    let machine = Machine::prepare(&plan.qemu, &spec, &archive.build()?, &points)?;
    let mut session = GuestSession::new(machine, plan.shape.cpus());
    session.recorder = Recorder::new(&points, &plan.shape);
    Ok(Started {
        session,
        level: Level::Cold(why),
        present,
        console: String::new(),
    })
}

/// Returns the kernel addresses that the virtual clock's plugin observes; none under the real clock.
pub(super) fn boot_points(
    machine_kind: MachineKind,
    kernel_info: &mut LazyKernelInfo,
) -> Result<WatchPoints, RunError> {
    if machine_kind.clock == ClockMode::Real {
        return Ok(WatchPoints::default());
    }
    let info = kernel_info.get().map_err(str::to_owned);
    info.and_then(captures::watch_points).map_err(|why| {
        RunError::Machine(MachineError::system(
            "preparing the virtual clock",
            std::io::Error::other(why),
        ))
    })
}

/// Packs files into an initramfs, and adds their stamps to `present`.
pub(super) fn pack(
    archive: &mut Initramfs,
    files: &Files,
    present: &mut templates::Stamps,
) -> Result<(), RunError> {
    for (path, file) in files {
        archive.add_file(path, file.mode, file.bytes()?);
        present.insert(path.clone(), file.stamp.clone());
    }
    Ok(())
}

impl Started {
    /// Returns a digest of the template's level and of the stamps of its files; `None` for a machine that was started cold.
    pub(super) fn template(&self) -> Option<String> {
        (!matches!(self.level, Level::Cold(_))).then(|| {
            let text = format!("{} {:?}", self.level.name(), self.present);
            blake3::hash(text.as_bytes()).to_hex()[..20].to_owned()
        })
    }

    /// Runs the machine until the test process is loaded, and sends the test process its job. Returns an end if the guest does
    /// not get there.
    pub(super) fn dispatch(
        &mut self,
        plan: &Plan,
        machine_kind: MachineKind,
        kernel_info: &mut LazyKernelInfo,
    ) -> Result<Option<End>, RunError> {
        if matches!(self.level, Level::Cold(_)) {
            self.session.run()?;
            let end = self.session.wait_until(|guest| guest.hello.is_some())?;
            if end.is_some() {
                return Ok(end);
            }
            self.session.send(&refresh(plan, machine_kind)?)?;
        } else {
            self.session.send(&refresh(plan, machine_kind)?)?;
            self.session.run()?;
        }
        if !self.session.guest.prepared
            && !plan.setup.is_nothing()
            && let Some(end) = self.prepare(plan, kernel_info)?
        {
            return Ok(Some(end));
        }
        if !self.session.guest.loaded
            && let Some(end) = self.load(plan)?
        {
            return Ok(Some(end));
        }
        if let Some(end) = self.install(&plan.for_test)? {
            return Ok(Some(end));
        }
        let job = plan.job.encode();
        let seed = plan.job.seed;
        self.session.send(&ToGuest::Run { job, seed })?;
        Ok(None)
    }

    /// Installs the test's binary, and starts the test process. Returns an end if the guest does not get there.
    pub(super) fn load(&mut self, plan: &Plan) -> Result<Option<End>, RunError> {
        if let Some(end) = self.install(&plan.for_load)? {
            return Ok(Some(end));
        }
        self.session.send(&ToGuest::Load {
            binary: TEST_BINARY.to_owned(),
            workload_root: plan.job.workload_root.clone(),
        })?;
        Ok(self.session.wait_until(|guest| guest.loaded)?)
    }

    /// Installs the scheduler, starts it, and sets its stall timeout. Returns an end if the guest ends instead, as it does if the
    /// scheduler does not attach.
    pub(super) fn prepare(
        &mut self,
        plan: &Plan,
        kernel_info: &mut LazyKernelInfo,
    ) -> Result<Option<End>, RunError> {
        if let Some(end) = self.install(&plan.for_scheduler)? {
            return Ok(Some(end));
        }
        self.session.send(&ToGuest::Prepare(plan.setup.clone()))?;
        if let Some(end) = self.session.wait_until(|guest| guest.prepared)? {
            return Ok(Some(end));
        }
        if self.session.guest.attached.is_some() {
            set_timeout(&self.session.machine, plan, kernel_info, &mut None);
        }
        Ok(None)
    }

    /// Stores the files that the guest does not have yet. Returns an end if the session ends before all are stored.
    fn install(&mut self, files: &Files) -> Result<Option<End>, RunError> {
        for (path, file) in files {
            if self.present.get(path) == Some(&file.stamp) {
                continue;
            }
            let end = self.session.write_file(path, file.mode, &file.bytes()?)?;
            if end.is_some() {
                return Ok(end);
            }
            self.present.insert(path.clone(), file.stamp.clone());
        }
        Ok(None)
    }
}

/// Sets the test's stall timeout for the scheduler that has attached. If that fails, a line on the screen says so.
///
/// `set` has the address and the value that the last call wrote; see [`captures::set_watchdog`].
pub(super) fn set_timeout(
    machine: &Machine,
    plan: &Plan,
    kernel_info: &mut LazyKernelInfo,
    set: &mut Option<(u64, u64)>,
) {
    let done = kernel_info.get().map_err(str::to_owned).and_then(|info| {
        captures::set_watchdog(machine.ram(), info, plan.setup.watchdog_timeout_ms, set)
    });
    if let Err(why) = done {
        eprint_line(&format!(
            "ktstr: the scheduler keeps its own stall timeout: {why}"
        ));
    }
}

/// Returns the message that makes this machine different from other forks of its template: the wall-clock time, entropy, and the
/// pid after which the kernel numbers new processes. Under the virtual clock the message has no time, and depends on the seed
/// alone.
fn refresh(plan: &Plan, machine_kind: MachineKind) -> Result<ToGuest, RunError> {
    let mut entropy = vec![0u8; 32];
    let realtime_ns = match machine_kind.clock {
        ClockMode::Real => {
            rustix::rand::getrandom(&mut entropy, rustix::rand::GetRandomFlags::empty())
                .map_err(|e| MachineError::system("asking the host for random bytes", e))?;
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            Some(now.unwrap_or(Duration::ZERO).as_nanos() as u64)
        }
        // The guest takes its wall clock from the machine, whose clock starts at the same time in every run.
        ClockMode::Virtual { .. } => {
            entropy = blake3::hash(&plan.job.seed.to_le_bytes())
                .as_bytes()
                .to_vec();
            None
        }
    };
    Ok(ToGuest::Refresh {
        realtime_ns,
        entropy,
        // The value is above the pids of kernel threads, and below the usual maximum of 32768.
        last_pid: 1000 + (plan.job.seed % 20_000) as u32,
    })
}
