//! Workers against the exact schedule: what each worker counted of itself has to agree with what the schedule says of the same
//! span. Where it does not, one of the two is wrong, and whatever was concluded from them is worth nothing: the fault is the
//! harness's, and the run has no answer.

use std::collections::{BTreeMap, VecDeque};

use ktstr_assert::{AssertDetail, AssertResult, Finding};
use ktstr_guest::protocol::WorkerNumbers;
use ktstr_schedule::Pid;
use ktstr_schedule::query::{Span, TaskInfo, spans};

use super::schedule::Seen;
use super::{Fault, Judgement};

/// How far CPU times may be apart: this share of the larger one,
const APART: f64 = 0.01;
/// and so many nanoseconds, beside what the worker says that its marks took.
const GRAIN_NS: u64 = 100_000;
/// The schedule may show more than that for each time on a CPU: a kernel that looks for the next task, above all in other CPUs'
/// queues, accounts that time to nobody, and in the schedule it belongs to the task that stops. sched_ext takes some 10 to 30 us
/// under the virtual clock,
const PICKING_NS: u64 = 40_000;
/// but no more than this share of all, or it could hide anything of workers that switch often.
const PICKING_SHARE: f64 = 0.04;
/// Disagreements that are told in full.
const TOLD: usize = 3;

/// Holds the numbers of the workers against the schedule.
pub(in crate::run) fn judge(judgement: &mut Judgement, seen: &Seen, workers: &[WorkerNumbers]) {
    // Without the function that shows marks there is nothing to compare; a run without an answer needs no second reason.
    let missing = &seen.tables.missing;
    if missing.iter().any(|name| name == MARKS_BY) || judgement.result.is_inconclusive() {
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
        "workers and the exact schedule disagree, so that nothing can be concluded from either: {message}"
    );
    let concluded = std::mem::take(&mut judgement.result);
    let detail = AssertDetail::of(Finding::NoAnswer { message });
    let mut result = AssertResult::inconclusive(detail);
    for detail in concluded.failure_details() {
        result.note(format!("not relied on: {}", detail.message));
    }
    result.stats = concluded.stats;
    result.measurements = concluded.measurements;
    result.info_notes.extend(concluded.info_notes);
    judgement.result = result;
    let evidence = "`cargo ktstr schedule` prints what the schedule shows of the task";
    judgement.blame(Fault::Harness, evidence.to_owned());
}

/// The kernel's function whose calls are the marks.
const MARKS_BY: &str = "__set_task_comm";

/// A sentence on each worker whose numbers are not those of the schedule.
fn disagreements(seen: &Seen, workers: &[WorkerNumbers]) -> Vec<String> {
    let spans = spans(&seen.answers.marks);
    let mut spans: BTreeMap<Pid, VecDeque<Span>> = spans
        .into_iter()
        .map(|(pid, spans)| (pid, spans.into()))
        .collect();
    let mut found = Vec::new();
    for own in workers {
        let pid = Pid(own.tid.cast_unsigned());
        // Ids are used again, and workers report in the order in which they lived.
        let span = spans.get_mut(&pid).and_then(VecDeque::pop_front);
        let who = || {
            let info = seen.answers.tasks.get(&pid);
            let name = info.and_then(TaskInfo::name).unwrap_or("worker");
            format!("{name}[{}]", pid.0)
        };
        match span {
            None => found.push(format!(
                "{} counted {} of CPU time, and the schedule shows no span of it",
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

/// What of a worker's numbers is not that of the schedule.
fn disagreement(own: &WorkerNumbers, span: &Span) -> Option<String> {
    let share = |ns: u64, share: f64| (ns as f64 * share) as u64;
    let apart = share(own.cpu_ns.max(span.ran_ns), APART)
        .saturating_add(own.slack_ns)
        .saturating_add(GRAIN_NS);
    let picking = span.runs.saturating_mul(PICKING_NS);
    let picking = picking.min(share(span.ran_ns, PICKING_SHARE));
    let more = span.ran_ns.saturating_sub(own.cpu_ns);
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
