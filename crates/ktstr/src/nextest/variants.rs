//! The names under which nextest sees the tests and their variants:
//!
//! - `ktstr/TEST`: the test as it is declared; `ktstr/TEST/KERNEL` if `KTSTR_KERNEL_LIST` has several kernels.
//! - `gauntlet/TEST/PRESET[/KERNEL][/seed_N]`: the test on another shape, once per preset that its constraints admit, per
//!   kernel if there are several, and per seed of `KTSTR_SEED_LIST` if it is set. These are listed as ignored, so a run includes
//!   them only if they are asked for (`--run-ignored`).
//!
//! A test that runs on the host is listed as `ktstr/TEST`; `host/TEST` runs it, too.
//!
//! The parts of a name are settings that also exist as variables (`KTSTR_TOPOLOGY`, `KTSTR_KERNEL`, `KTSTR_SEED`). A
//! variant sets these in its own process, so its record and its repeat are those of a run with these variables.

use std::collections::BTreeSet;

use ktstr_record::{Family, TestName};
use ktstr_scenario::topology::{PRESETS, Topology};
use ktstr_state::env::{KERNEL_LIST, SEED, SEED_LIST, TOPOLOGY};

use super::kernels::{self, Listed};
use crate::entry::{KTSTR_TESTS, KtstrTestEntry};
use crate::run;

/// A name in the list of tests.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub text: String,
    /// Whether nextest runs the test only with `--run-ignored`.
    pub ignored: bool,
}

/// Returns the names of all tests and of their variants. An error names the variable that cannot be read.
pub(super) fn names() -> Result<Vec<Name>, String> {
    let kernels = kernels::listed()?;
    let list = SEED_LIST.get().map_err(|error| error.to_string())?;
    let seeds = seeds(&list.unwrap_or_default())?;
    let is_hidden = |name: &str| name.starts_with("__unit_test_") && name.ends_with("__");
    let mut names = Vec::new();
    let mut known = BTreeSet::new();
    for entry in KTSTR_TESTS.iter().filter(|entry| !is_hidden(entry.name)) {
        // Of several tests with the same name only the first can run, because `find_test` returns that one.
        if !known.insert(entry.name) {
            eprintln!(
                "ktstr: warning: this binary has several tests with the name {:?}, of which only the first runs: rename the others",
                entry.name
            );
            continue;
        }
        names.extend(base(entry, &kernels));
        names.extend(gauntlet(entry, &kernels, &seeds));
    }
    Ok(names)
}

/// Returns the labels of the kernels as parts of names; the only element is `None` if there is at most one kernel.
fn labels(kernels: &[Listed]) -> Vec<Option<String>> {
    match kernels {
        [] | [_] => vec![None],
        several => several.iter().map(|k| Some(k.label.clone())).collect(),
    }
}

fn base(entry: &KtstrTestEntry, kernels: &[Listed]) -> Vec<Name> {
    let kernels = if entry.host_only { &[] } else { kernels };
    let names = labels(kernels).into_iter().map(|kernel| TestName {
        kernel,
        ..TestName::declared(entry.name)
    });
    let ignored = super::is_ignored_test(entry);
    names
        .map(|name| Name {
            text: name.to_string(),
            ignored,
        })
        .collect()
}

fn gauntlet(entry: &KtstrTestEntry, kernels: &[Listed], seeds: &[u64]) -> Vec<Name> {
    if entry.host_only {
        return Vec::new();
    }
    // Under the virtual clock, a machine can have more CPUs than the host. It is not known here whether a run will have the
    // virtual clock, so the host's size excludes no preset.
    let admitted = PRESETS
        .iter()
        .filter(|preset| !preset.only_loads && entry.constraints.accepts_shape(&preset.topology));
    let seeds: Vec<Option<u64>> = match seeds {
        [] => vec![None],
        seeds => seeds.iter().copied().map(Some).collect(),
    };
    let mut names = Vec::new();
    for preset in admitted {
        for kernel in labels(kernels) {
            for seed in &seeds {
                let name = TestName {
                    family: Family::Gauntlet,
                    shape: Some(preset.name.to_owned()),
                    kernel: kernel.clone(),
                    seed: *seed,
                    ..TestName::declared(entry.name)
                };
                names.push(Name {
                    text: name.to_string(),
                    ignored: true,
                });
            }
        }
    }
    names
}

/// Reads numbers that are separated by commas.
fn seeds(list: &str) -> Result<Vec<u64>, String> {
    let words = list
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty());
    let mut seeds = Vec::new();
    for word in words {
        let seed = word.parse().map_err(|_| {
            format!("{SEED_LIST} has {word:?}: expected seeds separated by commas, such as 1,2,3")
        })?;
        if seeds.contains(&seed) {
            return Err(format!("{SEED_LIST} has the seed {seed} twice"));
        }
        seeds.push(seed);
    }
    Ok(seeds)
}

/// Runs the test or the variant of this name, and returns the exit code. Returns `None` if the name is not one of ktstr's tests.
/// It must be called while the process has only one thread.
pub(super) fn run(name: &str) -> Option<i32> {
    let found = TestName::parse(name)?.and_then(|parts| Ok((find(&parts)?, parts)));
    let ((entry, kernel), parts) = match found {
        Ok(found) => found,
        Err(why) => {
            eprintln!("ktstr: {name}: {why}");
            return Some(run::EXIT_FAIL);
        }
    };
    // SAFETY: the caller promises that the process has no other thread.
    unsafe {
        if let Some(shape) = &parts.shape {
            std::env::set_var(&TOPOLOGY, shape);
        }
        if let Some(seed) = parts.seed {
            std::env::set_var(&SEED, seed.to_string());
        }
        if let Some(kernel) = &kernel {
            kernel.select();
        }
    }
    run::under_nextest_as(name);
    let finished = run::run_and_repeat(entry);
    finished.print();
    Some(finished.exit_code())
}

/// Returns the test that the name stands for, and its kernel if there is a list of kernels. An error names the part of the name
/// that is unknown or missing.
fn find(name: &TestName) -> Result<(&'static KtstrTestEntry, Option<Listed>), String> {
    let test = &name.test;
    let entry = crate::entry::find_test(test)
        .ok_or_else(|| format!("there is no test `ktstr/{test}` in this binary"))?;
    if entry.host_only {
        return match name.is_variant() {
            true => Err("the test runs on the host, so it has no variants".to_owned()),
            false => Ok((entry, None)),
        };
    }
    if name.family == Family::Host {
        let declared = TestName::declared(entry.name);
        return Err(format!(
            "the test runs in a machine: its name is {declared}"
        ));
    }
    if let Some(shape) = &name.shape {
        Topology::from_name(shape).map_err(|error| error.to_string())?;
    }
    let kernel = match (&name.kernel, &kernels::listed()?[..]) {
        (Some(label), _) => Some(kernels::labelled(label)?),
        (None, []) => None,
        (None, [only]) => Some(only.clone()),
        (None, several) => {
            let labels: Vec<&str> = several.iter().map(|k| &*k.label).collect();
            return Err(format!(
                "{KERNEL_LIST} has several kernels, and the name has none: append one of /{}",
                labels.join(", /")
            ));
        }
    };
    Ok((entry, kernel))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ktstr_scenario::topology::TopologyConstraints;

    static ANY: KtstrTestEntry = KtstrTestEntry {
        name: "any",
        ..KtstrTestEntry::DEFAULT
    };
    static FEW: KtstrTestEntry = KtstrTestEntry {
        name: "demo_few",
        constraints: TopologyConstraints::DEFAULT
            .with_min_llcs(2)
            .with_max_cpus(8),
        ..KtstrTestEntry::DEFAULT
    };
    static HOST: KtstrTestEntry = KtstrTestEntry {
        name: "on_host",
        host_only: true,
        ..KtstrTestEntry::DEFAULT
    };

    fn kernel(label: &str) -> Listed {
        Listed {
            label: label.to_owned(),
            request: "/x".to_owned(),
        }
    }

    fn texts(names: Vec<Name>) -> Vec<String> {
        names.into_iter().map(|name| name.text).collect()
    }

    #[test]
    fn a_kernel_is_part_of_the_name_if_there_are_several() {
        let two = [kernel("a"), kernel("b")];
        assert_eq!(texts(base(&ANY, &[])), ["ktstr/any"]);
        assert_eq!(texts(base(&ANY, &two[..1])), ["ktstr/any"]);
        assert_eq!(texts(base(&ANY, &two)), ["ktstr/any/a", "ktstr/any/b"]);
        assert_eq!(texts(base(&HOST, &two)), ["ktstr/on_host"]);
        assert!(base(&FEW, &[]).iter().all(|name| name.ignored));
        assert!(base(&ANY, &two).iter().all(|name| !name.ignored));
    }

    #[test]
    fn the_gauntlet_has_the_presets_that_the_constraints_admit() {
        assert_eq!(
            texts(gauntlet(&FEW, &[kernel("a"), kernel("b")], &[7])),
            [
                "gauntlet/demo_few/4cpu-2llc-nosmt/a/seed_7",
                "gauntlet/demo_few/4cpu-2llc-nosmt/b/seed_7",
                "gauntlet/demo_few/8cpu-2llc-smt/a/seed_7",
                "gauntlet/demo_few/8cpu-2llc-smt/b/seed_7",
            ]
        );
        assert!(gauntlet(&HOST, &[], &[]).is_empty());
        let names = gauntlet(&ANY, &[], &[]);
        assert!(names.iter().all(|name| name.ignored));
        // The default constraints admit at most one node, 12 LLCs and 192 CPUs.
        assert_eq!(names.len(), 15);
    }

    #[test]
    fn seeds_are_numbers() {
        assert_eq!(seeds("1, 20,3"), Ok(vec![1, 20, 3]));
        assert_eq!(seeds(""), Ok(Vec::new()));
        assert!(seeds("1,x").is_err_and(|why| why.contains("\"x\"")));
        assert!(seeds("1,1").is_err_and(|why| why.contains("twice")));
    }
}
