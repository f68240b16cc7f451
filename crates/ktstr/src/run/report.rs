//! The failure report: one screen that says what happened, whose fault it is, and where the rest can be found.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use ktstr_assert::stats::CgroupStats;
use ktstr_assert::{AssertDetail, AssertResult, Finding, MonitorReport, ScenarioStats};
use ktstr_record::brief::{counted, first_line};
use ktstr_record::{RunVerdict, TestName};
use ktstr_snapshot::report::ScxExit;
use ktstr_state::env;

use super::verdict::{Fault, default_evidence, last_lines, without_time};
use super::{EXIT_INCONCLUSIVE, Finished, NO_EXIT, accelerator, headline};
use crate::nextest;
use crate::vm_result::VmResult;

/// The largest number of lines of a report, including the outcome of auto-repro: one screen, since a terminal has some 50 lines,
/// and some lines of the report are wrapped.
const SCREEN: usize = 40;

/// The limits on those parts of the report that could be of any length. The record contains these parts in full.
#[derive(Clone, Copy)]
struct Limits {
    /// The largest number of findings of one kind.
    same_kind: usize,
    /// The largest number of lines of a log, and of an ejected scheduler's own dump.
    log: usize,
}

/// The limits that are tried one after the other until the report fits on a screen. Each entry shortens either the logs or the
/// list of findings; the first cut is to the logs. The last entry is used even if the report still does not fit.
const LIMITS: [Limits; 7] = [
    Limits::new(3, 6),
    Limits::new(3, 5),
    Limits::new(2, 5),
    Limits::new(2, 4),
    Limits::new(2, 3),
    Limits::new(1, 3),
    Limits::new(1, 2),
];

impl Limits {
    const fn new(same_kind: usize, log: usize) -> Self {
        Self { same_kind, log }
    }
}

/// Returns the reason for the verdict in one line; empty for a pass.
pub(super) fn reason(result: &AssertResult) -> String {
    let ranked = headline::ranked(result);
    let first = ranked.first().copied();
    let first = first.or_else(|| result.skip_details().next());
    first.map_or_else(String::new, |detail| {
        let line = first_line(&detail.message);
        format!("{line}{}", host_suffix(detail))
    })
}

/// Returns the suffix for a finding that a busy host can explain; empty for any other.
fn host_suffix(detail: &AssertDetail) -> &'static str {
    match detail.host_explains {
        true => "; the host's other work can explain it",
        false => "",
    }
}

/// Returns the reason why the first capture without data holds none. If there is no such capture, the reason is that no
/// capture became due.
pub(super) fn placeholder_reason(vm: &VmResult) -> String {
    vm.captures_series()
        .entries()
        .iter()
        .find(|entry| entry.report.is_placeholder)
        .and_then(|entry| entry.report.placeholder_reason.clone())
        .unwrap_or_else(|| "the run ended before the first capture was due".to_owned())
}

/// Returns the whole report of a run that did not pass. If it would not fit on one screen, less is shown of the logs and of
/// findings of the same kind, which can be read in the record as well.
pub(super) fn text(finished: &Finished) -> String {
    let mut text = String::new();
    for limits in LIMITS {
        text = text_within(finished, limits);
        if text.lines().count() <= SCREEN {
            break;
        }
    }
    text
}

fn text_within(finished: &Finished, limits: Limits) -> String {
    let entry = finished.entry;
    let all = headline::ranked(&finished.result);
    let headline = headline::headline(&finished.result, finished.fault);
    let mut text = format!(
        "ktstr_test '{}' [sched={}] [topo={}] {}: {headline}",
        entry.name,
        finished.scheduler.as_ref().map_or_else(
            || entry.scheduler.binary.display_name(),
            |ran| ran.shown.as_str(),
        ),
        entry.topology,
        if finished.verdict == RunVerdict::Fail {
            "failed"
        } else {
            "came to no verdict"
        },
    );
    findings(&mut text, &all, &headline, limits.same_kind);
    if let Some(fault) = finished.fault {
        let _ = write!(text, "\n  fault: {fault}");
        if let Some(evidence) = &finished.evidence {
            let _ = write!(text, " ({evidence})");
        }
    }
    let stats = &finished.result.stats;
    if !stats.cgroups.is_empty() {
        let table = crate::table::cgroups_with_odd_ones(stats, &odd_ones(stats, &all));
        section(&mut text, "stats", &table);
    }
    if let Some(vm) = &finished.vm {
        sections(&mut text, finished, vm, &all, limits.log);
        let trail = finished.evidence_of_schedule.trail.join("\n");
        section(&mut text, "trail", &trail);
        let repeat = finished.repeat.as_deref().unwrap_or_default();
        section(&mut text, "auto-repro", repeat);
        let record = finished.record.as_deref().filter(|_| vm.mips.is_some());
        let run = record.and_then(Path::parent).and_then(Path::file_name);
        let run = run.map(|run| run.to_string_lossy());
        if let Some(ran) = &finished.scheduler {
            let _ = write!(text, "\nscheduler: {ran}");
        }
        text.push_str(&ended_staged(finished, &all));
        if let (Some(run), Some(pid)) = (&run, finished.evidence_of_schedule.task()) {
            let _ = write!(text, "\nwhy: cargo ktstr why {run} {pid}");
        }
        let _ = write!(
            text,
            "\nagain: {}",
            again(entry.name, vm.seed, run.as_deref())
        );
    }
    if let Some(record) = &finished.record {
        let _ = write!(text, "\nrecord: {}", record.display());
    }
    text
}

/// Returns a line about the staged scheduler that ended, because the line about the test's own scheduler names another binary.
/// Empty if no staged scheduler ended.
fn ended_staged(finished: &Finished, all: &[&AssertDetail]) -> String {
    let own = finished.scheduler.as_ref().map(|ran| ran.shown.as_str());
    let ended = all.iter().find_map(|detail| match &detail.finding {
        Finding::SchedulerDied { scheduler, .. } => scheduler.as_deref(),
        Finding::Ejected { scheduler, .. } => Some(scheduler.as_str()),
        _ => None,
    });
    let mut staged = finished.entry.staged_schedulers.iter();
    let Some(staged) = staged.find(|one| Some(one.name) == ended && ended != own) else {
        return String::new();
    };
    let binary = staged.binary.display_name();
    let args = staged.sched_args.join(" ");
    let command = format!("{binary} {args}");
    format!(
        "\nended: `{}`, which the test started later ({})",
        staged.name,
        command.trim_end()
    )
}

/// Returns the step of a finding as screens name it; `None` if it is about no step, or if its message begins with the step.
pub(super) fn step_that_is_not_named(detail: &AssertDetail) -> Option<String> {
    let step = detail.phase.as_deref().map(ktstr_record::brief::step)?;
    (!detail.message.starts_with(&format!("{step} "))).then_some(step)
}

/// Appends the failures, then the inconclusive findings. Of each kind only the first few are shown, and fewer if the
/// first finding may explain the others. A finding that the sentence `headline` quotes word for word is not repeated.
fn findings(text: &mut String, all: &[&AssertDetail], headline: &str, same_kind: usize) {
    let few = match all.first() {
        Some(first) if first.explains_the_rest() => (same_kind - 1).max(1),
        _ => same_kind,
    };
    let mut shown: BTreeMap<String, usize> = BTreeMap::new();
    for detail in all {
        let seen = shown.entry(format!("{:?}", detail.kind)).or_default();
        *seen += 1;
        if *seen <= few && !headline.starts_with(&detail.message) {
            // If there are other lines, they are a quote, for example of a log, which the end of the first line announces. The
            // place belongs to what happened, not to the quote.
            let mut lines = detail.message.split('\n');
            let first = lines.next().unwrap_or_default();
            let is_quote = first.ends_with(':') && detail.message.contains('\n');
            let quoted = match is_quote {
                true => first.rfind("; ").unwrap_or(first.len() - 1),
                false => first.len(),
            };
            let (first, announced) = first.split_at(quoted);
            let _ = write!(text, "\n  {first}{}", host_suffix(detail));
            let phase = step_that_is_not_named(detail);
            let cgroup = detail.cgroup.as_deref();
            let place: Vec<&str> = cgroup.into_iter().chain(phase.as_deref()).collect();
            if !place.is_empty() {
                let _ = write!(text, " [{}]", place.join(", "));
            }
            text.push_str(announced);
            for line in lines {
                let _ = write!(text, "\n  {line}");
            }
        }
    }
    let more: Vec<String> = shown
        .iter()
        .filter(|(_, seen)| **seen > few)
        .map(|(kind, seen)| format!("{} {kind}", seen - few))
        .collect();
    if !more.is_empty() {
        let more = more.join(", ");
        let left_out: usize = shown.values().map(|seen| seen.saturating_sub(few)).sum();
        let _ = write!(
            text,
            "\n  ... and {} ({more}), all of which are in the record",
            counted(left_out, "more finding")
        );
    }
}

/// Returns the indices in `stats.cgroups` of the cgroups that the table marks: those with the name that [`headline::cgroup`]
/// returns. If it returns none, the table marks one cgroup, the one with the worst value of what the most significant finding
/// measures. The list is empty if that finding measures nothing of a cgroup.
fn odd_ones(stats: &ScenarioStats, all: &[&AssertDetail]) -> Vec<usize> {
    let Some(first) = all.first() else {
        return Vec::new();
    };
    if let Some(name) = headline::cgroup(all) {
        let places = stats.cgroups.iter().enumerate();
        let named = places.filter(|(_, cgroup)| cgroup.cgroup_name == name);
        return named.map(|(at, _)| at).collect();
    }
    // A claim may name cgroups in its reason. If it names exactly one, the table marks that one. Otherwise the table marks the
    // cgroup with the worst value of what the finding measures, among the named ones or, if none is named, among all.
    let reasons = match &first.finding {
        Finding::Claim { reason, .. } => reason.as_deref(),
        _ => None,
    };
    let is_named = |cgroup: &CgroupStats| {
        let is_part = |c: char| c.is_alphanumeric() || "_-./".contains(c);
        let mut words = reasons.unwrap_or_default().split(|c| !is_part(c));
        words.any(|word| word == cgroup.cgroup_name)
    };
    let named: Vec<usize> = (0..stats.cgroups.len())
        .filter(|at| is_named(&stats.cgroups[*at]))
        .collect();
    let among = match named.is_empty() {
        true => (0..stats.cgroups.len()).collect(),
        false if named.len() == 1 => return named,
        false => named,
    };
    among
        .into_iter()
        .filter_map(|at| Some((at, first.badness(&stats.cgroups[at])?)))
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(at, _)| at)
        .into_iter()
        .collect()
}

/// The command that repeats the run of this process, in two parts: the text before `--seed SEED`, and the text after it. A
/// program that is not a test binary sets it with [`say_again`]. For a test binary the command is derived from the test's name.
static AGAIN: std::sync::OnceLock<(String, String)> = std::sync::OnceLock::new();

/// Sets the command that the report and the record of this process's run give for repeating the run: `before`, then `--seed`
/// and the run's seed, then `after`. A program that executes one run and is not a test binary calls this. A second call has no
/// effect.
pub fn say_again(before: String, after: String) {
    let _ = AGAIN.set((before, after));
}

/// The name under which nextest runs the test of this process.
static UNDER_NEXTEST: std::sync::OnceLock<String> = std::sync::OnceLock::new();

/// Sets the name under which nextest runs the test of this process. A second call has no effect.
pub(crate) fn under_nextest_as(name: &str) {
    let _ = UNDER_NEXTEST.set(name.to_owned());
}

/// Returns the name under which nextest runs the test of this process, if the name is that of a variant, which has more
/// parts than `ktstr/TEST`; otherwise `None`.
pub(super) fn variant() -> Option<&'static str> {
    let name = UNDER_NEXTEST.get()?;
    (name.split('/').count() > 2).then_some(name)
}

/// Returns the command that repeats the run with the same seed. The first of these that applies is used:
/// - The command that [`say_again`] has set.
/// - `cargo test`, if libtest runs the test, and `cargo nextest run`, if nextest runs the test and lists the variant: they also
///   rebuild the test.
/// - `cargo ktstr replay` of the run `replayed`, which is given if the run can be repeated to the last bit. A verifier cell is
///   not replayed.
/// - A call of the test binary for a variant, and `cargo test` for a test as it is declared.
pub(super) fn again(test: &str, seed: u64, replayed: Option<&str>) -> String {
    if let Some((before, after)) = AGAIN.get() {
        return format!("{before} --seed {seed}{after}");
    }
    let exe = std::env::current_exe().unwrap_or_default();
    let file = exe.file_name().unwrap_or_default().to_string_lossy();
    // Cargo appends a hash to the name of a test's binary.
    let target = file.rsplit_once('-').map_or(&*file, |(name, _)| name);
    // libtest gives the thread the whole path of the test as its name.
    let thread = std::thread::current();
    let path = thread
        .name()
        .filter(|name| name.rsplit("::").next() == Some(test));
    let package = env::CARGO_PKG_NAME.row().shown();
    if let (Some(package), Some(path)) = (&package, path) {
        let target = if target == package.replace('-', "_") {
            "--lib".to_owned()
        } else {
            format!("--test {target}")
        };
        return format!("KTSTR_SEED={seed} cargo test -p {package} {target} {path} -- --exact");
    }
    let name = variant().map_or_else(|| TestName::declared(test).to_string(), str::to_owned);
    let list = |row: &env::Row| {
        let value = row.shown();
        value.map_or_else(String::new, |list| format!("{}='{list}' ", row.name))
    };
    let lists = list(env::KERNEL_LIST.row()) + &list(env::SEED_LIST.row());
    let package = package.filter(|_| env::NEXTEST.is_on() && nextest::is_listed(&name));
    if let Some(package) = package {
        let ignored = match nextest::is_ignored(&name) {
            true => " --run-ignored all",
            false => "",
        };
        return format!(
            "{lists}KTSTR_SEED={seed} cargo nextest run -p {package}{ignored} -E 'test(={name})'"
        );
    }
    // The record of a verifier cell lacks the data that make its test a cell, so a cell is not replayed.
    match (replayed, variant()) {
        (Some(run), variant) if variant.is_none_or(|name| !nextest::is_cell(name)) => {
            format!("cargo ktstr replay {run}")
        }
        (_, Some(name)) => format!(
            "{lists}KTSTR_SEED={seed} NEXTEST=1 {} --exact {name}",
            exe.display()
        ),
        _ => format!("KTSTR_SEED={seed} cargo test {test}"),
    }
}

fn sections(
    text: &mut String,
    finished: &Finished,
    vm: &VmResult,
    all: &[&AssertDetail],
    log_lines: usize,
) {
    let mut diagnostics = format!(
        "last stage: {:?}, exit_code={} ({}); {}, {}, wall {:.1} s, boot {:.1} s",
        vm.final_guest_phase,
        vm.exit_code,
        match vm.exit_code {
            NO_EXIT => "the test process did not report an exit",
            _ => "of the test's process",
        },
        vm.accelerator,
        vm.clock_text(),
        finished.wall.as_secs_f64(),
        finished.timings.boot.as_secs_f64(),
    );
    if let Some(why) = accelerator::why_no_kvm() {
        let _ = write!(diagnostics, "\n/dev/kvm exists but is not used: {why}");
    }
    let nothing = default_evidence(Fault::Host);
    if finished.exit_code() == EXIT_INCONCLUSIVE && !text.contains(nothing) {
        let _ = write!(diagnostics, "\n{nothing}");
    }
    section(text, "diagnostics", &diagnostics);
    if vm.periodic_target > 0 {
        let line = format!(
            "{} of {} taken, {} with data",
            vm.periodic_fired,
            counted(vm.periodic_target, "capture"),
            vm.periodic_real
        );
        section(text, "periodic", &line);
    }
    if let Some(monitor) = &vm.monitor {
        section(text, "monitor", &monitor_lines(monitor));
    }
    if let Some(exit) = &vm.scx_exit {
        let has_trail = !finished.evidence_of_schedule.trail.is_empty();
        section(
            text,
            "sched_ext dump",
            &dump_lines(exit, has_trail, log_lines),
        );
    }
    let output = last_lines(&vm.output, log_lines);
    section(text, "test output", &output);
    // The kernel's record of an ejection is shown above. The log and the console only repeat it at length.
    if vm.scx_exit.is_none() {
        // If a message quotes the end of the log already, the log is not repeated.
        if !all.iter().any(|detail| detail.finding.quotes_log()) {
            let log = last_lines(&vm.scheduler_log, log_lines);
            section(text, "scheduler log", &log);
        }
        section(text, "console", &console_lines(&vm.kernel_log, log_lines));
    }
}

/// Returns the end of the console. For a kernel panic it returns the first lines of the panic instead, without those that do
/// not help to find the cause.
fn console_lines(log: &str, most: usize) -> String {
    let Some(panic) = log.find("Kernel panic - not syncing: ") else {
        return last_lines(log, most);
    };
    let start = log[..panic].rfind('\n').map_or(0, |at| at + 1);
    let shown: Vec<&str> = log[start..]
        .lines()
        .filter(|line| {
            let line = without_time(line).trim_start();
            !PANIC_NOISE.iter().any(|noise| line.starts_with(noise))
        })
        .take(PANIC_LINES)
        .collect();
    last_lines(&shown.join("\n"), PANIC_LINES)
}

/// The largest number of lines that are shown of a kernel panic.
const PANIC_LINES: usize = 8;
/// The starts of those lines of a panic that do not help to find its cause.
const PANIC_NOISE: &[&str] = &[
    "?",
    "<",
    "Hardware name: ",
    "Code: ",
    "dump_stack",
    "vpanic",
    "panic+",
];

/// Returns a summary of the monitor's samples in one or two lines, or the reason why there are none.
fn monitor_lines(report: &MonitorReport) -> String {
    let s = &report.summary;
    if s.total_samples == 0 {
        return report.unavailable.clone().unwrap_or_default();
    }
    // The guest runs while a sample is taken, and a sample in which a runqueue changed meanwhile is discarded.
    let discarded = match report.torn_samples {
        0 => String::new(),
        torn => format!(
            " ({torn} more discarded, because the guest changed a runqueue while it was read)"
        ),
    };
    let mut lines = format!(
        "{}{discarded}: {:.1} tasks on a runqueue on average, the longest runqueue had at most {:.1} times the tasks of the \
         shortest, at most {} in a local DSQ",
        counted(s.total_samples, "sample"),
        s.avg_nr_running,
        s.max_imbalance_ratio,
        counted(s.max_local_dsq_depth, "task"),
    );
    if s.stuck_count > 0 {
        let _ = write!(
            lines,
            "\nrunqueue clocks did not advance {}",
            counted(s.stuck_count, "time")
        );
    }
    lines
}

/// Returns what the scheduler reported about itself when it was ejected. If the failure report has no trail, which would
/// show where the stalled task was, the state of that task follows. The rest of the dump is in the record.
fn dump_lines(exit: &ScxExit, has_trail: bool, most: usize) -> String {
    let lines = || exit.dump.lines();
    // The kernel's header and backtrace are left out, because the findings have their content. The scheduler's own dump
    // follows them.
    let own = lines()
        .skip_while(|line| *line != "Backtrace:")
        .skip_while(|line| !line.trim().is_empty())
        .skip_while(|line| line.trim().is_empty())
        .take_while(|line| !line.trim().is_empty() && *line != "CPU states")
        .take(most);
    let stalled = exit.stalled().filter(|_| !has_trail);
    let task = stalled.map(|(task, _)| format!("R {task} "));
    let stalled = task.iter().flat_map(|task| {
        lines()
            .skip_while(move |line| !line.contains(task.as_str()))
            .take_while(|line| !line.trim().is_empty())
    });
    let shown: Vec<&str> = own.chain(stalled).collect();
    let all = lines().filter(|line| !line.trim().is_empty()).count();
    let mut text = shown.join("\n");
    if all > shown.len() {
        let _ = write!(
            text,
            "\n... {} more lines of the dump in scx_exit.json",
            all - shown.len()
        );
    }
    text
}

/// Appends a section, unless its body is blank.
fn section(text: &mut String, name: &str, body: &str) {
    if !body.trim().is_empty() {
        let _ = write!(text, "\n--- {name} ---\n{}", body.trim_end());
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
