//! `cargo ktstr demo`: runs one test of this binary and shows the result. The test is in [`scenario`], the rendering in
//! [`mod@screen`]. This module turns the result of a run into the content of the screen, also for `cargo ktstr run`.

#[cfg(not(test))]
mod scenario;
mod screen;

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use ktstr::prelude::VmResult;
use ktstr::run::Finished;
use ktstr::test_support::find_test;

use self::screen::{CgroupRow, CounterRow, Screen};
use ktstr_record::terminal::eprint_line;

use crate::exit::{self, Exit};
use crate::summary::Summary;

/// Name of the test, as [`scenario`] declares it.
const TEST: &str = "demo_two_steps";

/// The variables of scx-ktstr that are shown in the table.
const COUNTERS: [&str; 4] = [
    "nr_dispatched",
    "nr_enqueued",
    "nr_select_cpu",
    "ktstr_alloc_count",
];

/// Runs the demo and prints its screen; a failure's text goes to standard error, after the screen.
pub fn run(out: &mut dyn Write) -> Result<Exit> {
    let entry = find_test(TEST).context("this binary holds no demo: it is a test build")?;
    eprint_line(&format!(
        "Running {TEST}: {} s of guest time in a VM. If no usable kernel is found, one is fetched first.",
        entry.duration.as_secs(),
    ));
    let finished = ktstr::run::run(entry);
    if let Some(screen) = screen(&finished, TEST) {
        write!(out, "{screen}")?;
        out.flush()?;
    }
    finished.print();
    Ok(exit::from_code(finished.exit_code()))
}

/// Returns the screen of a run with this title; `None` if there was no machine.
pub fn screen(finished: &Finished, title: &str) -> Option<String> {
    let vm = finished.vm.as_ref()?;
    Some(screen::render(&Screen {
        test: title.to_owned(),
        ..screen_of(finished, vm)
    }))
}

fn screen_of(finished: &Finished, vm: &VmResult) -> Screen {
    let entry = finished.entry;
    let record = finished.record.as_deref();
    let kept = record.and_then(|path| ktstr_record::read(path).ok());
    Screen {
        verdict: finished.verdict.as_str().to_owned(),
        reason: kept.as_ref().and_then(|record| record.reason.clone()),
        test: entry.name.to_owned(),
        kernel: kept
            .as_ref()
            .and_then(|record| record.kernel.clone())
            .unwrap_or_default(),
        accelerator: vm.accelerator.to_owned(),
        clock: vm.clock_text(),
        start: vm.start.to_owned(),
        scheduler: finished.scheduler.as_ref().map_or_else(
            || entry.scheduler.binary.display_name().to_owned(),
            ToString::to_string,
        ),
        topology: entry.topology.to_string(),
        vcpus: vm.vcpus,
        memory_mib: kept.and_then(|record| record.memory_mib).unwrap_or(0),
        cgroups: cgroups(vm),
        counters: counters(vm),
        captures: vm.periodic_real,
        requested: vm.periodic_target,
        freeze_ms: Summary::of(
            vm.capture_freezes
                .iter()
                .map(|freeze| freeze.as_secs_f64() * 1e3),
        )
        .map(|freezes| freezes.median),
        wall_s: finished.wall.as_secs_f64(),
        boot_s: finished.timings.boot.as_secs_f64(),
        window_s: finished.timings.window.as_secs_f64(),
        record: record.map(shortened),
    }
}

fn cgroups(vm: &VmResult) -> Vec<CgroupRow> {
    let mut rows = Vec::new();
    // A phase without length has no work to show. Without a backdrop, the time before the first step is such a phase.
    let phases = vm.phase_buckets().into_iter();
    for bucket in phases.filter(|bucket| bucket.end_ms > bucket.start_ms) {
        for (name, stats) in &bucket.per_cgroup {
            rows.push(CgroupRow {
                step: phase(bucket.step_index),
                cgroup: name.clone(),
                workers: stats.num_workers as u64,
                cpu_ms: stats.total_cpu_time_ns as f64 / 1e6,
                iterations: stats.total_iterations,
                spread_pct: stats.get("off_cpu_spread_pct"),
                gap_ms: stats.max_gap_ms,
                migrations: stats.total_migrations,
            });
        }
    }
    rows
}

/// Returns the rows of those variables that the captures hold: a scheduler other than scx-ktstr may lack them.
fn counters(vm: &VmResult) -> Vec<CounterRow> {
    let series = vm.periodic_series();
    let found = |row: &CounterRow| row.values.iter().any(|(_, value)| value.is_some());
    COUNTERS
        .iter()
        .map(|&name| CounterRow {
            name: name.to_owned(),
            values: series
                .iter_samples()
                .map(|sample| {
                    let value = sample.snapshot.var(name).as_u64().ok();
                    (phase(sample.step_index.unwrap_or(0)), value)
                })
                .collect(),
        })
        .filter(found)
        .collect()
}

/// Returns the name of a phase for people. As in the protocol between guest and host, 0 is the baseline and 1 is the first step.
fn phase(step_index: u16) -> String {
    match step_index {
        0 => "baseline".to_owned(),
        step => format!("step {step}"),
    }
}

/// Returns `path` relative to the working directory if the path lies below that directory; otherwise returns it unchanged.
fn shortened(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here)
        .unwrap_or(path)
        .display()
        .to_string()
}
