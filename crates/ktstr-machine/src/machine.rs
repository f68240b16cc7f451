//! One machine from its start to its end.

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

/// How long QEMU may take to answer. It answers in milliseconds; a host that is suspended or
/// swapping for longer than this is not fit to run a VM.
const ANSWER: Duration = Duration::from_secs(60);

/// Why the guest does not run any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Halt {
    /// It powered off.
    PowerOff,
    /// It reset itself: with `panic=-1` the way a kernel panic ends.
    Reset,
    /// The accelerator could not go on (QEMU's status `internal-error`): with KVM, a host
    /// whose virtualisation cannot run this kernel.
    AcceleratorFailed,
}

/// A machine. Dropping it ends its QEMU.
#[derive(Debug)]
pub struct Machine {
    process: Process,
    qmp: Qmp,
    ram: GuestRam,
    halted: Option<Halt>,
    clock: Clock,
    virtual_clock: Option<VirtualClock>,
    console: Option<ConsoleFile>,
    /// The vCPUs' threads, once they were asked for.
    threads: Option<Vec<u32>>,
}

/// Counts the time during which the guest could run.
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
    /// Starts QEMU for `spec` with `initramfs`, and stands before the first instruction.
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

    /// As [`Machine::prepare`], with guest RAM in `ram`, a file a node: see [`Machine::save`].
    pub fn prepare_in(
        qemu: &Qemu,
        spec: &MachineSpec,
        initramfs: &File,
        ram: &[File],
        points: &WatchPoints,
    ) -> Result<Self, MachineError> {
        Self::start(qemu, spec, Some(initramfs), ram, true, points)
    }

    /// Restores a saved machine and stands where it stood. With `share` the guest's writes go
    /// to the files, else they are this machine's own and the files stay as they are.
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

    /// Writes all but RAM, which is in its files, to `state`. The machine must stand still; it
    /// is of no use afterwards.
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
        // Announcements after a restore come at the host's leisure; there is no network.
        self.command("migrate-set-parameters", json!({ "announce-rounds": 0 }))?;
        Ok(())
    }

    /// Waits for a migration's end. QEMU answers at once, the migration takes milliseconds.
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
        let (process, qmp) = match begin(qemu, spec, descriptors.clone()) {
            // No guest has run yet, so the machine is the same without.
            Err(error) if confine::is_refused(&error) => begin(qemu, spec, descriptors)?,
            other => other?,
        };
        let backends: Vec<_> = ram
            .iter()
            .zip(spec.shape.memory_mib.iter().map(|mib| mib << 20))
            .collect();
        let ram = GuestRam::of_process(process.id(), &backends, !share)?;
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

    /// The guest's RAM, to be read and written from outside.
    pub fn ram(&self) -> &GuestRam {
        &self.ram
    }

    /// The virtual clock, if the machine has one.
    pub fn virtual_clock(&self) -> Option<&VirtualClock> {
        self.virtual_clock.as_ref()
    }

    /// What the guest printed on its console.
    pub fn console(&self) -> String {
        match &self.console {
            None => self.process.console.text(),
            Some(file) => file.text(),
        }
    }

    /// Time during which the guest could run: wall time less everything it stood still.
    pub fn running_time(&self) -> Duration {
        self.clock.now()
    }

    /// CPU time that QEMU has got from the host.
    pub fn cpu_time(&self) -> Option<Duration> {
        self.process.cpu_time()
    }

    /// What the host gave each vCPU so far; nothing under the virtual clock, where one thread
    /// executes them all and time is a count.
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

    /// Lets the guest run. Under the virtual clock it is held at once, before its first
    /// instruction.
    pub fn run(&mut self) -> Result<(), MachineError> {
        // Counted from here on: the answer comes after the guest has begun to run.
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
            // QEMU's main loop still has to do with the start: what it does to the guest's
            // thread must not fall between two of the guest's instructions.
            self.process.wait_until_in(POLL)?;
        }
        Ok(())
    }

    /// Stops all CPUs and the guest's clocks.
    ///
    /// A guest that its virtual clock holds is let go for it: its thread stops before the next
    /// block of instructions, always the same one.
    pub fn stop(&mut self) -> Result<(), MachineError> {
        let held = self.virtual_clock.as_ref().and_then(VirtualClock::held);
        self.qmp.send("stop", Value::Null)?;
        if held.is_some() {
            // The request must have reached the thread before it goes on.
            self.process.wait_until_in(FUTEX)?;
            if let Some(clock) = &self.virtual_clock {
                clock.release();
            }
        }
        self.qmp.receive("stop", ANSWER)?;
        self.clock.stop();
        Ok(())
    }

    /// Why the guest does not run any more, if it does not. An error when QEMU itself is gone.
    ///
    /// To be asked often while the guest runs: this is also where what it prints is kept within
    /// bounds.
    pub fn halt(&mut self) -> Result<Option<Halt>, MachineError> {
        if let Some(console) = &mut self.console {
            console.bound()?;
        }
        loop {
            match self.qmp.event() {
                Ok(Some(event)) => self.note(&event)?,
                Ok(None) => break,
                Err(_) => {
                    self.process.kill();
                    return Err(self.process.death("running the guest"));
                }
            }
        }
        Ok(self.halted)
    }

    fn note(&mut self, event: &Event) -> Result<(), MachineError> {
        match event.name.as_str() {
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

    /// Ends the machine and returns all it printed.
    pub fn end(mut self) -> String {
        self.process.kill();
        self.console()
    }

    fn command(&mut self, command: &str, arguments: Value) -> Result<Value, MachineError> {
        match self.qmp.execute(command, arguments, ANSWER) {
            Err(MachineError::System { .. }) => {
                self.process.kill();
                Err(self.process.death("talking to its monitor"))
            }
            other => other,
        }
    }
}

/// Starts QEMU and greets its monitor.
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
        Err(MachineError::System { .. }) => {
            // The monitor's end is QEMU's end: give it the moment it needs to be waited for.
            process.kill();
            Err(process.death("starting up"))
        }
        Err(other) => Err(other),
    }
}

/// A file of `len` zero bytes that exists only as long as somebody has it open.
pub fn anonymous_file(name: &str, len: u64) -> Result<File, MachineError> {
    let make = || -> std::io::Result<File> {
        let fd: OwnedFd = rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC)?;
        let file = File::from(fd);
        file.set_len(len)?;
        Ok(file)
    };
    make().map_err(|e| MachineError::system(format!("making {len} bytes of {name}"), e))
}
