//! The affinity of workers: the declared intent, and its resolution on a given machine and cpuset.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::topology::{TestTopology, cpuset_string};

/// The declared affinity of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AffinityIntent {
    /// All CPUs of the worker's cgroup: no affinity is set.
    #[default]
    Inherit,
    /// `count` random CPUs of `from`, restricted to the CPUs of the cgroup; all of them if there are fewer. The choice is made
    /// separately for each worker.
    RandomSubset {
        /// The CPUs to choose from.
        from: BTreeSet<usize>,
        /// The number of CPUs of each worker, at least 1.
        count: usize,
    },
    /// The cgroup's CPUs in the LLC in which it has the most CPUs. If there are several such LLCs, the first one is taken.
    LlcAligned,
    /// All CPUs of the machine, including CPUs outside of the cgroup. The kernel still lets the worker use only the CPUs
    /// of its cgroup.
    CrossCgroup,
    /// The first CPU of the cgroup.
    SingleCpu,
    /// These CPUs, restricted to the CPUs of the cgroup.
    Exact(BTreeSet<usize>),
    /// Two hardware threads of one core: the first core of which at least two hardware threads are among the cgroup's CPUs.
    SmtSiblingPair,
}

/// The resolution of an intent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResolvedAffinity {
    /// No affinity is set.
    None,
    /// All workers get exactly these CPUs.
    Fixed(BTreeSet<usize>),
    /// Each worker gets a random choice: see [`ResolvedAffinity::cpus`].
    Random {
        /// The CPUs to choose from; not empty.
        from: BTreeSet<usize>,
        /// The number of CPUs of each worker, in 1..=`from.len()`.
        count: usize,
    },
    /// All workers get this one CPU.
    SingleCpu(usize),
}

/// Why an intent selects no CPUs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("affinity {intent}: {reason} (CPUs available: {pool})")]
pub struct AffinityError {
    intent: &'static str,
    reason: String,
    pool: String,
}

impl AffinityIntent {
    /// Creates the intent of these CPUs, restricted to the CPUs of the cgroup.
    pub fn exact(cpus: impl IntoIterator<Item = usize>) -> Self {
        Self::Exact(cpus.into_iter().collect())
    }

    /// Creates the intent of `count` random CPUs of `from`; see [`Self::RandomSubset`].
    pub fn random_subset(from: impl IntoIterator<Item = usize>, count: usize) -> Self {
        Self::RandomSubset {
            from: from.into_iter().collect(),
            count,
        }
    }

    /// Returns the name of the variant, such as `LlcAligned`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Inherit => "Inherit",
            Self::RandomSubset { .. } => "RandomSubset",
            Self::LlcAligned => "LlcAligned",
            Self::CrossCgroup => "CrossCgroup",
            Self::SingleCpu => "SingleCpu",
            Self::Exact(_) => "Exact",
            Self::SmtSiblingPair => "SmtSiblingPair",
        }
    }

    /// Resolves the intent within `cpuset` (`None`: all CPUs) on `topology`.
    ///
    /// # Errors
    /// [`AffinityError`] when no CPU is left: an affinity is never silently dropped.
    pub fn resolve(
        &self,
        cpuset: Option<&BTreeSet<usize>>,
        topology: &TestTopology,
    ) -> Result<ResolvedAffinity, AffinityError> {
        let pool = match cpuset {
            Some(cpus) => cpus.clone(),
            None => topology.all_cpuset(),
        };
        let error = |reason: String| AffinityError {
            intent: self.name(),
            reason,
            pool: cpuset_string(&pool),
        };
        let fixed = |cpus: BTreeSet<usize>, reason: &str| {
            if cpus.is_empty() {
                Err(error(reason.to_owned()))
            } else {
                Ok(ResolvedAffinity::Fixed(cpus))
            }
        };
        match self {
            Self::Inherit => Ok(ResolvedAffinity::None),
            Self::RandomSubset { from, count } => {
                if *count == 0 {
                    return Err(error("count is 0, it must be at least 1".to_owned()));
                }
                let from: BTreeSet<usize> = from.intersection(&pool).copied().collect();
                if from.is_empty() {
                    return Err(error("none of the given CPUs is available".to_owned()));
                }
                let count = (*count).min(from.len());
                Ok(ResolvedAffinity::Random { from, count })
            }
            Self::LlcAligned => {
                let mut best = BTreeSet::new();
                for llc in topology.split_by_llc() {
                    let overlap: BTreeSet<usize> = llc.intersection(&pool).copied().collect();
                    if overlap.len() > best.len() {
                        best = overlap;
                    }
                }
                fixed(best, "no LLC shares a CPU with the cpuset")
            }
            Self::CrossCgroup => fixed(topology.all_cpuset(), "the machine has no CPU"),
            Self::SingleCpu => match pool.first() {
                Some(&cpu) => Ok(ResolvedAffinity::SingleCpu(cpu)),
                None => Err(error("the cpuset is empty".to_owned())),
            },
            Self::Exact(cpus) => fixed(
                cpus.intersection(&pool).copied().collect(),
                &format!("none of {} is available", cpuset_string(cpus)),
            ),
            Self::SmtSiblingPair => {
                let pair = topology
                    .llcs()
                    .iter()
                    .flat_map(|llc| llc.cores().values())
                    .map(|core| core.iter().filter(|cpu| pool.contains(cpu)).take(2))
                    .map(|pair| pair.copied().collect::<BTreeSet<usize>>())
                    .find(|pair| pair.len() == 2);
                fixed(
                    pair.unwrap_or_default(),
                    "no core has two hardware threads in the cpuset",
                )
            }
        }
    }
}

impl super::WorkSpec {
    /// Resolves the affinity of these workers within `cpuset` (`None`: all CPUs) on `topology`. Workers with a declared node stay
    /// on the node's CPUs, unless their affinity is [`AffinityIntent::CrossCgroup`].
    ///
    /// # Errors
    /// [`AffinityError`] when no CPU is left.
    pub fn resolve_affinity(
        &self,
        cpuset: Option<&BTreeSet<usize>>,
        topology: &TestTopology,
    ) -> Result<ResolvedAffinity, AffinityError> {
        let Some(node) = self.numa_node else {
            return self.affinity.resolve(cpuset, topology);
        };
        let of_node = topology.numa_aligned_cpuset(node);
        let pool = match cpuset {
            Some(cpus) => cpus & &of_node,
            None => of_node,
        };
        if pool.is_empty() {
            let all = topology.all_cpuset();
            return Err(AffinityError {
                intent: self.affinity.name(),
                reason: format!("NUMA node {node} has no CPU here"),
                pool: cpuset_string(cpuset.unwrap_or(&all)),
            });
        }
        match &self.affinity {
            AffinityIntent::Inherit => Ok(ResolvedAffinity::Fixed(pool)),
            other => other.resolve(Some(&pool), topology),
        }
    }
}

impl ResolvedAffinity {
    /// Returns the CPUs of one worker; `None` if no affinity is set. For [`Self::Random`] the choice depends only on `seed`, so
    /// each worker needs its own seed, derived from the seed of the run.
    pub fn cpus(&self, seed: u64) -> Option<BTreeSet<usize>> {
        match self {
            Self::None => None,
            Self::Fixed(cpus) => Some(cpus.clone()),
            Self::SingleCpu(cpu) => Some(BTreeSet::from([*cpu])),
            Self::Random { from, count } => {
                let mut left: Vec<usize> = from.iter().copied().collect();
                let mut state = seed;
                let mut chosen = BTreeSet::new();
                while chosen.len() < *count && !left.is_empty() {
                    let index = splitmix64(&mut state) % left.len() as u64;
                    chosen.insert(left.swap_remove(index as usize));
                }
                Some(chosen)
            }
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough to pick CPUs.
fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Topology;
    use proptest::prelude::*;

    fn view() -> TestTopology {
        TestTopology::from_vm_topology(&Topology::new(1, 2, 2, 2))
    }

    fn fixed(cpus: impl IntoIterator<Item = usize>) -> Result<ResolvedAffinity, AffinityError> {
        Ok(ResolvedAffinity::Fixed(cpus.into_iter().collect()))
    }

    #[test]
    fn workers_of_a_node_stay_on_its_cpus() {
        let view = TestTopology::from_vm_topology(&Topology::new(2, 2, 2, 1));
        let on = |work: crate::workload::WorkSpec, cpus: &[usize]| {
            work.resolve_affinity(Some(&cpus.iter().copied().collect()), &view)
        };
        let work = crate::workload::WorkSpec::default().numa_node(1);
        assert_eq!(on(work.clone(), &[0, 1, 2]), fixed([2]));
        assert_eq!(work.resolve_affinity(None, &view), fixed([2, 3]));
        let error = on(work.clone(), &[0, 1]).expect_err("no CPU of node 1");
        assert!(error.to_string().contains("NUMA node 1 has no CPU here"));
        let single = work.affinity(AffinityIntent::SingleCpu);
        assert_eq!(on(single, &[1, 2, 3]), Ok(ResolvedAffinity::SingleCpu(2)));
    }

    #[test]
    fn each_intent() {
        let view = view();
        let set = BTreeSet::from([3, 4, 5]);
        let on = |intent: AffinityIntent| intent.resolve(Some(&set), &view);
        assert_eq!(on(AffinityIntent::Inherit), Ok(ResolvedAffinity::None));
        assert_eq!(on(AffinityIntent::LlcAligned), fixed([4, 5]));
        assert_eq!(on(AffinityIntent::CrossCgroup), fixed(0..8));
        assert_eq!(
            on(AffinityIntent::SingleCpu),
            Ok(ResolvedAffinity::SingleCpu(3))
        );
        assert_eq!(on(AffinityIntent::exact([1, 3])), fixed([3]));
        assert_eq!(on(AffinityIntent::SmtSiblingPair), fixed([4, 5]));
    }

    #[test]
    fn an_affinity_without_cpus_is_an_error() {
        let view = view();
        let set = BTreeSet::from([1, 2]);
        let error = |intent: AffinityIntent| {
            intent
                .resolve(Some(&set), &view)
                .expect_err("no CPU is left")
                .to_string()
        };
        insta::assert_snapshot!(error(AffinityIntent::exact([5, 6])), @"affinity Exact: none of 5-6 is available (CPUs available: 1-2)");
        insta::assert_snapshot!(error(AffinityIntent::SmtSiblingPair), @"affinity SmtSiblingPair: no core has two hardware threads in the cpuset (CPUs available: 1-2)");
        insta::assert_snapshot!(error(AffinityIntent::random_subset([1], 0)), @"affinity RandomSubset: count is 0, it must be at least 1 (CPUs available: 1-2)");
    }

    proptest! {
        #[test]
        fn random_choice_is_of_the_given_and_repeats(
            from in prop::collection::btree_set(0usize..8, 1..8), count in 1usize..10, seed: u64,
        ) {
            let resolved = AffinityIntent::random_subset(from.clone(), count)
                .resolve(None, &view())
                .expect("all eight CPUs are there");
            let cpus = resolved.cpus(seed).expect("a choice");
            prop_assert!(cpus.is_subset(&from));
            prop_assert_eq!(cpus.len(), count.min(from.len()));
            prop_assert_eq!(Some(cpus), resolved.cpus(seed));
        }
    }
}
