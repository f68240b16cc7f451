//! Sums, and what they are kept by.

use std::ops::Add;

use serde::Serialize;

use super::Phase;
use crate::event::{Cpu, Pid};

/// What a sum belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The phase of the scenario.
    pub phase: Phase,
    /// The task that the time is of.
    pub task: Pid,
    /// The cgroup's id; `None` if it is not known.
    pub cgroup: Option<u64>,
    /// The CPU on which the task ran or in whose runqueue it waited.
    pub cpu: Cpu,
}

macro_rules! totals {
    ($( $(#[$doc:meta])* $field:ident ),* $(,)?) => {
        /// What can be added up.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
        pub struct Totals { $( $(#[$doc])* pub $field: u64 ),* }

        impl Totals {
            /// What is left of it without `other`.
            pub(super) fn less(self, other: Self) -> Self {
                Self { $( $field: self.$field.saturating_sub(other.$field) ),* }
            }
        }

        impl Add for Totals {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self { $( $field: self.$field.saturating_add(other.$field) ),* }
            }
        }
    };
}

totals! {
    /// CPU time, nanoseconds.
    run_ns,
    /// Of it, CPU time in another class than sched_ext's.
    other_class_ns,
    /// Of it, CPU time while sched_ext bypassed the BPF scheduler.
    bypass_ns,
    /// CPU time while sched_ext was off because a CPU had gone on or off line, until a scheduler was loaded again. It is
    /// neither of the two above.
    away_ns,
    /// Time in which the task could have run and did not, nanoseconds.
    wait_ns,
    /// Time in which the cgroup's quota kept the task from running, nanoseconds.
    throttled_ns,
    /// Times that the task was given a CPU.
    runs,
    /// Times that it blocked.
    slept,
    /// Times that it was preempted.
    preempted,
    /// Times that it yielded.
    yielded,
    /// Times that it was woken.
    wakeups,
    /// Times that it ran on another CPU than the time before.
    migrations,
    /// Of them, those to another LLC.
    llc_migrations,
    /// Of them, those to another NUMA node.
    node_migrations,
    /// Times that the BPF scheduler put it into a dispatch queue.
    inserts,
}
