//! The hierarchy of cgroups, with their weights.

use std::collections::HashMap;

/// The weight of a cgroup whose weight the schedule does not show: `cpu.weight` 100.
pub(super) const DEFAULT_WEIGHT: f64 = 1024.0;

#[derive(Debug)]
struct Node {
    parent: Option<usize>,
    weight: f64,
}

/// The cgroups that have tasks in a window, and their ancestors.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    by_path: HashMap<String, usize>,
}

impl Tree {
    /// Returns the node of the cgroup at `path`, and creates it and its ancestors if necessary.
    pub(super) fn leaf(
        &mut self,
        path: &str,
        weight: impl Fn(&str) -> Option<f64> + Copy,
    ) -> usize {
        let path = path.trim_end_matches('/');
        if let Some(known) = self.by_path.get(path) {
            return *known;
        }
        let parent = path.rfind('/').map(|at| self.leaf(&path[..at], weight));
        self.nodes.push(Node {
            parent,
            weight: weight(path).unwrap_or(DEFAULT_WEIGHT),
        });
        let node = self.nodes.len() - 1;
        self.by_path.insert(path.to_owned(), node);
        node
    }

    /// Returns the fraction of the CPU time, from 0 to 1, for each of these tasks, which are (node, weight) pairs. The fraction
    /// of a node is divided by weight among its tasks and those of its child nodes that have tasks in or below them.
    pub(super) fn shares(&self, tasks: &[(usize, f64)]) -> Vec<f64> {
        let mut below = vec![0.0; self.nodes.len()];
        for (node, weight) in tasks {
            below[*node] += weight;
        }
        // A node comes after its parent in the list, so the reverse order visits each node after its children.
        for node in (0..self.nodes.len()).rev() {
            if let Some(parent) = self.nodes[node].parent.filter(|_| below[node] > 0.0) {
                below[parent] += self.nodes[node].weight;
            }
        }
        let mut of_node = vec![1.0; self.nodes.len()];
        for node in 0..self.nodes.len() {
            if let Some(parent) = self.nodes[node].parent.filter(|_| below[node] > 0.0) {
                of_node[node] = of_node[parent] * self.nodes[node].weight / below[parent];
            }
        }
        let share = |(node, weight): &(usize, f64)| of_node[*node] * weight / below[*node];
        tasks.iter().map(share).collect()
    }
}
