//! The pages that the host and the plugin share: the functions to observe, the points at which the guest is held, and
//! the observations. Both sides compile this file, so it contains only the layout and what both need.
//!
//! The host writes the first fields before QEMU starts (the plugin compares addresses when it translates a block, so later
//! changes have no effect), the fields from `due_ns` to `clock_due_ns` while the guest is held, and `released` to end the
//! hold. The plugin writes `held` and the fields after it. Three fields have two writers: the plugin also resets
//! `clock_due_ns` and stores the new values of watched words, and the host sets `events` to 0 during a hold, or when the guest
//! no longer runs. All fields are atomics because two processes use them. `magic`, `held`, `released`, `switches` and `events`
//! order the accesses to the other fields.

use std::sync::atomic::{AtomicU32, AtomicU64};

/// "KTSTRVC5" in little-endian order.
pub const MAGIC: u64 = u64::from_le_bytes(*b"KTSTRVC5");
/// The number of bytes before the trace.
pub const HEADER: usize = 16 << 10;
/// The value of `Control::cpu`, `Event::cpu` and `Switch::cpu` if the CPU is unknown.
pub const NO_CPU: u32 = u32::MAX;
/// The largest number of functions that can be hooked.
pub const HOOKS: usize = 48;
/// The largest number of functions that send an interrupt to another CPU.
pub const SENDERS: usize = 3;
/// The largest number of words of kernel memory that are watched.
pub const WATCHES: usize = 3;
/// The largest number of functions at whose entries the guest is held.
pub const MOMENTS: usize = 8;
/// The largest number of words that a hook can record.
pub const OPERANDS: usize = 6;
/// The largest number of offsets on the way from a register to a value.
pub const OFFSETS: usize = 4;
/// The [`Event::kind`] of a context switch. Its words are the pid of the task that stops, the pid of the task that starts,
/// and whether the task that stops has just yielded (1) or not (0). The host assigns the meaning of kinds from 16 on.
pub const KIND_SWITCH: u32 = 1;
/// The [`Hook::kind`] of the `yield_task` of a scheduling class. The call is remembered until the switch, and is not an
/// event itself.
pub const KIND_YIELD: u32 = 2;
/// The [`Hook::kind`] of `__schedule`. A yield leads to a switch in the first `__schedule` after it, or to none.
pub const KIND_SCHEDULE: u32 = 3;
/// The [`Hook::clock`] for the runqueue of the current CPU. Any other value is 1 plus the number of the argument that
/// holds a runqueue.
pub const CLOCK_HERE: u32 = 0;
/// The value of `rax` that makes `xchg %bx,%bx` a call to the host: "KTSTRHLD".
pub const MARKER: u64 = u64::from_le_bytes(*b"KTSTRHLD");
/// The bytes of `xchg %bx,%bx`, which has no effect on a real CPU.
pub const MARKER_CODE: [u8; 3] = [0x66, 0x87, 0xdb];

/// Why the guest is held (`Control::reason`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Reason {
    /// The guest is about to execute its first instruction in this QEMU.
    First = 1,
    /// The guest executed the marker: `args` are its `rdi` and `rsi`.
    Marker = 2,
    /// The guest takes a timer interrupt that was set for `due_ns` or later: `args[0]` is the time for which it was set.
    Due = 3,
    /// The buffer of events is full, and the host has to empty it.
    Full = 4,
    /// A watched word has changed. `args` are the latest time for which a timer interrupt was set, and the index of the
    /// word.
    Changed = 5,
    /// The guest is at the entry of a function in `moments`: `args` are [`Moment::kind`] and the latest time for which a
    /// timer interrupt was set.
    Moment = 6,
    /// The guest is at a switch or at the entry of an observed function, at `clock_due_ns` or later: `args` are the time
    /// there, and the latest time for which a timer interrupt was set.
    Clock = 7,
}

/// How a word of an event is obtained ([`Operand::what`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Fetch {
    /// The operand is not used.
    Nothing = 0,
    /// The word is the value of the register.
    Value = 1,
    /// The word is in memory: the register plus the first offset is the address of a pointer, to which the next offset is
    /// added, and so on. The sum with the last offset is the address of the word itself.
    Load = 2,
    /// The same as [`Fetch::Load`], for a word that does not change while the object at its address exists.
    Cached = 3,
    /// The same as [`Fetch::Cached`], but the object at the address is new, so a cached value is not used.
    Fresh = 4,
    /// The word is a per-CPU variable of the current CPU: the first two offsets are the low and the high half of the address
    /// of its symbol.
    ThisCpu = 5,
}

/// Where a word of an event comes from.
#[repr(C)]
#[derive(Debug)]
pub struct Operand {
    /// How the word is obtained, as the number of a [`Fetch`].
    pub what: AtomicU32,
    /// The number of the function's argument, from 0 (`rdi`) to 4 (`r8`).
    pub register: AtomicU32,
    /// The size of the word in bytes: 4 or 8.
    pub size: AtomicU32,
    /// The number of offsets in use.
    pub steps: AtomicU32,
    /// The offsets that lead to the word; the first `steps` of them are in use.
    pub offsets: [AtomicU32; OFFSETS],
}

/// A function whose entry is an event.
#[repr(C)]
#[derive(Debug)]
pub struct Hook {
    /// The address of the function; 0 if the hook is not used.
    pub address: AtomicU64,
    /// The [`Event::kind`] of its events; [`KIND_YIELD`] or [`KIND_SCHEDULE`] if it has none.
    pub kind: AtomicU32,
    /// The runqueue whose clock gives the time of its events: [`CLOCK_HERE`], or 1 plus the number of an argument.
    pub clock: AtomicU32,
    /// The words of its events.
    pub operands: [Operand; OPERANDS],
}

/// A function at whose entry the guest is held.
#[repr(C)]
#[derive(Debug)]
pub struct Moment {
    /// The address of the function; 0 if the entry is not used.
    pub address: AtomicU64,
    /// The host's number for the function.
    pub kind: AtomicU32,
    /// 1 plus the number of the `bool` argument that must be true for the guest to be held; 0 if the guest is held in any case.
    pub condition: AtomicU32,
}

/// The shared page. Addresses are guest-virtual, and times are in nanoseconds of guest time.
#[repr(C)]
#[derive(Debug)]
pub struct Control {
    /// The value [`MAGIC`], without which the plugin does not accept the page.
    pub magic: AtomicU64,
    /// If not 0, the guest is held before its first instruction.
    pub hold_first: AtomicU32,
    /// If not 0, the guest is held at markers.
    pub hold_markers: AtomicU32,
    /// The address of `__switch_to`; 0 if context switches are not observed.
    pub switch_to: AtomicU64,
    /// The offset of `task_struct.pid`.
    pub pid_offset: AtomicU32,
    /// The offset of `clock_event_device.next_event`.
    pub next_event_offset: AtomicU32,
    /// The address of `hrtimer_interrupt`; 0 if guest time is not observed, in which case nothing is ever due.
    pub timer: AtomicU64,
    /// The functions to be observed.
    pub hooks: [Hook; HOOKS],
    /// The functions at whose entries the guest is held.
    pub moments: [Moment; MOMENTS],
    /// The number of instructions after which a CPU's turn ends (see `turns.rs`); 0 leaves the end of turns to QEMU.
    pub turn: AtomicU32,
    /// The addresses of functions that are about to send an interrupt to another CPU, which ends the turn; 0 for unused
    /// entries.
    pub senders: [AtomicU64; SENDERS],
    /// The offset of `rq.clock`.
    pub rq_clock_offset: AtomicU32,
    /// If not 0, context switches are events too.
    pub record: AtomicU32,
    /// The number of events that fit into the buffer, which follows the trace.
    pub event_capacity: AtomicU64,
    /// The per-CPU address of `rq.cpu` (the symbol `runqueues` plus the member's offset); 0 if CPUs are not
    /// distinguished.
    pub this_rq_cpu: AtomicU64,
    /// The per-CPU address of `rq.clock`; 0 if switches have no times.
    pub this_rq_clock: AtomicU64,
    /// The number of entries of the trace, which starts at [`HEADER`].
    pub trace_capacity: AtomicU64,

    /// The guest is held at each timer interrupt that was set for this time (`CLOCK_MONOTONIC`) or later; `u64::MAX` for none.
    pub due_ns: AtomicU64,
    /// The words whose changes hold the guest.
    pub watches: [Watch; WATCHES],
    /// The guest is held once, at the first switch or observed function whose runqueue's clock has this value or a later one;
    /// `u64::MAX` for none. The plugin resets it to `u64::MAX` when it holds the guest.
    pub clock_due_ns: AtomicU64,
    /// The guest continues when this equals `held`. The word is a futex.
    pub released: AtomicU32,

    /// The number of holds so far. The word is a futex.
    pub held: AtomicU32,
    /// The reason of the hold, a [`Reason`].
    pub reason: AtomicU32,
    /// The guest's number of the CPU that is held; [`NO_CPU`] if it is unknown, which it is before the first instruction and
    /// at a marker.
    pub cpu: AtomicU32,
    /// The number of failures: a register or a word of memory could not be read, so something was not observed.
    pub failures: AtomicU32,
    /// The arguments, whose meaning depends on the reason.
    pub args: [AtomicU64; 2],
    /// The latest time for which any timer interrupt so far was set (`CLOCK_MONOTONIC`).
    pub timer_ns: AtomicU64,
    /// The number of context switches.
    pub switches: AtomicU64,
    /// The running digest of the switches, in order: see `fold`.
    pub digest: AtomicU64,
    /// The number of events in the buffer. The host sets it to 0 while the guest is held.
    pub events: AtomicU64,
    /// The total number of words of events that could not be read.
    pub unreadable: AtomicU64,
}

/// A word of four bytes in guest memory. Whenever the plugin observes something, it compares the word with the word's last value.
#[repr(C)]
#[derive(Debug)]
pub struct Watch {
    /// The address of the word; 0 if the watch is not used.
    pub address: AtomicU64,
    /// The value at the last comparison: the host stores the first one, and the plugin stores the later ones.
    pub value: AtomicU32,
    /// Padding to a multiple of 8 bytes, which is always 0.
    pub reserved: AtomicU32,
}

/// An observation: a context switch, or the entry of a hooked function, with the values that were read there.
#[repr(C)]
#[derive(Debug)]
pub struct Event {
    /// The clock of the runqueue that the hook names (`rq.clock`), in nanoseconds; 0 if it could not be read.
    pub clock_ns: AtomicU64,
    /// The kind of the event.
    pub kind: AtomicU32,
    /// The guest's number of the CPU; [`NO_CPU`] if it is unknown.
    pub cpu: AtomicU32,
    /// The pid of the task that runs on the CPU; [`NO_TASK`] if it is unknown.
    pub current: AtomicU32,
    /// The number of words that could not be read. Such words are 0.
    pub unreadable: AtomicU32,
    /// The values of the hook's operands; for a context switch see [`KIND_SWITCH`].
    pub words: [AtomicU64; OPERANDS],
}

/// The value of [`Event::current`] if the task is unknown.
pub const NO_TASK: u32 = u32::MAX;

/// A context switch in the trace.
#[repr(C)]
#[derive(Debug)]
pub struct Switch {
    /// The clock of the CPU's runqueue at the switch (`rq.clock`), in nanoseconds; 0 if `this_rq_clock` is 0.
    pub clock_ns: AtomicU64,
    /// The running digest, this switch included.
    pub digest: AtomicU64,
    /// The pid of the task that stops.
    pub prev: AtomicU32,
    /// The pid of the task that starts.
    pub next: AtomicU32,
    /// The guest's number of the CPU; [`NO_CPU`] if it is unknown.
    pub cpu: AtomicU32,
    /// Padding to a multiple of 8 bytes, which is always 0.
    pub reserved: AtomicU32,
}

const _: () = assert!(size_of::<Control>() <= HEADER && size_of::<Switch>() == 32);
const _: () = assert!(size_of::<Event>() == 72);

/// Returns `digest` with one more word added. The digest is not cryptographic, but it depends on every bit of every
/// word (it uses the finalizer of MurmurHash3).
pub fn fold(digest: u64, word: u64) -> u64 {
    let mut mixed = digest.rotate_left(1) ^ word;
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ (mixed >> 33)
}
