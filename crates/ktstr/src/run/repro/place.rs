//! Where a task is in a capture: in a dispatch queue, on a CPU, runnable in no queue, or asleep.

use ktstr_schedule::words::dsq;
use ktstr_snapshot::report::FailureDumpReport;

/// Returns where the task `pid` is in a capture, as the end of a sentence; `None` if the capture does not contain the task.
pub fn place(report: &FailureDumpReport, pid: u32) -> Option<String> {
    for queue in &report.dsq_states {
        let place = queue
            .tasks
            .iter()
            .position(|task| task.pid.cast_unsigned() == pid);
        if let Some(place) = place {
            return Some(format!(
                "in {}, as number {} of {}",
                queue_name(queue.id, &queue.origin),
                place + 1,
                queue.nr
            ));
        }
    }
    let task = report
        .task_enrichments
        .iter()
        .find(|task| task.pid.cast_unsigned() == pid)?;
    Some(match (task.on_cpu, task.state) {
        (true, _) => format!("running on CPU {}", task.cpu),
        (false, 0) if is_partial(report) => format!(
            "runnable on CPU {}, and in none of the dispatch queues as far as they were read",
            task.cpu
        ),
        (false, 0) => format!("runnable on CPU {}, in no dispatch queue", task.cpu),
        (false, _) => "asleep".to_owned(),
    })
}

/// Returns whether the capture lacks queues, or tasks of a queue.
fn is_partial(report: &FailureDumpReport) -> bool {
    report.dsq_states.reason().is_some()
        || (report.dsq_states.iter()).any(|queue| queue.tasks_unavailable.is_some())
}

/// Returns the name of a dispatch queue for people. `origin` is where the capture found the queue
/// ([`ktstr_snapshot::report::DsqState::origin`]): a queue of the scheduler (`user`) is named by its id, any other
/// by its origin.
pub fn queue_name(id: u64, origin: &str) -> String {
    match origin {
        "user" => dsq(id),
        origin => format!("the queue `{origin}`"),
    }
}
