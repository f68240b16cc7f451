//! The host's end of the virtual clock: the page shared with the QEMU plugin, and the plugin
//! itself.
//!
//! While the plugin holds the guest, its one thread stands still inside a callback: no
//! instruction is executed and no guest time passes, so whatever the host does then is invisible
//! to the guest. Everything the host puts into a guest under the virtual clock, it puts there
//! while the guest is held; that makes a run a function of its inputs.

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

/// Where in the guest's kernel the plugin looks. Addresses are guest-virtual.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchPoints {
    /// `__switch_to`: each context switch enters the running digest.
    pub switch_to: u64,
    /// Offset of `task_struct.pid`.
    pub pid_offset: u32,
    /// `hrtimer_interrupt`: guest time is followed there.
    pub timer: u64,
    /// Offset of `clock_event_device.next_event`.
    pub next_event_offset: u32,
    /// Per-CPU address of `rq.cpu`.
    pub this_rq_cpu: u64,
    /// Per-CPU address of `rq.clock`.
    pub this_rq_clock: u64,
    /// Offset of `rq.clock`.
    pub rq_clock_offset: u32,
    /// Functions whose entries are observed; the first [`MAX_HOOKS`](crate::MAX_HOOKS) are.
    pub hooks: Vec<HookPoint>,
    /// Functions that this kernel does not have, so that they cannot be observed.
    pub missing: Vec<String>,
    /// Functions at whose entries the guest is held; the first [`MAX_MOMENTS`] are.
    pub moments: Vec<MomentPoint>,
    /// When a CPU's turn ends.
    pub turns: Turns,
}

/// A function at whose entry the guest is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MomentPoint {
    /// The virtual address of the function's first instruction.
    pub address: u64,
    /// What [`Hold::Moment`] says.
    pub kind: u32,
    /// The number, from 0, of an argument of type `bool` that must be true; without one the guest is held at each call.
    pub condition: Option<u32>,
}

/// Functions at whose entries the guest can be held.
pub const MAX_MOMENTS: usize = control::MOMENTS;

/// When the turn of a virtual CPU ends and the next one goes on, besides when it waits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turns {
    /// After so many instructions; 0 leaves it to QEMU, whose turns end when the time up to the nearest timer, divided by
    /// the number of CPUs, is used up. A machine whose turns are bounded cannot be saved.
    pub instructions: u32,
    /// Soon after the entry of one of these functions, which send an interrupt to another CPU; the first
    /// [`MAX_SENDERS`] are looked at, and only if turns are bounded.
    pub senders: Vec<u64>,
}

/// Functions that send an interrupt and are looked at.
pub const MAX_SENDERS: usize = control::SENDERS;

impl WatchPoints {
    /// The same without anything that is recorded event by event.
    #[must_use]
    pub fn without_hooks(&self) -> Self {
        Self {
            hooks: Vec::new(),
            ..self.clone()
        }
    }

    /// The same without anything that is recorded event by event, and without anything that the guest is held for.
    #[must_use]
    pub fn without_observation(&self) -> Self {
        Self {
            moments: Vec::new(),
            ..self.without_hooks()
        }
    }
}

/// Context switches that the trace holds: the first ones. Where two runs part is in their common
/// beginning, and a second of a contended machine has some thousands.
pub const TRACE_CAPACITY: usize = 64 << 10;
/// Events that wait for the host at most; when there is no room left, the guest is held.
const EVENT_CAPACITY: usize = 32 << 10;
/// Where the events begin.
const EVENTS: usize = HEADER + TRACE_CAPACITY * size_of::<Entry>();
/// Bytes of the page, the trace and the events; pages that are not reached cost nothing.
const MAPPED: usize = EVENTS + EVENT_CAPACITY * size_of::<Event>();

/// One context switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switch {
    /// The scheduler's clock of that CPU (`rq.clock`), nanoseconds.
    pub clock_ns: u64,
    /// CPU; `u32::MAX` if not known.
    pub cpu: u32,
    /// Process id of the task that stops.
    pub prev: u32,
    /// Process id of the task that starts.
    pub next: u32,
}

/// Why the guest is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Before its first instruction after a start.
    First,
    /// It called the host; the argument says for what.
    Call(u64),
    /// The time that was asked for has come: `CLOCK_MONOTONIC` in nanoseconds.
    Due(u64),
    /// There is no room for observations any more: they have to be taken out.
    Full,
    /// A watched word has changed. The argument is the latest time seen, `CLOCK_MONOTONIC` in nanoseconds.
    Changed(u64),
    /// A function of [`WatchPoints::moments`] is about to begin: its kind, and the latest time seen, as above.
    Moment(u32, u64),
    /// The time has come that [`VirtualClock::set_clock_due`] asked for. The argument is the latest time seen, as above.
    Clock(u64),
}

/// Words that can be watched at once.
pub const MAX_WATCHED: usize = control::WATCHES;

/// A word of the guest's kernel that the guest is held for once it has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchedWord {
    /// Guest-virtual address of its four bytes.
    pub address: u64,
    /// What it is now.
    pub value: u32,
}

/// A machine's virtual clock.
#[derive(Debug)]
pub struct VirtualClock {
    page: &'static Control,
    trace: &'static [Entry],
    events: &'static [Event],
    pub(crate) control: File,
    pub(crate) plugin: File,
}

impl VirtualClock {
    /// A clock that holds the guest before its first instruction and at every call.
    pub(crate) fn new(points: &WatchPoints) -> Result<Self, MachineError> {
        let control = anonymous_file("ktstr-clock", MAPPED as u64)?;
        // SAFETY: a fresh shared mapping of a file of that length; it is unmapped on drop only.
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
        // SAFETY: page-aligned, long enough, all atomics: every bit pattern is valid. Nobody
        // keeps the reference beyond `self`.
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
        let mut plugin = anonymous_file("ktstr-plugin", 0)?;
        plugin
            .write_all(PLUGIN)
            .map_err(|e| MachineError::system("unpacking the QEMU plugin", e))?;
        Ok(Self {
            page,
            trace,
            events,
            control,
            plugin,
        })
    }

    /// Why the guest is held, if it is.
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

    /// Waits until the guest is held, for `within` at most.
    pub fn wait(&self, within: Duration) -> Option<Hold> {
        let held = self.page.held.load(Acquire);
        if held == self.page.released.load(Relaxed) {
            let timeout = rustix::thread::Timespec {
                tv_sec: within.as_secs() as _,
                tv_nsec: within.subsec_nanos() as _,
            };
            // Woken, timed out or changed before: the page tells.
            let _ = futex::wait(&self.page.held, futex::Flags::empty(), held, Some(&timeout));
        }
        self.held()
    }

    /// Lets a held guest go on.
    pub fn release(&self) {
        let held = self.page.held.load(Acquire);
        self.page.released.store(held, Release);
        let _ = futex::wake(&self.page.released, futex::Flags::empty(), u32::MAX >> 1);
    }

    /// Holds the guest at the first timer interrupt set for `ns` (`CLOCK_MONOTONIC`) or later.
    /// To be changed only while the guest is held.
    pub fn set_due(&self, ns: Option<u64>) {
        self.page.due_ns.store(ns.unwrap_or(u64::MAX), Relaxed);
    }

    /// Holds the guest once, at the first switch or observed function at which the runqueue's clock (`rq.clock`) is `ns` or
    /// later. To be changed only while the guest is held.
    pub fn set_clock_due(&self, ns: Option<u64>) {
        self.page
            .clock_due_ns
            .store(ns.unwrap_or(u64::MAX), Relaxed);
    }

    /// Watches these words, the first [`MAX_WATCHED`], and no others. They are looked at whenever something is followed or
    /// observed: at switches, timer interrupts and the entries of hooked functions. To be changed only while the guest is
    /// held.
    pub fn set_watches(&self, words: &[WatchedWord]) {
        let words = words.iter().map(|word| (word.address, word.value));
        let none = std::iter::repeat((0, 0));
        for (watch, (address, value)) in self.page.watches.iter().zip(words.chain(none)) {
            watch.value.store(value, Relaxed);
            watch.address.store(address, Relaxed);
        }
    }

    /// Latest guest time seen, in nanoseconds of `CLOCK_MONOTONIC`: that of the last timer
    /// interrupt.
    pub fn now_ns(&self) -> u64 {
        self.page.timer_ns.load(Relaxed)
    }

    /// Context switches seen, and a digest of them in their order.
    pub fn switches(&self) -> (u64, u64) {
        let count = self.page.switches.load(Acquire);
        (count, self.page.digest.load(Relaxed))
    }

    /// The first [`TRACE_CAPACITY`] of the switches seen. To be asked while the guest is held.
    pub fn trace(&self) -> Vec<Switch> {
        let (count, _) = self.switches();
        let kept = usize::try_from(count).unwrap_or(usize::MAX);
        let read = |entry: &Entry| Switch {
            clock_ns: entry.clock_ns.load(Relaxed),
            cpu: entry.cpu.load(Relaxed),
            prev: entry.prev.load(Relaxed),
            next: entry.next.load(Relaxed),
        };
        self.trace.iter().take(kept).map(read).collect()
    }

    /// Calls `each` with what was observed since the last time, and makes room. To be called only
    /// while the guest is held, or when it will not go on.
    pub fn take_observations(&self, mut each: impl FnMut(Observation)) {
        let count = self.page.events.load(Acquire);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        for event in self.events.iter().take(count) {
            each(hooks::read(event));
        }
        self.page.events.store(0, Release);
    }

    /// Words of observations that could not be read.
    pub fn unreadable(&self) -> u64 {
        self.page.unreadable.load(Relaxed)
    }

    /// How often something could not be followed: a digest is of no use then.
    pub fn failures(&self) -> u32 {
        let failures: &AtomicU32 = &self.page.failures;
        failures.load(Relaxed)
    }
}

impl Drop for VirtualClock {
    fn drop(&mut self) {
        let start: *const Control = self.page;
        // SAFETY: the mapping made in `new`; no reference to it is left.
        let _ = unsafe { munmap(start.cast_mut().cast(), MAPPED) };
    }
}
