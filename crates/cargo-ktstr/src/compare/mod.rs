//! `cargo ktstr compare A B`: runs two schedulers under the same scenarios with the same seeds, and tests their differences. Each
//! seed gives a pair of runs. Each metric in each place (a scenario, a kernel and a shape) is one sign-flip permutation test. All
//! tests of a comparison form a family, and Holm's procedure adjusts their p-values together. More seeds are run only where they
//! can still change a conclusion.
//!
//! `looks` decides after which seeds the runs are tested, `grow` makes the runs, and `stored` reads them from files
//! instead. `judge` is the entry to the statistics, which are in `permutation`, `signs`, `holm` and `smallest`; `family`
//! makes the rows of the table, `report` is the result as data, and `screen` renders it.
//!
//! Exit codes: 0 if no regression was found. 1 if one was found, or if a run of B failed by B's own fault and left no metrics
//! where the run of A left some. 2 if nothing could be compared, the seeds are too few to decide the tests, or a requested
//! kernel is not available.

mod bootstrap;
mod family;
mod grow;
mod holm;
mod judge;
mod looks;
mod permutation;
#[cfg(test)]
mod rates;
mod report;
pub mod rng;
mod screen;
mod signs;
mod smallest;
mod stored;

use std::collections::BTreeMap;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use ktstr_record::runs_root;

use self::grow::{Grown, Made};
use self::judge::LEVEL;
use self::looks::Looks;
use self::report::{Gates, Report, Side, compared};
use crate::cell::axes::{self, Kernel, KernelOptions, OWN};
use crate::cell::{self, Cell, Under, pool};
use crate::check::{self, tidy};
use crate::exit::Exit;
use crate::explore::Seeds;
use crate::json::{self, Limit};

/// The word on the command line for the kernel's own scheduler.
const EEVDF: &str = "eevdf";
/// The default scenarios. There are only four, because a family of more tests needs more seeds before it can be decided.
const SCENARIOS: [&str; 4] = [
    "steady",
    "custom_bursts",
    "custom_wake_under_load",
    "custom_nice_mix",
];
/// The smallest default number of seeds at the first look. A look is a significance test of all pairs that were run so far. A
/// comparison has one look or several.
const LEAST_SEEDS: usize = 8;
/// The largest default number of seeds at the first look.
const MOST_SEEDS: usize = 20;
/// The number of seeds that are run in addition to the smallest number that can decide a family: with the smallest number, every
/// single pair would have to differ in the same direction.
const MORE_SEEDS: usize = 2;

/// The options of `cargo ktstr compare`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The scheduler to compare with: a binary, `eevdf`, or a file that `cargo ktstr check --results` wrote.
    a: String,
    /// The scheduler to judge: a binary, `eevdf` or such a file. With a file nothing is run: either A and B are both files, or
    /// one is a file and the other is `eevdf`, which means the runs of EEVDF that are stored in that file.
    b: String,
    /// An argument of A; may be given more than once.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    a_arg: Vec<String>,
    /// An argument of B; may be given more than once.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    b_arg: Vec<String>,
    /// The scenarios, instead of `steady`, `custom_bursts`, `custom_wake_under_load` and `custom_nice_mix`.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    scenarios: Vec<String>,
    /// The kernels on which both schedulers run.
    #[command(flatten)]
    kernels: KernelOptions,
    /// Machine topologies (see `cargo ktstr check --help`): presets, shapes, or `own` for each scenario's own topology,
    /// which is the default.
    #[arg(long, value_name = "SHAPE,...", value_delimiter = ',')]
    topologies: Vec<String>,
    /// The number of seeds, counted from seed 1, or a range that excludes its end: 3..14 stands for the seeds 3 to 13. Without
    /// this option ktstr starts with 8 to 20 seeds for each scenario, kernel and shape. The number grows with the number of
    /// significance tests, of which there is one for each metric in each scenario, kernel and shape. Where a difference is still
    /// open after these seeds, it runs more of them, up to twice as many in total. If there are very many significance tests, the
    /// number of seeds is fixed from the start.
    #[arg(long, value_name = "N")]
    seeds: Option<String>,
    /// With --seeds: run up to this many seeds where more runs could still show a difference.
    #[arg(long, value_name = "N", requires = "seeds")]
    most_seeds: Option<u64>,
    /// Run even if the seeds are too few for the significance tests. The result then only shows whether the runs of A and B are
    /// identical.
    #[arg(long)]
    undecided: bool,
    /// The configuration, instead of ktstr.toml in this folder. Its section `[gates]` sets, for each metric, how large a
    /// difference must be to count.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Give each machine at least this much memory, in MiB, for a scheduler that needs more than machines have by default.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(axes::MEMORY_MIB))]
    memory_mib: Option<u32>,
    /// How many runs are in progress at once, instead of one per core of the host.
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Write all numbers here as JSON (docs/check.md); `-` prints them instead of the table.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How much of a long list and of a long text the JSON contains.
    #[command(flatten)]
    limit: Limit,
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
    check::ensure_writable(&options.json)?;
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
    let given = given_looks(options)?;
    let (kernels, missing) =
        axes::kernels(&options.kernels.kernels, options.kernels.lock.as_deref())?;
    if kernels.is_empty() {
        bail!("there is no kernel to run: {}", missing.join("; "));
    }
    let places = scenarios.len() * topologies.len() * kernels.len();
    let tests = places * compared(&config.gates).len();
    let looks = given.unwrap_or_else(|| Looks::usual(tests));
    if !options.undecided {
        decidable(&looks, tests)?;
    }
    let mut places = Vec::new();
    for kernel in &kernels {
        for topology in &topologies {
            places.extend(scenarios.iter().map(|scenario| Job {
                scenario: scenario.clone(),
                kernel: kernel.clone(),
                topology: topology.clone(),
                seed: looks.first,
            }));
        }
    }
    let walk = |jobs| walk(options, jobs, &a, &b);
    let grown = grow::run(&looks, &places, &config.gates, walk)?;
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
    let mut report = Report::of(a, b, &grown, &config.gates, &looks);
    report.missing_kernels = missing;
    report.wall_s = began.elapsed().as_secs_f64();
    print_report(out, options, &report)
}

/// Compares two files of results, or the scheduler and EEVDF in one file. Options that would change how runs are
/// made are refused.
fn of_sets(options: &Options, gates: &Gates, began: Instant) -> Result<Report> {
    let given = [
        ("--a-arg", !options.a_arg.is_empty()),
        ("--b-arg", !options.b_arg.is_empty()),
        ("--kernels", !options.kernels.kernels.is_empty()),
        ("--lock", options.kernels.lock.is_some()),
        ("--topologies", !options.topologies.is_empty()),
        ("--seeds", options.seeds.is_some()),
        ("--most-seeds", options.most_seeds.is_some()),
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
    let looks = Looks::one(Seeds {
        first: first.unwrap_or(0),
        end: last.map_or(0, |last| last.saturating_add(1)),
    });
    let grown = Grown {
        pairs: pairs.pairs,
        taken: BTreeMap::new(),
    };
    let mut report = Report::of(side_a, side_b, &grown, gates, &looks);
    report.alone = pairs.alone;
    report.wall_s = began.elapsed().as_secs_f64();
    Ok(report)
}

/// Returns the looks that the options ask for; `None` if the number of seeds is to be derived from the size of the family.
fn given_looks(options: &Options) -> Result<Option<Looks>> {
    let Some(seeds) = options.seeds.as_deref().map(axes::seeds).transpose()? else {
        return Ok(None);
    };
    let Some(most) = options.most_seeds else {
        return Ok(Some(Looks::one(seeds)));
    };
    ensure!(
        most > seeds.count() && most <= axes::MOST_SEEDS,
        "--most-seeds {most} is refused: it is the largest number of seeds in total, so it has to be above the {} of --seeds, and \
         at most {}",
        seeds.count(),
        axes::MOST_SEEDS
    );
    Ok(Some(Looks::growing(seeds, most)))
}

/// Returns an error if the last look cannot decide a family of `tests` tests. This is checked before anything is run.
fn decidable(looks: &Looks, tests: usize) -> Result<()> {
    let last = looks.last();
    if looks.decides(last, tests) {
        return Ok(());
    }
    let pairs = last.end - looks.first;
    let smallest = permutation::smallest_p(pairs as usize);
    let level = LEVEL * last.share;
    let advice = match holm::pairs_needed(tests, level) {
        Some(needed) => format!("Use {needed} seeds, or fewer scenarios, kernels or shapes"),
        None => "No number of seeds is enough: name fewer scenarios, kernels or shapes".to_owned(),
    };
    let most = (level / smallest).floor() as usize;
    let can = match most {
        0 => "they are too few even for one test".to_owned(),
        most => format!("they are enough for at most {most} tests"),
    };
    bail!(
        "{pairs} seeds cannot decide {tests} significance tests (one per metric in each scenario, kernel and shape), even if all \
         runs differ in the same direction; {can}. {advice}. With --undecided the seeds are run anyway, and the result only shows \
         which runs are identical"
    )
}

/// Prints the conclusions, and writes the requested file.
fn print_report(out: &mut dyn Write, options: &Options, report: &Report) -> Result<Exit> {
    let json = json::text(&report, options.limit)?;
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

/// Makes these runs, and returns their outcomes in the order of the jobs.
fn walk(options: &Options, jobs: Vec<Job>, a: &Side, b: &Side) -> Result<Vec<Made>> {
    let records = runs_root();
    let width = options.jobs.map_or_else(pool::width, NonZeroUsize::get);
    let bar = pool::bar();
    bar.set_length(jobs.len() as u64);
    bar.set_message("pairs");
    let work = |(_, job): &(usize, Job)| {
        let run = |side: &Side| {
            let outcome = job.cell(side, options.memory_mib).run(&records);
            tidy(&outcome, &records);
            outcome
        };
        Some((run(a), run(b)))
    };
    let mut pairs = Vec::new();
    let jobs = jobs.into_iter().enumerate().collect();
    let ran = pool::run(jobs, width, &bar, work, |(at, job), outcomes| {
        pairs.extend(outcomes.map(|(a, b)| (at, (job, a, b))));
        Ok(())
    });
    bar.finish_and_clear();
    ran?;
    pairs.sort_by_key(|(at, _)| *at);
    Ok(pairs.into_iter().map(|(_, made)| made).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeds(count: u64) -> Seeds {
        Seeds {
            first: 1,
            end: 1 + count,
        }
    }

    #[test]
    fn a_family_that_cannot_be_decided_is_refused_with_the_number_of_seeds() {
        let error =
            |looks: &Looks, tests| decidable(looks, tests).expect_err("refused").to_string();
        let one = |count| Looks::one(seeds(count));
        insta::assert_snapshot!(error(&one(3), 32), @"3 seeds cannot decide 32 significance tests (one per metric in each scenario, kernel and shape), even if all runs differ in the same direction; they are too few even for one test. Use 11 seeds, or fewer scenarios, kernels or shapes. With --undecided the seeds are run anyway, and the result only shows which runs are identical");
        assert!(
            error(&one(8), 32)
                .contains("direction; they are enough for at most 6 tests. Use 11 seeds")
        );
        assert!(error(&one(20), 100_000).contains("No number of seeds is enough"));
        assert!(decidable(&one(11), 32).is_ok() && decidable(&one(6), 1).is_ok());
        // The last of these looks may use only a quarter of the significance level, so 13 seeds are needed instead of 11.
        let growing = error(&Looks::growing(seeds(6), 11), 32);
        assert!(growing.contains("Use 13 seeds"), "{growing}");
        assert!(decidable(&Looks::growing(seeds(6), 13), 32).is_ok());
    }

    #[test]
    fn the_looks_are_those_that_the_options_ask_for() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            options: Options,
        }
        let looks = |line: &str| {
            let words = ["compare", "a", "b"]
                .into_iter()
                .chain(line.split_whitespace());
            let line = <Line as clap::Parser>::try_parse_from(words).map_err(|e| e.to_string())?;
            given_looks(&line.options).map_err(|e| e.to_string())
        };
        assert_eq!(looks(""), Ok(None));
        assert_eq!(looks("--seeds 12"), Ok(Some(Looks::one(seeds(12)))));
        let growing = Looks::growing(seeds(12), 20);
        assert_eq!(looks("--seeds 12 --most-seeds 20"), Ok(Some(growing)));
        for few in ["12", "3"] {
            let error = looks(&format!("--seeds 12 --most-seeds {few}")).expect_err("too few");
            assert!(
                error.contains("it has to be above the 12 of --seeds"),
                "{error}"
            );
        }
        assert!(looks("--most-seeds 20").is_err_and(|error| error.contains("--seeds")));
    }
}
