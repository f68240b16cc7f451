//! The NUMA nodes on which the test itself places the memory of workers: by `cpuset.mems`, by memory policies, and by the work
//! type that binds its region to nodes. The kernel follows these settings wherever a scheduler runs the workers, so if they name
//! other nodes than those of the workers' CPUs, the test is at fault for pages on those nodes.

use std::collections::BTreeSet;

use ktstr_assert::AssertResult;
use ktstr_scenario::workload::{MemPolicy, MpolFlags, WorkSpec, WorkType};

/// The key of the measurement which says that the test places the memory of a cgroup's workers elsewhere. [`memory_key`] returns
/// the key for one cgroup.
const MEMORY_KEY: &str = "memory_elsewhere";

/// Returns the key of the measurement which says that the test places the memory of this cgroup's workers on other nodes than
/// those of their CPUs.
pub fn memory_key(cgroup: &str) -> String {
    format!("{MEMORY_KEY} {cgroup}")
}

/// A setting of the test that says where memory comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Placement {
    /// The setting as messages name it, such as `cpuset.mems`.
    what: String,
    nodes: BTreeSet<usize>,
    /// Whether each of the nodes is used, no matter on which node the worker runs.
    uses_all: bool,
}

impl Placement {
    fn new(what: &str, nodes: &BTreeSet<usize>, uses_all: bool) -> Self {
        Self {
            what: what.to_owned(),
            nodes: nodes.clone(),
            uses_all,
        }
    }

    /// Returns the placement by `cpuset.mems`.
    pub fn of_cpuset(nodes: &BTreeSet<usize>) -> Self {
        Self::new("cpuset.mems", nodes, false)
    }

    /// Returns the placements by a declaration of workers.
    pub fn of_work(work: &WorkSpec) -> Vec<Self> {
        let mut all = Vec::new();
        let policy = &work.mem_policy;
        // Relative nodes are positions in the cpuset's nodes, so their numbers say nothing.
        if !work.mpol_flags.contains(MpolFlags::RELATIVE_NODES) && !policy.nodes().is_empty() {
            let uses_all = matches!(
                policy,
                MemPolicy::Interleave(_) | MemPolicy::WeightedInterleave(_)
            );
            let what = format!("the memory policy {}", policy.name());
            all.push(Self::new(&what, &policy.nodes(), uses_all));
        }
        if let (MemPolicy::Default, Some(node)) = (policy, work.numa_node) {
            all.push(Self::new("numa_node", &[node].into(), true));
        }
        if let WorkType::NumaWorkingSetSweep { target_nodes, .. } = &work.work_type {
            let nodes = target_nodes.iter().copied().collect();
            all.push(Self::new("the work type NumaWorkingSetSweep", &nodes, true));
        }
        all
    }

    /// Returns whether memory comes from a node that is not one of `expected`, even if the worker only runs on these.
    fn is_elsewhere(&self, expected: &BTreeSet<usize>) -> bool {
        match self.uses_all {
            true => !self.nodes.is_subset(expected),
            false => !self.nodes.is_empty() && self.nodes.is_disjoint(expected),
        }
    }
}

/// Records the first of these settings of a cgroup that places memory on other nodes than `expected`, those of its CPUs.
pub(super) fn name_elsewhere(
    result: &mut AssertResult,
    cgroup: &str,
    placements: &BTreeSet<Placement>,
    expected: &BTreeSet<usize>,
) {
    let elsewhere = placements.iter().find(|p| p.is_elsewhere(expected));
    if let Some(Placement { what, nodes, .. }) = elsewhere {
        let text = format!(
            "{what} places the memory of cgroup {cgroup} on nodes {nodes:?}, and the CPUs of the cgroup are on nodes {expected:?}"
        );
        result.note_value(memory_key(cgroup), text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settings_that_leave_the_expected_nodes_are_named() {
        let named = |placements: &[Placement]| {
            let mut result = AssertResult::pass();
            let placements = placements.iter().cloned().collect();
            name_elsewhere(&mut result, "a", &placements, &[0].into());
            let text = result.measurements.get(&memory_key("a"));
            text.map(ToString::to_string)
        };
        let of = |work: WorkSpec| named(&Placement::of_work(&work));
        let work = WorkSpec::default;
        let sweep = |nodes| work().work_type(WorkType::numa_working_set_sweep(64, 5, nodes));
        assert_eq!(named(&[Placement::of_cpuset(&[0, 1].into())]), None);
        let by_cpuset = named(&[Placement::of_cpuset(&[1].into())]);
        let text = "cpuset.mems places the memory of cgroup a on nodes {1}, and the CPUs of the cgroup are on nodes {0}";
        assert_eq!(by_cpuset.as_deref(), Some(text));
        for unaffected in [
            work(),
            work().mem_policy(MemPolicy::Local),
            work().mem_policy(MemPolicy::bind([0, 1])),
            work().numa_node(0),
            sweep(vec![]),
            (work().mem_policy(MemPolicy::bind([1]))).mpol_flags(MpolFlags::RELATIVE_NODES),
        ] {
            assert_eq!(of(unaffected.clone()), None, "{unaffected:?}");
        }
        for (elsewhere, what) in [
            (work().mem_policy(MemPolicy::bind([1, 2])), "Bind"),
            (
                work().mem_policy(MemPolicy::interleave([0, 1])),
                "Interleave",
            ),
            (work().numa_node(1), "numa_node"),
            (sweep(vec![0, 1]), "NumaWorkingSetSweep"),
        ] {
            let text = of(elsewhere).unwrap_or_default();
            assert!(text.contains(what), "{text}");
        }
    }
}
