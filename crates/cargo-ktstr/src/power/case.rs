//! One run of the matrix: a scenario under a scheduler with one seed. The run is a cell (`cell/`).

use std::path::{Path, PathBuf};

use ktstr_record::RunVerdict;
use serde::{Deserialize, Serialize};

use crate::cell::{Cell, Outcome, Under};

/// Defects that are meant to prevent the scheduler from loading.
const NEVER_LOAD: [&str; 2] = ["--fail-verify", "--verify-loop"];

/// The path of `scx_bpfland`, a third-party scheduler that `make test-registry` installs.
const BPFLAND: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../target/registry/bin/scx_bpfland"
);

/// Returns the path of `scx_bpfland` if it is installed.
pub fn bpfland() -> Option<&'static Path> {
    Some(Path::new(BPFLAND)).filter(|path| path.is_file())
}

/// The scheduler under test.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scheduler {
    /// scx-ktstr with these arguments.
    Defect(Vec<String>),
    /// A scheduler without a known defect.
    #[serde(rename = "Clean")]
    Baseline(Baseline),
}

/// Schedulers for which no alarm is expected.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Baseline {
    /// scx-ktstr without a defect.
    ScxKtstr,
    /// The kernel's own scheduler.
    Eevdf,
    /// The third-party scheduler `scx_bpfland`, where it is installed at [`BPFLAND`].
    Bpfland,
    /// The binary at this path.
    Binary(PathBuf),
}

impl Baseline {
    /// Returns the binaries at `paths`; if there are none, scx-ktstr, EEVDF, and `scx_bpfland` if it is installed.
    pub fn of(paths: &[PathBuf]) -> Vec<Self> {
        if !paths.is_empty() {
            return paths.iter().cloned().map(Self::Binary).collect();
        }
        let mut all = vec![Self::ScxKtstr, Self::Eevdf];
        if Path::new(BPFLAND).is_file() {
            all.push(Self::Bpfland);
        }
        all
    }

    /// Returns the name in tables and on the page.
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

/// One run of the matrix: a scheduler under a scenario with one seed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Case {
    #[serde(rename = "subject")]
    pub scheduler: Scheduler,
    /// The name of the canned scenario, without the prefix of its test.
    pub scenario: String,
    pub seed: u64,
}

impl Case {
    fn cell(&self) -> Cell {
        let (under, args) = match &self.scheduler {
            Scheduler::Defect(args) => (Under::ScxKtstr, args.clone()),
            Scheduler::Baseline(Baseline::ScxKtstr) => (Under::ScxKtstr, Vec::new()),
            Scheduler::Baseline(Baseline::Eevdf) => (Under::Eevdf, Vec::new()),
            Scheduler::Baseline(Baseline::Bpfland) => (Under::Binary(BPFLAND.into()), Vec::new()),
            Scheduler::Baseline(Baseline::Binary(path)) => {
                (Under::Binary(path.clone()), Vec::new())
            }
        };
        Cell {
            args,
            fresh: matches!(self.scheduler, Scheduler::Defect(_)),
            ..Cell::new(&self.scenario, under, self.seed)
        }
    }

    /// Runs the case in a separate process. An error becomes an inconclusive outcome.
    ///
    /// The record of the run is stored in `records`, apart from the records of the user's own tests.
    pub fn run(&self, records: &Path) -> Outcome {
        let cell = self.cell();
        let mut outcome = cell.run(records);
        // If a defect keeps the scheduler from loading without being meant to, the defect is implemented wrongly. If a scheduler
        // without defects does not load, its run shows nothing about the checks. Both kinds of runs count as inconclusive.
        let meant = |arg: &String| NEVER_LOAD.contains(&arg.as_str());
        if outcome.never_attached() && !cell.args.iter().any(meant) {
            outcome.verdict = RunVerdict::Inconclusive;
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_read_back_as_it_was_written() {
        let case = Case {
            scheduler: Scheduler::Defect(vec!["--slow".to_owned()]),
            scenario: "steady".to_owned(),
            seed: 3,
        };
        let text = serde_json::to_string(&case).expect("JSON");
        insta::assert_snapshot!(text, @r#"{"subject":{"Defect":["--slow"]},"scenario":"steady","seed":3}"#);
        assert_eq!(serde_json::from_str::<Case>(&text).expect("back"), case);
    }
}
