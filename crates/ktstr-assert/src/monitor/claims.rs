//! The CPUs on which a waiting task has a claim: those that it may use, without the ones that are offline, and without those
//! that it was allowed only a short time ago.
//!
//! Schedulers balance their queues gradually. The kernel's own looks for work on behalf of an idle CPU as rarely as every 512 ms
//! after it has found nothing but pinned tasks (`MAX_PINNED_INTERVAL`, kernel/sched/fair.c, 7.0), so a CPU may idle for that long
//! beside tasks whose cpuset has just been widened. The checks on the exact schedule make the same allowance.

use std::collections::HashMap;

use super::{CpuSnapshot, MonitorSample};

/// The time after which a task has a claim on a CPU that it was newly allowed, in ms.
const BALANCING_MS: u64 = 1000;

/// Removes from the waiting tasks of each sample the CPUs that are offline, and those on which the same task was seen not to be
/// allowed less than a second earlier. The samples are ordered by time.
pub(super) fn limit(samples: &mut [MonitorSample]) {
    // For each task the affinities that it was seen with, and when it was last seen with each.
    let mut seen: HashMap<i32, Vec<(Vec<u64>, u64)>> = HashMap::new();
    for sample in samples {
        let now = sample.elapsed_ms;
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
