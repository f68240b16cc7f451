//! Removes two kinds of CPUs from the mask of each waiting task, so that the checks do not hold them against the scheduler:
//! CPUs that are offline, and CPUs that the task has been allowed to use for only a short time.
//!
//! Schedulers balance their queues gradually. The load balancer of the fair class looks for work on behalf of an idle
//! CPU as rarely as every 512 ms after it has found nothing but pinned tasks (`MAX_PINNED_INTERVAL`,
//! kernel/sched/fair.c, 7.0), so after a cpuset is widened, a new CPU may stay idle for that long although tasks of that
//! cpuset wait. `BALANCING_MS` is about twice that. The checks on the exact schedule make the same allowance.

use std::collections::HashMap;

use super::{CpuSnapshot, MonitorSample};

/// The time for which a CPU does not yet count for a waiting task, in milliseconds. It starts with the last sample in
/// which the task's mask lacked the CPU.
const BALANCING_MS: u64 = 1000;

/// Removes CPUs from the `allowed` masks of the waiting tasks in each sample: the CPUs that are offline, and the CPUs
/// that the mask of the same task lacked in a sample less than a second earlier. The samples are ordered by time.
pub(super) fn limit(samples: &mut [MonitorSample]) {
    // For each task, its recent masks, and when the task was last seen with each of them.
    let mut seen: HashMap<i32, Vec<(Vec<u64>, u64)>> = HashMap::new();
    let mut before = None;
    for sample in samples {
        let now = sample.elapsed_ms;
        if before.is_some_and(|before| now <= before) {
            // The next scenario begins: its times start at 0 again.
            seen.clear();
        }
        before = Some(now);
        let is_offline = |(cpu, snapshot): (usize, &CpuSnapshot)| {
            (snapshot.online == Some(false)).then_some(cpu)
        };
        let offline: Vec<usize> = sample
            .cpus
            .iter()
            .enumerate()
            .filter_map(is_offline)
            .collect();
        let waiting = sample.cpus.iter_mut().flat_map(|cpu| &mut cpu.waiting);
        for task in waiting.flatten() {
            let masks = seen.entry(task.pid).or_default();
            masks.retain(|(_, at)| now.saturating_sub(*at) < BALANCING_MS);
            match masks.iter_mut().find(|(mask, _)| *mask == task.allowed) {
                Some((_, at)) => *at = now,
                None => masks.push((task.allowed.clone(), now)),
            }
            for cpu in &offline {
                if let Some(word) = task.allowed.get_mut(cpu / 64) {
                    *word &= !(1 << (cpu % 64));
                }
            }
            for (mask, _) in masks.iter() {
                for (i, word) in task.allowed.iter_mut().enumerate() {
                    *word &= mask.get(i).copied().unwrap_or(0);
                }
            }
        }
    }
}
