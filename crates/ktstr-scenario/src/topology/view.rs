//! The topology of a running system as data, created from sysfs (`system.rs`) or from a declared topology, and the set
//! arithmetic on it.

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
    /// Creates an LLC of node `numa_node` with these cores, as a map from a core's id to its CPUs. `cache_size_kib` is `None`
    /// if the size is unknown.
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

    /// Returns the CPUs that share the cache, in ascending order.
    pub fn cpus(&self) -> &[usize] {
        &self.cpus
    }

    /// Returns the number of the NUMA node that has the cache; 0 if the kernel has no NUMA support.
    pub fn numa_node(&self) -> usize {
        self.numa_node
    }

    /// Returns the size of the cache in KiB; `None` if it is unknown.
    pub fn cache_size_kib(&self) -> Option<u64> {
        self.cache_size_kib
    }

    /// Returns the cores under the cache, as a map from a core's id to its CPUs (SMT siblings).
    pub fn cores(&self) -> &BTreeMap<usize, Vec<usize>> {
        &self.cores
    }

    /// Returns the number of cores under the cache.
    pub fn num_cores(&self) -> usize {
        self.cores.len()
    }
}

/// The memory of a node (`/sys/devices/system/node/node*/meminfo`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeMemInfo {
    /// The total memory of the node in KiB.
    pub total_kib: u64,
    /// The free memory of the node in KiB.
    pub free_kib: u64,
}

/// One NUMA node of the running system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// The memory of the node; `None` if it is unknown.
    pub meminfo: Option<NodeMemInfo>,
    /// The distances to all nodes by their numbers, the node itself included; empty if they are unknown.
    pub distances: BTreeMap<usize, u8>,
}

/// The CPUs, caches and nodes of a running system, or of the guest that a declared topology describes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestTopology {
    cpus: Vec<usize>,
    llcs: Vec<LlcInfo>,
    nodes: BTreeMap<usize, NodeInfo>,
}

impl TestTopology {
    /// Creates a topology from LLCs in order and nodes by number. If an LLC names a node that `nodes` lacks, the node is added,
    /// with its memory and distances unknown.
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

    /// Returns the topology that a guest with the declared topology should see. Memory is known only for declared nodes.
    pub fn from_vm_topology(topology: &Topology) -> Self {
        Self::from_vm_topology_with_memory(topology, None)
    }

    /// Like [`Self::from_vm_topology`], but nodes whose memory is not declared have equal shares of `memory_mib`.
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

    /// Returns the number of CPUs.
    pub fn total_cpus(&self) -> usize {
        self.cpus.len()
    }

    /// Returns the number of LLCs.
    pub fn num_llcs(&self) -> usize {
        self.llcs.len()
    }

    /// Returns the number of NUMA nodes, memory-only nodes included.
    pub fn num_numa_nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Returns the shape in the text form of a declared shape, such as `1n2l4c2t`; see the `Display` of [`Topology`].
    ///
    /// # Errors
    /// A message if there is no core, or if cores have different numbers of threads, because such a shape has no text form.
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

    /// Returns the numbers of the NUMA nodes.
    pub fn numa_node_ids(&self) -> BTreeSet<usize> {
        self.nodes.keys().copied().collect()
    }

    /// Returns the LLCs in the order of their indices.
    pub fn llcs(&self) -> &[LlcInfo] {
        &self.llcs
    }

    /// Returns the numbers of all CPUs in ascending order, including the CPU that is reserved for the harness.
    pub fn all_cpus(&self) -> &[usize] {
        &self.cpus
    }

    /// Returns the numbers of all CPUs as a set.
    pub fn all_cpuset(&self) -> BTreeSet<usize> {
        self.cpus.iter().copied().collect()
    }

    /// Returns the CPUs from which partitions are made. If there are more than two CPUs, the last one is left out, because it is
    /// reserved for the harness.
    pub fn usable_cpus(&self) -> &[usize] {
        match self.cpus.split_last() {
            Some((_, rest)) if rest.len() >= 2 => rest,
            _ => &self.cpus,
        }
    }

    /// Returns [`Self::usable_cpus`] as a set.
    pub fn usable_cpuset(&self) -> BTreeSet<usize> {
        self.usable_cpus().iter().copied().collect()
    }

    /// Returns the CPUs of the LLC at index `llc`; empty if there is no such LLC.
    pub fn cpus_in_llc(&self, llc: usize) -> &[usize] {
        self.llcs.get(llc).map_or(&[], LlcInfo::cpus)
    }

    /// Returns the CPUs of the LLC at index `llc` as a set; empty if there is no such LLC.
    pub fn llc_aligned_cpuset(&self, llc: usize) -> BTreeSet<usize> {
        self.cpus_in_llc(llc).iter().copied().collect()
    }

    /// Returns the CPUs of node `node`; empty if the node has none or does not exist.
    pub fn numa_aligned_cpuset(&self, node: usize) -> BTreeSet<usize> {
        self.llcs
            .iter()
            .filter(|llc| llc.numa_node == node)
            .flat_map(|llc| llc.cpus.iter().copied())
            .collect()
    }

    /// Returns the nodes of the LLCs that have at least one of these CPUs.
    pub fn numa_nodes_for_cpuset(&self, cpus: &BTreeSet<usize>) -> BTreeSet<usize> {
        self.llcs
            .iter()
            .filter(|llc| llc.cpus.iter().any(|cpu| cpus.contains(cpu)))
            .map(|llc| llc.numa_node)
            .collect()
    }

    /// Returns the memory of node `node`; `None` if it is unknown or there is no such node.
    pub fn node_meminfo(&self, node: usize) -> Option<&NodeMemInfo> {
        self.nodes.get(&node)?.meminfo.as_ref()
    }

    /// Returns the distance from node `a` to node `b`; if it is unknown, 10 within a node and 20 between two nodes.
    pub fn numa_distance(&self, a: usize, b: usize) -> u8 {
        self.nodes
            .get(&a)
            .and_then(|node| node.distances.get(&b).copied())
            .unwrap_or(if a == b { 10 } else { 20 })
    }

    /// Returns whether node `node` exists and has no CPU.
    pub fn is_memory_only(&self, node: usize) -> bool {
        self.nodes.contains_key(&node) && self.llcs.iter().all(|llc| llc.numa_node != node)
    }

    /// Returns the CPUs of each LLC as a set, in the order of the LLCs.
    pub fn split_by_llc(&self) -> Vec<BTreeSet<usize>> {
        (0..self.llcs.len())
            .map(|llc| self.llc_aligned_cpuset(llc))
            .collect()
    }

    /// Divides the usable CPUs into `of` equal parts (the last takes the remainder), and widens each by the fraction `frac` of
    /// its length on both sides, within the usable CPUs. `frac` is clamped to 0..=1. The result is empty if `of` is 0 or
    /// larger than the number of usable CPUs.
    pub fn overlapping_cpusets(&self, of: usize, frac: f64) -> Vec<BTreeSet<usize>> {
        (0..of)
            .map_while(|index| self.partition(index, of, frac))
            .collect()
    }

    /// Returns part `index` of `of`, widened by `frac`; `None` if there is no such part, or if there are fewer usable
    /// CPUs than parts.
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

    /// Returns the hardware threads of the core of CPU `cpu`, the CPU itself included; empty if there is no such CPU.
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
