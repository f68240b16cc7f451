//! The NUMA nodes that a test declares: their LLCs, memory and distances. The nodes of a running system are in `view.rs`.

/// One declared NUMA node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NumaNode {
    /// The number of LLCs of the node; 0 makes it a memory-only node, such as a CXL memory expander.
    pub llcs: u32,
    /// The memory of the node in MiB, at least 1.
    pub memory_mib: u32,
    /// The speed of the node's memory according to the ACPI HMAT; `None` leaves the node out of that table.
    pub performance: Option<MemPerformance>,
    /// A cache in front of the node's memory, which is described in the ACPI HMAT.
    pub side_cache: Option<MemSideCache>,
}

impl NumaNode {
    /// A node with `llcs` LLCs and `memory_mib` MiB of memory.
    pub const fn new(llcs: u32, memory_mib: u32) -> Self {
        Self {
            llcs,
            memory_mib,
            performance: None,
            side_cache: None,
        }
    }

    /// A node whose memory is described in the ACPI HMAT, by the latency in nanoseconds and the bandwidth in MiB/s that the
    /// nearest node with CPUs sees. For CPUs that are farther away, the latency grows and the bandwidth shrinks in proportion
    /// to [`NumaDistance`]. The guest finds the figures in `/sys/devices/system/node/node*/access0/initiators/`. Schedulers can
    /// place tasks by these figures, but the emulated memory itself is equally fast everywhere.
    pub const fn with_hmat(
        llcs: u32,
        memory_mib: u32,
        latency_ns: u32,
        bandwidth_mbs: u32,
    ) -> Self {
        let mut node = Self::new(llcs, memory_mib);
        node.performance = Some(MemPerformance {
            latency_ns,
            bandwidth_mbs,
        });
        node
    }

    /// Adds a cache in front of the node's memory, which the guest finds in
    /// `/sys/devices/system/node/node*/memory_side_cache/`. The node must have an HMAT entry ([`NumaNode::with_hmat`]).
    pub const fn cache(mut self, cache: MemSideCache) -> Self {
        self.side_cache = Some(cache);
        self
    }

    /// Returns whether the node has memory but no CPU.
    pub const fn is_memory_only(&self) -> bool {
        self.llcs == 0
    }

    /// Returns why the node's HMAT entry is invalid in a machine with `nodes` nodes; `None` if the entry is valid. A node without
    /// an entry is valid unless it has a side cache, because the cache is described in the entry.
    pub(super) const fn hmat_error(&self, nodes: usize) -> Option<&'static str> {
        let Some(performance) = self.performance else {
            return match self.side_cache {
                Some(_) => Some("a memory-side cache needs NumaNode::with_hmat"),
                None => None,
            };
        };
        if nodes < 2 {
            return Some("the machine needs a second node for it");
        }
        if performance.latency_ns == 0 || performance.bandwidth_mbs == 0 {
            return Some("latency_ns and bandwidth_mbs must be at least 1");
        }
        match self.side_cache {
            Some(cache) if cache.size == 0 => {
                Some("the size of the memory-side cache must be at least 1")
            }
            _ => None,
        }
    }
}

/// The HMAT entry of a node's memory: the latency and the bandwidth that the nearest CPUs see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MemPerformance {
    /// The latency of an access in nanoseconds, at least 1.
    pub latency_ns: u32,
    /// The bandwidth in MiB/s, at least 1.
    pub bandwidth_mbs: u32,
}

/// A memory-side cache, for example DRAM in front of a slower memory. It is described to the guest, but not emulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MemSideCache {
    /// The size of the cache in bytes, at least 1.
    pub size: u64,
    /// How addresses map to cache lines.
    pub associativity: CacheAssociativity,
    /// When a write reaches the memory behind the cache.
    pub write_policy: CacheWritePolicy,
    /// The size of a cache line in bytes.
    pub line: u16,
}

impl MemSideCache {
    /// A cache of `size` bytes with lines of `line` bytes.
    pub const fn new(
        size: u64,
        associativity: CacheAssociativity,
        write_policy: CacheWritePolicy,
        line: u16,
    ) -> Self {
        Self {
            size,
            associativity,
            write_policy,
            line,
        }
    }
}

/// How the addresses of a memory map to the lines of its [`MemSideCache`] (ACPI 6.5, table 5.147).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheAssociativity {
    /// The table does not specify how addresses map to lines.
    None,
    /// Each address maps to one line.
    Direct,
    /// Each address maps to several lines, by a rule that the table does not specify.
    Complex,
}

/// When a write to a [`MemSideCache`] reaches the memory behind it (ACPI 6.5, table 5.147).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheWritePolicy {
    /// The table does not specify when a write reaches the memory.
    None,
    /// A write reaches the memory when the line is evicted.
    WriteBack,
    /// A write reaches the memory at once.
    WriteThrough,
}

/// A matrix of node distances (ACPI SLIT): 10 is local, larger is farther.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NumaDistance {
    nodes: u32,
    matrix: &'static [u8],
}

impl NumaDistance {
    /// A matrix for `nodes` nodes, given row by row.
    ///
    /// # Panics
    /// If `nodes` is not 1 to 1024, or if `matrix` is not symmetric with `nodes * nodes` entries, 10 on the diagonal and
    /// more than 10 elsewhere. In a `const`, which is the intended use, this is a compile error.
    pub const fn new(nodes: u32, matrix: &'static [u8]) -> Self {
        let n = nodes as usize;
        assert!(n > 0, "NumaDistance: there must be at least one node");
        assert!(
            n <= 1024 && matrix.len() == n * n,
            "NumaDistance: the matrix must have nodes * nodes entries"
        );
        let mut i = 0;
        while i < n {
            assert!(
                matrix[i * n + i] == 10,
                "NumaDistance: the diagonal (a node to itself) must be 10"
            );
            let mut j = 0;
            while j < i {
                assert!(
                    matrix[i * n + j] > 10,
                    "NumaDistance: the distance between two nodes must be more than 10"
                );
                assert!(
                    matrix[i * n + j] == matrix[j * n + i],
                    "NumaDistance: the matrix must be symmetric"
                );
                j += 1;
            }
            i += 1;
        }
        Self { nodes, matrix }
    }

    /// Returns the number of nodes that the matrix is for.
    pub const fn nodes(&self) -> u32 {
        self.nodes
    }

    /// Returns the distance from node `i` to node `j`; `None` if one of them does not exist.
    pub const fn get(&self, i: u32, j: u32) -> Option<u8> {
        if i >= self.nodes || j >= self.nodes {
            return None;
        }
        Some(self.matrix[i as usize * self.nodes as usize + j as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_read_by_row() {
        const D: NumaDistance = NumaDistance::new(2, &[10, 21, 21, 10]);
        assert_eq!(D.get(0, 1), Some(21));
        assert_eq!(D.get(1, 1), Some(10));
        assert_eq!(D.get(2, 0), None);
    }

    #[test]
    fn an_hmat_entry_that_cannot_be_built_is_refused() {
        const CACHE: MemSideCache = MemSideCache::new(
            1 << 20,
            CacheAssociativity::Direct,
            CacheWritePolicy::WriteBack,
            64,
        );
        assert_eq!(
            NumaNode::with_hmat(1, 256, 80, 20_000)
                .cache(CACHE)
                .hmat_error(2),
            None
        );
        assert_eq!(NumaNode::new(1, 256).hmat_error(1), None);
        for (node, nodes, why) in [
            (NumaNode::new(1, 256).cache(CACHE), 2, "with_hmat"),
            (NumaNode::with_hmat(1, 256, 80, 20_000), 1, "second node"),
            (NumaNode::with_hmat(1, 256, 0, 20_000), 2, "latency_ns"),
            (
                NumaNode::with_hmat(1, 256, 80, 20_000).cache(MemSideCache { size: 0, ..CACHE }),
                2,
                "size",
            ),
        ] {
            assert!(
                node.hmat_error(nodes)
                    .is_some_and(|error| error.contains(why)),
                "{why}"
            );
        }
    }

    #[test]
    #[should_panic(expected = "symmetric")]
    fn asymmetric_is_refused() {
        let _ = NumaDistance::new(2, &[10, 21, 22, 10]);
    }

    #[test]
    #[should_panic(expected = "diagonal")]
    fn far_from_itself_is_refused() {
        let _ = NumaDistance::new(1, &[11]);
    }
}
