//! Idle CPUs, and idle CPUs that somebody could have used.

use serde::Serialize;

use crate::event::CpuMask;

/// What a CPU did not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Idle {
    /// Time without a task, nanoseconds.
    pub idle_ns: u64,
    /// Of it, time in which some task was waiting that may run on this CPU.
    pub beside_waiter_ns: u64,
}

/// Of the CPUs `idle`, those on which one of the waiting tasks may run, and how many of them
/// could have been in use: one waiting task can use one CPU.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(bits: u64) -> CpuMask {
        CpuMask([bits, 0])
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
