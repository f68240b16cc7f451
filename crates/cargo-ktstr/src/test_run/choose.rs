//! Chooses the tests that `cargo ktstr test` runs: by name, by their last run, by variant, and by shard.

use std::collections::BTreeMap;

use ktstr_record::{Family, TestName};

use super::last_failed::{self, FailedRun};
use crate::check::shard::{self, Machine, Shard};
use crate::explore::target::Binary;

/// A test that is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    pub binary: Binary,
    /// The name under which the binary runs it.
    pub name: TestName,
    /// The seed to run with if this test repeats an earlier, failed run. With `None`, the run has the seed in the name or, if the
    /// name has none, the test's own seed.
    pub seed: Option<u64>,
    /// The environment variables of the run that is repeated, apart from the seed; `None` if the test does not repeat a run.
    pub env: Option<BTreeMap<&'static str, String>>,
}

impl Test {
    /// Returns the name as it is printed. The first part, `ktstr/` or `host/`, is left out, because it says nothing new. The name
    /// of a variant of the gauntlet is printed in full.
    pub fn label(&self) -> String {
        let name = self.name.to_string();
        match (self.name.family, name.split_once('/')) {
            (Family::Gauntlet, _) | (_, None) => name,
            (_, Some((_, rest))) => rest.to_owned(),
        }
    }

    /// Returns the machine on which the test runs, as far as the name tells: a name without a shape stands for the shape that the
    /// test declares, which is not known here.
    fn machine(&self) -> Machine {
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        Machine {
            kernel: part(&self.name.kernel),
            shape: part(&self.name.shape),
        }
    }
}

/// The criteria that select tests from a list.
#[derive(Debug, Default)]
pub struct Choice<'a> {
    /// The label ([`Test::label`]) of a selected test contains one of these texts. Without any texts, all tests are selected.
    pub parts: &'a [String],
    /// Whether the variants of the gauntlet are selected instead of the tests as they are declared.
    pub gauntlet: bool,
    /// The presets whose variants are selected. Without any presets here, the variants on all presets are selected.
    pub presets: &'a [String],
}

impl Choice<'_> {
    /// Returns the tests to run among `names`, the tests that the binary lists. A test that is ignored is chosen only by its
    /// exact name. The binary lists all variants as ignored, so here a variant counts as ignored only if its test is.
    pub fn of(&self, binary: &Binary, names: &[String], ignored: &[String]) -> Vec<Test> {
        let parsed = |names: &[String]| -> Vec<TestName> {
            let names = names.iter().filter_map(|name| TestName::parse(name)?.ok());
            names.collect()
        };
        let ignored: Vec<TestName> = parsed(ignored)
            .into_iter()
            .filter(|name| name.family != Family::Gauntlet)
            .collect();
        let is_ignored = |name: &TestName| ignored.iter().any(|other| other.test == name.test);
        let names = parsed(names).into_iter().filter(|name| {
            let is_asked_for = self.parts.contains(&name.test);
            let is_preset =
                |shape: &String| self.presets.is_empty() || self.presets.contains(shape);
            (name.family == Family::Gauntlet) == self.gauntlet
                && name.shape.as_ref().is_none_or(is_preset)
                && (!is_ignored(name) || is_asked_for)
        });
        let tests = names.map(|name| Test {
            binary: binary.clone(),
            name,
            seed: None,
            env: None,
        });
        tests.filter(|test| self.names(test)).collect()
    }

    /// Returns the tests to run again: those of the `failed` runs that belong to this binary, which lists `names`.
    pub fn again(&self, binary: &Binary, names: &[String], failed: &[FailedRun]) -> Vec<Test> {
        let target = last_failed::target(&binary.path);
        let has = |run: &&FailedRun| {
            let declared = TestName::declared(&run.name.test).to_string();
            (run.target.is_none() || run.target == target) && names.contains(&declared)
        };
        let tests = failed.iter().filter(has).map(|run| Test {
            binary: binary.clone(),
            name: run.name.clone(),
            seed: run.seed,
            env: Some(run.env.clone()),
        });
        tests.filter(|test| self.names(test)).collect()
    }

    fn names(&self, test: &Test) -> bool {
        let label = test.label();
        self.parts.is_empty() || self.parts.iter().any(|part| label.contains(part.as_str()))
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
    use std::path::{Path, PathBuf};

    fn texts(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn binary() -> Binary {
        Binary::at(Path::new("/t/b-0123456789abcdef")).expect("a binary")
    }

    fn listed() -> Vec<String> {
        texts(&[
            "ktstr/fair",
            "gauntlet/fair/a",
            "gauntlet/fair/b",
            "ktstr/fair_slow",
            "gauntlet/fair_slow/a",
            "ktstr/idle",
            "verifier/s/k/a",
            "unit",
        ])
    }

    fn chosen(choice: &Choice) -> Vec<String> {
        let ignored = texts(&[
            "gauntlet/fair/a",
            "gauntlet/fair/b",
            "ktstr/fair_slow",
            "gauntlet/fair_slow/a",
        ]);
        let tests = choice.of(&binary(), &listed(), &ignored).into_iter();
        tests.map(|test| test.label()).collect()
    }

    #[test]
    fn tests_are_chosen_by_name_and_an_ignored_one_by_its_exact_name() {
        let by = |words: &[&str]| {
            let parts = texts(words);
            chosen(&Choice {
                parts: &parts,
                ..Choice::default()
            })
        };
        assert_eq!(by(&[]), ["fair", "idle"]);
        assert_eq!(by(&["air"]), ["fair"]);
        assert_eq!(by(&["fair_slow"]), ["fair_slow"]);
    }

    #[test]
    fn variants_are_chosen_by_preset_and_those_of_an_ignored_test_are_left_out() {
        let mut variants = Choice {
            gauntlet: true,
            ..Choice::default()
        };
        assert_eq!(chosen(&variants), ["gauntlet/fair/a", "gauntlet/fair/b"]);
        let presets = texts(&["b"]);
        variants.presets = &presets;
        assert_eq!(chosen(&variants), ["gauntlet/fair/b"]);
    }

    #[test]
    fn a_failed_run_is_repeated_by_the_binary_that_made_it() {
        let name = |text: &str| TestName::parse(text).and_then(Result::ok).expect(text);
        let run = |target: Option<&str>, text: &str| FailedRun {
            target: target.map(str::to_owned),
            name: name(text),
            seed: Some(7),
            env: BTreeMap::from([("KTSTR_KERNEL", "7.0".to_owned())]),
        };
        let failed = [
            run(Some("b"), "gauntlet/fair/1n1l9c1t/seed_7"),
            run(Some("other"), "ktstr/idle"),
            run(None, "ktstr/fair_slow"),
            run(None, "ktstr/gone"),
        ];
        let again = |parts: &[String]| -> Vec<String> {
            let choice = Choice {
                parts,
                ..Choice::default()
            };
            let tests = choice.again(&binary(), &listed(), &failed);
            let kept = |test: &Test| {
                test.seed == Some(7) && test.env.as_ref().is_some_and(|env| env.len() == 1)
            };
            assert!(tests.iter().all(kept));
            tests.iter().map(Test::label).collect()
        };
        assert_eq!(again(&[]), ["gauntlet/fair/1n1l9c1t/seed_7", "fair_slow"]);
        assert_eq!(again(&texts(&["slow"])), ["fair_slow"]);
        assert!(again(&texts(&["idle"])).is_empty());
    }

    #[test]
    fn shards_have_each_test_once_and_boot_few_machines() {
        let mut all = Vec::new();
        for test in ["x", "y", "z"] {
            for preset in ["4cpu-1llc-nosmt", "8cpu-2llc-smt"] {
                for seed in 1..3 {
                    all.push(Test {
                        binary: Binary {
                            path: PathBuf::new(),
                            folder: None,
                        },
                        name: TestName {
                            family: Family::Gauntlet,
                            shape: Some(preset.to_owned()),
                            seed: Some(seed),
                            ..TestName::declared(test)
                        },
                        seed: None,
                        env: None,
                    });
                }
            }
        }
        let shards = [1, 2].map(|index| of_shard(all.clone(), Shard { index, of: 2 }));
        assert_eq!(shards[0].len() + shards[1].len(), all.len());
        let is_in_one = |test| shards.iter().flatten().any(|one| one == test);
        assert!(all.iter().all(is_in_one));
        let has = |test: &Test, start: &str| {
            let shape = test.name.shape.as_deref();
            shape.is_some_and(|shape| shape.starts_with(start))
        };
        // The division keeps the order of the list, in which the shape with four CPUs is first. Its runs cost less than half of
        // the total, so the first shard has all of them, and only the shape with eight CPUs can be in both shards.
        assert!(shards[0].iter().any(|test| has(test, "4cpu")));
        assert!(shards[1].iter().all(|test| has(test, "8cpu")));
    }
}
