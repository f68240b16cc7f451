//! The trail of a task: its last events before a time, and what the other tasks and the scheduler did after these events. For a
//! task that was left waiting, the trail shows what the scheduler did with it last. The BPF scheduler has a trail, too.

use std::collections::VecDeque;

use super::queues::TAKEN_NS;
use crate::event::{Class, Cpu, DequeueReason, Event, Pid, Reason, What};
use crate::words::{Words, dsq};
use crate::{ReadError, Schedule};

/// A kick belongs to a task if a CPU makes it within this time, in nanoseconds, after the same CPU has put the task on a
/// runqueue or into a dispatch queue.
const KICK_NS: u64 = 100_000;

/// What happened on the machine after the last event of a trail, up to the trail's end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Meanwhile {
    /// The CPU on whose runqueue the task was; `None` if it is unknown.
    pub cpu: Option<Cpu>,
    /// The dispatch queue into which the BPF scheduler put the task last; `None` if there was none since the task last
    /// ran or slept.
    pub dsq: Option<u64>,
    /// How often [`Self::cpu`] switched from one task to another.
    pub switches: u64,
    /// How often the BPF scheduler put another task into [`Self::dsq`].
    pub same_queue: u64,
    /// How often the BPF scheduler put another task into any other queue.
    pub other_queues: u64,
    /// How often the BPF scheduler kicked [`Self::cpu`].
    pub kicks: u64,
    /// Whether the task waits, is of the sched_ext class, and was not put into a queue since it last ran. It is `false` in a
    /// bypass, when the kernel itself puts tasks into queues, and if the task last ran in a gap of the schedule.
    pub in_no_queue: bool,
}

/// The last events of a task, or of the BPF scheduler, before a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trail {
    /// The task; `None` for the trail of the BPF scheduler, with what it did with all tasks.
    pub of: Option<Pid>,
    /// The end of the trail, in nanoseconds of the kernel's scheduler clock.
    pub until_ns: u64,
    /// The last events, in order.
    pub events: Vec<Event>,
    /// The number of events before the first of [`Self::events`].
    pub earlier: u64,
    /// What happened after the last event; meaningful only for the trail of a task.
    pub meanwhile: Meanwhile,
    /// Whether the schedule shows a BPF scheduler: its state, its kicks and inserts, or a task in the class of sched_ext. If it
    /// shows none, the trail does not mention what a BPF scheduler did or left undone.
    pub has_bpf: bool,
    /// The time from which the schedule has all events, in nanoseconds of the kernel's scheduler clock; the trail has only
    /// these. `None` if the schedule is complete from its start.
    pub complete_from_ns: Option<u64>,
}

impl Trail {
    /// Reads the last `most` events up to `until_ns`: those of the task `of`, or of the BPF scheduler if `of` is `None`. The
    /// trail of a task ends earlier if the task is being moved at that time to the CPU that runs it next.
    ///
    /// # Errors
    /// If the schedule is damaged.
    pub fn read(
        schedule: &Schedule<'_>,
        of: Option<Pid>,
        until_ns: u64,
        most: usize,
    ) -> Result<Self, ReadError> {
        let until_ns = match of {
            Some(pid) => taken_ns(schedule, pid, until_ns)?,
            None => until_ns,
        };
        let mut kept = VecDeque::with_capacity(most);
        let mut all = 0_u64;
        let mut meanwhile = Meanwhile::default();
        // The time at which the task was last put into a queue, and the CPU that did this.
        let mut put: Option<(u64, Cpu)> = None;
        // Whether the task is already waiting, so that waking it changes nothing.
        let mut waits = false;
        let mut class = Class::Unknown;
        // During a bypass the kernel puts tasks into queues itself.
        let mut bypass = false;
        // Whether all events are known since the task last ran.
        let complete_from_ns = schedule.complete_from_ns();
        let mut known = complete_from_ns.is_none();
        let mut has_bpf = false;
        schedule.for_each(|event| {
            let Ok(event) = event else {
                return;
            };
            has_bpf |= is_of_scheduler(&event.what) || matches!(event.what, What::SchedExt { .. });
            // Events at the time 0 describe the state before the recording.
            if event.time_ns == 0 || event.time_ns > until_ns {
                return;
            }
            if let What::Bypass { on } = event.what {
                bypass = on;
            }
            // Before the end of the last gap only rare events are left, which do not show what happened.
            if complete_from_ns.is_some_and(|from| event.time_ns < from) {
                return;
            }
            let is_kick_for_it = matches!(event.what, What::Kick { .. })
                && put.is_some_and(|(at, cpu)| {
                    cpu == event.cpu && event.time_ns.saturating_sub(at) <= KICK_NS
                });
            let concerns = match of {
                Some(_) if waits && matches!(event.what, What::Wake { .. }) => false,
                Some(pid) => is_kick_for_it || is_of(&event.what, pid),
                None => is_of_scheduler(&event.what),
            };
            if !concerns {
                meanwhile.count(&event.what, event.cpu);
                return;
            }
            all += 1;
            if kept.len() == most {
                kept.pop_front();
            }
            kept.push_back(*event);
            match event.what {
                What::Enqueue { on, class: its, .. } => {
                    class = its;
                    waits = true;
                    meanwhile.cpu = Some(on);
                    put = Some((event.time_ns, event.cpu));
                }
                What::Insert { dsq, .. } => {
                    meanwhile.dsq = Some(dsq);
                    put = Some((event.time_ns, event.cpu));
                }
                What::Migrate { to, .. } => meanwhile.cpu = Some(to),
                What::Dequeue { reason, .. } => {
                    waits = false;
                    if reason == DequeueReason::Sleep {
                        meanwhile.dsq = None;
                        known = true;
                    }
                }
                What::Switch { reason, next, .. } => {
                    put = None;
                    let is_left_runnable = matches!(reason, Reason::Preempted | Reason::Yielded);
                    waits = is_left_runnable && of != Some(next);
                    meanwhile.cpu = Some(event.cpu);
                    if of == Some(next) {
                        meanwhile.dsq = None;
                        known = true;
                    }
                }
                _ => {}
            }
            // Counting starts again after each event of the trail.
            meanwhile = Meanwhile {
                cpu: meanwhile.cpu,
                dsq: meanwhile.dsq,
                in_no_queue: waits
                    && known
                    && class == Class::Ext
                    && meanwhile.dsq.is_none()
                    && !bypass,
                ..Meanwhile::default()
            };
        })?;
        Ok(Self {
            of,
            until_ns,
            earlier: all - kept.len() as u64,
            events: kept.into(),
            meanwhile,
            has_bpf,
            complete_from_ns,
        })
    }

    /// Returns the trail as lines. Times are seconds since `zero_ns`, a time of the kernel's scheduler clock. Names are escaped.
    pub fn lines(&self, words: &Words<'_>, zero_ns: u64) -> Vec<String> {
        let seconds = |ns: u64| format!("{:.6} s", (ns as f64 - zero_ns as f64) / 1e9);
        let who = self.of.map_or_else(
            || "the BPF scheduler".to_owned(),
            |pid| words.task(pid).escape_debug().to_string(),
        );
        let until = seconds(self.until_ns);
        let limit = "the schedule exceeded its size limit";
        let from = match self.complete_from_ns {
            Some(from_ns) if from_ns > self.until_ns => {
                let from = seconds(from_ns);
                return vec![format!(
                    "there is no trail of {who} up to {until}: {limit}, and is complete only from {from} on"
                )];
            }
            from => from.map(seconds),
        };
        let since = from
            .as_ref()
            .map_or_else(String::new, |from| format!(" from {from}"));
        let mut lines = vec![match (self.events.len(), self.earlier) {
            (0, _) => format!("the schedule has no event of {who}{since} up to {until}"),
            (_, 0) => format!("all events of {who}{since} up to {until}:"),
            (shown, earlier) => format!(
                "the last {shown} of {} events of {who}{since} up to {until}:",
                earlier + shown as u64
            ),
        }];
        for event in &self.events {
            let text = match (self.of, event.what) {
                (Some(pid), what) if is_of(&what, pid) => words.of_task(event, pid),
                _ => words.of_machine(event),
            };
            let text = text.unwrap_or_else(|| "changed its settings".to_owned());
            let text = text.escape_debug();
            lines.push(format!("  {}  {text}", seconds(event.time_ns)));
        }
        lines.extend(self.of.and_then(|_| self.rest(words)));
        lines.extend(from.map(|from| format!("  most events before {from} are missing: {limit}")));
        lines
    }

    /// Describes what happened between the last event and the end of the trail; `None` if no time passed, or if the task ran.
    fn rest(&self, words: &Words<'_>) -> Option<String> {
        let last = self.events.last()?;
        let passed = self.until_ns.saturating_sub(last.time_ns);
        let runs = matches!(last.what, What::Switch { next, .. } if Some(next) == self.of);
        if passed == 0 || runs {
            return None;
        }
        let m = &self.meanwhile;
        let mut counts = Vec::new();
        if let Some(cpu) = m.cpu.filter(|cpu| usize::from(cpu.0) < words.cpus()) {
            let mut had = counted(m.switches, "context switch", "es");
            if self.has_bpf {
                had = format!("{had} and {}", counted(m.kicks, "kick", "s"));
            }
            counts.push(format!("CPU {} had {had}", cpu.0));
        }
        if let Some(id) = m.dsq {
            let queue = dsq(id);
            let inserts = counted(m.same_queue, "insert", "s");
            counts.push(format!("{queue} got {inserts} of other tasks"));
        }
        if self.has_bpf {
            let all = m.same_queue + m.other_queues;
            counts.push(format!("all DSQs got {}", counted(all, "insert", "s")));
        }
        let queue = match m.in_no_queue {
            true => "; since it last ran, the BPF scheduler has inserted it into no DSQ",
            false => "",
        };
        let meanwhile = match counts.is_empty() {
            true => String::new(),
            false => format!(". Meanwhile {}", counts.join(", ")),
        };
        Some(format!(
            "  then no event of the task for {:.3} ms{queue}{meanwhile}",
            passed as f64 / 1e6
        ))
    }
}

impl Meanwhile {
    /// Counts an event of CPU `on` that is not in the trail.
    fn count(&mut self, what: &What, on: Cpu) {
        match *what {
            What::Switch { .. } if self.cpu == Some(on) => self.switches += 1,
            What::Insert { dsq, .. } if self.dsq == Some(dsq) => self.same_queue += 1,
            What::Insert { .. } => self.other_queues += 1,
            What::Kick { cpu, .. } if self.cpu == Some(cpu) => self.kicks += 1,
            _ => {}
        }
    }
}

/// Returns the end of the trail of the task `of`, whose wait ends at `until_ns`. A CPU that takes a task from another runqueue
/// first moves it to its own. This move belongs to the end of the wait and not to what led to it, so the trail ends just
/// before the move.
fn taken_ns(schedule: &Schedule<'_>, of: Pid, until_ns: u64) -> Result<u64, ReadError> {
    let near = until_ns.saturating_sub(TAKEN_NS)..=until_ns;
    let mut taken = None;
    schedule.for_each(|event| {
        if let Ok(event) = event
            && let What::Dequeue {
                task,
                reason: DequeueReason::Change,
                ..
            } = event.what
            && task == of
            && near.contains(&event.time_ns)
        {
            taken.get_or_insert(event.time_ns);
        }
    })?;
    Ok(taken.map_or(until_ns, |taken| taken.saturating_sub(1)))
}

/// Returns a count with its noun.
fn counted(count: u64, noun: &str, plural: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}{plural}"),
    }
}

/// Returns whether an event concerns the task `of`. Names, policies, forks and exits are not shown, and do not count.
fn is_of(what: &What, of: Pid) -> bool {
    match *what {
        What::Switch { prev, next, .. } => prev == of || next == of,
        What::Wake { task, .. }
        | What::Enqueue { task, .. }
        | What::Dequeue { task, .. }
        | What::Migrate { task, .. }
        | What::Affinity { task, .. }
        | What::Nice { task, .. }
        | What::Cgroup { task, .. }
        | What::Insert { task, .. } => task == of,
        _ => false,
    }
}

/// Returns whether an event is in the trail of the BPF scheduler: an insert or a kick, which the scheduler decided, or the
/// enqueue or dequeue of a task in the class of sched_ext, which the scheduler has to handle.
fn is_of_scheduler(what: &What) -> bool {
    match *what {
        What::Enqueue { class, .. } | What::Dequeue { class, .. } => class == Class::Ext,
        What::Insert { .. } | What::Kick { .. } => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;
    use crate::query::TaskInfo;
    use crate::{Tables, Topology, Writer};

    const A: Pid = Pid(7);
    const B: Pid = Pid(8);

    fn switch(prev: Pid, next: Pid) -> What {
        What::Switch {
            prev,
            next,
            reason: Reason::Preempted,
        }
    }

    fn enqueue(task: Pid) -> What {
        What::Enqueue {
            task,
            on: Cpu(0),
            class: Class::Ext,
            wakeup: true,
        }
    }

    fn insert(task: Pid, dsq: u64) -> What {
        What::Insert {
            task,
            dsq,
            slice_ns: 5_000_000,
        }
    }

    fn kick() -> What {
        What::Kick {
            cpu: Cpu(0),
            flags: 1,
        }
    }

    /// Returns the lines of a trail in a schedule of these events. There is one event per millisecond, from 1 ms on; a kick has
    /// the time of the event before.
    fn lines(events: &[What], of: Option<Pid>, until_ms: u64, most: usize) -> String {
        let mut writer = Writer::default();
        let mut ms = 0;
        for what in events {
            ms += u64::from(!matches!(what, What::Kick { .. }));
            writer.push(Event {
                time_ns: ms * 1_000_000,
                cpu: Cpu(0),
                what: *what,
            });
        }
        let file = writer.finish(&Tables {
            topology: Topology {
                llc: vec![0, 0],
                node: vec![0, 0],
            },
            ..Tables::default()
        });
        let schedule = Schedule::read(&file).unwrap();
        let named = |name: &str| TaskInfo {
            names: vec![name.to_owned()],
            ..TaskInfo::default()
        };
        let tasks = BTreeMap::from([(A, named("left\n")), (B, named("hog"))]);
        let words = Words {
            tables: schedule.tables(),
            tasks: &tasks,
        };
        let trail = Trail::read(&schedule, of, until_ms * 1_000_000, most).unwrap();
        trail.lines(&words, 1_000_000).join("\n")
    }

    const STARVED: &[What] = &[
        What::Switch {
            prev: A,
            next: B,
            reason: Reason::Slept,
        },
        What::Wake {
            task: A,
            waker: B,
            interrupt: true,
        },
    ];

    #[test]
    fn the_trail_of_a_starved_task_ends_with_what_the_others_did() {
        let mut events = STARVED.to_vec();
        events.extend([enqueue(A), insert(A, 3), kick()]);
        events.extend([insert(B, 3), insert(B, 4), switch(B, Pid::IDLE)]);
        // Waking a task that already waits is not an event of its trail.
        events.extend([STARVED[1]]);
        events.extend([switch(Pid::IDLE, B), insert(B, 3)]);
        // Events after the end of the trail do not count.
        events.extend([switch(B, A)]);
        let text = lines(&events, Some(A), 10, 4);
        assert_eq!(
            text,
            "the last 4 of 5 events of left\\n[7] up to 0.009000 s:\n  \
             0.001000 s  was woken by an interrupt during hog[8]\n  \
             0.002000 s  was enqueued on CPU 0 (class Ext)\n  \
             0.003000 s  was inserted into DSQ 0x3 by the BPF scheduler, slice 5.000 ms\n  \
             0.003000 s  the BPF scheduler kicks CPU 0 if it is idle\n  \
             then no event of the task for 6.000 ms. Meanwhile CPU 0 had 2 context switches and 0 kicks, DSQ 0x3 got 2 inserts \
             of other tasks, all DSQs got 3 inserts"
        );
    }

    #[test]
    fn the_trail_of_a_task_that_runs_or_that_has_no_events_has_no_last_line_about_the_others() {
        let mut events = STARVED.to_vec();
        events.extend([enqueue(A), switch(B, A), enqueue(B)]);
        let text = lines(&events, Some(A), 9, 1);
        assert_eq!(
            text,
            "the last 1 of 4 events of left\\n[7] up to 0.008000 s:\n  0.003000 s  got CPU 0"
        );
        let none = lines(&events, Some(Pid(99)), 9, 8);
        assert_eq!(none, "the schedule has no event of [99] up to 0.008000 s");
    }

    #[test]
    fn the_trail_of_a_task_that_the_scheduler_forgot_says_that_it_is_in_no_queue() {
        let forgotten = [
            enqueue(A),
            insert(A, 3),
            switch(B, A),
            switch(A, B),
            insert(B, 3),
        ];
        let text = lines(&forgotten, Some(A), 9, 1);
        assert!(
            text.ends_with(
                "then no event of the task for 5.000 ms; since it last ran, the BPF scheduler has inserted it into no DSQ. \
                 Meanwhile CPU 0 had 0 context switches and 0 kicks, all DSQs got 1 insert"
            ),
            "{text}"
        );
        // A scheduler may put the task that it preempts into a queue before the CPU switches to another task.
        let queued = [
            enqueue(A),
            insert(A, 3),
            switch(B, A),
            insert(A, 4),
            switch(A, B),
        ];
        let text = lines(&queued, Some(A), 9, 1);
        assert!(
            text.contains("DSQ 0x4 got 0 inserts of other tasks") && !text.contains("no DSQ"),
            "{text}"
        );
    }

    /// The events up to 1.1 ms are dropped. Task 7 was put into a queue before that.
    #[test]
    fn a_trail_covers_only_the_time_in_which_no_event_is_missing() {
        let mut writer = Writer::with_cap(1);
        let mut push = |us: u64, what| {
            let (time_ns, cpu) = (us * 1_000, Cpu(0));
            writer.push(Event { time_ns, cpu, what });
        };
        push(1_000, switch(B, A));
        push(1_050, insert(A, 3));
        push(1_100, enqueue(B));
        push(2_000, What::Phase { number: 1 });
        push(2_100, switch(A, B));
        push(4_000, What::End {});
        let file = writer.finish(&Tables::default());
        let schedule = Schedule::read(&file).unwrap();
        assert_eq!(schedule.complete_from_ns(), Some(1_100_000));
        let words = Words {
            tables: schedule.tables(),
            tasks: &BTreeMap::new(),
        };
        let lines = |until_us: u64, of| {
            let trail = Trail::read(&schedule, Some(of), until_us * 1_000, 4).unwrap();
            trail.lines(&words, 0).join("\n")
        };
        let missing =
            "  most events before 0.001100 s are missing: the schedule exceeded its size limit";
        assert_eq!(
            lines(4_000, A),
            format!(
                "all events of [7] from 0.001100 s up to 0.004000 s:\n  \
                 0.002100 s  was preempted on CPU 0, next: [8]\n  \
                 then no event of the task for 1.900 ms\n{missing}"
            )
        );
        assert_eq!(
            lines(4_000, Pid(99)),
            format!(
                "the schedule has no event of [99] from 0.001100 s up to 0.004000 s\n{missing}"
            )
        );
        assert_eq!(
            lines(1_060, A),
            "there is no trail of [7] up to 0.001060 s: the schedule exceeded its size limit, and is complete only from \
             0.001100 s on"
        );
    }

    /// Under the kernel's own scheduler there are no DSQs, and nothing is kicked.
    #[test]
    fn without_a_bpf_scheduler_the_trail_of_a_task_mentions_none() {
        let fair = What::Enqueue {
            task: A,
            on: Cpu(0),
            class: Class::Fair,
            wakeup: true,
        };
        let mut events = STARVED.to_vec();
        events.extend([fair, switch(B, Pid::IDLE), switch(Pid::IDLE, B)]);
        let text = lines(&events, Some(A), 9, 1);
        assert_eq!(
            text,
            "the last 1 of 3 events of left\\n[7] up to 0.008000 s:\n  \
             0.002000 s  was enqueued on CPU 0 (class Fair)\n  \
             then no event of the task for 6.000 ms. Meanwhile CPU 0 had 2 context switches"
        );
    }

    #[test]
    fn without_a_task_the_trail_is_that_of_the_scheduler() {
        let mut events = STARVED.to_vec();
        events.extend([enqueue(A), insert(A, 3), kick()]);
        let text = lines(&events, None, 9, 3);
        assert_eq!(
            text,
            "all events of the BPF scheduler up to 0.008000 s:\n  \
             0.002000 s  left\\n[7] was enqueued on CPU 0 (class Ext)\n  \
             0.003000 s  left\\n[7] was inserted into DSQ 0x3 by the BPF scheduler, slice 5.000 ms\n  \
             0.003000 s  the BPF scheduler kicks CPU 0 if it is idle"
        );
    }
}
