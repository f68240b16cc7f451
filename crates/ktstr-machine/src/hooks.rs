//! Hooks on the entries of functions in the guest's kernel, and their observations.

use std::sync::atomic::Ordering::Relaxed;

use serde::{Deserialize, Serialize};

use crate::virtual_clock::control;
use control::{Control, Event, Fetch, OFFSETS, OPERANDS};

/// The largest number of functions that can be hooked.
pub const MAX_HOOKS: usize = control::HOOKS;
/// The largest number of words that a hook can record.
pub const MAX_WORDS: usize = OPERANDS;

/// How the entry of a function is interpreted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HookKind {
    /// The entry is that of the `yield_task` of a scheduling class: if the next `__schedule` on this CPU switches, the task
    /// that stops has yielded.
    Yield,
    /// The entry is that of `__schedule`, which is needed to distinguish a yield from a later preemption.
    Schedule,
    /// The entry is an observation of this kind, which must be 16 or more.
    Observe(u32),
}

/// Where a word of an observation comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// The function's argument with this number, from 0 (`rdi`) to 4 (`r8`).
    Argument(u32),
    /// A word of `size` bytes (4 or 8) in memory. The argument is a pointer, to which the first offset is added. At the
    /// resulting address is the next pointer, to which the next offset is added, and so on. The sum with the last offset is
    /// the address of the word itself.
    Memory {
        /// The number of the argument that contains the first pointer, counted from 0.
        argument: u32,
        /// The offsets, at most four.
        path: Vec<u32>,
        /// The size of the word in bytes.
        size: u32,
        /// How often the word is read.
        when: Reading,
    },
    /// A per-CPU variable of the current CPU: the address of its symbol, and its size in bytes (4 or 8).
    ThisCpu(u64, u32),
}

/// How often a word in memory is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reading {
    /// The word is read at every call of the function.
    Always,
    /// The word is cached by its address, because it does not change while its structure exists. It is read again only if
    /// another word has taken its place in the cache.
    Once,
    /// The word is read at this call, which replaces any cached value, because the structure is new.
    Anew,
}

/// The runqueue whose clock gives the time of an observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClockOf {
    /// The runqueue of the CPU that executes the function.
    ThisCpu,
    /// The runqueue in the argument with this number.
    Argument(u32),
}

/// A function to be observed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookPoint {
    /// The virtual address of the function's first instruction.
    pub address: u64,
    /// How its entry is interpreted.
    pub kind: HookKind,
    /// The runqueue whose clock gives the time.
    pub clock: ClockOf,
    /// The words that are recorded, at most [`MAX_WORDS`].
    pub words: Vec<Word>,
}

/// A context switch, or the entry of a hooked function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// The kind; `None` for a context switch. The words of a context switch are the pid of the task that stops, the pid of
    /// the task that starts, and whether the task that stops has just yielded (1) or not (0).
    pub kind: Option<u32>,
    /// The runqueue's clock (`rq.clock`), in nanoseconds; 0 if it could not be read, or if switches have no times.
    pub clock_ns: u64,
    /// The CPU; `u32::MAX` if it is unknown.
    pub cpu: u32,
    /// The pid of the task that runs on the CPU; `u32::MAX` if it is unknown.
    pub current: u32,
    /// Whether a word could not be read. Such a word is 0.
    pub partial: bool,
    /// The words that the hook records, in the order of [`HookPoint::words`]; the remaining ones are 0.
    pub words: [u64; MAX_WORDS],
}

/// Writes the first [`MAX_HOOKS`] of the hooks to the shared page.
pub(crate) fn write(page: &Control, hooks: &[HookPoint]) {
    for (place, hook) in page.hooks.iter().zip(hooks) {
        let kind = match hook.kind {
            HookKind::Yield => control::KIND_YIELD,
            HookKind::Schedule => control::KIND_SCHEDULE,
            HookKind::Observe(kind) => kind,
        };
        let clock = match hook.clock {
            ClockOf::ThisCpu => control::CLOCK_HERE,
            ClockOf::Argument(number) => number + 1,
        };
        place.kind.store(kind, Relaxed);
        place.clock.store(clock, Relaxed);
        place.address.store(hook.address, Relaxed);
        for (operand, word) in place.operands.iter().zip(&hook.words) {
            let (what, argument, path, size) = match word {
                Word::Argument(argument) => (Fetch::Value, *argument, Vec::new(), 8),
                Word::ThisCpu(symbol, size) => {
                    let halves = vec![*symbol as u32, (*symbol >> 32) as u32];
                    (Fetch::ThisCpu, 0, halves, *size)
                }
                Word::Memory {
                    argument,
                    path,
                    size,
                    when,
                } => {
                    let what = match when {
                        Reading::Always => Fetch::Load,
                        Reading::Once => Fetch::Cached,
                        Reading::Anew => Fetch::Fresh,
                    };
                    (what, *argument, path.clone(), *size)
                }
            };
            operand.what.store(what as u32, Relaxed);
            operand.register.store(argument, Relaxed);
            operand.size.store(size, Relaxed);
            operand.steps.store(path.len().min(OFFSETS) as u32, Relaxed);
            for (offset, value) in operand.offsets.iter().zip(path) {
                offset.store(value, Relaxed);
            }
        }
    }
}

/// Converts an event from the plugin's format.
pub(crate) fn read(event: &Event) -> Observation {
    let kind = event.kind.load(Relaxed);
    Observation {
        kind: (kind != control::KIND_SWITCH).then_some(kind),
        clock_ns: event.clock_ns.load(Relaxed),
        cpu: event.cpu.load(Relaxed),
        current: event.current.load(Relaxed),
        partial: event.unreadable.load(Relaxed) != 0,
        words: std::array::from_fn(|word| event.words[word].load(Relaxed)),
    }
}
