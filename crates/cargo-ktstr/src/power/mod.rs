//! `cargo ktstr power`: measures which defects the checks find, and how often they raise a false alarm. It runs scx-ktstr with
//! each of its defects, and schedulers without defects, under the canned scenarios with many seeds.
//!
//! Runs are child processes on all cores (`cell/`). Each result is stored at once, so that an interrupted matrix continues
//! where it stopped.

mod case;
mod page;
#[cfg(not(test))]
mod plain;
mod search;
mod stats;
mod table;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ktstr_record::RunVerdict;
use ktstr_state::env;

use self::case::{Baseline, Case, Scheduler};
use self::page::{Alarm, Caught, CleanRow, DefectRow, Report};
use self::search::{CAUGHT, Row};
use crate::cell::{self, pool};
use crate::check;
use crate::exit::Exit;
use crate::json::{self, Limit};

/// The store of results by case.
type Store = cell::Store<Case>;

/// The options of `cargo ktstr power`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The number of seeds with which a scenario that catches a defect is run, to measure how reliably it does. Each scenario
    /// first runs with one seed. Then up to three of those that caught the defect run with N seeds, one after the other, until
    /// one catches it with at least 90 % of its seeds.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=200))]
    seeds: u64,
    /// Only this defect, named like the flag of scx-ktstr without the leading `--`, such as `starve-nice`; may be given more than
    /// once. `none`: no defect is tried, and only the schedulers without defects run.
    #[arg(long, value_name = "NAME")]
    defect: Vec<String>,
    /// Only this scenario; may be given more than once.
    #[arg(long, value_name = "NAME")]
    scenario: Vec<String>,
    /// The number of runs of each scheduler without defects, and at least one run of each scenario; 0 for no runs.
    #[arg(long, value_name = "N", default_value_t = 200)]
    clean_runs: u64,
    /// The binary of a sound scheduler with which false alarms are counted, instead of scx-ktstr without a defect, EEVDF and, if
    /// installed, `scx_bpfland`; may be given more than once. The planted defects are always those of scx-ktstr. With
    /// `--defect none`, the results are about these schedulers only.
    #[arg(long, value_name = "PATH")]
    scheduler: Vec<PathBuf>,
    /// Try the scenarios, the most promising first, only until one catches the defect with at least 90 % of its seeds, instead of
    /// trying all of them.
    #[arg(long)]
    quick: bool,
    /// Instead of the canned scenarios, run tests that set no checks, so that only the default checks judge them.
    #[arg(long)]
    plain: bool,
    /// Write the results as a page of Markdown to this file, for instance to docs/power.md.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print a JSON object instead of tables.
    #[arg(long)]
    json: bool,
    /// How much of a long list and of a long text the JSON contains.
    #[command(flatten)]
    limit: Limit,
    /// Run nothing, and report the newest stored results.
    #[arg(long)]
    report_only: bool,
}

/// Runs the matrix and reports. The exit code is 1 if a defect was not caught, was caught too seldom or was not run, or if
/// a run under a scheduler without defects failed.
pub fn run(out: &mut dyn Write, options: &Options) -> Result<Exit> {
    check::ensure_writable(&options.out)?;
    let scheduler = ktstr::run::find_scheduler_binary(&cell::SCX_KTSTR)?
        .context("scx-ktstr has no binary")?
        .path;
    let defects = chosen("defect", &options.defect, table::read(&scheduler)?, |d| {
        &d.name
    })?;
    let all = cell::scenarios(options.plain);
    let scenarios = chosen("scenario", &options.scenario, all, |name| name)?;
    let rows_of: Vec<String> = scenarios
        .iter()
        .filter(|name| {
            !options.plain || PLAIN.contains(&name.as_str()) || !options.scenario.is_empty()
        })
        .cloned()
        .collect();
    let others = absolute(&options.scheduler)?;
    let folder = results();
    let mut store = if options.report_only {
        Store::newest(&folder)?
    } else {
        let own = std::env::current_exe().context("looking for this binary")?;
        let qemu = ktstr_machine::Qemu::find()?.path;
        let mut binaries: Vec<&Path> = vec![&own, &scheduler, &qemu];
        binaries.extend(others.iter().map(PathBuf::as_path));
        binaries.extend(case::bpfland());
        Store::open(&folder, &binaries, &settings()?)?
    };
    let baselines = Baseline::of(&others);
    let rows: Vec<Row> = defects
        .iter()
        .map(|defect| Row {
            defect,
            scenarios: &rows_of,
            seeds: options.seeds,
            quick: options.quick,
        })
        .collect();
    if !options.report_only {
        walk(
            &mut store,
            &rows,
            &baselines,
            &scenarios,
            options.clean_runs,
        )?;
    }
    let missing: u64 = rows
        .iter()
        .map(|row| row.next(&store, usize::MAX).len() as u64)
        .chain(
            baselines
                .iter()
                .filter(|_| options.clean_runs > 0)
                .flat_map(|baseline| search::clean(baseline, &scenarios, options.clean_runs))
                .map(|case| u64::from(store.get(&case).is_none())),
        )
        .sum();
    let report = Report {
        plain: options.plain,
        missing,
        command: command(options),
        kernel: store.all().find_map(|(_, outcome)| outcome.kernel.clone()),
        seeds: options.seeds,
        quick: options.quick,
        defects: rows.iter().map(|row| defect_row(&store, row)).collect(),
        clean: clean_rows(&store, &baselines, &scenarios, options.clean_runs),
        scenarios,
    };
    if options.json {
        json::print(out, &report, options.limit)?;
    } else {
        write!(out, "{}", page::screen(&report))?;
        writeln!(out, "results: {}", store.path().display())?;
    }
    if let Some(path) = &options.out {
        let page = match options.scheduler.is_empty() || !report.defects.is_empty() {
            true => page::markdown(&report),
            false => page::schedulers(&report),
        };
        check::write(path, &page)?;
    }
    let escaped = report.defects.iter().any(|row| row.verdict != Caught::Yes);
    let accused = report.clean.iter().any(|row| row.count.hits > 0);
    Ok(if escaped || accused {
        Exit::Failed
    } else {
        Exit::Done
    })
}

/// The plain scenarios under which defects are tried; the others are the same scenarios on other shapes.
const PLAIN: [&str; 3] = ["plain_four_cgroups", "plain_moves", "plain_spare"];

/// Returns the elements of `all` whose names are in `wanted`; all if `wanted` is empty, and none for the name `none`.
///
/// # Errors
///
/// A name is unknown; the error lists the known ones.
fn chosen<T>(
    what: &str,
    wanted: &[String],
    all: Vec<T>,
    name: impl Fn(&T) -> &String,
) -> Result<Vec<T>> {
    let known: Vec<String> = all.iter().map(|one| name(one).clone()).collect();
    if let Some(unknown) = wanted.iter().find(|w| !known.contains(w) && *w != "none") {
        bail!(
            "there is no {what} {unknown:?}; there are {}",
            known.join(", ")
        );
    }
    Ok(all
        .into_iter()
        .filter(|one| wanted.is_empty() || wanted.contains(name(one)))
        .collect())
}

/// Returns the folder of the results, next to the records of runs.
fn results() -> PathBuf {
    let mut root = ktstr_record::runs_root();
    root.set_file_name("ktstr-power");
    root
}

/// Makes all missing runs.
fn walk(
    store: &mut Store,
    rows: &[Row],
    baselines: &[Baseline],
    scenarios: &[String],
    clean_runs: u64,
) -> Result<()> {
    let bar = pool::bar();
    // The next step of a row depends on all results of its last step. All rows take their steps together, so that no core idles.
    loop {
        let next: Vec<Case> = rows
            .iter()
            .flat_map(|row| row.next(store, pool::width() * 2))
            .collect();
        if next.is_empty() {
            break;
        }
        bar.set_message("defects");
        run_all(store, next, &bar)?;
    }
    if clean_runs > 0 {
        bar.set_message("without defects");
        for baseline in baselines {
            run_all(store, search::clean(baseline, scenarios, clean_runs), &bar)?;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// Runs the cases that have no result yet.
fn run_all(store: &mut Store, cases: Vec<Case>, bar: &indicatif::ProgressBar) -> Result<()> {
    let todo = cases.into_iter().filter(|case| store.get(case).is_none());
    let todo: Vec<Case> = todo.collect();
    bar.inc_length(todo.len() as u64);
    let records = store.path().with_extension("runs");
    let run = |case: &Case| Some(case.run(&records));
    pool::run(todo, pool::width(), bar, run, |case, outcome| {
        outcome.map_or(Ok(()), |outcome| store.put(case, outcome))
    })
}

fn defect_row(store: &Store, row: &Row) -> DefectRow {
    let scheduler = row.scheduler();
    let scenario = row.candidates(store).into_iter().next();
    let last = if row.defect.rare {
        search::RARE_SEEDS
    } else {
        row.seeds
    };
    let cases = scenario
        .as_deref()
        .map(|scenario| search::cell(&scheduler, scenario, 1..=last))
        .unwrap_or_default();
    let (count, unanswered) = search::count(store, &cases);
    let (breadth, _) = search::count(store, &row.first());
    let verdict = match count.rate() {
        Some(rate) if rate >= CAUGHT || row.defect.rare => Caught::Yes,
        Some(_) => Caught::Seldom,
        None if breadth.runs == 0 => Caught::Unknown,
        None => Caught::No,
    };
    DefectRow {
        name: row.defect.name.clone(),
        does: row.defect.does.clone(),
        rare: row.defect.rare,
        seen_by: row.defect.seen_by.clone(),
        checks: search::checks(store, &cases),
        example: cases
            .iter()
            .filter_map(|case| store.get(case))
            .find_map(|outcome| {
                let first = outcome.findings.first();
                let first = first.filter(|_| search::is_caught(outcome))?;
                Some(first.message.clone())
            }),
        runs_to_first: row
            .defect
            .rare
            .then(|| runs_to_first(store, &scheduler))
            .flatten(),
        scenario,
        count,
        unanswered,
        breadth,
        verdict,
    }
}

/// Returns how many runs of a scheduler, in the order of seeds, it took until one failed; `None` if none did.
fn runs_to_first(store: &Store, scheduler: &Scheduler) -> Option<u64> {
    let mut runs: Vec<_> = store
        .all()
        .filter(|(case, _)| case.scheduler == *scheduler)
        .collect();
    runs.sort_by_key(|(case, _)| (case.seed, &case.scenario));
    let first = runs
        .iter()
        .position(|(_, outcome)| search::is_caught(outcome))?;
    Some(first as u64 + 1)
}

fn clean_rows(
    store: &Store,
    baselines: &[Baseline],
    scenarios: &[String],
    runs: u64,
) -> Vec<CleanRow> {
    if runs == 0 {
        return Vec::new();
    }
    let row = |baseline: &Baseline| {
        let cases = search::clean(baseline, scenarios, runs);
        let (count, unanswered) = search::count(store, &cases);
        let outcomes = cases
            .iter()
            .filter_map(|case| Some((case, store.get(case)?)));
        let alarms = outcomes
            .filter(|(_, outcome)| {
                matches!(outcome.verdict, RunVerdict::Fail | RunVerdict::Inconclusive)
            })
            .map(|(case, outcome)| {
                let first = outcome.findings.first();
                let (check, message) = first
                    .map(|found| (found.check.clone(), found.message.clone()))
                    .unwrap_or_default();
                Alarm {
                    scenario: case.scenario.clone(),
                    seed: case.seed,
                    undetermined: outcome.verdict == RunVerdict::Inconclusive,
                    check,
                    message,
                }
            });
        CleanRow {
            scheduler: baseline.name(),
            count,
            unanswered,
            alarms: alarms.collect(),
        }
    };
    baselines.iter().map(row).collect()
}

/// Returns what the results depend on besides the binaries: the kernel, and the variables that change what a guest does.
fn settings() -> Result<String> {
    let kernel = ktstr_kernel::resolve(None, &mut ktstr_kernel::progress::on_stderr())?;
    let set = env::recorded().filter_map(|row| Some(format!("{}={}\n", row.name, row.shown()?)));
    Ok(format!("kernel={}\n{}", kernel.id, set.collect::<String>()))
}

/// Returns the absolute paths, which do not depend on the current folder. Each path has to be a file.
fn absolute(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let absolute = |path: &PathBuf| {
        let found = std::fs::canonicalize(path)
            .with_context(|| format!("looking for the scheduler {}", path.display()))?;
        if !found.is_file() {
            bail!("the scheduler {} is not a file", path.display());
        }
        Ok(found)
    };
    paths.iter().map(absolute).collect()
}

/// Returns the command that makes the same page again.
fn command(options: &Options) -> String {
    let mut command = format!(
        "cargo ktstr power --seeds {} --clean-runs {}",
        options.seeds, options.clean_runs
    );
    for (flag, given) in [(" --plain", options.plain), (" --quick", options.quick)] {
        if given {
            command.push_str(flag);
        }
    }
    for (flag, names) in [("defect", &options.defect), ("scenario", &options.scenario)] {
        for name in names {
            command.push_str(&format!(" --{flag} {name}"));
        }
    }
    for path in &options.scheduler {
        command.push_str(&format!(" --scheduler {}", display(path)));
    }
    if let Some(out) = &options.out {
        command.push_str(&format!(" --out {}", display(out)));
    }
    command
}

fn display(path: &Path) -> String {
    path.display().to_string()
}
