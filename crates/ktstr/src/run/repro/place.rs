//! The place of a task in a capture: its dispatch queue, its CPU, or asleep.

use ktstr_introspect::report::FailureDumpReport;
use ktstr_schedule::words::dsq;

/// Returns where the task `pid` is in a capture, as the end of a sentence; `None` if the capture does not have it.
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
        (false, 0) => format!("runnable on CPU {}, in no dispatch queue", task.cpu),
        (false, _) => "asleep".to_owned(),
    })
}

/// Returns the name of a dispatch queue for people, by its id and by what made it.
pub fn queue_name(id: u64, origin: &str) -> String {
    match origin {
        "user" => dsq(id),
        origin => format!("the queue `{origin}`"),
    }
}
