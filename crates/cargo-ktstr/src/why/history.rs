//! The events of a task while it waits: the CPUs that it may use, and the queues into which it was put.

use std::collections::HashMap;

use ktstr_schedule::query::Stretch;
use ktstr_schedule::{CpuMask, Event, Pid, ReadError, Schedule, What};

use super::seconds;
use crate::story::Story;

/// The largest number of lines, since a queue that is reordered all the time would fill pages.
const LINES: usize = 20;

/// The events during a wait.
pub struct History {
    /// The CPUs that the task may use during its wait, each set with the time in nanoseconds from which it holds; the first
    /// holds from the begin.
    pub masks: Vec<(u64, CpuMask)>,
    /// The events, one line each.
    pub lines: Vec<String>,
}

/// Walks through the schedule up to the end of `wait`.
///
/// # Errors
/// If the schedule is damaged.
pub fn history(
    schedule: &Schedule<'_>,
    story: &Story,
    wait: &Stretch,
) -> Result<History, ReadError> {
    let mut masks: HashMap<Pid, CpuMask> = HashMap::new();
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
            _ => {}
        }
        if let Some(mask) = masks.get(&wait.task)
            && allowed.last().is_none_or(|(_, last)| last != mask)
        {
            if event.time_ns <= wait.from_ns {
                allowed.clear();
            }
            allowed.push((event.time_ns.max(wait.from_ns), *mask));
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
        lines.push(format!("  and {more} times more\n"));
    }
    Ok(History {
        masks: allowed,
        lines,
    })
}

/// Describes `event` if it concerns the waiting task `of`. How its wait began and ended is said elsewhere.
fn described(event: &Event, of: Pid, story: &Story) -> Option<String> {
    match event.what {
        What::Switch { .. } | What::Wake { .. } => None,
        _ => story.words().of_task(event, of),
    }
}
