//! The failure text: one screen that says what happened, whose fault it is, and where the rest
//! lies.

use std::collections::BTreeMap;
use std::fmt::Write;

use ktstr_assert::stats::CgroupStats;
use ktstr_assert::{AssertResult, DetailKind};
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
        "stage: {:?}\nexit_code={}\naccelerator: {}, clock: {}, wall {:.1} s, boot {:.1} s",
        vm.final_guest_phase,
        vm.exit_code,
        vm.accelerator,
        vm.clock,
        finished.wall.as_secs_f64(),
        finished.timings.boot.as_secs_f64(),
    );
    if finished.exit_code() == EXIT_INCONCLUSIVE {
        diagnostics.push_str("\nthis says nothing about the scheduler");
    }
    section(text, "diagnostics", &diagnostics);
    if vm.periodic_target > 0 {
        let line = format!(
            "{} of {} captures taken, {} with data",
            vm.periodic_fired, vm.periodic_target, vm.periodic_real
        );
        section(text, "periodic", &line);
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

fn section(text: &mut String, name: &str, body: &str) {
    if !body.trim().is_empty() {
        let _ = write!(text, "\n--- {name} ---\n{}", body.trim_end());
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
