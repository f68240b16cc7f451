//! Which tests `cargo ktstr test` runs: by name, by their last run, by variant, and by shard.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ktstr_record::{Listed, RunRecord, RunVerdict};

use crate::check::shard::{self, Machine, Shard};
use crate::child;

/// The prefix of the names of variants: `gauntlet/TEST/PRESET[/KERNEL][/seed_N]`.
const GAUNTLET: &str = "gauntlet/";

/// A test that is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    pub binary: PathBuf,
    /// The name under which the binary lists it.
    pub name: String,
    /// The seed of the run that is repeated; `None` for the test's own, or the one in the name.
    pub seed: Option<u64>,
}

impl Test {
    /// Returns the name as it is printed: without the prefix that all tests have that are no variants.
    pub fn label(&self) -> &str {
        self.name.strip_prefix(child::TEST).unwrap_or(&self.name)
    }

    /// Returns the machine on which the test runs, as far as the name tells.
    fn machine(&self) -> Machine {
        let mut parts = self.name.split('/').skip(2);
        let shape = match self.name.starts_with(GAUNTLET) {
            true => parts.next().unwrap_or_default().to_owned(),
            // Tests whose name has no shape have different ones, which are not known here.
            false => String::new(),
        };
        let kernel = parts.next().unwrap_or_default().to_owned();
        Machine { kernel, shape }
    }
}

/// The tests whose newest recorded run failed or was inconclusive, by the name under which their binary lists them, with the
/// seed of that run.
pub type Failed = BTreeMap<String, Option<u64>>;

/// Returns the tests whose newest record is of a run that failed or was inconclusive. The newest of the `records` comes first.
pub fn failed(records: &[Listed]) -> Failed {
    let mut newest = BTreeMap::new();
    for Listed { record, .. } in records {
        newest.entry(listed_as(record)).or_insert(record);
    }
    let not_passed = |verdict| matches!(verdict, RunVerdict::Fail | RunVerdict::Inconclusive);
    let failed = newest
        .into_iter()
        .filter(|(_, record)| not_passed(record.verdict));
    failed.map(|(name, record)| (name, record.seed)).collect()
}

/// Returns the name under which a binary lists the test of a record.
fn listed_as(record: &RunRecord) -> String {
    let plain = || format!("{}{}", child::TEST, record.test);
    record.variant.clone().unwrap_or_else(plain)
}

/// What selects tests of a list.
#[derive(Debug, Default)]
pub struct Choice<'a> {
    /// Texts of which a name contains one; any name if there is none.
    pub parts: &'a [String],
    /// Only these tests.
    pub failed: Option<&'a Failed>,
    /// The variants instead of the tests as they are declared.
    pub gauntlet: bool,
    /// Only variants on these presets; all presets if there is none.
    pub presets: &'a [String],
}

impl Choice<'_> {
    /// Returns those of the `names` that a binary lists that are chosen. Tests that are ignored are chosen only if their last run
    /// failed, because somebody asked for that run. All variants are listed as ignored, and count as such if their test is.
    pub fn of(&self, binary: &Path, names: Vec<String>, ignored: &[String]) -> Vec<Test> {
        let tests = names.into_iter().filter_map(|name| {
            let seed = match self.failed {
                Some(failed) => *failed.get(&name)?,
                None if !self.wants(&name, ignored) => return None,
                None => None,
            };
            let test = Test {
                binary: binary.to_owned(),
                name,
                seed,
            };
            let is_named = self.parts.is_empty()
                || self
                    .parts
                    .iter()
                    .any(|part| test.label().contains(part.as_str()));
            is_named.then_some(test)
        });
        tests.collect()
    }

    fn wants(&self, name: &str, ignored: &[String]) -> bool {
        let is_ignored = |name: &str| ignored.iter().any(|other| other == name);
        if !self.gauntlet {
            return name.starts_with(child::TEST) && !is_ignored(name);
        }
        let Some(variant) = name.strip_prefix(GAUNTLET) else {
            return false;
        };
        let mut parts = variant.split('/');
        let test = parts.next().unwrap_or_default();
        let preset = parts.next().unwrap_or_default();
        let plain = format!("{}{test}", child::TEST);
        let of_ignored =
            (ignored.iter()).any(|name| *name == plain || name.starts_with(&format!("{plain}/")));
        !of_ignored && (self.presets.is_empty() || self.presets.iter().any(|p| p == preset))
    }
}

/// Returns the tests of one shard.
pub fn of_shard(tests: Vec<Test>, shard: Shard) -> Vec<Test> {
    let runs: Vec<(Machine, u64)> = tests.iter().map(|test| (test.machine(), 1)).collect();
    let owners = shard::divide(&runs, shard.of);
    let mine = tests.into_iter().zip(owners);
    mine.filter(|(_, owner)| *owner == shard.index)
        .map(|(test, _)| test)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(test: &str, verdict: RunVerdict, seed: u64, variant: Option<&str>) -> Listed {
        Listed {
            record: RunRecord {
                verdict,
                seed: Some(seed),
                variant: variant.map(str::to_owned),
                ..RunRecord::new(test)
            },
            path: PathBuf::new(),
        }
    }

    #[test]
    fn the_newest_run_of_a_test_decides() {
        let wide = Some("gauntlet/mended/4cpu-2llc-nosmt");
        let records = [
            run("mended", RunVerdict::Pass, 1, None),
            run("mended", RunVerdict::Fail, 9, wide),
            run("broken", RunVerdict::Fail, 5, None),
            run("mended", RunVerdict::Fail, 2, None),
            run("broken", RunVerdict::Pass, 3, None),
            run("unknown", RunVerdict::Inconclusive, 4, None),
            run("skipped", RunVerdict::Skip, 4, None),
        ];
        let wanted = [
            ("ktstr/broken", Some(5)),
            ("ktstr/unknown", Some(4)),
            ("gauntlet/mended/4cpu-2llc-nosmt", Some(9)),
        ];
        let wanted: Failed = wanted.map(|(name, seed)| (name.to_owned(), seed)).into();
        assert_eq!(failed(&records), wanted);
        assert_eq!(failed(&[]), Failed::new());
    }

    fn texts(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn chosen(choice: &Choice) -> Vec<(String, Option<u64>)> {
        let names = texts(&[
            "ktstr/fair",
            "gauntlet/fair/a",
            "gauntlet/fair/b",
            "ktstr/fair_slow",
            "gauntlet/fair_slow/a",
            "ktstr/idle",
            "verifier/s/k/a",
            "unit",
        ]);
        let ignored = texts(&[
            "gauntlet/fair/a",
            "gauntlet/fair/b",
            "ktstr/fair_slow",
            "gauntlet/fair_slow/a",
        ]);
        let tests = choice.of(Path::new("b"), names, &ignored).into_iter();
        tests
            .map(|test| (test.label().to_owned(), test.seed))
            .collect()
    }

    #[test]
    fn tests_are_chosen_by_name_and_by_their_last_run() {
        let test = |name: &str, seed| (name.to_owned(), seed);
        let parts = |words: &[&str]| texts(words);
        assert_eq!(
            chosen(&Choice::default()),
            [test("fair", None), test("idle", None)]
        );
        let air = parts(&["air"]);
        let by_name = Choice {
            parts: &air,
            ..Choice::default()
        };
        assert_eq!(chosen(&by_name), [test("fair", None)]);
        let failed = [
            ("ktstr/fair_slow", Some(7)),
            ("gauntlet/fair/b", None),
            ("ktstr/gone", None),
        ];
        let failed: Failed = failed.map(|(name, seed)| (name.to_owned(), seed)).into();
        let mut last = Choice {
            failed: Some(&failed),
            ..Choice::default()
        };
        assert_eq!(
            chosen(&last),
            [test("gauntlet/fair/b", None), test("fair_slow", Some(7))]
        );
        let idle = parts(&["idle"]);
        last.parts = &idle;
        assert!(chosen(&last).is_empty());
    }

    #[test]
    fn variants_are_chosen_by_preset_and_never_of_an_ignored_test() {
        let names = |choice: &Choice| -> Vec<String> {
            chosen(choice).into_iter().map(|(name, _)| name).collect()
        };
        let mut variants = Choice {
            gauntlet: true,
            ..Choice::default()
        };
        assert_eq!(names(&variants), ["gauntlet/fair/a", "gauntlet/fair/b"]);
        let presets = texts(&["b"]);
        variants.presets = &presets;
        assert_eq!(names(&variants), ["gauntlet/fair/b"]);
    }

    #[test]
    fn shards_have_each_test_once_and_boot_few_machines() {
        let names = ["x", "y", "z"].map(|test| {
            ["4cpu-1llc-nosmt", "8cpu-2llc-smt"].map(|preset| format!("gauntlet/{test}/{preset}"))
        });
        let test = |name: String| Test {
            binary: PathBuf::new(),
            name,
            seed: None,
        };
        let all: Vec<Test> = names.concat().into_iter().map(test).collect();
        let shards = [1, 2].map(|index| of_shard(all.clone(), Shard { index, of: 2 }));
        assert_eq!(shards[0].len() + shards[1].len(), all.len());
        assert!(
            all.iter()
                .all(|test| shards.iter().flatten().any(|one| one == test))
        );
        // The three tests on four CPUs cost less than those on eight.
        assert!(shards[0].iter().any(|test| test.name.contains("/4cpu")));
        assert!(shards[1].iter().all(|test| test.name.contains("/8cpu")));
    }
}
