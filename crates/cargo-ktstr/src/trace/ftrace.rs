//! Writes switches and wake-ups as `sched_switch`, `sched_waking` and `sched_wakeup_new` events, in bundles of one CPU each.

use std::collections::{BTreeMap, HashMap, HashSet};

use ktstr_schedule::{Cpu, DequeueReason, Event, Pid, ReadError, Reason, Schedule, What};

use super::protobuf::Message;
use super::{PACKET_FTRACE, Packets, Part};
use crate::story::Story;

// Field numbers of a bundle, of an event, and of the kinds of events (protos/perfetto/trace/ftrace/ of Perfetto).
const BUNDLE_CPU: u32 = 1;
const BUNDLE_EVENT: u32 = 2;
const EVENT_TIME: u32 = 1;
const EVENT_PID: u32 = 2;
const EVENT_SWITCH: u32 = 4;
const EVENT_FLAGS: u32 = 5;
const EVENT_WAKING: u32 = 20;
const EVENT_WAKEUP_NEW: u32 = 114;
/// The priority that the trace gives every task, which is the priority of nice 0
/// (`DEFAULT_PRIO` in include/linux/sched/prio.h).
const PRIORITY: u64 = 120;
/// The flag of an event inside an interrupt, `TRACE_FLAG_HARDIRQ` (`include/linux/trace_events.h`).
const IN_INTERRUPT: u64 = 8;
/// The largest number of events in a bundle.
const BUNDLE: usize = 2048;

/// Writes the events of this part of the schedule.
pub fn write(
    trace: &mut Packets,
    schedule: &Schedule<'_>,
    story: &Story,
    part: Part,
) -> Result<(), ReadError> {
    let mut writer = Writer {
        trace,
        story,
        part,
        begun: part.from_ns == 0,
        over: false,
        names: HashMap::new(),
        current: BTreeMap::new(),
        wakers: HashMap::new(),
        fresh: HashSet::new(),
        asleep: HashSet::new(),
        moved: HashSet::new(),
        bundles: BTreeMap::new(),
    };
    schedule.for_each(|event| match event {
        Ok(event) => writer.event(event),
        Err(gap) => {
            writer.stop_all(gap.from_ns.min(part.to_ns));
            // What happened to the tasks in the gap is not known.
            writer.asleep.clear();
            writer.moved.clear();
            writer.wakers.clear();
        }
    })?;
    writer.stop_all(story.to_ns.min(part.to_ns));
    writer.done();
    Ok(())
}

/// The task or interrupt that woke a task.
#[derive(Debug, Clone, Copy)]
struct Waker {
    cpu: Cpu,
    task: Pid,
    interrupt: bool,
}

struct Writer<'a> {
    trace: &'a mut Packets,
    story: &'a Story,
    part: Part,
    /// Whether the part that the trace covers has started.
    begun: bool,
    /// Whether that part has ended.
    over: bool,
    /// The current names of the tasks.
    names: HashMap<Pid, u32>,
    /// The task on each CPU, and since when it has been running.
    current: BTreeMap<Cpu, (Pid, u64)>,
    /// What last woke each task.
    wakers: HashMap<Pid, Waker>,
    /// Tasks that were created and have not been enqueued yet.
    fresh: HashSet<Pid>,
    /// Tasks that sleep. The fair class may keep a sleeping task on its queue (`sched_delayed`, Linux 6.12 and later). The next
    /// enqueue of such a task is a wake-up, although the enqueue is not marked as one.
    asleep: HashSet<Pid>,
    /// Tasks that were taken from their queue to be moved or changed.
    moved: HashSet<Pid>,
    /// Events of each CPU that wait for their bundle.
    bundles: BTreeMap<Cpu, Vec<Message>>,
}

impl Writer<'_> {
    fn event(&mut self, event: &Event) {
        let now = event.time_ns;
        if !self.begun && now >= self.part.from_ns {
            self.begin();
        }
        if now > self.part.to_ns && !self.over {
            self.stop_all(self.part.to_ns);
            self.over = true;
        }
        if self.over {
            return;
        }
        match event.what {
            What::Switch { prev, next, reason } => {
                self.switch(now, event.cpu, prev, next, state(reason));
                if reason == Reason::Slept {
                    self.asleep.insert(prev);
                }
                self.asleep.remove(&next);
                self.current.insert(event.cpu, (next, now));
            }
            What::Wake {
                task,
                waker,
                interrupt,
            } => {
                let waker = Waker {
                    cpu: event.cpu,
                    task: waker,
                    interrupt,
                };
                self.wakers.insert(task, waker);
            }
            What::Enqueue {
                task, on, wakeup, ..
            } => {
                let moved = self.moved.remove(&task);
                let wakeup = wakeup || !moved && self.asleep.contains(&task);
                if wakeup {
                    self.asleep.remove(&task);
                }
                self.enqueue(now, task, on, wakeup);
            }
            What::Dequeue { task, reason, .. } => {
                if reason == DequeueReason::Change {
                    self.moved.insert(task);
                }
            }
            What::Name { task, name } => {
                self.names.insert(task, name);
            }
            What::Fork { task, .. } => {
                self.fresh.insert(task);
            }
            What::Migrate { .. }
            | What::Affinity { .. }
            | What::Nice { .. }
            | What::Policy { .. }
            | What::Cgroup { .. }
            | What::Weight { .. }
            | What::Throttle { .. }
            | What::Unthrottle { .. }
            | What::Online { .. }
            | What::Bypass { .. }
            | What::SchedExt { .. }
            | What::Insert { .. }
            | What::Kick { .. }
            | What::Exit { .. }
            | What::Phase { .. }
            | What::End {} => {}
        }
    }

    /// Writes a switch from idle to each task that is running when the part starts.
    fn begin(&mut self) {
        self.begun = true;
        for (cpu, (task, _)) in self.current.clone() {
            let from_ns = self.part.from_ns;
            self.switch(from_ns, cpu, Pid::IDLE, task, 0);
            self.current.insert(cpu, (task, from_ns));
        }
    }

    /// Writes the wake-up of a task that slept or is new. The event has the time of the enqueue, at which waits start in
    /// all tables of ktstr, and not the time of the wake-up call, which may be slightly earlier.
    fn enqueue(&mut self, now: u64, task: Pid, on: Cpu, wakeup: bool) {
        let fresh = self.fresh.remove(&task);
        if self.current.values().any(|(current, _)| *current == task) || !(wakeup || fresh) {
            return;
        }
        let waker = self.wakers.get(&task).copied().filter(|_| wakeup);
        // The fields are comm, pid, prio, success and target_cpu.
        let what = Message::default()
            .text(1, &self.name(task))
            .number(2, u64::from(task.0))
            .number(3, PRIORITY)
            .number(4, 1)
            .number(5, u64::from(on.0));
        let field = if wakeup {
            EVENT_WAKING
        } else {
            EVENT_WAKEUP_NEW
        };
        let cpu = waker.map_or(on, |waker| waker.cpu);
        let mut event = Message::default()
            .number(EVENT_TIME, now)
            .number(EVENT_PID, waker.map_or(0, |waker| u64::from(waker.task.0)));
        if waker.is_some_and(|waker| waker.interrupt) {
            event = event.number(EVENT_FLAGS, IN_INTERRUPT);
        }
        self.push(cpu, event.message(field, &what));
    }

    fn switch(&mut self, now: u64, cpu: Cpu, prev: Pid, next: Pid, prev_state: u64) {
        // The fields are comm, pid, prio and state of the previous task, then comm, pid and prio of the next.
        let what = Message::default()
            .text(1, &self.name(prev))
            .number(2, u64::from(prev.0))
            .number(3, PRIORITY)
            .number(4, prev_state)
            .text(5, &self.name(next))
            .number(6, u64::from(next.0))
            .number(7, PRIORITY);
        let event = Message::default()
            .number(EVENT_TIME, now)
            .number(EVENT_PID, u64::from(prev.0))
            .message(EVENT_SWITCH, &what);
        self.push(cpu, event);
    }

    /// Writes a switch to idle at `now` on each CPU, because after that time the tasks on the CPUs are unknown, or the trace
    /// has ended.
    fn stop_all(&mut self, now: u64) {
        for (cpu, (task, since)) in std::mem::take(&mut self.current) {
            if task != Pid::IDLE {
                self.switch(now.max(since), cpu, task, Pid::IDLE, 0);
            }
        }
    }

    fn name(&self, task: Pid) -> String {
        if task == Pid::IDLE {
            return "swapper".to_owned();
        }
        let name = self.names.get(&task);
        let name = name.and_then(|name| self.story.tables.names.get(*name as usize));
        name.cloned().unwrap_or_default()
    }

    fn push(&mut self, cpu: Cpu, event: Message) {
        if !self.begun {
            return;
        }
        let events = self.bundles.entry(cpu).or_default();
        events.push(event);
        if events.len() >= BUNDLE {
            let events = std::mem::take(events);
            self.bundle(cpu, &events);
        }
    }

    fn bundle(&mut self, cpu: Cpu, events: &[Message]) {
        let bundle = Message::default().number(BUNDLE_CPU, u64::from(cpu.0));
        let bundle = events
            .iter()
            .fold(bundle, |bundle, event| bundle.message(BUNDLE_EVENT, event));
        self.trace
            .push(&Message::default().message(PACKET_FTRACE, &bundle));
    }

    fn done(mut self) {
        for (cpu, events) in std::mem::take(&mut self.bundles) {
            self.bundle(cpu, &events);
        }
    }
}

/// Returns the `prev_state` of `sched_switch` (include/trace/events/sched.h): `TASK_REPORT_MAX` for a preemption,
/// `EXIT_DEAD` for an exit, `TASK_RUNNING` for a yield and for the idle task, and `TASK_INTERRUPTIBLE` for all sleep, since
/// the schedule does not distinguish interruptible from uninterruptible sleep.
fn state(reason: Reason) -> u64 {
    match reason {
        Reason::Slept => 0x1,
        Reason::Preempted => 0x100,
        Reason::Yielded | Reason::Idle => 0,
        Reason::Exited => 0x10,
    }
}
