//! The topology that a test declares, and computations on it. All of it is `const`, so that a declaration that cannot be built
//! does not compile.

use super::node::{NumaDistance, NumaNode};
use crate::const_text::ConstText;

/// The CPU topology of the machine that a test declares.
///
/// `llcs` is the total over all nodes. [`Topology::new`] creates an even shape; [`Topology::with_nodes`] creates a shape whose
/// nodes differ in size or have no CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Topology {
    /// The number of last-level caches over all nodes.
    pub llcs: u32,
    /// The number of cores under each LLC, unless `llc_cores` is set.
    pub cores_per_llc: u32,
    /// The number of hardware threads of each core.
    pub threads_per_core: u32,
    /// The number of NUMA nodes, memory-only nodes included.
    pub numa_nodes: u32,
    /// The declarations of the nodes; `None` spreads LLCs and memory evenly.
    pub nodes: Option<&'static [NumaNode]>,
    /// The distances between nodes; `None` is 10 within a node, and 20 between two nodes.
    pub distances: Option<&'static NumaDistance>,
    /// The number of cores of each LLC, if LLCs differ in size; it overrides `cores_per_llc`.
    pub llc_cores: Option<&'static [u32]>,
}

/// Why a topology cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TopologyError {
    /// A dimension is zero.
    #[error("topology: {dimension} is 0, it must be at least 1")]
    Zero {
        /// The name of the field.
        dimension: &'static str,
    },
    /// LLCs cannot be spread evenly over the nodes.
    #[error(
        "topology: llcs = {llcs} cannot be divided by numa_nodes = {numa_nodes}; llcs is the \
         total over all nodes (describe uneven nodes with Topology::with_nodes)"
    )]
    NotMultiple {
        /// The number of LLCs over all nodes.
        llcs: u32,
        /// How many NUMA nodes were asked for.
        numa_nodes: u32,
    },
    /// The number of CPUs overflows.
    #[error("topology: the number of CPUs does not fit in 32 bits")]
    Overflow,
    /// The list `nodes` contradicts the number of nodes or of LLCs.
    #[error("topology: nodes lists {listed} {what}, but the topology has {expected}")]
    Nodes {
        /// What was counted: "nodes" or "LLCs".
        what: &'static str,
        /// The number that results from `nodes`.
        listed: u32,
        /// The number in the field `numa_nodes` or `llcs`.
        expected: u32,
    },
    /// No node has a CPU.
    #[error("topology: every node is memory-only, so there would be no CPU")]
    NoCpu,
    /// A node has no memory.
    #[error("topology: node {node} has no memory")]
    NodeWithoutMemory {
        /// The number of the node.
        node: u32,
    },
    /// A node's HMAT entry is invalid.
    #[error("topology: the HMAT entry of node {node}: {why}")]
    Hmat {
        /// The number of the node.
        node: u32,
        /// What is wrong, and what to declare instead.
        why: &'static str,
    },
    /// The matrix `distances` is for another number of nodes.
    #[error("topology: the distance matrix is for {matrix} nodes, there are {numa_nodes}")]
    Distances {
        /// The number of nodes in the matrix.
        matrix: u32,
        /// The number of NUMA nodes of the topology.
        numa_nodes: u32,
    },
    /// `llc_cores` has the wrong length, or a zero.
    #[error("topology: llc_cores must list a non-zero number of cores for each of {llcs} LLCs")]
    LlcCores {
        /// The number of LLCs over all nodes, which `llc_cores` must have as its length.
        llcs: u32,
    },
}

impl TopologyError {
    /// Panics with a message like that of `Display`, but shorter in places. In a `const` this is a compile error.
    const fn panic(self) -> ! {
        let message = match self {
            Self::Zero { dimension } => ConstText::new()
                .text("topology: ")
                .text(dimension)
                .text(" is 0, it must be at least 1"),
            Self::NotMultiple { llcs, numa_nodes } => ConstText::new()
                .text("topology: llcs = ")
                .number(llcs)
                .text(" cannot be divided by numa_nodes = ")
                .number(numa_nodes)
                .text("; llcs is the total over all nodes"),
            Self::Overflow => ConstText::new().text("topology: too many CPUs"),
            Self::Nodes {
                what,
                listed,
                expected,
            } => ConstText::new()
                .text("topology: nodes lists ")
                .number(listed)
                .text(" ")
                .text(what)
                .text(", but the topology has ")
                .number(expected),
            Self::NoCpu => ConstText::new().text("topology: every node is memory-only"),
            Self::NodeWithoutMemory { node } => ConstText::new()
                .text("topology: no memory in node ")
                .number(node),
            Self::Hmat { node, why } => ConstText::new()
                .text("topology: the HMAT entry of node ")
                .number(node)
                .text(": ")
                .text(why),
            Self::Distances { matrix, numa_nodes } => ConstText::new()
                .text("topology: the distance matrix is for ")
                .number(matrix)
                .text(" nodes, there are ")
                .number(numa_nodes),
            Self::LlcCores { llcs } => ConstText::new()
                .text("topology: llc_cores must list a non-zero number of cores for each of ")
                .number(llcs)
                .text(" LLCs"),
        };
        panic!("{}", message.as_str())
    }
}

impl Topology {
    /// One node, one LLC, two cores, one thread each: the topology of a test that does not declare one.
    pub const DEFAULT: Self = Self::new(1, 1, 2, 1);

    /// The topology of a test that declares no scheduler, which is the same as [`Self::DEFAULT`].
    pub const DEFAULT_FOR_PAYLOAD: Self = Self::DEFAULT;

    /// An even shape: `llcs` in total, `cores` under each LLC, `threads` of each core. The shape is not checked: call
    /// [`Topology::validate`] or [`Topology::checked`].
    pub const fn new(numa_nodes: u32, llcs: u32, cores: u32, threads: u32) -> Self {
        Self {
            llcs,
            cores_per_llc: cores,
            threads_per_core: threads,
            numa_nodes,
            nodes: None,
            distances: None,
            llc_cores: None,
        }
    }

    /// A shape of these nodes, with `cores` under each LLC and `threads` of each core. The shape is not checked.
    pub const fn with_nodes(cores: u32, threads: u32, nodes: &'static [NumaNode]) -> Self {
        let mut llcs = 0u32;
        let mut i = 0;
        while i < nodes.len() {
            llcs = llcs.saturating_add(nodes[i].llcs);
            i += 1;
        }
        let mut topology = Self::new(nodes.len() as u32, llcs, cores, threads);
        topology.nodes = Some(nodes);
        topology
    }

    /// The same shape with a matrix of node distances.
    pub const fn distances(mut self, distances: &'static NumaDistance) -> Self {
        self.distances = Some(distances);
        self
    }

    /// Checks that the shape can be built.
    ///
    /// # Errors
    /// [`TopologyError`] names the first error.
    pub const fn validate(&self) -> Result<(), TopologyError> {
        if self.numa_nodes == 0 {
            return Err(zero("numa_nodes"));
        }
        if self.llcs == 0 {
            return Err(match self.nodes {
                Some(_) => TopologyError::NoCpu,
                None => zero("llcs"),
            });
        }
        if self.threads_per_core == 0 {
            return Err(zero("threads_per_core"));
        }
        if let Some(cores) = self.llc_cores {
            let mut ok = cores.len() == self.llcs as usize;
            let mut i = 0;
            while i < cores.len() {
                ok = ok && cores[i] != 0;
                i += 1;
            }
            if !ok {
                return Err(TopologyError::LlcCores { llcs: self.llcs });
            }
        } else if self.cores_per_llc == 0 {
            return Err(zero("cores_per_llc"));
        }
        if let Err(error) = self.validate_nodes() {
            return Err(error);
        }
        if let Some(distances) = self.distances
            && distances.nodes() != self.numa_nodes
        {
            return Err(TopologyError::Distances {
                matrix: distances.nodes(),
                numa_nodes: self.numa_nodes,
            });
        }
        match self.checked_cpus() {
            Some(_) => Ok(()),
            None => Err(TopologyError::Overflow),
        }
    }

    const fn validate_nodes(&self) -> Result<(), TopologyError> {
        let Some(nodes) = self.nodes else {
            if !self.llcs.is_multiple_of(self.numa_nodes) {
                return Err(TopologyError::NotMultiple {
                    llcs: self.llcs,
                    numa_nodes: self.numa_nodes,
                });
            }
            return Ok(());
        };
        if nodes.len() != self.numa_nodes as usize {
            return Err(TopologyError::Nodes {
                what: "nodes",
                listed: nodes.len() as u32,
                expected: self.numa_nodes,
            });
        }
        let mut llcs = 0u32;
        let mut i = 0;
        while i < nodes.len() {
            if nodes[i].memory_mib == 0 {
                return Err(TopologyError::NodeWithoutMemory { node: i as u32 });
            }
            if let Some(why) = nodes[i].hmat_error(nodes.len()) {
                let node = i as u32;
                return Err(TopologyError::Hmat { node, why });
            }
            llcs = llcs.saturating_add(nodes[i].llcs);
            i += 1;
        }
        if llcs != self.llcs {
            return Err(TopologyError::Nodes {
                what: "LLCs",
                listed: llcs,
                expected: self.llcs,
            });
        }
        Ok(())
    }

    /// Returns the same topology if it can be built. Otherwise it panics, which in a `const` is a compile error.
    ///
    /// # Panics
    /// If [`Topology::validate`] fails; the message names the error and its numbers.
    pub const fn checked(self) -> Self {
        match self.validate() {
            Ok(()) => self,
            Err(error) => error.panic(),
        }
    }

    /// Returns the number of CPUs in total; `None` if it does not fit in 32 bits.
    const fn checked_cpus(&self) -> Option<u32> {
        let cores = match self.llc_cores {
            None => self.llcs.checked_mul(self.cores_per_llc),
            Some(list) => {
                let mut sum = Some(0u32);
                let mut i = 0;
                while i < list.len() {
                    sum = match sum {
                        Some(sum) => sum.checked_add(list[i]),
                        None => None,
                    };
                    i += 1;
                }
                sum
            }
        };
        match cores {
            Some(cores) => cores.checked_mul(self.threads_per_core),
            None => None,
        }
    }

    /// Returns the number of CPUs (hardware threads) in total; `u32::MAX` if it does not fit in 32 bits.
    pub const fn total_cpus(&self) -> u32 {
        match self.checked_cpus() {
            Some(cpus) => cpus,
            None => u32::MAX,
        }
    }

    /// Returns the number of LLCs over all nodes.
    pub const fn num_llcs(&self) -> u32 {
        self.llcs
    }

    /// Returns the number of NUMA nodes, memory-only nodes included.
    pub const fn num_numa_nodes(&self) -> u32 {
        self.numa_nodes
    }

    /// Returns the number of LLCs of node `node`; 0 if the node is memory-only or does not exist.
    pub const fn llcs_in_node(&self, node: u32) -> u32 {
        if node >= self.numa_nodes {
            return 0;
        }
        match self.nodes {
            Some(nodes) if (node as usize) < nodes.len() => nodes[node as usize].llcs,
            Some(_) => 0,
            None => self.llcs / self.numa_nodes,
        }
    }

    /// Returns the index of the first LLC of node `node`. For a node without LLCs, it is the index that its first LLC would have.
    pub const fn first_llc_in_node(&self, node: u32) -> u32 {
        let mut first = 0u32;
        let mut i = 0;
        while i < node && i < self.numa_nodes {
            first = first.saturating_add(self.llcs_in_node(i));
            i += 1;
        }
        first
    }

    /// Returns the number of the node that has LLC `llc`; `None` if there is no such LLC.
    pub const fn numa_node_of(&self, llc: u32) -> Option<u32> {
        let mut first = 0u32;
        let mut node = 0;
        while node < self.numa_nodes {
            first = first.saturating_add(self.llcs_in_node(node));
            if llc < first {
                return Some(node);
            }
            node += 1;
        }
        None
    }

    /// Returns the number of cores under LLC `llc`; 0 if there is no such LLC.
    pub const fn cores_in_llc(&self, llc: u32) -> u32 {
        if llc >= self.llcs {
            return 0;
        }
        match self.llc_cores {
            Some(cores) if (llc as usize) < cores.len() => cores[llc as usize],
            Some(_) => 0,
            None => self.cores_per_llc,
        }
    }

    /// Returns the declared memory of node `node` in MiB; `None` if [`Self::nodes`] is `None` or has no such node.
    pub const fn node_memory_mib(&self, node: u32) -> Option<u32> {
        match self.nodes {
            Some(nodes) if (node as usize) < nodes.len() => Some(nodes[node as usize].memory_mib),
            _ => None,
        }
    }

    /// Returns the declared memory of all nodes in MiB; `None` if [`Self::nodes`] is `None`.
    pub const fn total_node_memory_mib(&self) -> Option<u64> {
        let Some(nodes) = self.nodes else {
            return None;
        };
        let mut sum = 0u64;
        let mut i = 0;
        while i < nodes.len() {
            sum += nodes[i].memory_mib as u64;
            i += 1;
        }
        Some(sum)
    }

    /// Returns the distance from node `i` to node `j` that is described to the guest: by default 10 within a node, and 20
    /// between two nodes.
    pub const fn distance(&self, i: u32, j: u32) -> u8 {
        if let Some(distances) = self.distances
            && let Some(distance) = distances.get(i, j)
        {
            return distance;
        }
        if i == j { 10 } else { 20 }
    }

    /// Returns whether some node has no CPU.
    pub const fn has_memory_only_nodes(&self) -> bool {
        self.cpu_bearing_nodes() < self.numa_nodes
    }

    /// Returns the number of nodes that have CPUs.
    pub const fn cpu_bearing_nodes(&self) -> u32 {
        let Some(nodes) = self.nodes else {
            return self.numa_nodes;
        };
        let mut count = 0;
        let mut i = 0;
        while i < nodes.len() {
            if !nodes[i].is_memory_only() {
                count += 1;
            }
            i += 1;
        }
        count
    }

    /// Returns the position of CPU `cpu`: (LLC, core within the LLC, thread within the core). Use [`Topology::place_of`] if the
    /// CPU may not exist.
    ///
    /// # Panics
    /// If the topology has no such CPU; in a `const` that is a compile error.
    pub const fn decompose(&self, cpu: u32) -> (u32, u32, u32) {
        match self.place_of(cpu) {
            Some(place) => place,
            None => panic!("decompose: the topology has no CPU of this number"),
        }
    }

    /// Returns the position of CPU `cpu`: (LLC, core within the LLC, thread within the core); `None` if there is no such CPU.
    pub const fn place_of(&self, cpu: u32) -> Option<(u32, u32, u32)> {
        if self.threads_per_core == 0 {
            return None;
        }
        let thread = cpu % self.threads_per_core;
        let mut core = cpu / self.threads_per_core;
        if self.llc_cores.is_none() {
            if self.cores_per_llc == 0 || core / self.cores_per_llc >= self.llcs {
                return None;
            }
            return Some((core / self.cores_per_llc, core % self.cores_per_llc, thread));
        }
        let mut llc = 0;
        while llc < self.llcs {
            let cores = self.cores_in_llc(llc);
            if core < cores {
                return Some((llc, core, thread));
            }
            core -= cores;
            llc += 1;
        }
        None
    }
}

impl Default for Topology {
    fn default() -> Self {
        Self::DEFAULT
    }
}

const fn zero(dimension: &'static str) -> TopologyError {
    TopologyError::Zero { dimension }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: [NumaNode; 3] = [
        NumaNode::new(2, 512),
        NumaNode::new(1, 256),
        NumaNode::new(0, 1024),
    ];

    #[test]
    #[should_panic(expected = "has no CPU of this number")]
    fn a_cpu_that_does_not_exist_has_no_position() {
        Topology::new(1, 1, 2, 1).decompose(2);
    }

    #[test]
    fn even_shape() {
        let t = Topology::new(2, 4, 3, 2).checked();
        assert_eq!(t.total_cpus(), 24);
        assert_eq!(t.llcs_in_node(1), 2);
        assert_eq!(t.first_llc_in_node(1), 2);
        assert_eq!(t.numa_node_of(1), Some(0));
        assert_eq!(t.numa_node_of(2), Some(1));
        assert_eq!(t.numa_node_of(4), None);
        assert_eq!(t.place_of(0), Some((0, 0, 0)));
        assert_eq!(t.decompose(23), (3, 2, 1));
        assert_eq!(t.place_of(1), Some((0, 0, 1)));
        assert_eq!(t.place_of(23), Some((3, 2, 1)));
        assert_eq!(t.place_of(24), None);
        assert_eq!(t.distance(0, 0), 10);
        assert_eq!(t.distance(0, 1), 20);
    }

    #[test]
    fn uneven_nodes_and_a_memory_only_one() {
        const T: Topology = Topology::with_nodes(2, 1, &NODES).checked();
        assert_eq!(T.total_cpus(), 6);
        assert_eq!(T.cpu_bearing_nodes(), 2);
        assert!(T.has_memory_only_nodes());
        assert_eq!(T.numa_node_of(2), Some(1));
        assert_eq!(T.llcs_in_node(2), 0);
        assert_eq!(T.node_memory_mib(2), Some(1024));
        assert_eq!(T.total_node_memory_mib(), Some(1792));
    }

    #[test]
    fn uneven_llcs() {
        const T: Topology = Topology {
            llc_cores: Some(&[3, 1]),
            ..Topology::new(1, 2, 0, 2)
        }
        .checked();
        assert_eq!(T.total_cpus(), 8);
        assert_eq!(T.place_of(5), Some((0, 2, 1)));
        assert_eq!(T.place_of(6), Some((1, 0, 0)));
        assert_eq!(T.place_of(8), None);
    }

    #[test]
    fn errors_name_the_numbers() {
        let of = |t: Topology| t.validate().expect_err("the topology is wrong").to_string();
        insta::assert_snapshot!(
            of(Topology::new(2, 3, 1, 1)),
            @"topology: llcs = 3 cannot be divided by numa_nodes = 2; llcs is the total over all nodes (describe uneven nodes with Topology::with_nodes)"
        );
        insta::assert_snapshot!(of(Topology::new(1, 1, 0, 1)), @"topology: cores_per_llc is 0, it must be at least 1");
        insta::assert_snapshot!(of(Topology::new(1, u32::MAX, 2, 1)), @"topology: the number of CPUs does not fit in 32 bits");
        insta::assert_snapshot!(
            of(Topology { llcs: 2, ..Topology::with_nodes(1, 1, &NODES) }),
            @"topology: nodes lists 3 LLCs, but the topology has 2"
        );
        insta::assert_snapshot!(
            of(Topology { llc_cores: Some(&[1]), ..Topology::new(1, 2, 1, 1) }),
            @"topology: llc_cores must list a non-zero number of cores for each of 2 LLCs"
        );
    }

    #[test]
    #[should_panic(expected = "llcs = 3 cannot be divided by numa_nodes = 2")]
    fn checked_panics_with_the_numbers() {
        let _ = Topology::new(2, 3, 1, 1).checked();
    }
}
