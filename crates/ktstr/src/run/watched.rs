//! Kernel variables that a test watches: a capture is taken whenever one of them has changed.
//!
//! Under the virtual clock the plugin holds the guest at the first context switch, timer interrupt or observed function
//! after a change. Under the real clock the host compares the values at each poll.

use std::time::Duration;

use ktstr_introspect::kernel::KernelView;
use ktstr_machine::{Hold, MAX_WATCHED, Machine, MachineError, WatchedWord};

use super::captures::{Captures, KernelInfo, LazyKernelInfo, RamView};
use super::guest_state::GuestState;
use super::kernel_memory;

/// The number of captures that all watches together may take. Each capture stops the machine, so after that many nothing is
/// watched any more.
const MOST_CAPTURES: u32 = 1024;

/// The kernel variables that a test watches, and the number of captures for them.
#[derive(Debug, Default)]
pub(super) struct Watches {
    words: Vec<Watched>,
    taken: u32,
    /// The value of [`GuestState::scenario_edges`] when `words` was last emptied or filled.
    edges: u32,
}

#[derive(Debug)]
struct Watched {
    symbol: String,
    /// The guest-virtual and the guest-physical address of the variable's first four bytes.
    kva: u64,
    gpa: u64,
    /// The value at the last comparison, or at the start of the watch.
    last: u32,
}

impl Watches {
    /// Starts to watch the first four bytes of the kernel variable `symbol`. The error is reported to the test.
    pub(super) fn arm(
        &mut self,
        machine: &Machine,
        info: Result<&KernelInfo, &str>,
        captures: &Captures,
        symbol: String,
    ) -> Result<(), String> {
        let info =
            info.map_err(|why| format!("the kernel's memory cannot be interpreted: {why}"))?;
        if self.words.iter().any(|word| word.symbol == symbol) {
            return Err(format!("{symbol:?} is watched already"));
        }
        if self.words.len() >= MAX_WATCHED {
            let others: Vec<&str> = self.words.iter().map(|w| w.symbol.as_str()).collect();
            return Err(format!(
                "{symbol:?} cannot be watched in addition to {}, because at most {MAX_WATCHED} variables can be watched",
                others.join(", ")
            ));
        }
        let kva = kernel_memory::variable(&info.symbols, &symbol)?;
        if kva % 4 != 0 {
            return Err(format!(
                "{symbol:?} is at {kva:#x}, and only variables at multiples of 4 can be watched"
            ));
        }
        let memory = RamView(machine.ram());
        let view = KernelView::new(&memory, &info.symbols, &info.btf).map_err(|e| e.to_string())?;
        let gpa = view.translate(kva).map_err(|e| e.to_string())?;
        let last = view.read_u32(kva).map_err(|e| e.to_string())?;
        captures.bridge.count_watch(&symbol, 0);
        self.words.push(Watched {
            symbol,
            kva,
            gpa,
            last,
        });
        self.program_watches(machine);
        Ok(())
    }

    /// Takes a capture at `now` for each variable that has changed since the last poll. Under the virtual clock this is
    /// done only while the guest is held for a change: a running guest is at a different point in each run.
    pub(super) fn poll(
        &mut self,
        machine: &mut Machine,
        kernel_info: &mut LazyKernelInfo,
        captures: &mut Captures,
        guest: &GuestState,
        now: Duration,
        hold: Option<Hold>,
    ) -> Result<(), MachineError> {
        // A watch ends with the scenario that asked for it.
        if std::mem::replace(&mut self.edges, guest.scenario_edges) != guest.scenario_edges
            && !self.words.is_empty()
        {
            self.words.clear();
            self.program_watches(machine);
        }
        if machine.virtual_clock().is_some() && !matches!(hold, Some(Hold::Changed(_))) {
            return Ok(());
        }
        let mut changed = Vec::new();
        for word in &mut self.words {
            let mut bytes = [0; 4];
            machine.ram().read(word.gpa, &mut bytes)?;
            let value = u32::from_le_bytes(bytes);
            if std::mem::replace(&mut word.last, value) != value {
                changed.push(word.symbol.clone());
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        let elapsed = guest.window.counted(now);
        for symbol in changed {
            captures.bridge.count_watch(&symbol, 1);
            self.taken += 1;
            // The inner error, that the guest's memory cannot be read, is dropped: nobody waits for the answer, and the
            // change has been counted.
            let _ =
                captures.take_tagged(machine, kernel_info, symbol, elapsed, guest.step_index)?;
        }
        if self.taken >= MOST_CAPTURES {
            self.words.clear();
        }
        self.program_watches(machine);
        Ok(())
    }

    /// Passes the addresses and their current values to the clock's plugin.
    fn program_watches(&self, machine: &Machine) {
        if let Some(clock) = machine.virtual_clock() {
            let words = self.words.iter().map(|word| WatchedWord {
                address: word.kva,
                value: word.last,
            });
            clock.set_watches(&words.collect::<Vec<_>>());
        }
    }
}
