//! Records the schedule of a run under the real clock: the kernel's own tracepoints, whose buffers the host reads out of the
//! guest's memory at the end. The tracepoints are on from the boot on, because a kernel patches its code to switch one on, and
//! because a template then has them already.
//!
//! Tracepoints show less than the function entries that are observed under the virtual clock: no affinities, no quotas, no
//! classes of ordinary tasks and no dispatch queues. So such a schedule judges no scheduler. It is for people, and it shows which
//! real-time tasks, of the test or of the harness, took a CPU.

use std::collections::HashMap;

use ktstr_introspect::btf::Member;
use ktstr_introspect::kernel::{KernelError, KernelView};
use ktstr_introspect::memory::GuestMemory;
use ktstr_schedule::{
    Cgroup, Class, Cpu, Event, Pid, Reason, Source, Tables, Topology, What, Writer,
};

use super::{LATEST_NS, nice_of};

/// The clock of the trace: `CLOCK_MONOTONIC`, whose times the guest's messages have, too.
const CLOCK: &str = "mono";
/// The share of the machine's memory that the buffers of all CPUs take together is one in this many.
const MEMORY_SHARE: u64 = 16;
/// The largest size of the buffers of all CPUs together in MiB. The host reads and decodes them at the end of a run.
const BUFFERS_MIB: u64 = 64;
/// The bounds on the size of the buffer of one CPU in KiB. A switch and the wake-up before it take about 150 bytes.
const BUFFER_KIB: std::ops::RangeInclusive<u64> = 64..=4096;

/// The largest number of entries that are read. The buffers of 128 CPUs hold half of that in the shortest entries.
const MAX_ENTRIES: usize = 1 << 23;

/// The flags of a tracepoint's entry for an interrupt (`TRACE_FLAG_HARDIRQ` and `TRACE_FLAG_SOFTIRQ`,
/// `include/linux/trace_events.h`).
const IN_INTERRUPT: u8 = 0x08 | 0x10;
/// The bits of `prev_state` for a task that has exited (`EXIT_DEAD` and `EXIT_ZOMBIE`, `include/linux/sched.h`).
const EXITED: i64 = 0x10 | 0x20;
/// The bit of `prev_state` for a task that is still runnable (`TASK_REPORT_MAX`).
const PREEMPTED: i64 = 0x100;
/// Priorities below this one are real-time (`MAX_RT_PRIO`, `include/linux/sched/prio.h`); negative ones are deadline tasks.
const MAX_RT_PRIO: i32 = 100;

macro_rules! tracepoints {
    ($( $point:ident $system:literal $name:literal as $class:literal [$( $member:literal ),*]; )*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Point { $( $point ),* }

        /// Each tracepoint with its system, its name, the name of its class of events, and the members that are read.
        const TRACEPOINTS: &[(Point, &str, &str, &str, &[&str])] = &[
            $( (Point::$point, $system, $name, $class, &[$( $member ),*]) ),*
        ];
    };
}

tracepoints! {
    Switch "sched" "sched_switch" as "sched_switch" ["prev_pid", "prev_state", "next_pid", "next_prio", "next_comm"];
    Waking "sched" "sched_waking" as "sched_wakeup_template" ["pid"];
    Wakeup "sched" "sched_wakeup" as "sched_wakeup_template" ["pid", "prio", "target_cpu"];
    WakeupNew "sched" "sched_wakeup_new" as "sched_wakeup_template" ["pid", "prio", "target_cpu"];
    Migrate "sched" "sched_migrate_task" as "sched_migrate_task" ["pid", "dest_cpu"];
    Fork "sched" "sched_process_fork" as "sched_process_fork" ["parent_pid", "child_pid"];
    Rename "task" "task_rename" as "task_rename" ["pid", "newcomm"];
    Attach "cgroup" "cgroup_attach_task" as "cgroup_migrate" ["pid", "dst_id", "__data_loc_dst_path"];
}

/// Returns the arguments by which a kernel switches the tracepoints on while it boots, on a machine with this memory and this
/// number of CPUs.
pub(in crate::run) fn kernel_arguments(memory_mib: u64, cpus: u32) -> [String; 3] {
    let events = TRACEPOINTS
        .iter()
        .map(|(_, system, name, ..)| format!("{system}:{name}"));
    let all_mib = (memory_mib / MEMORY_SHARE).min(BUFFERS_MIB);
    let each_kib = all_mib * 1024 / u64::from(cpus.max(1));
    let each_kib = each_kib.clamp(*BUFFER_KIB.start(), *BUFFER_KIB.end());
    [
        format!("trace_event={}", events.collect::<Vec<_>>().join(",")),
        format!("trace_clock={CLOCK}"),
        format!("trace_buf_size={each_kib}K"),
    ]
}

/// What the guest's messages show of a run, in nanoseconds of the guest's `CLOCK_MONOTONIC`.
#[derive(Debug, Default)]
pub(in crate::run) struct Edges {
    /// When the test's process started.
    pub(in crate::run) from_ns: Option<u64>,
    /// When the hold of a step began, with its number, and when a hold ended, with `None`; in order.
    pub(in crate::run) holds: Vec<(u64, Option<u16>)>,
}

/// One entry of the trace, as far as it is read.
#[derive(Debug, Clone, Copy)]
struct Entry {
    time_ns: u64,
    cpu: Cpu,
    /// The task that was running, and whether it was interrupted.
    current: Pid,
    interrupt: bool,
    point: Point,
    /// The values of the members that are numbers, in the order of the table; 0 for the others.
    numbers: [i64; 5],
    /// The member that is a name, which ends at the first zero byte.
    name: [u8; 16],
}

/// The formats of the entries of one kernel.
struct Formats {
    by_type: HashMap<u16, (Point, Vec<Member>)>,
    missing: Vec<String>,
}

impl Formats {
    fn of<M: GuestMemory + ?Sized>(view: &KernelView<'_, M>) -> Self {
        let mut formats = Self {
            by_type: HashMap::new(),
            missing: Vec::new(),
        };
        for (point, _, name, class, members) in TRACEPOINTS {
            match format(view, name, class, members) {
                Ok((number, members)) => {
                    formats.by_type.insert(number, (*point, members));
                }
                Err(_) => formats.missing.push((*name).to_owned()),
            }
        }
        formats
    }

    /// Reads an entry; `None` if it belongs to no tracepoint of the table, or is too short. The second value is the path of the
    /// cgroup to which a task is moved.
    fn read(&self, time_ns: u64, cpu: Cpu, data: &[u8]) -> Option<(Entry, Option<String>)> {
        // `struct trace_entry`: the type, flags, the preemption count and the pid (`include/linux/trace_events.h`).
        let (head, _) = data.split_first_chunk::<8>()?;
        let [type_low, type_high, flags, _, pid @ ..] = *head;
        let (point, members) = self
            .by_type
            .get(&u16::from_le_bytes([type_low, type_high]))?;
        let mut entry = Entry {
            time_ns: time_ns.min(LATEST_NS),
            cpu,
            current: Pid(u32::from_le_bytes(pid)),
            interrupt: flags & IN_INTERRUPT != 0,
            point: *point,
            numbers: [0; 5],
            name: [0; 16],
        };
        let mut path = None;
        for (member, number) in members.iter().zip(&mut entry.numbers) {
            let at = usize::try_from(member.offset()).ok()?;
            let size = usize::try_from(member.size).ok()?;
            let bytes = data.get(at..at.checked_add(size)?)?;
            match size {
                4 => *number = i32::from_le_bytes(bytes.try_into().ok()?).into(),
                8 => *number = i64::from_le_bytes(bytes.try_into().ok()?),
                16 => entry.name = bytes.try_into().ok()?,
                _ => return None,
            }
        }
        if *point == Point::Attach {
            // The offset of the text is in the lower half of the number, and its length in the upper one.
            let place = entry.numbers[2];
            let (at, length) = ((place & 0xffff) as usize, (place >> 16 & 0xffff) as usize);
            let text = data.get(at..at.checked_add(length)?)?;
            path = Some(text_of(text));
        }
        Some((entry, path))
    }
}

/// Returns the number by which the entries of a tracepoint are known, and where the members are.
fn format<M: GuestMemory + ?Sized>(
    view: &KernelView<'_, M>,
    name: &str,
    class: &str,
    members: &[&str],
) -> Result<(u16, Vec<Member>), KernelError> {
    let call = view.symbol(&format!("event_{name}"))?;
    let number = view.member("trace_event_call", "event.type")?;
    let number = view.read_u32(call.wrapping_add(number.offset()))?;
    let class = format!("trace_event_raw_{class}");
    let members = members.iter().map(|member| view.member(&class, member));
    // The number of an event is 16 bits wide in an entry.
    Ok((number as u16, members.collect::<Result<_, _>>()?))
}

fn text_of(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
}

/// Reads the trace of a machine that is stopped, and returns the contents of the schedule's file.
///
/// # Errors
/// If the kernel has no trace, or if its memory cannot be read.
pub(in crate::run) fn read<M: GuestMemory + ?Sized>(
    view: &KernelView<'_, M>,
    topology: Topology,
    edges: &Edges,
) -> Result<Vec<u8>, KernelError> {
    let formats = Formats::of(view);
    let from_ns = edges.from_ns.unwrap_or(0);
    // From this time on, the buffers of all CPUs hold all entries.
    let mut complete_ns = 0;
    let mut overrun = 0;
    let mut entries = Vec::new();
    let mut paths = Vec::new();
    for cpu in 0..topology.llc.len() as u32 {
        let buffer = view.trace_buffer(cpu)?;
        let mut first_ns = None;
        let on = Cpu(u16::try_from(cpu).unwrap_or(u16::MAX));
        buffer.for_each(|time_ns, data| {
            first_ns.get_or_insert(time_ns);
            if time_ns >= from_ns
                && entries.len() < MAX_ENTRIES
                && let Some((entry, path)) = formats.read(time_ns, on, data)
            {
                paths.extend(path.map(|path| (entry.numbers[1].cast_unsigned(), path)));
                entries.push(entry);
            }
        });
        if buffer.overrun > 0 {
            complete_ns = complete_ns.max(first_ns.unwrap_or(u64::MAX)).min(LATEST_NS);
            overrun += buffer.overrun;
        }
    }
    if entries.len() == MAX_ENTRIES {
        // Nobody knows which entries are missing.
        complete_ns = LATEST_NS;
    }
    entries.sort_by_key(|entry| entry.time_ns);
    let mut sketch = Sketch {
        tables: Tables {
            source: Source::Tracepoints,
            topology,
            missing: formats.missing,
            ..Tables::default()
        },
        ..Sketch::default()
    };
    let cgroups = paths.into_iter().map(|(id, path)| (id, Cgroup { path }));
    sketch.tables.cgroups.extend(cgroups);
    let mut holds = edges.holds.iter().peekable();
    if complete_ns > from_ns {
        sketch.writer.leave_out(from_ns, complete_ns, overrun);
    }
    for entry in entries {
        while let Some((at_ns, hold)) = holds.next_if(|(at_ns, _)| *at_ns <= entry.time_ns) {
            sketch.hold(*at_ns, *hold);
        }
        sketch.take(&entry, complete_ns);
    }
    for (at_ns, hold) in holds {
        sketch.hold(*at_ns, *hold);
    }
    Ok(sketch.writer.finish(&sketch.tables))
}

/// Turns entries into events, in order of time.
#[derive(Default)]
struct Sketch {
    writer: Writer,
    tables: Tables,
    names: HashMap<Pid, [u8; 16]>,
    priorities: HashMap<Pid, i32>,
}

impl Sketch {
    fn hold(&mut self, at_ns: u64, hold: Option<u16>) {
        let what = hold.map_or(What::End {}, |number| What::Phase { number });
        self.push(at_ns.min(LATEST_NS), Cpu::UNKNOWN, what);
    }

    fn push(&mut self, time_ns: u64, cpu: Cpu, what: What) {
        self.writer.push(Event { time_ns, cpu, what });
    }

    /// Adds the events that an entry shows. Of an entry before `complete_ns` only what stays true counts, such as a name.
    fn take(&mut self, entry: &Entry, complete_ns: u64) {
        let Entry { time_ns, cpu, .. } = *entry;
        let [first, second, third, fourth, _] = entry.numbers;
        let (task, known) = (pid(first), time_ns >= complete_ns);
        let what = match entry.point {
            Point::Switch => {
                let (prev, next) = (task, pid(third));
                if next != Pid::IDLE {
                    self.name(time_ns, next, entry.name);
                    let (class, changed) = self.priority(time_ns, next, fourth);
                    if changed && known {
                        // Nothing else shows the class of a task that has changed it while it ran.
                        let what = What::Enqueue {
                            task: next,
                            on: cpu,
                            class,
                            wakeup: false,
                        };
                        self.push(time_ns, cpu, what);
                    }
                }
                let reason = match second {
                    _ if prev == Pid::IDLE => Reason::Idle,
                    state if state & EXITED != 0 => Reason::Exited,
                    state if state == 0 || state & PREEMPTED != 0 => Reason::Preempted,
                    _ => Reason::Slept,
                };
                What::Switch { prev, next, reason }
            }
            Point::Waking => What::Wake {
                task,
                waker: entry.current,
                interrupt: entry.interrupt,
            },
            Point::Wakeup | Point::WakeupNew => {
                let (class, _) = self.priority(time_ns, task, second);
                What::Enqueue {
                    task,
                    on: cpu_of(third),
                    class,
                    wakeup: entry.point == Point::Wakeup,
                }
            }
            Point::Migrate => What::Migrate {
                task,
                to: cpu_of(second),
            },
            Point::Fork => What::Fork {
                task: pid(second),
                parent: task,
            },
            Point::Rename => {
                self.names.insert(task, entry.name);
                let name = self.tables.name(&text_of(&entry.name));
                What::Name { task, name }
            }
            Point::Attach => What::Cgroup {
                task,
                cgroup: second.cast_unsigned(),
            },
        };
        if known || what.is_rare() {
            self.push(time_ns, cpu, what);
        }
    }

    /// Notes the name that a task has when it gets a CPU, if that is new.
    fn name(&mut self, time_ns: u64, task: Pid, name: [u8; 16]) {
        if self.names.insert(task, name) != Some(name) {
            let name = self.tables.name(&text_of(&name));
            self.push(time_ns, Cpu::UNKNOWN, What::Name { task, name });
        }
    }

    /// Notes the nice value of a task if its priority is new, and returns its class, and whether the class has changed. The class
    /// of an ordinary task is unknown: it may be that of sched_ext.
    fn priority(&mut self, time_ns: u64, task: Pid, priority: i64) -> (Class, bool) {
        let priority = i32::try_from(priority).unwrap_or(i32::MAX);
        let class = |priority| match priority {
            i32::MIN..0 => Class::Deadline,
            0..MAX_RT_PRIO => Class::RealTime,
            _ => Class::Unknown,
        };
        let before = self.priorities.insert(task, priority);
        if before != Some(priority)
            && let Some(nice) = nice_of(priority)
        {
            self.push(time_ns, Cpu::UNKNOWN, What::Nice { task, nice });
        }
        let now = class(priority);
        (now, before.map_or(Class::Unknown, class) != now)
    }
}

fn pid(number: i64) -> Pid {
    u32::try_from(number).map_or(Pid::UNKNOWN, Pid)
}

fn cpu_of(number: i64) -> Cpu {
    u16::try_from(number).map_or(Cpu::UNKNOWN, Cpu)
}

#[cfg(test)]
#[path = "tracepoints_tests.rs"]
mod tests;
