//! Bounded turns: how long a CPU executes before the next one goes on.
//!
//! By itself QEMU ends a turn at HLT, at PAUSE, and when the instructions up to the nearest timer, divided by the number of
//! CPUs, are used up. So a wake-up on another CPU waits for up to a millisecond, by the numbers of the two CPUs, and a
//! scheduler seems to be late that is not. Here a turn also ends after so many instructions, and soon after the kernel has
//! sent an interrupt to another CPU. Instructions are counted, not timed: the same run has the same turns.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::control::SENDERS;
use crate::qemu::TimeControl;
use crate::shared::Shared;

/// Instructions within which the kernel has sent the interrupt, from the entry of the function that does: writing one
/// register of the interrupt controller, in two calls.
const SENDING: u64 = 200;

/// The bound, and how far the current turn has come.
pub struct Turns {
    control: TimeControl,
    bound: u64,
    senders: [u64; SENDERS],
    /// Instructions since the last turn that was ended here. One thread executes all CPUs, so they share it.
    count: AtomicU64,
}

impl Turns {
    /// What the page asks for; `None` if QEMU's own turns are wanted.
    pub fn new(shared: &Shared) -> Result<Option<Self>, String> {
        let page = shared.control();
        let bound = u64::from(page.turn.load(Relaxed));
        if bound == 0 {
            return Ok(None);
        }
        let control = TimeControl::request().ok_or("another plugin controls QEMU's clock")?;
        Ok(Some(Self {
            control,
            bound,
            senders: std::array::from_fn(|place| page.senders[place].load(Relaxed)),
            count: AtomicU64::new(0),
        }))
    }

    /// Whether a function that sends an interrupt begins at `address`, which is not 0.
    pub fn is_sender(&self, address: u64) -> bool {
        self.senders.contains(&address)
    }

    /// A block of `instructions` begins.
    pub fn count(&self, instructions: u64) {
        let count = self.count.load(Relaxed) + instructions;
        if count < self.bound {
            self.count.store(count, Relaxed);
        } else {
            self.count.store(0, Relaxed);
            self.control.end_turn();
        }
    }

    /// An interrupt is about to be sent: the turn ends soon after it.
    pub fn sends(&self) {
        let soon = self.bound.saturating_sub(SENDING);
        self.count.fetch_max(soon, Relaxed);
    }
}
