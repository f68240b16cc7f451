//! A machine, from its start to its end.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::console::ConsoleFile;
use crate::process::{FUTEX, POLL, Process, VcpuTime};
use crate::qmp::{Event, Qmp};
use crate::spec::Descriptors;
use crate::{
    ClockMode, GuestRam, MachineError, MachineSpec, Qemu, VirtualClock, WatchPoints, confine,
};

/// How long QEMU may take to answer. It normally answers within milliseconds; a host that is suspended or swapping for
/// longer than this cannot run a VM.
const ANSWER: Duration = Duration::from_secs(60);

/// Why the guest no longer runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Halt {
    /// The guest powered off.
    PowerOff,
    /// The guest reset itself, which is how a kernel panic ends with `panic=-1`.
    Reset,
    /// The accelerator could not continue (QEMU's status `internal-error`): with KVM, the host's virtualization cannot
    /// run this kernel.
    AcceleratorFailed,
}

/// A running or paused machine. Dropping it ends its QEMU.
#[derive(Debug)]
pub struct Machine {
    process: Process,
    qmp: Qmp,
    ram: GuestRam,
    halted: Option<Halt>,
    clock: Clock,
    virtual_clock: Option<VirtualClock>,
    console: Option<ConsoleFile>,
    /// The thread IDs of the vCPUs in their order; `None` until they are first needed.
    threads: Option<Vec<u32>>,
}

/// Measures the host time for which the guest could run: the sum of past intervals, and the start of the current one.
#[derive(Debug, Default)]
struct Clock {
    ran: Duration,
    since: Option<Instant>,
}

impl Clock {
    fn now(&self) -> Duration {
        self.ran + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn stop(&mut self) {
        if let Some(since) = self.since.take() {
            self.ran += since.elapsed();
        }
    }

    fn run(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }
}

impl Machine {
    /// Starts QEMU for `spec` with `initramfs`, and pauses it before the guest's first instruction.
    pub fn prepare(
        qemu: &Qemu,
        spec: &MachineSpec,
        initramfs: &File,
        points: &WatchPoints,
    ) -> Result<Self, MachineError> {
        let ram = spec
            .shape
            .memory_mib
            .iter()
            .map(|mib| anonymous_file("ktstr-ram", mib << 20))
            .collect::<Result<Vec<_>, MachineError>>()?;
        Self::start(qemu, spec, Some(initramfs), &ram, true, points)
    }

    /// The same as [`Machine::prepare`], with guest RAM in the files `ram`, one per node: see [`Machine::save`].
    pub fn prepare_in(
        qemu: &Qemu,
        spec: &MachineSpec,
        initramfs: &File,
        ram: &[File],
        points: &WatchPoints,
    ) -> Result<Self, MachineError> {
        Self::start(qemu, spec, Some(initramfs), ram, true, points)
    }

    /// Restores a saved machine in the state in which it was saved. With `share` the guest's writes go to the files.
    /// Otherwise they are private to this machine, and the files do not change.
    pub fn restore(
        qemu: &Qemu,
        spec: &MachineSpec,
        ram: &[File],
        share: bool,
        state: &Path,
        points: &WatchPoints,
    ) -> Result<Self, MachineError> {
        let mut machine = Self::start(qemu, spec, None, ram, share, points)?;
        machine.ignore_shared_ram()?;
        machine.command(
            "migrate-incoming",
            json!({ "uri": format!("file:{}", state.display()) }),
        )?;
        machine.migrated("restoring the machine")?;
        Ok(machine)
    }

    /// Writes the state of the machine to `state`, except RAM, which is in its files. The machine must be paused, and
    /// cannot be used afterwards.
    pub fn save(&mut self, state: &Path) -> Result<(), MachineError> {
        self.ignore_shared_ram()?;
        self.command(
            "migrate",
            json!({ "uri": format!("file:{}", state.display()) }),
        )?;
        self.migrated("saving the machine")
    }

    fn ignore_shared_ram(&mut self) -> Result<(), MachineError> {
        self.command(
            "migrate-set-capabilities",
            json!({ "capabilities": [{ "capability": "x-ignore-shared", "state": true }] }),
        )?;
        // Announcements after a restore are not deterministic, and there is no network that needs them.
        self.command("migrate-set-parameters", json!({ "announce-rounds": 0 }))?;
        Ok(())
    }

    /// Waits for the end of a migration. QEMU accepts the command at once, and the migration takes milliseconds.
    fn migrated(&mut self, what: &'static str) -> Result<(), MachineError> {
        let deadline = Instant::now() + ANSWER;
        loop {
            let status = self.command("query-migrate", Value::Null)?;
            match status["status"].as_str() {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => {
                    return Err(MachineError::Refused {
                        command: what.to_owned(),
                        reason: status["error-desc"]
                            .as_str()
                            .unwrap_or("no reason given")
                            .to_owned(),
                    });
                }
                _ if Instant::now() > deadline => {
                    return Err(MachineError::NoAnswer {
                        command: what.to_owned(),
                        within: ANSWER,
                    });
                }
                _ => std::thread::sleep(Duration::from_micros(200)),
            }
        }
    }

    fn start(
        qemu: &Qemu,
        spec: &MachineSpec,
        initramfs: Option<&File>,
        ram: &[File],
        share: bool,
        points: &WatchPoints,
    ) -> Result<Self, MachineError> {
        spec.shape.validate()?;
        let (virtual_clock, console) = match spec.clock {
            ClockMode::Real => (None, None),
            ClockMode::Virtual { .. } => {
                (Some(VirtualClock::new(points)?), Some(ConsoleFile::new()?))
            }
        };
        let clock = virtual_clock.as_ref().zip(console.as_ref());
        let descriptors = Descriptors {
            monitor: -1,
            initramfs: initramfs.map(AsRawFd::as_raw_fd),
            ram: ram.iter().map(AsRawFd::as_raw_fd).collect(),
            share,
            clock: clock.map(|(clock, console)| {
                [&clock.plugin, &clock.control, console.file()].map(AsRawFd::as_raw_fd)
            }),
        };
        let (mut process, mut qmp) = match begin(qemu, spec, descriptors.clone()) {
            // No guest has run yet, so the machine can be started without the filter.
            Err(error) if confine::is_refused(&error) => begin(qemu, spec, descriptors)?,
            other => other?,
        };
        let backends: Vec<_> = ram
            .iter()
            .zip(spec.shape.memory_mib.iter().map(|mib| mib << 20))
            .collect();
        let ram = GuestRam::of_process(process.id(), &backends, !share)
            .map_err(|error| not_executed(qemu, &mut process, &mut qmp).unwrap_or(error))?;
        Ok(Self {
            process,
            qmp,
            ram,
            halted: None,
            clock: Clock::default(),
            virtual_clock,
            console,
            threads: None,
        })
    }

    /// Returns the guest's RAM, which can be read and written from outside.
    pub fn ram(&self) -> &GuestRam {
        &self.ram
    }

    /// Returns the virtual clock, if the machine has one.
    pub fn virtual_clock(&self) -> Option<&VirtualClock> {
        self.virtual_clock.as_ref()
    }

    /// Returns what the guest has printed on its console.
    pub fn console(&self) -> String {
        match &self.console {
            None => self.process.console.text(),
            Some(file) => file.text(),
        }
    }

    /// Returns the host time for which the guest could run: from the first [`Machine::run`] until now or until it ended,
    /// without the time in which it was stopped. Holds by the plugin are included.
    pub fn running_time(&self) -> Duration {
        self.clock.now()
    }

    /// Restricts the machine to `count` of the CPUs that this process may use, or to all of them if there are fewer. Returns the
    /// number of CPUs that the machine may use from now on. If it has more vCPUs than that, they take turns, and under the real
    /// clock guest time passes while a vCPU waits for its turn.
    pub fn share_cpus(&self, count: u32) -> Result<u32, MachineError> {
        self.process.share_cpus(count)
    }

    /// Returns the CPU time that all threads of QEMU have used on the host; `None` if it cannot be read.
    pub fn cpu_time(&self) -> Option<Duration> {
        self.process.cpu_time()
    }

    /// Returns the CPU time that the host has given to the thread of each vCPU, in the order of the vCPUs; `None` for a
    /// thread whose time cannot be read. With a single TCG thread, all entries are that thread's. The result is empty if
    /// QEMU did not report its threads, and under the virtual clock, where one thread executes all vCPUs and time is a
    /// number of instructions.
    pub fn vcpu_times(&mut self) -> Vec<Option<VcpuTime>> {
        if self.virtual_clock.is_some() {
            return Vec::new();
        }
        if self.threads.is_none() {
            let answer = self.command("query-cpus-fast", Value::Null);
            let cpus = answer.ok().and_then(|cpus| cpus.as_array().cloned());
            let mut threads: Vec<(u64, u32)> = cpus
                .unwrap_or_default()
                .iter()
                .filter_map(|cpu| {
                    let thread = u32::try_from(cpu["thread-id"].as_u64()?).ok()?;
                    Some((cpu["cpu-index"].as_u64()?, thread))
                })
                .collect();
            threads.sort_unstable();
            self.threads = Some(threads.into_iter().map(|(_, thread)| thread).collect());
        }
        let threads = self.threads.iter().flatten();
        threads
            .map(|thread| self.process.thread_time(*thread))
            .collect()
    }

    /// Lets the guest run. Under the virtual clock, waits until the plugin holds the guest: after a start or a restore this
    /// is before its first instruction.
    pub fn run(&mut self) -> Result<(), MachineError> {
        // QEMU does not continue a guest that powered off or reset itself. The caller learns this from [`Machine::halt`].
        if self.virtual_clock.is_none() && self.halt()?.is_some() {
            return Ok(());
        }
        // The time counts from here, because QEMU answers after the guest has started to run.
        self.clock.run();
        self.command("cont", Value::Null)?;
        if let Some(clock) = &self.virtual_clock {
            let deadline = Instant::now() + ANSWER;
            while clock.wait(Duration::from_millis(100)).is_none() {
                if self.process.ended().is_some() {
                    return Err(self.process.death("starting the guest"));
                }
                if Instant::now() > deadline {
                    return Err(MachineError::NoAnswer {
                        command: "cont (the plugin has not held the guest)".to_owned(),
                        within: ANSWER,
                    });
                }
            }
            // QEMU's main thread may still be processing the start. Wait until it polls for events again, so that it does not
            // disturb the guest's thread between two instructions.
            self.process.wait_until_in(POLL)?;
        }
        Ok(())
    }

    /// Stops all CPUs and the guest's clocks.
    ///
    /// A guest that is held by its virtual clock is released for this. Its thread stops before the next block of
    /// instructions, which is the same one in each run.
    pub fn stop(&mut self) -> Result<(), MachineError> {
        let held = self.virtual_clock.as_ref().and_then(VirtualClock::held);
        self.qmp.send("stop", Value::Null)?;
        if held.is_some() {
            // The request must have reached the thread before the thread continues.
            self.process.wait_until_in(FUTEX)?;
            if let Some(clock) = &self.virtual_clock {
                clock.release();
            }
        }
        self.qmp.receive("stop", ANSWER)?;
        self.clock.stop();
        Ok(())
    }

    /// Returns why the guest has ended; `None` if it has not. It is an error if QEMU itself has exited, or if its monitor
    /// cannot be read.
    ///
    /// This must be called often while the guest runs, because it also keeps the size of the guest's console within
    /// limits.
    pub fn halt(&mut self) -> Result<Option<Halt>, MachineError> {
        if let Some(console) = &mut self.console {
            console.bound()?;
        }
        loop {
            match self.qmp.event() {
                Ok(Some(event)) => self.note(&event)?,
                Ok(None) => break,
                // QEMU is not dead, and the error says what it sent.
                Err(error @ MachineError::BadQmp { .. }) => {
                    self.process.kill();
                    return Err(error);
                }
                Err(_) => return Err(self.process.death("running the guest")),
            }
        }
        Ok(self.halted)
    }

    fn note(&mut self, event: &Event) -> Result<(), MachineError> {
        match event.name.as_str() {
            // QEMU itself ends, because the host sent it a signal such as SIGTERM. The guest has done nothing.
            "SHUTDOWN" if event.data["guest"] == false => {
                return Err(self.process.death("running the guest"));
            }
            "SHUTDOWN" => {
                let reset = event.data["reason"]
                    .as_str()
                    .is_some_and(|reason| reason.contains("reset") || reason.contains("panic"));
                self.halted
                    .get_or_insert(if reset { Halt::Reset } else { Halt::PowerOff });
                self.clock.stop();
            }
            "STOP" if self.halted.is_none() && self.clock.since.is_some() => {
                let status = self.command("query-status", Value::Null)?;
                if status["status"] == "internal-error" {
                    self.halted = Some(Halt::AcceleratorFailed);
                    self.clock.stop();
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Ends the machine, and returns everything that it printed.
    pub fn end(mut self) -> String {
        self.process.kill();
        self.console()
    }

    fn command(&mut self, command: &str, arguments: Value) -> Result<Value, MachineError> {
        match self.qmp.execute(command, arguments, ANSWER) {
            Err(MachineError::System { .. }) => Err(self.process.death("talking to its monitor")),
            other => other,
        }
    }
}

/// Starts QEMU, and connects to its monitor.
fn begin(
    qemu: &Qemu,
    spec: &MachineSpec,
    mut descriptors: Descriptors,
) -> Result<(Process, Qmp), MachineError> {
    let (ours, theirs) =
        UnixStream::pair().map_err(|e| MachineError::system("making a socket pair for QMP", e))?;
    descriptors.monitor = theirs.as_raw_fd();
    let mut inherit = vec![descriptors.monitor];
    inherit.extend(descriptors.initramfs);
    inherit.extend(&descriptors.ram);
    inherit.extend(descriptors.clock.iter().flatten());
    let preload = descriptors.clock.map(|[plugin, ..]| plugin);
    let arguments = spec.arguments(&descriptors);
    let mut process = Process::start(&qemu.path, &arguments, inherit, preload)?;
    drop(theirs);
    match Qmp::connect(ours, ANSWER) {
        Ok(qmp) => Ok((process, qmp)),
        // QEMU closes its monitor when it exits. Its exit status may take another moment.
        Err(MachineError::System { .. }) => Err(process.death("starting up")),
        Err(other) => Err(other),
    }
}

/// Returns the error for a program, such as a script, that started QEMU as another process instead of becoming it; `None` if the
/// process is QEMU. The QEMU is ended.
fn not_executed(qemu: &Qemu, process: &mut Process, qmp: &mut Qmp) -> Option<MachineError> {
    let cpus = qmp.execute("query-cpus-fast", Value::Null, ANSWER).ok()?;
    if process.has_thread(cpus[0]["thread-id"].as_u64()?) {
        return None;
    }
    let name = process.name();
    // QEMU may be outside of the process group that is killed when `process` is dropped, so it is told to end. An error is
    // ignored, because a QEMU in the group is killed in any case.
    let _ = qmp.execute("quit", Value::Null, ANSWER);
    Some(MachineError::NotExecuted {
        path: qemu.path.clone(),
        started: process.id(),
        name,
    })
}

/// Creates a file with `len` zero bytes, which exists only as long as it is open.
pub fn anonymous_file(name: &str, len: u64) -> Result<File, MachineError> {
    let make = || -> std::io::Result<File> {
        let fd: OwnedFd = rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC)?;
        let file = File::from(fd);
        file.set_len(len)?;
        Ok(file)
    };
    make().map_err(|e| MachineError::system(format!("making {len} bytes of {name}"), e))
}
