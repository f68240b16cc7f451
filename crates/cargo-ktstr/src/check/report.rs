//! The result of a check as data: `--json` writes it, and the screen, the HTML page, the JUnit file, the summary of a CI job and
//! the table of several checks are made from it. `docs/check.md` describes each field.

use std::collections::BTreeSet;
use std::path::PathBuf;

use ktstr_record::RunVerdict;
use serde::{Deserialize, Serialize};

use super::again::Again;
use super::config::Config;
use super::date::Date;
use super::known;
use super::matrix::{Matrix, Place};
use super::sort::{Class, Finding, judge, slower};
use super::walk::{Pair, Walked};
use crate::cell::Proof;
use crate::exit::Exit;

/// The version of the schema. It is raised when a field changes its meaning or goes away.
pub const SCHEMA: u32 = 2;

/// The scheduler that was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Path of its binary.
    pub path: PathBuf,
    /// The scheduler's own arguments.
    pub args: Vec<String>,
    /// BLAKE3 of the binary, in hexadecimal.
    pub hash: String,
}

/// A kernel on which the scheduler does not load, with the reason. A kernel has an entry for each reason.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NotLoaded {
    /// Release of the kernel.
    pub kernel: String,
    /// The reason as the scheduler, the kernel or the verifier reports it, one entry per line.
    pub reason: Vec<String>,
    /// Whether the failure to load counts as the scheduler's fault. It does not if the run was inconclusive, for example because
    /// the kernel lacks what the scheduler was built for, or because the guest ran out of memory.
    pub blamed: bool,
    /// The number of runs that ended like this.
    pub runs: u64,
    /// The command that reproduces the failure to load.
    pub again: String,
    /// Path of the record of the first of these runs.
    pub record: Option<PathBuf>,
}

/// The entry of the configuration for a known failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KnownNote {
    /// Why the failure is tolerated.
    pub reason: String,
    /// The last day on which the failure is tolerated, as `YYYY-MM-DD`.
    pub expires: String,
    /// Whether that day is past, so that the failure counts again.
    pub expired: bool,
}

/// A finding, over all seeds in one place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Name of the scenario.
    pub scenario: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Shape of the machine.
    pub topology: String,
    /// The seeds that show the finding.
    pub seeds: Vec<u64>,
    /// The number of seeds that were run in this place.
    pub of: u64,
    /// Name of the check, or of the metric.
    pub check: String,
    /// The message of the check for the first of these seeds. For a metric that is worse with every seed, the message has the
    /// means over all seeds.
    pub message: String,
    /// The evidence for the finding.
    pub proof: Proof,
    /// Why the finding is in its list.
    pub why: String,
    /// The command that reproduces the finding.
    pub again: String,
    /// Path of the record of the first of these runs; `None` if none was kept, as for a run that passed.
    pub record: Option<PathBuf>,
    /// The entry of the configuration if the finding is a known failure.
    pub known: Option<KnownNote>,
}

/// The whole result of a check.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// The version of this format: [`SCHEMA`] of the command that wrote it.
    pub schema: u32,
    /// The scheduler that was checked.
    pub scheduler: Checked,
    /// The shard that was run, such as `2/3`; `None` for the whole check.
    pub shard: Option<String>,
    /// BLAKE3 of everything in the results that the virtual clock decides.
    pub results: String,
    /// `quick`, `usual` or `thorough`.
    pub level: &'static str,
    /// Names of the scenarios.
    pub scenarios: Vec<String>,
    /// The scenarios and kernels of the runs that were made and not skipped. Only the page needs them,
    /// so the JSON does not have them.
    #[serde(skip)]
    pub ran: BTreeSet<(String, String)>,
    /// The scenarios and kernels of runs in which the scheduler did not load; for the page, like `ran`.
    #[serde(skip)]
    pub refused: BTreeSet<(String, String)>,
    /// Releases of the kernels.
    pub kernels: Vec<String>,
    /// Why requested kernels are not available, one text for each.
    pub missing_kernels: Vec<String>,
    /// Shapes; `own` for each scenario's own.
    pub topologies: Vec<String>,
    /// The first seed, and the seed after the last one.
    pub seeds: [u64; 2],
    /// Runs of the scheduler that were made.
    pub runs: u64,
    /// Of these runs, those that were conclusive about the scheduler; skipped runs do not count.
    pub judged: u64,
    /// Of the judged runs, those without any finding.
    pub sound: u64,
    /// Runs that the scenario skipped, because it does not apply to that shape.
    pub skipped: u64,
    /// Runs that were not started because the time was over.
    pub not_started: u64,
    /// Runs of EEVDF that were made, and those whose outcome was cached.
    pub eevdf_runs: [u64; 2],
    /// Kernels on which the scheduler does not load.
    pub not_loaded: Vec<NotLoaded>,
    /// Failures that prove that the scheduler is broken.
    pub broken: Vec<Row>,
    /// Failures that would be in `broken`, but that the configuration lists as known.
    pub known: Vec<Row>,
    /// Failures that are not the scheduler's fault or break no promise of it.
    pub not_promised: Vec<Row>,
    /// Metrics that are worse than under EEVDF with every seed, and bounds on a latency or a rate that EEVDF keeps and the
    /// scheduler does not.
    pub slower: Vec<Row>,
    /// Inconclusive runs, which say nothing about the scheduler.
    pub no_answer: Vec<Row>,
    /// Known failures that did not occur although their places were run.
    pub unseen: Vec<String>,
    /// Wall time of the whole check in seconds; for merged shards, the time of the slowest.
    pub wall_s: f64,
    /// The exit code of the command: 1 if the scheduler is broken or is to blame for not loading, 2 if nothing was
    /// judged or a kernel is missing, otherwise 0.
    pub exit: u8,
}

impl Report {
    /// Builds the report from all runs.
    pub fn of(
        matrix: &Matrix,
        walked: &Walked,
        config: &Config,
        again: &Again,
        today: Date,
    ) -> Self {
        let pairs = &walked.pairs;
        let mut report = Self {
            schema: SCHEMA,
            scenarios: matrix.scenarios.clone(),
            kernels: matrix.kernels.iter().map(|k| k.release.clone()).collect(),
            missing_kernels: matrix.missing.clone(),
            topologies: matrix
                .topologies
                .iter()
                .map(|t| shape(t.as_deref()))
                .collect(),
            seeds: [matrix.seeds.first, matrix.seeds.end],
            runs: pairs.len() as u64,
            not_started: walked.left_out,
            ..Self::default()
        };
        let held = pairs.iter().filter(|pair| pair.eevdf.is_some()).count() as u64;
        report.eevdf_runs = [walked.eevdf_runs, held.saturating_sub(walked.eevdf_runs)];
        for pair in pairs {
            let findings = judge(pair);
            let skipped = pair.ours.verdict == RunVerdict::Skip;
            let answered = !findings
                .iter()
                .any(|f| matches!(f.class, Class::NoAnswer | Class::NotLoaded));
            report.skipped += u64::from(skipped);
            if !skipped {
                let place = &pair.place;
                let cell = (place.scenario.clone(), place.kernel.release.clone());
                report.ran.insert(cell);
            }
            report.judged += u64::from(answered && !skipped);
            report.sound += u64::from(findings.is_empty() && !skipped);
            if findings.iter().any(|f| f.class == Class::NotLoaded) {
                let place = &pair.place;
                let cell = (place.scenario.clone(), place.kernel.release.clone());
                report.refused.insert(cell);
            }
            for finding in findings {
                report.add(pair, &finding, pairs, again);
            }
        }
        for place in &matrix.places {
            report.compare(place, pairs, again);
        }
        known::apply(&mut report, config, today, pairs);
        report.exit = report.code() as u8;
        report
    }

    fn add(&mut self, pair: &Pair, finding: &Finding, pairs: &[Pair], again: &Again) {
        let rows = match finding.class {
            Class::NotLoaded => return self.add_not_loaded(pair, again),
            Class::Broken => &mut self.broken,
            Class::NotPromised => &mut self.not_promised,
            Class::Slower => &mut self.slower,
            Class::NoAnswer => &mut self.no_answer,
        };
        let new = row(pair, finding, pairs, again);
        let same = |row: &&mut Row| {
            (&row.scenario, &row.kernel, &row.topology)
                == (&new.scenario, &new.kernel, &new.topology)
                && (&row.check, &row.why) == (&new.check, &new.why)
        };
        match rows.iter_mut().find(same) {
            // A scenario is run twice on its own shape if that shape was also given by name.
            Some(row) if row.seeds.contains(&pair.seed) => {}
            Some(row) => row.seeds.push(pair.seed),
            None => rows.push(new),
        }
    }

    fn add_not_loaded(&mut self, pair: &Pair, again: &Again) {
        let kernel = &pair.place.kernel.release;
        let first = |reason: &[String]| reason.first().cloned();
        let same = |known: &&mut NotLoaded| {
            known.kernel == *kernel && first(&known.reason) == first(&pair.ours.details)
        };
        match self.not_loaded.iter_mut().find(same) {
            Some(known) => known.runs += 1,
            None => self.not_loaded.push(NotLoaded {
                kernel: kernel.clone(),
                reason: pair.ours.details.clone(),
                blamed: pair.ours.verdict == RunVerdict::Fail,
                runs: 1,
                again: again.check(&pair.place, pair.seed),
                record: pair.ours.record.clone(),
            }),
        }
    }

    /// Adds a row if the scheduler is slower than EEVDF in a place where all runs passed.
    fn compare(&mut self, place: &Place, pairs: &[Pair], again: &Again) {
        let passed = |outcome: &crate::cell::Outcome| outcome.verdict == RunVerdict::Pass;
        let here: Vec<&Pair> = pairs.iter().filter(|pair| pair.place == *place).collect();
        let all_passed = here
            .iter()
            .all(|pair| passed(&pair.ours) && pair.eevdf.as_ref().is_some_and(passed));
        let (true, Some(first)) = (all_passed, here.first()) else {
            return;
        };
        if let Some(finding) = slower(&here) {
            let mut row = row(first, &finding, pairs, again);
            row.seeds = here.iter().map(|pair| pair.seed).collect();
            row.again = again.compare(place);
            self.slower.push(row);
        }
    }

    /// Returns the number of runs that show at least one broken promise. A run that breaks several promises has a row for each of
    /// them, but counts once here.
    pub fn broken_runs(&self) -> usize {
        let runs = self.broken.iter().flat_map(|row| {
            let place = (&row.scenario, &row.kernel, &row.topology);
            row.seeds.iter().map(move |seed| (place, seed))
        });
        runs.collect::<BTreeSet<_>>().len()
    }

    /// Returns the exit code.
    pub fn code(&self) -> Exit {
        let broken = !self.broken.is_empty() || self.not_loaded.iter().any(|kernel| kernel.blamed);
        // A requested kernel that is not available leaves the check inconclusive.
        match (broken, self.judged > 0 && self.missing_kernels.is_empty()) {
            (true, _) => Exit::Failed,
            (false, true) => Exit::Done,
            (false, false) => Exit::Host,
        }
    }
}

fn row(pair: &Pair, finding: &Finding, pairs: &[Pair], again: &Again) -> Row {
    let of = pairs
        .iter()
        .filter(|other| other.place == pair.place)
        .count();
    Row {
        scenario: pair.place.scenario.clone(),
        kernel: pair.place.kernel.release.clone(),
        topology: actual_shape(pair),
        seeds: vec![pair.seed],
        of: of as u64,
        check: finding.check.clone(),
        message: finding.message.clone(),
        proof: finding.proof,
        why: finding.why.clone(),
        again: again.check(&pair.place, pair.seed),
        record: pair
            .ours
            .record
            .clone()
            .filter(|_| !matches!(pair.ours.verdict, RunVerdict::Pass | RunVerdict::Skip)),
        known: None,
    }
}

/// Returns the shape that the machine of the scheduler's run had. If the run did not report it, returns the requested shape, or
/// `own` if none was requested.
pub fn actual_shape(pair: &Pair) -> String {
    let had = pair.ours.topology.as_deref();
    shape(had.or(pair.place.topology.as_deref()))
}

fn shape(shape: Option<&str>) -> String {
    shape.unwrap_or(crate::cell::axes::OWN).to_owned()
}

#[cfg(test)]
pub mod tests {
    use super::super::testing::{failed, pair, passed};
    use super::*;
    use crate::cell::Outcome;
    use crate::explore::Seeds;

    /// Returns the report of these pairs, on one kernel.
    pub fn report(pairs: Vec<Pair>, config: &Config) -> Report {
        let mut places: Vec<Place> = Vec::new();
        for pair in &pairs {
            if !places.contains(&pair.place) {
                places.push(pair.place.clone());
            }
        }
        let matrix = Matrix {
            scenarios: places.iter().map(|place| place.scenario.clone()).collect(),
            kernels: vec![pairs[0].place.kernel.clone()],
            missing: Vec::new(),
            topologies: vec![None],
            seeds: Seeds { first: 1, end: 3 },
            places,
        };
        let walked = Walked {
            pairs,
            left_out: 0,
            eevdf_runs: 1,
        };
        let again = Again {
            binary: "./scx_mine".into(),
            args: vec!["--fast".to_owned()],
            config: None,
            memory_mib: None,
        };
        let today = "2026-11-27".parse().expect("a day");
        Report::of(&matrix, &walked, config, &again, today)
    }

    /// Returns five pairs of four scenarios: `steady` is broken with seed 1 and sound with seed 2, `bursts` only misses an
    /// expectation, `sweep` is inconclusive, and `sound` is sound.
    pub fn mixed() -> Vec<Pair> {
        let unanswered = || Outcome::without_answer("the disk is full".to_owned());
        vec![
            pair("steady", 1, failed("starvation", Proof::Schedule), passed()),
            pair("bursts", 1, failed("spread", Proof::Expected), passed()),
            pair("sweep", 1, unanswered(), passed()),
            pair("sound", 1, passed(), passed()),
            pair("steady", 2, passed(), passed()),
        ]
    }

    #[test]
    fn everything_is_in_one_list_and_counted() {
        let report = report(mixed(), &Config::default());
        let scenarios =
            |rows: &[Row]| -> Vec<String> { rows.iter().map(|row| row.scenario.clone()).collect() };
        assert_eq!(scenarios(&report.broken), ["steady"]);
        assert_eq!(
            (report.broken[0].of, &report.broken[0].seeds[..]),
            (2, &[1][..])
        );
        assert_eq!(scenarios(&report.not_promised), ["bursts"]);
        assert_eq!(scenarios(&report.no_answer), ["sweep"]);
        assert_eq!((report.runs, report.judged, report.sound), (5, 4, 2));
        assert_eq!(report.eevdf_runs, [1, 4]);
        assert_eq!(report.exit, 1);
        assert_eq!(
            report.broken[0].again,
            "cargo ktstr check ./scx_mine --scenarios steady --kernels 7.3.4-ab --seeds 1..2 -- --fast"
        );
    }

    /// Returns a pair in which the scheduler's run has two findings that count as broken, from different checks.
    pub fn broken_twice() -> Pair {
        let mut ours = failed("starvation", Proof::Schedule);
        ours.findings
            .extend(failed("isolation", Proof::Worker).findings);
        pair("steady", 1, ours, passed())
    }

    #[test]
    fn a_run_with_two_broken_rows_is_one_run() {
        let report = report(vec![broken_twice()], &Config::default());
        assert_eq!(report.broken.len(), 2);
        assert_eq!(report.broken_runs(), 1);
        assert_eq!((report.runs, report.judged, report.sound), (1, 1, 0));
    }

    #[test]
    fn a_limit_takes_no_field_away() {
        let mut report = report(mixed(), &Config::default());
        report.not_started = 3;
        let text = |limit| crate::json::text(&report, limit).expect("JSON");
        let whole: serde_json::Value =
            serde_json::from_str(&text(crate::json::Limit::default())).expect("JSON");
        let bounded: serde_json::Value =
            serde_json::from_str(&text(crate::json::Limit::at(0))).expect("JSON");
        assert_eq!(bounded["not_started"], 3);
        assert_eq!(bounded["left_out"]["broken"], 1);
        assert_eq!(whole.get("left_out"), None);
    }

    #[test]
    fn the_exit_code_says_whether_something_was_judged() {
        let unanswered = Outcome::without_answer("the disk is full".to_owned());
        let none = report(vec![pair("a", 1, unanswered, passed())], &Config::default());
        assert_eq!(none.code(), Exit::Host);
        let sound = report(vec![pair("a", 1, passed(), passed())], &Config::default());
        assert_eq!(sound.code(), Exit::Done);
        let mut missing = sound.clone();
        missing
            .missing_kernels
            .push("kernel 9.9: there is none".to_owned());
        assert_eq!(missing.code(), Exit::Host);
        let mut refused = failed("scheduler not attached", Proof::Kernel);
        let pairs = vec![
            pair("a", 1, refused.clone(), passed()),
            pair("b", 1, refused.clone(), passed()),
        ];
        let report_of = report(pairs, &Config::default());
        assert_eq!(report_of.not_loaded.len(), 1, "reported once");
        assert_eq!(report_of.not_loaded[0].runs, 2);
        assert_eq!(report_of.not_loaded[0].reason[1], "R1 invalid");
        assert_eq!(report_of.code(), Exit::Failed);
        refused.verdict = RunVerdict::Inconclusive;
        let misfit = report(vec![pair("a", 1, refused, passed())], &Config::default());
        assert_eq!(misfit.code(), Exit::Host);
    }
}
