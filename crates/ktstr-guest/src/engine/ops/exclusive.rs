//! Writes `cpuset.cpus.exclusive` of all cgroups above one: a partition below the root needs it.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result};
use ktstr_scenario::topology::{cpuset_string, parse_cpulist};

use super::cpuset::EXCLUSIVE;

/// Adds `cpus` to what the cgroups above `dir` hand down. The top of the tree, which has no such file, hands down all.
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
