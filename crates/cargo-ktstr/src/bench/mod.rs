//! `cargo ktstr bench`: measures ktstr itself, not a scheduler. The cases are run and their records kept here; each
//! section is a module that makes a table of them.

mod breakdown;
mod case;
mod clock;
mod crowd;
mod page;
#[cfg(not(test))]
mod scenario;
mod schedule;
mod warm;

use std::io::Write;

use anyhow::Result;
use ktstr_record::{HostRecord, RunRecord};
use serde::Serialize;

use self::case::{Case, Ended, Measured};
use self::page::Section;
use crate::exit::Exit;

pub use self::case::run_entry;

/// What was asked for.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Options {
    /// Runs of each case; medians are over these.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Leave out the machines with more than two CPUs, whose boots take longest; run two at once instead of eight, and explore
    /// two seeds instead of twelve.
    #[arg(long)]
    small: bool,
    /// Forks of one template, one after the other, after which the host's memory is looked at again.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    forks: u32,
    /// Measure the virtual clock with 32 CPUs, too, whose boot takes a minute.
    #[arg(long, conflicts_with = "small")]
    large: bool,
    /// Only what the virtual clock costs.
    #[arg(long)]
    clock: bool,
    /// Only what the exact schedule costs.
    #[arg(long, conflicts_with = "clock")]
    schedule: bool,
    /// Print a JSON object instead of tables.
    #[arg(long)]
    json: bool,
}

/// All of it, as `--json` prints it. Times are seconds.
#[derive(Debug, Serialize)]
struct Report {
    runs: u32,
    kernel: Option<String>,
    accelerator: Option<ktstr_record::Accelerator>,
    host: HostRecord,
    sections: Vec<Section>,
}

/// Measures and prints. A run that did not pass measures nothing: the bench ends with it.
pub fn run(out: &mut dyn Write, options: Options) -> Result<Exit> {
    let (clock, schedule) = (!options.schedule, !options.clock);
    let cases: Vec<Case> = Case::all()
        .filter(|case| clock && schedule && (!options.small || case.cpus == 2))
        .collect();
    let measured = match measure(&cases, options.runs)? {
        Ok(measured) => measured,
        Err(exit) => return Ok(exit),
    };
    let most = match (options.small, options.large) {
        _ if !clock => 0,
        (true, _) => 2,
        (_, true) => 32,
        _ => 8,
    };
    let (seeds, at_once) = match options.small {
        true => (2, 2),
        false => (clock::SEEDS, crowd::CROWD),
    };
    let clocked = match clock::measure(most, options.runs, seeds)? {
        Ok(clocked) => clocked,
        Err(exit) => return Ok(exit),
    };
    let mut last = clocked.last().cloned();
    let mut sections = Vec::new();
    if clock && schedule {
        let crowd = match crowd::section(at_once, options.forks)? {
            Ok(section) => section,
            Err(exit) => return Ok(exit),
        };
        sections.extend([
            breakdown::section(&measured),
            warm::section(&measured),
            crowd,
        ]);
    }
    if clock {
        sections.push(clock::section(&clocked));
    }
    if schedule {
        match schedule::measure(options.small, options.runs)? {
            Ok((measured, record)) => {
                sections.push(schedule::section(&measured));
                last = last.or(record);
            }
            Err(exit) => return Ok(exit),
        }
    }
    let report = Report {
        runs: options.runs,
        kernel: last.as_ref().and_then(|record| record.kernel.clone()),
        accelerator: last.as_ref().and_then(|record| record.accelerator),
        host: HostRecord::detect(),
        sections,
    };
    if options.json {
        serde_json::to_writer_pretty(&mut *out, &report)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", render(&report))?;
    }
    Ok(Exit::Done)
}

/// Runs every case `runs` times, in turn, so that a busy spell of the host strikes all alike.
fn measure(cases: &[Case], runs: u32) -> Result<Result<Vec<Measured>, Exit>> {
    let mut measured: Vec<Measured> = Vec::new();
    for &case in cases {
        if !case.cold {
            // The template is made by whoever comes first, which is to be nobody who is measured.
            eprintln!("template: {case}");
            if let Ended::Otherwise(exit) = case.run()? {
                return Ok(Err(exit));
            }
        }
        measured.push(Measured {
            case,
            records: Vec::new(),
        });
    }
    for number in 1..=runs {
        for Measured { case, records } in &mut measured {
            eprintln!("run {number} of {runs}: {case}");
            match case.run()? {
                Ended::Passed(record) => records.push(*record),
                Ended::Otherwise(exit) => return Ok(Err(exit)),
            }
        }
    }
    Ok(Ok(measured))
}

fn render(report: &Report) -> String {
    let mut text = format!(
        "Kernel {}, {}, on {} CPUs of {}. Medians over {} runs, smallest and largest in brackets.\n",
        report.kernel.as_deref().unwrap_or("unknown"),
        match report.accelerator {
            Some(ktstr_record::Accelerator::Kvm) => "kvm",
            Some(ktstr_record::Accelerator::Tcg) => "tcg",
            None => "unknown",
        },
        report.host.cores,
        report.host.cpu_model,
        report.runs
    );
    for section in &report.sections {
        text.push_str(&page::render(section));
    }
    text
}

/// A part of a run's wall time, seconds; `None` if it took none.
fn part(record: &RunRecord, name: &str) -> Option<f64> {
    record
        .timings
        .get(name)
        .copied()
        .filter(|&seconds| seconds > 0.0)
}
