//! The command line of ktstr: `cargo ktstr …`, or `cargo-ktstr …`, which is the same.
//!
//! Exit codes: 0 if the command succeeded or the run passed or was skipped, 1 if the run failed or the user asked for
//! something impossible, 2 if the host lacks something or the run was inconclusive. The module `exit` decides the code of an
//! error, and of an invalid command line.

mod bench;
mod cache;
mod captures;
mod cell;
mod check;
mod child;
mod compare;
mod completions;
mod demo;
mod diff;
mod doctor;
mod exit;
mod explore;
mod json;
mod kernel;
mod metrics;
mod payloads;
mod power;
mod replay;
mod report;
mod run;
mod runs;
mod schedule;
mod shell;
mod show;
mod span;
mod story;
mod suggest;
mod summary;
mod table;
mod test_run;
mod thresholds;
mod trace;
mod verifier;
mod why;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use ktstr_record::terminal::{self, Escaping};

use crate::exit::Exit;
use crate::json::Limit;

/// Tests Linux process schedulers with Rust functions: each test boots a real kernel in a VM and gives a verdict.
#[derive(Debug, Parser)]
#[command(
    name = "cargo ktstr",
    bin_name = "cargo ktstr",
    version,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check that this machine has everything that ktstr needs, and say what to do about the rest.
    Doctor {
        /// Print a JSON array instead of a table.
        #[arg(long)]
        json: bool,
        /// How much of a long list and of a long text the JSON contains.
        #[command(flatten)]
        limit: Limit,
    },
    /// List, fetch, build and remove kernels to test on, or print the path of one.
    #[command(subcommand)]
    Kernel(kernel::Command),
    /// List or remove templates (saved VMs from which runs start), or print the path of their folder.
    #[command(subcommand)]
    Cache(cache::Command),
    /// List the recorded runs, newest first; or remove the oldest.
    Runs(runs::Options),
    /// Compare two recorded runs: what they ran on, their metrics, and the first context switch that differs.
    Diff(diff::Options),
    /// Show one recorded run: what failed, on which versions, and the command that reproduces it.
    Show(show::Options),
    /// Write one page of HTML about a recorded run: its verdict, a time line of CPUs and tasks, tables, logs.
    Report(report::Options),
    /// Write the schedule of a recorded run as a trace for the Perfetto UI (ui.perfetto.dev).
    Trace(trace::Options),
    /// Repeat a run that was recorded under the virtual clock, and say whether the two runs are identical.
    Replay(replay::Options),
    /// Show which tasks ran on which CPUs and how long tasks waited, in a recorded run.
    Schedule(schedule::Options),
    /// Explain why a task waited: since when, in which queue, and what its CPUs did during that time.
    Why(why::Options),
    /// Run a test with many seeds on all cores, and say which fail.
    Explore(explore::Options),
    /// Run the tests of ktstr in a package, or only those that did not pass last time.
    Test(test_run::Options),
    /// Print the bounds that a test is judged by, and who set each: the test, its scheduler, or ktstr.
    ShowThresholds(thresholds::Options),
    /// List all metrics, each with its kind, better direction, unit, smallest changes that count, and source.
    Metrics {
        /// Print a JSON array instead of a page of Markdown.
        #[arg(long)]
        json: bool,
        /// How much of a long list and of a long text the JSON contains.
        #[command(flatten)]
        limit: Limit,
    },
    /// Run a scenario from a file, under any scheduler. Needs no Cargo project and no code.
    Run(run::Options),
    /// Run a two-step scenario under scx-ktstr, the scheduler that ships with ktstr, and show the result.
    Demo,
    /// Measure where the time of a run goes.
    Bench(bench::Options),
    /// Measure which planted defects the checks find, and how often they accuse a sound scheduler.
    Power(power::Options),
    /// Check a scheduler that you have as a binary: what is broken, what is slower than EEVDF. Needs no Cargo project and no
    /// code.
    Check(check::Options),
    /// Load a scheduler on each kernel, and show the BPF verifier's statistics for each of the scheduler's programs.
    /// No workload runs.
    Verifier(verifier::Options),
    /// Merge the results of the shards of a check, or show the result of a check again. Nothing is run.
    Merge(check::merge::Options),
    /// Print the results of several checks as one page of Markdown: a row for each scheduler, and the evidence of each finding.
    Table(check::table::Options),
    /// Run two schedulers under the same scenarios and seeds, and compare them with significance tests for small samples.
    Compare(compare::Options),
    /// Print a completion script for a shell, such as `cargo-ktstr completions bash >
    /// ~/.local/share/bash-completion/completions/cargo-ktstr`.
    Completions {
        /// The shell that the script is written for.
        shell: clap_complete::Shell,
    },
    /// Run one cell of a matrix and print its outcome as JSON. `power`, `check`, `compare` and `verifier` call this command.
    #[command(hide = true)]
    RunCell {
        /// The cell as JSON.
        cell: String,
    },
    /// Run one test of this binary and print the path of its record. `bench` calls this command.
    #[command(hide = true)]
    RunEntry {
        /// The name of the test's entry.
        name: String,
    },
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(arguments(std::env::args_os())) {
        Ok(cli) => cli,
        Err(error) => {
            // Clap reports help and version as errors. A failure to print them is ignored: the terminal is gone.
            let _ = error.print();
            return match error.use_stderr() {
                true => exit::of_usage(std::env::args_os()),
                false => Exit::Done,
            }
            .into();
        }
    };
    let mut out = Escaping::new(io::stdout().lock());
    let result = match cli.command {
        Command::Doctor { json, limit } => doctor::run(&mut out, json, limit),
        Command::Kernel(command) => kernel::run(&mut out, &command),
        Command::Cache(command) => cache::run(&mut out, &command),
        Command::Runs(options) => runs::run(&mut out, &options),
        Command::Diff(options) => diff::run(&mut out, &options),
        Command::Show(options) => show::run(&mut out, &options),
        Command::Report(options) => report::run(&mut out, &options),
        Command::Trace(options) => trace::run(&mut out, &options),
        Command::Replay(options) => replay::run(&mut out, &options),
        Command::Schedule(options) => schedule::run(&mut out, &options),
        Command::Why(options) => why::run(&mut out, &options),
        Command::Explore(options) => explore::run(&mut out, &options),
        Command::Test(options) => test_run::run(&mut out, &options),
        Command::ShowThresholds(options) => thresholds::run(&mut out, &options),
        Command::Metrics { json, limit } => metrics::run(&mut out, json, limit),
        Command::Run(options) => run::run(&mut out, &options),
        Command::Demo => demo::run(&mut out),
        Command::Bench(options) => bench::run(&mut out, &options),
        Command::Power(options) => power::run(&mut out, &options),
        Command::Check(options) => check::run(&mut out, &options),
        Command::Verifier(options) => verifier::run(&mut out, &options),
        Command::Merge(options) => check::merge::run(&mut out, &options),
        Command::Table(options) => check::table::run(&mut out, &options),
        Command::Compare(options) => compare::run(&mut out, &options),
        Command::Completions { shell } => completions::run(&mut out, shell, &Cli::command()),
        Command::RunCell { cell } => cell::run_here(&mut out, &cell),
        Command::RunEntry { name } => bench::run_entry(&mut out, &name),
    };
    let result = result.and_then(|code| out.flush().map(|()| code).map_err(Into::into));
    match result {
        Ok(code) => code.into(),
        // A closed pipe, as in `cargo ktstr runs | head`, is not a failure.
        Err(error) if exit::is_broken_pipe(&error) => Exit::Done.into(),
        Err(error) => {
            terminal::eprint_line(&format!("error: {error:#}"));
            exit::of(&error).into()
        }
    }
}

/// Cargo runs `cargo ktstr doctor` as `cargo-ktstr ktstr doctor`: the second word comes from cargo, so it is dropped.
fn arguments(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut args: Vec<OsString> = args.collect();
    if args.get(1).is_some_and(|word| word == "ktstr") {
        args.remove(1);
    }
    args
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_that_prints_json_can_bound_it() {
        fn unbounded(command: &clap::Command, path: &str, all: &mut Vec<String>) -> usize {
            let has = |id: &str| {
                command
                    .get_arguments()
                    .any(|argument| argument.get_id() == id)
            };
            if has("json") && !has("limit") {
                all.push(path.to_owned());
            }
            let below = command.get_subcommands();
            let below =
                below.map(|next| unbounded(next, &format!("{path} {}", next.get_name()), all));
            usize::from(has("json")) + below.sum::<usize>()
        }
        let mut all = Vec::new();
        let count = unbounded(&Cli::command(), "cargo ktstr", &mut all);
        assert_eq!(all, Vec::<String>::new());
        assert!(count >= 14, "only {count} commands print JSON");
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).map(|_| ());
        assert!(parse("cargo-ktstr runs --json --limit 3").is_ok());
        assert!(
            parse("cargo-ktstr runs --limit 3").is_err(),
            "there is no JSON to bound"
        );
    }

    #[test]
    fn both_ways_to_call_it_are_the_same() {
        let parse = |line: &str| {
            Cli::try_parse_from(arguments(line.split(' ').map(OsString::from)))
                .map(|cli| format!("{cli:?}"))
        };
        assert_eq!(
            parse("cargo-ktstr ktstr runs --last 3 --json").unwrap(),
            parse("cargo-ktstr runs --last 3 --json").unwrap()
        );
        assert!(parse("cargo-ktstr ktstr nonsense").is_err());
        assert!(parse("cargo-ktstr runs --last many").is_err());
    }
}
