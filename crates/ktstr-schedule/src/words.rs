//! Texts for events, tasks, cgroups, queues and sets of CPUs, so that all commands describe them in the same words.

use std::collections::BTreeMap;

use crate::event::{Cpu, CpuMask, DequeueReason, Event, Pid, Reason, What};
use crate::query::TaskInfo;
use crate::tables::Tables;

/// The flags of a kick (`SCX_KICK_*`, `kernel/sched/ext_internal.h`) with their words.
const KICKS: [(u8, &str); 3] = [
    (1, "if it is idle"),
    (2, "and preempts its task"),
    (4, "and waits for it"),
];

/// The names to which events refer.
#[derive(Debug, Clone, Copy)]
pub struct Words<'a> {
    /// The tables of the schedule, for the paths of cgroups and the number of CPUs.
    pub tables: &'a Tables,
    /// The names of tasks.
    pub tasks: &'a BTreeMap<Pid, TaskInfo>,
}

impl Words<'_> {
    /// Returns a task as `name[pid]`, as `[pid]` if its name is unknown, and the idle task as `idle`. The name is not escaped.
    pub fn task(&self, pid: Pid) -> String {
        let info = self.tasks.get(&pid);
        match (pid, info.and_then(|info| info.name())) {
            (Pid::IDLE, _) => "idle".to_owned(),
            (Pid(pid), Some(name)) => format!("{name}[{pid}]"),
            (Pid(pid), None) => format!("[{pid}]"),
        }
    }

    /// Returns the path of a cgroup, `cgroup` with its id if the path is unknown, or `unknown` without an id.
    pub fn cgroup(&self, id: Option<u64>) -> String {
        match (id, id.and_then(|id| self.tables.cgroups.get(&id))) {
            (_, Some(cgroup)) => cgroup.path.clone(),
            (Some(id), None) => format!("cgroup {id}"),
            (None, _) => "unknown".to_owned(),
        }
    }

    /// Returns the number of CPUs of the machine.
    pub fn cpus(&self) -> usize {
        self.tables.topology.llc.len()
    }

    /// Describes what `event` means for the task `of`, as a predicate without a subject; `None` if the event does not
    /// concern that task, or is a name, a policy, a fork or an exit.
    pub fn of_task(&self, event: &Event, of: Pid) -> Option<String> {
        match event.what {
            What::Switch { next, .. } if next == of => Some(format!("got CPU {}", event.cpu.0)),
            What::Switch { prev, next, reason } if prev == of => {
                let why = match reason {
                    Reason::Slept => "went to sleep",
                    Reason::Preempted => "was preempted",
                    Reason::Yielded => "yielded",
                    Reason::Exited => "exited",
                    Reason::Idle => "was idle",
                };
                let next = self.task(next);
                Some(format!("{why} on CPU {}, next: {next}", event.cpu.0))
            }
            What::Wake {
                task,
                waker,
                interrupt,
            } if task == of => {
                let how = if interrupt {
                    "an interrupt during "
                } else {
                    ""
                };
                Some(format!("was woken by {how}{}", self.task(waker)))
            }
            What::Enqueue {
                task, on, class, ..
            } if task == of => Some(format!("was enqueued on CPU {} (class {class:?})", on.0)),
            What::Dequeue {
                task, on, reason, ..
            } if task == of => Some(match reason {
                DequeueReason::Sleep => format!("was dequeued from CPU {}", on.0),
                DequeueReason::Change => {
                    format!(
                        "was dequeued from CPU {} to be moved or to have its attributes changed",
                        on.0
                    )
                }
                DequeueReason::Throttle => {
                    format!("was dequeued from CPU {}: its cgroup is out of quota", on.0)
                }
            }),
            What::Migrate { task, to } if task == of => {
                Some(format!("was migrated to CPU {}", to.0))
            }
            What::Insert {
                task,
                dsq: id,
                slice_ns,
            } if task == of => Some(format!(
                "was inserted into {} by the BPF scheduler, slice {:.3} ms",
                dsq(id),
                slice_ns as f64 / 1e6
            )),
            What::Affinity { task, mask } if task == of => {
                Some(format!("was confined to {}", cpus(mask, self.cpus())))
            }
            What::Nice { task, nice } if task == of => {
                Some(format!("was given the nice value {nice}"))
            }
            What::Cgroup { task, cgroup } if task == of => Some(format!(
                "was put into the cgroup {}",
                self.cgroup(Some(cgroup))
            )),
            _ => None,
        }
    }

    /// Describes a scheduling event of any task, or a kick, as a sentence without a full stop; `None` for any other event. Names
    /// are not escaped.
    pub fn of_machine(&self, event: &Event) -> Option<String> {
        let of = match event.what {
            What::Kick { cpu, flags } => {
                return Some(format!(
                    "the BPF scheduler kicks CPU {}{}",
                    cpu.0,
                    kick(flags)
                ));
            }
            What::Switch { prev, next, .. } if prev == Pid::IDLE => next,
            What::Switch { prev: task, .. }
            | What::Wake { task, .. }
            | What::Enqueue { task, .. }
            | What::Dequeue { task, .. }
            | What::Migrate { task, .. }
            | What::Insert { task, .. }
            | What::Affinity { task, .. }
            | What::Nice { task, .. } => task,
            _ => return None,
        };
        let what = self.of_task(event, of)?;
        Some(format!("{} {what}", self.task(of)))
    }
}

/// Returns the sentence that says for which time a schedule is complete. It is for a schedule that has lost events to stay within
/// its size limit. `from_ns` is the end of its last gap and `to_ns` the end of the schedule, both in nanoseconds of the kernel's
/// scheduler clock. The text has seconds since `zero_ns`.
pub fn complete_only(from_ns: u64, to_ns: u64, zero_ns: u64) -> String {
    let seconds = |ns: u64| format!("{:.6} s", (ns as f64 - zero_ns as f64) / 1e9);
    format!(
        "The schedule exceeded its size limit: it is complete only from {} to {}, and the output covers only that time.",
        seconds(from_ns),
        seconds(to_ns)
    )
}

/// Returns the words for the flags of a kick, each with a leading space; empty if no flag is set.
pub fn kick(flags: u8) -> String {
    let set = KICKS.iter().filter(|(bit, _)| flags & bit != 0);
    set.map(|(_, words)| format!(" {words}")).collect()
}

/// Returns the name of a dispatch queue by its id (`SCX_DSQ_*`, include/linux/sched/ext.h).
pub fn dsq(id: u64) -> String {
    const BUILTIN: u64 = 1 << 63;
    const LOCAL_ON: u64 = 3 << 62;
    match id {
        _ if id & LOCAL_ON == LOCAL_ON => format!("the local DSQ of CPU {}", id & 0xffff_ffff),
        _ if id == BUILTIN | 1 => "the global DSQ".to_owned(),
        _ if id == BUILTIN | 2 => "the local DSQ".to_owned(),
        _ if id & BUILTIN != 0 => format!("the built-in DSQ {:#x}", id & !BUILTIN),
        _ => format!("DSQ {id:#x}"),
    }
}

/// Names a set of CPUs, such as `CPU 2` or `CPUs 0-3,6`, on a machine with `cpus` CPUs.
pub fn cpus(mask: CpuMask, cpus: usize) -> String {
    let set = ranges(mask, cpus);
    // The text of a single CPU is a number, and neither a range nor a list.
    match set.parse::<usize>() {
        Ok(_) => format!("CPU {set}"),
        Err(_) => format!("CPUs {set}"),
    }
}

/// Formats a set of CPUs as ranges, such as `0-3,6`, on a machine with `cpus` CPUs. An empty set is `none`.
pub fn ranges(mask: CpuMask, cpus: usize) -> String {
    let contains = |cpu| u16::try_from(cpu).is_ok_and(|cpu| mask.contains(Cpu(cpu)));
    let inside = |cpu: usize| cpu < cpus && contains(cpu);
    let mut parts = Vec::new();
    let mut cpu = 0;
    while cpu < cpus {
        if !inside(cpu) {
            cpu += 1;
            continue;
        }
        let first = cpu;
        while inside(cpu + 1) {
            cpu += 1;
        }
        parts.push(match cpu == first {
            true => first.to_string(),
            false => format!("{first}-{cpu}"),
        });
        cpu += 1;
    }
    match parts.is_empty() {
        true => "none".to_owned(),
        false => parts.join(","),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_queues_and_kicks_are_named_as_in_the_kernel() {
        let of = |bits: u64, cpus| ranges(CpuMask([bits, 0]), cpus);
        assert_eq!(of(0b1101_0111, 8), "0-2,4,6-7");
        assert_eq!(of(u64::MAX, 4), "0-3");
        assert_eq!(of(0, 4), "none");
        let named = |bits: u64| cpus(CpuMask([bits, 0]), 4);
        assert_eq!([named(2), named(6)], ["CPU 1", "CPUs 1-2"]);
        // The kernel's dump has `dsq_id=0x80` for this one.
        assert_eq!(dsq(128), "DSQ 0x80");
        assert_eq!(dsq(1 << 63 | 1), "the global DSQ");
        assert_eq!(dsq(1 << 63 | 2), "the local DSQ");
        assert_eq!(dsq(3 << 62 | 5), "the local DSQ of CPU 5");
        assert_eq!(kick(0), "");
        assert_eq!(kick(1), " if it is idle");
        assert_eq!(kick(2 | 4), " and preempts its task and waits for it");
    }
}
