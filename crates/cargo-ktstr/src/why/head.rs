//! The first lines of an answer: what the task did, from when to when, how its wait began, and in which queue it was.

use ktstr_schedule::Reason;
use ktstr_schedule::query::{Did, Stretch, WaitCause, Waker};

use super::{ms, seconds, shown};
use crate::story::{self, Story};

/// Returns the first lines of the answer about `stretch`. They include a cause and a queue only for a wait.
pub fn head(story: &Story, stretch: &Stretch) -> String {
    let name = shown(story, stretch.task);
    let cgroup = story.cgroup(stretch.cgroup);
    let times = format!(
        "{}, from {} to {}",
        ms(stretch.len_ns()),
        seconds(story, stretch.from_ns),
        seconds(story, stretch.to_ns)
    );
    match stretch.did {
        Did::Ran { cpu, then, .. } => {
            let then = then.map_or("and the schedule ends there", |reason| match reason {
                Reason::Slept => "and then slept",
                Reason::Preempted => "and then was preempted",
                Reason::Yielded => "and then yielded",
                Reason::Exited => "and then exited",
                Reason::Idle => "and then the CPU was idle",
            });
            format!(
                "{name} in {cgroup} did not wait: it ran on CPU {} for {times}, {then}.\n",
                cpu.0
            )
        }
        Did::Waited {
            cpu,
            cause,
            waker,
            dsq,
            left_dsq_ns,
            served,
        } => {
            let got = after(story, stretch).unwrap_or(cpu.0);
            let then = match served {
                true => format!("and then got CPU {got}"),
                false if is_throttled_after(story, stretch) => {
                    "and then its cgroup was out of quota".to_owned()
                }
                false => "and got no CPU".to_owned(),
            };
            let place = match (dsq, served) {
                (Some(id), _) if left_dsq_ns.is_some() => format!(
                    "It was in {} until {}, when sched_ext took it out of there and enqueued it without the BPF scheduler.",
                    story::dsq(id),
                    seconds(story, left_dsq_ns.unwrap_or_default())
                ),
                (Some(id), true) => {
                    format!("It was in {}, and CPU {got} ran it next.", story::dsq(id))
                }
                (Some(id), false) => format!("It was in {}.", story::dsq(id)),
                (None, _) => format!("It was on the runqueue of {}.", queues(story, stretch)),
            };
            format!(
                "{name} in {cgroup} waited for {times}, {then}.\n{}\n{place}\n",
                began(story, cause, waker),
            )
        }
        Did::Throttled => {
            format!("{name} in {cgroup} was out of its cgroup's quota for {times}.\n")
        }
        Did::Slept => format!("{name} in {cgroup} slept for {times}.\n"),
    }
}

/// Returns whether the wait ended because the quota of the task's cgroup was used up.
fn is_throttled_after(story: &Story, wait: &Stretch) -> bool {
    let mut all = story.stretches.iter();
    all.any(|next| {
        next.task == wait.task && next.did == Did::Throttled && next.from_ns == wait.to_ns
    })
}

/// Lists the CPUs on whose runqueues the task was during its wait, each but the first with the time from which it was there.
fn queues(story: &Story, wait: &Stretch) -> String {
    let queues = story.queues(wait);
    let cpus = queues.iter().enumerate().map(|(at, (from, cpu))| match at {
        0 => format!("CPU {}", cpu.0),
        _ => format!("from {} on that of CPU {}", seconds(story, *from), cpu.0),
    });
    cpus.collect::<Vec<_>>().join(", ")
}

/// Returns the CPU on which the task ran after its wait; `None` if the task did not run again.
fn after(story: &Story, wait: &Stretch) -> Option<u16> {
    story
        .stretches
        .iter()
        .find_map(|stretch| match stretch.did {
            Did::Ran { cpu, .. } if stretch.task == wait.task && stretch.from_ns >= wait.to_ns => {
                Some(cpu.0)
            }
            _ => None,
        })
}

fn began(story: &Story, cause: WaitCause, waker: Option<Waker>) -> String {
    match (cause, waker) {
        (WaitCause::Woken, Some(waker)) => {
            let who = shown(story, waker.task);
            let place = format!("on CPU {} at {}", waker.cpu.0, seconds(story, waker.at_ns));
            match waker.interrupt {
                true => format!("An interrupt that came while {who} ran {place} woke it."),
                false => format!("{who} woke it, {place}."),
            }
        }
        (WaitCause::Woken, None) => "It was woken.".to_owned(),
        (WaitCause::Forked, _) => "The wait began when it was created.".to_owned(),
        (WaitCause::Preempted, _) => "The wait began when it was preempted.".to_owned(),
        (WaitCause::Yielded, _) => "The wait began when it yielded.".to_owned(),
        (WaitCause::Unthrottled, _) => "The wait began when its cgroup got a new quota.".to_owned(),
        (WaitCause::Unknown, _) => "The schedule does not show how the wait began.".to_owned(),
    }
}
