//! The human-readable text of those sections that have one, as `cargo ktstr show --capture` prints it.

use std::fmt::{Arguments, Write as _};

use super::Section;
use crate::report::{DsqState, RqScxState, ScxSchedState};

/// The largest number of tasks that are printed for a queue.
const TASKS: usize = 32;

/// Names a dispatch queue by its id and its [`DsqState::origin`].
pub type QueueName = fn(u64, &str) -> String;

/// Text that is built line by line, and the caller's function that names dispatch queues.
pub(crate) struct Lines {
    pub(super) text: String,
    pub(super) queue_name: QueueName,
}

impl Lines {
    /// Appends a line. The caller must escape the names that a guest chose.
    pub(crate) fn add(&mut self, line: Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{line}");
    }
}

pub(super) fn sched_ext(section: &Section<ScxSchedState>, lines: &mut Lines) {
    let Some(state) = section.value() else {
        let why = section.reason().unwrap_or("unknown");
        return lines.add(format_args!("sched_ext: {why}"));
    };
    let name = state.ops_name.as_deref().unwrap_or("no scheduler");
    let exit = state.exit_kind_name.as_deref().unwrap_or("unknown");
    let depth = state.bypass_depth.unwrap_or(0);
    lines.add(format_args!(
        "sched_ext: {}, {}, exit kind {exit}, bypass depth {depth}",
        name.escape_debug(),
        state.enable_state
    ));
}

pub(super) fn runqueues(section: &Section<Vec<RqScxState>>, lines: &mut Lines) {
    for rq in section {
        let runs = match (&rq.curr_comm, rq.curr_pid) {
            (Some(comm), Some(pid)) => format!("{}[{pid}]", comm.escape_debug()),
            _ => "unknown".to_owned(),
        };
        lines.add(format_args!(
            "CPU {}: runs {runs}, {} runnable",
            rq.cpu, rq.nr_running
        ));
    }
}

pub(super) fn queues(section: &Section<Vec<DsqState>>, lines: &mut Lines) {
    for queue in section.iter().filter(|queue| queue.nr > 0) {
        let name = (lines.queue_name)(queue.id, &queue.origin);
        let noun = if queue.nr == 1 { "task" } else { "tasks" };
        lines.add(format_args!("{name}: {} {noun}", queue.nr));
        for task in queue.tasks.iter().take(TASKS) {
            let name = task.comm.escape_debug();
            lines.add(format_args!("  {name}[{}], vtime {}", task.pid, task.vtime));
        }
        if let Some(why) = &queue.tasks_unavailable {
            lines.add(format_args!("  other tasks are unknown: {why}"));
        }
    }
    let empty = section.iter().filter(|queue| queue.nr == 0).count();
    if empty > 0 || section.reason().is_none() {
        lines.add(format_args!("empty dispatch queues: {empty}"));
    }
    if let Some(why) = section.reason() {
        lines.add(format_args!("other dispatch queues are unknown: {why}"));
    }
}
