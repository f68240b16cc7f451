//! Compares two files of results that `cargo ktstr check --results` wrote, for example of two builds, two lists of arguments or
//! two kernels. It can also compare the runs of the scheduler in one file with the runs of EEVDF in the same file. Nothing is
//! run. A pair is a scenario, a kernel, a shape and a seed that both sides have. If each side has a single kernel, and these
//! differ, runs are paired without regard to the kernel.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use ktstr_record::brief::counted;
use ktstr_record::settings::{Settings, difference};

use super::report::Side;
use super::{EEVDF, Job};
use crate::cell::{Outcome, Under};
use crate::check::results::{Results, is_results};

/// A side of the comparison whose results are stored in a file.
#[derive(Debug)]
pub struct Set {
    /// The scheduler under which the runs were made.
    pub side: Side,
    version: String,
    settings: Settings,
    runs: BTreeMap<Key, (Job, Outcome)>,
}

/// The key by which runs are paired: scenario, kernel, shape, seed. The kernel is left out if each file is of a single kernel,
/// and these differ.
type Key = (String, Option<String>, Option<String>, u64);

/// The pairs of two files, and the number of runs without a partner.
#[derive(Debug)]
pub struct Pairs {
    /// The pairs, in the order of A's runs.
    pub pairs: Vec<(Job, Outcome, Outcome)>,
    /// Runs that only A has, and runs that only B has.
    pub alone: [u64; 2],
}

/// Returns whether an argument is the path of a file of results.
pub fn is_set(name: &str) -> bool {
    name != EEVDF && is_results(Path::new(name))
}

/// Reads the two sides, of which at least one is a file of results. The other side is also a file, or EEVDF, whose runs are in
/// the same file as the runs of the scheduler.
///
/// # Errors
///
/// A file cannot be read, or the other side is a binary, which has no stored results.
pub fn read(a: &str, b: &str) -> Result<[Set; 2]> {
    let load = |name: &str, other: &str| match name {
        EEVDF => Results::read(Path::new(other)).map(|results| eevdf(&results)),
        name if is_set(name) => Results::read(Path::new(name)).map(|results| ours(name, results)),
        name => bail!(
            "{other} is a file of results, and {name} is not: compare two such files, or two schedulers; \
             `cargo ktstr check {name} --results FILE` writes one"
        ),
    };
    Ok([load(a, b)?, load(b, a)?])
}

fn ours(name: &str, results: Results) -> Set {
    let scheduler = &results.asked.scheduler;
    let side = Side {
        name: format!("{name} ({})", scheduler.path.display()),
        args: scheduler.args.clone(),
        hash: Some(scheduler.hash.clone()),
        under: Under::Binary(scheduler.path.clone()),
    };
    set(side, &results, |pair| Some(pair.ours.clone()))
}

fn eevdf(results: &Results) -> Set {
    let side = Side {
        name: EEVDF.to_owned(),
        args: Vec::new(),
        hash: None,
        under: Under::Eevdf,
    };
    set(side, results, |pair| pair.eevdf.clone())
}

fn set(
    side: Side,
    results: &Results,
    outcome: impl Fn(&crate::check::Pair) -> Option<Outcome>,
) -> Set {
    let pairs = results.walked.pairs.iter();
    let runs = pairs.filter_map(|pair| {
        let place = &pair.place;
        let job = Job {
            scenario: place.scenario.clone(),
            kernel: place.kernel.clone(),
            topology: place.topology.clone(),
            seed: pair.seed,
        };
        let kernel = Some(place.kernel.id.clone());
        let key = (
            job.scenario.clone(),
            kernel,
            job.topology.clone(),
            pair.seed,
        );
        Some((key, (job, outcome(pair)?)))
    });
    Set {
        side,
        version: results.asked.version.clone(),
        settings: results.asked.machine(),
        runs: runs.collect(),
    }
}

impl Set {
    /// Returns the id of the kernel of all runs; `None` if there are several kernels or no runs.
    fn kernel(&self) -> Option<&str> {
        let mut kernels = self.runs.values().map(|(job, _)| job.kernel.id.as_str());
        let first = kernels.next()?;
        kernels.all(|other| other == first).then_some(first)
    }

    /// Pairs runs by scenario, kernel, shape and seed, for these `scenarios`, or for all scenarios if the list is empty. If each
    /// side has a single kernel, and these differ, the kernel is left out.
    ///
    /// # Errors
    ///
    /// The files were written by different versions of this command, their machines had different settings, or they have no
    /// run in common.
    pub fn pair_with(self, other: Self, scenarios: &[String]) -> Result<Pairs> {
        ensure!(
            self.version == other.version,
            "A was run by version {} of this command, and B by {}: scenarios and metrics may have changed between them, so check \
             both again with the same version",
            self.version,
            other.version
        );
        if let Some(difference) = difference(["A", "B"], &self.settings, &other.settings) {
            bail!(
                "the machines of A and B had different settings, which change the numbers of both schedulers: {difference}; check \
                 both again with the same settings"
            );
        }
        // If each file is of a single kernel and these differ, runs on different kernels are paired.
        let across = match (self.kernel(), other.kernel()) {
            (Some(a), Some(b)) => a != b,
            _ => false,
        };
        let is_asked = |scenario: &String| scenarios.is_empty() || scenarios.contains(scenario);
        let mut b: BTreeMap<Key, (Job, Outcome)> = BTreeMap::new();
        for ((scenario, kernel, shape, seed), run) in other.runs {
            if is_asked(&scenario) {
                b.insert((scenario, kernel.filter(|_| !across), shape, seed), run);
            }
        }
        let (mut pairs, mut only_a) = (Vec::new(), 0);
        for ((scenario, kernel, shape, seed), (mut job, ours)) in self.runs {
            if !is_asked(&scenario) {
                continue;
            }
            match b.remove(&(scenario, kernel.filter(|_| !across), shape, seed)) {
                Some((theirs, outcome)) => {
                    if across {
                        let (from, to) = (&job.kernel.release, theirs.kernel.release);
                        job.kernel.release = format!("{from} to {to}");
                    }
                    pairs.push((job, ours, outcome));
                }
                None => only_a += 1,
            }
        }
        let alone = [only_a, b.len() as u64];
        ensure!(
            !pairs.is_empty(),
            "A and B have no run in common, that is, no scenario on the same kernel and shape with the same seed ({} in A alone, \
             {} in B alone)",
            counted(alone[0], "run"),
            alone[1]
        );
        Ok(Pairs { pairs, alone })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::results;

    fn write(folder: &Path, name: &str, change: impl Fn(&mut Results)) -> String {
        let mut stored = results();
        change(&mut stored);
        let path = folder.join(name);
        std::fs::write(&path, stored.text().expect("text")).expect("written");
        path.display().to_string()
    }

    fn pairs(a: &str, b: &str, scenarios: &[String]) -> Result<Pairs> {
        let [a, b] = read(a, b)?;
        a.pair_with(b, scenarios)
    }

    #[test]
    fn a_pair_is_a_place_and_a_seed_that_both_have() {
        let folder = tempfile::tempdir().expect("a folder");
        let a = write(folder.path(), "a", |_| {});
        let b = write(folder.path(), "b", |stored| {
            stored.walked.pairs.remove(0);
        });
        let all = pairs(&a, &b, &[]).expect("pairs");
        assert_eq!((all.pairs.len(), all.alone), (4, [1, 0]));
        let some = pairs(&b, &a, &["steady".to_owned()]).expect("pairs");
        assert_eq!((some.pairs.len(), some.alone), (1, [0, 1]));
        assert_eq!(some.pairs[0].0.seed, 2);
        // EEVDF's runs are in the same file as the scheduler's.
        let held = pairs("eevdf", &a, &[]).expect("pairs");
        assert_eq!(held.pairs.len(), 5);
    }

    #[test]
    fn two_kernels_are_compared_across() {
        let folder = tempfile::tempdir().expect("a folder");
        let a = write(folder.path(), "a", |_| {});
        let b = write(folder.path(), "b", |stored| {
            for pair in &mut stored.walked.pairs {
                pair.place.kernel.id = "7.4.0-cd".to_owned();
                pair.place.kernel.release = "7.4.0".to_owned();
            }
        });
        let across = pairs(&a, &b, &[]).expect("pairs");
        assert_eq!(across.pairs.len(), 5);
        assert_eq!(across.pairs[0].0.kernel.release, "7.3.4 to 7.4.0");
    }

    #[test]
    fn what_cannot_be_paired_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let a = write(folder.path(), "a", |_| {});
        let none = write(folder.path(), "none", |stored| {
            for pair in &mut stored.walked.pairs {
                pair.seed += 100;
            }
        });
        let newer = write(folder.path(), "newer", |stored| {
            stored.asked.version.push('9')
        });
        let larger = write(folder.path(), "larger", |stored| {
            stored.asked.again.memory_mib = Some(2048);
        });
        let turns = write(folder.path(), "turns", |stored| {
            let turn = ("KTSTR_TURN_US".to_owned(), "50".to_owned());
            stored.asked.settings.extend([turn]);
        });
        let error = |a: &str, b: &str| format!("{:#}", pairs(a, b, &[]).expect_err("none"));
        assert!(error(&a, &none).contains("no run in common"));
        assert!(error(&a, &larger).contains("--memory-mib was not set in A, and 2048 in B"));
        assert!(error(&turns, &a).contains("KTSTR_TURN_US was 50 in A, and not set in B"));
        assert!(error(&a, &newer).contains("was run by version 1.2.3 of"));
        assert!(error(&a, "./scx_mine").contains("./scx_mine is not: compare two"));
        let cut = folder.path().join("cut");
        std::fs::write(&cut, "{\"format\":").expect("written");
        let cut = cut.display().to_string();
        assert!(error(&a, &cut).contains("ends in the middle"));
    }
}
