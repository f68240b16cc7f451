//! Sums, and the keys by which they are kept.

use std::ops::Add;

use serde::Serialize;

use super::Phase;
use crate::event::{Cpu, Pid};

/// The key of a sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The phase of the scenario.
    pub phase: Phase,
    /// The task to which the time belongs.
    pub task: Pid,
    /// The id of the task's cgroup; `None` if it is unknown.
    pub cgroup: Option<u64>,
    /// The CPU on which the task ran, or in whose runqueue it waited.
    pub cpu: Cpu,
}

macro_rules! totals {
    ($( $(#[$doc:meta])* $field:ident ),* $(,)?) => {
        /// The values that are added up.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
        pub struct Totals { $( $(#[$doc])* pub $field: u64 ),* }

        impl Totals {
            /// Subtracts `other` field by field, and stops at 0.
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
    /// CPU time, in nanoseconds.
    run_ns,
    /// The part of the CPU time in a known class other than sched_ext's, in nanoseconds.
    other_class_ns,
    /// The part of `other_class_ns` in a class that the kernel serves before sched_ext's, whatever a scheduler does: real-time,
    /// deadline and stop tasks, in nanoseconds.
    higher_class_ns,
    /// The part of the CPU time in sched_ext's class, or in an unknown class, while sched_ext bypassed the BPF scheduler, in
    /// nanoseconds. No time is both in this value and in `other_class_ns`.
    bypass_ns,
    /// The part of the CPU time while sched_ext was off because a CPU had gone online or offline, until a scheduler was loaded
    /// again, in nanoseconds. The three values above do not include it.
    away_ns,
    /// Time in which the task was runnable but not running, in nanoseconds.
    wait_ns,
    /// Time in which the cgroup's quota kept the task from running, in nanoseconds.
    throttled_ns,
    /// The number of times that the task was given a CPU.
    runs,
    /// The number of times that it blocked.
    slept,
    /// The number of times that it was preempted.
    preempted,
    /// The number of times that it yielded.
    yielded,
    /// The number of times that it was woken.
    wakeups,
    /// The number of times that it ran on another CPU than the last time.
    migrations,
    /// The number of those migrations that went to another LLC.
    llc_migrations,
    /// The number of those migrations that went to another NUMA node.
    node_migrations,
    /// The number of times that the BPF scheduler put it into a dispatch queue.
    inserts,
}
