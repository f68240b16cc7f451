//! The default checks on the exact schedule of a run, if there is one.
//!
//! In the canned scenarios on 4 CPUs the kernel's own scheduler and scx-ktstr keep well within the bounds: cgroups and
//! tasks get at least 0.85 of their entitlement, and no task is owed more than 33 ms. `cargo ktstr power --plain`
//! counts what the bounds detect, and which schedulers they accuse. A test or a scheduler can move a bound or
//! turn it off.

use ktstr_assert::{Assert, AssertDetail, AssertResult, Finding, Limit, NoteValue};
use ktstr_schedule::query::{Answers, Measures, Rules, Underserved, Who, measures};
use ktstr_schedule::{ReadError, Schedule, Tables};

use super::{Case, Fault, Judgement};
use ktstr_scenario::scheduler::Promise;

/// The bounds that apply if neither the test nor the scheduler sets them. The bounds on owed CPU time and on waits
/// after a wakeup derive from sched_ext's default slice (`SCX_SLICE_DFL`, 20 ms: include/linux/sched/ext.h): in a queue
/// in which each task gets one slice in turn, no task is owed more than a slice, and none waits longer than one slice
/// for each task in the queue. The bound for a single task is lower than that for a cgroup: if each CPU has its own
/// queue, the lengths of queues differ by a task.
pub(in crate::run) const DEFAULTS: Assert = Assert::NO_OVERRIDES
    .max_owed_ms(Limit::At(50.0))
    .min_entitled_share(Limit::At(0.7))
    .min_task_share(Limit::At(0.5))
    .max_wasted_share(Limit::At(0.1))
    .max_wake_wait_ms(Limit::At(25.0))
    .max_preemption_rate(Limit::At(3000.0))
    .min_driven_share(Limit::At(0.5));

/// Functions without which a schedule has gaps. Nothing is concluded from a schedule that lacks one of them.
const NEEDED: [&str; 5] = [
    "__switch_to",
    "enqueue_task_fair",
    "dequeue_task_fair",
    "enqueue_task_scx",
    "dequeue_task_scx",
];

/// A schedule that has been evaluated.
#[derive(Debug)]
pub(in crate::run) struct Seen {
    pub(in crate::run) answers: Answers,
    pub(in crate::run) tables: Tables,
}

/// Evaluates the schedule `file`. Returns `None` if there is no schedule, or if it has gaps.
pub(in crate::run) fn see(
    judgement: &mut Judgement,
    case: &Case,
    file: Option<&[u8]>,
) -> Option<Seen> {
    let rules = Rules {
        nice: case.promises.holds(Promise::Nice),
        cpu_weight: case.promises.holds(Promise::CpuWeight),
    };
    read(file?, rules).unwrap_or_else(|error| {
        judgement
            .result
            .note(format!("the schedule could not be read back: {error}"));
        None
    })
}

/// Adds what the schedule shows about the tasks below the cgroup `root`.
pub(in crate::run) fn judge(
    judgement: &mut Judgement,
    case: &Case,
    checks: &Assert,
    seen: &Seen,
    root: &str,
) {
    // The cause of an inconclusive run makes its schedule inconclusive as well, and a scheduler that has ended did not
    // produce the rest of the schedule.
    if judgement.result.is_inconclusive() || judgement.guest.is_err() {
        return;
    }
    let measured = measures(&seen.answers, &seen.tables, root);
    let checks = DEFAULTS.merge(checks);
    super::acquit::acquit(judgement, &checks, &seen.answers, &measured);
    if judgement
        .result
        .failure_details()
        .any(AssertDetail::explains_the_rest)
    {
        return;
    }
    note(&mut judgement.result, &measured);
    let open = judgement.is_open();
    let mut failed = false;
    for (promise, found) in findings(&checks, &measured, case.has_scheduler) {
        let (what, message) = (promise.name(), &found.message);
        if !case.promises.holds(promise) {
            let note = format!("not promised ({what}): {message}");
            judgement.result.note(note);
        } else if checks.report_monitor_only == Some(true) {
            let note = format!("reported only: {message}");
            judgement.result.note(note);
        } else {
            judgement.result.record_fail(found);
            failed = true;
        }
    }
    if failed && open {
        let evidence =
            "the exact schedule shows it; `cargo ktstr schedule` prints who ran and who waited";
        let fault = match case.has_scheduler {
            true => Fault::Scheduler,
            false => Fault::Kernel,
        };
        judgement.blame(fault, evidence.to_owned());
    }
}

fn read(file: &[u8], rules: Rules) -> Result<Option<Seen>, ReadError> {
    let schedule = Schedule::read(file)?;
    let tables = schedule.tables();
    if tables
        .missing
        .iter()
        .any(|name| NEEDED.contains(&name.as_str()))
    {
        return Ok(None);
    }
    let answers = Answers::under(&schedule, rules)?;
    let tables = tables.clone();
    Ok(Some(Seen { answers, tables }))
}

/// Stores the values that the checks use in the record.
fn note(result: &mut AssertResult, measured: &Measures) {
    let mut keep = |name: &str, value: Option<f64>| {
        if let Some(value) = value {
            result
                .measurements
                .insert(name.to_owned(), NoteValue::Float(value));
        }
    };
    let ratio = |of: &Option<Underserved>| of.as_ref().map(Underserved::ratio);
    keep(
        "owed_ms",
        measured
            .starved
            .as_ref()
            .map(|worst| worst.owed_ns as f64 / 1e6),
    );
    keep("entitled_share_task", ratio(&measured.task));
    keep("entitled_share_cgroup", ratio(&measured.cgroup));
    keep(
        "wasted_share",
        measured.wasted.as_ref().map(|worst| worst.share),
    );
    keep(
        "wake_wait_ms",
        measured.wake.as_ref().map(|worst| worst.value / 1e6),
    );
    keep(
        "preemption_rate",
        measured.preemptions.as_ref().map(|worst| worst.value),
    );
    keep("driven_share", driven(measured));
}

fn driven(measured: &Measures) -> Option<f64> {
    (measured.ran_ns > 0).then(|| measured.driven_ns as f64 / measured.ran_ns as f64)
}

/// Returns every measure that exceeds its bound, with the promise that it breaks.
fn findings(
    checks: &Assert,
    measured: &Measures,
    has_scheduler: bool,
) -> Vec<(Promise, AssertDetail)> {
    let value = |limit: Option<Limit>| limit.and_then(Limit::value);
    let ms = |ns: u64| ns / 1_000_000;
    let mut found = Vec::new();
    if let (Some(bound_ms), Some(worst)) = (value(checks.max_owed_ms), &measured.starved)
        && worst.owed_ns as f64 / 1e6 > bound_ms
    {
        let finding = Finding::Starved {
            task: name(&worst.who),
            waited_ms: ms(worst.waited_ns),
            owed_ms: ms(worst.owed_ns),
            from_ms: ms(worst.from_ns),
            served: worst.served,
            bound_ms,
        };
        found.push((Promise::Service, detail(finding, cgroup(&worst.who))));
    }
    let shares = [
        (value(checks.min_entitled_share), &measured.cgroup),
        (value(checks.min_task_share), &measured.task),
    ];
    let short = shares.into_iter().filter_map(|(floor, worst)| {
        let (floor, worst) = (floor?, worst.as_ref()?);
        (worst.ratio() < floor).then_some((floor, worst))
    });
    // A finding about a cgroup includes its tasks, so it comes first.
    if let Some((floor, worst)) =
        short.min_by_key(|(_, worst)| matches!(worst.who, Who::Task { .. }))
    {
        let finding = Finding::Underserved {
            task: matches!(worst.who, Who::Task { .. }).then(|| name(&worst.who)),
            got_ms: ms(worst.got_ns),
            entitled_ms: ms(worst.entitled_ns),
            favoured: worst
                .favoured
                .as_ref()
                .map(|(who, ns)| (name(who), ms(*ns))),
            floor,
        };
        found.push((Promise::Fairness, detail(finding, cgroup(&worst.who))));
    }
    if let (Some(bound), Some(worst)) = (value(checks.max_wasted_share), &measured.wasted)
        && worst.share > bound
    {
        let finding = Finding::WastedCpu {
            wasted_ms: ms(worst.ns),
            share: worst.share,
            bound,
        };
        found.push((Promise::WorkConservation, detail(finding, "")));
    }
    if let (Some(bound_ms), Some(worst)) = (value(checks.max_wake_wait_ms), &measured.wake)
        && worst.value / 1e6 > bound_ms
    {
        let finding = Finding::LateWakeups {
            p90_ms: worst.value / 1e6 * measured.queue,
            queue: measured.queue,
            wakeups: worst.events,
            bound_ms,
        };
        found.push((Promise::WakeUps, detail(finding, &worst.cgroup)));
    }
    if let (Some(bound), Some(worst)) = (value(checks.max_preemption_rate), &measured.preemptions)
        && worst.value > bound
    {
        let finding = Finding::Preemptions {
            rate: worst.value,
            preemptions: worst.events,
            bound,
        };
        found.push((Promise::Slices, detail(finding, &worst.cgroup)));
    }
    if let (Some(floor), Some(share), true) = (
        value(checks.min_driven_share),
        driven(measured),
        has_scheduler,
    ) && share < floor
    {
        let finding = Finding::NotDriven { share, floor };
        found.push((Promise::AllTasks, detail(finding, "")));
    }
    found
}

fn detail(finding: Finding, cgroup: &str) -> AssertDetail {
    let detail = AssertDetail::of(finding);
    match cgroup {
        "" => detail,
        cgroup => detail.with_cgroup(cgroup.to_owned()),
    }
}

fn name(who: &Who) -> String {
    match who {
        Who::Task { pid, name, .. } => format!("{name}[{}]", pid.0),
        Who::Cgroup(path) => format!("cgroup {path}"),
    }
}

fn cgroup(who: &Who) -> &str {
    match who {
        Who::Task { cgroup, .. } => cgroup,
        Who::Cgroup(path) => path,
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
