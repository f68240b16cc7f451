//! A scenario in a file as a test: its settings become those of an entry, and its claims are checked against the results of the
//! run.
//!
//! The settings are the keys of `#[ktstr_test]`, from the macro's own table. The scenario itself is read by
//! [`ktstr_scenario::text`].

mod given;
mod settings;

use ktstr_assert::Phase;
use ktstr_scenario::text::{ScenarioFile, Setting, TextError};
use ktstr_scenario::topology::TestTopology;

use crate::entry::{KtstrTestEntry, TestFn};
use crate::vm_result::VmResult;

/// Returns the test that `file` declares, with this name and body. The texts and lists of the file are leaked, because an
/// entry holds references to static data.
///
/// # Errors
/// Returns a [`TextError`] for an unknown key, for a value that its key does not take, for settings that contradict each
/// other ([`KtstrTestEntry::validate`]), and for a scenario that cannot be run on the machine that the file declares.
pub fn entry(
    file: &ScenarioFile,
    name: &'static str,
    func: TestFn,
) -> Result<KtstrTestEntry, TextError> {
    let entry = settings::apply(
        file,
        KtstrTestEntry {
            name,
            func,
            ..KtstrTestEntry::DEFAULT
        },
    )?;
    entry.validate().map_err(|error| TextError {
        line: 1,
        key: String::new(),
        message: error.to_string(),
    })?;
    fits(file, &entry)?;
    Ok(entry)
}

/// Returns the keys that a file may set at its top, each with its meaning: those of `#[ktstr_test]`, except the few that only a
/// test in Rust can use.
pub fn settings() -> impl Iterator<Item = (&'static str, &'static str)> {
    let item = |key: &str| settings::ITEMS.iter().any(|(item, _)| *item == key);
    settings::KEYS
        .iter()
        .copied()
        .filter(move |(key, _)| !item(key))
}

/// Checks that the file's scenario can be run on the machine of an entry.
///
/// # Errors
/// Returns a [`TextError`] with the line of the error.
pub fn fits(file: &ScenarioFile, entry: &KtstrTestEntry) -> Result<(), TextError> {
    file.validate(&TestTopology::from_vm_topology(&entry.topology))
}

/// Checks the claims of a file against the metrics of a run. A test's `post_vm` calls it, on the host.
///
/// # Errors
/// Returns an error that lists all claims that do not hold, one per line.
pub fn judge(file: &ScenarioFile, vm: &VmResult) -> anyhow::Result<()> {
    let broken: Vec<String> = (file.claims.iter().enumerate())
        .filter_map(|(at, claim)| {
            // The largest step that has a phase stands for all larger ones: no run reaches any of them.
            let phase = Phase::step(u16::try_from(claim.step).unwrap_or(u16::MAX - 1));
            let metric = claim.metric.as_str();
            let value = match &claim.cgroup {
                Some(cgroup) => vm.phase_cgroup_metric(phase, cgroup, metric),
                None => vm.phase_metric(phase, metric),
            };
            let holds = |value: f64| {
                claim.bounds.at_least.is_none_or(|least| value >= least)
                    && claim.bounds.at_most.is_none_or(|most| value <= most)
            };
            let found = match value {
                Some(value) if holds(value) => return None,
                Some(value) => format!("was {value}"),
                None => format!(
                    "metric absent; there are: {}",
                    measured(vm, phase, claim.cgroup.as_deref())
                ),
            };
            let bound =
                |word: &str, bound: Option<f64>| bound.map(|bound| format!("{word} {bound}"));
            let bounds = [
                bound("at least", claim.bounds.at_least),
                bound("at most", claim.bounds.at_most),
            ];
            let bounds: Vec<String> = bounds.into_iter().flatten().collect();
            let of = claim.cgroup.as_deref().unwrap_or("all cgroups");
            Some(format!(
                "claim of line {}: {metric} of {of} in step {}: expected {}, {found}",
                file.line_of_claim(at),
                claim.step,
                bounds.join(" and ")
            ))
        })
        .collect();
    match broken.is_empty() {
        true => Ok(()),
        false => Err(anyhow::anyhow!(broken.join("\n"))),
    }
}

/// Returns a text for a message: the names of the metrics that `cgroup` has in a phase, or that the phase itself has if no
/// cgroup is given. If there is no such phase or cgroup, the text states that. The counters of the workers are not listed,
/// although a claim can be about them.
fn measured(vm: &VmResult, phase: Phase, cgroup: Option<&str>) -> String {
    let buckets = vm.phase_buckets();
    let bucket = buckets
        .iter()
        .find(|bucket| bucket.step_index == phase.as_u16());
    let names: Vec<&str> = match (bucket, cgroup) {
        (None, _) => return "none: the step was not reached".to_owned(),
        (Some(bucket), None) => bucket.metrics.keys().map(String::as_str).collect(),
        (Some(bucket), Some(name)) => match bucket.per_cgroup.get(name) {
            Some(stats) => stats.metrics.keys().map(String::as_str).collect(),
            None => {
                let cgroups: Vec<&str> = bucket.per_cgroup.keys().map(String::as_str).collect();
                return format!(
                    "there is no cgroup {name:?}; the phase has: {}",
                    cgroups.join(", ")
                );
            }
        },
    };
    names.join(", ")
}

/// Creates an error with the line and the key of a setting.
fn wrong(setting: &Setting, message: impl Into<String>) -> TextError {
    TextError {
        line: setting.line,
        key: setting.key.clone(),
        message: message.into(),
    }
}
