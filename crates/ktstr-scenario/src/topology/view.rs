//! The topology of a running system as data. The code that reads sysfs creates it with [`TestTopology::from_parts`]; this
//! module only does set arithmetic on it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::cpulist::cpuset_string;
use super::declared::Topology;

/// One last-level cache and the CPUs that share it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LlcInfo {
    cpus: Vec<usize>,
    numa_node: usize,
    cache_size_kib: Option<u64>,
    cores: BTreeMap<usize, Vec<usize>>,
}

impl LlcInfo {
    /// An LLC of node `numa_node` with the given cores (core id → its CPUs); `cache_size_kib` is `None` if it is not known.
    pub fn new(
        numa_node: usize,
        cache_size_kib: Option<u64>,
        cores: BTreeMap<usize, Vec<usize>>,
    ) -> Self {
        let cpus: BTreeSet<usize> = cores.values().flatten().copied().collect();
        Self {
            cpus: cpus.into_iter().collect(),
            numa_node,
            cache_size_kib,
            cores,
        }
    }

    /// The CPUs that share the cache, ascending.
    pub fn cpus(&self) -> &[usize] {
        &self.cpus
    }

    /// The NUMA node the cache is in.
    pub fn numa_node(&self) -> usize {
        self.numa_node
    }

    /// Size, KiB, when known.
    pub fn cache_size_kib(&self) -> Option<u64> {
        self.cache_size_kib
    }

    /// Core id → the CPUs (SMT siblings) of that core.
    pub fn cores(&self) -> &BTreeMap<usize, Vec<usize>> {
        &self.cores
    }

    /// How many cores are under this cache.
    pub fn num_cores(&self) -> usize {
        self.cores.len()
    }
}

/// Memory of a node (`/sys/devices/system/node/node*/meminfo`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeMemInfo {
    /// All memory of the node, KiB.
    pub total_kib: u64,
    /// Free memory of the node, KiB.
    pub free_kib: u64,
}

/// One NUMA node of the running system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its memory, when known.
    pub meminfo: Option<NodeMemInfo>,
    /// Distances to other nodes (node id → distance), its own included.
    pub distances: BTreeMap<usize, u8>,
}

/// CPUs, caches and nodes of the running system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestTopology {
    cpus: Vec<usize>,
    llcs: Vec<LlcInfo>,
    nodes: BTreeMap<usize, NodeInfo>,
}

impl TestTopology {
    /// Creates a topology from LLCs in order and nodes by id. A node that only an LLC refers to is added without data.
    pub fn from_parts(llcs: Vec<LlcInfo>, mut nodes: BTreeMap<usize, NodeInfo>) -> Self {
        let cpus: BTreeSet<usize> = llcs
            .iter()
            .flat_map(|llc| llc.cpus.iter().copied())
            .collect();
        for llc in &llcs {
            nodes.entry(llc.numa_node).or_default();
        }
        Self {
            cpus: cpus.into_iter().collect(),
            llcs,
            nodes,
        }
    }

    /// Returns the topology that a guest with the declared topology should see, with memory as far as it is declared.
    pub fn from_vm_topology(topology: &Topology) -> Self {
        Self::from_vm_topology_with_memory(topology, None)
    }

    /// Like [`Self::from_vm_topology`], with `memory_mib` spread evenly over nodes whose memory is not declared.
    pub fn from_vm_topology_with_memory(topology: &Topology, memory_mib: Option<u32>) -> Self {
        let mut cpu = 0;
        let mut core_id = 0;
        let mut llcs = Vec::new();
        for llc in 0..topology.llcs {
            let mut cores = BTreeMap::new();
            for _ in 0..topology.cores_in_llc(llc) {
                let threads = topology.threads_per_core as usize;
                cores.insert(core_id, (cpu..cpu + threads).collect());
                core_id += 1;
                cpu += threads;
            }
            let node = topology.numa_node_of(llc).unwrap_or(0) as usize;
            llcs.push(LlcInfo::new(node, None, cores));
        }
        let share = memory_mib.map(|mib| mib / topology.numa_nodes.max(1));
        let nodes = (0..topology.numa_nodes)
            .map(|node| {
                let mib = topology.node_memory_mib(node).or(share);
                let info = NodeInfo {
                    meminfo: mib.map(|mib| NodeMemInfo {
                        total_kib: u64::from(mib) * 1024,
                        free_kib: u64::from(mib) * 1024,
                    }),
                    distances: (0..topology.numa_nodes)
                        .map(|other| (other as usize, topology.distance(node, other)))
                        .collect(),
                };
                (node as usize, info)
            })
            .collect();
        Self::from_parts(llcs, nodes)
    }

    /// How many CPUs there are.
    pub fn total_cpus(&self) -> usize {
        self.cpus.len()
    }

    /// How many LLCs there are.
    pub fn num_llcs(&self) -> usize {
        self.llcs.len()
    }

    /// How many NUMA nodes there are, memory-only ones included.
    pub fn num_numa_nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Returns the shape in the short text form of a declared shape; see [`Topology`].
    ///
    /// # Errors
    /// A sentence, if cores differ in their numbers of threads, which has no text form.
    pub fn short_text(&self) -> Result<String, String> {
        let threads = self.llcs.iter().flat_map(|llc| llc.cores().values());
        let threads: BTreeSet<usize> = threads.map(Vec::len).collect();
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let of_node = |node: &usize| {
            self.llcs
                .iter()
                .filter(|llc| llc.numa_node == *node)
                .count()
        };
        let llcs: Vec<u32> = self
            .nodes
            .keys()
            .map(|node| number(of_node(node)))
            .collect();
        let cores = self.llcs.iter().map(|llc| number(llc.num_cores()));
        match (threads.first(), threads.len()) {
            (Some(threads), 1) => Ok(super::text::short(
                number(self.nodes.len()),
                &llcs,
                &cores.collect::<Vec<_>>(),
                number(*threads),
            )),
            _ => Err(format!("cores have {threads:?} threads")),
        }
    }

    /// Ids of the NUMA nodes, ascending.
    pub fn numa_node_ids(&self) -> BTreeSet<usize> {
        self.nodes.keys().copied().collect()
    }

    /// The LLCs in order.
    pub fn llcs(&self) -> &[LlcInfo] {
        &self.llcs
    }

    /// Returns the numbers of all CPUs, ascending, the one that is reserved for the harness included.
    pub fn all_cpus(&self) -> &[usize] {
        &self.cpus
    }

    /// All CPUs as a set.
    pub fn all_cpuset(&self) -> BTreeSet<usize> {
        self.cpus.iter().copied().collect()
    }

    /// Returns the CPUs from which partitions are made: all, except the last one if there are more than two, which is reserved
    /// for the harness.
    pub fn usable_cpus(&self) -> &[usize] {
        match self.cpus.split_last() {
            Some((_, rest)) if rest.len() >= 2 => rest,
            _ => &self.cpus,
        }
    }

    /// [`Self::usable_cpus`] as a set.
    pub fn usable_cpuset(&self) -> BTreeSet<usize> {
        self.usable_cpus().iter().copied().collect()
    }

    /// CPUs of the LLC at index `llc`; empty when out of range.
    pub fn cpus_in_llc(&self, llc: usize) -> &[usize] {
        self.llcs.get(llc).map_or(&[], LlcInfo::cpus)
    }

    /// CPUs of the LLC at index `llc` as a set; empty when out of range.
    pub fn llc_aligned_cpuset(&self, llc: usize) -> BTreeSet<usize> {
        self.cpus_in_llc(llc).iter().copied().collect()
    }

    /// CPUs of node `node`; empty when it has none, or does not exist.
    pub fn numa_aligned_cpuset(&self, node: usize) -> BTreeSet<usize> {
        self.llcs
            .iter()
            .filter(|llc| llc.numa_node == node)
            .flat_map(|llc| llc.cpus.iter().copied())
            .collect()
    }

    /// The nodes that the CPUs of a set are in.
    pub fn numa_nodes_for_cpuset(&self, cpus: &BTreeSet<usize>) -> BTreeSet<usize> {
        self.llcs
            .iter()
            .filter(|llc| llc.cpus.iter().any(|cpu| cpus.contains(cpu)))
            .map(|llc| llc.numa_node)
            .collect()
    }

    /// Memory of node `node`, when known.
    pub fn node_meminfo(&self, node: usize) -> Option<&NodeMemInfo> {
        self.nodes.get(&node)?.meminfo.as_ref()
    }

    /// Returns the distance from node `a` to node `b`; if it is not known, 10 to itself and 20 to another node.
    pub fn numa_distance(&self, a: usize, b: usize) -> u8 {
        self.nodes
            .get(&a)
            .and_then(|node| node.distances.get(&b).copied())
            .unwrap_or(if a == b { 10 } else { 20 })
    }

    /// Whether node `node` exists and has no CPU.
    pub fn is_memory_only(&self, node: usize) -> bool {
        self.nodes.contains_key(&node) && self.llcs.iter().all(|llc| llc.numa_node != node)
    }

    /// One set of CPUs for each LLC.
    pub fn split_by_llc(&self) -> Vec<BTreeSet<usize>> {
        (0..self.llcs.len())
            .map(|llc| self.llc_aligned_cpuset(llc))
            .collect()
    }

    /// Divides the usable CPUs into `of` equal parts (the last takes the remainder) and widens each by `frac` of its length on
    /// both sides. The result is empty if `of` is 0 or larger than the number of CPUs.
    pub fn overlapping_cpusets(&self, of: usize, frac: f64) -> Vec<BTreeSet<usize>> {
        (0..of)
            .map_while(|index| self.partition(index, of, frac))
            .collect()
    }

    /// Returns part `index` of `of`, widened by `frac`; `None` if there is no such part.
    pub(crate) fn partition(&self, index: usize, of: usize, frac: f64) -> Option<BTreeSet<usize>> {
        let usable = self.usable_cpus();
        if of == 0 || index >= of || usable.len() < of {
            return None;
        }
        let chunk = usable.len() / of;
        let widen = (chunk as f64 * frac.clamp(0.0, 1.0)).floor() as usize;
        let start = (index * chunk).saturating_sub(widen);
        let end = if index + 1 == of {
            usable.len()
        } else {
            ((index + 1) * chunk + widen).min(usable.len())
        };
        Some(usable.get(start..end)?.iter().copied().collect())
    }

    /// Formats a set in the list format of the kernel: `0-3,5`.
    pub fn cpuset_string(&self, cpus: &BTreeSet<usize>) -> String {
        cpuset_string(cpus)
    }

    /// The hardware threads of the core that CPU `cpu` belongs to, itself included, ascending.
    pub fn smt_siblings(&self, cpu: usize) -> &[usize] {
        self.llcs
            .iter()
            .flat_map(|llc| llc.cores.values())
            .find(|threads| threads.contains(&cpu))
            .map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::super::NumaNode;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn declared_shape_as_a_view() {
        let view = TestTopology::from_vm_topology(&Topology::new(2, 4, 2, 2));
        assert_eq!(view.total_cpus(), 16);
        assert_eq!(view.num_llcs(), 4);
        assert_eq!(view.cpus_in_llc(1), [4, 5, 6, 7]);
        assert_eq!(view.cpus_in_llc(4), [] as [usize; 0]);
        assert_eq!(view.llcs()[1].cores()[&2], [4, 5]);
        assert_eq!(view.smt_siblings(7), [6, 7]);
        assert_eq!(view.cpuset_string(&view.numa_aligned_cpuset(1)), "8-15");
        assert_eq!(
            view.numa_nodes_for_cpuset(&BTreeSet::from([7, 8])),
            BTreeSet::from([0, 1])
        );
        assert_eq!(view.numa_distance(0, 1), 20);
        assert_eq!(view.usable_cpus().len(), 15);
    }

    #[test]
    fn two_cpus_are_both_usable() {
        let usable = |cores| {
            TestTopology::from_vm_topology(&Topology::new(1, 1, cores, 1))
                .usable_cpus()
                .len()
        };
        assert_eq!((usable(1), usable(2), usable(3)), (1, 2, 2));
    }

    #[test]
    fn memory_only_node() {
        static NODES: [NumaNode; 2] = [NumaNode::new(1, 128), NumaNode::new(0, 64)];
        let view = TestTopology::from_vm_topology(&Topology::with_nodes(2, 1, &NODES));
        assert!(view.is_memory_only(1) && !view.is_memory_only(0) && !view.is_memory_only(2));
        assert_eq!(view.node_meminfo(1).map(|m| m.total_kib), Some(64 * 1024));
    }

    proptest! {
        #[test]
        fn partitions_cover_once(cores in 1u32..64, of in 1usize..16) {
            let view = TestTopology::from_vm_topology(&Topology::new(1, 1, cores, 1));
            let parts = view.overlapping_cpusets(of, 0.0);
            if view.usable_cpus().len() < of {
                prop_assert!(parts.is_empty());
            } else {
                prop_assert_eq!(parts.len(), of);
                let all: Vec<usize> = parts.iter().flatten().copied().collect();
                prop_assert_eq!(&all, view.usable_cpus());
            }
        }

        #[test]
        fn widening_only_adds(cores in 4u32..64, of in 1usize..4, frac in 0.0f64..=1.0) {
            let view = TestTopology::from_vm_topology(&Topology::new(1, 1, cores, 1));
            let narrow = view.overlapping_cpusets(of, 0.0);
            let wide = view.overlapping_cpusets(of, frac);
            for (narrow, wide) in narrow.iter().zip(&wide) {
                prop_assert!(narrow.is_subset(wide));
                prop_assert!(wide.is_subset(&view.usable_cpuset()));
            }
        }
    }
}
