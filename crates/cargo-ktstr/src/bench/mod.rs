//! `cargo ktstr bench`: measures ktstr itself, not a scheduler. This module measures the chosen parts and prints their sections,
//! which are tables. Each section has a module. The modules `breakdown` and `warm` are about the same runs, which are made here.
//! Each other module makes its own runs.

mod breakdown;
mod case;
mod clock;
mod compare;
mod crowd;
mod page;
#[cfg(not(test))]
mod scenario;
mod schedule;
mod warm;

use std::io::Write;

use anyhow::{Result, bail};
use clap::ValueEnum;
use ktstr_record::brief::counted;
use ktstr_record::{HostRecord, RunRecord};
use serde::Serialize;

use self::case::{Case, Ended, Measured, Start};
use self::page::Section;
use crate::exit::Exit;
use crate::json::{self, Limit};

pub use self::case::run_entry;

/// The options of `cargo ktstr bench`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Number of runs of each case, from which the medians are computed [default: 5].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: Option<u32>,
    /// Leave out the machines with more than two CPUs, which take longest to boot; run two machines at once instead of eight,
    /// explore two seeds instead of twelve, and measure the schedule only under EEVDF.
    #[arg(long)]
    small: bool,
    /// Number of successive forks of one template over which the growth of the host's memory is measured [default: 20].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    forks: Option<u32>,
    /// Also measure the virtual clock with 32 CPUs, which take a minute to boot.
    #[arg(long, conflicts_with = "small")]
    large: bool,
    /// Measure only this part; may be given more than once.
    #[arg(long, value_name = "PART")]
    only: Vec<Part>,
    /// Print a JSON object instead of tables.
    #[arg(long)]
    json: bool,
    /// How much of a long list and of a long text the JSON contains.
    #[command(flatten)]
    limit: Limit,
}

/// The whole result, as `--json` prints it. Times are in seconds.
#[derive(Debug, Serialize)]
struct Report {
    runs: u32,
    kernel: Option<String>,
    accelerator: Option<ktstr_record::Accelerator>,
    host: HostRecord,
    sections: Vec<Section>,
}

impl Options {
    fn runs(&self) -> u32 {
        self.runs.unwrap_or(5)
    }
}

/// A part of the bench that can be measured alone. Each part makes the runs and the missing templates that it needs,
/// so no part depends on another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Where the time of a run goes, for machines that are booted and for machines that are forked.
    Starts,
    /// Many machines at once, and the memory that stays in use after a series of forks.
    Crowd,
    /// What a second of the virtual clock costs.
    Clock,
    /// What the exact schedule costs.
    Schedule,
    /// What it costs to compare 1,000 stored runs with 1,000 others. No machine is run.
    Compare,
}

/// The sections of a part, with the record of one of its runs if the part keeps records; or the exit code of the run that did
/// not pass.
type Measurement = Result<Result<(Vec<Section>, Option<RunRecord>), Exit>>;

impl Part {
    fn measure(self, options: &Options) -> Measurement {
        match self {
            Self::Starts => starts(options),
            Self::Crowd => {
                let at_once = if options.small { 2 } else { crowd::CROWD };
                let section = crowd::section(at_once, options.forks.unwrap_or(20))?;
                Ok(section.map(|section| (vec![section], None)))
            }
            Self::Clock => {
                let (most, seeds) = match (options.small, options.large) {
                    (true, _) => (2, 2),
                    (_, true) => (32, clock::SEEDS),
                    _ => (8, clock::SEEDS),
                };
                let clocked = clock::measure(most, options.runs(), seeds)?;
                Ok(
                    clocked
                        .map(|clocked| (vec![clock::section(&clocked)], clocked.last().cloned())),
                )
            }
            Self::Schedule => {
                let measured = schedule::measure(options.small, options.runs())?;
                Ok(measured.map(|(measured, record)| (vec![schedule::section(&measured)], record)))
            }
            Self::Compare => Ok(Ok((vec![compare::section(options.runs())?], None))),
        }
    }
}

fn starts(options: &Options) -> Measurement {
    let cases: Vec<Case> = Case::all()
        .filter(|case| !options.small || case.cpus == 2)
        .collect();
    let measured = measure(&cases, options.runs())?;
    Ok(measured.map(|measured| {
        let sections = vec![breakdown::section(&measured), warm::section(&measured)];
        let last = measured.last().and_then(|case| case.records.last());
        (sections, last.cloned())
    }))
}

/// Measures the chosen parts and prints the result. A run that does not pass ends the bench, because its times mean nothing.
pub fn run(out: &mut dyn Write, options: &Options) -> Result<Exit> {
    let chosen = |part: &Part| options.only.is_empty() || options.only.contains(part);
    let crowd_alone = options.only == [Part::Crowd];
    for (flag, given, parts, acts) in [
        ("--large", options.large, "`clock`", chosen(&Part::Clock)),
        (
            "--forks",
            options.forks.is_some(),
            "`crowd`",
            chosen(&Part::Crowd),
        ),
        (
            "--runs",
            options.runs.is_some(),
            "the parts other than `crowd`",
            !crowd_alone,
        ),
    ] {
        if given && !acts {
            bail!(
                "{flag} applies only to {parts}, which --only leaves out: drop {flag}, or name such a part in --only"
            );
        }
    }
    let (mut sections, mut last) = (Vec::new(), None);
    for part in Part::value_variants().iter().filter(|part| chosen(part)) {
        match part.measure(options)? {
            Ok((measured, record)) => {
                sections.extend(measured);
                last = record.or(last);
            }
            Err(exit) => return Ok(exit),
        }
    }
    let report = Report {
        runs: options.runs(),
        kernel: last.as_ref().and_then(|record| record.kernel.clone()),
        accelerator: last.as_ref().and_then(|record| record.accelerator),
        host: HostRecord::detect(),
        sections,
    };
    if options.json {
        json::print(out, &report, options.limit)?;
    } else {
        write!(out, "{}", render(&report))?;
    }
    Ok(Exit::Done)
}

/// Runs every case `runs` times, alternating between the cases, so that a busy period of the host affects all of them alike.
/// The cases [`Start::Rebuilt`] come last, because each of them removes the templates of the others.
fn measure(cases: &[Case], runs: u32) -> Result<Result<Vec<Measured>, Exit>> {
    let mut measured: Vec<Measured> = Vec::new();
    for &case in cases {
        if case.start == Start::Warm {
            // The first run of a case makes the template, so one run is made that is not measured.
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
    for rebuilt in [false, true] {
        for number in 1..=runs {
            let of_this_round = |m: &&mut Measured| (m.case.start == Start::Rebuilt) == rebuilt;
            for Measured { case, records } in measured.iter_mut().filter(of_this_round) {
                eprintln!("run {number} of {runs}: {case}");
                match case.run()? {
                    Ended::Passed(record) => records.push(*record),
                    Ended::Otherwise(exit) => return Ok(Err(exit)),
                }
            }
        }
    }
    Ok(Ok(measured))
}

fn render(report: &Report) -> String {
    let machine = match (&report.kernel, report.accelerator) {
        (None, None) => "No machine was run".to_owned(),
        (kernel, accelerator) => format!(
            "Kernel {}, {}",
            kernel.as_deref().unwrap_or("unknown"),
            match accelerator {
                Some(ktstr_record::Accelerator::Kvm) => "kvm",
                Some(ktstr_record::Accelerator::Tcg) => "tcg",
                None => "unknown",
            }
        ),
    };
    let mut text = format!(
        "{machine}, on {} of {}. Medians over {}, smallest and largest in brackets.\n",
        counted(report.host.cores, "CPU"),
        report.host.cpu_model,
        counted(report.runs, "run")
    );
    for section in &report.sections {
        text.push_str(&page::render(section));
    }
    text
}

/// Returns the named part of a run's wall time in seconds; `None` if the record does not have it, or if it took no time.
fn part(record: &RunRecord, name: &str) -> Option<f64> {
    record
        .timings
        .get(name)
        .copied()
        .filter(|&seconds| seconds > 0.0)
}
