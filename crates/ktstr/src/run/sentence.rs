//! The verdict in one sentence: the finding that tells most, in plain words, and whose fault it is.
//! The findings themselves, with all their numbers, are told after it (`report.rs`).

use std::cmp::Reverse;

use ktstr_assert::{AssertDetail, AssertResult, DetailKind};
use ktstr_introspect::report::ScxExit;

use super::blame::EXCUSE;
use super::judge::{Fault, SAID_LAST};

/// Characters of a finding that a sentence takes over: two lines of a narrow terminal.
const MOST: usize = 160;

/// How little a kind tells beside others: the end of a scheduler explains all else, a worker that
/// stands still explains uneven shares and late wake-ups.
fn rank(kind: DetailKind) -> u8 {
    match kind {
        DetailKind::SchedulerEvent => 0,
        DetailKind::SchedulerCrashed
        | DetailKind::SchedulerExitedCleanly
        | DetailKind::SchedulerDiedUnknownReason => 1,
        DetailKind::Isolation => 2,
        DetailKind::NoProgress | DetailKind::WorkerStuck => 3,
        DetailKind::Stuck => 4,
        DetailKind::Unfair => 5,
        DetailKind::Benchmark => 6,
        DetailKind::Migration
        | DetailKind::PageLocality
        | DetailKind::CrossNodeMigration
        | DetailKind::SlowTier => 7,
        DetailKind::Temporal | DetailKind::Other => 8,
        DetailKind::Monitor => 9,
        DetailKind::PerfIsolation | DetailKind::Skip => 10,
    }
}

/// Whether all other findings may follow from this one.
pub(super) fn explains_the_rest(detail: &AssertDetail) -> bool {
    rank(detail.kind) < 2
}

/// What failed, the most telling first; then what could not be told.
pub(super) fn ranked(result: &AssertResult) -> Vec<&AssertDetail> {
    let sorted = |mut details: Vec<_>| {
        details.sort_by_key(|d: &&AssertDetail| {
            (
                rank(d.kind),
                Reverse(gap(&d.message).map_or(0, |gap| gap.ms)),
            )
        });
        details
    };
    let mut all = sorted(result.failure_details().collect());
    all.extend(sorted(result.inconclusive_details().collect()));
    all
}

/// The most telling finding and whose fault it is.
pub(super) fn sentence(
    result: &AssertResult,
    fault: Option<Fault>,
    exit: Option<&ScxExit>,
) -> String {
    let all = ranked(result);
    let Some(first) = all.first() else {
        return String::new();
    };
    let mut clause = clause(first, &all, exit);
    if first.message.ends_with(EXCUSE) {
        clause = format!("the host was too busy to judge this: {clause}");
    }
    if clause.chars().count() > MOST {
        clause = clause.chars().take(MOST).chain(['…']).collect();
    }
    match fault {
        Some(fault) => format!("{clause} — {fault} fault."),
        None => clause,
    }
}

/// One finding in plain words, without its place among the numbers; `all` are those beside it.
fn clause(detail: &AssertDetail, all: &[&AssertDetail], exit: Option<&ScxExit>) -> String {
    let alike = all.iter().filter(|d| d.kind == detail.kind).count();
    let message = detail.message.as_str();
    let plain = match detail.kind {
        DetailKind::SchedulerEvent => exit.and_then(|exit| ejected(exit, message, all)),
        DetailKind::SchedulerCrashed | DetailKind::SchedulerExitedCleanly => died(message),
        DetailKind::NoProgress => idle(detail, alike),
        DetailKind::Stuck => stuck(detail, alike),
        DetailKind::Unfair => uneven(detail),
        DetailKind::Isolation => outside(detail),
        _ => None,
    };
    plain
        .or_else(|| late(detail))
        .or_else(|| claimed(message))
        .unwrap_or_else(|| {
            let said = message.split(SAID_LAST).next().unwrap_or_default();
            let said = said.replace("panicked: panicked at", "panicked at");
            let words: Vec<&str> = said.lines().take(2).map(str::trim).collect();
            match &detail.cgroup {
                Some(cgroup) => format!("{} (cgroup {cgroup})", words.join(" ")),
                None => words.join(" "),
            }
        })
}

/// The part of `text` between two others.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after)?.0)
}

fn secs(ms: u64) -> String {
    match ms {
        0..100 => format!("{ms} ms"),
        _ => format!("{:.1} s", ms as f64 / 1000.0),
    }
}

fn worker(tid: &str, detail: &AssertDetail) -> String {
    match &detail.cgroup {
        Some(cgroup) => format!("worker {tid} of cgroup {cgroup}"),
        None => format!("worker {tid}"),
    }
}

/// What is told of a worker that stood still.
struct Gap<'a> {
    tid: &'a str,
    ms: u64,
    bound_ms: u64,
}

fn gap(message: &str) -> Option<Gap<'_>> {
    Some(Gap {
        tid: between(message, "tid ", " stuck ")?,
        ms: between(message, " stuck ", "ms on")?.parse().ok()?,
        bound_ms: between(message, "(threshold ", "ms)")?.parse().ok()?,
    })
}

fn stuck(detail: &AssertDetail, alike: usize) -> Option<String> {
    let gap = gap(&detail.message)?;
    let (who, ms, bound) = (worker(gap.tid, detail), secs(gap.ms), secs(gap.bound_ms));
    Some(match alike {
        1 => format!("{who} got nothing done for {ms}, where {bound} are allowed"),
        n => format!(
            "{n} workers got nothing done for longer than the allowed {bound}, {who} for {ms}"
        ),
    })
}

fn idle(detail: &AssertDetail, alike: usize) -> Option<String> {
    let tid = between(&detail.message, "tid ", " made no progress")?;
    let who = worker(tid, detail);
    Some(match alike {
        1 => format!("{who} did no work at all"),
        n => format!("{n} workers did no work at all, the first {who}"),
    })
}

fn uneven(detail: &AssertDetail) -> Option<String> {
    let rest = detail.message.strip_prefix("unfair cgroup: spread=")?;
    let (low, high) = between(rest, "(", "%)")?.split_once('-')?;
    let workers = between(rest, "%) ", " workers")?;
    let bound = between(rest, "(threshold ", "%)")?;
    let cgroup = detail.cgroup.as_deref().unwrap_or("a cgroup");
    Some(format!(
        "{workers} workers of {cgroup} did not get equal shares: off the CPU for {low} to {high} % of \
         their time ({bound} points apart are allowed)"
    ))
}

fn outside(detail: &AssertDetail) -> Option<String> {
    let message = &detail.message;
    let who = worker(between(message, "tid ", " ran on cpus ")?, detail);
    let cpus = between(message, " ran on cpus ", " outside ")?;
    let (_, cpuset) = message.split_once("its cpuset ")?;
    Some(format!(
        "{who} ran on CPUs {cpus}, outside its cpuset {cpuset}"
    ))
}

fn late(detail: &AssertDetail) -> Option<String> {
    let gate = detail.latency_gate?;
    let what = detail.message.split(|c: char| c.is_ascii_digit());
    let what = match what.clone().next() {
        // "p99 wake latency 35ns above …": the first word has digits of its own.
        Some("p") => detail.message.split(" latency ").next()?.to_owned() + " latency",
        Some(what) => what.trim().to_owned(),
        None => return None,
    };
    let ms = |ns: u64| format!("{:.1} ms", ns as f64 / 1e6);
    let of = detail.cgroup.as_deref().map(|c| format!(" of cgroup {c}"));
    Some(format!(
        "the {what}{} was {}, where {} are allowed",
        of.unwrap_or_default(),
        ms(gate.measured_ns),
        ms(gate.threshold_ns)
    ))
}

/// `label: expected relation, was value (reason)`, as claims say it.
fn claimed(message: &str) -> Option<String> {
    let (label, rest) = message.split_once(": expected ")?;
    let (relation, value) = rest.split_once(", was ")?;
    let value = value.lines().next()?;
    Some(format!("{label} was {value}, expected {relation}"))
}

fn ejected(exit: &ScxExit, message: &str, all: &[&AssertDetail]) -> Option<String> {
    let scheduler = between(message, "scheduler `", "`")?;
    if let Some(seconds) = exit.unwatched() {
        return Some(format!(
            "the kernel ejected {scheduler}, which for {seconds:.1} s gave no CPU even to the kernel's own watchdog"
        ));
    }
    let (task, seconds) = exit.stalled()?;
    let who = stalled_worker(exit, all).map_or_else(
        || format!("task {task}"),
        |(tid, detail)| worker(tid, detail),
    );
    Some(format!(
        "the kernel ejected {scheduler}, which gave {who} no CPU for {seconds:.1} s"
    ))
}

/// The stalled task's pid, and the finding that says whose worker it is.
fn stalled_worker<'e, 'd>(
    exit: &'e ScxExit,
    all: &[&'d AssertDetail],
) -> Option<(&'e str, &'d AssertDetail)> {
    let pid = between(exit.stalled()?.0, "[", "]")?;
    let start = format!("tid {pid} ");
    let detail = all.iter().find(|d| d.message.starts_with(&start))?;
    Some((pid, detail))
}

/// The cgroup that the most telling finding is about.
pub(super) fn cgroup<'a>(all: &[&'a AssertDetail], exit: Option<&ScxExit>) -> Option<&'a str> {
    let first = all.first()?;
    let stalled = || stalled_worker(exit?, all).and_then(|(_, d)| d.cgroup.as_deref());
    // The kernel names any task that waited too long; what followed for the workers is theirs.
    let followed = || {
        let mut cgroups = all.iter().filter_map(|d| d.cgroup.as_deref());
        cgroups.next().filter(|_| explains_the_rest(first))
    };
    first.cgroup.as_deref().or_else(stalled).or_else(followed)
}

fn died(message: &str) -> Option<String> {
    let how = message.strip_prefix("scheduler process died: `")?;
    let (scheduler, how) = how.split_once("` ")?;
    let how = how.split(SAID_LAST).next()?;
    Some(format!("{scheduler} {how} before the test was over"))
}

#[cfg(test)]
#[path = "sentence_tests.rs"]
mod tests;
