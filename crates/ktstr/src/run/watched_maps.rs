//! Variables of the scheduler that a test declares as metrics (`watch_bpf_maps`). They are sampled in the workload window, at
//! the monitor's intervals.
// The numbers come from a guest and may be arbitrarily large, so the compiler warns of each cast that could change a number.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]

use std::collections::BTreeMap;
use std::time::Duration;

use ktstr_assert::{AssertDetail, DetailKind};
use ktstr_introspect::bpf::variable::WatchedVariable;
use ktstr_introspect::kernel::KernelView;
use ktstr_introspect::narrow;
use ktstr_machine::{GuestRam, Machine};
use ktstr_scenario::scheduler::{BpfMapAgg, WatchBpfMap};

use super::captures::{KernelInfo, LazyKernelInfo, RamView};
use super::guest_state::GuestState;
use super::monitor::next_after;
use super::verdict::{Fault, Judgement};

/// The variables, and the values that were read.
pub(super) struct WatchedMaps {
    all: Vec<Watched>,
    seed: u64,
    next: Duration,
    /// When the window to which `next` belongs was opened. A test may run several scenarios, and each has a window.
    window: Option<Duration>,
    /// How many times a scheduler had attached at the last sample. After another attach, the variables are located again.
    attaches: u32,
    /// The number of samples that were due, whether or not a scheduler was attached.
    samples: u32,
}

struct Watched {
    declared: &'static WatchBpfMap,
    found: Option<WatchedVariable>,
    /// The error of the last search or read that failed; `None` if none has failed.
    trouble: Option<String>,
    seen: Seen,
}

/// The accumulated values of all samples.
#[derive(Debug, Default)]
struct Seen {
    /// The name of the BPF object, with which the metric's name starts.
    object: String,
    /// The number of samples.
    looks: u32,
    /// The sum over all samples of the mean over the CPUs.
    sum: f64,
    /// The largest value of any CPU in any sample.
    max: u64,
    /// The sum over the CPUs in the last sample; `None` before the first sample of a scheduler.
    last: Option<u64>,
    /// The sum of the increases from each sample to the next one of the same scheduler.
    grown: u64,
}

impl WatchedMaps {
    pub(super) fn new(declared: &'static [&'static WatchBpfMap], seed: u64) -> Self {
        let watched = |declared: &&'static WatchBpfMap| Watched {
            declared,
            found: None,
            trouble: None,
            seen: Seen::default(),
        };
        Self {
            all: declared.iter().map(watched).collect(),
            seed,
            next: next_after(Duration::ZERO, seed),
            window: None,
            attaches: 0,
            samples: 0,
        }
    }

    /// Reads all variables if that is due. Returns the time of the next sample; `None` if the test watches no variable, and
    /// while the window is not open or is paused.
    pub(super) fn poll(
        &mut self,
        machine: &Machine,
        kernel_info: &mut LazyKernelInfo,
        guest: &GuestState,
        now: Duration,
    ) -> Option<Duration> {
        if self.all.is_empty() {
            return None;
        }
        if self.window != guest.window.opened && guest.window.opened.is_some() {
            self.window = guest.window.opened;
            self.next = next_after(Duration::ZERO, self.seed);
            // What a counter gained between two windows belongs to neither.
            for watched in &mut self.all {
                watched.seen.last = None;
            }
        }
        if let Some(elapsed) = guest.window.elapsed(now).filter(|at| *at >= self.next) {
            self.next = next_after(elapsed, self.seed);
            self.samples += 1;
            let is_another = self.attaches != guest.all_attaches();
            self.attaches = guest.all_attaches();
            // Nothing can be read while no scheduler is attached.
            if guest.attached.is_some() && !guest.stopped_by_test {
                let info = kernel_info.get();
                for watched in &mut self.all {
                    watched.poll(machine.ram(), info, is_another);
                }
            }
        }
        guest.window.when(self.next)
    }

    /// Returns the metrics of all watched variables, by name.
    pub(super) fn metrics(&self) -> BTreeMap<String, f64> {
        self.all.iter().flat_map(Watched::metrics).collect()
    }

    /// Records a failure of the test for each declaration without metrics. Under the real clock (`real`) the host may come too
    /// late for any sample of the workload window. The result is then inconclusive.
    pub(super) fn judge(&self, judgement: &mut Judgement, guest: &GuestState, real: bool) {
        for watched in self.all.iter().filter(|watched| watched.seen.looks == 0) {
            let (fault, why) = match watched.trouble.as_deref() {
                Some(why) => (Fault::Test, why),
                None if self.samples > 0 => (
                    Fault::Test,
                    "no scheduler was attached at any of the samples, which are taken every 100 ms in the workload window",
                ),
                None if guest.window.opened.is_none() => (
                    Fault::Test,
                    "the test opened no workload window, in which samples are taken",
                ),
                None => (
                    if real { Fault::Harness } else { Fault::Test },
                    "no sample was taken: they are due every 100 ms, and the workload window ended before the first one",
                ),
            };
            let detail = AssertDetail::new(
                DetailKind::Other,
                format!(
                    "watch_bpf_maps: {:?} of {:?}: {why}",
                    watched.declared.field(),
                    watched.declared.map()
                ),
            );
            match fault {
                Fault::Test => {
                    judgement.result.record_fail(detail);
                }
                _ => {
                    judgement.result.record_inconclusive(detail);
                }
            }
            judgement.blame(fault, "nothing else failed in the run".to_owned());
        }
    }
}

impl Watched {
    /// Takes a sample. First searches for the variable if it has not been found yet, or if another scheduler has attached.
    fn poll(&mut self, ram: &GuestRam, info: Result<&KernelInfo, &str>, is_another: bool) {
        if is_another || self.found.is_none() {
            self.seen.last = None;
            match self.find(ram, info) {
                Ok(found) => self.found = Some(found),
                Err(why) => {
                    (self.found, self.trouble) = (None, Some(why));
                    return;
                }
            }
        }
        let Some(found) = &self.found else { return };
        let mut values = Vec::with_capacity(found.gpas.len());
        for gpa in &found.gpas {
            let mut bytes = [0; 8];
            let part = bytes.get_mut(..narrow::length(found.size));
            if part.is_none_or(|part| ram.read(*gpa, part).is_err()) {
                let why = format!("guest memory at {gpa:#x} could not be read");
                self.trouble = Some(why);
                return;
            }
            values.push(u64::from_le_bytes(bytes));
        }
        self.seen.take(&values);
    }

    fn find(
        &mut self,
        ram: &GuestRam,
        info: Result<&KernelInfo, &str>,
    ) -> Result<WatchedVariable, String> {
        let info = info.map_err(str::to_owned)?;
        let memory = RamView(ram);
        let view = KernelView::new(&memory, &info.symbols, &info.btf).map_err(|e| e.to_string())?;
        let declared = self.declared;
        let found = view
            .scx_watched(
                declared.map(),
                declared.field(),
                declared.agg().is_per_cpu(),
            )
            .map_err(|e| e.to_string())?;
        if ![1, 2, 4, 8].contains(&found.size) {
            return Err(format!(
                "it has {} bytes, and only an integer of 1, 2, 4 or 8 can be a metric",
                found.size
            ));
        }
        let object = found.map.split('.').next().unwrap_or_default();
        self.seen.object = object.to_owned();
        Ok(found)
    }

    fn metrics(&self) -> Vec<(String, f64)> {
        let seen = &self.seen;
        if seen.looks == 0 {
            return Vec::new();
        }
        let name = format!("{}_{}", seen.object, self.declared.label());
        let mean = seen.sum / f64::from(seen.looks);
        match self.declared.agg() {
            BpfMapAgg::Scalar => vec![(name, mean)],
            BpfMapAgg::ScalarCounter | BpfMapAgg::PerCpuCounter => vec![(name, seen.grown as f64)],
            BpfMapAgg::PerCpu => vec![
                (format!("{name}_avg"), mean),
                (format!("{name}_max"), seen.max as f64),
            ],
        }
    }
}

impl Seen {
    /// Adds the values of a sample: one for each CPU, or a single one.
    fn take(&mut self, values: &[u64]) {
        let total = values.iter().fold(0u64, |a, b| a.wrapping_add(*b));
        self.looks += 1;
        self.sum +=
            values.iter().map(|value| *value as f64).sum::<f64>() / values.len().max(1) as f64;
        self.max = values.iter().copied().fold(self.max, u64::max);
        if let Some(last) = self.last.replace(total) {
            // A counter that has decreased was reset, so it has grown from 0.
            let grown = total.checked_sub(last).unwrap_or(total);
            self.grown = self.grown.saturating_add(grown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_add_up() {
        let mut seen = Seen::default();
        for values in [[1, 3], [5, 9], [0, 2]] {
            seen.take(&values);
        }
        assert_eq!((seen.looks, seen.max, seen.last), (3, 9, Some(2)));
        // The counter grew from 4 to 14 and, after the reset, from 0 to 2.
        assert_eq!(seen.grown, 12);
        assert_eq!(seen.sum, 2.0 + 7.0 + 1.0);
    }
}
