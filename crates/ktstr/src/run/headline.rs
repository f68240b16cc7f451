//! The verdict in one sentence: the most significant finding, in plain words, and whose fault it is. The report lists
//! the findings themselves, with all their numbers, below the sentence (`report.rs`).

use ktstr_assert::{AssertDetail, AssertResult, Ejection, Finding};

use super::verdict::Fault;

/// The largest number of characters of a finding that the sentence quotes: two lines of a terminal of 80 columns.
const MOST: usize = 160;

/// Returns the failures, the most significant first, followed by the inconclusive findings.
pub(super) fn ranked(result: &AssertResult) -> Vec<&AssertDetail> {
    let mut failures: Vec<&AssertDetail> = result.failure_details().collect();
    order(&mut failures);
    let mut unknown: Vec<&AssertDetail> = result.inconclusive_details().collect();
    order(&mut unknown);
    failures.extend(unknown);
    failures
}

/// Sorts the findings, the most significant first. If that one is about uneven shares, the most uneven one is moved before it.
fn order(findings: &mut [&AssertDetail]) {
    findings.sort_by_key(|detail| detail.rank());
    let apart = |detail: &AssertDetail| match detail.finding {
        Finding::Spread {
            low_pct, high_pct, ..
        } => Some(high_pct - low_pct),
        _ => None,
    };
    let Some(mut most) = findings.first().and_then(|first| apart(first)) else {
        return;
    };
    let mut widest = 0;
    for (at, detail) in findings.iter().enumerate() {
        if let Some(apart) = apart(detail).filter(|apart| *apart > most) {
            (most, widest) = (apart, at);
        }
    }
    if let Some(before) = findings.get_mut(..=widest) {
        before.rotate_right(1);
    }
}

/// Returns the sentence: the most significant finding, and whose fault it is. Empty if nothing in the result failed
/// or is inconclusive.
pub(super) fn headline(result: &AssertResult, fault: Option<Fault>) -> String {
    let all = ranked(result);
    let Some(first) = all.first() else {
        return String::new();
    };
    let mut clause = shortened(&clause(first, &all));
    if first.host_explains {
        clause.push_str("; the host was busy with other work, which can explain this");
    }
    match fault {
        Some(Fault::Undetermined) => format!("{clause} — fault undetermined."),
        Some(fault) => format!("{clause} — {fault} fault."),
        None => clause,
    }
}

/// Returns `text` if it has at most [`MOST`] characters, or else its start and an ellipsis. The start ends with the last complete
/// clause within [`MOST`] characters or, if that clause ends in the first third of them, with the last complete word.
fn shortened(text: &str) -> String {
    let Some((cut, _)) = text.char_indices().nth(MOST) else {
        return text.to_owned();
    };
    let kept = &text[..cut];
    let clause = [". ", "; "].iter().filter_map(|end| kept.rfind(end)).max();
    let end = clause
        .filter(|end| *end > cut / 3)
        .or_else(|| kept.rfind(' '))
        .unwrap_or(cut);
    format!("{} …", kept[..end].trim_end_matches([',', ':']))
}

/// Returns one finding in plain words. `all` are the findings of the result, including this one.
fn clause(detail: &AssertDetail, all: &[&AssertDetail]) -> String {
    // Only findings of the same variant are counted, because a finding of another variant may be about the same wait of the
    // same worker.
    let same = |d: &&&AssertDetail| {
        std::mem::discriminant(&d.finding) == std::mem::discriminant(&detail.finding)
    };
    let alike = all.iter().filter(same).count();
    let plain = match &detail.finding {
        Finding::Ejected {
            scheduler, cause, ..
        } => ejected(scheduler, cause, all),
        Finding::SchedulerDied { scheduler, how, .. } => scheduler
            .as_ref()
            .map(|scheduler| format!("{scheduler} {how} before the test was over")),
        Finding::NotAttached { scheduler, why, .. } => {
            Some(format!("scheduler `{scheduler}` did not attach: {why}"))
        }
        Finding::NoProgress { tid, .. } => Some(idle(*tid, detail, alike)),
        Finding::Gap {
            tid,
            gap_ms,
            bound_ms,
            ..
        } => Some(stuck(&worker(*tid, detail), *gap_ms, *bound_ms, alike)),
        Finding::Spread {
            low_pct,
            high_pct,
            workers,
            bound_pct,
            ..
        } => Some(format!(
            "{workers} workers of {} did not get equal shares: they were off the CPU for {low_pct:.0} to {high_pct:.0} % of \
             their time (at most {bound_pct:.0} points apart are allowed)",
            detail.cgroup.as_deref().unwrap_or("one cgroup")
        )),
        Finding::OutsideCpuset { tid, cpus, cpuset } => {
            let cpus: Vec<_> = cpus.iter().collect();
            Some(format!(
                "{} ran on CPUs {cpus:?}, outside its cpuset {cpuset:?}",
                worker(*tid, detail)
            ))
        }
        Finding::WakeLatency {
            p99_ns, bound_ns, ..
        } => Some(late(detail, *p99_ns, *bound_ns)),
        Finding::Claim {
            label,
            expected,
            actual,
            reason,
        } => {
            let reason = reason.as_ref().map(|why| format!(" ({why})"));
            let text = format!(
                "{label} was {actual}{}, expected {expected}",
                reason.unwrap_or_default()
            );
            Some(text.lines().next().unwrap_or_default().to_owned())
        }
        _ => None,
    };
    plain.unwrap_or_else(|| {
        let text = &detail.message;
        let words: Vec<&str> = text.lines().take(2).map(str::trim).collect();
        let cgroup = detail.cgroup.as_ref();
        let unnamed = cgroup
            .filter(|name| !text.starts_with(&format!("cgroup {name} ")))
            .map(|name| format!("cgroup `{name}`"));
        let step = super::report::step_that_is_not_named(detail);
        let place: Vec<String> = unnamed.into_iter().chain(step).collect();
        match place.is_empty() {
            true => words.join(" "),
            false => format!("{} ({})", words.join(" "), place.join(", ")),
        }
    })
}

/// A time and its unit.
type Time = (f64, &'static str);

fn short(ms: u64) -> Time {
    match ms {
        0..100 => (ms as f64, "ms"),
        _ => (ms as f64 / 1000.0, "s"),
    }
}

fn in_ms(ns: u64) -> Time {
    (ns as f64 / 1e6, "ms")
}

/// Returns the texts of the two times with one decimal, or with two or three if they would look the same otherwise.
fn told_apart(found: Time, bound: Time) -> (String, String) {
    let texts = |decimals: usize| {
        let text = |(value, unit): Time| format!("{value:.decimals$} {unit}");
        (text(found), text(bound))
    };
    let differ = |(found, bound): &(String, String)| found != bound;
    (1..=2).map(texts).find(differ).unwrap_or_else(|| texts(3))
}

fn worker(tid: i32, detail: &AssertDetail) -> String {
    match &detail.cgroup {
        Some(cgroup) => format!("worker {tid} of cgroup `{cgroup}`"),
        None => format!("worker {tid}"),
    }
}

fn stuck(who: &str, gap_ms: u64, bound_ms: u64, alike: usize) -> String {
    let (gap, bound) = told_apart(short(gap_ms), short(bound_ms));
    match alike {
        1 => format!("{who} got nothing done for {gap}, more than the allowed {bound}"),
        n => format!(
            "{n} workers got nothing done for longer than the allowed {bound}, {who} for {gap}"
        ),
    }
}

fn idle(tid: i32, detail: &AssertDetail, alike: usize) -> String {
    let who = worker(tid, detail);
    match alike {
        1 => format!("{who} did no work at all"),
        n => format!("{n} workers did no work at all, for example {who}"),
    }
}

fn late(detail: &AssertDetail, p99_ns: u64, bound_ns: u64) -> String {
    let (p99, bound) = told_apart(in_ms(p99_ns), in_ms(bound_ns));
    let of = detail
        .cgroup
        .as_deref()
        .map(|c| format!(" of cgroup `{c}`"));
    format!(
        "the p99 wake latency{} was {p99}, more than the allowed {bound}",
        of.unwrap_or_default(),
    )
}

fn ejected(scheduler: &str, cause: &Ejection, all: &[&AssertDetail]) -> Option<String> {
    match cause {
        Ejection::Unwatched { seconds } => Some(format!(
            "the kernel ejected {scheduler}, which for {seconds:.1} s gave no CPU even to the \
             kernel's own watchdog"
        )),
        Ejection::Stall {
            task: Some(task),
            seconds: Some(seconds),
        } => {
            let who = stalled_worker(cause, all).map_or_else(
                || format!("task {task}"),
                |(tid, detail)| worker(tid, detail),
            );
            Some(format!(
                "the kernel ejected {scheduler}, which gave {who} no CPU for {seconds:.1} s"
            ))
        }
        _ => None,
    }
}

/// Returns the pid of the task whose stall ended the scheduler, and another finding about this task, which names the cgroup
/// of the worker. `None` if the kernel named no task, or if no other finding is about it.
fn stalled_worker<'d>(
    cause: &Ejection,
    all: &[&'d AssertDetail],
) -> Option<(i32, &'d AssertDetail)> {
    let tid = cause.stalled_tid()?;
    let detail = all.iter().find(|d| d.finding.tid() == Some(tid))?;
    Some((tid, detail))
}

/// Returns the cgroup that the most significant finding is about. If this finding names none, returns the cgroup of the
/// worker whose stall ended the scheduler or, if the finding may explain all others, the cgroup of the next finding that
/// names one. `None` if there is no such cgroup.
pub(super) fn cgroup<'a>(all: &[&'a AssertDetail]) -> Option<&'a str> {
    let first = all.first()?;
    let stalled = || match &first.finding {
        Finding::Ejected { cause, .. } => {
            stalled_worker(cause, all).and_then(|(_, d)| d.cgroup.as_deref())
        }
        _ => None,
    };
    // The task that the kernel named may be no worker. Then the less significant findings may still name the cgroup of a worker.
    let followed = || {
        let mut cgroups = all.iter().filter_map(|d| d.cgroup.as_deref());
        cgroups.next().filter(|_| first.explains_the_rest())
    };
    first.cgroup.as_deref().or_else(stalled).or_else(followed)
}

#[cfg(test)]
#[path = "headline_tests.rs"]
mod tests;
