//! Bounded turns: how long a CPU executes before the next one continues.
//!
//! QEMU itself ends a turn at HLT, at PAUSE, and when the instructions until the nearest timer, divided by the number of CPUs,
//! have been executed. A task that is woken on another CPU may therefore wait for up to a millisecond, depending on the
//! numbers of the two CPUs, and a scheduler looks late although it is not. This module also ends a turn after a number of
//! instructions, and soon after the kernel has sent an interrupt to another CPU. The module counts instructions and measures no
//! host time, so a repeated run has the same turns.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::control::SENDERS;
use crate::qemu::TimeControl;
use crate::shared::Shared;

/// The number of instructions within which an interrupt is sent, counted from the entry of the function that sends it.
/// Sending it takes two calls, and a write to one register of the interrupt controller.
const SENDING: u64 = 200;

/// The bound, and the progress of the current turn.
pub struct Turns {
    control: TimeControl,
    bound: u64,
    senders: [u64; SENDERS],
    /// The number of instructions since this module last ended a turn. One thread executes all CPUs, so they share the
    /// counter.
    count: AtomicU64,
}

impl Turns {
    /// Reads the bound from the page; `None` if turns are left to QEMU. It is an error if another plugin controls the clock.
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

    /// Returns whether a function that sends an interrupt starts at `address`. The address must not be 0, which marks unused
    /// entries.
    pub fn is_sender(&self, address: u64) -> bool {
        self.senders.contains(&address)
    }

    /// Counts a block of `instructions` that is about to be executed, and ends the turn when the bound is reached.
    pub fn count(&self, instructions: u64) {
        let count = self.count.load(Relaxed) + instructions;
        if count < self.bound {
            self.count.store(count, Relaxed);
        } else {
            self.count.store(0, Relaxed);
            self.control.end_turn();
        }
    }

    /// Notes that an interrupt is about to be sent, so that the turn ends soon after it.
    pub fn sends(&self) {
        let soon = self.bound.saturating_sub(SENDING);
        self.count.fetch_max(soon, Relaxed);
    }
}
