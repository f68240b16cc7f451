//! Acquits the scheduler of findings that the exact schedule does not confirm. A worker that got nothing done for a long time
//! cannot see the reason itself: it may have been asleep, frozen, throttled or busy. It was starved only while it was runnable
//! and did not run. Likewise, unequal shares of CPU time are not a failure of a scheduler that gave each worker what it was
//! entitled to.

use ktstr_assert::{Assert, AssertDetail, Finding, Limit, Outcome, WorkerExitInfo};
use ktstr_guest::engine::{FIRST_TURN_MS, SERVED_MS};
use ktstr_schedule::query::{Answers, Measures, TaskInfo, Underserved};
use ktstr_schedule::{Class, Pid};

use super::hog::Measurements;
use super::{Hogs, Judgement};

const NS_PER_MS: u64 = 1_000_000;
/// The part of a worker's waits that must have been judged, in milliseconds, before they show what the worker was entitled to.
const JUDGED_MS: u64 = 500;
/// The CPU time, in milliseconds, to which a worker must have been entitled while it waited, so that a finding about its gap
/// stands. It is the default of `max_owed_ms`, and applies if the checks have no bound.
pub(super) const OWED_MS: f64 = 50.0;

/// Turns failures that the schedule does not confirm into notes. If no failure is left and the run is not inconclusive,
/// nobody is at fault. `checks` contains the bounds that apply, set by the test, by its scheduler or by default. The bound
/// on the spread has no default in `checks`: if it is there, the test or the scheduler has set it. Returns whether failures
/// were removed, and what is left of the result is no pass, so that its fault has to be determined again.
pub(super) fn acquit(
    judgement: &mut Judgement,
    checks: &Assert,
    answers: &Answers,
    measured: &Measures,
    hogs: &Hogs<'_>,
) -> bool {
    if !judgement.result.is_fail() {
        return false;
    }
    // A real-time hog of the test leaves no CPU time to which other workers are entitled, so a gap at the time of a hog would be
    // acquitted. It stands nevertheless, because it is the test's fault.
    let bound = checks.max_owed_ms.and_then(Limit::value);
    let most_owed_ms = bound.unwrap_or(OWED_MS);
    // Whether a worker that ran, but less than it was entitled to, would fail the run by the share of CPU time that it got.
    let shares_judged = answers.missing_ns == 0
        && checks.report_monitor_only != Some(true)
        && checks.min_task_share.and_then(Limit::value).is_some();
    // A bound on gaps that was set explicitly applies as it is, even if the worker ran again and again within the gap.
    let turns_count = shares_judged && checks.max_gap_ms.is_none();
    let counts = Counts {
        shares_judged,
        turns_count,
    };
    explain(judgement, |measurements, detail| match detail.finding {
        // A bound on the spread that was set explicitly applies as it is.
        Finding::Spread { .. } if checks.max_spread_pct.is_none() => {
            judged_by_shares(detail, checks, answers, measured)
        }
        _ => {
            let hog = hogs.at(measurements, detail).is_some();
            not_waiting(detail, answers, most_owed_ms, counts, hog)
        }
    })
}

/// Turns each failure for which `why` returns a reason into a note of that reason. If no failure is left and the run is not
/// inconclusive, nobody is at fault. Returns whether failures were removed, and what is left of the result is no pass.
pub(super) fn explain(
    judgement: &mut Judgement,
    why: impl Fn(&Measurements, &AssertDetail) -> Option<String>,
) -> bool {
    let mut explained = Vec::new();
    let measurements = &judgement.result.measurements;
    judgement.result.outcomes.retain(|outcome| match outcome {
        Outcome::Fail(detail) => {
            let why = why(measurements, detail);
            let keep = why.is_none();
            explained.extend(why);
            keep
        }
        _ => true,
    });
    if explained.is_empty() {
        return false;
    }
    for why in explained {
        judgement.result.note(why);
    }
    if !judgement.result.is_fail() && !judgement.result.is_inconclusive() {
        judgement.blame_nobody();
    }
    judgement.result.is_fail() || judgement.result.is_inconclusive()
}

/// Returns what the schedule shows about a spread; `None` if it shows nothing, so that the finding stands. The default bound
/// on a spread compares percentages over the whole lives of workers, and takes no account of the tasks with which a worker
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

/// Which facts can acquit a worker's scheduler, apart from the waits themselves.
#[derive(Clone, Copy)]
struct Counts {
    /// Whether CPU time that the worker got acquits the scheduler. It does if another check judges the worker's share of CPU
    /// time.
    shares_judged: bool,
    /// Whether the scheduler is acquitted if the worker ran again each time before it was owed much.
    turns_count: bool,
}

/// If a worker got nothing done for a reason other than the scheduler, returns the reason as a note: the worker waited for a
/// CPU for no longer than the bound, it got CPU time although it finished nothing, it got what it was due in each of its waits,
/// or its weight entitles it to next to nothing. `None` if the finding stands: the worker waited longer for what it was entitled
/// to, the schedule does not show how long, or the finding is about something else.
///
/// If real-time workers took the CPU (`hog`), only the length of the waits counts, and whether the worker ran.
fn not_waiting(
    detail: &AssertDetail,
    answers: &Answers,
    most_owed_ms: f64,
    counts: Counts,
    hog: bool,
) -> Option<String> {
    let (tid, gap, bound_ms, answered) = match &detail.finding {
        Finding::Gap {
            tid,
            gap_ms,
            at_ms,
            bound_ms,
            ..
        } => (*tid, Some((*gap_ms, *at_ms)), *bound_ms, true),
        Finding::NoProgress { tid, exit } => match exit {
            None => (*tid, None, FIRST_TURN_MS, true),
            Some(WorkerExitInfo::TimedOut) => (*tid, None, FIRST_TURN_MS, false),
            Some(_) => return None,
        },
        _ => return None,
    };
    let task = Pid(u32::try_from(tid).ok()?);
    let waited_ns = match gap {
        None => answers.most_waited_ns(task, u64::MAX)?,
        Some((gap_ms, at_ms)) => waited_in_gap_ns(answers, task, gap_ms, at_ms)?,
    };
    let waited_ms = waited_ns / NS_PER_MS;
    let gap_ms = gap.map(|(gap_ms, _)| gap_ms);
    let is_idle = matches!(detail.finding, Finding::NoProgress { .. });
    let ran_ms = answers.sum(|key| key.task == task).run_ns / NS_PER_MS;
    let how_long = gap_ms.map_or_else(String::new, |ms| format!(" for {ms} ms"));
    if waited_ms <= bound_ms {
        // If a worker was served and yet did not respond to the request to stop, the finding stands, although the fault is
        // not the scheduler's.
        let mut waits = answers.waits.iter();
        let aside = match waits.any(|wait| wait.task == task && wait.class == Class::Deadline) {
            // The waits of a deadline task do not count, so nothing shows that one that never ran was not starved.
            true if is_idle && ran_ms == 0 => return None,
            true => {
                " (its waits as a deadline task do not count, since the kernel makes it wait when it has used \
                 up its budget)"
            }
            false => "",
        };
        return answered.then(|| {
            format!(
                "worker {tid} got nothing done{how_long}, and the schedule shows that it waited for a CPU for {waited_ms} ms of \
                 that at most{aside}: it was asleep, frozen, out of quota or at work"
            )
        });
    }
    if is_idle && answered && counts.shares_judged && ran_ms >= SERVED_MS {
        return Some(format!(
            "worker {tid} got nothing done, and the schedule shows that it ran for {ran_ms} ms: its work takes longer"
        ));
    }
    if hog {
        return None;
    }
    let kept_ms = most_kept_ns(answers, task) as f64 / NS_PER_MS as f64;
    if answered && counts.turns_count && kept_ms < most_owed_ms {
        return Some(format!(
            "worker {tid} got nothing done{how_long}, and waited for a CPU for {waited_ms} ms of that, but the schedule shows that \
             it ran again each time before it was owed more than {kept_ms:.1} ms: it was at work, in turns with others"
        ));
    }
    let owed_ms = entitled(answers, task)? * waited_ms as f64;
    (owed_ms < most_owed_ms).then(|| {
        format!(
            "worker {tid} got nothing done{how_long}, and waited for a CPU for {waited_ms} ms of that: with the tasks that ran \
             meanwhile, its weight entitled it to {owed_ms:.1} ms"
        )
    })
}

/// The largest difference between the rates of the guest's monotonic clock, by which a worker reports, and the scheduler clock,
/// by which the schedule counts.
const CLOCKS_APART: f64 = 0.001;

/// Returns how long the worker can have waited at most in a gap of `gap_ms` that ended `at_ms` after its release, in nanoseconds;
/// `None` if the schedule does not show it.
///
/// The worker was released between its creation and its first mark, which it leaves as soon as it runs after its release. So the
/// gap lies within a period that is longer than the gap by the time between the two. If the schedule does not show them, the gap
/// may be any period of its length.
pub(super) fn waited_in_gap_ns(
    answers: &Answers,
    task: Pid,
    gap_ms: u64,
    at_ms: u64,
) -> Option<u64> {
    let anywhere_ns = answers.most_waited_ns(task, gap_ms.saturating_mul(NS_PER_MS))?;
    let began = answers.tasks.get(&task).and_then(TaskInfo::began_ns);
    // A gap that is longer than the life of the worker is not reported by the harness, but by the test's own function.
    let Some((forked_ns, marked_ns)) = began.filter(|_| gap_ms <= at_ms) else {
        return Some(anywhere_ns);
    };
    let at_ns = at_ms.saturating_mul(NS_PER_MS);
    // Reported times are whole milliseconds.
    let slack_ns = (at_ns as f64 * CLOCKS_APART) as u64 + NS_PER_MS;
    let gap_ns = gap_ms.saturating_add(1).saturating_mul(NS_PER_MS);
    let from_ns = (forked_ns.saturating_add(at_ns)).saturating_sub(gap_ns.saturating_add(slack_ns));
    let to_ns = marked_ns.saturating_add(at_ns).saturating_add(slack_ns);
    let here_ns = answers.waited_between_ns(task, from_ns, to_ns)?;
    Some(here_ns.min(anywhere_ns))
}

/// Returns the most CPU time that a single wait can have kept from the task, in nanoseconds: what it was owed in the part of the
/// wait that was judged, and all of the rest.
pub(super) fn most_kept_ns(answers: &Answers, task: Pid) -> u64 {
    let waits = answers.waits.iter().filter(|wait| wait.task == task);
    let kept = waits.map(|wait| {
        let rest = wait.len_ns().saturating_sub(wait.judged_ns);
        rest.saturating_add(wait.owed_ns)
    });
    kept.max().unwrap_or(0)
}

/// Returns the share of a CPU that the task was entitled to while it waited; `None` if too little of its waits was judged.
fn entitled(answers: &Answers, task: Pid) -> Option<f64> {
    let waits = answers.waits.iter().filter(|wait| wait.task == task);
    let (owed_ns, judged_ns) = waits.fold((0u64, 0u64), |(owed, judged), wait| {
        (
            owed.saturating_add(wait.owed_ns),
            judged.saturating_add(wait.judged_ns),
        )
    });
    (judged_ns >= JUDGED_MS * NS_PER_MS).then(|| owed_ns as f64 / judged_ns as f64)
}

#[cfg(test)]
#[path = "acquit_tests.rs"]
mod tests;
