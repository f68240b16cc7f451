//! The metrics of a phase that come from the CPU time of the guest's tasks: the growth of that time between the captures of
//! the phase. The kernel counts a whole timer tick as user time or as system time, depending on what the tick interrupts, so
//! the times of short phases are inaccurate.

use crate::metric::{BuiltinMetric as B, quotients};
use crate::series::Sample;
use ktstr_snapshot::report::TaskEnrichment;
use std::collections::BTreeMap;

/// The tasks of one capture.
struct Tasks<'a> {
    /// The tasks by the address of their `task_struct` and their thread id. The key has both, because the kernel reuses each
    /// of them after a task has ended.
    tasks: BTreeMap<(u64, i32), &'a TaskEnrichment>,
    /// Whether the capture has all tasks of the guest.
    all: bool,
}

impl<'a> Tasks<'a> {
    /// Returns the tasks of a capture; `None` if it has none.
    fn of(sample: &'a Sample<'_>) -> Option<Self> {
        let listed = sample.snapshot.task_enrichments();
        // Process 0 is the idle task, whose time is no work.
        let tasks = listed.iter().filter(|task| task.pid > 0);
        (!listed.is_empty()).then(|| Self {
            tasks: tasks.map(|t| ((t.task_kva, t.pid), t)).collect(),
            all: sample.snapshot.task_enrichments_unavailable().is_none(),
        })
    }

    /// Returns by how much the time that `read` reads grew since an earlier capture. A task that is new since then counts
    /// with all of its time if the earlier capture has all tasks, and a task that has ended since then does not count.
    fn growth_since(&self, earlier: &Self, read: fn(&TaskEnrichment) -> u64) -> u64 {
        let grown = self
            .tasks
            .iter()
            .filter_map(|(key, now)| match earlier.tasks.get(key) {
                Some(then) => Some(read(now).saturating_sub(read(then))),
                // If the earlier list was cut, the task may be older than that capture.
                None => earlier.all.then(|| read(now)),
            });
        grown.fold(0, u64::saturating_add)
    }
}

/// Returns the metrics of one phase's captures; none if fewer than two of them contain tasks.
pub(super) fn metrics(samples: &[Sample<'_>]) -> BTreeMap<String, f64> {
    let mut out = BTreeMap::new();
    let real = samples.iter().filter(|s| !s.snapshot.is_placeholder());
    let seen: Vec<Tasks<'_>> = real.filter_map(Tasks::of).collect();
    if seen.len() < 2 {
        return out;
    }
    let sum = |read: fn(&TaskEnrichment) -> u64| {
        let pairs = seen.iter().zip(seen.iter().skip(1));
        pairs.fold(0u64, |sum, (then, now)| {
            sum.saturating_add(now.growth_since(then, read))
        })
    };
    let (user, system) = (sum(|task| task.utime_ns), sum(|task| task.stime_ns));
    for (metric, ns) in [
        (B::UserTimeNs, user),
        (B::SystemTimeNs, system),
        (B::ObservedTaskCpuTimeNs, user.saturating_add(system)),
    ] {
        out.insert(metric.def().name.to_owned(), ns as f64);
    }
    quotients(&mut out);
    out
}
