//! The checks on the exact schedule of a run, if there is one, with their default bounds.
//!
//! In the canned scenarios on 4 CPUs the kernel's own scheduler and scx-ktstr keep well within the bounds: cgroups and
//! tasks get at least 0.85 of their entitlement, and no task is owed more than 33 ms. `cargo ktstr power --plain`
//! counts what the bounds detect, and which schedulers they accuse. A test or a scheduler can move a bound or
//! turn it off.

use ktstr_assert::{Assert, AssertDetail, AssertResult, Finding, Limit, NoteValue};
use ktstr_schedule::query::{Answers, Measures, Phase, Rules, Underserved, Who, measures};
use ktstr_schedule::{ReadError, Schedule, Tables};

use super::{Case, Fault, Judgement, Logs, fault};
use crate::run::step;
use ktstr_scenario::scheduler::Promise;

/// The bounds that apply if neither the test nor the scheduler sets them. The bounds on owed CPU time and on waits after a
/// wakeup derive from sched_ext's default slice (`SCX_SLICE_DFL`, 20 ms: include/linux/sched/ext.h): in a queue in which
/// each task gets one slice in turn, no task is owed more than one slice, and none waits longer than one slice for each task
/// in the queue. The bounds leave a margin: 50 ms (two and a half slices) of owed time, and 25 ms (one and a quarter) of wait
/// for each task in the queue, since a wait is divided by the length of the queue before it is compared. The bound on the
/// share of the entitlement is lower for a task than for a cgroup: if each CPU has its own queue, the lengths of the queues
/// can differ by one task.
pub(in crate::run) const DEFAULTS: Assert = Assert::NO_OVERRIDES
    .max_owed_ms(Limit::At(50.0))
    .min_entitled_share(Limit::At(0.7))
    .min_task_share(Limit::At(0.5))
    .max_wasted_share(Limit::At(0.1))
    .max_wake_wait_ms(Limit::At(25.0))
    .max_preemption_rate(Limit::At(3000.0))
    .min_driven_share(Limit::At(0.5));

/// The kernel functions that have to be observed for a complete schedule. If one of them could not be observed, switches
/// or waits are missing, and nothing is concluded from the schedule.
const NEEDED: [&str; 5] = [
    "__switch_to",
    "enqueue_task_fair",
    "dequeue_task_fair",
    "enqueue_task_scx",
    "dequeue_task_scx",
];

/// The schedule of a run, evaluated.
#[derive(Debug)]
pub(in crate::run) struct Seen {
    /// The waits, shares and other values that were computed from the events.
    pub(in crate::run) answers: Answers,
    /// The names, cgroups and topology of the schedule, and the functions that could not be observed.
    pub(in crate::run) tables: Tables,
}

impl Seen {
    /// Whether the schedule shows all that is needed to judge the scheduler. That of the kernel's tracepoints does not.
    pub(in crate::run) fn is_exact(&self) -> bool {
        self.tables.source.is_exact()
    }
}

/// Evaluates the schedule `file`, with entitlements that follow nice values and cgroup weights as far as the scheduler
/// promises to honor them. Returns `None` if there is no schedule, or if it is an exact one, and one of the
/// functions [`NEEDED`] was not observed.
///
/// # Errors
/// If the file cannot be read.
pub(in crate::run) fn see(case: &Case, file: Option<&[u8]>) -> Result<Option<Seen>, ReadError> {
    let rules = Rules {
        nice: case.promises.holds(Promise::Nice),
        cpu_weight: case.promises.holds(Promise::CpuWeight),
        cpu_idle: !case.has_bpf_scheduler() || case.told_of_idle,
    };
    match file {
        Some(file) => read(file, rules),
        None => Ok(None),
    }
}

/// Applies the exact schedule of the tasks below the cgroup `root` to the verdict. Failures that the workers' reports gave, and
/// that the schedule does not confirm, become notes. Each bound that the schedule breaks becomes a failure if the scheduler
/// promises to keep it. It becomes a note if the scheduler does not, or if the checks only report (`report_monitor_only`).
pub(in crate::run) fn judge(
    judgement: &mut Judgement,
    case: &Case,
    checks: &Assert,
    seen: &Seen,
    root: &str,
    logs: Logs<'_>,
) {
    // What makes a run inconclusive makes its schedule inconclusive as well, with one exception: if only checks of workers
    // had no data, or the test itself cannot decide something, the schedule can still be judged. A guest without a result did
    // not run the test to its end, which is reported already.
    let inconclusive = judgement.result.is_inconclusive() && !judgement.lacks_only_data();
    if inconclusive || judgement.guest.is_err() {
        return;
    }
    if let Some(unseen) = unseen(&seen.answers) {
        judgement.result.note(unseen);
    }
    let measured = measures(&seen.answers, &seen.tables, root);
    let checks = DEFAULTS.merge(checks);
    let of_latency = super::latency::acquit(judgement, seen, root);
    let of_gaps = super::acquit::acquit(judgement, &checks, &seen.answers, &measured, &case.hogs);
    if of_latency || of_gaps {
        fault::attribute_again(judgement, case, logs);
    }
    // A scheduler that has ended did not produce the rest of the schedule.
    if judgement
        .result
        .failure_details()
        .any(AssertDetail::explains_the_rest)
    {
        return;
    }
    note(&mut judgement.result, &measured);
    let weighted = &seen.answers.weighted;
    if case.has_bpf_scheduler() && !seen.answers.rules.cpu_weight && !weighted.is_empty() {
        let names: Vec<&str> = weighted.iter().map(String::as_str).collect();
        judgement.result.note(format!(
            "the cpu.weight of {} does not count: the scheduler does not promise to follow it, or has neither ops.cgroup_init nor \
             ops.cgroup_set_weight, by which the kernel would tell it",
            names.join(", ")
        ));
    }
    let idle = &seen.answers.idle_cgroups;
    if !idle.is_empty() {
        let names: Vec<&str> = idle.iter().map(String::as_str).collect();
        judgement.result.note(format!(
            "the cpu.idle of {} does not count: no ops.cgroup_set_idle of the scheduler was found, by which the kernel would tell it",
            names.join(", ")
        ));
    }
    let open = judgement.is_open();
    let mut failed = Vec::new();
    for (promise, found) in findings(&checks, &measured, case.has_bpf_scheduler()) {
        let (what, message) = (promise.name(), &found.message);
        if !case.promises.holds(promise) {
            let note = format!("not promised ({what}): {message}");
            judgement.result.note(note);
        } else if checks.report_monitor_only == Some(true) {
            let note = format!("reported only: {message}");
            judgement.result.note(note);
        } else {
            failed.push(found.clone());
            judgement.result.record_fail(found);
        }
    }
    if failed.is_empty() || !open {
        return;
    }
    if case.changed {
        fault::undecided(judgement, fault::CHANGED);
    } else {
        let evidence = "the exact schedule is the evidence; `cargo ktstr schedule` prints who ran and who waited";
        // Real-time workers do not give up the CPUs on which they run, so tasks that are queued there have to wait.
        // The finding that the scheduler drove too little CPU time is an exception: it leaves out the time of real-time tasks, so
        // they do not explain it.
        let explicable = |d: &AssertDetail| !matches!(d.finding, Finding::NotDriven { .. });
        let hog = case
            .hogs
            .at_all(&judgement.result.measurements, &failed)
            .filter(|_| failed.iter().all(explicable));
        let engine = case.hogs.engine(&failed);
        if let Some(engine) = engine.filter(|_| hog.is_none() && failed.iter().all(explicable)) {
            fault::unproven(judgement, Fault::Harness, engine);
            return;
        }
        let (fault, why) = match (hog, case.has_scheduler()) {
            (Some(hog), _) => (Fault::Test, hog),
            (_, true) => (Fault::Scheduler, evidence.to_owned()),
            (_, false) => (Fault::Kernel, evidence.to_owned()),
        };
        judgement.blame(fault, why);
    }
}

/// Reads and evaluates a schedule; `None` if it is an exact one, and one of the functions [`NEEDED`] was not observed.
fn read(file: &[u8], rules: Rules) -> Result<Option<Seen>, ReadError> {
    let schedule = Schedule::read(file)?;
    let tables = schedule.tables();
    let lacks = |name: &String| NEEDED.contains(&name.as_str());
    if tables.source.is_exact() && tables.missing.iter().any(lacks) {
        return Ok(None);
    }
    let answers = Answers::under(&schedule, rules)?;
    let tables = tables.clone();
    Ok(Some(Seen { answers, tables }))
}

/// Describes, for a schedule that exceeded its size limit, which part of the steps is missing; `None` if none is missing.
fn unseen(answers: &Answers) -> Option<String> {
    let (from_ns, to_ns) = (answers.from_ns?, answers.to_ns?);
    let complete_ns = answers.complete_from_ns.filter(|at| *at > from_ns)?;
    let seconds = |ns: u64| (ns as f64 - from_ns as f64) / 1e9;
    Some(format!(
        "the exact schedule exceeded its size limit and is complete only from {:.3} s on, of the {:.3} s since the first step \
         began: its bounds are judged from then on, and say nothing about the time before",
        seconds(complete_ns),
        seconds(to_ns)
    ))
}

/// Adds the values that the checks compare with their bounds to the measurements of the result.
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

/// Returns the share of the tasks' CPU time that the scheduler under test gave; `None` if no task ran.
fn driven(measured: &Measures) -> Option<f64> {
    (measured.ran_ns > 0).then(|| measured.driven_ns as f64 / measured.ran_ns as f64)
}

/// Returns a finding for each measure that is outside its bound, with the promise that it breaks. Of a cgroup and a task
/// that got too little CPU time, only the cgroup is reported.
fn findings(
    checks: &Assert,
    measured: &Measures,
    has_bpf_scheduler: bool,
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
        found.push((Promise::Service, detail(finding, cgroup(&worst.who), None)));
    }
    let shares = [
        (value(checks.min_entitled_share), &measured.cgroup),
        (value(checks.min_task_share), &measured.task),
    ];
    let short = shares.into_iter().filter_map(|(floor, worst)| {
        let (floor, worst) = (floor?, worst.as_ref()?);
        (worst.ratio() < floor).then_some((floor, worst))
    });
    // Both findings break the same promise, so only one is reported: the one about a cgroup, if there is one (`false` is
    // less than `true`), because it covers all of the cgroup's tasks.
    if let Some((floor, worst)) =
        short.min_by_key(|(_, worst)| matches!(worst.who, Who::Task { .. }))
    {
        let finding = Finding::Underserved {
            who: name(&worst.who),
            got_ms: ms(worst.got_ns),
            entitled_ms: ms(worst.entitled_ns),
            favoured: worst
                .favoured
                .as_ref()
                .map(|(who, ns)| (name(who), ms(*ns))),
            floor,
        };
        found.push((
            Promise::Fairness,
            detail(finding, cgroup(&worst.who), worst.phase),
        ));
    }
    if let (Some(bound), Some(worst)) = (value(checks.max_wasted_share), &measured.wasted)
        && worst.share > bound
    {
        let finding = Finding::WastedCpu {
            wasted_ms: ms(worst.ns),
            share: worst.share,
            bound,
        };
        found.push((Promise::WorkConservation, detail(finding, "", worst.phase)));
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
        found.push((
            Promise::WakeUps,
            detail(finding, &worst.cgroup, worst.phase),
        ));
    }
    if let (Some(bound), Some(worst)) = (value(checks.max_preemption_rate), &measured.preemptions)
        && worst.value > bound
    {
        let finding = Finding::Preemptions {
            rate: worst.value,
            preemptions: worst.events,
            bound,
        };
        found.push((Promise::Slices, detail(finding, &worst.cgroup, worst.phase)));
    }
    if let (Some(floor), Some(share), true) = (
        value(checks.min_driven_share),
        driven(measured),
        has_bpf_scheduler,
    ) && share < floor
    {
        let finding = Finding::NotDriven { share, floor };
        found.push((Promise::AllTasks, detail(finding, "", None)));
    }
    found
}

/// Returns the detail of a finding about this cgroup in this step; an empty name means that it is about no cgroup.
fn detail(finding: Finding, cgroup: &str, phase: Phase) -> AssertDetail {
    let mut detail = AssertDetail::of(finding);
    if let Some(number) = phase {
        detail = detail.with_phase(step(number));
    }
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
