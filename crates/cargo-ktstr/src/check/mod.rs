//! `cargo ktstr check BINARY`: runs a scheduler binary under the canned scenarios, and compares it with EEVDF under the same
//! seeds.
//!
//! The user needs no Cargo project and no test binary: the binary of `cargo-ktstr` has the scenarios, and runs in the guest
//! in place of a test binary, as in the demo. `matrix` decides what is run, `walk` runs it, `sort` classifies the
//! findings, `report` is the result as data, and `screen`, `page`, `junit` and
//! `step_summary` render it. `results` stores the outcomes of the runs in a file, `shard` and `merge` divide a check among
//! several machines, and `table` shows several checks on one page.
//!
//! Exit codes: 0 if nothing is broken. 1 if something is broken, or if the scheduler fails to load through its own fault. 2 if
//! nothing could be judged, a requested kernel is not available, or the options contradict each other.

mod again;
mod config;
mod date;
mod junit;
mod known;
pub mod made_up;
mod matrix;
pub mod merge;
mod page;
mod report;
pub mod results;
mod screen;
pub mod shard;
mod sort;
mod step_summary;
pub mod table;
#[cfg(test)]
pub mod testing;
mod walk;

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ktstr::test_support::{Scheduler, SchedulerSpec};
use ktstr_record::settings::Settings;
use ktstr_record::terminal::eprint_line;

use self::again::Again;
use self::date::Date;
use self::matrix::{Level, Matrix, Place};
use self::results::{Asked, Results};
use self::shard::Shard;
use crate::cell::axes::{self, KernelOptions};
use crate::cell::{self, Cell, Under, pool};
use crate::exit::Exit;
use crate::json::{self, Limit};

pub use self::again::line as command_line;
pub use self::config::read as config;
pub use self::report::Checked;
pub use self::sort::short;
pub use self::walk::{Pair, tidy};

/// The options of `cargo ktstr check`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The binary of the scheduler that is checked.
    binary: PathBuf,
    /// A dozen scenarios with one seed each, within about two minutes. With neither --quick nor --thorough: all scenarios with
    /// two seeds each, within about a quarter of an hour. Both times are limits: a run that is not expected to end within the
    /// limit is not started, and the report says how many runs were left out.
    #[arg(long, conflicts_with = "thorough")]
    quick: bool,
    /// All scenarios with five seeds each, each on its own machine topology and on a second one with two LLCs and SMT.
    /// There is no time limit.
    #[arg(long)]
    thorough: bool,
    /// The kernels on which the scheduler is checked.
    #[command(flatten)]
    kernels: KernelOptions,
    /// Machine topologies: presets such as 8cpu-2llc-smt, shapes such as 1n2l2c1t (NUMA nodes, LLCs in total, cores per LLC,
    /// threads per core), or `own` for each scenario's own topology, which is the default.
    #[arg(long, value_name = "SHAPE,...", value_delimiter = ',')]
    topologies: Vec<String>,
    /// How many seeds each scenario runs with (a seed selects one schedule among many): 4 means 1, 2, 3 and 4. Or a range that
    /// excludes its end: 3..7 means 3, 4, 5 and 6.
    #[arg(long, value_name = "N")]
    seeds: Option<String>,
    /// Run only these scenarios, instead of those that the configuration, --quick or --thorough selects.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    scenarios: Vec<String>,
    /// Give each machine at least this much memory, in MiB, for a scheduler that needs more than machines have by default.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(axes::MEMORY_MIB))]
    memory_mib: Option<u32>,
    /// How many runs are in progress at once, instead of one per core of the host.
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// The configuration, instead of ktstr.toml in this folder.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Run only one of N shards, which take about the same time, such as 1/3 or 3/3. Needs --results; `cargo ktstr merge` merges
    /// the files of all shards into one check.
    #[arg(long, value_name = "I/N", requires = "results")]
    shard: Option<Shard>,
    /// The files to write.
    #[command(flatten)]
    outputs: Outputs,
    /// Arguments of the scheduler.
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

/// The files to write.
#[derive(Clone, Debug, clap::Args)]
pub struct Outputs {
    /// Write all findings to this file as JSON (docs/check.md). With `-` the JSON is printed instead of the text report.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How much of a long list and of a long text the JSON contains.
    #[command(flatten)]
    limit: Limit,
    /// Write a JUnit file here, for CI.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write a self-contained HTML page here: all findings with their evidence.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the outcome of every run here, for `cargo ktstr merge` and `cargo ktstr compare`.
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
}

impl Outputs {
    /// Returns an error if one of the files cannot be written.
    fn ensure_writable(&self) -> Result<()> {
        let files = [&self.json, &self.junit, &self.html, &self.results];
        ensure_writable(files.into_iter().flatten())
    }
}

/// Runs the check and prints what it found. Every error that prevents a judgement is exit code 2, since 1 means that the
/// scheduler is broken.
pub fn run(out: &mut dyn Write, options: &Options) -> Result<Exit> {
    let began = Instant::now();
    options.outputs.ensure_writable()?;
    let (config, file) = config::read(options.config.as_deref())?;
    if let Some(file) = &file {
        eprint_line(&format!("reading {}", file.display()));
    }
    let binary = scheduler(&options.binary)?;
    let hash = hash(&binary)?;
    let level = Level::of(options.quick, options.thorough);
    let matrix = Matrix::of(options, &config, level, &cell::scenarios(false))?;
    if let Some(shard) = options.shard {
        ensure!(
            shard.of <= matrix.places.len(),
            "--shard {shard}: a check cannot have more shards than places, and this one has {} (scenarios times kernels times shapes)",
            matrix.places.len()
        );
    }
    let jobs = options.jobs.map_or_else(pool::width, NonZeroUsize::get);
    let deadline = level.budget().map(|budget| began + budget);
    let bar = pool::bar();
    let cell_at = |place: &Place, seed| Cell {
        args: options.args.clone(),
        kernel: Some(place.kernel.id.clone()),
        topology: place.topology.clone(),
        memory_mib: options.memory_mib,
        without: config.without.clone(),
        bounds: config.bounds.clone(),
        ..Cell::new(&place.scenario, Under::Binary(binary.clone()), seed)
    };
    let settings = match matrix.places.first() {
        Some(place) => cell_at(place, matrix.seeds.first).settings()?,
        None => Settings::new(),
    };
    let walked = walk::walk(&matrix, options.shard, jobs, deadline, &bar, cell_at);
    bar.finish_and_clear();
    let walked = walked?;
    ensure!(
        self::hash(&binary)? == hash,
        "{} was rebuilt during the check, so its runs are of different binaries: check it again",
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
        settings,
    };
    let wall_s = began.elapsed().as_secs_f64();
    let results = Results::new(asked, options.shard, Date::today(), walked, wall_s);
    print_outcome(out, &results, &options.outputs)
}

/// Reports the results on the screen and in the requested files.
fn print_outcome(out: &mut dyn Write, results: &Results, outputs: &Outputs) -> Result<Exit> {
    let report = results.report();
    let json = json::text(&report, outputs.limit)?;
    let to_screen = outputs.json.as_deref() == Some(Path::new("-"));
    // The screen comes first, so that it is shown even if a file cannot be written.
    show(
        out,
        &match to_screen {
            true => json.clone(),
            false => screen::render(&report),
        },
    )?;
    // Every file is tried before an error is returned, so that one file that cannot be written does not keep the others from
    // being written.
    let mut written = Vec::new();
    if let Some(path) = outputs.json.as_deref().filter(|_| !to_screen) {
        written.push(write(path, &json));
    }
    if let Some(path) = &outputs.junit {
        written.push(write(path, &junit::render(&report, &results.walked.pairs)));
    }
    if let Some(path) = &outputs.html {
        written.push(write(path, &page::render(&report)));
    }
    if let Some(path) = &outputs.results {
        written.push(results.text().and_then(|text| write(path, &text)));
    }
    step_summary::append(&report);
    written.into_iter().collect::<Result<()>>()?;
    Ok(report.code())
}

/// Prints a result. A closed pipe is not an error, because it must not change the exit code.
pub fn show(out: &mut dyn Write, text: &str) -> Result<()> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Returns the absolute path of the scheduler's binary, which does not depend on the current folder.
///
/// # Errors
///
/// The file does not exist or cannot run in the guest, or its path is not valid UTF-8.
pub fn scheduler(path: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    let text = absolute
        .to_str()
        .context("the scheduler's path is not valid UTF-8")?;
    // A process checks one scheduler or compares two, so at most two paths are leaked.
    let spec = SchedulerSpec::Path(text.to_owned().leak());
    ktstr::run::find_scheduler_binary(&Scheduler::named("checked").binary(spec))?;
    Ok(absolute)
}

/// Returns the BLAKE3 hash of a file, in hexadecimal.
pub fn hash(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}

/// Returns an error if one of the files cannot be written; `-` stands for the screen. A command whose runs take minutes calls
/// this first, so that a mistyped folder is not found after the runs.
pub fn ensure_writable<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Result<()> {
    for path in paths.into_iter().filter(|path| **path != Path::new("-")) {
        let cannot = || format!("{} cannot be written, so nothing was run", path.display());
        ensure!(!path.is_dir(), "{}: it is a folder", cannot());
        if is_special(path) {
            continue;
        }
        let part = part_of(path);
        std::fs::write(&part, "").with_context(cannot)?;
        std::fs::remove_file(&part).with_context(cannot)?;
    }
    Ok(())
}

/// Whether the path is that of a device or a pipe, which is written as it is and must not be replaced by a file.
fn is_special(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| !meta.is_file() && !meta.is_dir())
}

/// Returns the name of a file while it is being written.
fn part_of(path: &Path) -> PathBuf {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    PathBuf::from(part)
}

/// Writes a file atomically: the text goes to a file with `.part` added to its name, which is then renamed. A device or a pipe
/// is written directly.
pub fn write(path: &Path, text: &str) -> Result<()> {
    if is_special(path) {
        return std::fs::write(path, text).with_context(|| format!("writing {}", path.display()));
    }
    let part = part_of(path);
    std::fs::write(&part, text)
        .and_then(|()| std::fs::rename(&part, path))
        .inspect_err(|_| drop(std::fs::remove_file(&part)))
        .with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_that_cannot_be_written_does_not_lose_the_results() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        let outputs = Outputs {
            json: None,
            limit: Limit::default(),
            junit: None,
            html: Some(folder.path().join("none/page.html")),
            results: Some(path.clone()),
        };
        let error = print_outcome(&mut Vec::new(), &testing::results(), &outputs).unwrap_err();
        assert!(format!("{error:#}").contains("page.html"), "{error:#}");
        assert!(Results::read(&path).is_ok());
        let early = format!("{:#}", outputs.ensure_writable().unwrap_err());
        assert!(
            early.contains("none/page.html cannot be written, so nothing was run: No such file"),
            "{early}"
        );
        write(Path::new("/dev/null"), "nothing is kept").unwrap();
        assert!(is_special(Path::new("/dev/null")), "it is still a device");
        let fine = ["-", "/dev/null"]
            .map(PathBuf::from)
            .into_iter()
            .chain([path, folder.path().join("new")]);
        let fine: Vec<PathBuf> = fine.collect();
        ensure_writable(&fine).unwrap();
        let left = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 1, "the attempt leaves no file");
        let folder = ensure_writable(&[folder.path().to_owned()]).unwrap_err();
        assert!(folder.to_string().ends_with("it is a folder"), "{folder}");
    }
}
