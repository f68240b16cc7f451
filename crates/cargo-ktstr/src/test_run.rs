//! `cargo ktstr test`: runs the tests of ktstr in a package, or only those whose last recorded run failed or was inconclusive.
//! Ordinary tests are left to `cargo test`.
//!
//! Exit codes: 0 if all tests passed or were skipped, or there was none to run again; 1 if a test failed; 2 if a test was
//! inconclusive, or the package has no such test.

use std::collections::BTreeMap;
use std::io::{Read, Seek, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use ktstr_record::{Listed, RunVerdict, list, runs_root};
use ktstr_state::env;

use crate::cell::pool;
use crate::child;
use crate::exit::{self, Exit};
use crate::explore::target;

/// The options of `cargo ktstr test`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only tests whose name contains one of these texts.
    #[arg(value_name = "PART")]
    parts: Vec<String>,
    /// Only tests whose last recorded run failed or was inconclusive, each with the seed of that run.
    #[arg(long)]
    last_failed: bool,
    /// The package of the tests, instead of the package of the current folder.
    #[arg(short, long, value_name = "PACKAGE")]
    package: Option<String>,
    /// The binary of the tests; nothing is built in this case.
    #[arg(long, value_name = "PATH", conflicts_with = "package")]
    binary: Option<PathBuf>,
    /// The number of runs at once, instead of one per core.
    #[arg(long, short, value_name = "N")]
    jobs: Option<NonZeroUsize>,
}

/// A test that is run.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Test {
    binary: PathBuf,
    name: String,
    /// The seed of the run that is repeated; `None` for the test's own.
    seed: Option<u64>,
}

/// How a run ended.
#[derive(Debug)]
struct Ended {
    exit: Exit,
    wall_s: f64,
    /// What the run printed, both streams in order.
    output: String,
}

/// The tests whose newest recorded run failed or was inconclusive, with the seed of that run.
type Failed = BTreeMap<String, Option<u64>>;

/// Runs the tests, and prints a line for each and the output of those that did not pass.
pub fn run(out: &mut dyn Write, options: &Options) -> Result<Exit> {
    let root = std::path::absolute(runs_root())?;
    let failed = match options.last_failed {
        true => Some(failed(&list(&root, None)?.records)),
        false => None,
    };
    if failed.as_ref().is_some_and(Failed::is_empty) {
        writeln!(
            out,
            "No test failed in its last run under {}.",
            root.display()
        )?;
        return Ok(Exit::Done);
    }
    let binaries = match &options.binary {
        Some(path) => vec![std::path::absolute(path)?],
        None => target::build(options.package.as_deref())?,
    };
    let mut tests = Vec::new();
    for binary in &binaries {
        let ignored = target::tests(binary, true)?;
        let names = target::tests(binary, false)?;
        tests.extend(chosen(
            binary,
            names,
            &ignored,
            &options.parts,
            failed.as_ref(),
        ));
    }
    if tests.is_empty() {
        let what = match options.last_failed {
            true => "that failed in its last run",
            false => "that is asked for",
        };
        bail!(
            "none of the {} test binaries has a test of ktstr's {what}: give the package with --package, or a binary with --binary; \
             `cargo ktstr runs` lists the runs",
            binaries.len()
        );
    }
    let jobs = options.jobs.map_or_else(pool::width, NonZeroUsize::get);
    let bar = pool::bar();
    bar.set_length(tests.len() as u64);
    let mut counts = [0_usize; 3];
    let done = |test: Test, ended: Option<Result<Ended>>| {
        let Some(ended) = ended.transpose()? else {
            return Ok(());
        };
        counts[ended.exit as usize] += 1;
        bar.suspend(|| print(out, &test, &ended))
    };
    let ran = pool::run(tests, jobs, &bar, |test| Some(one(test, &root)), done);
    bar.finish_and_clear();
    ran?;
    let [passed, failed, inconclusive] = counts;
    writeln!(
        out,
        "{} tests: {passed} passed or skipped, {failed} failed, {inconclusive} inconclusive",
        passed + failed + inconclusive
    )?;
    Ok(match (failed, inconclusive) {
        (0, 0) => Exit::Done,
        (0, _) => Exit::Host,
        _ => Exit::Failed,
    })
}

/// Returns the tests whose newest record is of a run that failed or was inconclusive. The newest of the `records` comes first.
fn failed(records: &[Listed]) -> Failed {
    let mut newest = BTreeMap::new();
    for Listed { record, .. } in records {
        newest.entry(record.test.as_str()).or_insert(record);
    }
    let not_passed = |verdict| matches!(verdict, RunVerdict::Fail | RunVerdict::Inconclusive);
    let failed = newest
        .into_iter()
        .filter(|(_, record)| not_passed(record.verdict));
    failed
        .map(|(test, record)| (test.to_owned(), record.seed))
        .collect()
}

/// Returns the tests of a binary that are to be run: those in `failed` if it is given, else all that are not ignored. An ignored
/// test can be in `failed`, because somebody asked for the run that failed.
fn chosen(
    binary: &Path,
    names: Vec<String>,
    ignored: &[String],
    parts: &[String],
    failed: Option<&Failed>,
) -> Vec<Test> {
    let is_named = |name: &String| parts.is_empty() || parts.iter().any(|part| name.contains(part));
    let names = names.into_iter().filter(is_named);
    let tests = names.filter_map(|name| {
        let seed = match failed {
            Some(failed) => *failed.get(&name)?,
            None if ignored.contains(&name) => return None,
            None => None,
        };
        Some(Test {
            binary: binary.to_owned(),
            name,
            seed,
        })
    });
    tests.collect()
}

/// Runs a test in a separate process.
fn one(test: &Test, root: &Path) -> Result<Ended> {
    let began = Instant::now();
    // The output goes to a file, because a pipe would have to be read during the run.
    let mut output = tempfile::tempfile().context("creating a file for the output of a run")?;
    let share = || output.try_clone().context("sharing that file");
    let mut command = child::command(&test.binary, &test.name, root);
    if let Some(seed) = test.seed {
        command.env(&env::SEED, seed.to_string());
    }
    let status = command
        .stdin(Stdio::null())
        .stdout(share()?)
        .stderr(share()?)
        .status()
        .with_context(|| format!("running {}", test.binary.display()))?;
    let mut bytes = Vec::new();
    output
        .rewind()
        .and_then(|()| output.read_to_end(&mut bytes))
        .context("reading the output of a run")?;
    Ok(Ended {
        // A run that a signal ended has no code, and says nothing about the scheduler.
        exit: exit::from_code(status.code().unwrap_or(Exit::Host as i32)),
        wall_s: began.elapsed().as_secs_f64(),
        output: String::from_utf8_lossy(&bytes).into_owned(),
    })
}

fn print(out: &mut dyn Write, test: &Test, ended: &Ended) -> Result<()> {
    let word = match ended.exit {
        Exit::Done => "PASS",
        Exit::Failed => "FAIL",
        Exit::Host => "INCONCLUSIVE",
    };
    let seed = test
        .seed
        .map_or_else(String::new, |seed| format!(" seed {seed}"));
    writeln!(out, "{word} {}{seed} ({:.1} s)", test.name, ended.wall_s)?;
    if ended.exit != Exit::Done {
        writeln!(out, "{}", ended.output.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ktstr_record::RunRecord;

    use super::*;

    fn run(test: &str, verdict: RunVerdict, seed: u64) -> Listed {
        Listed {
            record: RunRecord {
                verdict,
                seed: Some(seed),
                ..RunRecord::new(test)
            },
            path: PathBuf::new(),
        }
    }

    #[test]
    fn the_newest_run_of_a_test_decides() {
        let records = [
            run("mended", RunVerdict::Pass, 1),
            run("broken", RunVerdict::Fail, 5),
            run("mended", RunVerdict::Fail, 2),
            run("broken", RunVerdict::Pass, 3),
            run("unknown", RunVerdict::Inconclusive, 4),
            run("skipped", RunVerdict::Skip, 4),
        ];
        let wanted = [("broken", Some(5)), ("unknown", Some(4))];
        let wanted: Failed = wanted.map(|(name, seed)| (name.to_owned(), seed)).into();
        assert_eq!(failed(&records), wanted);
        assert_eq!(failed(&[]), Failed::new());
    }

    #[test]
    fn tests_are_chosen_by_name_and_by_their_last_run() {
        let all = ["fair", "fair_slow", "idle"].map(str::to_owned);
        let names = |parts: &[&str], failed: Option<&Failed>| {
            let parts: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
            let tests = chosen(Path::new("b"), all.to_vec(), &all[1..2], &parts, failed);
            let seeds = tests.into_iter().map(|test| (test.name, test.seed));
            seeds.collect::<Vec<_>>()
        };
        let test = |name: &str, seed| (name.to_owned(), seed);
        assert_eq!(names(&[], None), [test("fair", None), test("idle", None)]);
        assert_eq!(names(&["air"], None), [test("fair", None)]);
        let failed = Failed::from([test("fair_slow", Some(7)), test("gone", None)]);
        assert_eq!(names(&[], Some(&failed)), [test("fair_slow", Some(7))]);
        assert!(names(&["idle"], Some(&failed)).is_empty());
    }
}
