//! Adds CPUs to `cpuset.cpus.exclusive` of every ancestor of a cgroup, which a partition below the root requires.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result};
use ktstr_scenario::topology::{cpuset_string, parse_cpulist};

use super::cpuset::EXCLUSIVE;

/// Adds `cpus` to the exclusive CPUs of each ancestor of `dir`, from the top down.
/// The root cgroup has no such file: all of its CPUs are available to its children.
pub(super) fn hand_down(dir: &Path, cpus: &BTreeSet<usize>) -> Result<()> {
    let above: Vec<_> = dir
        .ancestors()
        .skip(1)
        .map(|above| above.join(EXCLUSIVE))
        .take_while(|file| file.exists())
        .collect();
    for file in above.iter().rev() {
        let old = std::fs::read_to_string(file)?;
        let mut all = parse_cpulist(old.trim()).unwrap_or_default();
        all.extend(cpus);
        std::fs::write(file, cpuset_string(&all))
            .with_context(|| format!("writing {} to {}", cpuset_string(&all), file.display()))?;
    }
    Ok(())
}
