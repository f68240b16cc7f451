//! Captures: when the periodic ones are due, and how any capture is taken. This file also has the host's other accesses to
//! the kernel's memory (current tasks, the stall timeout, variables of the scheduler), and finds the addresses that the
//! plugin observes.

use std::collections::{BTreeMap, BTreeSet};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ktstr_assert::series::{DrainedSnapshotEntry, PERIODIC_TAG_PREFIX};
use ktstr_introspect::btf::Btf;
use ktstr_introspect::capture::{CaptureOptions, capture};
use ktstr_introspect::kernel::KernelView;
use ktstr_introspect::memory::{GuestMemory, MemoryError};
use ktstr_introspect::symbols::Symbols;
use ktstr_kernel::Kernel;
use ktstr_machine::{GuestRam, MAX_SENDERS, Machine, MachineError, Turns, WatchPoints};
use ktstr_scenario::scheduler::BpfMapWrite;
use ktstr_snapshot::report::{FailureDumpReport, TaskEnrichment};

use super::guest_state::GuestState;
use super::stats::{self, EarlyStats};
use crate::entry::KtstrTestEntry;
use crate::moment::MomentCapture;
use crate::snapshot_bridge::SnapshotBridge;

/// The number of consecutive periodic captures without data after which no further ones are taken.
const GIVE_UP_AFTER: u32 = 2;

/// The symbols and types that the host needs to read the kernel's memory.
#[derive(Debug)]
pub(super) struct KernelInfo {
    pub(super) btf: Btf,
    pub(super) symbols: Symbols,
}

/// The kernel's symbols and types, which a thread loads while the guest boots.
pub(super) enum LazyKernelInfo {
    Loading(JoinHandle<Result<KernelInfo, String>>),
    Loaded(Result<Box<KernelInfo>, String>),
}

impl LazyKernelInfo {
    /// Starts to load the symbols and types of `kernel`.
    pub(super) fn load(kernel: &Kernel) -> Self {
        let kernel = kernel.clone();
        Self::Loading(std::thread::spawn(move || {
            Ok(KernelInfo {
                btf: kernel.btf().map_err(|e| e.to_string())?,
                symbols: kernel.symbols().map_err(|e| e.to_string())?,
            })
        }))
    }

    /// Returns the symbols and types, or the reason why they are not available. Waits until they are loaded.
    pub(super) fn get(&mut self) -> Result<&KernelInfo, &str> {
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
            Self::Loaded(Ok(info)) => Ok(info),
            Self::Loaded(Err(why)) => Err(why),
            Self::Loading(_) => Err("still loading"),
        }
    }
}

/// Guest RAM, in the form that introspection reads.
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

/// Returns the current task of each of the guest's CPUs, as `comm[pid]`; empty if the guest's memory cannot be read.
pub(super) fn current_tasks(machine: &Machine, kernel_info: &mut LazyKernelInfo) -> Vec<String> {
    let Ok(info) = kernel_info.get() else {
        return Vec::new();
    };
    let memory = RamView(machine.ram());
    let cpus = KernelView::new(&memory, &info.symbols, &info.btf)
        .and_then(|view| view.runqueues())
        .unwrap_or_default();
    cpus.into_iter()
        .filter_map(|cpu| Some(format!("{}[{}]", cpu.curr_comm?, cpu.curr_pid?)))
        .collect()
}

/// The largest number of processes and threads in the list for a guest on which the host gave up.
const MOST_PROCESSES: usize = 4096;

/// Returns the guest's processes and threads; empty if the guest's memory cannot be read.
pub(super) fn processes(
    machine: &Machine,
    kernel_info: &mut LazyKernelInfo,
) -> Vec<TaskEnrichment> {
    let Ok(info) = kernel_info.get() else {
        return Vec::new();
    };
    let memory = RamView(machine.ram());
    KernelView::new(&memory, &info.symbols, &info.btf)
        .and_then(|view| view.tasks(MOST_PROCESSES))
        .map(|(tasks, _)| tasks)
        .unwrap_or_default()
}

/// What the host knows about a capture in addition to its content.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Taken {
    /// When it was taken, in nanoseconds of the kernel's scheduler clock, which is the clock of `schedule.bin`; `None` if no
    /// schedule is recorded.
    pub(super) clock_ns: Option<u64>,
    /// The wall time for which the guest was stopped for it; `None` if the kernel's memory could not be interpreted.
    pub(super) freeze: Option<Duration>,
}

/// The capture times of a run, and what was captured.
pub(super) struct Captures {
    /// The times of the periodic captures, counted from the start of the workload window. `next` is the index of the first
    /// time at which no capture has been taken yet.
    boundaries: Vec<Duration>,
    next: usize,
    /// The number of periodic captures without data since the last one with data.
    failures: u32,
    /// The statistics of the scheduler that arrived before their captures.
    early_stats: EarlyStats,
    /// The tags of the periodic captures for which the scheduler's statistics, or the reason why there are none, have arrived.
    answered: BTreeSet<String>,
    pub(super) bridge: SnapshotBridge,
    /// The number of periodic captures that were taken, including those without data.
    pub(super) fired: u32,
    /// The number of periodic captures with data.
    pub(super) real: u32,
    /// The number of captures that the test requested and that the host tried to take.
    pub(super) on_demand: u32,
    /// Whether the values of `bpf_map_write` are in the scheduler's variables; `None` until the guest asks for the writes.
    pub(super) map_writes: Option<bool>,
    /// The wall time for which the guest was frozen, for each capture.
    pub(super) freezes: Vec<Duration>,
    /// What the bridge does not keep of each capture, by the capture's tag.
    pub(super) taken: BTreeMap<String, Taken>,
    /// The kernel's scheduler clock at this poll, in nanoseconds; `None` if no schedule is recorded.
    pub(super) clock_ns: Option<u64>,
    /// The digest of all captures.
    pub(super) digest: blake3::Hasher,
    /// The wall time for computing the digest.
    pub(super) digest_time: Duration,
}

impl Captures {
    pub(super) fn new(entry: &KtstrTestEntry) -> Self {
        Self {
            boundaries: entry.capture_times(),
            early_stats: EarlyStats::new(entry),
            answered: BTreeSet::new(),
            next: 0,
            failures: 0,
            bridge: SnapshotBridge::default(),
            fired: 0,
            real: 0,
            on_demand: 0,
            map_writes: None,
            freezes: Vec::new(),
            taken: BTreeMap::new(),
            clock_ns: None,
            digest: blake3::Hasher::new(),
            digest_time: Duration::ZERO,
        }
    }

    /// Returns the total wall time for which the guest was frozen.
    pub(super) fn frozen(&self) -> Duration {
        self.freezes.iter().sum()
    }

    /// Takes the next periodic capture if it is due at `now`. Returns the time at which the next capture after that is due;
    /// `None` if no capture is left, and while the window is not open or is paused.
    pub(super) fn take_if_due(
        &mut self,
        machine: &mut Machine,
        kernel_info: &mut LazyKernelInfo,
        guest: &GuestState,
        now: Duration,
    ) -> Result<Option<Duration>, MachineError> {
        if let (Some(elapsed), Some(boundary)) =
            (guest.window.elapsed(now), self.boundaries.get(self.next))
            && elapsed >= *boundary
        {
            self.take(machine, kernel_info, elapsed, guest.step_index)?;
        }
        let next = self.boundaries.get(self.next);
        Ok(next.and_then(|boundary| guest.window.when(*boundary)))
    }

    /// Takes the next periodic capture and stores it under the tag `periodic_NNN`. A capture without data is stored, too.
    fn take(
        &mut self,
        machine: &mut Machine,
        kernel_info: &mut LazyKernelInfo,
        elapsed: Duration,
        step_index: u16,
    ) -> Result<(), MachineError> {
        let tag = format!("{PERIODIC_TAG_PREFIX}{:03}", self.next);
        let boundary = self.boundaries.get(self.next).copied().unwrap_or(elapsed);
        self.next += 1;
        let (report, freeze) = self.freeze(machine, kernel_info, true)?;
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
        let stats = self.early_stats.of(&tag);
        self.store(
            machine,
            DrainedSnapshotEntry {
                tag,
                report,
                stats,
                elapsed_ms: Some(elapsed.as_millis() as u64),
                boundary_offset_ms: Some(boundary.as_millis() as u64),
                step_index: Some(step_index),
            },
            freeze,
        );
        Ok(())
    }

    /// Takes a capture and stores it under this tag. If nothing could be read, nothing is stored, and the inner error has
    /// the reason, which is reported to the test.
    pub(super) fn take_tagged(
        &mut self,
        machine: &mut Machine,
        kernel_info: &mut LazyKernelInfo,
        tag: String,
        elapsed: Option<Duration>,
        step_index: u16,
    ) -> Result<Result<(), String>, MachineError> {
        let (report, freeze) = self.freeze(machine, kernel_info, true)?;
        if report.is_placeholder {
            let why = report.placeholder_reason.unwrap_or_default();
            return Ok(Err(format!(
                "the capture {tag:?} could not be taken: {why}"
            )));
        }
        let stats = self.early_stats.of(&tag);
        self.store(
            machine,
            DrainedSnapshotEntry {
                tag,
                report,
                stats,
                elapsed_ms: elapsed.map(|elapsed| elapsed.as_millis() as u64),
                boundary_offset_ms: None,
                step_index: Some(step_index),
            },
            freeze,
        );
        Ok(Ok(()))
    }

    /// Stores the scheduler's statistics that the guest has sent. They belong to captures that are still to come, or to a
    /// periodic capture that was taken before its statistics arrived.
    pub(super) fn take_stats(&mut self, machine: &Machine, guest: &mut GuestState) {
        for (tag, answer) in guest.scheduler_stats.drain(..) {
            let is_periodic = tag.starts_with(PERIODIC_TAG_PREFIX);
            // The guest chooses the tags, so their number is limited.
            let is_first = !is_periodic
                || self.answered.len() < self.boundaries.len() && self.answered.insert(tag.clone());
            let stats = stats::decode(answer);
            if machine.virtual_clock().is_some() {
                let text = match &stats {
                    Ok(value) => value.to_string(),
                    Err(why) => why.to_string(),
                };
                super::digest::take_in(&mut self.digest, &tag, &text);
            }
            self.early_stats.note_request();
            if !is_first {
                // A later scenario of the test repeats the tags of captures that were taken in the first scenario, or the
                // guest sends more tags than there are captures.
            } else if is_periodic && self.bridge.has(&tag) {
                self.bridge.set_stats(&tag, stats);
            } else {
                self.early_stats.keep(tag, stats);
            }
        }
    }

    /// Reads the machine's state. A machine that goes on afterwards (`goes_on`) is stopped for the read and then resumed;
    /// any other machine is stopped already. Returns the capture, and the wall time that it took. If the kernel's symbols
    /// and types are not available, the capture is a placeholder with the reason, and the time is `None`.
    pub(super) fn freeze(
        &mut self,
        machine: &mut Machine,
        kernel_info: &mut LazyKernelInfo,
        goes_on: bool,
    ) -> Result<(FailureDumpReport, Option<Duration>), MachineError> {
        let info = match kernel_info.get() {
            Ok(info) => info,
            Err(why) => {
                let why = format!("the kernel's memory cannot be interpreted: {why}");
                return Ok((FailureDumpReport::placeholder(why), None));
            }
        };
        let began = Instant::now();
        // Under the virtual clock the guest is held already.
        let free = goes_on && machine.virtual_clock().is_none();
        if free {
            machine.stop()?;
        }
        let report = read(machine.ram(), info);
        if free {
            machine.run()?;
        }
        let freeze = began.elapsed();
        self.freezes.push(freeze);
        Ok((report, Some(freeze)))
    }

    /// Stores a capture, and adds it to the digest under the virtual clock.
    fn store(&mut self, machine: &Machine, entry: DrainedSnapshotEntry, freeze: Option<Duration>) {
        if machine.virtual_clock().is_some() {
            let began = Instant::now();
            let place = (
                &entry.tag,
                entry.elapsed_ms,
                entry.boundary_offset_ms,
                entry.step_index,
            );
            super::digest::take_in(&mut self.digest, &place, &entry.report);
            self.digest_time += began.elapsed();
        }
        let clock_ns = self.clock_ns;
        let taken = Taken { clock_ns, freeze };
        self.taken.insert(entry.tag.clone(), taken);
        self.bridge.store_entry(entry);
    }

    /// Adds the capture of a moment to the digest of all captures.
    pub(super) fn take_in(&mut self, capture: &MomentCapture) {
        let began = Instant::now();
        let place = (&capture.tag, capture.elapsed_ms, capture.step_index);
        super::digest::take_in(&mut self.digest, &place, &capture.report);
        self.digest_time += began.elapsed();
    }
}

/// Functions that send an interrupt to another CPU (arch/x86/kernel/apic/ipi.c, Linux 5.3 to 7.3): a reschedule
/// interrupt, and calls of a function on one or several CPUs.
const SENDERS: [&str; MAX_SENDERS] = [
    "native_smp_send_reschedule",
    "native_send_call_func_single_ipi",
    "native_send_call_func_ipi",
];

/// Returns the kernel addresses and offsets that the virtual clock's plugin needs. The error names the first required symbol
/// or member that the kernel lacks. Functions of the schedule and of moments are not required: those that the kernel lacks
/// are listed as missing.
pub(super) fn watch_points(info: &KernelInfo) -> Result<WatchPoints, String> {
    let symbol = |name: &str| {
        info.symbols
            .address(name)
            .ok_or_else(|| format!("the kernel has no symbol {name}"))
    };
    let offset = |kind: &str, path: &str| {
        info.btf
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
                .filter_map(|name| info.symbols.address(name))
                .collect(),
        },
        ..WatchPoints::default()
    };
    super::schedule::add_points(&mut points, info);
    let (moments, missing) = super::moments::points(info);
    points.moments = moments;
    points.missing.extend(missing);
    Ok(points)
}

/// Sets the timeout of sched_ext's watchdog for runnable tasks that stall. A scheduler has to be attached. `set` has the address
/// and the value that the last call wrote. If this value is still there, nothing is written, because a new value would have
/// to be computed from the scheduler's own timeout, which the last call has overwritten.
pub(super) fn set_watchdog(
    ram: &GuestRam,
    info: &KernelInfo,
    milliseconds: u64,
    set: &mut Option<(u64, u64)>,
) -> Result<(), String> {
    let memory = RamView(ram);
    let view = KernelView::new(&memory, &info.symbols, &info.btf).map_err(|e| e.to_string())?;
    let writes = view
        .scx_watchdog_writes(milliseconds)
        .map_err(|e| e.to_string())?;
    if let Some(timeout) = writes.first() {
        let mut now = [0; 8];
        ram.read(timeout.gpa, &mut now).map_err(|e| e.to_string())?;
        if *set == Some((timeout.gpa, u64::from_le_bytes(now))) {
            return Ok(());
        }
        *set = Some((timeout.gpa, timeout.value));
    }
    for write in writes {
        ram.write(write.gpa, &write.value.to_le_bytes())
            .map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Writes a value of the test into a variable of the scheduler. The error names what was searched for and what exists.
pub(super) fn write_variable(
    ram: &GuestRam,
    info: &KernelInfo,
    write: &BpfMapWrite,
) -> Result<(), String> {
    let memory = RamView(ram);
    let view = KernelView::new(&memory, &info.symbols, &info.btf).map_err(|e| e.to_string())?;
    let found = view
        .scx_variable(write.map(), write.field())
        .map_err(|e| e.to_string())?;
    let bytes = write.value().to_le_bytes();
    if found.size != bytes.len() as u64 {
        return Err(format!(
            "the variable {:?} has {} bytes, and only variables of {} bytes can be written",
            write.field(),
            found.size,
            bytes.len()
        ));
    }
    ram.write(found.gpa, &bytes).map_err(|e| e.to_string())
}

/// Takes one capture of a machine that is stopped. If the kernel's memory cannot be read, the capture is a placeholder.
pub(super) fn read(ram: &GuestRam, info: &KernelInfo) -> FailureDumpReport {
    let memory = RamView(ram);
    match KernelView::new(&memory, &info.symbols, &info.btf) {
        Ok(view) => capture(&view, &CaptureOptions::default()),
        Err(error) => FailureDumpReport::placeholder(error.to_string()),
    }
}
