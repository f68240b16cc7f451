//! `cargo ktstr bench`: measures ktstr itself, not a scheduler. Each section is a module that measures and returns a
//! [`Section`]; here they are called and printed.

mod breakdown;
mod page;
#[cfg(not(test))]
mod scenario;

use std::io::Write;

use anyhow::{Context, Result};
use ktstr::run::Finished;
use ktstr::test_support::find_test;
use ktstr_record::HostRecord;
use serde::Serialize;

use self::page::Section;
use crate::exit::{self, Exit};

/// What was asked for.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Options {
    /// Runs of each case; medians are over these.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Print a JSON object instead of tables.
    #[arg(long)]
    json: bool,
}

/// All of it, as `--json` prints it. Times are seconds of the host's clock unless a row says otherwise.
#[derive(Debug, Serialize)]
struct Report {
    runs: u32,
    kernel: Option<String>,
    accelerator: Option<&'static str>,
    host: HostRecord,
    sections: Vec<Section>,
}

/// A run that did not pass measures nothing: the bench ends with it.
#[derive(Debug)]
struct Failed(Box<Finished>);

/// Measures and prints.
pub fn run(out: &mut dyn Write, options: Options) -> Result<Exit> {
    let measured = match breakdown::measure(options.runs)? {
        Ok(measured) => measured,
        Err(Failed(finished)) => {
            finished.print();
            return Ok(exit::from_code(finished.exit_code()));
        }
    };
    let report = Report {
        runs: options.runs,
        kernel: measured.kernel,
        accelerator: measured.accelerator,
        host: HostRecord::detect(),
        sections: vec![measured.section],
    };
    if options.json {
        serde_json::to_writer_pretty(&mut *out, &report)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", render(&report))?;
    }
    Ok(Exit::Done)
}

fn render(report: &Report) -> String {
    let mut text = format!(
        "Kernel {}, {}, on {} CPUs of {}. Medians over {} runs, smallest and largest in brackets.\n",
        report.kernel.as_deref().unwrap_or("unknown"),
        report.accelerator.unwrap_or("unknown"),
        report.host.cores,
        report.host.cpu_model,
        report.runs
    );
    for section in &report.sections {
        text.push_str(&page::render(section));
    }
    text
}

/// One run of the test called `name`.
fn once(name: &str) -> Result<Result<Finished, Failed>> {
    let entry = find_test(name)
        .with_context(|| format!("this binary holds no test `{name}`: it is a test build"))?;
    let finished = ktstr::run::run(entry);
    let passed = finished.verdict == ktstr_record::RunVerdict::Pass;
    Ok(if passed {
        Ok(finished)
    } else {
        Err(Failed(Box::new(finished)))
    })
}
