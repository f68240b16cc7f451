//! What workers say of themselves and the exact schedule does not bear out. A worker that got nothing done for long may have been
//! asleep, frozen, out of quota or at work, which it cannot see: starvation is time in which a task could run and did not. And
//! workers that were placed a moment ago have unequal shares by chance.

use ktstr_assert::{Assert, AssertDetail, Finding, Outcome};
use ktstr_schedule::Pid;
use ktstr_schedule::query::Answers;

use super::Judgement;

/// A worker that did no work at all, and could have run for no longer than this, was kept from its work by something else,
/// milliseconds.
const FIRST_TURN_MS: u64 = 200;
/// Time with even queues from which on a spread says something, milliseconds: so long a step has to be for shares, too.
const LEAST_EVEN_MS: u64 = 300;
const NS_PER_MS: u64 = 1_000_000;

/// Turns such failures into notes. A run that has no other failure then has nobody to blame.
pub(super) fn acquit(judgement: &mut Judgement, checks: &Assert, answers: &Answers) {
    if !judgement.result.is_fail() {
        return;
    }
    let mut explained = Vec::new();
    judgement.result.outcomes.retain(|outcome| match outcome {
        Outcome::Fail(detail) => {
            let why = match detail.finding {
                // A test that asks for a spread has its own reasons.
                Finding::Spread { .. } if checks.max_spread_pct.is_none() => {
                    by_chance(detail, answers)
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

/// Why a spread says nothing; `None` where it stands. It is of a worker's whole life, so most of that must have had even queues.
fn by_chance(detail: &AssertDetail, answers: &Answers) -> Option<String> {
    let (even_ms, uneven_ms) = (answers.even_ns / NS_PER_MS, answers.uneven_ns / NS_PER_MS);
    let little = even_ms < LEAST_EVEN_MS.max(uneven_ms);
    let chance = answers.missing_ns == 0 && uneven_ms > 0 && little;
    chance.then(|| {
        format!(
            "{}: nothing is concluded from that, since the queues of the CPUs had had time to be evened out for {even_ms} ms of the \
             steps, and not for {uneven_ms} ms",
            detail.message
        )
    })
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
