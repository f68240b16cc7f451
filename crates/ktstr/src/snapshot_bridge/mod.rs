//! The store of captures, shared between the run loop and the test's callbacks; and, for a test without a machine, the one
//! that captures by a callback of its own.

mod callbacks;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ktstr_assert::series::DrainedSnapshotEntry;
use ktstr_introspect::report::FailureDumpReport;
use ktstr_introspect::snapshot::MissingStatsReason;
use ktstr_scenario::ops::KernelValue;
use serde_json::Value;

use self::callbacks::Callbacks;
pub use self::callbacks::{
    BridgeGuard, CaptureCallback, KernelOp, KernelOpCallback, WatchRegisterCallback,
};

/// Captures kept; the oldest goes first.
const CAP: usize = 64;
/// Variables of the kernel that a scenario can watch.
pub const MAX_WATCH_SNAPSHOTS: usize = ktstr_machine::MAX_WATCHED;
/// Events kept; the oldest goes first.
const EVENTS: usize = 1024;

/// Processes of a cgroup at the moment when `Op::capture_cgroup_procs` ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupProcsSnapshot {
    /// What the operation stored it under.
    pub tag: String,
    /// The name of the cgroup.
    pub cgroup: String,
    /// Process ids as the guest counts them, in the order of `cgroup.procs`.
    pub pids: Vec<i32>,
}

/// Captures by tag, in the order they were taken. Clones share one store; draining empties it.
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

    /// Stores a capture; the same tag again replaces the older one.
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

    /// Stores a report of which nothing but the tag is known.
    pub fn store(&self, tag: impl Into<String>, report: FailureDumpReport) {
        self.store_entry(DrainedSnapshotEntry::new(tag, report));
    }

    /// Stores a report with the scheduler's statistics, and the guest milliseconds since the scenario started.
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

    /// The same, taken in the step `step_index`: 0 is the baseline, 1 the first step.
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

    /// Whether a capture has this tag.
    pub fn has(&self, tag: &str) -> bool {
        self.entries().iter().any(|entry| entry.tag == tag)
    }

    /// Whether one more capture would drop the oldest.
    pub(crate) fn is_full(&self) -> bool {
        self.entries().len() >= CAP
    }

    /// How many captures are stored.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    /// Periodic captures that hold data.
    pub fn periodic_real_count(&self) -> u32 {
        self.entries()
            .iter()
            .filter(|e| e.tag.starts_with("periodic_") && !e.report.is_placeholder)
            .count() as u32
    }

    /// Takes all captures out, in order, with everything known of them.
    pub fn drain_ordered_with_stats(&self) -> Vec<DrainedSnapshotEntry> {
        std::mem::take(&mut *self.entries())
    }

    /// Takes all captures out, in order.
    pub fn drain_ordered(&self) -> Vec<(String, FailureDumpReport)> {
        self.drain_ordered_with_stats()
            .into_iter()
            .map(|entry| (entry.tag, entry.report))
            .collect()
    }

    /// Takes all captures out, by their tags.
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

    /// Takes out what happened on this bridge that failed no operation, a sentence each: a capture whose callback had nothing
    /// to give, a tag that was stored again.
    pub fn drain_events(&self) -> Vec<String> {
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn procs(&self) -> MutexGuard<'_, Vec<CgroupProcsSnapshot>> {
        self.procs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a list of processes; the same tag again replaces the older one, and the oldest of more than 64 goes.
    pub fn record_cgroup_procs(&self, list: CgroupProcsSnapshot) {
        let mut procs = self.procs();
        procs.retain(|known| known.tag != list.tag);
        if procs.len() >= CAP {
            procs.remove(0);
        }
        procs.push(list);
    }

    /// The list of processes that has this tag.
    pub fn cgroup_procs_by_tag(&self, tag: &str) -> Option<CgroupProcsSnapshot> {
        self.procs().iter().find(|list| list.tag == tag).cloned()
    }

    fn kernel_ops(&self) -> MutexGuard<'_, Vec<(String, KernelValue)>> {
        let locked = self.kernel_ops.lock();
        locked.unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what `Op::read_kernel_hot` or `Op::read_kernel_cold` has read; the same tag again replaces the older value, and
    /// the oldest of more than 64 goes.
    pub(crate) fn record_kernel_op(&self, tag: String, value: KernelValue) {
        let mut values = self.kernel_ops();
        values.retain(|(known, _)| *known != tag);
        if values.len() >= CAP {
            values.remove(0);
        }
        values.push((tag, value));
    }

    /// What was read of the kernel's memory under this tag.
    pub fn kernel_op_value(&self, tag: &str) -> Option<KernelValue> {
        let values = self.kernel_ops();
        let found = values.iter().find(|(known, _)| known == tag);
        found.map(|(_, value)| value.clone())
    }

    /// Takes all values read of the kernel's memory out, with their tags, in the order they were read.
    pub fn drain_kernel_ops(&self) -> Vec<(String, KernelValue)> {
        std::mem::take(&mut *self.kernel_ops())
    }

    fn watches(&self) -> MutexGuard<'_, Vec<(String, u64)>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts changes of a watched variable.
    pub(crate) fn count_watch(&self, symbol: &str, changes: u64) {
        let mut watches = self.watches();
        match watches.iter_mut().find(|(known, _)| known == symbol) {
            Some((_, count)) => *count += changes,
            None => watches.push((symbol.to_owned(), changes)),
        }
    }

    /// How many variables of the kernel the test watches.
    pub fn watch_count(&self) -> usize {
        self.watches().len()
    }

    /// How often a watched variable was found changed, which is how many captures were taken for it; `None` for one that is
    /// not watched.
    pub fn watch_hits(&self, symbol: &str) -> Option<u64> {
        let watches = self.watches();
        let found = watches.iter().find(|(known, _)| known == symbol);
        found.map(|(_, count)| *count)
    }

    /// Takes all lists of processes out, in the order they were made.
    pub fn drain_cgroup_procs(&self) -> Vec<CgroupProcsSnapshot> {
        std::mem::take(&mut *self.procs())
    }
}
