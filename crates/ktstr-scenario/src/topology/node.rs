//! NUMA nodes as a test declares them: how many LLCs, how much memory, how far apart.
//! Not the nodes found in a running system: those are in the view module.

/// One declared NUMA node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NumaNode {
    /// LLCs in this node; 0 makes it a memory-only node (like a CXL expander).
    pub llcs: u32,
    /// Memory of the node, MiB.
    pub memory_mib: u32,
}

impl NumaNode {
    /// A node with `llcs` LLCs and `memory_mib` MiB.
    pub const fn new(llcs: u32, memory_mib: u32) -> Self {
        Self { llcs, memory_mib }
    }

    /// Whether the node has memory but no CPU.
    pub const fn is_memory_only(&self) -> bool {
        self.llcs == 0
    }
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
    /// In a `const` (its intended place) a compile error: unless the matrix has `nodes * nodes`
    /// entries, 10 on the diagonal, more than 10 elsewhere, and is symmetric.
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

    /// How many nodes the matrix is for.
    pub const fn nodes(&self) -> u32 {
        self.nodes
    }

    /// The distance from node `i` to node `j`, `None` when either is out of range.
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
