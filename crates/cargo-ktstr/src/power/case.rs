//! One run of the matrix: a scenario under a scheduler with one seed, in a process of its own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use ktstr::assert::outcome::finding::{CHECK_EJECTED, CHECK_NOT_ATTACHED};
use ktstr::prelude::*;
use ktstr_record::RunVerdict;
use serde::{Deserialize, Serialize};

use crate::exit::Exit;

/// Names of the matrix' tests begin so.
pub const PREFIX: &str = "power_";

/// Defects that are meant to keep it from loading.
const NEVER_LOAD: [&str; 2] = ["--fail-verify", "--verify-loop"];

/// The scheduler that has the defects.
pub const SCX_KTSTR: Scheduler =
    Scheduler::named("scx_ktstr").binary(SchedulerSpec::Discover("scx-ktstr"));

/// A scheduler of somebody else; `make test-registry` installs it.
const BPFLAND: Scheduler = Scheduler::named("bpfland").binary(SchedulerSpec::Path(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../target/registry/bin/scx_bpfland"
)));

/// What is under test.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Subject {
    /// scx-ktstr with these arguments.
    Defect(Vec<String>),
    /// A scheduler without a known defect.
    Clean(Clean),
}

/// Schedulers that no alarm is expected of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Clean {
    /// scx-ktstr as it is.
    ScxKtstr,
    /// The kernel's own.
    Eevdf,
    /// scx_bpfland.
    Bpfland,
    /// The binary at this path.
    Binary(PathBuf),
}

impl Clean {
    /// The binaries at `paths`; without any, those that are there anyway.
    pub fn of(paths: &[PathBuf]) -> Vec<Self> {
        if !paths.is_empty() {
            return paths.iter().cloned().map(Self::Binary).collect();
        }
        let mut all = vec![Self::ScxKtstr, Self::Eevdf];
        if let SchedulerSpec::Path(path) = BPFLAND.binary
            && PathBuf::from(path).is_file()
        {
            all.push(Self::Bpfland);
        }
        all
    }

    /// The name in tables and on the page.
    pub fn name(&self) -> String {
        let name = match self {
            Self::ScxKtstr => "scx-ktstr",
            Self::Eevdf => "EEVDF",
            Self::Bpfland => "scx_bpfland",
            Self::Binary(path) => {
                let file = path.file_name().unwrap_or(path.as_os_str());
                return file.to_string_lossy().into_owned();
            }
        };
        name.to_owned()
    }
}

/// One cell of the matrix with one seed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Case {
    pub subject: Subject,
    /// Without [`PREFIX`].
    pub scenario: String,
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub verdict: RunVerdict,
    /// What was found, most telling first: the check's name and its message.
    pub found: Vec<(String, String)>,
    /// The digest of the run.
    pub digest: Option<String>,
    /// Wall time, seconds.
    pub wall_s: f64,
    pub kernel: Option<String>,
}

impl Outcome {
    fn without_answer(why: String) -> Self {
        Self {
            verdict: RunVerdict::Inconclusive,
            found: vec![("no answer".to_owned(), why)],
            digest: None,
            wall_s: 0.0,
            kernel: None,
        }
    }

    /// The name of the check that was most telling.
    pub fn check(&self) -> Option<&str> {
        self.found.first().map(|(check, _)| check.as_str())
    }
}

impl Case {
    /// Runs it in a process of its own. Everything that can go wrong with that is an outcome.
    ///
    /// Its record goes to `records`, not among those of the user's own tests.
    pub fn run(&self, records: &Path) -> Outcome {
        let output = serde_json::to_string(self)
            .context("the case as JSON")
            .and_then(|case| {
                let mut command = Command::new(std::env::current_exe()?);
                command
                    .args(["power-run", &case])
                    .env("KTSTR_SEED", self.seed.to_string())
                    .env("KTSTR_CLOCK", "virtual")
                    .env("KTSTR_RUNS_ROOT", records)
                    .env("KTSTR_SESSION", crate::child::session())
                    .env_remove("KTSTR_SCHEDULER")
                    .env_remove("KTSTR_FRESH_ATTACH")
                    .stdin(Stdio::null())
                    .stderr(Stdio::null());
                // Templates of every defect on every shape would drive all others out of the cache.
                if matches!(self.subject, Subject::Defect(_)) {
                    command.env("KTSTR_FRESH_ATTACH", "1");
                }
                command.output().context("starting a run")
            });
        match output {
            Err(error) => Outcome::without_answer(format!("{error:#}")),
            Ok(output) => serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
                Outcome::without_answer(format!("the run ended with {}", output.status))
            }),
        }
    }
}

/// `cargo ktstr power-run CASE`: runs one case in this process and prints the outcome as JSON.
pub fn run_here(out: &mut dyn Write, case: &str) -> Result<Exit> {
    let case: Case = serde_json::from_str(case).context("reading the case")?;
    let name = format!("{PREFIX}{}", case.scenario);
    let declared = find_test(&name).with_context(|| format!("there is no scenario {name}"))?;
    let (scheduler, args): (&'static Scheduler, Vec<String>) = match case.subject {
        Subject::Defect(args) => (&SCX_KTSTR, args),
        Subject::Clean(Clean::ScxKtstr) => (&SCX_KTSTR, Vec::new()),
        Subject::Clean(Clean::Eevdf) => (&Scheduler::EEVDF, Vec::new()),
        Subject::Clean(Clean::Bpfland) => (&BPFLAND, Vec::new()),
        Subject::Clean(Clean::Binary(path)) => {
            let path = path.to_str().context("the scheduler's path is no text")?;
            // It lives as long as the process, which is one run.
            let scheduler =
                Scheduler::named("other").binary(SchedulerSpec::Path(path.to_owned().leak()));
            (Box::leak(Box::new(scheduler)), Vec::new())
        }
    };
    // An entry lives as long as the process, which is one run.
    let args: Vec<&'static str> = args.into_iter().map(|arg| &*arg.leak()).collect();
    let entry: &'static KtstrTestEntry = Box::leak(Box::new(KtstrTestEntry {
        scheduler,
        extra_sched_args: args.clone().leak(),
        ..*declared
    }));
    let finished = ktstr::run::run(entry);
    let record = finished
        .record
        .as_deref()
        .and_then(|path| ktstr_record::read(path).ok());
    let found = found(&finished.result);
    // A defect that keeps the scheduler from loading, and was not meant to, is a mistake of its maker.
    let never_ran = found
        .first()
        .is_some_and(|(check, _)| check == CHECK_NOT_ATTACHED);
    let verdict = if never_ran && !args.iter().any(|arg| NEVER_LOAD.contains(arg)) {
        RunVerdict::Inconclusive
    } else {
        finished.verdict
    };
    let outcome = Outcome {
        verdict,
        found,
        digest: finished.vm.as_ref().and_then(|vm| vm.digest.clone()),
        wall_s: finished.wall.as_secs_f64(),
        kernel: record.and_then(|record| record.kernel),
    };
    serde_json::to_writer(&mut *out, &outcome)?;
    writeln!(out)?;
    finished.print();
    Ok(Exit::Done)
}

/// Failures, or what left the run without an answer.
fn found(result: &AssertResult) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = result
        .failure_details()
        .chain(result.inconclusive_details())
        .map(|detail| {
            (
                detail.check_name().into_owned(),
                first_line(&detail.message),
            )
        })
        .collect();
    // Why the scheduler is gone explains that it is, and that explains all the rest.
    found.sort_by_key(|(check, _)| match check.as_str() {
        CHECK_EJECTED => 0,
        check if check.starts_with("scheduler ") => 1,
        _ => 2,
    });
    found.truncate(8);
    found
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(240).collect()
}

#[cfg(test)]
mod tests {
    use ktstr::assert::{Ejection, Finding};

    use super::*;

    #[test]
    fn checks_have_names_and_the_scheduler_s_end_comes_first() {
        let mut result = AssertResult::pass();
        let mut verdict = Verdict::new();
        verdict
            .claim("smaller share over larger of two equal cgroups", 0.1)
            .kind(DetailKind::Unfair)
            .at_least(0.4);
        for finding in [
            Finding::Gap {
                tid: 7,
                gap_ms: 2500,
                cpu: 0,
                at_ms: 1,
                bound_ms: 2000,
            },
            Finding::Spread {
                low_pct: 10.0,
                high_pct: 40.0,
                workers: 2,
                cpus: 1,
                bound_pct: 15.0,
            },
            Finding::Ejected {
                scheduler: "x".to_owned(),
                reason: "runnable task stall\nmore".to_owned(),
                cause: Ejection::Error,
            },
        ] {
            result.record_fail(AssertDetail::of(finding));
        }
        result.merge(verdict.into_result());
        let found = found(&result);
        let names: Vec<&str> = found.iter().map(|(check, _)| check.as_str()).collect();
        assert_eq!(
            names,
            [
                "scheduler ejected",
                "gap",
                "spread",
                "smaller share over larger of two equal cgroups"
            ]
        );
        assert!(!found[0].1.contains("more"));
    }

    #[test]
    fn a_case_reads_back() {
        let case = Case {
            subject: Subject::Defect(vec!["--slow".to_owned()]),
            scenario: "steady".to_owned(),
            seed: 3,
        };
        let text = serde_json::to_string(&case).expect("JSON");
        insta::assert_snapshot!(text, @r#"{"subject":{"Defect":["--slow"]},"scenario":"steady","seed":3}"#);
        assert_eq!(serde_json::from_str::<Case>(&text).expect("back"), case);
    }
}
