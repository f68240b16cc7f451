//! Acquits the scheduler of findings that the exact schedule does not confirm. A worker that got nothing done for a
//! long time may have been asleep, frozen, throttled or busy, which it cannot see itself; starvation is time in which a
//! task was runnable and did not run. Likewise, unequal shares of CPU time are not a failure of a scheduler that gave
//! each worker what it was entitled to.

use ktstr_assert::{Assert, AssertDetail, Finding, Limit, Outcome};
use ktstr_schedule::Pid;
use ktstr_schedule::query::{Answers, Measures, Underserved};

use super::Judgement;

/// The finding that a worker did no work at all stands only if the worker waited for a CPU for longer than this, in
/// milliseconds. Otherwise something else kept it from working.
const FIRST_TURN_MS: u64 = 200;
const NS_PER_MS: u64 = 1_000_000;

/// Turns failures that the schedule does not confirm into notes. If no failure is left and the run is not inconclusive,
/// nobody is at fault. `checks` contains the bounds that apply, set by the test, by its scheduler or by default. The bound
/// on the spread has no default in `checks`: if it is there, the test or the scheduler has set it.
pub(super) fn acquit(
    judgement: &mut Judgement,
    checks: &Assert,
    answers: &Answers,
    measured: &Measures,
) {
    if !judgement.result.is_fail() {
        return;
    }
    let mut explained = Vec::new();
    judgement.result.outcomes.retain(|outcome| match outcome {
        Outcome::Fail(detail) => {
            let why = match detail.finding {
                // A bound on the spread that was set explicitly applies as it is.
                Finding::Spread { .. } if checks.max_spread_pct.is_none() => {
                    judged_by_shares(detail, checks, answers, measured)
                }
                _ => not_waiting(detail, answers),
            };
            let keep = why.is_none();
            explained.extend(why);
            keep
        }
        _ => true,
    });
    if explained.is_empty() {
        return;
    }
    for why in explained {
        judgement.result.note(why);
    }
    if !judgement.result.is_fail() && !judgement.result.is_inconclusive() {
        (judgement.fault, judgement.evidence) = (None, None);
    }
}

/// Returns what the schedule shows about a spread; `None` if it shows nothing, so that the finding stands. The default bound
/// on a spread limits percentage points over a worker's whole life, and takes no account of the tasks with which the worker
/// shared its CPUs, nor of when it was placed there. The bound on each task's share of its entitlement replaces it: that
/// check fails a run by itself.
fn judged_by_shares(
    detail: &AssertDetail,
    checks: &Assert,
    answers: &Answers,
    measured: &Measures,
) -> Option<String> {
    let (even_ms, uneven_ms) = (answers.even_ns / NS_PER_MS, answers.uneven_ns / NS_PER_MS);
    let asked = checks.min_task_share.and_then(Limit::value).is_some();
    if answers.missing_ns > 0 || even_ms + uneven_ms == 0 || !asked {
        return None;
    }
    let worst = match measured.task.as_ref().map(Underserved::ratio) {
        Some(ratio) => {
            format!("each task got at least {ratio:.2} of the CPU time it was entitled to")
        }
        None => "nothing can be concluded about what each task was entitled to".to_owned(),
    };
    Some(format!(
        "{}: the schedule shows that {worst} in the {even_ms} ms of the steps in which the CPUs' queues had had time to become \
         balanced (in {uneven_ms} ms they had not)",
        detail.message
    ))
}

/// Returns how long a worker without progress waited for a CPU, as a note, if that is within the bound, so that the scheduler
/// did not cause the gap. `None` if the finding stands: the worker waited longer, the schedule does not show how long, or the
/// finding is about something else.
fn not_waiting(detail: &AssertDetail, answers: &Answers) -> Option<String> {
    let (tid, gap_ms, bound_ms) = match detail.finding {
        Finding::Gap {
            tid,
            gap_ms,
            bound_ms,
            ..
        } => (tid, Some(gap_ms), bound_ms),
        Finding::NoProgress { tid, exit: None } => (tid, None, FIRST_TURN_MS),
        _ => return None,
    };
    let task = Pid(u32::try_from(tid).ok()?);
    let within_ns = gap_ms.map_or(u64::MAX, |ms| ms.saturating_mul(NS_PER_MS));
    let waited_ms = answers.most_waited_ns(task, within_ns)? / NS_PER_MS;
    let how_long = gap_ms.map_or_else(String::new, |ms| format!(" for {ms} ms"));
    (waited_ms <= bound_ms).then(|| {
        format!(
            "worker {tid} got nothing done{how_long}, and the schedule shows that it waited for a CPU for {waited_ms} ms of that \
             at most: it was asleep, frozen, out of quota or at work"
        )
    })
}

#[cfg(test)]
#[path = "acquit_tests.rs"]
mod tests;
