//! Interprets what the recorder of a schedule, such as the plugin in QEMU, observes at the entries of kernel functions: why a
//! task left its CPU, and whether a dequeue is a sleep or a throttle.

use std::collections::{HashMap, HashSet};

use crate::event::{Class, Cpu, DequeueReason, Event, Pid, Reason, What};

/// Bit 0 of the flags of an enqueue (`ENQUEUE_WAKEUP`) and of a dequeue (`DEQUEUE_SLEEP`): the task was asleep, or goes
/// to sleep (kernel/sched/sched.h).
const SLEEP: u64 = 1;

/// An observation of the recorder at the entry of a kernel function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Raw {
    /// A CPU switches from one task to another.
    Switch {
        /// The task that stops.
        prev: Pid,
        /// The task that starts.
        next: Pid,
        /// Whether `prev` called `sched_yield()` right before.
        yielded: bool,
    },
    /// A class puts a task on a runqueue.
    Enqueue {
        /// The task that is put on the runqueue.
        task: Pid,
        /// The CPU to whose runqueue the task is added.
        on: Cpu,
        /// The scheduling class that it is queued in.
        class: Class,
        /// The kernel's flags `ENQUEUE_*` of the call.
        flags: u64,
    },
    /// A class removes a task from a runqueue.
    Dequeue {
        /// The task that leaves its runqueue.
        task: Pid,
        /// The CPU from whose runqueue the task is removed.
        on: Cpu,
        /// The scheduling class that it was queued in.
        class: Class,
        /// The kernel's flags `DEQUEUE_*` of the call.
        flags: u64,
    },
    /// The current task is about to be dequeued, because its cgroup is out of quota (`throttle_cfs_rq_work`).
    ThrottleWork,
    /// An event that needs no interpretation.
    Plain(What),
}

/// Converts a sequence of observations into events.
#[derive(Debug, Default)]
pub struct Assembler {
    last_ns: u64,
    asleep: HashSet<Pid>,
    dead: HashSet<Pid>,
    throttling: HashMap<Cpu, Pid>,
}

impl Assembler {
    /// Processes an observation that was made on `cpu` while `current` was running there. Returns `None` for an observation that
    /// only prepares a later event.
    ///
    /// The kernel updates a runqueue's clock before it switches, enqueues and dequeues, so these observations have the
    /// time that the kernel itself uses for accounting. At other points the clock may be old, and the latest time of
    /// any CPU is a better approximation.
    pub fn take(&mut self, time_ns: u64, cpu: Cpu, current: Pid, raw: Raw) -> Option<Event> {
        self.last_ns = self.last_ns.max(time_ns);
        let time_ns = match raw {
            Raw::Switch { .. } | Raw::Enqueue { .. } | Raw::Dequeue { .. } => time_ns,
            Raw::ThrottleWork | Raw::Plain(_) => self.last_ns,
        };
        let what = match raw {
            Raw::Switch {
                prev,
                next,
                yielded,
            } => {
                // If `throttle_cfs_rq_work` finds that the group has quota again, it dequeues nothing. So the task may still be
                // noted here as about to be throttled.
                if self.throttling.get(&cpu) == Some(&prev) {
                    self.throttling.remove(&cpu);
                }
                What::Switch {
                    prev,
                    next,
                    reason: self.reason(prev, yielded),
                }
            }
            Raw::Enqueue {
                task,
                on,
                class,
                flags,
            } => {
                self.asleep.remove(&task);
                What::Enqueue {
                    task,
                    on,
                    class,
                    wakeup: flags & SLEEP != 0,
                }
            }
            Raw::Dequeue {
                task,
                on,
                class,
                flags,
            } => {
                let throttled = self.throttling.get(&cpu) == Some(&task);
                if throttled {
                    self.throttling.remove(&cpu);
                }
                let reason = match (flags & SLEEP != 0, throttled) {
                    (true, true) => DequeueReason::Throttle,
                    (true, false) => {
                        self.asleep.insert(task);
                        DequeueReason::Sleep
                    }
                    (false, _) => DequeueReason::Change,
                };
                What::Dequeue {
                    task,
                    on,
                    class,
                    reason,
                }
            }
            Raw::ThrottleWork => {
                self.throttling.insert(cpu, current);
                return None;
            }
            Raw::Plain(what) => {
                match what {
                    What::Exit { task } => {
                        self.dead.insert(task);
                    }
                    What::Fork { task, .. } => {
                        // A pid is reused: what is known of the earlier task does not hold for this one.
                        self.dead.remove(&task);
                        self.asleep.remove(&task);
                    }
                    _ => {}
                }
                what
            }
        };
        Some(Event { time_ns, cpu, what })
    }

    /// Returns the latest time so far, in nanoseconds of the kernel's scheduler clock; 0 before the first observation.
    pub fn last_ns(&self) -> u64 {
        self.last_ns
    }

    fn reason(&self, prev: Pid, yielded: bool) -> Reason {
        if prev == Pid::IDLE {
            Reason::Idle
        } else if self.dead.contains(&prev) {
            Reason::Exited
        } else if self.asleep.contains(&prev) {
            Reason::Slept
        } else if yielded {
            Reason::Yielded
        } else {
            Reason::Preempted
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Pid = Pid(10);
    const B: Pid = Pid(11);
    const ON: Cpu = Cpu(0);

    fn dequeue(task: Pid, flags: u64) -> Raw {
        let class = Class::Fair;
        Raw::Dequeue {
            task,
            on: ON,
            class,
            flags,
        }
    }

    fn reasons(raws: &[Raw]) -> Vec<Reason> {
        let mut assembler = Assembler::default();
        let events = raws.iter().zip(1..);
        events
            .filter_map(|(raw, at)| assembler.take(at, ON, A, *raw))
            .filter_map(|event| match event.what {
                What::Switch { reason, .. } => Some(reason),
                _ => None,
            })
            .collect()
    }

    fn switch(prev: Pid, next: Pid, yielded: bool) -> Raw {
        Raw::Switch {
            prev,
            next,
            yielded,
        }
    }

    #[test]
    fn each_switch_has_the_reason_why_the_task_left_its_cpu() {
        let class = Class::Fair;
        let raws = [
            switch(Pid::IDLE, A, false),
            dequeue(A, SLEEP | 8),
            switch(A, B, false),
            // A runnable task that is dequeued without `DEQUEUE_SLEEP`, as for a new nice value, does not sleep (see below).
            Raw::Enqueue {
                task: A,
                on: ON,
                class,
                flags: 1,
            },
            dequeue(A, 8),
            switch(B, A, true),
            switch(A, B, false),
            Raw::Plain(What::Exit { task: B }),
            dequeue(B, SLEEP),
            switch(B, Pid::IDLE, false),
        ];
        use Reason::{Exited, Idle, Preempted, Slept, Yielded};
        assert_eq!(reasons(&raws), [Idle, Slept, Yielded, Preempted, Exited]);
    }

    #[test]
    fn a_throttled_task_does_not_sleep() {
        let mut assembler = Assembler::default();
        assert_eq!(assembler.take(1, ON, A, Raw::ThrottleWork), None);
        let event = assembler.take(2, ON, A, dequeue(A, SLEEP));
        let Some(What::Dequeue { reason, .. }) = event.map(|event| event.what) else {
            panic!("a dequeue is an event: {event:?}");
        };
        assert_eq!(reason, DequeueReason::Throttle);
        let event = assembler.take(3, ON, A, switch(A, B, false));
        let Some(What::Switch { reason, .. }) = event.map(|event| event.what) else {
            panic!("a switch is an event: {event:?}");
        };
        assert_eq!(reason, Reason::Preempted);
    }

    #[test]
    fn only_an_updated_clock_is_used() {
        let mut assembler = Assembler::default();
        let task = B;
        let raws = [
            (5, switch(A, B, false)),
            (3, Raw::Plain(What::Exit { task })),
            (4, dequeue(B, SLEEP)),
        ];
        let times = raws.map(|(at, raw)| {
            let event = assembler.take(at, ON, A, raw);
            event.map(|event| event.time_ns)
        });
        assert_eq!(times, [Some(5), Some(5), Some(4)]);
    }
}
