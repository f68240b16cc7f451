//! One machine from its start to its end.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::process::Process;
use crate::qmp::{Event, Qmp};
use crate::spec::Descriptors;
use crate::{Accelerator, GuestRam, MachineError, MachineSpec, Qemu};

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
    accelerator: Accelerator,
    halted: Option<Halt>,
    clock: Clock,
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
    ) -> Result<Self, MachineError> {
        let ram = spec
            .shape
            .memory_mib
            .iter()
            .map(|mib| anonymous_file("ktstr-ram", mib << 20))
            .collect::<Result<Vec<_>, MachineError>>()?;
        Self::start(qemu, spec, Some(initramfs), &ram, true)
    }

    /// As [`Machine::prepare`], with guest RAM in `ram`, a file a node: see [`Machine::save`].
    pub fn prepare_in(
        qemu: &Qemu,
        spec: &MachineSpec,
        initramfs: &File,
        ram: &[File],
    ) -> Result<Self, MachineError> {
        Self::start(qemu, spec, Some(initramfs), ram, true)
    }

    /// Restores a saved machine and stands where it stood. With `share` the guest's writes go
    /// to the files, else they are this machine's own and the files stay as they are.
    pub fn restore(
        qemu: &Qemu,
        spec: &MachineSpec,
        ram: &[File],
        share: bool,
        state: &Path,
    ) -> Result<Self, MachineError> {
        let mut machine = Self::start(qemu, spec, None, ram, share)?;
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
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    fn start(
        qemu: &Qemu,
        spec: &MachineSpec,
        initramfs: Option<&File>,
        ram: &[File],
        share: bool,
    ) -> Result<Self, MachineError> {
        spec.shape.validate()?;
        let (ours, theirs) = UnixStream::pair()
            .map_err(|e| MachineError::system("making a socket pair for QMP", e))?;
        let descriptors = Descriptors {
            monitor: theirs.as_raw_fd(),
            initramfs: initramfs.map(AsRawFd::as_raw_fd),
            ram: ram.iter().map(AsRawFd::as_raw_fd).collect(),
            share,
        };
        let mut inherit = vec![descriptors.monitor];
        inherit.extend(descriptors.initramfs);
        inherit.extend(&descriptors.ram);
        let mut process = Process::start(&qemu.path, &spec.arguments(&descriptors), inherit)?;
        drop(theirs);
        let qmp = match Qmp::connect(ours, ANSWER) {
            Ok(qmp) => qmp,
            Err(MachineError::System { .. }) => {
                // The monitor's end is QEMU's end: give it the moment it needs to be waited for.
                process.kill();
                return Err(process.death("starting up"));
            }
            Err(other) => return Err(other),
        };
        let backends: Vec<_> = ram
            .iter()
            .zip(spec.shape.memory_mib.iter().map(|mib| mib << 20))
            .collect();
        let ram = GuestRam::of_process(process.id(), &backends)?;
        Ok(Self {
            process,
            qmp,
            ram,
            accelerator: spec.accelerator,
            halted: None,
            clock: Clock::default(),
        })
    }

    /// What executes the guest.
    pub fn accelerator(&self) -> Accelerator {
        self.accelerator
    }

    /// Guest RAM.
    pub fn ram(&self) -> &GuestRam {
        &self.ram
    }

    /// What the guest printed on its console.
    pub fn console(&self) -> String {
        self.process.console.text()
    }

    /// Process id of QEMU.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Time during which the guest could run: wall time less everything it stood still.
    pub fn running_time(&self) -> Duration {
        self.clock.now()
    }

    /// CPU time that QEMU has got from the host.
    pub fn cpu_time(&self) -> Option<Duration> {
        self.process.cpu_time()
    }

    /// Lets the guest run.
    pub fn run(&mut self) -> Result<(), MachineError> {
        self.command("cont", Value::Null)?;
        self.clock.run();
        Ok(())
    }

    /// Stops all CPUs and the guest's clocks.
    pub fn stop(&mut self) -> Result<(), MachineError> {
        self.command("stop", Value::Null)?;
        self.clock.stop();
        Ok(())
    }

    /// Why the guest does not run any more, if it does not. An error when QEMU itself is gone.
    pub fn halt(&mut self) -> Result<Option<Halt>, MachineError> {
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

    /// Control registers of CPU 0, as QEMU prints them: for translating addresses.
    pub fn registers(&mut self) -> Result<String, MachineError> {
        let text = self.command(
            "human-monitor-command",
            json!({ "command-line": "info registers" }),
        )?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Ends the machine and returns all it printed.
    pub fn end(mut self) -> String {
        self.process.kill();
        self.process.console.text()
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
