//! The topology of a machine, and QEMU's options for it.
//!
//! A last-level cache becomes a die and a NUMA node becomes a socket. That makes Linux see one L3 cache per LLC, SMT
//! siblings, and nodes with their distances.

use ktstr_state::arch::CPU_DEVICE;

use crate::MachineError;

/// The largest number of CPUs of a machine, which is QEMU's limit for its `q35` machine.
pub const MAX_CPUS: u32 = 4096;

/// The CPUs and the memory of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Shape {
    /// The number of NUMA nodes with CPUs, each of which is a socket.
    pub nodes: u32,
    /// The number of last-level caches in each node, or the largest number in any node.
    pub llcs_per_node: u32,
    /// The number of cores in each LLC, or the largest number in any LLC.
    pub cores: u32,
    /// For each node the number of cores of each of its LLCs, if the nodes have different numbers of LLCs or the LLCs have
    /// different numbers of cores; otherwise empty.
    pub uneven: Vec<Vec<u32>>,
    /// The number of threads of each core.
    pub threads: u32,
    /// The memory of each node in MiB. Entries beyond `nodes` are nodes without CPUs.
    pub memory_mib: Vec<u64>,
    /// The distance from each node (row) to each node (column), as in the ACPI SLIT. If this is empty, a node has distance 10
    /// to itself and 20 to any other node.
    pub distances: Vec<Vec<u8>>,
    /// The ACPI HMAT entry of each node's memory, `None` for a node that the table omits; empty for a machine without the table.
    pub hmat: Vec<Option<Hmat>>,
}

/// The HMAT entry of a node's memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hmat {
    /// The latency for the nearest CPUs, in nanoseconds.
    pub latency_ns: u32,
    /// The bandwidth for the nearest CPUs, in MiB/s.
    pub bandwidth_mbs: u32,
    /// The memory-side cache in front of the memory, if there is one.
    pub cache: Option<SideCache>,
}

/// A memory-side cache, with the terms of QEMU's options.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SideCache {
    /// The size of the cache, in bytes.
    pub size: u64,
    /// How addresses map to lines: `none`, `direct` or `complex`.
    pub associativity: &'static str,
    /// When a write reaches the memory: `none`, `write-back` or `write-through`.
    pub policy: &'static str,
    /// The size of a cache line, in bytes.
    pub line: u16,
}

/// A last-level cache, with the cores that share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Llc {
    /// The number of its node.
    pub node: u32,
    /// The number of its cores.
    pub cores: u32,
}

impl Shape {
    /// Creates a shape with one node and `llcs` caches.
    pub fn uniform(llcs: u32, cores: u32, threads: u32, memory_mib: u64) -> Self {
        Self {
            nodes: 1,
            llcs_per_node: llcs,
            cores,
            uneven: Vec::new(),
            threads,
            memory_mib: vec![memory_mib],
            distances: Vec::new(),
            hmat: Vec::new(),
        }
    }

    /// Returns the number of CPUs, counting each thread of a core.
    pub fn cpus(&self) -> u32 {
        self.llcs().map(|llc| llc.cores * self.threads).sum()
    }

    /// Returns the LLCs, in the order of their CPUs.
    pub fn llcs(&self) -> impl Iterator<Item = Llc> + '_ {
        (0..self.nodes).flat_map(move |node| {
            let uneven = self.uneven.get(node as usize);
            let count = uneven.map_or(self.llcs_per_node, |llcs| llcs.len() as u32);
            (0..count).map(move |llc| {
                let cores = uneven.and_then(|llcs| llcs.get(llc as usize)).copied();
                let cores = cores.unwrap_or(self.cores);
                Llc { node, cores }
            })
        })
    }

    /// Returns the number of CPU slots: every node has the largest number of LLCs, and every LLC the largest number of cores.
    /// In an uneven machine some slots have no CPU.
    fn places(&self) -> u32 {
        self.nodes * self.llcs_per_node * self.cores * self.threads
    }

    /// Returns the devices for all CPUs of an uneven machine except the first, which QEMU creates itself.
    fn devices(&self, model: &str) -> Vec<String> {
        let mut devices = Vec::new();
        for (socket, llcs) in self.uneven.iter().enumerate() {
            for (die, cores) in llcs.iter().enumerate() {
                for core in 0..*cores {
                    for thread in 0..self.threads {
                        devices.push(format!(
                            "{model}{CPU_DEVICE},socket-id={socket},die-id={die},core-id={core},thread-id={thread}"
                        ));
                    }
                }
            }
        }
        devices.into_iter().skip(1).collect()
    }

    /// Returns the declared distance between two nodes, or the default.
    fn distance(&self, from: usize, to: usize) -> u32 {
        let declared = self.distances.get(from).and_then(|row| row.get(to));
        declared.map_or(if from == to { 10 } else { 20 }, |distance| {
            u32::from(*distance)
        })
    }

    /// Returns the number of the node with CPUs that is nearest to the memory of `node`; the lowest number if several are.
    fn nearest(&self, node: usize) -> usize {
        let cpus = 0..self.nodes as usize;
        cpus.min_by_key(|from| self.distance(*from, node))
            .unwrap_or(0)
    }

    /// Returns the values of `-numa` for the HMAT. For CPUs that are farther away from the memory than the nearest CPUs, the
    /// latency is higher and the bandwidth is lower in proportion to the distance.
    fn hmat_arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        let entries = self.hmat.iter().enumerate();
        for (to, entry) in entries.filter_map(|(to, entry)| Some((to, entry.as_ref()?))) {
            let near = u64::from(self.distance(self.nearest(to), to).max(1));
            for from in 0..self.nodes as usize {
                let far = u64::from(self.distance(from, to).max(1));
                let latency = u64::from(entry.latency_ns) * far / near;
                let bandwidth = (u64::from(entry.bandwidth_mbs) * near / far).max(1);
                let pair = format!("hmat-lb,initiator={from},target={to},hierarchy=memory");
                arguments.push(format!("{pair},data-type=access-latency,latency={latency}"));
                arguments.push(format!(
                    "{pair},data-type=access-bandwidth,bandwidth={bandwidth}M"
                ));
            }
        }
        for (node, entry) in self.hmat.iter().enumerate() {
            if let Some(cache) = entry.as_ref().and_then(|entry| entry.cache.as_ref()) {
                let SideCache {
                    size,
                    associativity,
                    policy,
                    line,
                } = cache;
                arguments.push(format!(
                    "hmat-cache,node-id={node},size={size},level=1,associativity={associativity},policy={policy},line={line}"
                ));
            }
        }
        arguments
    }

    /// Returns the total memory in MiB.
    pub fn total_memory_mib(&self) -> u64 {
        self.memory_mib.iter().sum()
    }

    fn refuse(&self, reason: impl Into<String>) -> MachineError {
        MachineError::Topology {
            topology: format!(
                "{}n{}l{}c{}t",
                self.nodes,
                self.nodes * self.llcs_per_node,
                self.cores,
                self.threads
            ),
            reason: reason.into(),
        }
    }

    /// Returns an error if QEMU cannot build the shape.
    pub fn validate(&self) -> Result<(), MachineError> {
        let parts = [self.nodes, self.llcs_per_node, self.cores, self.threads];
        if parts.contains(&0) {
            return Err(self.refuse("every level needs at least one member"));
        }
        let cpus = parts
            .iter()
            .try_fold(1u32, |product, part| product.checked_mul(*part));
        if cpus.is_none_or(|cpus| cpus > MAX_CPUS) {
            return Err(self.refuse("more than 4096 CPUs"));
        }
        let fits = |llcs: &Vec<u32>| {
            !llcs.is_empty()
                && llcs.len() <= self.llcs_per_node as usize
                && llcs.iter().all(|cores| (1..=self.cores).contains(cores))
        };
        let listed = self.uneven.len() == self.nodes as usize && self.uneven.iter().all(fits);
        if !self.uneven.is_empty() && !listed {
            return Err(self.refuse("the cores of its LLCs do not fit its nodes"));
        }
        let nodes = self.memory_mib.len();
        if nodes < self.nodes as usize || self.memory_mib.contains(&0) {
            return Err(self.refuse("each node needs memory"));
        }
        let square =
            self.distances.len() == nodes && self.distances.iter().all(|r| r.len() == nodes);
        if !self.distances.is_empty() && !square {
            return Err(self.refuse(format!("the distances are not {nodes} by {nodes}")));
        }
        if !self.hmat.is_empty() && (nodes < 2 || self.hmat.len() != nodes) {
            return Err(self.refuse(format!(
                "an HMAT needs two nodes or more and as many entries; there are {nodes} nodes and {} entries",
                self.hmat.len()
            )));
        }
        Ok(())
    }

    /// Returns QEMU's options for the shape: `-smp` and `-m`, `-numa` if there is more than one node, and for an uneven machine
    /// one `-device` of the CPU model `model` for each CPU except the first. The memory backends are named `ram0`, `ram1`…
    pub(crate) fn arguments(&self, model: &str) -> Vec<String> {
        let cpus = match self.uneven.is_empty() {
            true => self.cpus().to_string(),
            false => format!("1,maxcpus={}", self.places()),
        };
        let mut arguments = vec![
            "-smp".to_owned(),
            format!(
                "{cpus},sockets={},dies={},cores={},threads={}",
                self.nodes, self.llcs_per_node, self.cores, self.threads
            ),
            "-m".to_owned(),
            format!("{}M", self.total_memory_mib()),
        ];
        let mut numa = |text: String| arguments.extend(["-numa".to_owned(), text]);
        if self.memory_mib.len() > 1 {
            for node in 0..self.memory_mib.len() {
                let initiator = match self.hmat.is_empty() {
                    true => String::new(),
                    false => format!(",initiator={}", self.nearest(node)),
                };
                numa(format!("node,nodeid={node},memdev=ram{node}{initiator}"));
            }
            for node in 0..self.nodes {
                numa(format!("cpu,node-id={node},socket-id={node}"));
            }
            for (from, row) in self.distances.iter().enumerate() {
                for (to, distance) in row.iter().enumerate() {
                    numa(format!("dist,src={from},dst={to},val={distance}"));
                }
            }
            for entry in self.hmat_arguments() {
                numa(entry);
            }
        }
        for device in self.devices(model) {
            arguments.extend(["-device".to_owned(), device]);
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_node_needs_no_numa() {
        insta::assert_snapshot!(Shape::uniform(2, 4, 2, 512).arguments("max").join(" "),
            @"-smp 16,sockets=1,dies=2,cores=4,threads=2 -m 512M");
    }

    #[test]
    fn two_nodes_name_their_memory_and_their_distances() {
        let shape = Shape {
            nodes: 2,
            llcs_per_node: 2,
            cores: 2,
            uneven: Vec::new(),
            threads: 1,
            memory_mib: vec![256, 256],
            distances: vec![vec![10, 21], vec![21, 10]],
            hmat: Vec::new(),
        };
        shape.validate().expect("sound");
        insta::assert_snapshot!(shape.arguments("max").join(" "), @"-smp 8,sockets=2,dies=2,cores=2,threads=1 -m 512M -numa node,nodeid=0,memdev=ram0 -numa node,nodeid=1,memdev=ram1 -numa cpu,node-id=0,socket-id=0 -numa cpu,node-id=1,socket-id=1 -numa dist,src=0,dst=0,val=10 -numa dist,src=0,dst=1,val=21 -numa dist,src=1,dst=0,val=21 -numa dist,src=1,dst=1,val=10");
    }

    #[test]
    fn memory_is_slower_for_cpus_that_are_farther_away() {
        let entry = |cache| {
            Some(Hmat {
                latency_ns: 100,
                bandwidth_mbs: 8000,
                cache,
            })
        };
        let cache = SideCache {
            size: 1 << 20,
            associativity: "direct",
            policy: "write-back",
            line: 64,
        };
        let shape = Shape {
            nodes: 2,
            memory_mib: vec![256, 256, 256],
            hmat: vec![entry(None), None, entry(Some(cache))],
            ..Shape::uniform(1, 1, 1, 256)
        };
        shape.validate().expect("sound");
        let arguments = shape.arguments("max");
        let numa = |part: &str| {
            let found = arguments.iter().filter(|argument| argument.contains(part));
            found.cloned().collect::<Vec<_>>().join(" ")
        };
        insta::assert_snapshot!(numa("nodeid"), @"node,nodeid=0,memdev=ram0,initiator=0 node,nodeid=1,memdev=ram1,initiator=1 node,nodeid=2,memdev=ram2,initiator=0");
        insta::assert_snapshot!(numa("target=0"), @"hmat-lb,initiator=0,target=0,hierarchy=memory,data-type=access-latency,latency=100 hmat-lb,initiator=0,target=0,hierarchy=memory,data-type=access-bandwidth,bandwidth=8000M hmat-lb,initiator=1,target=0,hierarchy=memory,data-type=access-latency,latency=200 hmat-lb,initiator=1,target=0,hierarchy=memory,data-type=access-bandwidth,bandwidth=4000M");
        assert_eq!(numa("target=1"), "");
        // Both nodes with CPUs are equally near.
        assert_eq!(numa("target=2").matches("latency=100").count(), 2);
        insta::assert_snapshot!(numa("hmat-cache"), @"hmat-cache,node-id=2,size=1048576,level=1,associativity=direct,policy=write-back,line=64");
        let wrong = Shape {
            hmat: vec![entry(None)],
            ..Shape::uniform(1, 1, 1, 256)
        };
        assert!(wrong.validate().is_err());
    }

    #[test]
    fn cpus_of_an_uneven_machine_are_given_one_by_one() {
        let shape = Shape {
            nodes: 2,
            llcs_per_node: 2,
            uneven: vec![vec![2, 1], vec![1]],
            memory_mib: vec![256, 256],
            ..Shape::uniform(1, 2, 1, 512)
        };
        shape.validate().expect("sound");
        assert_eq!(shape.cpus(), 4);
        let llcs = shape.llcs().map(|llc| (llc.node, llc.cores));
        assert_eq!(llcs.collect::<Vec<_>>(), [(0, 2), (0, 1), (1, 1)]);
        insta::assert_snapshot!(shape.arguments("max").join(" "), @"-smp 1,maxcpus=8,sockets=2,dies=2,cores=2,threads=1 -m 512M -numa node,nodeid=0,memdev=ram0 -numa node,nodeid=1,memdev=ram1 -numa cpu,node-id=0,socket-id=0 -numa cpu,node-id=1,socket-id=1 -device max-x86_64-cpu,socket-id=0,die-id=0,core-id=1,thread-id=0 -device max-x86_64-cpu,socket-id=0,die-id=1,core-id=0,thread-id=0 -device max-x86_64-cpu,socket-id=1,die-id=0,core-id=0,thread-id=0");
        let wrong = Shape {
            uneven: vec![vec![3]],
            ..Shape::uniform(1, 2, 1, 512)
        };
        assert!(wrong.validate().is_err());
    }

    #[test]
    fn an_impossible_shape_is_refused_with_its_reason() {
        let mut shape = Shape::uniform(0, 1, 1, 512);
        assert!(shape.validate().is_err());
        shape = Shape::uniform(1 << 20, 1 << 10, 4, 512);
        assert!(
            shape
                .validate()
                .expect_err("overflow")
                .to_string()
                .contains("4096")
        );
        shape = Shape::uniform(1, 1, 1, 512);
        shape.distances = vec![vec![10, 20]];
        assert!(shape.validate().is_err());
    }
}
