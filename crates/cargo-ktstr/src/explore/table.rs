//! The result of an exploration, as data and as text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;

use ktstr_record::RunVerdict;
use serde::Serialize;

use super::pool::{Ended, Pool};
use super::seeds::Seeds;

/// The whole result of an exploration.
#[derive(Debug, Serialize)]
pub struct Found {
    /// Name of the test.
    pub test: String,
    /// The test binary that was run under each seed.
    pub binary: PathBuf,
    /// The requested range: the first seed, and the seed after the last one.
    pub seeds: [u64; 2],
    /// The number of seeds that were requested.
    pub asked: u64,
    /// The number of seeds whose runs have ended.
    pub run: u64,
    /// The number of runs for each verdict.
    pub verdicts: BTreeMap<&'static str, u64>,
    /// The number of different sequences of context switches among the runs.
    pub distinct: u64,
    /// The first seed that failed, in the order of seeds.
    pub first_failure: Option<Failure>,
    /// Each run, in the order of the seeds.
    pub runs: Vec<Line>,
}

/// A run that failed, with the command that reproduces it.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// The seed under which the run failed.
    pub seed: u64,
    /// Why the run failed, in one line.
    pub reason: Option<String>,
    /// The command that reproduces the run.
    pub command: String,
    /// Path of the run's `record.json`, for `cargo ktstr replay`.
    pub record: PathBuf,
}

/// The run with one seed: an element of `runs` in the JSON.
#[derive(Debug, Serialize)]
pub struct Line {
    /// The seed that the run was given.
    pub seed: u64,
    /// The verdict with which the run ended.
    pub verdict: RunVerdict,
    /// Why the run did not pass; `None` for a pass.
    pub reason: Option<String>,
    /// The digest of the run's memory and console; `None` if the run did not reach its end.
    pub digest: Option<String>,
    /// The digest of the run's context switches; `None` if the record has none.
    pub switches: Option<String>,
    /// Path of the run's `record.json`.
    pub record: PathBuf,
}

impl Found {
    /// Builds the result from runs in the order of their seeds.
    pub fn of(pool: &Pool, seeds: Seeds, ended: Vec<Ended>) -> Self {
        let mut verdicts = BTreeMap::new();
        for run in &ended {
            *verdicts.entry(run.record.verdict.as_str()).or_default() += 1;
        }
        let failed = ended
            .iter()
            .find(|run| run.record.verdict == RunVerdict::Fail);
        let runs: Vec<Line> = ended
            .iter()
            .map(|run| Line {
                seed: run.seed,
                verdict: run.record.verdict,
                reason: run.record.reason.clone(),
                digest: run.record.digest.clone(),
                switches: run.record.switches.as_ref().map(|s| s.digest.clone()),
                record: run.path.clone(),
            })
            .collect();
        let distinct: BTreeSet<_> = runs
            .iter()
            .filter_map(|run| run.switches.as_ref())
            .collect();
        Self {
            test: pool.test.clone(),
            binary: pool.binary.path.clone(),
            seeds: [seeds.first, seeds.end],
            asked: seeds.count(),
            run: runs.len() as u64,
            verdicts,
            distinct: distinct.len() as u64,
            first_failure: failed.map(|run| Failure {
                seed: run.seed,
                reason: run.record.reason.clone(),
                command: format!("cargo ktstr replay {}", run.record.run_id),
                record: run.path.clone(),
            }),
            runs,
        }
    }
}

/// Renders the summary that is printed without `--json`.
pub fn render(found: &Found) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = render_to(&mut text, found);
    text
}

fn render_to(text: &mut String, found: &Found) -> std::fmt::Result {
    let [first, end] = found.seeds;
    writeln!(text, "test              {}", found.test)?;
    writeln!(
        text,
        "seeds run         {} of {} ({first}..{end})",
        found.run, found.asked
    )?;
    let verdicts: Vec<String> = found
        .verdicts
        .iter()
        .map(|(verdict, count)| format!("{count} {verdict}"))
        .collect();
    writeln!(text, "verdicts          {}", verdicts.join(", "))?;
    writeln!(text, "distinct digests  {}", found.distinct)?;
    match &found.first_failure {
        None => writeln!(text, "first failure     none"),
        Some(failure) => {
            writeln!(
                text,
                "first failure     seed {}: {}",
                failure.seed,
                failure.reason.as_deref().unwrap_or("no reason kept")
            )?;
            writeln!(text, "see it again      {}", failure.command)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explore::target::Binary;
    use ktstr_record::{RunRecord, SwitchesRecord};

    #[test]
    fn the_first_failing_seed_is_shown_with_its_command() {
        let pool = Pool {
            binary: Binary {
                path: "/t/fair-1".into(),
                folder: None,
            },
            test: "fair".to_owned(),
            root: "/t/ktstr".into(),
            jobs: 2,
            stop_at_first_failure: false,
        };
        let run = |seed: u64, verdict: RunVerdict, digest: &str| Ended {
            seed,
            path: format!("/t/ktstr/run-{seed}/record.json").into(),
            record: RunRecord {
                run_id: format!("run-{seed}"),
                verdict,
                reason: (verdict == RunVerdict::Fail).then(|| format!("stuck {seed}")),
                switches: Some(SwitchesRecord {
                    count: 7,
                    digest: digest.to_owned(),
                }),
                ..RunRecord::new("fair")
            },
        };
        let ended = vec![
            run(4, RunVerdict::Pass, "a"),
            run(5, RunVerdict::Fail, "b"),
            run(6, RunVerdict::Fail, "a"),
        ];
        let found = Found::of(&pool, Seeds { first: 4, end: 8 }, ended);
        assert_eq!(super::super::exit(&found), crate::exit::Exit::Failed);
        insta::assert_snapshot!(render(&found), @r"
        test              fair
        seeds run         3 of 4 (4..8)
        verdicts          2 fail, 1 pass
        distinct digests  2
        first failure     seed 5: stuck 5
        see it again      cargo ktstr replay run-5
        ");
    }
}
