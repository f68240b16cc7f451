//! Verifier cells: tests for nextest that load the declared schedulers. There is a cell
//! `verifier/SCHEDULER/KERNEL/PRESET` for each scheduler with a binary, each kernel of `KTSTR_KERNEL_LIST` that the
//! scheduler's `kernels` include, and each preset that the scheduler's constraints admit. A cell boots the kernel on that
//! shape, and passes if the scheduler attaches and runs two workers; nothing else is checked.

use std::collections::BTreeSet;
use std::time::Duration;

use ktstr_assert::Assert;
use ktstr_scenario::ops::CgroupDef;
use ktstr_scenario::scheduler::Scheduler;
use ktstr_scenario::topology::{PRESETS, Preset, Topology, TopologyConstraints};

use ktstr_state::env::TOPOLOGY;

use super::kernels::{self, Listed};
use crate::entry::{KTSTR_SCHEDULERS, KTSTR_TESTS, KtstrTestEntry};

/// What the names of cells begin with.
pub(super) const PREFIX: &str = "verifier/";

/// The test that the guest of a cell runs. It is registered because the guest finds its test by name.
#[linkme::distributed_slice(KTSTR_TESTS)]
static CELL: KtstrTestEntry = KtstrTestEntry {
    name: ktstr_record::VERIFIER_CELL,
    func: |ctx| {
        let works = CgroupDef::named("verify").workers(2);
        ktstr_guest::engine::execute_defs(ctx, vec![works])
    },
    duration: Duration::from_millis(300),
    assert: Assert::NO_OVERRIDES.without_defaults(),
    fresh_attach: true,
    ..KtstrTestEntry::DEFAULT
};

/// Returns the names of all cells; an empty list without `KTSTR_KERNEL_LIST`. An error names a declaration or an element of the
/// variable that cannot be used.
pub(super) fn names() -> Result<Vec<String>, String> {
    let kernels = kernels::listed()?;
    let mut names = Vec::new();
    let schedulers = KTSTR_SCHEDULERS.iter().copied();
    // A scheduler with a `config_file_def` needs a configuration, which only a declared test can give it, so there are no cells
    // for it.
    let loads = |scheduler: &&Scheduler| {
        scheduler.binary.has_bpf_scheduler() && scheduler.config_file_def.is_none()
    };
    let mut known = BTreeSet::new();
    for scheduler in schedulers.filter(loads) {
        // Of several schedulers with the same name only the first can be loaded, because `find_scheduler` returns that one.
        if !known.insert(scheduler.name) {
            if !kernels.is_empty() {
                eprintln!(
                    "ktstr: warning: this binary declares several schedulers with the name {:?}, of which only the first is loaded: \
                     rename the others",
                    scheduler.name
                );
            }
            continue;
        }
        let presets = presets(scheduler)?;
        for kernel in &kernels {
            if !wants(scheduler, &kernel.label)? {
                continue;
            }
            let cell = |preset: &&Preset| {
                format!(
                    "{PREFIX}{}/{}/{}",
                    scheduler.name, kernel.label, preset.name
                )
            };
            names.extend(presets.iter().map(cell));
        }
    }
    Ok(names)
}

/// Returns the presets that meet the minima of the scheduler's constraints, and have SMT if the scheduler requires it,
/// without the presets that it excludes. An error names an excluded preset that does not exist.
fn presets(scheduler: &Scheduler) -> Result<Vec<&'static Preset>, String> {
    let excluded = scheduler.verifier_exclude_topologies;
    let known = |name: &&&str| PRESETS.iter().any(|preset| preset.name == **name);
    if let Some(unknown) = excluded.iter().find(|name| !known(name)) {
        let all: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
        return Err(format!(
            "scheduler {:?}: verifier_exclude_topologies has {unknown:?}, which is no preset: {}",
            scheduler.name,
            all.join(", ")
        ));
    }
    let admitted = PRESETS.iter().filter(|preset| {
        scheduler.constraints.accepts_verifier(&preset.topology) && !excluded.contains(&preset.name)
    });
    Ok(admitted.collect())
}

/// Returns whether the scheduler's `kernels` include the kernel of this label; an empty list includes all. A label
/// that does not begin with a version, such as `kernel_path_linux_ab12cd`, belongs to every list, because only the user knows
/// the version of that kernel. An error names an element of `kernels` that is no version or range.
fn wants(scheduler: &Scheduler, label: &str) -> Result<bool, String> {
    let label = label.strip_prefix("kernel_").unwrap_or(label);
    let digits = label
        .split(['_', '.', '-'])
        .map_while(|part| part.parse().ok());
    let version: Vec<u32> = digits.collect();
    let mut any = scheduler.kernels.is_empty() || version.is_empty();
    for text in scheduler.kernels {
        let range = Range::parse(text).ok_or_else(|| {
            format!(
                "scheduler {:?}: kernels has {text:?}: expected a version such as 6.14, or a range such as 6.15..=7.0",
                scheduler.name
            )
        })?;
        any |= range.holds(&version);
    }
    Ok(any)
}

/// A range of versions. `6.14` on its own, or as the inclusive end of a range, stands for 6.14 and all of its stable releases.
#[derive(Debug, PartialEq)]
struct Range {
    first: Vec<u32>,
    last: Vec<u32>,
    /// Whether `last` and its stable releases belong to the range.
    inclusive: bool,
}

impl Range {
    fn parse(text: &str) -> Option<Self> {
        let version = |text: &str| -> Option<Vec<u32>> {
            let parts = text.trim().split('.').map(|part| part.parse().ok());
            parts.collect()
        };
        let (first, last, inclusive) = match text.split_once("..") {
            None => (text, text, true),
            Some((first, last)) => match last.strip_prefix('=') {
                Some(last) => (first, last, true),
                None => (first, last, false),
            },
        };
        Some(Self {
            first: version(first)?,
            last: version(last)?,
            inclusive,
        })
    }

    fn holds(&self, version: &[u32]) -> bool {
        let from = version >= self.first.as_slice();
        let until = match self.inclusive {
            true => version.starts_with(&self.last) || version < self.last.as_slice(),
            false => version < self.last.as_slice(),
        };
        from && until
    }
}

/// Returns the entry of the cell `SCHEDULER/KERNEL/PRESET`, and its kernel. Instead of a preset, the name may have
/// any shape, such as `1n2l4c1t`. An error names the part of the name that is unknown, or the defect of `KTSTR_KERNEL_LIST`.
pub(super) fn find(name: &str) -> Result<(KtstrTestEntry, Listed), String> {
    let mut parts = name.splitn(3, '/');
    let mut part = || parts.next().unwrap_or_default();
    let (scheduler, label, shape) = (part(), part(), part());
    let declared = crate::entry::find_scheduler(scheduler).ok_or_else(|| {
        format!("{PREFIX}{name}: this binary declares no scheduler {scheduler:?}")
    })?;
    let kernel = kernels::labelled(label).map_err(|why| format!("{PREFIX}{name}: {why}"))?;
    let topology =
        Topology::from_name(shape).map_err(|error| format!("{PREFIX}{name}: {error}"))?;
    // An entry refers to a `'static` scheduler, so this one is leaked. The program runs only this one cell.
    let scheduler = Box::leak(Box::new(Scheduler {
        assert: Assert::NO_OVERRIDES,
        ..*declared
    }));
    let entry = KtstrTestEntry {
        scheduler,
        topology,
        constraints: TopologyConstraints::DEFAULT
            .without_max_cpus()
            .without_max_llcs()
            .without_max_numa_nodes(),
        ..CELL
    };
    Ok((entry, kernel))
}

/// Runs the cell `SCHEDULER/KERNEL/PRESET`, and returns the exit code. It must be called while the process has only one thread.
pub(super) fn run(name: &str) -> i32 {
    match find(name) {
        Ok((entry, kernel)) => {
            // SAFETY: the caller promises that the process has no other thread.
            unsafe {
                kernel.select();
                // The name of the cell determines the shape, so the variable must not override it.
                std::env::remove_var(&TOPOLOGY);
            }
            crate::run::under_nextest_as(&format!("{PREFIX}{name}"));
            let finished = crate::run::run(Box::leak(Box::new(entry)));
            finished.print();
            finished.exit_code()
        }
        Err(why) => {
            eprintln!("ktstr: {why}");
            crate::run::EXIT_FAIL
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_ranges() {
        let holds =
            |range: &str, version: &[u32]| Range::parse(range).expect("a range").holds(version);
        assert!(holds("6.14", &[6, 14]) && holds("6.14", &[6, 14, 3]));
        assert!(!holds("6.14", &[6, 15]) && !holds("6.14", &[6, 1]));
        assert!(holds("6.15..=7.0", &[6, 15]) && holds("6.15..=7.0", &[7, 0, 9]));
        assert!(!holds("6.15..=7.0", &[7, 1]) && !holds("6.15..=7.0", &[6, 14, 99]));
        assert!(holds("6.15..7.0", &[6, 19, 2]) && !holds("6.15..7.0", &[7, 0]));
        for bad in ["", "new", "6.x", "6.14..", "..=7.0", "6.14..=x"] {
            assert_eq!(Range::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_scheduler_has_the_kernels_and_shapes_that_it_declares() {
        const PLAIN: Scheduler = Scheduler::named("x");
        const SOME: Scheduler = PLAIN.kernels(&["6.14", "6.16..=7.0"]);
        for (label, wanted) in [
            ("kernel_6_14_2", true),
            ("kernel_6_15", false),
            ("6.16.1", true),
            ("6.14-rt", true),
            ("kernel_path_linux_ab12cd", true),
        ] {
            assert_eq!(wants(&SOME, label), Ok(wanted), "{label}");
            assert_eq!(wants(&PLAIN, label), Ok(true), "{label}");
        }
        assert!(wants(&PLAIN.kernels(&["new"]), "kernel_7_3").is_err());
        let names = |scheduler: &Scheduler| -> Vec<&str> {
            let all = presets(scheduler).expect("presets");
            all.into_iter().map(|preset| preset.name).collect()
        };
        assert_eq!(names(&PLAIN).len(), PRESETS.len());
        let wide = PLAIN.constraints(TopologyConstraints::DEFAULT.with_min_cpus(200));
        let wide = wide.verifier_exclude_topologies(&["240cpu-15llc-smt", "252cpu-14llc-smt"]);
        assert_eq!(names(&wide), ["240cpu-15llc-nosmt", "252cpu-14llc-nosmt"]);
        let typo = presets(&PLAIN.verifier_exclude_topologies(&["240cpu"]));
        assert!(typo.is_err_and(|why| why.contains("\"240cpu\", which is no preset")));
    }
}
