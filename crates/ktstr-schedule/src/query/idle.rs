//! Idle CPUs, and idle CPUs that a waiting task could have used.

use serde::Serialize;

use crate::event::CpuMask;

/// The largest number of CPUs that a mask can contain.
const CPUS: usize = u128::BITS as usize;

/// The idle time of a CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Idle {
    /// The time without a task, in nanoseconds.
    pub idle_ns: u64,
    /// The part of `idle_ns` in which a task that may run on this CPU was waiting, in nanoseconds.
    pub beside_waiter_ns: u64,
}

/// Returns the subset of the CPUs `idle` on which some waiting task may run, and the largest number of these CPUs that could
/// have been in use at the same time. A task uses a single CPU, so this is the size of a maximum matching of tasks and CPUs.
pub(super) fn usable(idle: u128, waiting: impl Iterator<Item = CpuMask>) -> (u128, u32) {
    if idle == 0 {
        return (0, 0);
    }
    let mut wanted = 0;
    let mut matching = Matching::default();
    for mask in waiting {
        let here = mask.bits() & idle;
        wanted |= here;
        // A task cannot enlarge the matching if each idle CPU has a task, or if all CPUs on which it may run are settled.
        if here & !matching.settled != 0 && matching.taken.count_ones() < idle.count_ones() {
            matching.add(here);
        }
    }
    (wanted, matching.taken.count_ones())
}

/// A maximum matching of CPUs and the tasks that were added. It is computed by augmenting paths (Berge 1957).
struct Matching {
    /// The CPUs that have a task.
    taken: u128,
    /// For each CPU in `taken`, the CPUs on which its task may run.
    masks: [u128; CPUS],
    /// The CPUs from which no free CPU can be reached, whichever tasks are added later. Failed searches have visited them.
    settled: u128,
}

impl Default for Matching {
    fn default() -> Self {
        Self {
            taken: 0,
            masks: [0; CPUS],
            settled: 0,
        }
    }
}

impl Matching {
    /// Adds a task that may run on the CPUs `mask`. A task that already has a CPU is moved to another one if that makes room.
    fn add(&mut self, mask: u128) {
        // For each CPU that was reached: the CPU whose task would move to it, or the CPU itself if the new task would take it.
        let mut from = [0; CPUS];
        let mut seen = self.settled;
        let mut open = 0u128;
        let mut reach = |mask: u128, by: Option<usize>, seen: &mut u128, open: &mut u128| {
            let new = mask & !*seen;
            for cpu in cpus(new) {
                from[cpu] = by.unwrap_or(cpu);
            }
            *seen |= new;
            *open |= new;
        };
        reach(mask, None, &mut seen, &mut open);
        while open != 0 {
            let cpu = open.trailing_zeros() as usize;
            open &= open - 1;
            if self.taken & (1 << cpu) != 0 {
                reach(self.masks[cpu], Some(cpu), &mut seen, &mut open);
                continue;
            }
            self.taken |= 1 << cpu;
            let mut at = cpu;
            while from[at] != at {
                self.masks[at] = self.masks[from[at]];
                at = from[at];
            }
            self.masks[at] = mask;
            return;
        }
        self.settled = seen;
    }
}

/// Returns the numbers of the CPUs in a mask.
fn cpus(mut mask: u128) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let cpu = (mask != 0).then(|| mask.trailing_zeros() as usize)?;
        mask &= mask - 1;
        Some(cpu)
    })
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

    #[test]
    fn tasks_that_may_only_run_on_the_same_cpu_use_one() {
        let waiting = [mask(0b001), mask(0b001), mask(0b110)];
        assert_eq!(usable(0b111, waiting.into_iter()), (0b111, 2));
        // The first task moves to another CPU, so that the second task gets a CPU, too.
        let waiting = [mask(0b011), mask(0b001)];
        assert_eq!(usable(0b111, waiting.into_iter()), (0b011, 2));
    }

    /// Returns the largest number of CPUs that tasks with these masks can use, by trying every choice.
    fn tried(idle: u64, masks: &[u64]) -> u32 {
        let Some((first, rest)) = masks.split_first() else {
            return 0;
        };
        let with = cpus(u128::from(first & idle)).map(|cpu| 1 + tried(idle & !(1 << cpu), rest));
        with.max().unwrap_or(0).max(tried(idle, rest))
    }

    proptest::proptest! {
        #[test]
        fn the_matching_is_as_large_as_any_choice(
            idle in 0..64u64,
            masks in proptest::collection::vec(0..64u64, 0..6),
        ) {
            let waiting = masks.iter().map(|bits| mask(*bits));
            let (_, number) = usable(u128::from(idle), waiting);
            proptest::prop_assert_eq!(number, tried(idle, &masks));
        }
    }
}
