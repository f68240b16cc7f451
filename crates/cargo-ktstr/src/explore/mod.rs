//! `cargo ktstr explore`: runs one test with many seeds on all cores, each run in a separate process. It ends with a summary
//! and the command that reproduces the first failure.
//!
//! Exit codes: 0 if all runs passed or were skipped, 1 if a run failed, 2 if a run was inconclusive or not all seeds were run.

mod pool;
mod seeds;
mod table;
pub mod target;

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::Result;
use ktstr_record::{RunVerdict, runs_root};

use self::pool::Pool;
pub use self::seeds::Seeds;
use crate::exit::Exit;
use crate::json::{self, Limit};

/// The options of `cargo ktstr explore`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Name of the test. Its binary is searched for among the test binaries of the package, as `cargo test` builds them.
    test: String,
    /// Seeds to run, from A up to but not including B.
    #[arg(long, value_name = "A..B", default_value = "0..50")]
    seeds: Seeds,
    /// The package that contains the test, instead of the package of the current folder.
    #[arg(short, long, value_name = "PACKAGE")]
    package: Option<String>,
    /// The binary that contains the test; nothing is built in this case.
    #[arg(long, value_name = "PATH", conflicts_with = "package")]
    binary: Option<PathBuf>,
    /// Start no more runs after the first failure.
    #[arg(long, conflicts_with = "keep_going")]
    stop_at_first_failure: bool,
    /// Run all seeds even if some fail, which is the default.
    #[arg(long)]
    keep_going: bool,
    /// How many runs are in progress at once, instead of one per core of the host.
    #[arg(long, short, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Print a JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// How much of a long list and of a long text the JSON contains.
    #[command(flatten)]
    limit: Limit,
}

/// Runs the seeds and prints the result.
pub fn run(out: &mut dyn Write, options: &Options) -> Result<Exit> {
    let binary = match &options.binary {
        Some(path) => target::Binary::at(path)?,
        None => target::find(&options.test, options.package.as_deref())?,
    };
    let pool = Pool {
        binary,
        test: options.test.clone(),
        root: std::path::absolute(runs_root())?,
        jobs: options.jobs.map_or_else(cores, NonZeroUsize::get),
        stop_at_first_failure: options.stop_at_first_failure,
    };
    let ended = pool.run(options.seeds)?;
    let found = table::Found::of(&pool, options.seeds, ended);
    if options.json {
        json::print(out, &found, options.limit)?;
    } else {
        write!(out, "{}", table::render(&found))?;
    }
    Ok(exit(&found))
}

fn exit(found: &table::Found) -> Exit {
    let any = |verdict: RunVerdict| found.verdicts.contains_key(verdict.as_str());
    if any(RunVerdict::Fail) {
        Exit::Failed
    } else if any(RunVerdict::Inconclusive) || found.run < found.asked {
        Exit::Host
    } else {
        Exit::Done
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}
