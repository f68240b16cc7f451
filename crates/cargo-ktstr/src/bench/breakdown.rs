//! Where the wall time of a run goes, and how long a capture freezes the guest.

use std::time::Duration;

use anyhow::Result;
use ktstr::run::{Finished, Timings};

use super::page::{Row, Section};
use super::{Failed, once};
use crate::summary::Summary;

/// The tests and the names of their columns.
const CASES: [(&str, &str); 2] = [("bench_eevdf", "EEVDF"), ("bench_scx", "SCX-KTSTR")];

/// A part of a run's wall time: its name, what it is, where it is written down.
type Part = (&'static str, &'static str, fn(&Timings) -> Duration);

const PARTS: [Part; 7] = [
    ("resolve", "find QEMU, kernel and scheduler", |t| t.resolve),
    ("initramfs", "pack the guest's files", |t| t.initramfs),
    ("boot", "QEMU's start to the guest's first word", |t| t.boot),
    ("attach", "the scheduler's start to its attach", |t| {
        t.attach
    }),
    ("window", "the workload", |t| t.window),
    ("captures", "the guest frozen, four times", |t| t.captures),
    ("teardown", "the window's end to QEMU's end", |t| t.teardown),
];

/// The section, and what the runs ran on.
#[derive(Debug)]
pub struct Measured {
    pub section: Section,
    pub kernel: Option<String>,
    pub accelerator: Option<&'static str>,
}

/// Runs every case `runs` times, in turn, so that a busy spell of the host strikes all alike.
pub fn measure(runs: u32) -> Result<Result<Measured, Failed>> {
    let mut finished: [Vec<Finished>; CASES.len()] = Default::default();
    for number in 1..=runs {
        for ((test, label), kept) in CASES.iter().zip(&mut finished) {
            eprintln!("run {number} of {runs}: {label}");
            match once(test)? {
                Ok(run) => kept.push(run),
                Err(failed) => return Ok(Err(failed)),
            }
        }
    }
    let last = finished.iter().flatten().last();
    let record = last.and_then(|run| ktstr_record::read(run.record.as_deref()?).ok());
    Ok(Ok(Measured {
        kernel: record.and_then(|record| record.kernel),
        accelerator: last.and_then(|run| Some(run.vm.as_ref()?.accelerator)),
        section: section(&finished),
    }))
}

fn section(cases: &[Vec<Finished>]) -> Section {
    let over = |name, about, measure: &dyn Fn(&Finished) -> Vec<Duration>| Row {
        name,
        about,
        cells: cases
            .iter()
            .map(|runs| Summary::of(&runs.iter().flat_map(measure).collect::<Vec<_>>()))
            .collect(),
    };
    let mut rows: Vec<Row> = PARTS
        .iter()
        .map(|&(name, about, part)| over(name, about, &|run| took(part(&run.timings))))
        .collect();
    rows.push(over("rest", "what no part counts", &|run| vec![rest(run)]));
    rows.push(over("wall", "the whole run", &|run| vec![run.wall]));
    rows.push(over("freeze", "one capture", &|run| {
        run.vm
            .as_ref()
            .map_or_else(Vec::new, |vm| vm.capture_freezes.clone())
    }));
    Section {
        title: "Where a run's time goes, window 1 s, 2 CPUs",
        columns: CASES.iter().map(|&(_, label)| label).collect(),
        rows,
    }
}

/// A part that a case does not have takes no time at all: there is nothing to tell of it.
fn took(time: Duration) -> Vec<Duration> {
    (!time.is_zero()).then_some(time).into_iter().collect()
}

fn rest(run: &Finished) -> Duration {
    let parts: Duration = PARTS.iter().map(|(_, _, part)| part(&run.timings)).sum();
    run.wall.saturating_sub(parts)
}
