// SPDX-License-Identifier: GPL-2.0-only
//! Reads from sysfs which CPUs share a last-level cache.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const CPU_DIR: &str = "/sys/devices/system/cpu";

/// The CPUs and their LLCs. LLCs are numbered from 0 in the order of their first CPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Topology {
    /// The LLC of each CPU, indexed by CPU number. A number without a CPU has LLC 0.
    pub(crate) cpu_llc: Vec<u32>,
    /// Number of LLCs, at least 1.
    pub(crate) nr_llcs: u32,
}

impl Topology {
    /// Reads the topology of the running machine.
    pub(crate) fn read() -> Self {
        Self::read_from(Path::new(CPU_DIR))
    }

    /// Reads the topology from a directory with the layout of [`CPU_DIR`]. CPUs without cache
    /// information, because they are offline or a hypervisor hides it, share one LLC.
    pub(crate) fn read_from(dir: &Path) -> Self {
        let cpus: BTreeMap<usize, Option<String>> = fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name();
                let cpu = name.to_str()?.strip_prefix("cpu")?.parse().ok()?;
                Some((cpu, last_level(&entry.path().join("cache"))))
            })
            .collect();

        let mut llcs: Vec<Option<String>> = Vec::new();
        let mut cpu_llc = Vec::new();
        for (cpu, shared) in cpus {
            let llc = llcs
                .iter()
                .position(|known| *known == shared)
                .unwrap_or_else(|| {
                    llcs.push(shared);
                    llcs.len() - 1
                });
            cpu_llc.resize(cpu, 0);
            cpu_llc.push(llc as u32);
        }
        Self {
            cpu_llc,
            nr_llcs: llcs.len().max(1) as u32,
        }
    }
}

/// Returns the CPUs that share the highest-level cache of a CPU, in the format of sysfs; `None` if
/// sysfs does not describe its caches.
fn last_level(cache: &Path) -> Option<String> {
    fs::read_dir(cache)
        .ok()?
        .flatten()
        .filter_map(|index| {
            let read = |file| fs::read_to_string(index.path().join(file)).ok();
            let level: u32 = read("level")?.trim().parse().ok()?;
            Some((level, read("shared_cpu_list")?.trim().to_owned()))
        })
        .max_by_key(|(level, _)| *level)
        .map(|(_, shared)| shared)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// Creates a fake sysfs. `llcs` has for each CPU the list of CPUs that share its L3, if any.
    fn sysfs(name: &str, llcs: &[Option<&str>]) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("scx-ktstr-{}-{name}", std::process::id()));
        for (cpu, shared) in llcs.iter().enumerate() {
            let cache = dir.join(format!("cpu{cpu}/cache"));
            fs::create_dir_all(&cache).expect("directory");
            let Some(shared) = shared else { continue };
            for (index, level, list) in [(0, 1, format!("{cpu}")), (3, 3, shared.to_string())] {
                let index = cache.join(format!("index{index}"));
                fs::create_dir_all(&index).expect("directory");
                fs::write(index.join("level"), format!("{level}\n")).expect("level");
                fs::write(index.join("shared_cpu_list"), format!("{list}\n")).expect("list");
            }
        }
        fs::create_dir_all(dir.join("cpufreq")).expect("directory");
        dir
    }

    #[test]
    fn cpus_with_one_l3_share_an_llc() {
        let dir = sysfs("two", &[Some("0-1"), Some("0-1"), Some("2-3"), Some("2-3")]);
        let topology = Topology::read_from(&dir);
        fs::remove_dir_all(&dir).expect("clean up");
        assert_eq!(
            topology,
            Topology {
                cpu_llc: vec![0, 0, 1, 1],
                nr_llcs: 2
            }
        );
    }

    #[test]
    fn without_cache_information_there_is_one_llc() {
        let dir = sysfs("none", &[None, None]);
        let topology = Topology::read_from(&dir);
        fs::remove_dir_all(&dir).expect("clean up");
        assert_eq!(
            topology,
            Topology {
                cpu_llc: vec![0, 0],
                nr_llcs: 1
            }
        );
        let nowhere = Topology::read_from(Path::new("/nonexistent"));
        assert_eq!(
            nowhere,
            Topology {
                cpu_llc: vec![],
                nr_llcs: 1
            }
        );
    }
}
