//! `cargo ktstr schedule RUN --timehist`: prints one line for each stretch of time in which a task had a CPU, in the order
//! in which the stretches end. The line shows how long the task had slept before, how long it then waited, how long it ran,
//! and why it stopped. The columns are those of `perf sched timehist`, plus the reason for the stop. The times count from
//! the start of the first step.

use std::collections::HashMap;
use std::io::Write;

use anyhow::Result;
use ktstr_schedule::{Cpu, DequeueReason, Event, Pid, Reason, What};

use super::escape;

/// The recent past of a task.
#[derive(Debug, Clone, Copy, Default)]
struct Task {
    /// When it last left a CPU.
    stopped_ns: Option<u64>,
    /// Since when it has been waiting for a CPU.
    ready_ns: Option<u64>,
    /// When it got its current CPU.
    started_ns: Option<u64>,
    /// Whether its cgroup is out of quota.
    throttled: bool,
}

/// A stretch on a CPU. Times are nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    end_ns: u64,
    cpu: Cpu,
    task: Pid,
    /// The time from the task's previous stop until the task was runnable again; `None` if the schedule lacks either of
    /// these events.
    slept_ns: Option<u64>,
    waited_ns: Option<u64>,
    ran_ns: u64,
    reason: Reason,
}

/// Finds the stretches in the events of a schedule.
#[derive(Debug, Default)]
struct Stretches {
    tasks: HashMap<Pid, Task>,
}

impl Stretches {
    /// Processes the next event, and returns the stretch that ends with it.
    fn take(&mut self, event: &Event) -> Option<Stretch> {
        let now = event.time_ns;
        match event.what {
            What::Enqueue { task, .. } => {
                let task = self.tasks.entry(task).or_default();
                task.throttled = false;
                if task.started_ns.is_none() {
                    task.ready_ns.get_or_insert(now);
                }
                None
            }
            // The task does not wait for a CPU while its cgroup is out of quota.
            What::Dequeue {
                task,
                reason: DequeueReason::Throttle,
                ..
            } => {
                let task = self.tasks.entry(task).or_default();
                (task.throttled, task.ready_ns) = (true, None);
                None
            }
            What::Switch { prev, next, reason } => {
                let ended = self.stop(now, event.cpu, prev, reason);
                self.tasks.entry(next).or_default().started_ns = Some(now);
                // The idle tasks of all CPUs have the same pid, so their state is not kept.
                self.tasks.remove(&Pid(0));
                ended
            }
            _ => None,
        }
    }

    fn stop(&mut self, now: u64, cpu: Cpu, pid: Pid, reason: Reason) -> Option<Stretch> {
        if pid == Pid(0) {
            return None;
        }
        let task = self.tasks.entry(pid).or_default();
        let since = |from: Option<u64>, to: Option<u64>| Some(to?.saturating_sub(from?));
        let ended = task.started_ns.map(|started_ns| Stretch {
            end_ns: now,
            cpu,
            task: pid,
            slept_ns: since(task.stopped_ns, task.ready_ns),
            waited_ns: since(task.ready_ns, Some(started_ns)),
            ran_ns: now.saturating_sub(started_ns),
            reason,
        });
        *task = Task {
            stopped_ns: Some(now),
            // A task that is preempted or yields is runnable at once.
            ready_ns: (matches!(reason, Reason::Preempted | Reason::Yielded) && !task.throttled)
                .then_some(now),
            started_ns: None,
            throttled: task.throttled,
        };
        ended
    }

    /// Forgets the state of all tasks after a gap in the schedule.
    fn forget(&mut self) {
        self.tasks.clear();
    }
}

/// Prints the stretches of tasks that `wanted` accepts. If `phase` is given, only the stretches that end in that phase are
/// printed. Times count from `zero_ns`.
pub(super) fn print(
    out: &mut dyn Write,
    schedule: &ktstr_schedule::Schedule<'_>,
    zero_ns: u64,
    phase: Option<u16>,
    name: impl Fn(Pid) -> String,
    wanted: impl Fn(Pid) -> bool,
) -> Result<()> {
    writeln!(
        out,
        "{:>14}  {:>4}  {:<24} {:>10} {:>10} {:>10}  THEN",
        "TIME S", "CPU", "TASK", "SLEPT MS", "WAITED MS", "RAN MS"
    )?;
    let mut stretches = Stretches::default();
    let mut current = None;
    let mut failed = Ok(());
    schedule.for_each(|event| match event {
        Ok(event) => {
            match event.what {
                What::Phase { number } => current = Some(number),
                What::End {} => current = None,
                _ => {}
            }
            let in_phase = phase.is_none() || current == phase;
            if let Some(stretch) = stretches.take(event)
                && in_phase
                && wanted(stretch.task)
                && failed.is_ok()
            {
                failed = line(out, &stretch, zero_ns, &name(stretch.task));
            }
        }
        Err(gap) => {
            stretches.forget();
            let ms = gap.to_ns.saturating_sub(gap.from_ns) / 1_000_000;
            if failed.is_ok() {
                failed = writeln!(out, "{:>14}  {ms} ms were left out", "...").map_err(Into::into);
            }
        }
    })?;
    failed
}

fn line(out: &mut dyn Write, stretch: &Stretch, zero_ns: u64, name: &str) -> Result<()> {
    let ms =
        |ns: Option<u64>| ns.map_or_else(|| "-".to_owned(), |ns| format!("{:.3}", ns as f64 / 1e6));
    let then = match stretch.reason {
        Reason::Slept => "slept",
        Reason::Preempted => "preempted",
        Reason::Yielded => "yielded",
        Reason::Exited => "exited",
        Reason::Idle => "idle",
    };
    let name: String = escape(name).chars().take(15).collect();
    writeln!(
        out,
        "{:>14.6}  {:>4}  {:<24} {:>10} {:>10} {:>10}  {then}",
        (stretch.end_ns as f64 - zero_ns as f64) / 1e9,
        stretch.cpu.0,
        format!("{name}[{}]", stretch.task.0),
        ms(stretch.slept_ns),
        ms(stretch.waited_ns),
        ms(Some(stretch.ran_ns)),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ktstr_schedule::{Class, Schedule, Tables, Writer};

    use super::*;

    /// Task 7 runs, is preempted by 8, runs again, sleeps, and is woken.
    fn file() -> Vec<u8> {
        let mut writer = Writer::default();
        let mut push = |ms: u64, what| {
            writer.push(Event {
                time_ns: ms * 1_000_000,
                cpu: Cpu(1),
                what,
            });
        };
        let switch = |prev: u32, next: u32, reason| What::Switch {
            prev: Pid(prev),
            next: Pid(next),
            reason,
        };
        push(1, switch(0, 7, Reason::Idle));
        push(2, What::Phase { number: 1 });
        push(5, switch(7, 8, Reason::Preempted));
        push(6, switch(8, 7, Reason::Slept));
        push(9, switch(7, 0, Reason::Slept));
        let woken = What::Enqueue {
            task: Pid(7),
            on: Cpu(1),
            class: Class::Ext,
            wakeup: true,
        };
        push(12, woken);
        push(14, switch(0, 7, Reason::Idle));
        push(15, What::End {});
        push(16, switch(7, 0, Reason::Slept));
        writer.finish(&Tables::default())
    }

    fn text(phase: Option<u16>, wanted: impl Fn(Pid) -> bool) -> String {
        let file = file();
        let schedule = Schedule::read(&file).unwrap();
        let mut out = Vec::new();
        let name = |pid: Pid| format!("\u{1b}task{}", pid.0);
        print(&mut out, &schedule, 2_000_000, phase, name, wanted).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_stretch_has_its_line() {
        insta::assert_snapshot!(text(None, |_| true), @r"
                TIME S   CPU  TASK                       SLEPT MS  WAITED MS     RAN MS  THEN
              0.003000     1  \u{1b}task7[7]                    -          -      4.000  preempted
              0.004000     1  \u{1b}task8[8]                    -          -      1.000  slept
              0.007000     1  \u{1b}task7[7]                0.000      1.000      3.000  slept
              0.014000     1  \u{1b}task7[7]                3.000      2.000      2.000  slept
        ");
    }

    /// The task is out of quota from 3 to 10 ms, and waits for a CPU from 10 to 12 ms.
    #[test]
    fn time_out_of_quota_is_no_wait() {
        let switch = |prev, next, reason| What::Switch {
            prev: Pid(prev),
            next: Pid(next),
            reason,
        };
        let (on, class) = (Cpu(1), Class::Fair);
        let throttled = What::Dequeue {
            task: Pid(7),
            on,
            class,
            reason: DequeueReason::Throttle,
        };
        let refilled = What::Enqueue {
            task: Pid(7),
            on,
            class,
            wakeup: false,
        };
        let events = [
            (1, switch(0, 7, Reason::Idle)),
            (3, throttled),
            (3, switch(7, 0, Reason::Preempted)),
            (10, refilled),
            (12, switch(0, 7, Reason::Idle)),
            (15, switch(7, 0, Reason::Slept)),
        ];
        let mut stretches = Stretches::default();
        let waits = events.into_iter().filter_map(|(ms, what)| {
            let time_ns = ms * 1_000_000;
            let ended = stretches.take(&Event {
                time_ns,
                cpu: on,
                what,
            })?;
            Some(ended.waited_ns)
        });
        assert_eq!(waits.collect::<Vec<_>>(), [None, Some(2_000_000)]);
    }

    #[test]
    fn a_task_and_a_phase_can_be_asked_for() {
        let one = text(None, |pid| pid == Pid(8));
        assert_eq!(one.lines().count(), 2, "{one}");
        let phase = text(Some(1), |_| true);
        assert_eq!(phase.lines().count(), 4, "{phase}");
        assert_eq!(text(Some(2), |_| true).lines().count(), 1);
    }
}
