//! The failure text: one screen that says what happened, whose fault it is, and where the rest
//! lies.

use std::collections::BTreeMap;
use std::fmt::Write;

use ktstr_assert::stats::CgroupStats;
use ktstr_assert::{AssertResult, DetailKind, MonitorReport};
use ktstr_introspect::report::ScxExit;
use ktstr_record::RunVerdict;

use super::{EXIT_INCONCLUSIVE, Finished, judge::last_lines};
use crate::vm_result::VmResult;

/// Lines shown of a log.
const LOG_LINES: usize = 10;
/// Findings shown of one kind; the record has all.
const SAME_KIND: usize = 4;

/// The verdict's reason in one line.
pub(super) fn reason(result: &AssertResult) -> String {
    let first = result
        .failure_details()
        .chain(result.inconclusive_details())
        .chain(result.skip_details())
        .next();
    first.map_or_else(String::new, |detail| {
        detail.message.lines().next().unwrap_or_default().to_owned()
    })
}

/// Why captures hold no data.
pub(super) fn placeholder_reason(vm: &VmResult) -> String {
    vm.captures_series()
        .entries()
        .iter()
        .find(|entry| entry.report.is_placeholder)
        .and_then(|entry| entry.report.placeholder_reason.clone())
        .unwrap_or_else(|| "no boundary was reached".to_owned())
}

/// The whole text of a run that did not pass.
pub(super) fn text(finished: &Finished) -> String {
    let entry = finished.entry;
    let mut text = format!(
        "ktstr_test '{}' [sched={}] [topo={}] {}:",
        entry.name,
        entry.scheduler.binary.display_name(),
        entry.topology,
        if finished.verdict == RunVerdict::Fail {
            "failed"
        } else {
            "came to no verdict"
        },
    );
    findings(&mut text, &finished.result);
    if let Some(fault) = finished.fault {
        let _ = write!(text, "\n  fault: {fault}");
        if let Some(evidence) = &finished.evidence {
            let _ = write!(text, " ({evidence})");
        }
    }
    let stats = &finished.result.stats;
    if !stats.cgroups.is_empty() {
        let table = crate::table::cgroups_with_odd_ones(stats, &odd_ones(&finished.result));
        section(&mut text, "stats", &table);
    }
    if let Some(vm) = &finished.vm {
        sections(&mut text, finished, vm);
        let _ = write!(text, "\nagain: {}", again(entry.name, vm.seed));
    }
    if let Some(record) = &finished.record {
        let _ = write!(text, "\nrecord: {}", record.display());
    }
    text
}

/// What failed, then what could not be told; of many alike the first few.
fn findings(text: &mut String, result: &AssertResult) {
    let mut shown: BTreeMap<String, usize> = BTreeMap::new();
    for detail in result
        .failure_details()
        .chain(result.inconclusive_details())
    {
        let seen = shown.entry(format!("{:?}", detail.kind)).or_default();
        *seen += 1;
        if *seen <= SAME_KIND {
            let _ = write!(text, "\n  {}", detail.message.replace('\n', "\n  "));
        }
    }
    for (kind, seen) in shown.iter().filter(|(_, seen)| **seen > SAME_KIND) {
        let _ = write!(text, "\n  ... and {} more of kind {kind}", seen - SAME_KIND);
    }
}

/// The cgroups that stand out by what failed, by their place in the table.
fn odd_ones(result: &AssertResult) -> Vec<usize> {
    let cgroups = &result.stats.cgroups;
    let worst = |of: fn(&CgroupStats) -> f64| {
        (0..cgroups.len()).max_by(|a, b| of(&cgroups[*a]).total_cmp(&of(&cgroups[*b])))
    };
    let mut odd: Vec<usize> = result
        .failure_details()
        .chain(result.inconclusive_details())
        .filter_map(|detail| match detail.kind {
            DetailKind::Stuck => worst(|c| c.max_gap_ms as f64),
            DetailKind::NoProgress => worst(|c| -c.iterations_per_worker().unwrap_or(0.0)),
            DetailKind::Unfair => worst(|c| c.spread.unwrap_or(0.0)),
            DetailKind::Migration => worst(|c| c.migration_ratio),
            _ => None,
        })
        .collect();
    odd.sort_unstable();
    odd.dedup();
    odd
}

/// The command that runs the same test again with the same seed.
fn again(test: &str, seed: u64) -> String {
    let exe = std::env::current_exe().unwrap_or_default();
    let file = exe.file_name().unwrap_or_default().to_string_lossy();
    // Cargo appends a hash to the name of a test's binary.
    let target = file.rsplit_once('-').map_or(&*file, |(name, _)| name);
    // libtest names the thread after the whole path of the test.
    let thread = std::thread::current();
    let path = thread
        .name()
        .filter(|name| name.rsplit("::").next() == Some(test));
    match (super::environment("CARGO_PKG_NAME"), path) {
        (Some(package), Some(path)) => {
            let target = if target == package.replace('-', "_") {
                "--lib".to_owned()
            } else {
                format!("--test {target}")
            };
            format!("KTSTR_SEED={seed} cargo test -p {package} {target} {path} -- --exact")
        }
        _ => format!("KTSTR_SEED={seed} cargo test {test}"),
    }
}

fn sections(text: &mut String, finished: &Finished, vm: &VmResult) {
    let mut diagnostics = format!(
        "stage: {:?}\nexit_code={}\naccelerator: {}, {}, wall {:.1} s, boot {:.1} s",
        vm.final_guest_phase,
        vm.exit_code,
        vm.accelerator,
        vm.clock_text(),
        finished.wall.as_secs_f64(),
        finished.timings.boot.as_secs_f64(),
    );
    if finished.exit_code() == EXIT_INCONCLUSIVE {
        diagnostics.push_str("\nthis says nothing about the scheduler");
    }
    if let (Some(_), Some(run)) = (vm.mips, finished.record.as_ref().and_then(|r| r.parent())) {
        let name = run.file_name().unwrap_or_default().to_string_lossy();
        let _ = write!(diagnostics, "\nagain: cargo ktstr replay {name}");
    }
    section(text, "diagnostics", &diagnostics);
    if vm.periodic_target > 0 {
        let line = format!(
            "{} of {} captures taken, {} with data",
            vm.periodic_fired, vm.periodic_target, vm.periodic_real
        );
        section(text, "periodic", &line);
    }
    if let Some(monitor) = &vm.monitor {
        section(text, "monitor", &monitor_lines(monitor));
    }
    if let Some(exit) = &vm.scx_exit {
        section(text, "sched_ext dump", &dump_lines(exit));
    }
    for (name, log) in [
        ("test output", &vm.output),
        ("scheduler log", &vm.scheduler_log),
        ("console", &vm.kernel_log),
    ] {
        // A log whose end is part of the message is not shown twice.
        let end = last_lines(log, 1);
        if name != "scheduler log" || !text.contains(end.trim()) {
            section(text, name, &last_lines(log, LOG_LINES));
        }
    }
}

/// What the monitor saw, in a few lines.
fn monitor_lines(report: &MonitorReport) -> String {
    let s = &report.summary;
    if s.total_samples == 0 {
        return report.unavailable.clone().unwrap_or_default();
    }
    let mut lines = format!(
        "{} samples, {} torn: runqueues {:.1} long on average, longest to shortest {:.1} at most, \
         local DSQs {} deep at most",
        s.total_samples,
        report.torn_samples,
        s.avg_nr_running,
        s.max_imbalance_ratio,
        s.max_local_dsq_depth,
    );
    if s.stuck_count > 0 {
        let _ = write!(
            lines,
            "\nrunqueue clocks stood still {} times",
            s.stuck_count
        );
    }
    lines
}

/// Lines shown of a scheduler's dump.
const DUMP_LINES: usize = 24;

/// The kernel's notes on a scheduler that it ejected: where it was noticed, and the dump's begin.
fn dump_lines(exit: &ScxExit) -> String {
    let mut text = format!("{}: {} ({})", exit.kind_name, exit.reason, exit.msg);
    for frame in &exit.backtrace {
        let _ = write!(text, "\n  {frame}");
    }
    let lines: Vec<&str> = exit.dump.lines().filter(|l| !l.trim().is_empty()).collect();
    for line in lines.iter().take(DUMP_LINES) {
        let _ = write!(text, "\n{line}");
    }
    if let Some(more) = lines.len().checked_sub(DUMP_LINES + 1) {
        let _ = write!(text, "\n... {} more lines in scx_exit.json", more + 1);
    }
    text
}

fn section(text: &mut String, name: &str, body: &str) {
    if !body.trim().is_empty() {
        let _ = write!(text, "\n--- {name} ---\n{}", body.trim_end());
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
