//! Checks the workers' counters against the exact schedule: each counter must agree with what the schedule shows for the
//! same time span. If one does not, either the counter or the schedule is wrong, and no conclusion from either is
//! reliable. The fault is then the harness's, and the run is inconclusive.

use std::collections::{BTreeMap, VecDeque};

use ktstr_assert::{AssertDetail, AssertResult, Finding};
use ktstr_guest::protocol::WorkerNumbers;
use ktstr_schedule::Pid;
use ktstr_schedule::query::{Span, TaskInfo, spans};

use super::schedule::Seen;
use super::{Fault, Judgement};

/// The largest relative difference between CPU times that is allowed, as a share of the larger one. [`GRAIN_NS`] is
/// allowed in addition.
const APART: f64 = 0.01;
/// The difference between CPU times that is allowed in any case, in nanoseconds, in addition to the time that the
/// worker's marks ([`MARKS_BY`]) took.
const GRAIN_NS: u64 = 100_000;
/// The schedule may show this much more CPU time for each run of a worker on a CPU, in nanoseconds. The kernel charges the
/// time in which it picks the next task, above all from other CPUs' queues, to no task, but in the schedule the time
/// belongs to the task that stops. sched_ext takes some 10 to 30 us for it under the virtual clock.
const PICKING_NS: u64 = 40_000;
/// The largest share of all CPU time for which picking may account. Without this bound, it could hide any difference
/// for workers that switch often.
const PICKING_SHARE: f64 = 0.04;
/// The number of disagreements that are reported in full.
const TOLD: usize = 3;

/// Judges the counters of the workers against the schedule.
pub(in crate::run) fn judge(judgement: &mut Judgement, seen: &Seen, workers: &[WorkerNumbers]) {
    // Without the function whose calls are the marks, nothing can be compared. An inconclusive run needs no second
    // reason, unless its schedule is judged nevertheless.
    let missing = &seen.tables.missing;
    let inconclusive = judgement.result.is_inconclusive() && !judgement.lacks_only_data();
    if missing.iter().any(|name| name == MARKS_BY) || inconclusive {
        return;
    }
    let found = disagreements(seen, workers);
    if found.is_empty() {
        return;
    }
    let more = found.len().saturating_sub(TOLD);
    let mut message = found[..found.len().min(TOLD)].join("; ");
    if more > 0 {
        message.push_str(&format!("; and {more} more like these"));
    }
    let message = format!(
        "the workers' counters and the exact schedule disagree, so nothing can be concluded from either: {message}"
    );
    let concluded = std::mem::take(&mut judgement.result);
    let detail = AssertDetail::of(Finding::NoAnswer { message });
    let mut result = AssertResult::inconclusive(detail);
    for detail in concluded.failure_details() {
        result.note(format!("not reliable: {}", detail.message));
    }
    result.stats = concluded.stats;
    result.measurements = concluded.measurements;
    result.info_notes.extend(concluded.info_notes);
    judgement.result = result;
    let evidence = "`cargo ktstr schedule` prints what the schedule shows of the task";
    judgement.blame(Fault::Harness, evidence.to_owned());
}

/// The kernel function whose calls are the marks: a worker sets its own name again where its counters start and stop.
const MARKS_BY: &str = "__set_task_comm";

/// Returns a description of each worker whose counters disagree with the schedule, or of which the schedule has no record.
fn disagreements(seen: &Seen, workers: &[WorkerNumbers]) -> Vec<String> {
    let spans = spans(&seen.answers.marks);
    let mut spans: BTreeMap<Pid, VecDeque<Span>> = spans
        .into_iter()
        .map(|(pid, spans)| (pid, spans.into()))
        .collect();
    let mut found = Vec::new();
    for own in workers {
        let pid = Pid(own.tid.cast_unsigned());
        // Several workers may have had the same pid, one after the other. They reported in the order in which they stopped,
        // which is also the order of the spans.
        let span = spans.get_mut(&pid).and_then(VecDeque::pop_front);
        let who = || {
            let info = seen.answers.tasks.get(&pid);
            let name = info.and_then(TaskInfo::name).unwrap_or("worker");
            format!("{name}[{}]", pid.0)
        };
        match span {
            None => found.push(format!(
                "{} counted {} of CPU time, but the schedule has no record of the worker",
                who(),
                ms(own.cpu_ns)
            )),
            Some(span) if span.whole => {
                found.extend(disagreement(own, &span).map(|what| format!("{} {what}", who())));
            }
            Some(_) => {}
        }
    }
    found
}

/// Returns how the counters of a worker disagree with the schedule; `None` if they agree. The schedule may show more
/// migrations and context switches than the worker counted, but not fewer.
fn disagreement(own: &WorkerNumbers, span: &Span) -> Option<String> {
    let share = |ns: u64, share: f64| (ns as f64 * share) as u64;
    let apart = share(own.cpu_ns.max(span.ran_ns), APART)
        .saturating_add(own.slack_ns)
        .saturating_add(GRAIN_NS);
    let picking = span.runs.saturating_mul(PICKING_NS);
    let picking = picking.min(share(span.ran_ns, PICKING_SHARE));
    // The kernel charges a task for the time in which it has been dequeued already only under some schedulers.
    let charged = span.ran_ns.saturating_sub(span.leaving_ns);
    let more = charged.saturating_sub(own.cpu_ns);
    let less = own.cpu_ns.saturating_sub(span.ran_ns);
    if less > apart || more > apart.saturating_add(picking) {
        return Some(format!(
            "counted {} of CPU time, and the schedule shows {}",
            ms(own.cpu_ns),
            ms(span.ran_ns)
        ));
    }
    [
        ("migrations", own.migrations, span.migrations),
        ("context switches to it", own.runs, span.runs),
    ]
    .into_iter()
    .find(|(_, own, seen)| own > seen)
    .map(|(what, own, seen)| format!("counted {own} {what}, and the schedule shows {seen}"))
}

fn ms(ns: u64) -> String {
    format!("{:.3} ms", ns as f64 / 1e6)
}

#[cfg(test)]
#[path = "workers_tests.rs"]
mod tests;
