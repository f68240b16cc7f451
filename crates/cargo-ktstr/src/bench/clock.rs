//! What the virtual clock costs: the wall time that a second of guest time takes, with idle and with busy CPUs, and the wall
//! time that the same work takes under the virtual clock and under the host's clock.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use ktstr_record::RunRecord;
use ktstr_record::brief::counted;
use ktstr_state::env;

use super::case::{Ended, run_test};
use super::page::{Row, Section, Unit};
use super::part;
use crate::exit::{self, Exit};
use crate::summary::Summary;

/// The numbers of CPUs of the machines that are measured.
const CPUS: [u32; 5] = [1, 2, 4, 8, 32];
/// The default number of seeds that are explored.
pub const SEEDS: u32 = 12;
/// The wall time of work is reported for this many iterations.
const ITERATIONS: f64 = 1e3;

/// The load of a machine, and the clock that it runs under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Idle,
    Busy,
    /// Busy for one second, in which QEMU translates most of the code for the first time.
    First,
    /// Busy for one second under the host's clock, with one host thread per virtual CPU.
    Plain,
}

/// The results of all measurements.
#[derive(Debug, Default)]
pub struct Clocked {
    records: Vec<(u32, Kind, RunRecord)>,
    /// Wall seconds per seed for exploring a one-second scenario on two CPUs.
    explored: Option<f64>,
}

impl Clocked {
    /// Returns the record of the last measured run; `None` if nothing was measured.
    pub fn last(&self) -> Option<&RunRecord> {
        self.records.last().map(|(_, _, record)| record)
    }
}

/// Runs every case `runs` times on machines with up to `most` CPUs, and explores `seeds` seeds. Returns the exit code of
/// the first run that did not pass, or of the exploration if that failed.
pub fn measure(most: u32, runs: u32, seeds: u32) -> Result<Result<Clocked, Exit>> {
    let mut clocked = Clocked::default();
    for number in 0..=runs {
        for cpus in CPUS.into_iter().filter(|cpus| *cpus <= most) {
            for kind in [Kind::Idle, Kind::Busy, Kind::First, Kind::Plain] {
                // Run 0 makes the template, so it is not measured.
                eprintln!("run {number} of {runs}: {kind:?}, {}", counted(cpus, "CPU"));
                match run(cpus, kind)? {
                    Ended::Passed(_) if number == 0 => {}
                    Ended::Passed(record) => clocked.records.push((cpus, kind, *record)),
                    Ended::Otherwise(exit) => return Ok(Err(exit)),
                }
            }
        }
    }
    eprintln!("exploring {}", counted(seeds, "seed"));
    match explore(seeds)? {
        Ok(seconds) => clocked.explored = Some(seconds),
        Err(exit) => return Ok(Err(exit)),
    }
    Ok(Ok(clocked))
}

fn run(cpus: u32, kind: Kind) -> Result<Ended> {
    match kind {
        Kind::Idle => run_test(
            &format!("bench_idle_{cpus}"),
            &[(env::CLOCK.name(), "virtual")],
        ),
        Kind::Busy => run_test(
            &format!("bench_busy_{cpus}"),
            &[(env::CLOCK.name(), "virtual")],
        ),
        Kind::First => run_test(
            &format!("bench_first_{cpus}"),
            &[(env::CLOCK.name(), "virtual")],
        ),
        Kind::Plain => run_test(
            &format!("bench_first_{cpus}"),
            &[(env::CLOCK.name(), "real"), (env::ACCEL.name(), "tcg")],
        ),
    }
}

fn explore(seeds: u32) -> Result<Result<f64, Exit>> {
    let program = std::env::current_exe().context("looking for this binary")?;
    let began = Instant::now();
    let status = Command::new(&program)
        .args(["explore", "bench_first_2", "--binary"])
        .arg(&program)
        .args(["--seeds", &format!("0..{seeds}")])
        .stdout(Stdio::null())
        .status()
        .context("exploring")?;
    if !status.success() {
        return Ok(Err(exit::from_code(status.code().unwrap_or(2))));
    }
    Ok(Ok(began.elapsed().as_secs_f64() / f64::from(seeds)))
}

/// Returns the section, with one column per number of CPUs.
pub fn section(clocked: &Clocked) -> Section {
    let mut cpus: Vec<u32> = clocked.records.iter().map(|(cpus, ..)| *cpus).collect();
    cpus.dedup();
    cpus.sort_unstable();
    cpus.dedup();
    let row = |name, about: &str, kind: Kind, value: fn(&RunRecord) -> Option<f64>| Row {
        name,
        unit: Unit::Seconds,
        about: about.to_owned(),
        cells: cpus
            .iter()
            .map(|of| {
                let records = clocked.records.iter();
                let records = records.filter(|(cpus, is, _)| cpus == of && *is == kind);
                Summary::of(records.filter_map(|(_, _, record)| value(record)))
            })
            .collect(),
    };
    let mut rows = vec![
        row(
            "idle",
            "an idle second, virtual clock",
            Kind::Idle,
            per_second,
        ),
        row(
            "busy",
            "a second with all CPUs busy, virtual clock",
            Kind::Busy,
            per_second,
        ),
        row(
            "first",
            "the first busy second, with the translation of what runs for the first time",
            Kind::First,
            per_second,
        ),
        row(
            "work",
            "1000 iterations of work, virtual clock",
            Kind::Busy,
            per_work,
        ),
        row(
            "plain",
            "1000 iterations under the host's clock, one thread per CPU",
            Kind::Plain,
            per_work,
        ),
        row("digest", "the digest of a run", Kind::Busy, |record| {
            part(record, "digest")
        }),
        row(
            "monitor",
            "the monitor in each second of a busy window, virtual clock: 10 ms is 1 %",
            Kind::Busy,
            monitor,
        ),
        row(
            "monitor",
            "the same under the host's clock",
            Kind::Plain,
            monitor,
        ),
    ];
    if let Some(seconds) = clocked.explored {
        let cell = |of: &u32| Summary::of((*of == 2).then_some(seconds));
        rows.push(Row {
            name: "explore",
            unit: Unit::Seconds,
            about: format!(
                "a seed of a scenario of 1 s, on all cores: {:.0} per minute",
                60.0 / seconds
            ),
            cells: cpus.iter().map(cell).collect(),
        });
    }
    Section {
        title: "The virtual clock: wall time from a fork",
        columns: cpus.iter().map(|cpus| counted(*cpus, "CPU")).collect(),
        rows,
    }
}

/// Returns the wall time of the window for each second of guest time in it.
fn per_second(record: &RunRecord) -> Option<f64> {
    Some(part(record, "window")? / record.window_s?)
}

/// Returns the time that the monitor took for each second of the window's wall time.
fn monitor(record: &RunRecord) -> Option<f64> {
    let window = part(record, "window").filter(|window| *window > 0.0)?;
    Some(part(record, "monitor")? / window)
}

/// Returns the wall time of the window for each 1000 iterations of all workers together; `None` if there were no
/// iterations, or if the record does not have the time of the window.
fn per_work(record: &RunRecord) -> Option<f64> {
    let iterations = record.stats["total_iterations"].as_f64()?;
    (iterations > 0.0).then(|| part(record, "window").map(|s| s / iterations * ITERATIONS))?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_number_of_cpus_has_its_column() {
        let record = |window: f64| RunRecord {
            window_s: Some(2.0),
            timings: [("window".to_owned(), window), ("monitor".to_owned(), 0.03)].into(),
            stats: serde_json::json!({"total_iterations": 500}),
            ..RunRecord::new("t")
        };
        let clocked = Clocked {
            records: vec![
                (1, Kind::Idle, record(0.1)),
                (2, Kind::Busy, record(3.0)),
                (1, Kind::Idle, record(0.3)),
            ],
            explored: Some(1.5),
        };
        let section = section(&clocked);
        assert_eq!(section.columns, ["1 CPU", "2 CPUs"]);
        let median = |row: usize, column: usize| section.rows[row].cells[column].map(|s| s.median);
        assert!((median(0, 0).unwrap() - 0.1).abs() < 1e-9);
        assert_eq!((median(0, 1), median(1, 0)), (None, None));
        assert!((median(1, 1).unwrap() - 1.5).abs() < 1e-9);
        assert_eq!(median(2, 1), None, "there is no run of the kind `First`");
        assert!((median(3, 1).unwrap() - 6.0).abs() < 1e-9);
        assert!((median(6, 1).unwrap() - 0.01).abs() < 1e-9);
        assert_eq!(median(7, 1), None, "no run used the host's clock");
        assert!(section.rows[8].about.ends_with(": 40 per minute"));
    }
}
