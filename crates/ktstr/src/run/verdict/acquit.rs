//! What workers say of themselves and the exact schedule does not bear out. A worker that got nothing done for long may have been
//! asleep, frozen, out of quota or at work, which it cannot see: starvation is time in which a task could run and did not. And
//! that workers got unequal shares of their lives is no failure of a scheduler that gave each of them what it was entitled to.

use ktstr_assert::{Assert, AssertDetail, Finding, Limit, Outcome};
use ktstr_schedule::Pid;
use ktstr_schedule::query::{Answers, Measures, Underserved};

use super::Judgement;

/// A worker that did no work at all, and could have run for no longer than this, was kept from its work by something else,
/// milliseconds.
const FIRST_TURN_MS: u64 = 200;
const NS_PER_MS: u64 = 1_000_000;

/// Turns such failures into notes. A run that has no other failure then has nobody to blame. `checks` has the bounds that hold, as
/// the test asks for them or by default, but for a spread: that one only if the test asks for it.
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
                // A test that asks for a spread has its own reasons.
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

/// What the schedule says of a spread; `None` where it says nothing, and the spread stands. The default bound on a spread is a number
/// of points over a worker's whole life, and knows neither whom the worker shared its CPUs with nor when it was placed there. The share
/// of what each task was entitled to takes its place, and fails a run by itself.
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
        None => "nothing can be concluded of what each task was entitled to".to_owned(),
    };
    Some(format!(
        "{}: the schedule shows that {worst} in the {even_ms} ms of the steps in which the queues of the CPUs had had time to be evened \
         out (in {uneven_ms} ms they had not)",
        detail.message
    ))
}

/// What kept a worker from its work instead of a wait for a CPU; `None` where the finding stands.
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
