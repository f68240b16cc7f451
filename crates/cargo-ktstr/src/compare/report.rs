//! The result of a comparison as data: `--json` writes it, and the table is made from it. `docs/check.md` describes each field.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use ktstr_record::RunVerdict;
use serde::Serialize;

use super::family::{self, Row};
use super::grow::{Grown, Made};
use super::judge::{Conclusion, LEVEL, Paired};
use super::looks::{Look, Looks};
use super::{Job, holm};
use crate::cell::{Gate, GateWish, METRICS, Metric, Outcome, Under};
use crate::exit::Exit;

/// The version of the schema of the JSON that `compare` writes.
const SCHEMA: u32 = 1;

/// One side of a comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Side {
    /// The name of the side as it was given. For a file of results, the path of the scheduler follows the name.
    pub name: String,
    /// The scheduler's own arguments.
    pub args: Vec<String>,
    /// BLAKE3 of its binary; `None` for EEVDF.
    pub hash: Option<String>,
    /// The scheduler on this side.
    #[serde(skip)]
    pub under: Under,
}

/// A run without metrics.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ended {
    /// The side that the run belongs to: `a` or `b`.
    pub side: &'static str,
    /// Name of the scenario.
    pub scenario: String,
    /// Release of the kernel, or its id if several kernels of the comparison have the same release.
    pub kernel: String,
    /// Shape of the machine; `own` for the scenario's own.
    pub topology: String,
    /// The seed of the run.
    pub seed: u64,
    /// How the run ended.
    pub verdict: RunVerdict,
    /// Whose fault it is, such as `scheduler`; `None` for a run that passed or was skipped.
    pub fault: Option<String>,
    /// Why it ended like this: the first finding; without findings, a text that says that the run left no schedule.
    pub message: String,
    /// Path of its record; `None` if there is none.
    pub record: Option<PathBuf>,
}

impl Ended {
    /// Returns the key that the run shares with its partner on the other side: scenario, kernel, shape and seed.
    fn cell(&self) -> (&str, &str, &str, u64) {
        (&self.scenario, &self.kernel, &self.topology, self.seed)
    }
}

/// The result of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The version of the report's format, [`SCHEMA`].
    pub schema: u32,
    /// The reference, with which B is compared. It is named first on the command line.
    pub a: Side,
    /// The side that is judged. It is named second on the command line.
    pub b: Side,
    /// The first seed, and the seed after the last one that was run anywhere.
    pub seeds: [u64; 2],
    /// The planned looks. A look is a significance test of the runs so far. Each entry has the seed after the last one that the
    /// look covers, and the share of `level` that it uses. [`Row::looks`] is the number of looks that the row's scenario has
    /// had on the row's kernel and shape.
    pub looks: Vec<Look>,
    /// The largest probability of a false alarm in the whole family.
    pub level: f64,
    /// The number of tests in the family.
    pub tests: usize,
    /// The number of pairs of runs that the first look needs to decide as many significance tests as `tests` says; `None` if no
    /// number of pairs is enough.
    pub pairs_needed: Option<usize>,
    /// The number of pairs whose two runs are the same to the last bit, by their digests.
    pub same_runs: u64,
    /// The number of all pairs of runs.
    pub pairs: u64,
    /// A row for each test.
    pub rows: Vec<Row>,
    /// Runs that left no metrics, with their verdicts and reasons.
    pub ended: Vec<Ended>,
    /// Why requested kernels are not available, one text for each.
    pub missing_kernels: Vec<String>,
    /// The number of runs that only A has, and the number that only B has. Both are 0 unless files of results are compared.
    pub alone: [u64; 2],
    /// The wall time of the whole comparison in seconds.
    pub wall_s: f64,
}

impl Report {
    /// Builds the report: the family of tests with the conclusion of each.
    pub fn of(a: Side, b: Side, grown: &Grown, gates: &Gates, looks: &Looks) -> Self {
        let mut ended = Vec::new();
        let mut same_runs = 0;
        for (job, a, b) in &grown.pairs {
            same_runs += u64::from(a.digest.is_some() && a.digest == b.digest);
            for (side, outcome) in [("a", a), ("b", b)] {
                if outcome.metrics.is_empty() {
                    ended.push(end(side, job, outcome));
                }
            }
        }
        let family = family_of(&grown.pairs, gates, looks, &grown.taken);
        let most = family.iter().map(|one| one.taken).max().unwrap_or(1);
        let seen = looks.all.get(most - 1).map_or(looks.first, |look| look.end);
        let first_share = looks.all.first().map_or(1.0, |look| look.share);
        let rows = family::rows(&family);
        Self {
            schema: SCHEMA,
            a,
            b,
            seeds: [looks.first, seen],
            looks: looks.all.clone(),
            level: LEVEL,
            tests: rows.len(),
            pairs_needed: holm::pairs_needed(rows.len(), LEVEL * first_share),
            same_runs,
            pairs: grown.pairs.len() as u64,
            rows,
            ended,
            missing_kernels: Vec::new(),
            alone: [0, 0],
            wall_s: 0.0,
        }
    }

    /// Returns the number of pairs in which the run of B failed by the scheduler's fault and left no metrics, and the run of A
    /// left some. Such a scheduler has usually exited early.
    pub fn only_b_ended(&self) -> u64 {
        let by_fault = |one: &&Ended| {
            one.verdict == RunVerdict::Fail && one.fault.as_deref() == Some("scheduler")
        };
        let of = |side: &'static str| self.ended.iter().filter(move |one| one.side == side);
        let of_a: BTreeSet<_> = of("a").map(Ended::cell).collect();
        let alone = of("b").filter(by_fault);
        alone.filter(|b| !of_a.contains(&b.cell())).count() as u64
    }

    /// Returns the exit code. It is [`Exit::Failed`] for a regression, or if only B ended without metrics by its own fault.
    /// Otherwise it is [`Exit::Host`] if no row is decided, if a row with the largest number of pairs is undecided, or if a
    /// kernel is missing. In all other cases it is [`Exit::Done`].
    pub fn code(&self) -> Exit {
        let regression = self
            .rows
            .iter()
            .any(|row| row.conclusion == Conclusion::Regression);
        let is_decided = |row: &Row| row.conclusion != Conclusion::TooFewSeeds;
        // A row may lack some seeds, so only the rows with the largest number of pairs have to be decided.
        let most = self.rows.iter().map(|row| row.pairs).max();
        let is_whole = |row: &&Row| Some(row.pairs) == most;
        let decided =
            self.rows.iter().any(is_decided) && self.rows.iter().filter(is_whole).all(is_decided);
        match (regression || self.only_b_ended() > 0, decided) {
            (true, _) => Exit::Failed,
            (false, true) if self.missing_kernels.is_empty() => Exit::Done,
            (false, _) => Exit::Host,
        }
    }
}

/// The gates in a configuration file, by the names of metrics.
pub type Gates = BTreeMap<String, GateWish>;

/// Returns the metrics that are compared, which are all that the configuration does not turn off, with the gate of each.
pub fn compared(gates: &Gates) -> Vec<(&'static Metric, Gate)> {
    let of = |metric: &'static Metric| {
        let gate = match gates.get(metric.name) {
            Some(wish) => wish.over(metric.gate())?,
            None => metric.gate(),
        };
        Some((metric, gate))
    };
    METRICS.iter().filter_map(of).collect()
}

/// Returns one [`Paired`] for each metric in each place. A place is a scenario on a kernel and a shape. The places are in the
/// order in which they first occur in `pairs`, and the metrics of a place are in the order of [`METRICS`]. `taken` maps a place
/// to the number of looks that it has had. A place that is not in the map has had one look.
pub fn family_of(
    pairs: &[Made],
    gates: &Gates,
    looks: &Looks,
    taken: &BTreeMap<[String; 3], usize>,
) -> Vec<Paired> {
    let mut family: Vec<Vec<Paired>> = Vec::new();
    let mut places: BTreeMap<[String; 3], usize> = BTreeMap::new();
    let compared = compared(gates);
    for (job, a, b) in pairs {
        let at = *places.entry(job.place()).or_insert_with_key(|place| {
            let paired = |&(metric, gate)| Paired {
                place: place.clone(),
                metric,
                gate,
                values: Vec::new(),
                looks: looks.clone(),
                taken: taken.get(place).copied().unwrap_or(1),
            };
            family.push(compared.iter().map(paired).collect());
            family.len() - 1
        });
        for one in &mut family[at] {
            let value = |of: &Outcome| of.metrics.get(one.metric.name).copied();
            if let (Some(a), Some(b)) = (value(a), value(b)) {
                one.values.push((job.seed, a, b));
            }
        }
    }
    family.into_iter().flatten().collect()
}

fn end(side: &'static str, job: &Job, outcome: &Outcome) -> Ended {
    let [scenario, kernel, topology] = job.place();
    let message = outcome.findings.first().map(|found| found.message.clone());
    Ended {
        side,
        scenario,
        kernel,
        topology,
        seed: job.seed,
        verdict: outcome.verdict,
        fault: outcome.fault.clone(),
        message: message.unwrap_or_else(|| "it left no schedule".to_owned()),
        record: outcome.record.clone(),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::cell::Proof;
    use crate::cell::axes::Kernel;
    use crate::explore::Seeds;

    fn side_of(name: &str) -> Side {
        Side {
            name: name.to_owned(),
            args: Vec::new(),
            hash: None,
            under: Under::Eevdf,
        }
    }

    /// Returns the report of these pairs of EEVDF and a scheduler, after one look at seven seeds.
    fn report_of(pairs: Vec<Made>, gates: &Gates) -> Report {
        let grown = Grown {
            pairs,
            taken: BTreeMap::new(),
        };
        let looks = Looks::one(Seeds { first: 1, end: 8 });
        let [a, b] = ["eevdf", "./scx_mine"].map(side_of);
        Report::of(a, b, &grown, gates, &looks)
    }

    fn job(seed: u64) -> Job {
        Job {
            scenario: "steady".to_owned(),
            kernel: Kernel {
                id: "7.3.4-ab".to_owned(),
                release: "7.3.4".to_owned(),
                asked: None,
            },
            topology: None,
            seed,
        }
    }

    fn measured(p99: f64, digest: &str) -> Outcome {
        let mut outcome = Outcome::without_answer(String::new());
        outcome.verdict = RunVerdict::Pass;
        outcome.digest = Some(digest.to_owned());
        outcome.metrics.insert("wake_p99".to_owned(), p99);
        outcome
    }

    /// Returns the report of seven pairs in which B is about `more` above A; the runs are identical if `more` is 0.
    pub fn compared(more: f64) -> Report {
        let pairs: Vec<_> = (1..8)
            .map(|seed| {
                let noise = seed as f64 * 0.1;
                let b = match more {
                    0.0 => measured(1000.0, "same"),
                    more => measured(1000.0 + more + noise, "other"),
                };
                (job(seed), measured(1000.0, "same"), b)
            })
            .collect();
        report_of(pairs, &Gates::new())
    }

    #[test]
    fn a_shift_is_a_regression_and_equal_runs_are_identical() {
        let worse = compared(60.0);
        assert_eq!(worse.rows[0].conclusion, Conclusion::Regression);
        assert_eq!((worse.code(), worse.same_runs), (Exit::Failed, 0));
        let same = compared(0.0);
        assert_eq!(same.rows[0].conclusion, Conclusion::Identical);
        assert_eq!((same.code(), same.same_runs), (Exit::Done, 7));
        assert_eq!(compared(-50.0).code(), Exit::Done);
    }

    #[test]
    fn without_a_decided_row_the_exit_code_is_2() {
        let mut report = compared(60.0);
        for conclusion in [
            Conclusion::TooFewSeeds,
            Conclusion::Identical,
            Conclusion::NotShown,
        ] {
            report.rows[0].conclusion = conclusion;
            let wanted = match conclusion {
                Conclusion::TooFewSeeds => Exit::Host,
                _ => Exit::Done,
            };
            assert_eq!(report.code(), wanted, "{conclusion:?}");
        }
        // An undecided row prevents a success if it has as many pairs as the decided one, and does not if it lacks a seed.
        let mut other = report.rows[0].clone();
        other.conclusion = Conclusion::TooFewSeeds;
        report.rows.push(other);
        assert_eq!(report.code(), Exit::Host);
        report.rows[1].pairs -= 1;
        assert_eq!(report.code(), Exit::Done);
        report
            .missing_kernels
            .push("kernel 9.9: there is none".to_owned());
        assert_eq!(report.code(), Exit::Host);
    }

    #[test]
    fn a_metric_that_is_off_is_not_in_the_family() {
        let gates = Gates::from([("wake_p99".to_owned(), GateWish::Off)]);
        assert_eq!(super::compared(&gates).len(), METRICS.len() - 1);
        let pairs = [
            (job(1), measured(1.0, "x"), measured(2.0, "y")),
            (job(2), measured(1.0, "x"), measured(2.0, "y")),
        ];
        assert_eq!(report_of(pairs.to_vec(), &Gates::new()).tests, 1);
        assert_eq!(report_of(pairs.to_vec(), &gates).tests, 0);
    }

    #[test]
    fn runs_without_metrics_are_listed_and_count_against_b_only() {
        let dead = || {
            let mut outcome = Outcome::without_answer("ejected".to_owned());
            outcome.verdict = RunVerdict::Fail;
            outcome.fault = Some("scheduler".to_owned());
            outcome.findings[0].proof = Proof::Kernel;
            outcome
        };
        let of = |a: Outcome, b: Outcome| report_of(vec![(job(1), a, b)], &Gates::new());
        let ok = || measured(1.0, "x");
        assert_eq!(of(ok(), dead()).code(), Exit::Failed);
        assert_eq!(of(dead(), dead()).code(), Exit::Host);
        assert_eq!(of(dead(), ok()).code(), Exit::Host);
        let unanswered = Outcome::without_answer("the disk is full".to_owned());
        let none = of(ok(), unanswered);
        assert_eq!((none.code(), none.ended.len()), (Exit::Host, 1));
    }
}
