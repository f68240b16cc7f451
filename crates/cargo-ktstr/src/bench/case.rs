//! One case of the bench, and how it is run: in a separate process, like any test.

use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result};
use ktstr::run::templates;
use ktstr::test_support::find_test;
use ktstr_record::RunRecord;
use ktstr_record::brief::counted;
use ktstr_state::env;

use crate::exit::{self, Exit};

/// A test of this binary, and what its machine starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// Name of the test, as `scenario` declares it.
    pub test: &'static str,
    /// Name of the scheduler under test.
    pub scheduler: &'static str,
    /// The number of CPUs of its machine.
    pub cpus: u32,
    pub start: Start,
}

/// What the machine of a case starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The machine boots for the run.
    Cold,
    /// The machine is forked from a template in which the test process is already loaded.
    Warm,
    /// The run is like the first one after a rebuild of the test: no template has the test process loaded, so the run has to load
    /// it into a template that all binaries share. The binary is not rebuilt, so the time to strip it is not included.
    Rebuilt,
}

impl Start {
    pub const ALL: [Self; 3] = [Self::Cold, Self::Warm, Self::Rebuilt];

    /// Returns the name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Warm => "warm",
            Self::Rebuilt => "rebuilt",
        }
    }
}

/// A case and the records of its runs.
#[derive(Debug)]
pub struct Measured {
    pub case: Case,
    pub records: Vec<RunRecord>,
}

/// How a run of a case ended: it passed and left this record, or the command has to end with this exit code.
#[derive(Debug)]
pub enum Ended {
    Passed(Box<RunRecord>),
    Otherwise(Exit),
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {}, {}",
            self.scheduler,
            counted(self.cpus, "CPU"),
            self.start.name()
        )
    }
}

impl Case {
    /// All cases of the bench.
    pub fn all() -> impl Iterator<Item = Self> {
        let tests = [
            ("bench_eevdf", "EEVDF", 2),
            ("bench_scx", "scx-ktstr", 2),
            ("bench_eevdf_8", "EEVDF", 8),
            ("bench_scx_8", "scx-ktstr", 8),
        ];
        tests.into_iter().flat_map(|(test, scheduler, cpus)| {
            Start::ALL.map(|start| Self {
                test,
                scheduler,
                cpus,
                start,
            })
        })
    }

    /// Runs the case once. The text of a failure goes to standard error.
    pub fn run(&self) -> Result<Ended> {
        if self.start == Start::Rebuilt {
            let program = std::env::current_exe().context("looking for this binary")?;
            templates::unload(&program)?;
        }
        run_test(self.test, self.variables())
    }

    /// Returns the command that runs the case in a separate process.
    pub fn command(&self) -> Result<Command> {
        command(self.test, self.variables())
    }

    fn variables(&self) -> &'static [(&'static str, &'static str)] {
        const COLD: &[(&str, &str)] = &[(env::COLD.name(), "1")];
        match self.start {
            Start::Cold => COLD,
            Start::Warm | Start::Rebuilt => &[],
        }
    }
}

/// How a run of a test ended: it passed and left this record at this path, or the command has to end with this exit code.
#[derive(Debug)]
pub enum Place {
    Passed(Box<RunRecord>, PathBuf),
    Otherwise(Exit),
}

/// Runs a test of this binary, with these variables set.
pub fn run_test(test: &str, variables: &[(&str, &str)]) -> Result<Ended> {
    Ok(match run_in_place(test, variables)? {
        Place::Passed(record, _) => Ended::Passed(record),
        Place::Otherwise(exit) => Ended::Otherwise(exit),
    })
}

/// Like [`run_test`], for callers that read the artefacts in the folder of the record.
pub fn run_in_place(test: &str, variables: &[(&str, &str)]) -> Result<Place> {
    let output = command(test, variables)?
        .output()
        .with_context(|| format!("running {test}"))?;
    place(&output)
}

/// Returns the command that runs a test of this binary in a separate process.
fn command(test: &str, variables: &[(&str, &str)]) -> Result<Command> {
    let program = std::env::current_exe().context("looking for this binary")?;
    let mut command = Command::new(program);
    command
        .args(["run-entry", test])
        .stderr(Stdio::inherit())
        .env(&env::SESSION, crate::child::session())
        .env_remove(&env::FRESH_ATTACH)
        .env_remove(&env::COLD)
        .envs(variables.iter().copied());
    Ok(command)
}

/// Returns how the process of [`Case::command`] ended, from its exit code and its output, which is the path of the record.
pub fn ended(output: &Output) -> Result<Ended> {
    Ok(match place(output)? {
        Place::Passed(record, _) => Ended::Passed(record),
        Place::Otherwise(exit) => Ended::Otherwise(exit),
    })
}

fn place(output: &Output) -> Result<Place> {
    if !output.status.success() {
        return Ok(Place::Otherwise(exit::from_code(
            output.status.code().unwrap_or(2),
        )));
    }
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    Ok(Place::Passed(Box::new(ktstr_record::read(&path)?), path))
}

/// `cargo ktstr run-entry NAME`: runs one test of this binary and prints the path of its record.
pub fn run_entry(out: &mut dyn Write, name: &str) -> Result<Exit> {
    let entry = find_test(name).with_context(|| format!("this binary holds no test `{name}`"))?;
    let finished = ktstr::run::run(entry);
    finished.print();
    if let Some(record) = &finished.record {
        writeln!(out, "{}", record.display())?;
    }
    Ok(exit::from_code(finished.exit_code()))
}
