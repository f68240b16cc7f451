//! Events: context switches, and calls of the functions that the host hooks. A call is recorded at the entry of the
//! function, with the values from registers and memory that the host requests.
//!
//! The host collects events only while the guest is held, or when it no longer runs. When the buffer is full, the guest is
//! therefore held until the host has emptied it: no event is lost, and the guest cannot observe the hold.

use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::{Mutex, PoisonError};

use crate::control::{
    CLOCK_HERE, Fetch, KIND_SCHEDULE, KIND_SWITCH, KIND_YIELD, NO_CPU, NO_TASK, OPERANDS, Operand,
    Reason,
};
use crate::qemu::{Reader, Register};
use crate::shared::Shared;

/// The number of CPUs whose current task and yields are tracked; CPUs with higher numbers have no current task in events.
const CPUS: usize = 1024;
/// The number of entries of the cache of words, which must be a power of two.
const CACHE: usize = 1 << 12;

/// Whether the current task of a CPU has yielded.
#[derive(Clone, Copy, PartialEq)]
enum Yield {
    No,
    Called,
    /// The `__schedule()` after the yield is running, and a switch now is the result of the yield.
    Scheduling,
}

/// The state that is kept from event to event. The first two lists are indexed by the number of the CPU.
struct Memory {
    current: Vec<u32>,
    yields: Vec<Yield>,
    /// Words that do not change while the object that contains them exists, each with its address. An entry with address 0
    /// is free.
    cache: Vec<(u64, u64)>,
}

/// The hooks, and the state of their evaluation.
pub struct Recorder {
    /// The addresses of hooked functions, sorted, each with the index of its hook in the page that the host and the plugin share.
    addresses: Vec<(u64, usize)>,
    memory: Mutex<Memory>,
}

impl Recorder {
    /// Reads the hooks from the page.
    pub fn new(shared: &Shared) -> Self {
        let hooks = shared.control().hooks.iter().enumerate();
        let mut addresses: Vec<(u64, usize)> = hooks
            .map(|(index, hook)| (hook.address.load(Relaxed), index))
            .filter(|(address, _)| *address != 0)
            .collect();
        addresses.sort_unstable();
        Self {
            addresses,
            memory: Mutex::new(Memory {
                current: vec![NO_TASK; CPUS],
                yields: vec![Yield::No; CPUS],
                cache: vec![(0, 0); CACHE],
            }),
        }
    }

    /// Returns the index in the page of the hook at `address`; `None` if there is none. This is called for each instruction
    /// that is translated, so the function returns early for addresses outside of the range of the hooks.
    pub fn hook_at(&self, address: u64) -> Option<usize> {
        let (first, last) = (self.addresses.first()?, self.addresses.last()?);
        if address < first.0 || address > last.0 {
            return None;
        }
        let found = self.addresses.binary_search_by_key(&address, |hook| hook.0);
        self.addresses.get(found.ok()?).map(|hook| hook.1)
    }

    /// Records a context switch, which needs no hook. `tasks` are the pids of the task that stops and of the task that starts.
    pub fn switch(&self, shared: &Shared, cpu: u32, clock_ns: u64, tasks: [u32; 2]) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let [prev, next] = tasks;
        let mut yielded = false;
        let place = cpu as usize;
        if let Some(state) = memory.yields.get_mut(place) {
            yielded = *state == Yield::Scheduling;
            *state = Yield::No;
        }
        if let Some(current) = memory.current.get_mut(place) {
            *current = next;
        }
        drop(memory);
        let mut words = [0; OPERANDS];
        words[..3].copy_from_slice(&[u64::from(prev), u64::from(next), u64::from(yielded)]);
        let seen = Seen {
            kind: KIND_SWITCH,
            cpu,
            current: prev,
            clock_ns,
            unreadable: 0,
            words,
        };
        append(shared, &seen);
    }

    /// Records the entry of the hooked function with this index. Returns the time of its event; `None` if it has no event, or if
    /// the clock could not be read.
    pub fn observe(&self, shared: &Shared, reader: &mut Reader, index: usize) -> Option<u64> {
        let control = shared.control();
        let hook = control.hooks.get(index)?;
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let here = reader.register(Register::GsBase);
        let cpu = here
            .map(|base| base.wrapping_add(control.this_rq_cpu.load(Relaxed)))
            .and_then(|address| memory.cached(reader, address, 4, false))
            .map_or(NO_CPU, |cpu| cpu as u32);
        let kind = hook.kind.load(Relaxed);
        if let Some(state) = memory.yields.get_mut(cpu as usize) {
            match (kind, *state) {
                (KIND_YIELD, _) => *state = Yield::Called,
                (KIND_SCHEDULE, Yield::Called) => *state = Yield::Scheduling,
                (KIND_SCHEDULE, _) => *state = Yield::No,
                _ => {}
            }
        }
        if matches!(kind, KIND_YIELD | KIND_SCHEDULE) {
            return None;
        }
        let clock = match hook.clock.load(Relaxed) {
            CLOCK_HERE => here.map(|b| b.wrapping_add(control.this_rq_clock.load(Relaxed))),
            register => Register::argument(register - 1)
                .and_then(|register| reader.register(register))
                .map(|rq| rq.wrapping_add(u64::from(control.rq_clock_offset.load(Relaxed)))),
        };
        let clock = clock.and_then(|address| reader.u64(address));
        let mut unreadable = 0;
        let words = std::array::from_fn(|place| {
            let operand: &Operand = &hook.operands[place];
            memory.fetch(reader, here, operand).unwrap_or_else(|| {
                unreadable += 1;
                0
            })
        });
        let current = memory.current.get(cpu as usize).copied();
        drop(memory);
        if unreadable != 0 {
            control.unreadable.fetch_add(u64::from(unreadable), Relaxed);
        }
        let current = current.unwrap_or(NO_TASK);
        let seen = Seen {
            kind,
            cpu,
            current,
            // The host gives an event without a clock the time of the previous event.
            clock_ns: clock.unwrap_or(0),
            unreadable,
            words,
        };
        append(shared, &seen);
        clock
    }
}

impl Memory {
    /// Reads the word that `operand` describes; `None` if it cannot be read. `here` is the base of the current
    /// CPU's per-CPU variables.
    fn fetch(&mut self, reader: &mut Reader, here: Option<u64>, operand: &Operand) -> Option<u64> {
        let what = operand.what.load(Relaxed);
        if what == Fetch::Nothing as u32 {
            return Some(0);
        }
        let offset = |step: usize| u64::from(operand.offsets[step].load(Relaxed));
        let size = operand.size.load(Relaxed);
        if what == Fetch::ThisCpu as u32 {
            let address = here?.wrapping_add(offset(0) | offset(1) << 32);
            return load(reader, address, size);
        }
        let register = Register::argument(operand.register.load(Relaxed))?;
        let mut value = reader.register(register)?;
        if what == Fetch::Value as u32 {
            return Some(value);
        }
        let steps = operand.steps.load(Relaxed) as usize;
        let last = steps.min(operand.offsets.len()).checked_sub(1)?;
        for step in 0..last {
            value = reader.u64(value.wrapping_add(offset(step)))?;
        }
        let address = value.wrapping_add(offset(last));
        if what == Fetch::Load as u32 {
            return load(reader, address, size);
        }
        self.cached(reader, address, size, what == Fetch::Fresh as u32)
    }

    /// Returns the word at `address`; `None` if it cannot be read. It is read from memory if the cache does not have it, or if
    /// `fresh` says that the object at this address is new. Several addresses share a slot of the cache, and the slot has the
    /// word that was read last.
    fn cached(&mut self, reader: &mut Reader, address: u64, size: u32, fresh: bool) -> Option<u64> {
        // Structures are aligned to at least 64 bytes, so the lowest 6 bits do not distinguish them.
        let place = (address >> 6 ^ address >> 18) as usize & (CACHE - 1);
        let known = self.cache.get_mut(place)?;
        if fresh || known.0 != address {
            *known = (address, load(reader, address, size)?);
        }
        Some(known.1)
    }
}

fn load(reader: &mut Reader, address: u64, size: u32) -> Option<u64> {
    match size {
        8 => reader.u64(address),
        _ => reader.u32(address).map(u64::from),
    }
}

/// An event that has not been stored yet.
struct Seen {
    kind: u32,
    cpu: u32,
    current: u32,
    clock_ns: u64,
    unreadable: u32,
    words: [u64; OPERANDS],
}

/// Adds an event to the buffer. If the buffer is full, holds the guest first, until the host has emptied it.
fn append(shared: &Shared, seen: &Seen) {
    let control = shared.control();
    let mut number = control.events.load(Relaxed) as usize;
    if number >= shared.events().len() {
        shared.hold(Reason::Full, seen.cpu, [0; 2]);
        number = control.events.load(Relaxed) as usize;
    }
    // A host that does not empty the buffer does not want any more events.
    let Some(event) = shared.events().get(number) else {
        return;
    };
    event.clock_ns.store(seen.clock_ns, Relaxed);
    event.kind.store(seen.kind, Relaxed);
    event.cpu.store(seen.cpu, Relaxed);
    event.current.store(seen.current, Relaxed);
    event.unreadable.store(seen.unreadable, Relaxed);
    for (word, value) in event.words.iter().zip(seen.words) {
        word.store(value, Relaxed);
    }
    control.events.store(number as u64 + 1, Release);
}
