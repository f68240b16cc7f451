//! Functions of the guest's kernel whose entries are observed, and what was observed.

use std::sync::atomic::Ordering::Relaxed;

use serde::{Deserialize, Serialize};

use crate::virtual_clock::control;
use control::{Control, Event, Fetch, OFFSETS, OPERANDS};

/// Functions that can be hooked.
pub const MAX_HOOKS: usize = control::HOOKS;
/// Words that a hook can record.
pub const MAX_WORDS: usize = OPERANDS;

/// What the entry of a function is to the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HookKind {
    /// A class's `yield_task`: the next switch says that its task has yielded.
    Yield,
    /// `__schedule`, without which a yield looks like a later preemption.
    Schedule,
    /// An observation of this kind, 16 or more.
    Observe(u32),
}

/// Where a word of an observation is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// It is the function's argument of that number, counted from 0.
    Argument(u32),
    /// It lies in memory, `size` bytes of it (4 or 8): all but the last offset lead from the
    /// argument to the next pointer.
    Memory {
        /// The number of the argument that holds the first pointer, from 0.
        argument: u32,
        /// The offsets, four at most.
        path: Vec<u32>,
        /// Bytes of the word.
        size: u32,
        /// Whether it has to be read every time.
        when: Reading,
    },
    /// It is a variable of the current CPU: the symbol's address, and the size.
    ThisCpu(u64, u32),
}

/// How often a word in memory is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reading {
    /// It is read at every call.
    Always,
    /// Once for each address: it does not change while its structure lives.
    Once,
    /// Now, and what was read before is forgotten: the structure is a new one.
    Anew,
}

/// Whose runqueue's clock is the time of an observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClockOf {
    /// The runqueue of the CPU that executes the function.
    ThisCpu,
    /// The runqueue in the argument of that number.
    Argument(u32),
}

/// A function to observe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookPoint {
    /// The virtual address of the function's first instruction.
    pub address: u64,
    /// What its entry is.
    pub kind: HookKind,
    /// Whose clock is its time.
    pub clock: ClockOf,
    /// What is recorded, [`MAX_WORDS`] at most.
    pub words: Vec<Word>,
}

/// A context switch, or the entry of a hooked function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// What it is; `None` for a context switch, whose words are the process ids of the task that
    /// stops and of the one that starts, and whether the first has just yielded.
    pub kind: Option<u32>,
    /// The runqueue's clock (`rq.clock`), nanoseconds.
    pub clock_ns: u64,
    /// CPU; `u32::MAX` if not known.
    pub cpu: u32,
    /// Process id of the task that runs there; `u32::MAX` if not known.
    pub current: u32,
    /// Whether a word could not be read, and is 0.
    pub partial: bool,
    /// What the hook records.
    pub words: [u64; MAX_WORDS],
}

/// Writes the hooks that fit into the page.
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

/// An event as the plugin left it.
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
