//! Captures: when the periodic ones are due, and taking one, be it due or asked for.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ktstr_assert::series::DrainedSnapshotEntry;
use ktstr_introspect::btf::Btf;
use ktstr_introspect::capture::{CaptureOptions, capture};
use ktstr_introspect::kernel::KernelView;
use ktstr_introspect::memory::{GuestMemory, MemoryError};
use ktstr_introspect::report::{FailureDumpReport, TaskEnrichment};
use ktstr_introspect::snapshot::MissingStatsReason;
use ktstr_introspect::symbols::Symbols;
use ktstr_kernel::Kernel;
use ktstr_machine::{GuestRam, MAX_SENDERS, Machine, MachineError, Turns, WatchPoints};
use ktstr_scenario::scheduler::BpfMapWrite;

use super::transcript::Transcript;
use crate::entry::KtstrTestEntry;
use crate::snapshot_bridge::SnapshotBridge;

/// Failed freezes in a row after which the rest is given up.
const GIVE_UP_AFTER: u32 = 2;

/// What the tags of periodic captures begin with.
pub(super) const PERIODIC: &str = "periodic_";

/// What the host must know of the kernel to read it.
#[derive(Debug)]
pub(super) struct KernelKnowledge {
    pub(super) btf: Btf,
    pub(super) symbols: Symbols,
}

/// Kernel knowledge, loaded while the guest boots.
pub(super) enum Knowledge {
    Loading(JoinHandle<Result<KernelKnowledge, String>>),
    Loaded(Result<Box<KernelKnowledge>, String>),
}

impl Knowledge {
    /// Starts to load what `kernel` has.
    pub(super) fn load(kernel: &Kernel) -> Self {
        let kernel = kernel.clone();
        Self::Loading(std::thread::spawn(move || {
            Ok(KernelKnowledge {
                btf: kernel.btf().map_err(|e| e.to_string())?,
                symbols: kernel.symbols().map_err(|e| e.to_string())?,
            })
        }))
    }

    /// What is known, or why nothing is.
    pub(super) fn get(&mut self) -> Result<&KernelKnowledge, &str> {
        if let Self::Loading(_) = self
            && let Self::Loading(handle) =
                std::mem::replace(self, Self::Loaded(Err("not loaded".to_owned())))
        {
            let loaded = handle
                .join()
                .unwrap_or_else(|_| Err("reading BTF and symbols panicked".to_owned()));
            *self = Self::Loaded(loaded.map(Box::new));
        }
        match self {
            Self::Loaded(Ok(known)) => Ok(known),
            Self::Loaded(Err(why)) => Err(why),
            Self::Loading(_) => Err("still loading"),
        }
    }
}

/// Guest RAM as introspection wants it.
pub(super) struct RamView<'a>(pub(super) &'a GuestRam);

impl GuestMemory for RamView<'_> {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.0.read(gpa, buf).map_err(|e| MemoryError::Host {
            gpa,
            len: buf.len(),
            reason: e.to_string(),
        })
    }
}

/// What each CPU of the guest is at, as `comm[pid]`; nothing where its memory does not tell.
pub(super) fn current_tasks(machine: &Machine, knowledge: &mut Knowledge) -> Vec<String> {
    let Ok(known) = knowledge.get() else {
        return Vec::new();
    };
    let memory = RamView(machine.ram());
    let cpus = KernelView::new(&memory, &known.symbols, &known.btf)
        .and_then(|view| view.runqueues())
        .unwrap_or_default();
    cpus.into_iter()
        .filter_map(|cpu| Some(format!("{}[{}]", cpu.curr_comm?, cpu.curr_pid?)))
        .collect()
}

/// Processes listed of a guest that was given up on.
const MOST_PROCESSES: usize = 4096;

/// The guest's processes and threads; none where its memory does not tell.
pub(super) fn processes(machine: &Machine, knowledge: &mut Knowledge) -> Vec<TaskEnrichment> {
    let Ok(known) = knowledge.get() else {
        return Vec::new();
    };
    let memory = RamView(machine.ram());
    KernelView::new(&memory, &known.symbols, &known.btf)
        .and_then(|view| view.tasks(MOST_PROCESSES))
        .map(|(tasks, _)| tasks)
        .unwrap_or_default()
}

/// The boundaries of a run and what came of them.
pub(super) struct Captures {
    boundaries: Vec<Duration>,
    next: usize,
    failures: u32,
    /// Why there are no statistics of the scheduler beside a capture.
    no_stats: MissingStatsReason,
    pub(super) bridge: SnapshotBridge,
    pub(super) fired: u32,
    pub(super) real: u32,
    /// Captures that the test has asked for.
    pub(super) on_demand: u32,
    /// Whether the values of `bpf_map_write` are in the scheduler's variables; `None` before the guest asks.
    pub(super) map_writes: Option<bool>,
    /// Wall time the guest stood still for each.
    pub(super) freezes: Vec<Duration>,
    /// Of all of them.
    pub(super) digest: blake3::Hasher,
    /// Wall time that took.
    pub(super) digest_time: Duration,
}

impl Captures {
    /// The boundaries that the entry asks for in its window: one tenth in, then evenly over eight
    /// tenths.
    pub(super) fn new(entry: &KtstrTestEntry) -> Self {
        let no_stats = if entry.scheduler.binary.has_bpf_scheduler() {
            MissingStatsReason::NoScheduler {
                reason: "statistics of scx_stats are not fetched from the guest yet".to_owned(),
            }
        } else {
            MissingStatsReason::NoSchedulerBinary
        };
        Self {
            boundaries: boundaries(entry.num_snapshots, entry.duration),
            no_stats,
            next: 0,
            failures: 0,
            bridge: SnapshotBridge::default(),
            fired: 0,
            real: 0,
            on_demand: 0,
            map_writes: None,
            freezes: Vec::new(),
            digest: blake3::Hasher::new(),
            digest_time: Duration::ZERO,
        }
    }

    /// Wall time the guest stood still in all.
    pub(super) fn frozen(&self) -> Duration {
        self.freezes.iter().sum()
    }

    /// Takes the next capture if its boundary has come, at `now`. Returns the time of the one after
    /// it, while the window is open.
    pub(super) fn take_if_due(
        &mut self,
        machine: &mut Machine,
        knowledge: &mut Knowledge,
        said: &Transcript,
        now: Duration,
    ) -> Result<Option<Duration>, MachineError> {
        if let (Some(elapsed), Some(boundary)) =
            (said.window.elapsed(now), self.boundaries.get(self.next))
            && elapsed >= *boundary
        {
            self.take(machine, knowledge, elapsed, said.step_index)?;
        }
        let next = self.boundaries.get(self.next);
        Ok(next.and_then(|boundary| said.window.when(*boundary)))
    }

    /// Freezes the machine, reads, stores under `periodic_NNN`, lets go.
    fn take(
        &mut self,
        machine: &mut Machine,
        knowledge: &mut Knowledge,
        elapsed: Duration,
        step_index: u16,
    ) -> Result<(), MachineError> {
        let tag = format!("{PERIODIC}{:03}", self.next);
        let boundary = self.boundaries.get(self.next).copied().unwrap_or(elapsed);
        self.next += 1;
        let report = self.freeze(machine, knowledge)?;
        self.fired += 1;
        if report.is_placeholder {
            self.failures += 1;
            if self.failures >= GIVE_UP_AFTER {
                self.next = self.boundaries.len();
            }
        } else {
            self.failures = 0;
            self.real += 1;
        }
        self.store(
            machine,
            DrainedSnapshotEntry {
                tag,
                report,
                stats: Err(self.no_stats.clone()),
                elapsed_ms: Some(elapsed.as_millis() as u64),
                boundary_offset_ms: Some(boundary.as_millis() as u64),
                step_index: Some(step_index),
            },
        );
        Ok(())
    }

    /// Takes a capture under this tag. The inner error is the test's to hear: nothing could be read.
    pub(super) fn take_tagged(
        &mut self,
        machine: &mut Machine,
        knowledge: &mut Knowledge,
        tag: String,
        elapsed: Option<Duration>,
        step_index: u16,
    ) -> Result<Result<(), String>, MachineError> {
        let report = self.freeze(machine, knowledge)?;
        if report.is_placeholder {
            let why = report.placeholder_reason.unwrap_or_default();
            return Ok(Err(format!(
                "the capture {tag:?} could not be taken: {why}"
            )));
        }
        self.store(
            machine,
            DrainedSnapshotEntry {
                tag,
                report,
                stats: Err(self.no_stats.clone()),
                elapsed_ms: elapsed.map(|elapsed| elapsed.as_millis() as u64),
                boundary_offset_ms: None,
                step_index: Some(step_index),
            },
        );
        Ok(Ok(()))
    }

    /// Freezes the machine, reads, lets go.
    fn freeze(
        &mut self,
        machine: &mut Machine,
        knowledge: &mut Knowledge,
    ) -> Result<FailureDumpReport, MachineError> {
        let known = match knowledge.get() {
            Ok(known) => known,
            Err(why) => {
                let why = format!("the kernel could not be understood: {why}");
                return Ok(FailureDumpReport::placeholder(why));
            }
        };
        let began = Instant::now();
        // Under the virtual clock the guest is held already.
        let free = machine.virtual_clock().is_none();
        if free {
            machine.stop()?;
        }
        let report = read(machine.ram(), known);
        if free {
            machine.run()?;
        }
        self.freezes.push(began.elapsed());
        Ok(report)
    }

    fn store(&mut self, machine: &Machine, entry: DrainedSnapshotEntry) {
        if machine.virtual_clock().is_some() {
            let began = Instant::now();
            super::digest::take_in(&mut self.digest, &entry);
            self.digest_time += began.elapsed();
        }
        self.bridge.store_entry(entry);
    }
}

/// Functions that send an interrupt to another CPU (arch/x86/kernel/apic/ipi.c, Linux 5.3 to 7.3): to make it schedule, and
/// to make one or several call a function.
const SENDERS: [&str; MAX_SENDERS] = [
    "native_smp_send_reschedule",
    "native_send_call_func_single_ipi",
    "native_send_call_func_ipi",
];

/// Where the plugin of the virtual clock has to look.
pub(super) fn watch_points(known: &KernelKnowledge) -> Result<WatchPoints, String> {
    let symbol = |name: &str| {
        known
            .symbols
            .address(name)
            .ok_or_else(|| format!("the kernel has no symbol {name}"))
    };
    let offset = |kind: &str, path: &str| {
        known
            .btf
            .member(kind, path)
            .map(|member| member.offset())
            .map_err(|e| e.to_string())
    };
    let runqueues = symbol("runqueues")?;
    let mut points = WatchPoints {
        switch_to: symbol("__switch_to")?,
        pid_offset: offset("task_struct", "pid")? as u32,
        timer: symbol("hrtimer_interrupt")?,
        next_event_offset: offset("clock_event_device", "next_event")? as u32,
        this_rq_cpu: runqueues.wrapping_add(offset("rq", "cpu")?),
        this_rq_clock: runqueues.wrapping_add(offset("rq", "clock")?),
        rq_clock_offset: offset("rq", "clock")? as u32,
        turns: Turns {
            instructions: 0,
            senders: SENDERS
                .iter()
                .filter_map(|name| known.symbols.address(name))
                .collect(),
        },
        ..WatchPoints::default()
    };
    super::schedule::add_points(&mut points, known);
    Ok(points)
}

/// Overrides sched_ext's runnable-stall timeout in a machine whose scheduler is attached.
pub(super) fn set_watchdog(
    ram: &GuestRam,
    known: &KernelKnowledge,
    milliseconds: u64,
) -> Result<(), String> {
    let memory = RamView(ram);
    let view = KernelView::new(&memory, &known.symbols, &known.btf).map_err(|e| e.to_string())?;
    let writes = view
        .scx_watchdog_writes(milliseconds)
        .map_err(|e| e.to_string())?;
    for (gpa, value) in writes {
        ram.write(gpa, &value.to_le_bytes())
            .map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Writes a test's value into a variable of the scheduler. An error says what was looked for and what there is.
pub(super) fn write_variable(
    ram: &GuestRam,
    known: &KernelKnowledge,
    write: &BpfMapWrite,
) -> Result<(), String> {
    let memory = RamView(ram);
    let view = KernelView::new(&memory, &known.symbols, &known.btf).map_err(|e| e.to_string())?;
    let found = view
        .scx_variable(write.map(), write.field())
        .map_err(|e| e.to_string())?;
    let bytes = write.value().to_le_bytes();
    if found.size != bytes.len() as u64 {
        return Err(format!(
            "the variable {:?} has {} bytes, and only those of {} bytes are written",
            write.field(),
            found.size,
            bytes.len()
        ));
    }
    ram.write(found.gpa, &bytes).map_err(|e| e.to_string())
}

/// One capture of a machine that stands still.
pub(super) fn read(ram: &GuestRam, known: &KernelKnowledge) -> FailureDumpReport {
    let memory = RamView(ram);
    match KernelView::new(&memory, &known.symbols, &known.btf) {
        Ok(view) => capture(&view, &CaptureOptions::default()),
        Err(error) => FailureDumpReport::placeholder(error.to_string()),
    }
}

fn boundaries(count: u32, duration: Duration) -> Vec<Duration> {
    let window = duration.as_secs_f64();
    (0..count)
        .map(|i| {
            let share = 0.1 + f64::from(i + 1) * 0.8 / f64::from(count + 1);
            Duration::from_secs_f64(window * share)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_in_ten_seconds_lie_two_in_each_half() {
        let at: Vec<_> = boundaries(4, Duration::from_secs(10))
            .iter()
            .map(|d| d.as_millis())
            .collect();
        assert_eq!(at, [2600, 4200, 5800, 7400]);
        let three: Vec<_> = boundaries(3, Duration::from_secs(10))
            .iter()
            .map(|d| d.as_millis())
            .collect();
        assert_eq!(three, [3000, 5000, 7000]);
    }
}
