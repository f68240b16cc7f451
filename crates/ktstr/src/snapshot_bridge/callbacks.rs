//! A bridge that calls functions of the test: with it, operations of a scenario that need a host can be tested without
//! a machine.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use ktstr_assert::series::DrainedSnapshotEntry;
use ktstr_guest::link;
use ktstr_guest::protocol::Ask;
use ktstr_scenario::ops::{KernelTarget, KernelValue, KernelValueWidth};
use ktstr_snapshot::report::FailureDumpReport;

use super::{CgroupProcsSnapshot, MAX_WATCH_SNAPSHOTS, SnapshotBridge};

/// Takes the capture for the given tag. `None` means that there is nothing to capture, which is recorded as an event and
/// is no error.
pub type CaptureCallback = Arc<dyn Fn(&str) -> Option<FailureDumpReport> + Send + Sync>;

/// Arms a watch on the kernel variable of this name. An error is the reason why it cannot be watched.
pub type WatchRegisterCallback = Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// Reads or writes kernel memory. Returns a value for a read and `None` for a write. An error is the reason why the access
/// failed.
pub type KernelOpCallback =
    Arc<dyn Fn(&KernelOp) -> Result<Option<KernelValue>, String> + Send + Sync>;

/// A request of an operation for access to kernel memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelOp {
    /// The request of `Op::read_kernel_hot` and `Op::read_kernel_cold`.
    Read {
        /// The location that is read.
        target: KernelTarget,
        /// The width and the type of the value.
        width: KernelValueWidth,
        /// Whether the guest is to be stopped during the access.
        cold: bool,
    },
    /// The request of `Op::write_kernel_hot`, `Op::write_kernel_cold` and their batches.
    Write {
        /// The values and their locations.
        writes: Vec<(KernelTarget, KernelValue)>,
        /// Whether the guest is to be stopped during the access.
        cold: bool,
    },
}

/// The callbacks of a bridge.
#[derive(Clone, Default)]
pub(super) struct Callbacks {
    capture: Option<CaptureCallback>,
    watch: Option<WatchRegisterCallback>,
    kernel: Option<KernelOpCallback>,
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks")
            .field("capture", &self.capture.is_some())
            .field("watch", &self.watch.is_some())
            .field("kernel", &self.kernel.is_some())
            .finish()
    }
}

/// Lets a bridge take the place of the host on this thread, until the guard is dropped.
#[derive(Debug)]
#[must_use = "the bridge is out of use when the guard is dropped"]
pub struct BridgeGuard {
    _answers: link::AnswersGuard,
}

impl SnapshotBridge {
    /// Creates a bridge that takes captures by calling `capture`.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use ktstr::prelude::*;
    ///
    /// let bridge = SnapshotBridge::new(Arc::new(|_tag| Some(FailureDumpReport::default())));
    /// assert!(bridge.capture("before"));
    /// assert!(bridge.has("before"));
    /// ```
    pub fn new(capture: CaptureCallback) -> Self {
        let mut bridge = Self::default();
        bridge.callbacks.capture = Some(capture);
        bridge
    }

    /// Returns the bridge with `register` as the function that arms the watches of `Op::watch_snapshot`.
    pub fn with_watch_register(mut self, register: WatchRegisterCallback) -> Self {
        self.callbacks.watch = Some(register);
        self
    }

    /// Returns the bridge with `access` as the function that reads and writes kernel memory.
    pub fn with_kernel_op(mut self, access: KernelOpCallback) -> Self {
        self.callbacks.kernel = Some(access);
        self
    }

    /// Lets this bridge take the place of the host for the requests of operations on this thread: captures, watches,
    /// lists of processes, and kernel memory. If several bridges are installed, the last one answers.
    pub fn set_thread_local(&self) -> BridgeGuard {
        let bridge = self.clone();
        BridgeGuard {
            _answers: link::answer_on_this_thread(Rc::new(move |ask| bridge.answer(ask))),
        }
    }

    /// Takes a capture by calling the callback, and stores it under `tag`. Returns `false` if there is no callback, or if
    /// the callback had nothing to capture.
    pub fn capture(&self, tag: &str) -> bool {
        self.capture_in(tag, None)
    }

    /// Does the same as [`Self::capture`], for a capture in the phase `step_index`: 0 is the baseline, 1 the first step.
    pub fn capture_with_step(&self, tag: &str, step_index: u16) -> bool {
        self.capture_in(tag, Some(step_index))
    }

    fn capture_in(&self, tag: &str, step_index: Option<u16>) -> bool {
        let report = match &self.callbacks.capture {
            Some(capture) => capture(tag),
            None => None,
        };
        let Some(report) = report else {
            self.log_event(format!("there was nothing to capture for {tag:?}"));
            return false;
        };
        let mut entry = DrainedSnapshotEntry::new(tag, report);
        entry.step_index = step_index;
        self.store_entry(entry);
        true
    }

    /// Arms a watch on a kernel variable by calling the callback for watches.
    ///
    /// # Errors
    /// Returns an error if the bridge has no such callback, if it watches [`MAX_WATCH_SNAPSHOTS`] other variables already,
    /// or if the callback cannot watch the variable; the error is then the callback's reason.
    pub fn register_watch(&self, symbol: &str) -> Result<(), String> {
        let Some(register) = &self.callbacks.watch else {
            return Err(format!(
                "{symbol} cannot be watched: the bridge has no callback for watches (SnapshotBridge::with_watch_register)"
            ));
        };
        let armed = self.watch_count();
        if armed >= MAX_WATCH_SNAPSHOTS && self.watch_hits(symbol).is_none() {
            return Err(format!(
                "{symbol} cannot be watched: the scenario has {armed} watches, and no more than {MAX_WATCH_SNAPSHOTS} are possible"
            ));
        }
        register(symbol)?;
        self.count_watch(symbol, 0);
        Ok(())
    }

    /// Returns this bridge's answer in place of the host. Returns `None`, which leaves the request to the host, for the writes
    /// of `bpf_map_write`, and for an access to kernel memory if the bridge has no callback for it.
    fn answer(&self, ask: &Ask) -> Option<Result<(), String>> {
        match ask {
            Ask::Capture { tag, step_index } => {
                // The operation itself succeeds, so a callback that has nothing to capture is only an event.
                self.capture_with_step(tag, *step_index);
                Some(Ok(()))
            }
            Ask::CgroupProcs { tag, cgroup, pids } => {
                self.record_cgroup_procs(CgroupProcsSnapshot {
                    tag: tag.clone(),
                    cgroup: cgroup.clone(),
                    pids: pids.clone(),
                });
                Some(Ok(()))
            }
            Ask::Watch { symbol } => Some(self.register_watch(symbol)),
            Ask::WriteKernel { writes, cold } => {
                let access = self.callbacks.kernel.as_ref()?;
                let op = KernelOp::Write {
                    writes: writes.clone(),
                    cold: *cold,
                };
                Some(access(&op).map(|_| ()))
            }
            Ask::ReadKernel {
                tag,
                target,
                width,
                cold,
            } => {
                let access = self.callbacks.kernel.as_ref()?;
                let op = KernelOp::Read {
                    target: target.clone(),
                    width: *width,
                    cold: *cold,
                };
                Some(match access(&op) {
                    Ok(Some(value)) => {
                        self.record_kernel_op(tag.clone(), value);
                        Ok(())
                    }
                    Ok(None) => Err(format!(
                        "the callback of the bridge read no value for {tag:?}"
                    )),
                    Err(why) => Err(why),
                })
            }
            Ask::WriteMaps => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use ktstr_guest::cgroup::CgroupManager;
    use ktstr_scenario::ops::{HoldSpec, Op, Step};
    use ktstr_scenario::topology::{TestTopology, Topology};

    use super::*;
    use crate::scenario::Ctx;
    use crate::scenario::ops::execute_steps;

    /// Runs these operations on the host, and returns the failures.
    fn host_steps(ops: Vec<Op>) -> Vec<String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cgroups = CgroupManager::mounted(folder.path(), folder.path().join("test"));
        let topology = TestTopology::from_vm_topology(&Topology::DEFAULT);
        let ctx = Ctx::builder(&cgroups, &topology).build();
        let hold = HoldSpec::fixed(std::time::Duration::ZERO);
        let step = Step {
            ops,
            hold,
            ..Step::default()
        };
        let result = execute_steps(&ctx, vec![step]).expect("a valid scenario");
        let failed = result.failure_details();
        failed.map(|detail| detail.message.clone()).collect()
    }

    fn report() -> FailureDumpReport {
        FailureDumpReport::default()
    }

    #[test]
    fn operations_reach_the_bridge_of_their_thread() {
        let bridge = SnapshotBridge::new(Arc::new(|tag| (tag != "none").then(report)))
            .with_watch_register(Arc::new(|symbol| match symbol {
                "jiffies" => Ok(()),
                _ => Err(format!("no symbol {symbol}")),
            }))
            .with_kernel_op(Arc::new(|op| {
                Ok(matches!(op, KernelOp::Read { .. }).then_some(KernelValue::U32(7)))
            }));
        let guard = bridge.set_thread_local();
        let place = KernelTarget::symbol("jiffies");
        let messages = host_steps(vec![
            Op::capture_snapshot("one"),
            Op::capture_snapshot("none"),
            Op::watch_snapshot("jiffies"),
            Op::write_kernel_hot(place.clone(), KernelValue::U32(1)),
            Op::read_kernel_cold("read", place, KernelValueWidth::U32),
        ]);
        assert_eq!(messages, Vec::<String>::new());
        assert!(bridge.has("one") && !bridge.has("none"));
        assert_eq!(bridge.watch_hits("jiffies"), Some(0));
        assert_eq!(bridge.kernel_op_value("read"), Some(KernelValue::U32(7)));
        let events = bridge.drain_events();
        assert_eq!(events, ["there was nothing to capture for \"none\""]);

        let failed = host_steps(vec![Op::watch_snapshot("no_such")]);
        assert!(failed[0].contains("no symbol no_such"), "{failed:?}");
        drop(guard);
        let failed = host_steps(vec![Op::capture_snapshot("two")]);
        assert!(failed[0].contains("host_only"), "{failed:?}");
    }

    #[test]
    fn the_last_bridge_answers_and_the_one_before_comes_back() {
        let (first, second) = (
            SnapshotBridge::new(Arc::new(|_| Some(report()))),
            SnapshotBridge::new(Arc::new(|_| Some(report()))),
        );
        let _outer = first.set_thread_local();
        {
            let _inner = second.set_thread_local();
            assert_eq!(
                host_steps(vec![Op::capture_snapshot("a")]),
                Vec::<String>::new()
            );
        }
        assert_eq!(
            host_steps(vec![Op::capture_snapshot("b")]),
            Vec::<String>::new()
        );
        assert!(second.has("a") && !second.has("b"));
        assert!(first.has("b") && !first.has("a"));
    }

    #[test]
    fn a_fourth_watch_is_refused() {
        let bridge =
            SnapshotBridge::new(Arc::new(|_| None)).with_watch_register(Arc::new(|_| Ok(())));
        for symbol in ["a", "b", "c", "a"] {
            assert_eq!(bridge.register_watch(symbol), Ok(()));
        }
        assert!(
            bridge
                .register_watch("d")
                .is_err_and(|why| why.contains("no more than 3"))
        );
        assert!(SnapshotBridge::default().register_watch("a").is_err());
    }

    #[test]
    fn what_is_stored_comes_out_by_tag() {
        let bridge = SnapshotBridge::default();
        bridge.store("x", report());
        bridge.store_with_stats("y", report(), Ok(serde_json::json!({"n": 1})), Some(5));
        bridge.store_with_stats_and_step("x", report(), Ok(serde_json::json!(2)), None, 3);
        assert_eq!(bridge.drain_events().len(), 1);
        let entries = bridge.drain_ordered_with_stats();
        let steps: Vec<_> = entries
            .iter()
            .map(|e| (e.tag.as_str(), e.step_index))
            .collect();
        assert_eq!(steps, [("y", None), ("x", Some(3))]);
        bridge.store("z", report());
        assert!(bridge.drain().contains_key("z") && bridge.is_empty());
    }
}
