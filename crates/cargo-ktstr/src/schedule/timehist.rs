//! `cargo ktstr schedule RUN --timehist`: prints one line for each stretch of time in which a task had a CPU, in the order
//! in which the stretches end. The line shows how long the task had slept before, how long it then waited, how long it ran,
//! and why it stopped. The columns are those of `perf sched timehist`, plus the reason for the stop. The times count from
//! the start of the first step.

use std::collections::HashMap;
use std::io::Write;

use anyhow::Result;
use ktstr_schedule::query::{Did, Stretch, stretches};
use ktstr_schedule::{Cpu, Pid, Reason, Schedule};

use super::escape;
use crate::story::Story;

/// What a task did since it last left a CPU, in nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Before {
    /// How long it slept; `None` if the schedule does not show when it left a CPU.
    slept_ns: Option<u64>,
    /// How long it waited; `None` if the schedule shows no wait.
    waited_ns: Option<u64>,
}

/// A turn of a task: a period, already ended, in which the task had a CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Turn {
    end_ns: u64,
    cpu: Cpu,
    task: Pid,
    slept_ns: Option<u64>,
    waited_ns: Option<u64>,
    ran_ns: u64,
    reason: Reason,
}

/// Combines the stretches of a schedule into turns.
#[derive(Debug, Default)]
struct Turns {
    tasks: HashMap<Pid, Before>,
}

impl Turns {
    /// Takes the next stretch, and returns the turn that ends with it. Time in which a cgroup is out of quota is neither sleep
    /// nor a wait for a CPU.
    fn take(&mut self, stretch: &Stretch) -> Option<Turn> {
        let task = stretch.task;
        let length = stretch.len_ns();
        let before = self.tasks.entry(task).or_default();
        match stretch.did {
            Did::Slept => before.slept_ns = before.slept_ns.map(|ns| ns.saturating_add(length)),
            Did::Waited { .. } => {
                let so_far = before.waited_ns.unwrap_or(0);
                before.waited_ns = Some(so_far.saturating_add(length));
            }
            Did::Throttled => {}
            Did::Ran { cpu, then, .. } => {
                let before = self.tasks.remove(&task)?;
                let reason = then?;
                // After an exit, another task can get the pid, and nothing is known about its past.
                if reason != Reason::Exited {
                    let stopped = Before {
                        slept_ns: Some(0),
                        waited_ns: None,
                    };
                    self.tasks.insert(task, stopped);
                }
                return Some(Turn {
                    end_ns: stretch.to_ns,
                    cpu,
                    task,
                    slept_ns: before.slept_ns,
                    waited_ns: before.waited_ns,
                    ran_ns: length,
                    reason,
                });
            }
        }
        None
    }
}

/// Prints the turns of tasks that `wanted` accepts. If `phase` is given, only the turns that end in that phase are printed.
pub(super) fn print(
    out: &mut dyn Write,
    schedule: &Schedule<'_>,
    story: &Story,
    phase: Option<u16>,
    name: impl Fn(Pid) -> String,
    wanted: impl Fn(Pid) -> bool,
) -> Result<()> {
    writeln!(
        out,
        "{:>14}  {:>4}  {:<24} {:>10} {:>10} {:>10}  THEN",
        "TIME S", "CPU", "TASK", "SLEPT MS", "WAITED MS", "RAN MS"
    )?;
    let zero_ns = story.zero_ns();
    let complete_from_ns = story.answers.complete_from_ns.unwrap_or(0);
    // The start and the end of a step have the time of the event before them. The event before the start is not in the step.
    let is_in_phase = |end_ns: u64| {
        let mut held = story.timeline.held.iter();
        phase.is_none()
            || held.any(|held| {
                Some(held.number) == phase && held.from_ns < end_ns && end_ns <= held.to_ns
            })
    };
    let mut turns = Turns::default();
    let mut failed = Ok(());
    stretches(schedule, |stretch| {
        if stretch.to_ns < complete_from_ns {
            return;
        }
        if let Some(turn) = turns.take(stretch)
            && wanted(turn.task)
            && is_in_phase(turn.end_ns)
            && failed.is_ok()
        {
            failed = line(out, &turn, zero_ns, &name(turn.task));
        }
    })?;
    failed
}

fn line(out: &mut dyn Write, turn: &Turn, zero_ns: u64, name: &str) -> Result<()> {
    let ms =
        |ns: Option<u64>| ns.map_or_else(|| "-".to_owned(), |ns| format!("{:.3}", ns as f64 / 1e6));
    let then = match turn.reason {
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
        (turn.end_ns as f64 - zero_ns as f64) / 1e9,
        turn.cpu.0,
        format!("{name}[{}]", turn.task.0),
        ms(turn.slept_ns),
        ms(turn.waited_ns),
        ms(Some(turn.ran_ns)),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ktstr_schedule::{Class, DequeueReason, Event, Tables, What, Writer};

    use super::*;

    fn switch(prev: u32, next: u32, reason: Reason) -> What {
        What::Switch {
            prev: Pid(prev),
            next: Pid(next),
            reason,
        }
    }

    fn enqueue(class: Class, wakeup: bool) -> What {
        What::Enqueue {
            task: Pid(7),
            on: Cpu(1),
            class,
            wakeup,
        }
    }

    fn dequeue(reason: DequeueReason) -> What {
        What::Dequeue {
            task: Pid(7),
            on: Cpu(1),
            class: Class::Fair,
            reason,
        }
    }

    /// Task 7 runs, is preempted by 8, runs again, sleeps, and is woken.
    fn events() -> Vec<(u64, What)> {
        vec![
            (1, switch(0, 7, Reason::Idle)),
            (2, What::Phase { number: 1 }),
            (5, switch(7, 8, Reason::Preempted)),
            (6, switch(8, 7, Reason::Slept)),
            (9, switch(7, 0, Reason::Slept)),
            (12, enqueue(Class::Ext, true)),
            (14, switch(0, 7, Reason::Idle)),
            (15, What::End {}),
            (16, switch(7, 0, Reason::Slept)),
        ]
    }

    /// Returns the listing of a schedule of these events, which have their times in milliseconds.
    fn of(events: &[(u64, What)], phase: Option<u16>, wanted: impl Fn(Pid) -> bool) -> String {
        let mut writer = Writer::default();
        for (ms, what) in events {
            writer.push(Event {
                time_ns: ms * 1_000_000,
                cpu: Cpu(1),
                what: *what,
            });
        }
        let file = writer.finish(&Tables::default());
        let story = Story::read(&file).unwrap();
        let schedule = Schedule::read(&file).unwrap();
        let mut out = Vec::new();
        let name = |pid: Pid| format!("\u{1b}task{}", pid.0);
        print(&mut out, &schedule, &story, phase, name, wanted).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn text(phase: Option<u16>, wanted: impl Fn(Pid) -> bool) -> String {
        of(&events(), phase, wanted)
    }

    /// Returns the columns of sleep, waits and CPU time of all lines.
    fn columns(events: &[(u64, What)]) -> Vec<[String; 3]> {
        let text = of(events, None, |_| true);
        let rows = text.lines().skip(1).map(|line| {
            let mut columns = line.split_whitespace().skip(3).map(str::to_owned);
            [(); 3].map(|()| columns.next().unwrap())
        });
        rows.collect()
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
    fn time_out_of_quota_is_no_wait_and_no_sleep() {
        let rows = columns(&[
            (1, switch(0, 7, Reason::Idle)),
            (3, dequeue(DequeueReason::Throttle)),
            (3, switch(7, 0, Reason::Preempted)),
            (10, enqueue(Class::Fair, false)),
            (12, switch(0, 7, Reason::Idle)),
            (15, switch(7, 0, Reason::Slept)),
        ]);
        assert_eq!(rows, [["-", "-", "2.000"], ["0.000", "2.000", "3.000"]]);
    }

    /// A task sleeps from 3 to 20 ms. At 10 ms the fair class moves it to another queue, which does not wake it.
    #[test]
    fn a_task_that_is_moved_in_its_sleep_does_not_wait() {
        let rows = columns(&[
            (1, switch(0, 7, Reason::Idle)),
            (3, switch(7, 0, Reason::Slept)),
            (10, dequeue(DequeueReason::Change)),
            (10, enqueue(Class::Fair, false)),
            (20, enqueue(Class::Fair, false)),
            (22, switch(0, 7, Reason::Idle)),
            (25, switch(7, 0, Reason::Slept)),
        ]);
        assert_eq!(rows[1], ["17.000", "2.000", "3.000"]);
    }

    #[test]
    fn a_task_did_not_sleep_since_the_exit_of_another_one_with_its_pid() {
        let (task, parent) = (Pid(7), Pid(1));
        let rows = columns(&[
            (1, switch(0, 7, Reason::Idle)),
            (3, switch(7, 0, Reason::Exited)),
            (90, What::Fork { task, parent }),
            (90, enqueue(Class::Fair, false)),
            (92, switch(0, 7, Reason::Idle)),
            (95, switch(7, 0, Reason::Slept)),
        ]);
        assert_eq!(rows[1], ["-", "2.000", "3.000"]);
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
