//! The events of a task while it waits: the CPUs that it may use, and the queues into which it was put.

use std::collections::HashMap;

use ktstr_schedule::query::Stretch;
use ktstr_schedule::{CpuMask, Event, Pid, ReadError, Schedule, What};

use super::seconds;
use crate::story::Story;

/// The largest number of events that are shown: a task that is moved between queues all the time would fill pages.
const LINES: usize = 20;

/// The events during a wait.
pub struct History {
    /// The sets of online CPUs that the task may use during its wait, each with the time from which it holds, in nanoseconds of
    /// the kernel's scheduler clock. The first set holds from the start of the wait.
    pub masks: Vec<(u64, CpuMask)>,
    /// The events, one line each.
    pub lines: Vec<String>,
}

/// Returns the CPUs that the task may use during `wait`, and the events of the task from the start of the wait to its end.
///
/// # Errors
/// If the schedule is damaged.
pub fn history(
    schedule: &Schedule<'_>,
    story: &Story,
    wait: &Stretch,
) -> Result<History, ReadError> {
    let mut masks: HashMap<Pid, CpuMask> = HashMap::new();
    let mut online = CpuMask::ALL;
    let mut allowed = vec![(wait.from_ns, CpuMask::ALL)];
    let mut lines = Vec::new();
    let mut more = 0;
    schedule.for_each(|event| {
        let Ok(event) = event else {
            return;
        };
        if event.time_ns > wait.to_ns {
            return;
        }
        match event.what {
            What::Affinity { task, mask } => {
                masks.insert(task, mask);
            }
            What::Fork { task, parent } => {
                let mask = masks.get(&parent).copied().unwrap_or(CpuMask::ALL);
                masks.insert(task, mask);
            }
            What::Online { cpu, online: is_on } if cpu.0 < 128 => {
                let bit = 1 << cpu.0;
                let others = online.bits() & !bit;
                online = CpuMask::of(if is_on { others | bit } else { others });
            }
            _ => {}
        }
        let mask = masks.get(&wait.task).copied().unwrap_or(CpuMask::ALL);
        let mask = mask.and(online);
        if allowed.last().is_none_or(|(_, last)| *last != mask) {
            if event.time_ns <= wait.from_ns {
                allowed.clear();
            }
            allowed.push((event.time_ns.max(wait.from_ns), mask));
        }
        if event.time_ns >= wait.from_ns
            && let Some(text) = described(event, wait.task, story)
        {
            match lines.len() < LINES {
                true => lines.push(format!("  {}  {text}\n", seconds(story, event.time_ns))),
                false => more += 1,
            }
        }
    })?;
    if more > 0 {
        lines.push(format!("  and {more} more events\n"));
    }
    Ok(History {
        masks: allowed,
        lines,
    })
}

/// Describes `event`; `None` if it does not concern the waiting task `of`. Switches and wake-ups are left out, since the first
/// lines of the answer tell how the wait began and ended.
fn described(event: &Event, of: Pid, story: &Story) -> Option<String> {
    match event.what {
        What::Switch { .. } | What::Wake { .. } => None,
        _ => story.words().of_task(event, of),
    }
}
