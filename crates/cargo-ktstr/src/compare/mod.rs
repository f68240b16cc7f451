//! `cargo ktstr compare A B`: runs two schedulers under the same scenarios with the same seeds, and tests their differences.
//! Each seed is a pair; the test is the sign-flip permutation test, with Holm's procedure over the family.
//!
//! `family` is the entry to the statistics, which are in `permutation`, `holm`, `bootstrap` and `smallest`; `screen` renders
//! the result.
//!
//! Exit codes: 0 no regression was found, 1 one was found or B exits early where A does not, 2 nothing could be compared.

mod bootstrap;
mod family;
mod holm;
mod permutation;
#[cfg(test)]
mod rates;
mod report;
pub mod rng;
mod screen;
mod signs;
mod smallest;
mod stored;

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail};
use ktstr_record::runs_root;

use self::family::LEVEL;
use self::report::{Gates, Report, Side, compared};
use crate::cell::axes::{self, Kernel, KernelOptions, OWN};
use crate::cell::{self, Cell, Outcome, Under, pool};
use crate::check::{self, tidy};
use crate::exit::Exit;

/// The word for the kernel's own scheduler.
const EEVDF: &str = "eevdf";
/// The default scenarios. They are few, so that few seeds decide the family.
const SCENARIOS: [&str; 4] = [
    "steady",
    "custom_bursts",
    "custom_wake_under_load",
    "custom_nice_mix",
];
/// The smallest and the largest default number of seeds.
const LEAST_SEEDS: usize = 8;
const MOST_SEEDS: usize = 20;
/// The number of seeds that are run in addition to the fewest that can decide a family: with the fewest, every single pair
/// would have to differ in the same direction.
const MORE_SEEDS: usize = 2;

/// The options of `cargo ktstr compare`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The scheduler to compare with: a binary, `eevdf`, or a file that `cargo ktstr check --results` wrote.
    a: String,
    /// The scheduler to judge, given in the same ways. With two files of results nothing is run.
    b: String,
    /// An argument of A; may be given more than once.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    a_arg: Vec<String>,
    /// An argument of B; may be given more than once.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    b_arg: Vec<String>,
    /// The scenarios, instead of steady, custom_bursts, custom_wake_under_load and custom_nice_mix.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    scenarios: Vec<String>,
    /// The kernels on which both schedulers run.
    #[command(flatten)]
    kernels: KernelOptions,
    /// Shapes, as for `check`.
    #[arg(long, value_name = "SHAPE,...", value_delimiter = ',')]
    topologies: Vec<String>,
    /// The number of seeds, or a range such as 3..14. The default is as many as it takes to decide all tests together, 8 to 20.
    #[arg(long, value_name = "N")]
    seeds: Option<String>,
    /// Run even if the seeds are too few to decide all tests, to see whether the runs are identical.
    #[arg(long)]
    undecided: bool,
    /// The configuration, instead of ktstr.toml in this folder: its gates say which differences count.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The least memory of a machine in MiB, for a scheduler that needs more than the default.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(axes::MEMORY_MIB))]
    memory_mib: Option<u32>,
    /// The number of runs at once, instead of one per core.
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Write all numbers here as JSON (docs/check.md); `-` prints them instead of the table.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A pair of runs to be made: its place and its seed.
#[derive(Clone, Debug, PartialEq)]
struct Job {
    scenario: String,
    kernel: Kernel,
    topology: Option<String>,
    seed: u64,
}

impl Job {
    fn place(&self) -> [String; 3] {
        let shape = self.topology.clone().unwrap_or_else(|| OWN.to_owned());
        [self.scenario.clone(), self.kernel.release.clone(), shape]
    }

    fn cell(&self, side: &Side, memory_mib: Option<u32>) -> Cell {
        Cell {
            args: side.args.clone(),
            kernel: Some(self.kernel.id.clone()),
            topology: self.topology.clone(),
            memory_mib,
            ..Cell::new(&self.scenario, side.under.clone(), self.seed)
        }
    }
}

/// Runs the comparison and prints its conclusions.
pub fn run(out: &mut dyn Write, options: &Options) -> Result<Exit> {
    let began = Instant::now();
    let (config, _) = check::config(options.config.as_deref())?;
    if stored::is_set(&options.a) || stored::is_set(&options.b) {
        let report = of_sets(options, &config.gates, began)?;
        return print_report(out, options, &report);
    }
    let a = side(&options.a, &options.a_arg)?;
    let b = side(&options.b, &options.b_arg)?;
    let all = cell::scenarios(false);
    let scenarios = match &options.scenarios[..] {
        [] => SCENARIOS.map(str::to_owned).to_vec(),
        words => axes::scenarios(words, &all)?,
    };
    let topologies = axes::topologies(&options.topologies)?;
    let given = options.seeds.as_deref().map(axes::seeds).transpose()?;
    let (kernels, missing) =
        axes::kernels(&options.kernels.kernels, options.kernels.lock.as_deref())?;
    if kernels.is_empty() {
        bail!("there is no kernel to run: {}", missing.join("; "));
    }
    let places = scenarios.len() * topologies.len() * kernels.len();
    let seeds = match given {
        Some(seeds) => seeds,
        None => axes::seeds(&enough(places * compared(&config.gates).len()).to_string())?,
    };
    if !options.undecided {
        decidable(
            seeds.count() as usize,
            places * compared(&config.gates).len(),
        )?;
    }
    let mut jobs = Vec::new();
    for seed in seeds.first..seeds.end {
        for kernel in &kernels {
            for topology in &topologies {
                jobs.extend(scenarios.iter().map(|scenario| Job {
                    scenario: scenario.clone(),
                    kernel: kernel.clone(),
                    topology: topology.clone(),
                    seed,
                }));
            }
        }
    }
    let pairs = walk(options, jobs, &a, &b)?;
    for side in [&a, &b] {
        if let Under::Binary(path) = &side.under
            && side.hash.as_ref() != Some(&check::hash(path)?)
        {
            bail!(
                "{} was rebuilt during the comparison: compare again",
                path.display()
            );
        }
    }
    let mut report = Report::of(a, b, &pairs, &config.gates);
    report.seeds = [seeds.first, seeds.end];
    report.missing_kernels = missing;
    report.wall_s = began.elapsed().as_secs_f64();
    print_report(out, options, &report)
}

/// Compares two files of results. Options that would change how the runs are made are refused.
fn of_sets(options: &Options, gates: &Gates, began: Instant) -> Result<Report> {
    let given = [
        ("--a-arg", !options.a_arg.is_empty()),
        ("--b-arg", !options.b_arg.is_empty()),
        ("--kernels", !options.kernels.kernels.is_empty()),
        ("--lock", options.kernels.lock.is_some()),
        ("--topologies", !options.topologies.is_empty()),
        ("--seeds", options.seeds.is_some()),
        ("--jobs", options.jobs.is_some()),
        ("--memory-mib", options.memory_mib.is_some()),
        ("--undecided", options.undecided),
    ];
    if let Some((option, _)) = given.into_iter().find(|(_, given)| *given) {
        bail!("{option} is about runs, and with files of results nothing is run: leave it out");
    }
    let scenarios = match &options.scenarios[..] {
        [] => Vec::new(),
        words => axes::scenarios(words, &cell::scenarios(false))?,
    };
    let [a, b] = stored::read(&options.a, &options.b)?;
    let (side_a, side_b) = (a.side.clone(), b.side.clone());
    let pairs = a.pair_with(b, &scenarios)?;
    let seeds = pairs.pairs.iter().map(|(job, ..)| job.seed);
    let (first, last) = (seeds.clone().min(), seeds.max());
    let mut report = Report::of(side_a, side_b, &pairs.pairs, gates);
    report.seeds = [first.unwrap_or(0), last.map_or(0, |last| last + 1)];
    report.alone = pairs.alone;
    report.wall_s = began.elapsed().as_secs_f64();
    Ok(report)
}

/// Refuses a family of tests that this number of pairs cannot decide, before anything is run.
fn decidable(pairs: usize, tests: usize) -> Result<()> {
    let smallest = permutation::smallest_p(pairs);
    if smallest <= LEVEL / tests.max(1) as f64 {
        return Ok(());
    }
    let advice = match holm::pairs_needed(tests, LEVEL) {
        Some(needed) => format!("it takes {needed} seeds, or fewer scenarios, kernels or shapes"),
        None => "no number of seeds is enough: name fewer scenarios, kernels or shapes".to_owned(),
    };
    let most = (LEVEL / smallest).floor() as usize;
    let can = match most {
        0 => "they cannot decide even one".to_owned(),
        most => format!("they can decide {most} at most"),
    };
    bail!(
        "{pairs} seeds cannot decide {tests} tests (places times metrics), whatever they show; {can}: {advice}. --undecided runs \
         them anyway, and says only which runs are the same to the last bit"
    )
}

/// Prints the conclusions, and writes the requested file.
fn print_report(out: &mut dyn Write, options: &Options, report: &Report) -> Result<Exit> {
    let json = serde_json::to_string_pretty(&report)? + "\n";
    match options.json.as_deref() {
        Some(path) if path == Path::new("-") => check::show(out, &json)?,
        path => {
            check::show(out, &screen::render(report))?;
            if let Some(path) = path {
                check::write(path, &json)?;
            }
        }
    }
    Ok(report.code())
}

/// Returns the number of seeds that it takes to decide this number of tests, within limits.
fn enough(tests: usize) -> usize {
    let needed = holm::pairs_needed(tests, LEVEL).unwrap_or(MOST_SEEDS);
    (needed + MORE_SEEDS).clamp(LEAST_SEEDS, MOST_SEEDS)
}

fn side(name: &str, args: &[String]) -> Result<Side> {
    let (under, hash) = match name {
        EEVDF if args.is_empty() => (Under::Eevdf, None),
        EEVDF => bail!("eevdf takes no arguments: {}", args.join(" ")),
        path => {
            let path = check::scheduler(Path::new(path))?;
            let hash = check::hash(&path)?;
            (Under::Binary(path), Some(hash))
        }
    };
    Ok(Side {
        name: name.to_owned(),
        args: args.to_vec(),
        hash,
        under,
    })
}

/// Makes all runs; the results are in the order of the jobs.
fn walk(
    options: &Options,
    jobs: Vec<Job>,
    a: &Side,
    b: &Side,
) -> Result<Vec<(Job, Outcome, Outcome)>> {
    let records = runs_root();
    let width = options.jobs.map_or_else(pool::width, NonZeroUsize::get);
    let bar = pool::bar();
    bar.set_length(jobs.len() as u64);
    bar.set_message("pairs");
    let order = jobs.clone();
    let work = |job: &Job| {
        let run = |side: &Side| {
            let outcome = job.cell(side, options.memory_mib).run(&records);
            tidy(&outcome, &records);
            outcome
        };
        Some((run(a), run(b)))
    };
    let mut pairs = Vec::new();
    let ran = pool::run(jobs, width, &bar, work, |job, outcomes| {
        pairs.extend(outcomes.map(|(a, b)| (job, a, b)));
        Ok(())
    });
    bar.finish_and_clear();
    ran?;
    pairs.sort_by_key(|(job, ..)| order.iter().position(|other| other == job));
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_number_of_seeds_decides_the_usual_family() {
        let tests = SCENARIOS.len() * compared(&Gates::new()).len();
        let seeds = enough(tests);
        assert!(permutation::smallest_p(seeds) <= LEVEL / tests as f64);
        assert_eq!(enough(1), LEAST_SEEDS);
        assert_eq!(enough(100_000), MOST_SEEDS);
    }

    #[test]
    fn a_family_that_cannot_be_decided_is_refused_with_what_it_takes() {
        let error = |pairs, tests| decidable(pairs, tests).expect_err("refused").to_string();
        insta::assert_snapshot!(error(3, 32), @"3 seeds cannot decide 32 tests (places times metrics), whatever they show; they cannot decide even one: it takes 11 seeds, or fewer scenarios, kernels or shapes. --undecided runs them anyway, and says only which runs are the same to the last bit");
        assert!(
            error(8, 32)
                .contains("whatever they show; they can decide 6 at most: it takes 11 seeds")
        );
        assert!(error(20, 100_000).contains("no number of seeds is enough"));
        assert!(decidable(11, 32).is_ok() && decidable(6, 1).is_ok());
    }
}
