//! `cargo ktstr verifier BINARY`: loads a scheduler on each kernel and shape, and reports the statistics of the kernel's
//! verifier for its programs. No workload runs.
//!
//! `report` has the result as data, `stats` parses the verifier's output in a scheduler's log, and `screen` renders the
//! table.
//!
//! Exit codes: 0 if the scheduler loads everywhere; 1 if a load failed or a program has grown too much; 2 if a load was
//! inconclusive, the scheduler and a kernel do not fit together, or a requested kernel is not available.

mod report;
#[cfg(not(test))]
mod scenario;
mod screen;
mod stats;

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use ktstr_record::runs_root;

use self::report::{Load, Report};
use crate::cell::axes::{self, Kernel, KernelOptions, OWN};
use crate::cell::{Cell, LOAD_ONLY, Under, pool};
use crate::check::{self, Checked, command_line, tidy};
use crate::exit::Exit;
use crate::json::{self, Limit};

/// The options of `cargo ktstr verifier`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The scheduler's binary.
    binary: PathBuf,
    /// The kernels into which the scheduler is loaded.
    #[command(flatten)]
    kernels: KernelOptions,
    /// Machine topologies, such as 8cpu-2llc-smt or 1n2l2c1t (see `cargo ktstr check --help`); the default is two CPUs.
    #[arg(
        long,
        visible_alias = "topology",
        value_name = "SHAPE,...",
        value_delimiter = ','
    )]
    topologies: Vec<String>,
    /// Compare the statistics of each program with those in this file.
    /// An earlier call must have written the file with --json and without --limit.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Fail if the number of instructions that the verifier processes for a program has grown by more than this percentage over
    /// the baseline.
    #[arg(long, value_name = "PERCENT", requires = "baseline")]
    max_growth: Option<u32>,
    /// Give each machine at least this much memory, in MiB, for a scheduler that needs more than machines have by default.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(axes::MEMORY_MIB))]
    memory_mib: Option<u32>,
    /// How many virtual machines run at once, instead of one per core of the host.
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Write the whole result here as JSON (docs/verifier.md); `-` prints it instead of the table.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How much of a long list and of a long text the JSON contains.
    #[command(flatten)]
    limit: Limit,
    /// Arguments of the scheduler.
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

/// A load to be made: its kernel, and the shape of its machine, which is `None` for two CPUs.
type Job = (Kernel, Option<String>);

/// Loads the scheduler everywhere, and prints the verifier's statistics.
pub fn run(out: &mut dyn Write, options: &Options) -> Result<Exit> {
    check::ensure_writable(&options.json)?;
    let binary = check::scheduler(&options.binary)?;
    let hash = check::hash(&binary)?;
    let earlier = options.baseline.as_deref().map(Report::read).transpose()?;
    let topologies = axes::topologies(&options.topologies)?;
    let (kernels, missing) =
        axes::kernels(&options.kernels.kernels, options.kernels.lock.as_deref())?;
    if kernels.is_empty() {
        bail!(
            "there is no kernel to load the scheduler on: {}",
            missing.join("; ")
        );
    }
    let jobs: Vec<Job> = kernels
        .iter()
        .flat_map(|kernel| {
            topologies
                .iter()
                .map(|shape| (kernel.clone(), shape.clone()))
        })
        .collect();
    let mut loads = walk(options, &binary, jobs.clone())?;
    loads.sort_by_key(|(job, _)| jobs.iter().position(|other| other == job));
    let loads = loads.into_iter().map(|(_, load)| load).collect();
    ensure!(
        check::hash(&binary)? == hash,
        "{} was rebuilt during the loads: load it again",
        binary.display()
    );
    let scheduler = Checked {
        path: options.binary.clone(),
        args: options.args.clone(),
        hash,
    };
    let mut report = Report::new(scheduler, loads, missing);
    report.max_growth = options.max_growth;
    if let Some(earlier) = &earlier {
        report.hold_against(earlier)?;
    }
    report.exit = report.code() as u8;
    let json = json::text(&report, options.limit)?;
    match options.json.as_deref() {
        Some(path) if path == Path::new("-") => check::show(out, &json)?,
        path => {
            check::show(out, &screen::render(&report))?;
            if let Some(path) = path {
                check::write(path, &json)?;
            }
        }
    }
    Ok(report.code())
}

fn walk(options: &Options, binary: &Path, jobs: Vec<Job>) -> Result<Vec<(Job, Load)>> {
    let records = runs_root();
    let width = options.jobs.map_or_else(pool::width, NonZeroUsize::get);
    let bar = pool::bar();
    bar.set_length(jobs.len() as u64);
    bar.set_message("loads");
    let work = |(kernel, shape): &Job| {
        let cell = Cell {
            args: options.args.clone(),
            kernel: Some(kernel.id.clone()),
            topology: shape.clone(),
            memory_mib: options.memory_mib,
            ..Cell::new(LOAD_ONLY, Under::Binary(binary.to_owned()), 1)
        };
        let outcome = cell.run(&records);
        tidy(&outcome, &records);
        let shape = shape.as_deref().unwrap_or(OWN);
        let again = again(options, kernel, shape);
        Some(Load::of(&kernel.release, shape, &outcome, again))
    };
    let mut loads = Vec::new();
    let ran = pool::run(jobs, width, &bar, work, |job, load| {
        loads.extend(load.map(|load| (job, load)));
        Ok(())
    });
    bar.finish_and_clear();
    ran?;
    Ok(loads)
}

/// Returns the command that repeats one load.
fn again(options: &Options, kernel: &Kernel, shape: &str) -> String {
    let mut words = [
        "verifier",
        &options.binary.display().to_string(),
        "--kernels",
        &kernel.id,
    ]
    .map(str::to_owned)
    .to_vec();
    words.extend(["--topologies", shape].map(str::to_owned));
    if let Some(mib) = options.memory_mib {
        words.extend(["--memory-mib".to_owned(), mib.to_string()]);
    }
    if !options.args.is_empty() {
        words.push("--".to_owned());
        words.extend(options.args.iter().cloned());
    }
    command_line(&words)
}
