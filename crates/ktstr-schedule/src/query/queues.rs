//! The runqueues on which a task waits. A task that waits can be moved to another runqueue: by a balancer, by a change of its
//! affinity, or by the CPU that takes it in order to run it.

use super::state::{Doing, Task};
use crate::event::Cpu;

/// If a task gets a CPU within this many nanoseconds after it was moved to that CPU's runqueue, the CPU took the task in order to
/// run it. In that case the task did not wait on that runqueue.
pub(super) const TAKEN_NS: u64 = 50_000;

/// The runqueues of a wait, in order: each CPU with the time from which the task was on its runqueue, in nanoseconds of the
/// kernel's scheduler clock. The first time is the start of the wait.
pub type Queues = Vec<(u64, Cpu)>;

impl Task {
    /// Notes that the task is on the runqueue of `cpu` from `now_ns` on.
    pub fn requeue(&mut self, cpu: Cpu, now_ns: u64) {
        if cpu != self.queue && matches!(self.doing, Doing::Waiting { .. }) {
            if self.queues.is_empty() {
                self.queues.push((self.since_ns, self.queue));
            }
            // The clock of the new CPU can be behind that of the one before.
            let last = self.queues.last().map_or(0, |(at, _)| *at);
            self.queues.push((now_ns.max(last), cpu));
        }
        self.queue = cpu;
    }

    /// Returns the CPU on whose runqueue the task was for the longest part of its wait, which ends at `to_ns`. If the wait ends
    /// because the task gets a CPU (`served`), a move by which that CPU took the task does not count.
    pub fn waited_on(&self, to_ns: u64, served: bool) -> Cpu {
        let queues = self.queues_until(to_ns, served);
        let ends = queues.iter().skip(1).map(|(from, _)| *from).chain([to_ns]);
        let lengths = queues.iter().zip(ends);
        // Of equally long parts the last one counts.
        let longest = lengths.max_by_key(|((from, _), to)| to.saturating_sub(*from));
        longest.map_or(self.queue, |((_, cpu), _)| *cpu)
    }

    /// Returns the runqueues of the task's wait, which ends at `to_ns`, without those onto which a CPU took the task in order to
    /// run it; empty if the task was not moved.
    pub fn queues_until(&self, to_ns: u64, served: bool) -> &[(u64, Cpu)] {
        let taken = |(at, _): &&(u64, Cpu)| served && to_ns.saturating_sub(*at) <= TAKEN_NS;
        let moves = self.queues.iter().skip(1).rev();
        let left = self.queues.len() - moves.take_while(taken).count();
        &self.queues[..left]
    }
}
