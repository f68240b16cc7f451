//! Acquits the scheduler of wake-up latencies that the exact schedule does not confirm. A worker measures the time from the
//! moment at which it should wake up until it runs. This includes time in which it could not run under any scheduler: it was
//! frozen, stopped, or out of quota. The schedule shows for how long it waited for a CPU.

use std::collections::BTreeMap;

use ktstr_assert::{AssertDetail, DetailKind, Finding};
use ktstr_schedule::query::{Wait, WaitCause};
use ktstr_schedule::{Class, Pid};

use super::Judgement;
use super::acquit::explain;
use super::hog::step_of;
use super::schedule::Seen;
use crate::run::step;

/// A worker that lost its CPU again within this time after it had been woken may not have measured its latency yet, so its next
/// wait is a part of the same latency, in nanoseconds.
const NOT_MEASURED_YET_NS: u64 = 1_000_000;
/// The smallest number of wake-ups whose variation is compared with a bound.
const LEAST_WAKEUPS: usize = 20;

/// Turns failures about wake-up latencies into notes if the waits of the cgroup's tasks are within the bound. Returns whether
/// failures were removed and what is left of the result is no pass, so that its fault has to be determined again.
pub(super) fn acquit(judgement: &mut Judgement, seen: &Seen, root: &str) -> bool {
    if !judgement.result.is_fail() || seen.answers.missing_ns > 0 {
        return false;
    }
    explain(judgement, |_, detail| explained(detail, seen, root))
}

/// Returns what the schedule shows about the latency; `None` if the finding stands, or if it is about something else.
fn explained(detail: &AssertDetail, seen: &Seen, root: &str) -> Option<String> {
    let (what, within) = match &detail.finding {
        Finding::WakeLatency {
            bound_ns, samples, ..
        } => {
            let p99_ns = p99_of_longest(waits(detail, seen, root)?, *samples)?;
            let what = format!(
                "the 99th percentile of these waits is {:.1} ms",
                p99_ns as f64 / 1e6
            );
            (what, p99_ns <= *bound_ns)
        }
        Finding::Bound {
            kind: DetailKind::Benchmark,
            tid: None,
            what,
            bound,
            ..
        } if what == WAKE_LATENCY_CV => {
            let waits = waits(detail, seen, root)?;
            let cv = cv(&waits).filter(|_| waits.len() >= LEAST_WAKEUPS)?;
            (
                format!("their coefficient of variation is {cv:.2}"),
                cv <= *bound,
            )
        }
        _ => return None,
    };
    within.then(|| {
        format!(
            "{}: the schedule shows how long the cgroup's tasks waited for a CPU after wake-ups, and {what}: for the rest of the \
             time they were frozen, stopped, out of quota or asleep, or used up their budget as deadline tasks",
            detail.message
        )
    })
}

/// The name by which the finding about the variation of latencies is recognized.
const WAKE_LATENCY_CV: &str = "wake latency cv";

/// Returns the waits after wake-ups, in nanoseconds, of the tasks that have been in the finding's cgroup, in the finding's step
/// and outside of the steps, or at any time if the finding belongs to no step. `None` if there are none.
fn waits(detail: &AssertDetail, seen: &Seen, root: &str) -> Option<Vec<u64>> {
    let path = format!("{root}/{}", detail.cgroup.as_deref()?);
    let is_meant = |id: &u64| {
        let cgroup = seen.tables.cgroups.get(id);
        cgroup.is_some_and(|cgroup| cgroup.path == path)
    };
    let label = step_of(detail);
    let counts = |wait: &&Wait| match (label, wait.phase) {
        (Some(label), Some(number)) => step(number) == label,
        _ => true,
    };
    let mut of_tasks: BTreeMap<Pid, Vec<&Wait>> = BTreeMap::new();
    for wait in seen.answers.waits.iter().filter(counts) {
        of_tasks.entry(wait.task).or_default().push(wait);
    }
    of_tasks.retain(|task, waits| {
        let info = seen.answers.tasks.get(task);
        let listed = info.is_some_and(|info| info.cgroups.iter().any(is_meant));
        listed
            || waits
                .iter()
                .any(|wait| wait.cgroup.as_ref().is_some_and(is_meant))
    });
    let all: Vec<u64> = of_tasks.into_values().flat_map(after_wakeups).collect();
    (!all.is_empty()).then_some(all)
}

/// Returns how long the task waited after each wake-up, in nanoseconds, including the waits that followed before it could measure
/// its latency. `waits` are all waits of the task. Waits as a deadline task are left out: they contain the time in which
/// the task had used up its budget.
fn after_wakeups(mut waits: Vec<&Wait>) -> Vec<u64> {
    waits.retain(|wait| wait.class != Class::Deadline);
    waits.sort_unstable_by_key(|wait| wait.from_ns);
    let mut all: Vec<u64> = Vec::new();
    let mut before: Option<&Wait> = None;
    for wait in waits {
        let woken = matches!(
            wait.cause,
            WaitCause::Woken | WaitCause::Unthrottled | WaitCause::Unknown
        );
        let ran_ns = before.map(|before| wait.from_ns.saturating_sub(before.to_ns));
        match all.last_mut() {
            Some(last) if !woken && ran_ns.is_some_and(|ns| ns < NOT_MEASURED_YET_NS) => {
                *last = last.saturating_add(wait.len_ns());
            }
            _ if woken => all.push(wait.len_ns()),
            _ => {
                before = None;
                continue;
            }
        }
        before = Some(wait);
    }
    all
}

/// Returns the 99th percentile of as many waits as there were samples. The longest waits are taken, since the samples may be
/// those of the longest waits.
fn p99_of_longest(mut waits: Vec<u64>, samples: usize) -> Option<u64> {
    waits.sort_unstable();
    let first = waits.len().saturating_sub(samples);
    // Each sample that is no wait is one of length 0. The guest tells the number of samples, which may be any number.
    let missing = samples.saturating_sub(waits.len());
    let rank = samples.saturating_sub(samples / 100);
    match rank.checked_sub(missing) {
        None | Some(0) => (samples > 0).then_some(0),
        Some(rank) => waits.get(first + rank - 1).copied(),
    }
}

/// Returns the population standard deviation of the values divided by their mean; `None` if the mean is 0.
fn cv(values: &[u64]) -> Option<f64> {
    let count = values.len().max(1) as f64;
    let mean = values.iter().map(|ns| *ns as f64).sum::<f64>() / count;
    let squares = values.iter().map(|ns| (*ns as f64 - mean).powi(2));
    (mean > 0.0).then(|| (squares.sum::<f64>() / count).sqrt() / mean)
}

#[cfg(test)]
mod tests {
    use ktstr_schedule::query::{Answers, TaskInfo};
    use ktstr_schedule::{Cgroup, Cpu, Tables};

    use super::*;
    use crate::run::verdict::Fault;

    const MS: u64 = 1_000_000;

    #[test]
    fn the_percentile_is_that_of_as_many_waits_as_samples() {
        use ktstr_schedule::query::percentile;
        let waits: Vec<u64> = (1..=250).collect();
        for samples in [1, 2, 99, 100, 101, 200, 250, 251, 300, 20_000] {
            let missing = samples - waits.len().min(samples);
            let first = waits.len().saturating_sub(samples);
            let mut all = vec![0; missing];
            all.extend_from_slice(&waits[first..]);
            let expected = percentile(&all, 99.0);
            assert_eq!(
                p99_of_longest(waits.clone(), samples),
                expected,
                "{samples}"
            );
        }
        // A guest may claim any number.
        assert_eq!(p99_of_longest(vec![5], usize::MAX), Some(0));
        assert_eq!(p99_of_longest(vec![5], 0), None);
    }
    use WaitCause::{Preempted, Woken};

    /// Returns a schedule in which task 7 of the cgroup `s` had these waits in step 1, each with its start and end in ms.
    fn seen(waits: &[(WaitCause, Class, u64, u64)]) -> Seen {
        let wait = |&(cause, class, from, to): &(WaitCause, Class, u64, u64)| Wait {
            phase: Some(1),
            task: Pid(7),
            class,
            cgroup: Some(3),
            cpu: Cpu(0),
            cause,
            from_ns: from * MS,
            to_ns: to * MS,
            owed_ns: 0,
            judged_ns: 0,
            served: true,
        };
        let path = "/ktstr/s".to_owned();
        Seen {
            answers: Answers {
                waits: waits.iter().map(wait).collect(),
                tasks: [(Pid(7), TaskInfo::default())].into(),
                ..Answers::default()
            },
            tables: Tables {
                cgroups: [(3, Cgroup { path })].into(),
                ..Tables::default()
            },
        }
    }

    /// Whether a finding about these latencies stands in view of the schedule.
    fn stands(finding: Finding, seen: &Seen) -> bool {
        let mut judgement = Judgement::fail(Fault::Scheduler, finding);
        let detail = judgement.result.failure_details().next().cloned();
        let detail = detail.expect("a failure").with_cgroup("s".to_owned());
        judgement.result = ktstr_assert::AssertResult::fail(detail);
        acquit(&mut judgement, seen, "/ktstr");
        assert_eq!(judgement.result.is_fail(), judgement.fault.is_some());
        judgement.result.is_fail()
    }

    fn p99() -> Finding {
        Finding::WakeLatency {
            p99_ns: 600 * MS,
            bound_ns: 50 * MS,
            samples: 20,
        }
    }

    #[test]
    fn a_latency_without_a_wait_is_not_the_schedulers_fault() {
        let ext = Class::Ext;
        // The wait after the preemption is no part of a wake-up.
        assert!(!stands(
            p99(),
            &seen(&[(Woken, ext, 0, 10), (Preempted, ext, 30, 130)])
        ));
        assert!(stands(p99(), &seen(&[(Woken, ext, 0, 51)])));
        // The task lost its CPU before it could read the clock.
        let at_once = [(Woken, ext, 0, 1), (Preempted, ext, 1, 101)];
        assert!(stands(p99(), &seen(&at_once)));
        // Many short waits do not hide one long wait, because the workers may have sampled the long one.
        let mut many: Vec<_> = (0..500).map(|n| (Woken, ext, 10 * n, 10 * n)).collect();
        many.push((Woken, ext, 9000, 9060));
        assert!(stands(p99(), &seen(&many)));
        let deadline = [(Woken, ext, 0, 1), (Woken, Class::Deadline, 10, 100)];
        assert!(!stands(p99(), &seen(&deadline)));
        let mut holed = seen(&[(Woken, ext, 0, 10)]);
        holed.answers.missing_ns = 1;
        assert!(stands(p99(), &holed));
        assert!(stands(p99(), &seen(&[])), "no wake-up is no evidence");
    }

    #[test]
    fn the_variation_of_the_waits_decides_about_that_of_the_latencies() {
        let cv = || Finding::Bound {
            kind: DetailKind::Benchmark,
            tid: None,
            what: WAKE_LATENCY_CV.to_owned(),
            value: 7.0,
            unit: String::new(),
            bound: 2.0,
        };
        let even: Vec<_> = (0..40)
            .map(|n| (Woken, Class::Ext, 100 * n, 100 * n + 1))
            .collect();
        assert!(!stands(cv(), &seen(&even)));
        assert!(stands(cv(), &seen(&even[..5])), "too few");
        let mut uneven = even;
        uneven.push((Woken, Class::Ext, 5000, 5100));
        assert!(stands(cv(), &seen(&uneven)));
    }
}
