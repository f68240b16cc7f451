//! Idle CPUs, and idle CPUs that a waiting task could have used.

use serde::Serialize;

use crate::event::CpuMask;

/// The idle time of a CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Idle {
    /// The time without a task, in nanoseconds.
    pub idle_ns: u64,
    /// The part of `idle_ns` in which a task that may run on this CPU was waiting, in nanoseconds.
    pub beside_waiter_ns: u64,
}

/// Returns the subset of the CPUs `idle` on which some waiting task may run, and an upper bound of the number of these CPUs that
/// could have been in use. A task uses a single CPU, so the bound is the number of these CPUs, or the number of the tasks that
/// may run on one of them if that is smaller.
pub(super) fn usable(idle: u128, waiting: impl Iterator<Item = CpuMask>) -> (u128, u32) {
    let mut wanted = 0;
    let mut waiters = 0;
    for mask in waiting {
        let here = mask.bits() & idle;
        wanted |= here;
        waiters += u32::from(here != 0);
    }
    (wanted, waiters.min(wanted.count_ones()))
}

/// Returns the CPU time in nanoseconds between `from` and `to` that waiting tasks could have used on the CPUs `idle`. Each task
/// counts from its own point in time: `waiting` contains (time, affinity) pairs, which are sorted here.
pub(super) fn usable_time(idle: u128, from: u64, to: u64, waiting: &mut [(u64, CpuMask)]) -> u64 {
    waiting.sort_unstable_by_key(|(since, _)| *since);
    let mut sum = 0u64;
    let mut at = from;
    for count in 0..=waiting.len() {
        let until = waiting
            .get(count)
            .map_or(to, |(since, _)| (*since).clamp(at, to));
        if until > at {
            let (_, cpus) = usable(idle, waiting[..count].iter().map(|(_, mask)| *mask));
            sum = sum.saturating_add(u64::from(cpus).saturating_mul(until - at));
            at = until;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(bits: u64) -> CpuMask {
        CpuMask([bits, 0])
    }

    #[test]
    fn a_waiter_counts_from_its_own_point_in_time() {
        let all = CpuMask::ALL;
        let time = |waiting: &mut [(u64, CpuMask)]| usable_time(0b11, 100, 200, waiting);
        assert_eq!(time(&mut []), 0);
        assert_eq!(time(&mut [(50, all)]), 100);
        assert_eq!(time(&mut [(250, all), (150, all)]), 50);
        assert_eq!(time(&mut [(180, all), (120, all), (190, all)]), 80 + 20);
    }

    #[test]
    fn one_waiter_can_use_one_cpu() {
        let all = [CpuMask::ALL];
        assert_eq!(usable(0b1110, all.into_iter()), (0b1110, 1));
        assert_eq!(usable(0b1110, [mask(1)].into_iter()), (0, 0));
        let two = [mask(0b0010), mask(0b0011)];
        assert_eq!(usable(0b1110, two.into_iter()), (0b0010, 1));
        assert_eq!(usable(0b1110, [CpuMask::ALL; 5].into_iter()), (0b1110, 3));
        assert_eq!(usable(0, all.into_iter()), (0, 0));
    }
}
