//! `cargo ktstr test`: runs the tests of ktstr in a package: as they are declared, on other shapes, kernels and seeds (the
//! gauntlet), or only those whose last recorded run failed or was inconclusive. Ordinary tests are left to `cargo test`.
//!
//! Exit codes: 0 if all tests passed or were skipped, or there was none to run again; 1 if a test failed; 2 if a test was
//! inconclusive, a kernel is not available, or the package has no such test.

mod choose;
mod last_failed;

use std::io::{Read, Seek, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use ktstr::topology::{PRESETS, Topology};
use ktstr_record::brief::counted;
use ktstr_record::{list, runs_root};
use ktstr_state::env;

use crate::cell::axes::{self, KernelOptions};
use crate::cell::pool;
use crate::check::shard::Shard;
use crate::child;
use crate::exit::{self, Exit};
use crate::explore::target::{self, Binary};
use choose::{Choice, Test};
use last_failed::FailedRun;

/// The options of `cargo ktstr test`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only tests whose name contains one of these texts.
    #[arg(value_name = "PART")]
    parts: Vec<String>,
    /// Only tests whose last recorded run failed or was inconclusive, each with the seed, the shape and the kernel of that run.
    #[arg(long, conflicts_with_all = ["gauntlet", "presets", "seeds", "kernels", "lock"])]
    last_failed: bool,
    /// Each test on every preset that its constraints admit, instead of on the shape that it declares.
    #[arg(long)]
    gauntlet: bool,
    /// Only these presets of the gauntlet, such as 8cpu-2llc-smt. May be given more than once.
    #[arg(
        long,
        visible_alias = "preset",
        value_name = "NAME,...",
        value_delimiter = ',',
        requires = "gauntlet"
    )]
    presets: Vec<String>,
    /// Run each variant under several seeds: a number of seeds, or A..B, from A up to but not including B.
    #[arg(long, value_name = "N|A..B", requires = "gauntlet")]
    seeds: Option<String>,
    /// The kernels: each test runs on each of them.
    #[command(flatten)]
    kernels: KernelOptions,
    /// Only the tests of one of N machines, such as 2/3: each test belongs to exactly one.
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// The package of the tests, instead of the package of the current folder.
    #[arg(short, long, value_name = "PACKAGE")]
    package: Option<String>,
    /// The binary of the tests; nothing is built in this case.
    #[arg(long, value_name = "PATH", conflicts_with = "package")]
    binary: Option<PathBuf>,
    /// How many runs are in progress at once, instead of one per core of the host.
    #[arg(long, short, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Print only the names of the tests.
    #[arg(long)]
    list: bool,
}

/// How a run ended.
#[derive(Debug)]
struct Ended {
    exit: Exit,
    wall_s: f64,
    /// What the run printed, both streams in order.
    output: String,
}

/// Runs the tests, and prints a line for each and the output of those that did not pass.
pub fn run(out: &mut dyn Write, options: &Options) -> Result<Exit> {
    for preset in &options.presets {
        Topology::from_name(preset)?;
        match PRESETS.iter().find(|known| known.name == preset) {
            None => {
                bail!("{preset} is no preset: `cargo ktstr test` has variants for presets only")
            }
            Some(known) if known.only_loads => {
                bail!("{preset} is only for loading schedulers, and no test has a variant on it")
            }
            Some(_) => {}
        }
    }
    let root = std::path::absolute(runs_root())?;
    let failed = match options.last_failed {
        true => {
            let cached = ktstr_kernel::cache::list().unwrap_or_default();
            let cached: Vec<String> = cached.into_iter().map(|kernel| kernel.id).collect();
            Some(last_failed::failed(&list(&root, None)?.records, &cached))
        }
        false => None,
    };
    if failed.as_ref().is_some_and(Vec::is_empty) {
        writeln!(
            out,
            "No test failed in its last run under {}.",
            root.display()
        )?;
        return Ok(Exit::Done);
    }
    let axes = axes(options)?;
    let tests = tests(options, failed.as_deref(), &axes)?;
    if tests.is_empty() && failed.is_some() {
        writeln!(out, "None of these tests failed in its last run.")?;
        return Ok(Exit::Done);
    }
    if options.list {
        for test in &tests {
            writeln!(out, "{}", test.label())?;
        }
        return Ok(Exit::Done);
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
    let ran = pool::run(
        tests,
        jobs,
        &bar,
        |test| Some(one(test, &root, &axes)),
        done,
    );
    bar.finish_and_clear();
    ran?;
    let [passed, failed, inconclusive] = counts;
    writeln!(
        out,
        "{}: {passed} passed or skipped, {failed} failed, {inconclusive} inconclusive",
        counted(passed + failed + inconclusive, "test")
    )?;
    Ok(match (failed, inconclusive) {
        (0, 0) => Exit::Done,
        (0, _) => Exit::Host,
        _ => Exit::Failed,
    })
}

/// Returns the environment variables that tell a test binary for which kernels and seeds it has variants.
///
/// # Errors
/// A kernel is not available, or the text of the seeds cannot be parsed.
fn axes(options: &Options) -> Result<Vec<(&'static str, String)>> {
    let mut axes = Vec::new();
    if let Some(text) = &options.seeds {
        let seeds = axes::seeds(text)?;
        let numbers: Vec<String> = (seeds.first..seeds.end).map(|n| n.to_string()).collect();
        axes.push((env::SEED_LIST.name(), numbers.join(",")));
    }
    let KernelOptions { kernels, lock } = &options.kernels;
    if kernels.is_empty() && lock.is_none() {
        return Ok(axes);
    }
    let (kernels, missing) = axes::kernels(kernels, lock.as_deref())?;
    if !missing.is_empty() {
        bail!("not all kernels are available: {}", missing.join("; "));
    }
    let labels: Vec<String> = kernels.iter().map(|k| label(&k.release)).collect();
    let list = kernels.iter().zip(&labels).map(|(kernel, own)| {
        let is_unique = labels.iter().filter(|other| *other == own).count() == 1;
        let label = if is_unique {
            own.clone()
        } else {
            label(&kernel.id)
        };
        format!("{label}={}", kernel.id)
    });
    axes.push((env::KERNEL_LIST.name(), list.collect::<Vec<_>>().join(";")));
    Ok(axes)
}

/// Returns the part of a test's name that stands for a kernel: `kernel_7_3_4_amd64` for 7.3.4-amd64.
fn label(release: &str) -> String {
    let lower = release.to_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    format!("kernel_{}", words.join("_"))
}

/// Returns the tests that the options choose.
///
/// # Errors
/// The options choose no test, or cargo cannot build the tests.
fn tests(
    options: &Options,
    failed: Option<&[FailedRun]>,
    axes: &[(&'static str, String)],
) -> Result<Vec<Test>> {
    let binaries = match &options.binary {
        Some(path) => vec![Binary::at(path)?],
        None => target::build(options.package.as_deref())?,
    };
    let choice = Choice {
        parts: &options.parts,
        gauntlet: options.gauntlet,
        presets: &options.presets,
    };
    let mut tests = Vec::new();
    for binary in &binaries {
        let names = target::listed(binary, false, axes)?;
        tests.extend(match failed {
            Some(failed) => choice.again(binary, &names, failed),
            None => {
                let ignored = target::listed(binary, true, axes)?;
                choice.of(binary, &names, &ignored)
            }
        });
    }
    // With `--last-failed` and no part of a name it is no error if no test is found, because a failed test may have been renamed,
    // or may belong to another package.
    if tests.is_empty() && !(options.last_failed && options.parts.is_empty()) {
        let what = match options.last_failed {
            true => "failed in its last run",
            false => "has a name that matches",
        };
        bail!(
            "no ktstr test in {} {what}: `cargo ktstr test --list` prints the names of those in this package; --package names \
             another package, and --binary a test binary",
            match &binaries[..] {
                [one] => one.path.display().to_string(),
                several => format!("{} test binaries", several.len()),
            }
        );
    }
    Ok(match options.shard {
        Some(shard) => choose::of_shard(tests, shard),
        None => tests,
    })
}

/// Runs a test in a separate process.
fn one(test: &Test, root: &Path, axes: &[(&'static str, String)]) -> Result<Ended> {
    let began = Instant::now();
    // The output goes to a file, because a pipe would have to be read during the run.
    let mut output = tempfile::tempfile().context("creating a file for the output of a run")?;
    let share = || output.try_clone().context("sharing that file");
    let mut command = child::command(&test.binary.path, &test.name.to_string(), root);
    test.binary.place(&mut command);
    command.envs(axes.iter().map(|(name, value)| (*name, value)));
    if let Some(repeated) = &test.env {
        // The variables of this command must not change the shape or the kernel of the run that is repeated.
        let own = [
            env::TEST_KERNEL.name(),
            env::KERNEL.name(),
            env::TOPOLOGY.name(),
        ];
        for name in own {
            command.env_remove(name);
        }
        command.envs(repeated);
    }
    if let Some(seed) = test.seed {
        command.env(&env::SEED, seed.to_string());
    }
    let status = command
        .stdin(Stdio::null())
        .stdout(share()?)
        .stderr(share()?)
        .status()
        .with_context(|| format!("running {}", test.binary.path.display()))?;
    let mut bytes = Vec::new();
    output
        .rewind()
        .and_then(|()| output.read_to_end(&mut bytes))
        .context("reading the output of a run")?;
    Ok(Ended {
        // A run that was killed by a signal has no exit code, and says nothing about the scheduler.
        exit: exit::from_code(status.code().unwrap_or(Exit::Host as i32)),
        wall_s: began.elapsed().as_secs_f64(),
        output: String::from_utf8_lossy(&bytes).into_owned(),
    })
}

fn print(out: &mut dyn Write, test: &Test, ended: &Ended) -> Result<()> {
    let reason = ended
        .output
        .lines()
        .find_map(|line| line.strip_prefix("ktstr: SKIP: "));
    let word = match (ended.exit, reason) {
        (Exit::Done, None) => "PASS",
        (Exit::Done, Some(_)) => "SKIP",
        (Exit::Failed, _) => "FAIL",
        (Exit::Host, _) => "INCONCLUSIVE",
    };
    let seed = test
        .seed
        .map_or_else(String::new, |seed| format!(" seed {seed}"));
    write!(out, "{word} {}{seed} ({:.1} s)", test.label(), ended.wall_s)?;
    match reason.filter(|_| ended.exit == Exit::Done) {
        Some(reason) => writeln!(out, ": {reason}")?,
        None => writeln!(out)?,
    }
    if ended.exit != Exit::Done {
        writeln!(out, "{}", ended.output.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_has_a_label_without_other_characters() {
        assert_eq!(label("6.16.1"), "kernel_6_16_1");
        assert_eq!(label("7.3.4+deb14-amd64"), "kernel_7_3_4_deb14_amd64");
    }
}
