//! `cargo ktstr why`: explains why a task waited at a given time: when and how the wait began, in which queue the task was,
//! which CPUs it may use, and what each of them did during the wait.

mod head;
mod history;
mod meanwhile;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use ktstr_record::terminal::eprint_line;
use ktstr_record::{read, runs_root};
use ktstr_schedule::query::{Did, Stretch};
use ktstr_schedule::{Pid, ReadError, Schedule};

use crate::captures;
use crate::exit::Exit;
use crate::replay;
use crate::span::Span;
use crate::story::{self, Story, cpus};
use head::head;
use history::history;
use meanwhile::meanwhile;

/// The largest number of task names that are listed if no task or several tasks match.
const NAMES: usize = 12;

/// The options of `cargo ktstr why`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The run: its name or the start of it, as `cargo ktstr runs` lists it, or the path of its folder or of its `record.json`.
    #[arg(value_name = "RUN")]
    record: PathBuf,
    /// The task: its pid, or a part of its name. If the name is that of several tasks, give a pid with TIME.
    task: String,
    /// Explain the wait that the task was in at this time after the start of the first step, such as `1.25s` or `300ms`. Without
    /// a time, its longest wait in the steps is explained.
    time: Option<Span>,
}

/// Writes the explanation of the task's wait to `out`, and what the captures say about that wait.
pub fn run(out: &mut dyn Write, options: &Options) -> Result<Exit> {
    let record = replay::find(&options.record, &runs_root())?;
    let (path, file) = story::bytes(&record)?;
    let story = Story::read(&file).with_context(|| path.display().to_string())?;
    let schedule = Schedule::read(&file).with_context(|| path.display().to_string())?;
    match answer(&story, &schedule, &options.task, options.time) {
        Ok(Answer { text, wait }) => {
            out.write_all(text.as_bytes())?;
            if let Some(wait) = wait {
                let (run, captures) = (read(&record)?, captures::read(&record)?);
                let times = (wait.from_ns, wait.to_ns);
                let report = captures::of_wait(&run, &story, &captures, wait.task, times);
                writeln!(out)?;
                out.write_all(report.as_bytes())?;
            }
        }
        Err(NoAnswer::Asked(why)) => {
            eprint_line(&format!("error: {why}"));
            return Ok(Exit::Failed);
        }
        Err(NoAnswer::Damaged(error)) => {
            return Err(error).with_context(|| path.display().to_string());
        }
    }
    Ok(Exit::Done)
}

/// The explanation of a wait.
#[derive(Debug)]
struct Answer {
    text: String,
    /// The wait that is explained; `None` if the task did not wait.
    wait: Option<Stretch>,
}

/// Why there is no answer.
#[derive(Debug)]
enum NoAnswer {
    /// The requested task or time is not in the run.
    Asked(String),
    /// The schedule is damaged.
    Damaged(ReadError),
}

/// Returns the whole explanation.
fn answer(
    story: &Story,
    schedule: &Schedule<'_>,
    task: &str,
    time: Option<Span>,
) -> Result<Answer, NoAnswer> {
    let tasks = meant(story, task)?;
    let at = time.map(|time| story.zero_ns().saturating_add(time.0));
    if let Some(at) = at.filter(|at| *at > story.to_ns) {
        return Err(NoAnswer::Asked(format!(
            "there is nothing at {}: the schedule ends at {}",
            seconds(story, at),
            seconds(story, story.to_ns)
        )));
    }
    let stretch = match (at, &tasks[..]) {
        (None, _) => longest(story, &tasks).ok_or_else(|| {
            NoAnswer::Asked(match story.complete_only() {
                None => format!("`{task}` never waited in this run"),
                Some(why) => format!("the schedule shows no wait of `{task}`. {why}"),
            })
        })?,
        (Some(at), [pid]) => match story
            .stretches
            .iter()
            // A stretch does not include its end, unless the schedule ends there.
            .find(|s| {
                let to_end = s.to_ns == story.to_ns && at == s.to_ns;
                s.task == *pid && s.from_ns <= at && (at < s.to_ns || to_end)
            }) {
            Some(stretch) => *stretch,
            None => {
                let name = shown(story, *pid);
                // It is unknown what a task does from a gap on until its next event.
                let ends = |stretch: &&Stretch| stretch.task == *pid && stretch.to_ns <= at;
                let known = story.stretches.iter().filter(ends).map(|s| s.to_ns).max();
                let gaps = story.gaps.iter().filter(|gap| gap.from_ns <= at);
                let is_missing = gaps.map(|gap| gap.to_ns).max() > known;
                let at = seconds(story, at);
                return Ok(Answer {
                    text: match is_missing {
                        true => format!(
                            "Events before that time were dropped to keep the schedule small, so it is not known what {name} did at {at}.\n"
                        ),
                        false => format!(
                            "At {at} {name} was not runnable: it slept, did not exist yet, or had exited.\n"
                        ),
                    },
                    wait: None,
                });
            }
        },
        (Some(_), several) => {
            return Err(NoAnswer::Asked(format!(
                "`{task}` matches {} tasks, and a time is explained for one of them: give its pid; {}",
                several.len(),
                listed(story, several)
            )));
        }
    };
    let mut text = head(story, &stretch);
    let in_steps = story.in_steps_ns(stretch.from_ns, stretch.to_ns) > 0;
    if at.is_none() && in_steps {
        text.push_str(&match tasks.len() {
            1 => "This is the longest of the task's waits in the steps; a time, such as 1.25s, selects another one.\n".to_owned(),
            several => format!(
                "{several} tasks match `{task}`, and this is the longest of their waits in the steps; a pid and a time, such as `{} 1.25s`, \
                 select another one.\n",
                stretch.task.0
            ),
        });
    }
    if let Some(at) = at {
        let passed = ms(at - stretch.from_ns);
        text.push_str(&format!(
            "At {}, {passed} of this time had passed.\n",
            seconds(story, at)
        ));
    }
    if let Did::Waited { .. } = stretch.did {
        if !in_steps {
            text.push_str(&outside(story));
        }
        let known = history(schedule, story, &stretch).map_err(NoAnswer::Damaged)?;
        let exact = story.tables.source.is_exact();
        let sets = known.masks.iter().enumerate();
        let sets = sets.map(|(at, (since, mask))| match at {
            0 => cpus(*mask, story.cpus()),
            _ => format!(
                "then from {} on {}",
                seconds(story, *since),
                cpus(*mask, story.cpus())
            ),
        });
        let sets: Vec<String> = sets.collect();
        let sets = match exact {
            true => format!("The task was allowed on {}", sets.join(", ")),
            false => "The kernel's tracepoints, from which this schedule comes, do not show on which CPUs the task was allowed".to_owned(),
        };
        text.push_str(&format!("{sets}; the machine has {} CPUs.\n", story.cpus()));
        text.push_str(&meanwhile(story, &stretch, &known.masks));
        if !known.lines.is_empty() {
            text.push_str("\nEvents of the task in that time:\n");
            text.push_str(&known.lines.concat());
        }
    }
    if let Some(why) = story.complete_only() {
        text.push_str(&format!("\n{why}\n"));
    }
    let wait = matches!(stretch.did, Did::Waited { .. }).then_some(stretch);
    Ok(Answer { text, wait })
}

/// Returns the tasks that `wanted` selects: the task with this pid, or else all tasks whose names contain the text.
fn meant(story: &Story, wanted: &str) -> Result<Vec<Pid>, NoAnswer> {
    let tasks = &story.answers.tasks;
    let by_id = wanted.parse().ok().map(Pid);
    if by_id == Some(Pid::IDLE) {
        return Err(NoAnswer::Asked(
            "0 is the pid of the idle task of every CPU, which never waits".to_owned(),
        ));
    }
    let by_id = by_id.filter(|pid| tasks.contains_key(pid));
    if let Some(pid) = by_id {
        return Ok(vec![pid]);
    }
    let found: Vec<Pid> = tasks
        .iter()
        .filter(|(pid, info)| {
            **pid != Pid::IDLE && info.name().is_some_and(|name| name.contains(wanted))
        })
        .map(|(pid, _)| *pid)
        .collect();
    if found.is_empty() {
        let all: Vec<Pid> = tasks.keys().rev().copied().collect();
        return Err(NoAnswer::Asked(format!(
            "no task has the pid `{wanted}` or a name that contains it; {}",
            listed(story, &all)
        )));
    }
    Ok(found)
}

fn listed(story: &Story, tasks: &[Pid]) -> String {
    let names: Vec<String> = tasks
        .iter()
        .take(NAMES)
        .map(|pid| shown(story, *pid))
        .collect();
    let more = tasks.len().saturating_sub(NAMES);
    match more {
        0 => format!("there are {}", names.join(", ")),
        more => format!(
            "there are {} and {more} more, which `cargo ktstr schedule RUN` lists",
            names.join(", ")
        ),
    }
}

/// Returns the wait of these tasks of which most was in the steps. Waits outside of the steps, for example while the workers are
/// stopped, count only if there is no other, because no check is about them.
fn longest(story: &Story, tasks: &[Pid]) -> Option<Stretch> {
    let waits = story.stretches.iter().filter(|stretch| {
        matches!(stretch.did, Did::Waited { .. }) && tasks.contains(&stretch.task)
    });
    let length = |stretch: &&Stretch| {
        let in_steps = story.in_steps_ns(stretch.from_ns, stretch.to_ns);
        (in_steps, stretch.len_ns())
    };
    waits.max_by_key(length).copied()
}

/// Returns a task as `name[pid]`, with control characters and line ends escaped.
fn shown(story: &Story, pid: Pid) -> String {
    story.name(pid).escape_debug().to_string()
}

/// Formats a time as seconds since the first step began.
fn seconds(story: &Story, ns: u64) -> String {
    format!("{:.6} s", (ns as f64 - story.zero_ns() as f64) / 1e9)
}

/// Returns a line about a wait of which no part was in a step; an empty text if the schedule shows no step.
fn outside(story: &Story) -> String {
    match story.timeline.held.is_empty() {
        true => String::new(),
        false => format!(
            "No part of this wait was in a step: the steps lasted from {} to {}.\n",
            seconds(story, story.zero_ns()),
            seconds(story, story.timeline.steps_end_ns())
        ),
    }
}

fn ms(ns: u64) -> String {
    format!("{:.3} ms", ns as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ktstr_schedule::{Cpu, What};

    use super::*;
    use crate::story::testing;

    fn asked(task: &str, time: Option<&str>) -> Result<String, String> {
        let file = testing::file();
        let schedule = Schedule::read(&file).unwrap();
        let time = time.map(|time| time.parse().unwrap());
        let answer = answer(&testing::story(), &schedule, task, time);
        answer
            .map(|answer| answer.text)
            .map_err(|error| match error {
                NoAnswer::Asked(why) => why,
                NoAnswer::Damaged(error) => panic!("{error}"),
            })
    }

    /// Returns the file of a schedule. `record` gets a function that adds an event, by its time in microseconds and its CPU.
    fn recorded(names: &[&str], record: impl FnOnce(&mut dyn FnMut(u64, u16, What))) -> Vec<u8> {
        let mut writer = ktstr_schedule::Writer::default();
        record(&mut |us, cpu, what| {
            writer.push(ktstr_schedule::Event {
                time_ns: us * 1_000,
                cpu: Cpu(cpu),
                what,
            });
        });
        writer.finish(&ktstr_schedule::Tables {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            ..ktstr_schedule::Tables::default()
        })
    }

    #[test]
    fn the_longest_wait_is_explained() {
        insta::assert_snapshot!(asked("7", None).unwrap(), @r"
        </script>[7] in /ktstr/<b>cell waited for 29.000 ms, from 0.051000 s to 0.080000 s, and got no CPU.
        hog|`\u{202e}[8] woke it, on CPU 0 at 0.051000 s.
        It was in the local DSQ.
        This is the longest of the task's waits in the steps; a time, such as 1.25s, selects another one.
        The task was allowed on CPU 0, then from 0.060000 s on CPUs 0-1; the machine has 2 CPUs.
        In that time the CPUs on which it was allowed were idle for 20.000 ms, added up over the CPUs.

        CPU 0:
             29.000 ms  100.0 %  hog|`\u{202e}[8]
        CPU 1:
             29.000 ms  100.0 %  idle

        Events of the task in that time:
          0.051000 s  was enqueued on CPU 0 (class Ext)
          0.051000 s  was inserted into the local DSQ by the BPF scheduler, slice 5.000 ms
          0.060000 s  was confined to CPUs 0-1
        ");
    }

    #[test]
    fn a_time_can_be_asked_for() {
        let text = asked("7", Some("4ms")).unwrap();
        assert!(
            text.contains(
                "waited for 5.000 ms, from 0.002000 s to 0.007000 s, and then got CPU 0."
            ),
            "{text}"
        );
        assert!(
            text.contains("At 0.004000 s, 2.000 ms of this time had passed."),
            "{text}"
        );
        let ran = asked("7", Some("8ms")).unwrap();
        assert!(
            ran.contains("did not wait: it ran on CPU 0 for 10.000 ms"),
            "{ran}"
        );
        let end = asked("7", Some("80ms")).unwrap();
        assert!(end.contains("waited for 29.000 ms"), "{end}");
        let slept = asked("</script", Some("30ms")).unwrap();
        assert_eq!(
            slept,
            "At 0.030000 s </script>[7] was not runnable: it slept, did not exist yet, or had exited.\n"
        );
    }

    /// Task 7 waits on CPU 0, is moved to CPU 1 after 10 ms, and is taken by CPU 0 after 20 ms more.
    #[test]
    fn a_wait_is_explained_with_the_runqueues_on_which_the_task_was() {
        let file = recorded(&["worker"], |push| {
            let (task, class) = (Pid(7), ktstr_schedule::Class::Fair);
            let enqueue = |on: u16, wakeup| What::Enqueue {
                task,
                on: Cpu(on),
                class,
                wakeup,
            };
            push(1_000, 0, What::Phase { number: 1 });
            push(1_000, 0, What::Name { task, name: 0 });
            push(1_000, 0, enqueue(0, true));
            for (us, from, to) in [(11_000, 0, 1), (31_000, 1, 0)] {
                let reason = ktstr_schedule::DequeueReason::Change;
                let on = Cpu(from);
                push(
                    us,
                    to,
                    What::Dequeue {
                        task,
                        on,
                        class,
                        reason,
                    },
                );
                push(us, to, What::Migrate { task, to: Cpu(to) });
                push(us, to, enqueue(to, false));
            }
            let (prev, reason) = (Pid::IDLE, ktstr_schedule::Reason::Idle);
            push(
                31_001,
                0,
                What::Switch {
                    prev,
                    next: task,
                    reason,
                },
            );
            push(40_000, 0, What::End {});
        });
        let (story, schedule) = (Story::read(&file).unwrap(), Schedule::read(&file).unwrap());
        let text = answer(&story, &schedule, "7", None).unwrap().text;
        assert!(text.contains("and then got CPU 0.\n"), "{text}");
        let place = "It was on the runqueue of CPU 0, from 0.010000 s on that of CPU 1.\n";
        assert!(text.contains(place), "{text}");
    }

    /// The step lasts from 1 to 20 ms. Task 7 waits for 4 ms in it and for 9 ms after it; task 8 waits only after it.
    #[test]
    fn a_wait_in_a_step_is_explained_rather_than_a_longer_one_after_it() {
        let wakes = |task| What::Enqueue {
            task,
            on: Cpu(0),
            class: ktstr_schedule::Class::Fair,
            wakeup: true,
        };
        let switch = |prev, next, reason| What::Switch { prev, next, reason };
        let (a, b) = (Pid(7), Pid(8));
        let file = recorded(&["first", "second"], |push| {
            let mut push = |ms: u64, what| push(1_000 * ms, 0, what);
            push(1, What::Phase { number: 1 });
            push(1, What::Name { task: a, name: 0 });
            push(1, What::Name { task: b, name: 1 });
            push(2, wakes(a));
            push(6, switch(Pid::IDLE, a, ktstr_schedule::Reason::Idle));
            push(10, switch(a, Pid::IDLE, ktstr_schedule::Reason::Slept));
            push(20, What::End {});
            push(21, wakes(a));
            push(22, wakes(b));
            push(30, switch(Pid::IDLE, a, ktstr_schedule::Reason::Idle));
            push(32, switch(a, b, ktstr_schedule::Reason::Slept));
        });
        let (story, schedule) = (Story::read(&file).unwrap(), Schedule::read(&file).unwrap());
        let of = |task| answer(&story, &schedule, task, None).unwrap().text;
        let text = of("7");
        assert!(
            text.contains("waited for 4.000 ms, from 0.001000 s to 0.005000 s"),
            "{text}"
        );
        assert!(
            text.contains("the longest of the task's waits in the steps"),
            "{text}"
        );
        let text = of("8");
        assert!(text.contains("waited for 10.000 ms"), "{text}");
        let outside =
            "No part of this wait was in a step: the steps lasted from 0.000000 s to 0.019000 s.";
        assert!(
            text.contains(outside) && !text.contains("waits in the steps"),
            "{text}"
        );
    }

    /// An offline CPU is not among the CPUs that a waiting task may use.
    #[test]
    fn a_cpu_that_is_offline_is_not_allowed() {
        let file = recorded(&[], |push| {
            let mut push = |ms: u64, what| push(1_000 * ms, 0, what);
            push(
                1,
                What::Online {
                    cpu: Cpu(1),
                    online: false,
                },
            );
            push(2, What::Phase { number: 1 });
            push(40, What::End {});
        });
        let wait = Stretch {
            from_ns: 10_000_000,
            to_ns: 30_000_000,
            ..testing::story().stretches[0]
        };
        let schedule = Schedule::read(&file).unwrap();
        let known = history(&schedule, &testing::story(), &wait).unwrap();
        let [(_, mask)] = known.masks[..] else {
            panic!("{:?}", known.masks);
        };
        assert!(mask.contains(Cpu(0)) && !mask.contains(Cpu(1)));
    }

    /// The events of the first step are missing.
    #[test]
    fn an_answer_from_an_incomplete_schedule_says_what_it_covers() {
        let file = testing::thinned();
        let (story, schedule) = (Story::read(&file).unwrap(), Schedule::read(&file).unwrap());
        let of = |task, time: Option<&str>| {
            let time = time.map(|time| time.parse().unwrap());
            answer(&story, &schedule, task, time)
        };
        let covers = "The schedule exceeded its size limit: it is complete only from 0.040000 s to 0.080000 s, and the output \
                      covers only that time.";
        let text = of("7", None).unwrap().text;
        assert!(text.contains(covers), "{text}");
        // Neither CPU switches in that time, so nobody knows what they do.
        assert!(text.contains("is known to have been idle"), "{text}");
        assert!(text.contains("100.0 %  offline, or unknown"), "{text}");
        assert!(!text.contains(" %  idle"), "{text}");
        let text = of("7", Some("4ms")).unwrap().text;
        assert!(text.contains("it is not known what"), "{text}");
        let Err(NoAnswer::Asked(why)) = of("8", None) else {
            panic!("task 8 has no wait that is known");
        };
        assert_eq!(why, format!("the schedule shows no wait of `8`. {covers}"));
    }

    /// If a quota ends a wait, the answer says so, and not that the task got no CPU until the end of the schedule.
    #[test]
    fn a_wait_that_a_quota_ends_says_so() {
        let mut story = testing::story();
        let wait = *story.stretches.iter().max_by_key(|s| s.to_ns).unwrap();
        let wait = Stretch {
            did: Did::Waited {
                cpu: Cpu(0),
                cause: ktstr_schedule::query::WaitCause::Unknown,
                waker: None,
                dsq: None,
                left_dsq_ns: None,
                served: false,
            },
            ..wait
        };
        assert!(head(&story, &wait).contains("and got no CPU"));
        story.stretches.push(Stretch {
            did: Did::Throttled,
            from_ns: wait.to_ns,
            to_ns: wait.to_ns + 5,
            ..wait
        });
        let text = head(&story, &wait);
        assert!(
            text.contains("and then its cgroup was out of quota"),
            "{text}"
        );
    }

    #[test]
    fn who_is_meant_must_be_there() {
        let error = asked("nobody", None).unwrap_err();
        assert!(
            error.contains("no task has the pid `nobody`") && error.contains("</script>[7]"),
            "{error}"
        );
        let idle = asked("0", None).unwrap_err();
        assert!(idle.contains("the idle task of every CPU"), "{idle}");
        let several = asked("", Some("1ms")).unwrap_err();
        assert!(several.contains("matches 2 tasks"), "{several}");
    }
}
