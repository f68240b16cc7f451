//! What the exact schedule costs: its size for each context switch, and the wall time of the window and the CPU time of the run,
//! with a schedule and without one.

use std::path::Path;

use anyhow::{Context, Result};
use ktstr_record::RunRecord;
use ktstr_schedule::SCHEDULE_FILE;
use ktstr_state::env;

use super::case::{Place, run_in_place};
use super::page::{Row, Section, Unit};
use super::part;
use crate::exit::Exit;
use crate::summary::Summary;

/// The tests, each with the name of its scheduler. In each, some workers compute, some sleep between bursts, and pairs
/// wake each other.
const TESTS: [(&str, &str); 2] = [
    ("bench_schedule", "EEVDF"),
    ("bench_schedule_scx", "scx-ktstr"),
];

/// A run of one test.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    /// The wall time of the window, in seconds.
    window: f64,
    /// The CPU time of the whole run in seconds, including the CPU time of QEMU.
    cpu: f64,
    /// Bytes of the schedule per context switch; `None` for a run without a schedule or without context switches.
    bytes: Option<f64>,
}

/// The measurements of one test.
#[derive(Debug)]
pub struct Measured {
    scheduler: &'static str,
    /// Pairs of runs: with a schedule, and without one.
    pairs: Vec<(Run, Run)>,
}

/// The measurements of all tests, and the record of the last run.
type All = (Vec<Measured>, Option<RunRecord>);

/// Runs each test `runs` times with a schedule and without one. With `small`, only the first test is run. Returns the exit code
/// of the first run that did not pass, if there is one.
pub fn measure(small: bool, runs: u32) -> Result<Result<All, Exit>> {
    let mut measured = Vec::new();
    let mut last = None;
    for (test, scheduler) in TESTS.into_iter().take(if small { 1 } else { TESTS.len() }) {
        let mut pairs = Vec::new();
        for number in 0..=runs {
            eprintln!("run {number} of {runs}: {scheduler}, with its schedule and without");
            let with = match run(test, "1")? {
                Ok((run, _)) => run,
                Err(exit) => return Ok(Err(exit)),
            };
            let without = match run(test, "0")? {
                Ok((run, record)) => {
                    last = Some(record);
                    run
                }
                Err(exit) => return Ok(Err(exit)),
            };
            // The first run makes the template, so the first pair is not measured.
            if number > 0 {
                pairs.push((with, without));
            }
        }
        measured.push(Measured { scheduler, pairs });
    }
    Ok(Ok((measured, last)))
}

fn run(test: &str, schedule: &str) -> Result<Result<(Run, RunRecord), Exit>> {
    let variables = [
        (env::CLOCK.name(), "virtual"),
        (env::SCHEDULE.name(), schedule),
    ];
    let before = cpu_of_children()?;
    Ok(match run_in_place(test, &variables)? {
        Place::Passed(record, path) => {
            let cpu = cpu_of_children()? - before;
            let run = Run::of(&record, &path);
            Ok((Run { cpu, ..run }, *record))
        }
        Place::Otherwise(exit) => Err(exit),
    })
}

/// Returns the CPU time in seconds of the child processes that this process waited for, and of their descendants.
fn cpu_of_children() -> Result<f64> {
    let path = "/proc/self/stat";
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    children_of(&text).with_context(|| format!("{path} has no CPU times: {text}"))
}

/// Returns the sum of `cutime` and `cstime` of a `/proc/PID/stat` in seconds. The file has them in hundredths of a second
/// (`proc_pid_stat(5)`). The process name, which comes before these fields, can contain any character, so the fields are counted
/// from the last parenthesis. `None` if the file has no such fields.
fn children_of(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(13);
    let mut next = || fields.next()?.parse::<f64>().ok();
    Some((next()? + next()?) / 100.0)
}

impl Run {
    /// Returns the run whose `record` lies at `path`, without its CPU time, which the record does not have.
    fn of(record: &RunRecord, path: &Path) -> Self {
        let size = std::fs::metadata(path.with_file_name(SCHEDULE_FILE)).ok();
        let switches = record.switches.as_ref().map(|switches| switches.count);
        let bytes = size
            .zip(switches.filter(|count| *count > 0))
            .map(|(file, count)| file.len() as f64 / count as f64);
        Self {
            window: part(record, "window").unwrap_or_default(),
            cpu: 0.0,
            bytes,
        }
    }
}

/// Returns the section, with one column per scheduler.
pub fn section(measured: &[Measured]) -> Section {
    let row = |name, unit, about: &str, value: fn(&(Run, Run)) -> Option<f64>| Row {
        name,
        unit,
        about: about.to_owned(),
        cells: measured
            .iter()
            .map(|of| Summary::of(of.pairs.iter().filter_map(value)))
            .collect(),
    };
    let rows = vec![
        row(
            "size",
            Unit::BytesEach,
            "the schedule's file for each context switch: 8 B are the goal",
            |(with, _)| with.bytes,
        ),
        row(
            "with",
            Unit::Seconds,
            "the window with a schedule",
            |(with, _)| Some(with.window),
        ),
        row(
            "without",
            Unit::Seconds,
            "the same without one (KTSTR_SCHEDULE=0)",
            |(_, without)| Some(without.window),
        ),
        row(
            "cost",
            Unit::Times,
            "with / without, of two runs that follow each other: 1.10 is the goal",
            |(with, without)| (without.window > 0.0).then(|| with.window / without.window),
        ),
        row(
            "CPU",
            Unit::Times,
            "the same ratio for the CPU time of the whole run, which does not depend on the host's load",
            |(with, without)| (without.cpu > 0.0).then(|| with.cpu / without.cpu),
        ),
    ];
    Section {
        title: "The exact schedule: its size and its cost, 4 CPUs for 5 s of guest time",
        columns: measured.iter().map(|of| of.scheduler.to_owned()).collect(),
        rows,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ktstr_record::SwitchesRecord;

    use super::*;
    use crate::bench::page::render;

    #[test]
    fn the_cpu_time_of_children_is_read_behind_the_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 10 20 150 75 20 0 1 0 5";
        assert_eq!(children_of(stat), Some(2.25));
        assert_eq!(children_of("7 (a) S 1"), None);
        assert!(cpu_of_children().unwrap() >= 0.0);
    }

    #[test]
    fn a_run_is_measured_beside_its_record() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.json");
        let record = RunRecord {
            switches: Some(SwitchesRecord {
                count: 100,
                digest: String::new(),
            }),
            timings: [("window".to_owned(), 2.2)].into(),
            ..RunRecord::new("t")
        };
        assert_eq!(Run::of(&record, &path).bytes, None, "no file");
        std::fs::write(folder.path().join(SCHEDULE_FILE), [0; 650]).unwrap();
        let with = Run {
            cpu: 2.1,
            ..Run::of(&record, &path)
        };
        let without = Run {
            window: 2.0,
            cpu: 2.0,
            bytes: None,
        };
        let measured = [Measured {
            scheduler: "EEVDF",
            pairs: vec![(with, without)],
        }];
        insta::assert_snapshot!(render(&section(&measured)), @r"

        The exact schedule: its size and its cost, 4 CPUs for 5 s of guest time

         PART       EEVDF
         size      6.50 B  the schedule's file for each context switch: 8 B are the goal
         with     2200 ms  the window with a schedule
         without  2000 ms  the same without one (KTSTR_SCHEDULE=0)
         cost      1.10 x  with / without, of two runs that follow each other: 1.10 is the goal
         CPU       1.05 x  the same ratio for the CPU time of the whole run, which does not depend on the host's load
        ");
    }
}
