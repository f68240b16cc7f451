//! The pages that the host and the plugin share: what to observe, where the guest is held, what was
//! seen. Both sides compile this file, so it holds the layout and nothing that only one needs.
//!
//! One writer for each field. The host writes the first part before QEMU starts (addresses are
//! looked at when a block is translated, so later changes are not seen), `watches` and `clock_due_ns` while the guest is
//! held, and `due_ns` and `released` whenever it likes; the plugin writes the rest. The words are atomics because two
//! processes use them; only `held` and `released` order anything.

use std::sync::atomic::{AtomicU32, AtomicU64};

/// "KTSTRVC5" in little-endian order.
pub const MAGIC: u64 = u64::from_le_bytes(*b"KTSTRVC5");
/// Bytes before the trace.
pub const HEADER: usize = 16 << 10;
/// `Control::cpu` and `Switch::cpu` when the CPU is not known.
pub const NO_CPU: u32 = u32::MAX;
/// Functions that can be hooked.
pub const HOOKS: usize = 48;
/// Functions that send an interrupt to another CPU, at most.
pub const SENDERS: usize = 3;
/// Words of the kernel's memory that are watched, at most.
pub const WATCHES: usize = 3;
/// Functions at whose entries the guest is held, at most.
pub const MOMENTS: usize = 8;
/// Words that a hook can record.
pub const OPERANDS: usize = 6;
/// Offsets on the way from a register to a value.
pub const OFFSETS: usize = 4;
/// [`Event::kind`] of a context switch: process ids of the task that stops and of the one that
/// starts, and whether the first has just yielded. Larger kinds mean what the host likes.
pub const KIND_SWITCH: u32 = 1;
/// [`Hook::kind`] of a class's `yield_task`: it is remembered until the switch, and is no event.
pub const KIND_YIELD: u32 = 2;
/// [`Hook::kind`] of `__schedule`: a yield ends in the first one after it, or in no switch.
pub const KIND_SCHEDULE: u32 = 3;
/// [`Hook::clock`]: the runqueue of the current CPU. Else the number of the register that holds
/// a runqueue, plus 1.
pub const CLOCK_HERE: u32 = 0;
/// Value of `rax` that makes `xchg %bx,%bx` a call to the host: "KTSTRHLD".
pub const MARKER: u64 = u64::from_le_bytes(*b"KTSTRHLD");
/// The bytes of `xchg %bx,%bx`: it does nothing on a real CPU.
pub const MARKER_CODE: [u8; 3] = [0x66, 0x87, 0xdb];

/// Why the guest is held (`Control::reason`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Reason {
    /// Before the first instruction that this QEMU executes.
    First = 1,
    /// The guest executed the marker: `args` are its `rdi` and `rsi`.
    Marker = 2,
    /// A timer interrupt at or after `due_ns`.
    Due = 3,
    /// There is no room for another event: the host has to take them out.
    Full = 4,
    /// A watched word is another one than it was: `args` are the latest time for which a timer interrupt was set, and its
    /// number.
    Changed = 5,
    /// The entry of a function that the host wants the guest to be held at: `args` are [`Moment::kind`] and the latest time
    /// for which a timer interrupt was set.
    Moment = 6,
    /// A switch or an observed function at `clock_due_ns` or later: `args` are its time, and the latest time for which a timer
    /// interrupt was set.
    Clock = 7,
}

/// How a word of an event comes about ([`Operand::what`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Fetch {
    /// Not at all.
    Nothing = 0,
    /// It is the register's value.
    Value = 1,
    /// It lies in memory: the register and the first offset are the address of the next pointer,
    /// or of the word itself.
    Load = 2,
    /// The same, and it never changes while its address means the same.
    Cached = 3,
    /// The same, and its address may mean something else than before.
    Fresh = 4,
    /// It is a per-CPU variable of the current CPU: the first two offsets are its address.
    ThisCpu = 5,
}

/// Where a word of an event is found.
#[repr(C)]
#[derive(Debug)]
pub struct Operand {
    /// A [`Fetch`].
    pub what: AtomicU32,
    /// Number of the argument: 0 is `rdi`.
    pub register: AtomicU32,
    /// Bytes of the word: 4 or 8.
    pub size: AtomicU32,
    /// Offsets in use.
    pub steps: AtomicU32,
    /// The offsets that lead to the word; the first `steps` of them are in use.
    pub offsets: [AtomicU32; OFFSETS],
}

/// A function whose entry is an event.
#[repr(C)]
#[derive(Debug)]
pub struct Hook {
    /// Its address, or 0: no hook.
    pub address: AtomicU64,
    /// [`Event::kind`].
    pub kind: AtomicU32,
    /// Which runqueue's clock is the event's time.
    pub clock: AtomicU32,
    /// The event's words.
    pub operands: [Operand; OPERANDS],
}

/// A function at whose entry the guest is held.
#[repr(C)]
#[derive(Debug)]
pub struct Moment {
    /// Its address, or 0: none.
    pub address: AtomicU64,
    /// What the host calls it.
    pub kind: AtomicU32,
    /// Number of the argument, a `bool`, that must be true for the guest to be held, plus 1; 0: it is held in any case.
    pub condition: AtomicU32,
}

/// The shared page. Addresses are guest-virtual, times are nanoseconds of guest time.
#[repr(C)]
#[derive(Debug)]
pub struct Control {
    /// [`MAGIC`].
    pub magic: AtomicU64,
    /// Not 0: hold before the first instruction.
    pub hold_first: AtomicU32,
    /// Not 0: hold at markers.
    pub hold_markers: AtomicU32,
    /// `__switch_to`, or 0: not to be followed.
    pub switch_to: AtomicU64,
    /// Offset of `task_struct.pid`.
    pub pid_offset: AtomicU32,
    /// Offset of `clock_event_device.next_event`.
    pub next_event_offset: AtomicU32,
    /// `hrtimer_interrupt`, or 0: guest time is not followed and nothing is ever due.
    pub timer: AtomicU64,
    /// Functions to observe.
    pub hooks: [Hook; HOOKS],
    /// Functions at whose entries the guest is held.
    pub moments: [Moment; MOMENTS],
    /// Instructions after which a CPU's turn ends and the next CPU goes on; 0 leaves it to QEMU.
    pub turn: AtomicU32,
    /// Functions that are about to send an interrupt to another CPU, which ends the turn; 0: none.
    pub senders: [AtomicU64; SENDERS],
    /// Offset of `rq.clock`.
    pub rq_clock_offset: AtomicU32,
    /// Not 0: context switches are events too.
    pub record: AtomicU32,
    /// Room for events, which follow the trace.
    pub event_capacity: AtomicU64,
    /// Per-CPU address of `rq.cpu` (the symbol `runqueues` and the member's offset), or 0: CPUs
    /// are not told apart.
    pub this_rq_cpu: AtomicU64,
    /// Per-CPU address of `rq.clock`, or 0: switches have no times.
    pub this_rq_clock: AtomicU64,
    /// Entries of the trace, which follows at [`HEADER`].
    pub trace_capacity: AtomicU64,

    /// Hold at the first timer interrupt that was set for this time (`CLOCK_MONOTONIC`) or
    /// later; `u64::MAX` for none.
    pub due_ns: AtomicU64,
    /// Words that the guest is held for once they have changed. The host changes them while the guest is held.
    pub watches: [Watch; WATCHES],
    /// Hold once at the first switch or observed function whose runqueue's clock is this or later; `u64::MAX` for none. The
    /// plugin sets it to `u64::MAX` when it holds the guest for it.
    pub clock_due_ns: AtomicU64,
    /// The guest goes on when this equals `held`. A futex.
    pub released: AtomicU32,

    /// Holds begun so far. A futex.
    pub held: AtomicU32,
    /// A [`Reason`].
    pub reason: AtomicU32,
    /// CPU that is held, as the guest numbers them; [`NO_CPU`] if not known, as in user mode.
    pub cpu: AtomicU32,
    /// Not 0: a register or an address could not be read, so something was not followed.
    pub failures: AtomicU32,
    /// Meaning depends on the reason.
    pub args: [AtomicU64; 2],
    /// Latest time for which a timer interrupt was set (`CLOCK_MONOTONIC`).
    pub timer_ns: AtomicU64,
    /// Latest `rq.clock` at a switch: the scheduler's clock, some ms away from `CLOCK_MONOTONIC`.
    pub switch_ns: AtomicU64,
    /// Context switches seen.
    pub switches: AtomicU64,
    /// Running digest of them, in order: see `fold`.
    pub digest: AtomicU64,
    /// Events that wait to be taken out. The host sets it to 0 while the guest is held.
    pub events: AtomicU64,
    /// Words of events that could not be read.
    pub unreadable: AtomicU64,
}

/// A word of four bytes that is looked at whenever something is followed or observed.
#[repr(C)]
#[derive(Debug)]
pub struct Watch {
    /// Its address, or 0: no watch.
    pub address: AtomicU64,
    /// What it was when it was last looked at. The plugin changes it too.
    pub value: AtomicU32,
    /// Always 0.
    pub reserved: AtomicU32,
}

/// Something that was observed.
#[repr(C)]
#[derive(Debug)]
pub struct Event {
    /// The runqueue's clock.
    pub clock_ns: AtomicU64,
    /// What it is.
    pub kind: AtomicU32,
    /// CPU, as the guest numbers them; [`NO_CPU`] if not known.
    pub cpu: AtomicU32,
    /// Process id of the task that runs there; [`NO_TASK`] if not known.
    pub current: AtomicU32,
    /// How many of the words could not be read, and are 0.
    pub unreadable: AtomicU32,
    /// What the hook's operands gave.
    pub words: [AtomicU64; OPERANDS],
}

/// [`Event::current`] when the task is not known.
pub const NO_TASK: u32 = u32::MAX;

/// One context switch in the trace.
#[repr(C)]
#[derive(Debug)]
pub struct Switch {
    /// `rq.clock`.
    pub clock_ns: AtomicU64,
    /// Running digest, this switch included.
    pub digest: AtomicU64,
    /// Task that stops.
    pub prev: AtomicU32,
    /// Task that starts.
    pub next: AtomicU32,
    /// CPU, as the guest numbers them; [`NO_CPU`] if not known.
    pub cpu: AtomicU32,
    /// Always 0.
    pub reserved: AtomicU32,
}

const _: () = assert!(size_of::<Control>() <= HEADER && size_of::<Switch>() == 32);
const _: () = assert!(size_of::<Event>() == 72);

/// `digest` with one more word in it: not cryptographic, but every bit of the past counts
/// (the finaliser of MurmurHash3).
pub fn fold(digest: u64, word: u64) -> u64 {
    let mut mixed = digest.rotate_left(1) ^ word;
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ (mixed >> 33)
}
