//! The page that the host and the plugin share: what to watch, where the guest is held, what was
//! seen. Both sides compile this file, so it holds the layout and nothing that only one needs.
//!
//! One writer for each field. The host writes the first part before QEMU starts (addresses are
//! looked at when a block is translated, so later changes are not seen) and `due_ns` and
//! `released` whenever it likes; the plugin writes the rest. The words are atomics because two
//! processes use them; only `held` and `released` order anything.

use std::sync::atomic::{AtomicU32, AtomicU64};

/// "KTSTRVC1" in little-endian order.
pub const MAGIC: u64 = u64::from_le_bytes(*b"KTSTRVC1");
/// Bytes before the trace.
pub const HEADER: usize = 4096;
/// `Control::cpu` and `Switch::cpu` when the CPU is not known.
pub const NO_CPU: u32 = u32::MAX;
/// Functions that can be watched.
pub const WATCHES: usize = 8;
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
    /// Entry of a watched function: `index` says which, `args` are its first two arguments.
    Watch = 4,
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
    /// Functions at whose entry to hold, 0 for none.
    pub watches: [AtomicU64; WATCHES],
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
    /// The guest goes on when this equals `held`. A futex.
    pub released: AtomicU32,

    /// Holds begun so far. A futex.
    pub held: AtomicU32,
    /// A [`Reason`].
    pub reason: AtomicU32,
    /// CPU that is held, as the guest numbers them; [`NO_CPU`] if not known, as in user mode.
    pub cpu: AtomicU32,
    /// Which watch.
    pub index: AtomicU32,
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
}

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

/// `digest` with one more word in it: not cryptographic, but every bit of the past counts
/// (the finaliser of MurmurHash3).
pub fn fold(digest: u64, word: u64) -> u64 {
    let mut mixed = digest.rotate_left(1) ^ word;
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ (mixed >> 33)
}
