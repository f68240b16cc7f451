//! The failure text: one screen that says what happened, whose fault it is, and where the rest
//! lies.

use std::fmt::Write;

use ktstr_assert::AssertResult;
use ktstr_record::RunVerdict;

use super::{EXIT_INCONCLUSIVE, Finished, judge::last_lines};
use crate::vm_result::VmResult;

/// Lines shown of a log.
const LOG_LINES: usize = 15;

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
    for detail in finished
        .result
        .failure_details()
        .chain(finished.result.inconclusive_details())
    {
        let _ = write!(text, "\n  {}", detail.message.replace('\n', "\n  "));
    }
    if let Some(fault) = finished.fault {
        let _ = write!(text, "\n  fault: {fault}");
    }
    if let Some(vm) = &finished.vm {
        sections(&mut text, finished, vm);
    }
    if let Some(record) = &finished.record {
        let _ = write!(text, "\nrecord: {}", record.display());
    }
    text
}

fn sections(text: &mut String, finished: &Finished, vm: &VmResult) {
    let stats = &finished.result.stats;
    if !stats.cgroups.is_empty() {
        section(text, "stats", &crate::table::cgroups(stats));
    }
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
