//! Reads the topology of the running system from sysfs
//! (Documentation/ABI/stable/sysfs-devices-system-cpu, -node).
//!
//! Cores and LLCs are numbered in the order of their first CPUs, like those of a declared topology, so that a topology that was
//! read can be compared with a declared one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::cpulist::{CpuListError, parse_cpulist};
use super::view::{LlcInfo, NodeInfo, NodeMemInfo, TestTopology};

/// Why a topology could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SysfsError {
    /// A required file could not be read.
    #[error("cannot read {path:?}: {cause}; is sysfs mounted?")]
    Read {
        /// The file, below `/sys/devices/system`.
        path: PathBuf,
        /// The error of the system call.
        cause: std::io::Error,
    },
    /// A file does not contain a list of CPUs or nodes.
    #[error("{path:?} holds no list of numbers: {cause}")]
    List {
        /// The file, below `/sys/devices/system`.
        path: PathBuf,
        /// What is wrong with it.
        cause: CpuListError,
    },
    /// The file that lists the online CPUs is empty.
    #[error("{path:?} lists no CPU")]
    NoCpu {
        /// The file that lists the online CPUs.
        path: PathBuf,
    },
}

impl TestTopology {
    /// Reads the topology of the running system from `/sys/devices/system`. In a test function, that is the guest.
    ///
    /// # Errors
    /// [`SysfsError`] if sysfs is not mounted, no CPU is listed as online, a required list of CPUs or nodes is missing, or a list
    /// that exists is malformed.
    pub fn from_system() -> Result<Self, SysfsError> {
        read_at(Path::new("/sys"))
    }
}

/// Reads the topology of the system whose sysfs is mounted, or imitated for a test, at `sys`.
fn read_at(sys: &Path) -> Result<TestTopology, SysfsError> {
    let base = sys.join("devices/system/cpu");
    let online = list(&base.join("online"))?;
    if online.is_empty() {
        return Err(SysfsError::NoCpu {
            path: base.join("online"),
        });
    }
    let nodes = nodes(&sys.join("devices/system/node"))?;
    let node_of = |cpu: usize| {
        nodes
            .iter()
            .find(|(_, node)| node.cpus.contains(&cpu))
            .map_or(0, |(id, _)| *id)
    };
    let core_ids = cores(&base, &online)?;
    let mut llcs = Vec::new();
    let mut left = online.clone();
    while let Some(first) = left.first().copied() {
        let cache = last_level(&base, first);
        let mut cpus = shared(&base, first, cache.as_deref())?;
        cpus.retain(|cpu| left.contains(cpu));
        cpus.insert(first);
        let mut cores: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for cpu in &cpus {
            left.remove(cpu);
            let core = core_ids.get(cpu).copied().unwrap_or(0);
            cores.entry(core).or_default().push(*cpu);
        }
        let size = cache.and_then(|dir| size_kib(&text(&dir.join("size")).ok()?));
        llcs.push(LlcInfo::new(node_of(first), size, cores));
    }
    let nodes = nodes.into_iter().map(|(id, n)| (id, n.info)).collect();
    Ok(TestTopology::from_parts(llcs, nodes))
}

struct Node {
    cpus: BTreeSet<usize>,
    info: NodeInfo,
}

fn text(path: &Path) -> Result<String, SysfsError> {
    std::fs::read_to_string(path).map_err(|cause| SysfsError::Read {
        path: path.to_owned(),
        cause,
    })
}

fn list(path: &Path) -> Result<BTreeSet<usize>, SysfsError> {
    parse_cpulist(text(path)?.trim()).map_err(|cause| SysfsError::List {
        path: path.to_owned(),
        cause,
    })
}

/// Returns a map from each online CPU to the sequential number of its core.
fn cores(base: &Path, online: &BTreeSet<usize>) -> Result<BTreeMap<usize, usize>, SysfsError> {
    let mut ids = BTreeMap::new();
    let mut next = 0;
    for cpu in online {
        if ids.contains_key(cpu) {
            continue;
        }
        let path = base.join(format!("cpu{cpu}/topology/thread_siblings_list"));
        let mut siblings = if path.exists() {
            list(&path)?
        } else {
            BTreeSet::new()
        };
        siblings.insert(*cpu);
        for sibling in siblings.intersection(online) {
            ids.insert(*sibling, next);
        }
        next += 1;
    }
    Ok(ids)
}

/// Returns the folder of a CPU's highest-level data or unified cache; `None` if sysfs has no caches for the CPU.
fn last_level(base: &Path, cpu: usize) -> Option<PathBuf> {
    let cache = base.join(format!("cpu{cpu}/cache"));
    (0..16)
        .map(|index| cache.join(format!("index{index}")))
        .filter_map(|dir| {
            let level: u32 = text(&dir.join("level")).ok()?.trim().parse().ok()?;
            let kind = text(&dir.join("type")).unwrap_or_default();
            (kind.trim() != "Instruction").then_some((level, dir))
        })
        .max_by_key(|(level, _)| *level)
        .map(|(_, dir)| dir)
}

/// Returns the CPUs that share `cpu`'s last-level cache. Without a cache in sysfs, returns the CPUs of its package, or all online
/// CPUs if sysfs has no packages either.
fn shared(base: &Path, cpu: usize, cache: Option<&Path>) -> Result<BTreeSet<usize>, SysfsError> {
    if let Some(dir) = cache {
        return list(&dir.join("shared_cpu_list"));
    }
    let package = base.join(format!("cpu{cpu}/topology/package_cpus_list"));
    if package.exists() {
        list(&package)
    } else {
        list(&base.join("online"))
    }
}

/// Parses the size of a cache, such as `16384K` or `16M`, to KiB; `None` for any other text.
fn size_kib(text: &str) -> Option<u64> {
    let text = text.trim();
    let (number, factor) = match text.strip_suffix('K') {
        Some(number) => (number, 1),
        None => (text.strip_suffix('M')?, 1024),
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Reads all online nodes. The map is empty on a kernel without NUMA.
fn nodes(base: &Path) -> Result<BTreeMap<usize, Node>, SysfsError> {
    let online = base.join("online");
    if !online.exists() {
        return Ok(BTreeMap::new());
    }
    let ids = list(&online)?;
    let mut nodes = BTreeMap::new();
    for id in &ids {
        let dir = base.join(format!("node{id}"));
        let distances = text(&dir.join("distance")).unwrap_or_default();
        // The file has one number for each online node, in the order of the node ids.
        let distances = ids
            .iter()
            .copied()
            .zip(distances.split_whitespace().filter_map(|d| d.parse().ok()))
            .collect();
        let info = NodeInfo {
            meminfo: text(&dir.join("meminfo")).ok().and_then(|t| meminfo(&t)),
            distances,
        };
        let cpus = list(&dir.join("cpulist"))?;
        nodes.insert(*id, Node { cpus, info });
    }
    Ok(nodes)
}

/// Parses lines of the form `Node 0 MemTotal:  16384 kB`. Returns `None` if the total or the free memory is missing.
fn meminfo(text: &str) -> Option<NodeMemInfo> {
    let value = |key: &str| {
        let line = text.lines().find(|line| line.contains(key))?;
        line.split_once(':')?
            .1
            .split_whitespace()
            .next()?
            .parse::<u64>()
            .ok()
    };
    Some(NodeMemInfo {
        total_kib: value("MemTotal:")?,
        free_kib: value("MemFree:")?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::topology::Topology;

    /// Writes the sysfs of a machine of two nodes with one LLC each, and two cores of two threads under each LLC.
    fn fixture() -> tempfile::TempDir {
        let tmp = tempfile::tempdir().unwrap();
        let put = |path: String, text: &str| {
            let path = tmp.path().join("devices/system").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("cpu/online".into(), "0-7\n");
        put("node/online".into(), "0-1\n");
        for cpu in 0..8 {
            let (llc, core) = (cpu / 4 * 4, cpu / 2 * 2);
            let dir = format!("cpu/cpu{cpu}");
            put(
                format!("{dir}/topology/thread_siblings_list"),
                &format!("{core}-{}\n", core + 1),
            );
            for (index, level, kind, cpus) in [
                (0, 1, "Data", format!("{core}-{}", core + 1)),
                (1, 1, "Instruction", format!("{core}-{}", core + 1)),
                (3, 3, "Unified", format!("{llc}-{}", llc + 3)),
            ] {
                put(
                    format!("{dir}/cache/index{index}/level"),
                    &format!("{level}\n"),
                );
                put(format!("{dir}/cache/index{index}/type"), kind);
                put(format!("{dir}/cache/index{index}/shared_cpu_list"), &cpus);
                put(format!("{dir}/cache/index{index}/size"), "16384K\n");
            }
        }
        for (node, cpus, distance) in [(0, "0-3\n", "10 21\n"), (1, "4-7\n", "21 10\n")] {
            put(format!("node/node{node}/cpulist"), cpus);
            put(format!("node/node{node}/distance"), distance);
            put(
                format!("node/node{node}/meminfo"),
                &format!("Node {node} MemTotal:  4096 kB\nNode {node} MemFree:   1024 kB\n"),
            );
        }
        tmp
    }

    #[test]
    fn reads_what_was_declared() {
        let tmp = fixture();
        let found = read_at(tmp.path()).unwrap();
        let declared = TestTopology::from_vm_topology(&Topology::new(2, 2, 2, 2));
        assert_eq!(found.all_cpus(), declared.all_cpus());
        assert_eq!(found.split_by_llc(), declared.split_by_llc());
        for (a, b) in found.llcs().iter().zip(declared.llcs()) {
            assert_eq!((a.cores(), a.numa_node()), (b.cores(), b.numa_node()));
            assert_eq!(a.cache_size_kib(), Some(16384));
        }
        assert_eq!(found.numa_distance(0, 1), 21);
        assert_eq!(found.node_meminfo(1).unwrap().free_kib, 1024);
    }

    #[test]
    fn offline_cpus_are_left_out() {
        let tmp = fixture();
        let online = tmp.path().join("devices/system/cpu/online");
        std::fs::write(&online, "0,2-5\n").unwrap();
        let found = read_at(tmp.path()).unwrap();
        assert_eq!(found.all_cpus(), [0, 2, 3, 4, 5]);
        assert_eq!(found.cpus_in_llc(0), [0, 2, 3]);
        std::fs::write(&online, "\n").unwrap();
        assert!(read_at(tmp.path()).is_err());
    }

    #[test]
    fn no_cache_and_no_numa_still_give_a_topology() {
        let tmp = fixture();
        let base = tmp.path().join("devices/system");
        std::fs::remove_dir_all(base.join("node")).unwrap();
        for cpu in 0..8 {
            std::fs::remove_dir_all(base.join(format!("cpu/cpu{cpu}/cache"))).unwrap();
        }
        let found = read_at(tmp.path()).unwrap();
        assert_eq!(found.num_llcs(), 1);
        assert_eq!(found.total_cpus(), 8);
        assert_eq!(found.llcs()[0].cache_size_kib(), None);
    }

    #[test]
    fn this_machine_has_a_topology() {
        let found = TestTopology::from_system().unwrap();
        assert!(found.total_cpus() > 0 && found.num_llcs() > 0);
    }

    #[test]
    fn a_missing_sysfs_is_named() {
        let error = read_at(Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/devices/system/cpu/online"));
    }
}
