//! `cargo ktstr run FILE`: runs a scenario from a file under any scheduler. It needs no project and no code: this binary
//! also runs in the guest, as in the demo.
//!
//! Exit codes are those of a test: 0 if the run passed or was skipped, 1 if it failed or the file is not a scenario, 2 if the
//! run was inconclusive or the file cannot be read.

#[cfg(not(test))]
mod body;
mod rt_app;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ktstr::prelude::*;
use ktstr::scenario::file::{self, ScenarioFile};
use ktstr_record::terminal::eprint_line;

use crate::exit::Exit;
#[cfg(not(test))]
use crate::shell::quoted;

/// The name of the test that a file becomes.
pub const TEST: &str = "scenario_file";

/// The name of the file in the guest.
#[cfg_attr(
    test,
    expect(dead_code, reason = "the body is no part of a test build")
)]
const IN_GUEST: &str = "scenario.toml";

/// The options of `cargo ktstr run`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The scenario, in TOML, or a workload file of rt-app, which is named `.json` (docs/guide/scenarios.md).
    file: PathBuf,
    /// Read the file as one for rt-app, whatever its name.
    #[arg(long)]
    rt_app: bool,
    /// The scheduler, instead of the file's: the path of a binary, a package of this project, or `eevdf`.
    #[arg(long, value_name = "PATH")]
    scheduler: Option<String>,
    /// The shape of the machine, instead of the file's: a preset such as 8cpu-2llc-smt, or a shape such as 1n2l2c1t.
    #[arg(long, value_name = "SHAPE")]
    topology: Option<String>,
    /// The seed of the run, instead of the file's.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The kernel, in a form that `cargo ktstr kernel path` accepts, such as 7.3, debian:7.0+rt or the path of an image.
    #[arg(long, value_name = "SPEC")]
    kernel: Option<String>,
    /// Print the file in its normal form, TOML with all parameters written out, and run nothing.
    #[arg(long)]
    print: bool,
    /// Arguments for the scheduler, appended to those that the file gives.
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

/// Runs the file, or prints it.
pub fn run(out: &mut dyn Write, options: &Options) -> Result<Exit> {
    let path = &options.file;
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("reading the scenario {}", path.display()))?;
    let refused = |error: &dyn std::fmt::Display| {
        eprint_line(&format!("error: {}: {error}", path.display()));
        Ok(Exit::Failed)
    };
    let is_rt_app = rt_app::is_rt_app(path, options.rt_app);
    let text = match is_rt_app {
        false => text,
        true => match rt_app::as_toml(path, &text) {
            Ok(toml) => toml,
            Err(error) => return refused(&error),
        },
    };
    let scenario = match ScenarioFile::from_text(&text) {
        Ok(scenario) => scenario,
        Err(error) => return refused(&error),
    };
    let entry = match declared(&scenario, options) {
        Ok(entry) => entry,
        // The line in this error is a line of the TOML, not of the user's file.
        Err(error) if is_rt_app => {
            return refused(&format!("in its TOML form, which `--print` shows: {error}"));
        }
        Err(error) => return refused(&error),
    };
    if options.print {
        match scenario.to_text() {
            Ok(text) => write!(out, "{text}")?,
            Err(error) => return refused(&error),
        }
        return Ok(Exit::Done);
    }
    let folder = tempfile::tempdir().context("a folder for what the guest is given")?;
    launch(out, options, entry, &text, folder.path())
}

/// Returns the file as a test, with the machine, the scheduler, its arguments and the seed that the options request.
fn declared(scenario: &ScenarioFile, options: &Options) -> Result<KtstrTestEntry> {
    let mut entry = file::entry(scenario, TEST, no_body)?;
    if let Some(shape) = &options.topology {
        entry.topology = Topology::from_name(shape)?;
        entry.constraints.admits(&entry.topology)?;
        file::fits(scenario, &entry)?;
    }
    if let Some(word) = &options.scheduler {
        let spec = match Path::new(word).exists() {
            true => SchedulerSpec::Path(absolute(word)?.leak()),
            false => SchedulerSpec::of_binary(word.clone().leak()),
        };
        let name = word.rsplit('/').next().unwrap_or(word).to_owned();
        entry.scheduler = Box::leak(Box::new(Scheduler::named(name.leak()).binary(spec)));
    }
    let of_file = entry.extra_sched_args.iter().copied();
    let given = options.args.iter().map(|arg| &*arg.clone().leak());
    entry.extra_sched_args = of_file.chain(given).collect::<Vec<&'static str>>().leak();
    entry.seed = options.seed.or(entry.seed);
    entry.validate()?;
    Ok(entry)
}

fn absolute(path: &str) -> Result<String> {
    let path = std::path::absolute(path)?.into_os_string().into_string();
    path.map_err(|path| anyhow::anyhow!("the path {path:?} is not valid UTF-8"))
}

/// The body of the host's entry. It is never called, since the guest calls the entry that this binary has registered.
fn no_body(_: &Ctx) -> Result<AssertResult> {
    anyhow::bail!("this is the host's half of the test")
}

#[cfg(test)]
fn launch(_: &mut dyn Write, _: &Options, _: KtstrTestEntry, _: &str, _: &Path) -> Result<Exit> {
    anyhow::bail!("a test build has no body for the guest")
}

#[cfg(not(test))]
fn launch(
    out: &mut dyn Write,
    options: &Options,
    mut entry: KtstrTestEntry,
    text: &str,
    folder: &Path,
) -> Result<Exit> {
    let guest = folder.join(IN_GUEST);
    std::fs::write(&guest, text).with_context(|| format!("writing {}", guest.display()))?;
    let guest = guest.into_os_string().into_string();
    let guest = guest.map_err(|path| anyhow::anyhow!("the path {path:?} is not valid UTF-8"))?;
    let mut files = entry.extra_include_files.to_vec();
    files.push(guest.leak());
    entry.extra_include_files = files.leak();
    entry.post_vm = body::claims(text);
    environment(options);
    let (before, after) = again(options);
    ktstr::run::say_again(before, after);
    let entry: &'static KtstrTestEntry = Box::leak(Box::new(entry));
    eprint_line(&format!(
        "Running {}: {:?} of guest time under {} in a VM.",
        options.file.display(),
        entry.duration,
        entry.scheduler.binary.display_name()
    ));
    let finished = ktstr::run::run_and_repeat(entry);
    if let Some(screen) = crate::demo::screen(&finished, &options.file.display().to_string()) {
        write!(out, "{screen}")?;
        out.flush()?;
    }
    finished.print();
    Ok(crate::exit::from_code(finished.exit_code()))
}

/// Sets environment variables from the options, which take precedence over the environment.
#[cfg(not(test))]
fn environment(options: &Options) {
    use ktstr_state::env;

    let set = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            // SAFETY: this is the process's only thread so far: the run starts the others.
            unsafe { std::env::set_var(name, value) };
        }
    };
    let unset = |name: &str| {
        // SAFETY: as above.
        unsafe { std::env::remove_var(name) };
    };
    set(env::SEED.name(), options.seed.map(|seed| seed.to_string()));
    if let Some(kernel) = &options.kernel {
        unset(env::TEST_KERNEL.name());
        set(env::KERNEL.name(), Some(kernel.clone()));
    }
    if options.topology.is_some() {
        unset(env::TOPOLOGY.name());
    }
    if options.scheduler.is_some() {
        unset(env::SCHEDULER.name());
    }
}

/// Returns the command that runs the file again, in two parts: the text before `--seed SEED`, and the text after it.
#[cfg(not(test))]
fn again(options: &Options) -> (String, String) {
    let mut before = format!(
        "cargo ktstr run {}",
        quoted(&options.file.to_string_lossy())
    );
    if options.rt_app {
        before.push_str(" --rt-app");
    }
    for (flag, value) in [
        ("--scheduler", &options.scheduler),
        ("--topology", &options.topology),
        ("--kernel", &options.kernel),
    ] {
        let words = value
            .iter()
            .map(|value| format!(" {flag} {}", quoted(value)));
        before.extend(words);
    }
    let after = match options.args.as_slice() {
        [] => String::new(),
        args => {
            let args: Vec<String> = args.iter().map(|arg| quoted(arg)).collect();
            format!(" -- {}", args.join(" "))
        }
    };
    (before, after)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(text: &str, topology: Option<&str>) -> String {
        let scenario = ScenarioFile::from_text(text).unwrap();
        let options = Options {
            file: PathBuf::new(),
            rt_app: false,
            scheduler: Some("eevdf".to_owned()),
            topology: topology.map(str::to_owned),
            seed: None,
            kernel: None,
            print: false,
            args: Vec::new(),
        };
        declared(&scenario, &options)
            .map(drop)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_scenario_must_fit_the_shape_that_is_asked_for() {
        let text = "cores = 4\n[[cgroup]]\nname = \"a\"\ncpuset = \"3\"\n[[step]]\n";
        let error = refused(text, Some("1n1l2c1t"));
        assert!(error.starts_with("line 2, `cgroup[0]`: "), "{error}");
        assert!(error.contains("CPUs 3 do not exist"), "{error}");
        assert!(refused(text, Some("big")).contains("\"big\""));
    }
}
