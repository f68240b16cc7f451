//! `cargo ktstr check BINARY`: a scheduler that somebody has as a binary, under the canned scenarios, with EEVDF beside it.
//!
//! No project and no code are needed: the guest's side is this binary, as it is for the demo. `matrix` says what is run,
//! `walk` runs it, `sort` says whose each finding is, `report` is the result as data, `screen` and `junit` show it.
//!
//! Exit codes: 0 nothing is broken, 1 something is, 2 nothing could be judged, or what was asked for makes no sense.

mod again;
mod config;
mod date;
mod junit;
mod known;
mod matrix;
pub mod merge;
mod page;
mod report;
pub mod results;
mod screen;
mod shard;
mod sort;
#[cfg(test)]
pub mod testing;
mod walk;

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ktstr::test_support::{Scheduler, SchedulerSpec};
use ktstr_record::terminal::tell;

use self::again::Again;
use self::date::Date;
use self::matrix::{Level, Matrix};
use self::results::{Asked, Results};
use self::shard::Shard;
use crate::cell::axes::{self, KernelOptions};
use crate::cell::{self, Cell, Under, pool};
use crate::exit::Exit;

pub use self::again::line as command_line;
pub use self::config::read as config;
pub use self::report::Checked;
pub use self::sort::short;
pub use self::walk::{Pair, tidy};

/// What was asked for.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The scheduler's binary.
    binary: PathBuf,
    /// A dozen scenarios, once each: two minutes on two cores at most.
    #[arg(long, conflicts_with = "thorough")]
    quick: bool,
    /// Five seeds and one more shape, without a time limit. Without --quick and --thorough: the 36 scenarios of the core, two seeds, about a quarter of an hour
    /// at most.
    #[arg(long)]
    thorough: bool,
    /// The kernels on which the scheduler is checked.
    #[command(flatten)]
    kernels: KernelOptions,
    /// Shapes of the machine: presets such as 8cpu-2llc-smt, shapes such as 1n2l2c1t, or `own` for each scenario's own.
    #[arg(long, value_name = "SHAPE,...", value_delimiter = ',')]
    topologies: Vec<String>,
    /// How many seeds, from 1 on; or which, as 3..7.
    #[arg(long, value_name = "N")]
    seeds: Option<String>,
    /// Only these scenarios.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    scenarios: Vec<String>,
    /// Least memory of the machines, MiB, for a scheduler that needs more than they have without it.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(axes::MEMORY_MIB))]
    memory_mib: Option<u32>,
    /// Runs at once, instead of as many as there are cores.
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// The configuration, instead of ktstr.toml in this folder.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Run only the I-th of N shares of it, of about the same cost; `cargo ktstr merge` makes one check of all of them.
    #[arg(long, value_name = "I/N", requires = "results")]
    shard: Option<Shard>,
    /// What is written, and where to.
    #[command(flatten)]
    outputs: Outputs,
    /// Arguments of the scheduler.
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

/// What is written, and where to.
#[derive(Clone, Debug, clap::Args)]
pub struct Outputs {
    /// Write all that was found here, as JSON (docs/check.md); `-` prints it instead of the screen.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a JUnit file here, for CI.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write a page of HTML here that needs nothing but itself: all that was found, with its evidence.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write what came of every run here: for `cargo ktstr merge`, and for `cargo ktstr compare`.
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
}

/// Runs the check and prints what it found. Whatever keeps it from judging is 2: a 1 says that the scheduler is broken.
pub fn run(out: &mut dyn Write, options: &Options) -> Result<Exit> {
    let began = Instant::now();
    let (config, file) = config::read(options.config.as_deref())?;
    if let Some(file) = &file {
        tell(&format!("reading {}", file.display()));
    }
    let binary = scheduler(&options.binary)?;
    let hash = hash(&binary)?;
    let level = Level::of(options.quick, options.thorough);
    let matrix = Matrix::of(options, &config, level, &cell::scenarios(false))?;
    if let Some(shard) = options.shard {
        ensure!(
            shard.of <= matrix.places.len(),
            "{shard} has nothing to run: there are only {} places (scenarios times kernels times shapes), so that many shards at most",
            matrix.places.len()
        );
    }
    let jobs = options.jobs.map_or_else(pool::width, NonZeroUsize::get);
    let deadline = level.budget().map(|budget| began + budget);
    let bar = pool::bar();
    let walked = walk::walk(
        &matrix,
        options.shard,
        jobs,
        deadline,
        &bar,
        |place, seed| Cell {
            args: options.args.clone(),
            kernel: Some(place.kernel.id.clone()),
            topology: place.topology.clone(),
            memory_mib: options.memory_mib,
            without: config.without.clone(),
            bounds: config.bounds.clone(),
            ..Cell::new(&place.scenario, Under::Binary(binary.clone()), seed)
        },
    );
    bar.finish_and_clear();
    let walked = walked?;
    ensure!(
        self::hash(&binary)? == hash,
        "{} was built anew meanwhile: the runs are of different schedulers; check it again",
        binary.display()
    );
    let asked = Asked {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        scheduler: Checked {
            path: options.binary.clone(),
            args: options.args.clone(),
            hash,
        },
        level,
        matrix,
        config,
        again: Again {
            binary: options.binary.clone(),
            args: options.args.clone(),
            config: options.config.clone(),
            memory_mib: options.memory_mib,
        },
    };
    let wall_s = began.elapsed().as_secs_f64();
    let results = Results::new(asked, options.shard, Date::today(), walked, wall_s);
    tell_of(out, &results, &options.outputs)
}

/// Tells what the results say, on the screen and in the files that were asked for.
fn tell_of(out: &mut dyn Write, results: &Results, outputs: &Outputs) -> Result<Exit> {
    let report = results.report();
    let json = serde_json::to_string_pretty(&report)? + "\n";
    let to_screen = outputs.json.as_deref() == Some(Path::new("-"));
    // The screen first: a file that cannot be written takes nothing with it.
    show(
        out,
        &match to_screen {
            true => json.clone(),
            false => screen::render(&report),
        },
    )?;
    if let Some(path) = outputs.json.as_deref().filter(|_| !to_screen) {
        write(path, &json)?;
    }
    if let Some(path) = &outputs.junit {
        write(path, &junit::render(&report, &results.walked.pairs))?;
    }
    if let Some(path) = &outputs.html {
        write(path, &page::render(&report))?;
    }
    if let Some(path) = &outputs.results {
        write(path, &results.text()?)?;
    }
    Ok(report.code())
}

/// Prints a result. A reader that has gone changes nothing of it.
pub fn show(out: &mut dyn Write, text: &str) -> Result<()> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// The scheduler's binary from the root, since runs have folders of their own; one that cannot run in the guest is refused.
pub fn scheduler(path: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    let text = absolute
        .to_str()
        .context("the scheduler's path is no text")?;
    // One path a process.
    let spec = SchedulerSpec::Path(text.to_owned().leak());
    ktstr::run::find_scheduler_binary(&Scheduler::named("checked").binary(spec))?;
    Ok(absolute)
}

/// BLAKE3 of a file, in hexadecimal.
pub fn hash(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}

/// Writes a file whole or not at all.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    std::fs::write(&part, text)
        .and_then(|()| std::fs::rename(&part, path))
        .inspect_err(|_| drop(std::fs::remove_file(&part)))
        .with_context(|| format!("writing {}", path.display()))
}
