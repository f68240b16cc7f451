//! What the exact schedule says of a run: the checks that the harness asks by itself wherever there is one.
//!
//! In the canned scenarios on 4 CPUs the kernel's own scheduler and scx-ktstr stay away from the bounds: a cgroup and a task get
//! 0.85 and more of their entitlement, and 33 ms are owed at most. `cargo ktstr power --plain` counts what the bounds catch
//! and whom they accuse. A test or a scheduler moves a bound or turns it off.

use ktstr_assert::{Assert, AssertDetail, AssertResult, Finding, Limit, NoteValue};
use ktstr_schedule::query::{Answers, Measures, Rules, Underserved, Who, measures};
use ktstr_schedule::{ReadError, Schedule, Tables};

use super::{Case, Fault, Judgement};
use ktstr_scenario::scheduler::Promise;

/// What the harness asks where neither the test nor the scheduler says anything. CPU time owed and waits after a wake-up are
/// measured by the slice that sched_ext gives by itself (`SCX_SLICE_DFL`, 20 ms: include/linux/sched/ext.h): in a queue in
/// which everybody gets one in turn nobody is owed more than that, and nobody waits longer than one for each task. A single
/// task may get less than a cgroup: where each CPU has a queue of its own, queues differ by a task.
pub(in crate::run) const DEFAULTS: Assert = Assert::NO_OVERRIDES
    .max_owed_ms(Limit::At(50.0))
    .min_entitled_share(Limit::At(0.7))
    .min_task_share(Limit::At(0.5))
    .max_wasted_share(Limit::At(0.1))
    .max_wake_wait_ms(Limit::At(25.0))
    .max_preemption_rate(Limit::At(3000.0))
    .min_driven_share(Limit::At(0.5));

/// Functions without which a schedule has holes: nothing is concluded from what is left.
const NEEDED: [&str; 5] = [
    "__switch_to",
    "enqueue_task_fair",
    "dequeue_task_fair",
    "enqueue_task_scx",
    "dequeue_task_scx",
];

/// A schedule that was walked through.
#[derive(Debug)]
pub(in crate::run) struct Seen {
    pub(in crate::run) answers: Answers,
    pub(in crate::run) tables: Tables,
}

/// Walks through the schedule `file`. `None`: there is none, or it has holes.
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

/// Folds in what the schedule shows of the tasks below the cgroup `root`.
pub(in crate::run) fn judge(
    judgement: &mut Judgement,
    case: &Case,
    checks: &Assert,
    seen: &Seen,
    root: &str,
) {
    // Whatever brought the run to no answer made the schedule say nothing either, and a scheduler that is gone did not
    // make the rest of it.
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

/// Keeps the numbers that the checks look at in the record.
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

/// Everything beyond its bound, with the promise that it breaks.
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
    // That a cgroup gets too little says it of its tasks, too.
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
