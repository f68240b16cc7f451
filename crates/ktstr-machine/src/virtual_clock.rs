//! The host's side of the virtual clock: the page that it shares with the QEMU plugin, and the plugin itself.
//!
//! While the plugin holds the guest, the thread that executes all virtual CPUs is blocked inside a callback: no instruction
//! is executed and no guest time passes, so the guest cannot observe what the host does during the hold. Under the virtual
//! clock the host modifies a guest only while the guest is held, which makes a run a function of its inputs.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::thread::futex;
use serde::{Deserialize, Serialize};

use crate::hooks::{self, HookPoint, Observation};
use crate::{MachineError, anonymous_file};

#[path = "../plugin/control.rs"]
#[expect(dead_code, reason = "shared with the plugin, which uses the rest")]
pub(crate) mod control;

use control::{Control, Event, HEADER, MAGIC, Switch as Entry};

const PLUGIN: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ktstr-plugin.so"));
const _: () = assert!(control::MARKER == ktstr_mailbox::MARKER);

/// The locations in the guest's kernel that the plugin observes. Addresses are guest-virtual.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchPoints {
    /// The address of `__switch_to`, at whose entry the context switch is added to the running digest; 0 if switches
    /// are not observed.
    pub switch_to: u64,
    /// The offset of `pid` in `struct task_struct`, in bytes.
    pub pid_offset: u32,
    /// The address of `hrtimer_interrupt`, at whose entry the plugin reads guest time; 0 if guest time is not observed.
    pub timer: u64,
    /// The offset of `next_event` in `struct clock_event_device`, in bytes.
    pub next_event_offset: u32,
    /// The per-CPU address of `rq.cpu`; 0 if CPUs are not distinguished.
    pub this_rq_cpu: u64,
    /// The per-CPU address of `rq.clock`; 0 if switches have no times.
    pub this_rq_clock: u64,
    /// The offset of `clock` in `struct rq`, in bytes.
    pub rq_clock_offset: u32,
    /// The functions whose entries are observed. Those beyond the first [`MAX_HOOKS`](crate::MAX_HOOKS) are ignored.
    pub hooks: Vec<HookPoint>,
    /// Functions that this kernel lacks, so that they cannot be observed.
    pub missing: Vec<String>,
    /// The functions at whose entries the guest is held. Those beyond the first [`MAX_MOMENTS`] are ignored.
    pub moments: Vec<MomentPoint>,
    /// The bounds on the turns of the virtual CPUs.
    pub turns: Turns,
}

/// A function at whose entry the guest is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MomentPoint {
    /// The virtual address of the function's first instruction.
    pub address: u64,
    /// The number by which [`Hold::Moment`] reports the moment.
    pub kind: u32,
    /// The number, from 0, of the argument of type `bool` that must be true for the guest to be held; `None` holds the guest
    /// at each call.
    pub condition: Option<u32>,
}

/// The largest number of functions at whose entries the guest can be held.
pub const MAX_MOMENTS: usize = control::MOMENTS;

/// When the turn of a virtual CPU ends. One host thread executes all virtual CPUs, one after the other, and a turn is the
/// time in which it executes one of them. A turn also ends when the CPU halts or waits in a loop with PAUSE.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turns {
    /// The largest number of instructions in a turn. With 0 only QEMU ends a turn, when the time until the nearest timer, divided
    /// by the number of CPUs, has passed. A machine with bounded turns cannot be saved.
    pub instructions: u32,
    /// Functions that send an interrupt to another CPU. A turn ends soon after their entry, if turns are bounded. At
    /// most [`MAX_SENDERS`] of them are observed.
    pub senders: Vec<u64>,
}

/// The largest number of functions that send an interrupt and are observed.
pub const MAX_SENDERS: usize = control::SENDERS;

impl WatchPoints {
    /// Returns the same points without any hooks.
    #[must_use]
    pub fn without_hooks(&self) -> Self {
        Self {
            hooks: Vec::new(),
            ..self.clone()
        }
    }

    /// Returns the same points without hooks, which record events, and without moments, which hold the guest. Only the
    /// points that are left are observed in a machine from which a template is made.
    #[must_use]
    pub fn without_observation(&self) -> Self {
        Self {
            moments: Vec::new(),
            ..self.without_hooks()
        }
    }
}

/// The number of context switches that the trace has room for. The trace keeps the first switches of a run and not the last
/// ones, because two runs are compared up to the first switch that differs. A contended machine has some thousands of
/// switches per second.
pub const TRACE_CAPACITY: usize = 64 << 10;
/// The number of events that the buffer has room for. When it is full, the guest is held until the host has emptied it.
const EVENT_CAPACITY: usize = 32 << 10;
/// The offset of the events in the mapping, in bytes.
const EVENTS: usize = HEADER + TRACE_CAPACITY * size_of::<Entry>();
/// The total size of the control page, the trace and the events, in bytes. Parts that are not touched use no memory.
const MAPPED: usize = EVENTS + EVENT_CAPACITY * size_of::<Event>();

/// A context switch as the plugin recorded it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switch {
    /// The clock of the CPU's runqueue (`rq.clock`), in nanoseconds; 0 if switches have no times.
    pub clock_ns: u64,
    /// The CPU; `u32::MAX` if it is unknown.
    pub cpu: u32,
    /// The pid of the task that stops.
    pub prev: u32,
    /// The pid of the task that starts.
    pub next: u32,
}

/// Why the guest is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// The guest is about to execute its first instruction after a start or a restore.
    First,
    /// The guest called the host. The argument is the reason that it gave.
    Call(u64),
    /// The time of [`VirtualClock::set_due`] has come. The argument is the time for which the timer interrupt was set,
    /// `CLOCK_MONOTONIC` in nanoseconds.
    Due(u64),
    /// The buffer of observations is full, and the host has to empty it.
    Full,
    /// A watched word has changed. The argument is the latest time that was observed, `CLOCK_MONOTONIC` in nanoseconds.
    Changed(u64),
    /// A function of [`WatchPoints::moments`] is about to be executed. The arguments are its kind, and the latest time that
    /// was observed, as for [`Hold::Changed`].
    Moment(u32, u64),
    /// The time of [`VirtualClock::set_clock_due`] has come. The argument is the latest time that was observed,
    /// as for [`Hold::Changed`].
    Clock(u64),
}

/// The largest number of words that can be watched at the same time.
pub const MAX_WATCHED: usize = control::WATCHES;

/// A word of the guest's kernel. When it changes, the guest is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchedWord {
    /// The guest-virtual address of the word, which has four bytes.
    pub address: u64,
    /// The value that the word has now.
    pub value: u32,
}

/// The number of a guest's context switches, and a digest of them. Both are equal in two runs with the same seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SwitchDigest {
    /// The number of context switches.
    pub count: u64,
    /// A digest of all of them, in order.
    pub digest: u64,
}

/// The virtual clock of a machine.
#[derive(Debug)]
pub struct VirtualClock {
    page: &'static Control,
    trace: &'static [Entry],
    events: &'static [Event],
    pub(crate) control: File,
    pub(crate) plugin: File,
}

impl VirtualClock {
    /// Creates a clock that holds the guest before its first instruction, at every call, and at the moments of `points`.
    pub(crate) fn new(points: &WatchPoints) -> Result<Self, MachineError> {
        let mut plugin = anonymous_file("ktstr-plugin", 0)?;
        plugin
            .write_all(PLUGIN)
            .map_err(|e| MachineError::system("unpacking the QEMU plugin", e))?;
        let control = anonymous_file("ktstr-clock", MAPPED as u64)?;
        // No step after the mapping may fail, because only a complete value unmaps the memory.
        // SAFETY: this is a new shared mapping of a file of that length, which is unmapped only on drop.
        let page = unsafe {
            mmap(
                std::ptr::null_mut(),
                MAPPED,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                control.as_fd(),
                0,
            )
        }
        .map_err(|e| MachineError::system("mapping the clock's page", e))?;
        // SAFETY: the mapping is page-aligned and long enough, and it contains only atomics, for which every bit
        // pattern is valid. The reference is not kept beyond `self`.
        let trace = unsafe {
            std::slice::from_raw_parts(page.byte_add(HEADER).cast::<Entry>(), TRACE_CAPACITY)
        };
        // SAFETY: as above.
        let events = unsafe {
            std::slice::from_raw_parts(page.byte_add(EVENTS).cast::<Event>(), EVENT_CAPACITY)
        };
        // SAFETY: as above.
        let page: &'static Control = unsafe { &*page.cast::<Control>() };
        page.hold_first.store(1, Relaxed);
        page.hold_markers.store(1, Relaxed);
        page.switch_to.store(points.switch_to, Relaxed);
        page.pid_offset.store(points.pid_offset, Relaxed);
        page.timer.store(points.timer, Relaxed);
        page.next_event_offset
            .store(points.next_event_offset, Relaxed);
        page.this_rq_cpu.store(points.this_rq_cpu, Relaxed);
        page.this_rq_clock.store(points.this_rq_clock, Relaxed);
        page.rq_clock_offset.store(points.rq_clock_offset, Relaxed);
        page.record
            .store(u32::from(!points.hooks.is_empty()), Relaxed);
        hooks::write(page, &points.hooks);
        page.turn.store(points.turns.instructions, Relaxed);
        for (place, sender) in page.senders.iter().zip(&points.turns.senders) {
            place.store(*sender, Relaxed);
        }
        page.trace_capacity.store(TRACE_CAPACITY as u64, Relaxed);
        page.event_capacity.store(EVENT_CAPACITY as u64, Relaxed);
        page.due_ns.store(u64::MAX, Relaxed);
        page.clock_due_ns.store(u64::MAX, Relaxed);
        for (place, point) in page.moments.iter().zip(&points.moments) {
            place.kind.store(point.kind, Relaxed);
            let condition = point.condition.map_or(0, |number| number.saturating_add(1));
            place.condition.store(condition, Relaxed);
            place.address.store(point.address, Relaxed);
        }
        page.magic.store(MAGIC, Release);
        Ok(Self {
            page,
            trace,
            events,
            control,
            plugin,
        })
    }

    /// Returns why the guest is held; `None` if it is not.
    pub fn held(&self) -> Option<Hold> {
        let held = self.page.held.load(Acquire);
        if held == self.page.released.load(Relaxed) {
            return None;
        }
        let argument = self.page.args[0].load(Relaxed);
        Some(match self.page.reason.load(Relaxed) {
            1 => Hold::First,
            3 => Hold::Due(argument),
            4 => Hold::Full,
            5 => Hold::Changed(argument),
            6 => Hold::Moment(argument as u32, self.page.args[1].load(Relaxed)),
            7 => Hold::Clock(self.page.args[1].load(Relaxed)),
            _ => Hold::Call(argument),
        })
    }

    /// Waits until the guest is held, at most for `within`. Returns why it is held; `None` if it is not.
    pub fn wait(&self, within: Duration) -> Option<Hold> {
        let held = self.page.held.load(Acquire);
        if held == self.page.released.load(Relaxed) {
            let timeout = rustix::thread::Timespec {
                tv_sec: within.as_secs() as _,
                tv_nsec: within.subsec_nanos() as _,
            };
            // Whether the wait ended by a wakeup, a timeout or a change, the page shows the current state.
            let _ = futex::wait(&self.page.held, futex::Flags::empty(), held, Some(&timeout));
        }
        self.held()
    }

    /// Releases a held guest.
    pub fn release(&self) {
        let held = self.page.held.load(Acquire);
        self.page.released.store(held, Release);
        // The number of threads that are woken is not needed.
        let _ = futex::wake(&self.page.released, futex::Flags::empty(), u32::MAX >> 1);
    }

    /// Holds the guest at each timer interrupt that was set for `ns` (`CLOCK_MONOTONIC`) or later; with `None` at no timer
    /// interrupt. May only be called while the guest is held.
    pub fn set_due(&self, ns: Option<u64>) {
        self.page.due_ns.store(ns.unwrap_or(u64::MAX), Relaxed);
    }

    /// Holds the guest once, at the first switch or observed function at which the runqueue's clock (`rq.clock`) is `ns` or
    /// later; with `None` at none. May only be called while the guest is held.
    pub fn set_clock_due(&self, ns: Option<u64>) {
        self.page
            .clock_due_ns
            .store(ns.unwrap_or(u64::MAX), Relaxed);
    }

    /// Watches these words, at most [`MAX_WATCHED`], instead of any earlier ones. They are compared at every switch,
    /// timer interrupt and entry of a hooked function. May only be called while the guest is held.
    pub fn set_watches(&self, words: &[WatchedWord]) {
        let words = words.iter().map(|word| (word.address, word.value));
        let none = std::iter::repeat((0, 0));
        for (watch, (address, value)) in self.page.watches.iter().zip(words.chain(none)) {
            watch.value.store(value, Relaxed);
            watch.address.store(address, Relaxed);
        }
    }

    /// Returns the latest guest time that was observed, in nanoseconds of `CLOCK_MONOTONIC`. The plugin observes the time for
    /// which each timer interrupt was set, and this is the latest of these times; 0 before the first timer interrupt.
    pub fn now_ns(&self) -> u64 {
        self.page.timer_ns.load(Relaxed)
    }

    /// Returns the number and the digest of the context switches that were observed so far.
    pub fn switches(&self) -> SwitchDigest {
        let count = self.page.switches.load(Acquire);
        let digest = self.page.digest.load(Relaxed);
        SwitchDigest { count, digest }
    }

    /// Returns the first [`TRACE_CAPACITY`] context switches, in order. May only be called while the guest is held.
    pub fn trace(&self) -> Vec<Switch> {
        let count = usize::try_from(self.switches().count).unwrap_or(usize::MAX);
        let read = |entry: &Entry| Switch {
            clock_ns: entry.clock_ns.load(Relaxed),
            cpu: entry.cpu.load(Relaxed),
            prev: entry.prev.load(Relaxed),
            next: entry.next.load(Relaxed),
        };
        self.trace.iter().take(count).map(read).collect()
    }

    /// Calls `each` with every observation since the last call, and empties the buffer. May only be called while the
    /// guest is held, or when it no longer runs.
    pub fn take_observations(&self, mut each: impl FnMut(Observation)) {
        let count = self.page.events.load(Acquire);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        for event in self.events.iter().take(count) {
            each(hooks::read(event));
        }
        self.page.events.store(0, Release);
    }

    /// Returns how many words of observations could not be read since the machine was started.
    pub fn unreadable(&self) -> u64 {
        self.page.unreadable.load(Relaxed)
    }

    /// Returns how many times a register or a word of the guest's memory could not be read, so that a switch, a timer interrupt,
    /// a call, a moment or the number of a CPU was missed. If this is not 0, the digest of the switches is not reliable.
    pub fn failures(&self) -> u32 {
        let failures: &AtomicU32 = &self.page.failures;
        failures.load(Relaxed)
    }
}

impl Drop for VirtualClock {
    fn drop(&mut self) {
        let start: *const Control = self.page;
        // SAFETY: this is the mapping made in `new`, and no reference to it is left.
        let _ = unsafe { munmap(start.cast_mut().cast(), MAPPED) };
    }
}
