//! The CPUs that a cgroup really has, given the cpusets and partitions of its tree.

use std::collections::BTreeSet;

/// A cgroup that has CPUs of its own.
#[derive(Clone, Copy, Debug)]
pub struct OwnCpus<'a> {
    /// The path of the cgroup.
    pub name: &'a str,
    /// The CPUs in its `cpuset.cpus`.
    pub cpus: &'a BTreeSet<usize>,
    /// Whether the cgroup is a partition, so that only the cgroup and its descendants have these CPUs.
    pub partition: bool,
}

/// Returns the CPUs of the cgroup `name` in a tree with these cpusets: the CPUs of its own cpuset that the cgroups above it have
/// as well and that no partition takes away. If there are none, the cgroup has the CPUs of its parent
/// (Documentation/admin-guide/cgroup-v2.rst, `cpuset.cpus.effective`). `all` are the CPUs of the machine; the result `None`
/// stands for all of them.
pub fn effective_cpus<'a>(
    name: &str,
    all: &BTreeSet<usize>,
    sets: impl IntoIterator<Item = OwnCpus<'a>>,
) -> Option<BTreeSet<usize>> {
    let holds = |set: &OwnCpus| {
        let rest = name.strip_prefix(set.name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let (mut above, others): (Vec<_>, Vec<_>) = sets.into_iter().partition(holds);
    let partitions = others.iter().filter(|set| set.partition);
    let taken: BTreeSet<usize> = partitions.flat_map(|set| set.cpus).copied().collect();
    if above.is_empty() && taken.is_empty() {
        return None;
    }
    // The loop goes from the outermost cgroup to the cgroup itself.
    above.sort_by_key(|set| set.name.len());
    let mut cpus = all - &taken;
    for set in above {
        let left = set.cpus & &cpus;
        if !left.is_empty() {
            cpus = left;
        }
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the CPUs of a cgroup on a machine with the CPUs 0 to 4.
    fn cpus(name: &str, sets: &[(&str, &[usize], bool)]) -> Option<Vec<usize>> {
        let own: Vec<BTreeSet<usize>> = sets
            .iter()
            .map(|(_, cpus, _)| cpus.iter().copied().collect())
            .collect();
        let sets = sets.iter().zip(&own).map(|((name, _, partition), cpus)| {
            let partition = *partition;
            OwnCpus {
                name,
                cpus,
                partition,
            }
        });
        effective_cpus(name, &(0..5).collect(), sets).map(Vec::from_iter)
    }

    #[test]
    fn a_cgroup_has_the_cpus_of_those_above_it() {
        let sets: &[(&str, &[usize], bool)] = &[
            ("a/b", &[1, 2], false),
            ("a", &[2, 3], false),
            ("a/c", &[0, 1], false),
        ];
        assert_eq!(cpus("a", sets), Some(vec![2, 3]));
        assert_eq!(cpus("a/x", sets), Some(vec![2, 3]), "a/x has no cpuset");
        assert_eq!(cpus("a/b", sets), Some(vec![2]));
        assert_eq!(cpus("a/c", sets), Some(vec![2, 3]), "a/c shares no CPU");
        assert_eq!(cpus("ab", sets), None);
    }

    #[test]
    fn a_partition_takes_its_cpus_from_all_but_its_descendants() {
        let sets: &[(&str, &[usize], bool)] = &[
            ("a", &[0, 1], true),
            ("a/in", &[1], true),
            ("b", &[1, 2], false),
            ("c", &[0], false),
        ];
        assert_eq!(cpus("a", sets), Some(vec![0]), "a/in has CPU 1");
        assert_eq!(cpus("a/in/x", sets), Some(vec![1]));
        assert_eq!(cpus("a/x", sets), Some(vec![0]));
        assert_eq!(cpus("b", sets), Some(vec![2]));
        assert_eq!(cpus("c", sets), Some(vec![2, 3, 4]), "a has CPU 0");
        assert_eq!(cpus("d", sets), Some(vec![2, 3, 4]));
        assert_eq!(cpus("", sets), Some(vec![2, 3, 4]));
    }
}
