//! The store of captures, called a bridge. The run loop stores captures in it, and the test's callbacks on the host read them.
//! A test without a machine can also use a bridge. The bridge then gets each capture by calling a function of the test.

mod callbacks;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ktstr_assert::series::DrainedSnapshotEntry;
use ktstr_scenario::ops::KernelValue;
use ktstr_snapshot::report::FailureDumpReport;
use ktstr_snapshot::snapshot::MissingStatsReason;
use serde_json::Value;

use self::callbacks::Callbacks;
pub use self::callbacks::{
    BridgeGuard, CaptureCallback, KernelOp, KernelOpCallback, WatchRegisterCallback,
};

/// The number of captures that are kept. The same limit applies to lists of processes, and to values of kernel memory. One
/// more drops the oldest.
const CAP: usize = 64;
/// The largest number of kernel variables that a scenario can watch.
pub const MAX_WATCH_SNAPSHOTS: usize = ktstr_machine::MAX_WATCHED;
/// The number of events that are kept. One more drops the oldest.
const EVENTS: usize = 1024;

/// The processes of a cgroup at the moment when `Op::capture_cgroup_procs` ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupProcsSnapshot {
    /// The tag under which the operation stored it.
    pub tag: String,
    /// The name of the cgroup.
    pub cgroup: String,
    /// Process IDs as the guest numbers them, in the order of `cgroup.procs`.
    pub pids: Vec<i32>,
}

/// The captures of a run by tag, in the order in which they were stored, and what other operations read: lists of processes,
/// values of kernel memory, and changes of watched variables. All clones of a bridge share this data. Each `drain` method
/// removes only what it returns.
#[derive(Debug, Clone, Default)]
pub struct SnapshotBridge {
    entries: Arc<Mutex<Vec<DrainedSnapshotEntry>>>,
    procs: Arc<Mutex<Vec<CgroupProcsSnapshot>>>,
    kernel_ops: Arc<Mutex<Vec<(String, KernelValue)>>>,
    watches: Arc<Mutex<Vec<(String, u64)>>>,
    events: Arc<Mutex<Vec<String>>>,
    callbacks: Callbacks,
}

impl SnapshotBridge {
    fn entries(&self) -> MutexGuard<'_, Vec<DrainedSnapshotEntry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a capture. A capture with the same tag is replaced, and of more than 64 captures the oldest is dropped.
    pub fn store_entry(&self, entry: DrainedSnapshotEntry) {
        let mut entries = self.entries();
        let before = entries.len();
        entries.retain(|known| known.tag != entry.tag);
        if entries.len() < before {
            self.log_event(format!(
                "the capture {:?} was replaced by a later one",
                entry.tag
            ));
        }
        if entries.len() >= CAP {
            entries.remove(0);
        }
        entries.push(entry);
    }

    /// Stores a report for which only the tag is known.
    pub fn store(&self, tag: impl Into<String>, report: FailureDumpReport) {
        self.store_entry(DrainedSnapshotEntry::new(tag, report));
    }

    /// Stores a report with the scheduler's statistics and the time of the capture, in milliseconds of guest time since
    /// the scenario started.
    pub fn store_with_stats(
        &self,
        tag: impl Into<String>,
        report: FailureDumpReport,
        stats: Result<Value, MissingStatsReason>,
        elapsed_ms: Option<u64>,
    ) {
        let mut entry = DrainedSnapshotEntry::new(tag, report);
        (entry.stats, entry.elapsed_ms) = (stats, elapsed_ms);
        self.store_entry(entry);
    }

    /// Does the same as [`Self::store_with_stats`], for a capture in the phase `step_index`: 0 is the baseline, 1
    /// the first step.
    pub fn store_with_stats_and_step(
        &self,
        tag: impl Into<String>,
        report: FailureDumpReport,
        stats: Result<Value, MissingStatsReason>,
        elapsed_ms: Option<u64>,
        step_index: u16,
    ) {
        let mut entry = DrainedSnapshotEntry::new(tag, report);
        (entry.stats, entry.elapsed_ms) = (stats, elapsed_ms);
        entry.step_index = Some(step_index);
        self.store_entry(entry);
    }

    /// Stores the scheduler's statistics with a capture that was stored before. Nothing happens if there is no such capture.
    pub(crate) fn set_stats(&self, tag: &str, stats: Result<Value, MissingStatsReason>) {
        if let Some(entry) = (self.entries().iter_mut()).find(|entry| entry.tag == tag) {
            entry.stats = stats;
        }
    }

    /// Returns whether a capture with this tag exists.
    pub fn has(&self, tag: &str) -> bool {
        self.entries().iter().any(|entry| entry.tag == tag)
    }

    /// Returns whether one more capture would drop the oldest.
    pub(crate) fn is_full(&self) -> bool {
        self.entries().len() >= CAP
    }

    /// Returns the number of captures.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Returns whether there are no captures.
    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    /// Returns the number of periodic captures that hold data.
    pub fn periodic_real_count(&self) -> u32 {
        self.entries()
            .iter()
            .filter(|e| e.tag.starts_with("periodic_") && !e.report.is_placeholder)
            .count() as u32
    }

    /// Removes all captures and returns them in order, with everything that is known about them.
    pub fn drain_ordered_with_stats(&self) -> Vec<DrainedSnapshotEntry> {
        std::mem::take(&mut *self.entries())
    }

    /// Removes all captures and returns them in order.
    pub fn drain_ordered(&self) -> Vec<(String, FailureDumpReport)> {
        self.drain_ordered_with_stats()
            .into_iter()
            .map(|entry| (entry.tag, entry.report))
            .collect()
    }

    /// Removes all captures, and returns them by tag.
    pub fn drain(&self) -> HashMap<String, FailureDumpReport> {
        self.drain_ordered().into_iter().collect()
    }

    fn log_event(&self, event: String) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() >= EVENTS {
            events.remove(0);
        }
        events.push(event);
    }

    /// Removes and returns the events of this bridge, one sentence each. An event is a callback that had nothing to capture, or a
    /// capture that was replaced because its tag was stored again. The operations that caused the events succeeded.
    pub fn drain_events(&self) -> Vec<String> {
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn procs(&self) -> MutexGuard<'_, Vec<CgroupProcsSnapshot>> {
        self.procs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a list of processes. A list with the same tag is replaced, and of more than 64 lists the oldest is
    /// dropped.
    pub fn record_cgroup_procs(&self, list: CgroupProcsSnapshot) {
        let mut procs = self.procs();
        procs.retain(|known| known.tag != list.tag);
        if procs.len() >= CAP {
            procs.remove(0);
        }
        procs.push(list);
    }

    /// Returns the list of processes with this tag; `None` if there is none.
    pub fn cgroup_procs_by_tag(&self, tag: &str) -> Option<CgroupProcsSnapshot> {
        self.procs().iter().find(|list| list.tag == tag).cloned()
    }

    fn kernel_ops(&self) -> MutexGuard<'_, Vec<(String, KernelValue)>> {
        let locked = self.kernel_ops.lock();
        locked.unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a value that `Op::read_kernel_hot` or `Op::read_kernel_cold` has read. A value with the same tag is
    /// replaced, and of more than 64 values the oldest is dropped.
    pub(crate) fn record_kernel_op(&self, tag: String, value: KernelValue) {
        let mut values = self.kernel_ops();
        values.retain(|(known, _)| *known != tag);
        if values.len() >= CAP {
            values.remove(0);
        }
        values.push((tag, value));
    }

    /// Returns the value that was read from kernel memory under this tag; `None` if there is none.
    pub fn kernel_op_value(&self, tag: &str) -> Option<KernelValue> {
        let values = self.kernel_ops();
        let found = values.iter().find(|(known, _)| known == tag);
        found.map(|(_, value)| value.clone())
    }

    /// Removes all values that were read from kernel memory, and returns them with their tags in the order of the
    /// reads.
    pub fn drain_kernel_ops(&self) -> Vec<(String, KernelValue)> {
        std::mem::take(&mut *self.kernel_ops())
    }

    fn watches(&self) -> MutexGuard<'_, Vec<(String, u64)>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to the number of changes of a watched variable. The first call for a variable makes it a watched one.
    pub(crate) fn count_watch(&self, symbol: &str, changes: u64) {
        let mut watches = self.watches();
        match watches.iter_mut().find(|(known, _)| known == symbol) {
            Some((_, count)) => *count += changes,
            None => watches.push((symbol.to_owned(), changes)),
        }
    }

    /// Returns the number of kernel variables that the test watches.
    pub fn watch_count(&self) -> usize {
        self.watches().len()
    }

    /// Returns how many times a watched variable was found changed; `None` for a variable that is not watched. Each change
    /// takes a capture, whose tag is the name of the variable, so only the last of these captures is kept.
    pub fn watch_hits(&self, symbol: &str) -> Option<u64> {
        let watches = self.watches();
        let found = watches.iter().find(|(known, _)| known == symbol);
        found.map(|(_, count)| *count)
    }

    /// Removes all lists of processes, and returns them in the order in which they were made.
    pub fn drain_cgroup_procs(&self) -> Vec<CgroupProcsSnapshot> {
        std::mem::take(&mut *self.procs())
    }
}
