//! NUMA memory policies (`set_mempolicy(2)`, `include/uapi/linux/mempolicy.h`).

use std::collections::BTreeSet;
use std::ops::BitOr;

use serde::{Deserialize, Serialize};

/// The NUMA memory policy of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemPolicy {
    /// No policy is set, so the worker inherits one.
    #[default]
    Default,
    /// Memory only from these nodes (`MPOL_BIND`).
    Bind(BTreeSet<usize>),
    /// Memory from this node as long as it has free memory, then from other nodes (`MPOL_PREFERRED`).
    Preferred(usize),
    /// Memory from each of these nodes in turn, page by page (`MPOL_INTERLEAVE`).
    Interleave(BTreeSet<usize>),
    /// Memory from the node on which the worker runs when it first touches a page (`MPOL_LOCAL`).
    Local,
    /// Memory from these nodes as long as they have free memory, then from other nodes (`MPOL_PREFERRED_MANY`).
    PreferredMany(BTreeSet<usize>),
    /// Memory page by page from these nodes, in proportion to their weights in `/sys/kernel/mm/mempolicy/weighted_interleave`
    /// (`MPOL_WEIGHTED_INTERLEAVE`, since Linux 6.9).
    WeightedInterleave(BTreeSet<usize>),
}

/// Why a memory policy cannot be set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemPolicyError {
    /// The policy names nodes, but its set of nodes is empty.
    #[error("memory policy {policy}: the set of nodes is empty")]
    NoNodes {
        /// Name of the policy.
        policy: &'static str,
    },
    /// The flags are unknown, exclude each other, or do not fit the policy.
    #[error("memory policy flags {bits:#x}: {reason}")]
    Flags {
        /// All bits of the flags.
        bits: u32,
        /// What is wrong with the flags.
        reason: &'static str,
    },
    /// The policy names a node that is not among the nodes of the cpuset, or not among the nodes of the machine.
    #[error("memory policy {policy}: node {node} is not among {available:?} ({scope})")]
    NodeUnavailable {
        /// Name of the policy.
        policy: &'static str,
        /// The number of the node.
        node: usize,
        /// The nodes that the policy could name.
        available: BTreeSet<usize>,
        /// Where the available nodes come from: "nodes of the cpuset" or "nodes of the machine".
        scope: &'static str,
    },
}

impl MemPolicy {
    /// Creates the policy that allows memory only from these nodes.
    pub fn bind(nodes: impl IntoIterator<Item = usize>) -> Self {
        Self::Bind(nodes.into_iter().collect())
    }

    /// Creates the policy that prefers this node, and uses others when it has no free memory.
    pub const fn preferred(node: usize) -> Self {
        Self::Preferred(node)
    }

    /// Creates the policy that takes memory from each of these nodes in turn, page by page.
    pub fn interleave(nodes: impl IntoIterator<Item = usize>) -> Self {
        Self::Interleave(nodes.into_iter().collect())
    }

    /// Creates the policy that prefers these nodes, and uses others when they have no free memory.
    pub fn preferred_many(nodes: impl IntoIterator<Item = usize>) -> Self {
        Self::PreferredMany(nodes.into_iter().collect())
    }

    /// Creates the policy that takes memory page by page from these nodes, in proportion to their weights.
    pub fn weighted_interleave(nodes: impl IntoIterator<Item = usize>) -> Self {
        Self::WeightedInterleave(nodes.into_iter().collect())
    }

    /// Returns the name of the variant, such as `Bind`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Default => "Default",
            Self::Bind(_) => "Bind",
            Self::Preferred(_) => "Preferred",
            Self::Interleave(_) => "Interleave",
            Self::Local => "Local",
            Self::PreferredMany(_) => "PreferredMany",
            Self::WeightedInterleave(_) => "WeightedInterleave",
        }
    }

    /// Returns the nodes of the policy; empty for `Default` and `Local`.
    pub fn nodes(&self) -> BTreeSet<usize> {
        match self {
            Self::Default | Self::Local => BTreeSet::new(),
            Self::Preferred(node) => BTreeSet::from([*node]),
            Self::Bind(nodes)
            | Self::Interleave(nodes)
            | Self::PreferredMany(nodes)
            | Self::WeightedInterleave(nodes) => nodes.clone(),
        }
    }

    /// Checks the policy and its flags, regardless of the machine.
    ///
    /// # Errors
    /// [`MemPolicyError`] for an empty set of nodes, or for flags that contradict each other or do not fit the policy.
    pub fn validate(&self, flags: MpolFlags) -> Result<(), MemPolicyError> {
        flags.validate()?;
        let nodeless = matches!(self, Self::Default | Self::Local);
        let refused = |reason| {
            Err(MemPolicyError::Flags {
                bits: flags.bits(),
                reason,
            })
        };
        if nodeless && flags != MpolFlags::NONE {
            return refused("Default and Local name no nodes, so flags have no meaning");
        }
        if flags.contains(MpolFlags::NUMA_BALANCING)
            && !matches!(self, Self::Bind(_) | Self::PreferredMany(_))
        {
            return refused("NUMA_BALANCING is for Bind and PreferredMany");
        }
        if !nodeless && self.nodes().is_empty() {
            return Err(MemPolicyError::NoNodes {
                policy: self.name(),
            });
        }
        Ok(())
    }

    /// Does the checks of [`Self::validate`], and checks that the nodes are available: among the nodes of the cpuset if there is
    /// one and `STATIC_NODES` is not set, otherwise among the nodes of the machine. With `RELATIVE_NODES` any numbers are valid,
    /// since the kernel maps them to the allowed nodes.
    ///
    /// # Errors
    /// As [`Self::validate`], or [`MemPolicyError::NodeUnavailable`] with the first node that is not available.
    pub fn validate_on(
        &self,
        flags: MpolFlags,
        cpuset_nodes: Option<&BTreeSet<usize>>,
        machine_nodes: &BTreeSet<usize>,
    ) -> Result<(), MemPolicyError> {
        self.validate(flags)?;
        if flags.contains(MpolFlags::RELATIVE_NODES) {
            return Ok(());
        }
        let (available, scope) = match cpuset_nodes {
            Some(nodes) if !flags.contains(MpolFlags::STATIC_NODES) => {
                (nodes, "nodes of the cpuset")
            }
            _ => (machine_nodes, "nodes of the machine"),
        };
        match self.nodes().difference(available).next() {
            None => Ok(()),
            Some(&node) => Err(MemPolicyError::NodeUnavailable {
                policy: self.name(),
                node,
                available: available.clone(),
                scope,
            }),
        }
    }
}

/// Mode flags of a memory policy, with the kernel's values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MpolFlags(u32);

impl MpolFlags {
    /// No flag is set.
    pub const NONE: Self = Self(0);
    /// `MPOL_F_NUMA_BALANCING`: the kernel may migrate pages between the nodes of a `Bind` or `PreferredMany` policy.
    pub const NUMA_BALANCING: Self = Self(1 << 13);
    /// `MPOL_F_RELATIVE_NODES`: the numbers are positions among the nodes that the cpuset allows.
    pub const RELATIVE_NODES: Self = Self(1 << 14);
    /// `MPOL_F_STATIC_NODES`: the numbers are those of the machine, and do not change with the cpuset.
    pub const STATIC_NODES: Self = Self(1 << 15);

    /// Creates flags from the kernel's bits. Unknown bits are kept, and refused by [`Self::validate`].
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Returns the kernel's bits, as `set_mempolicy(2)` takes them in its mode.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Returns whether all flags of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Checks the flags regardless of the policy.
    ///
    /// # Errors
    /// [`MemPolicyError::Flags`] for unknown flags, or static together with relative nodes.
    pub const fn validate(self) -> Result<(), MemPolicyError> {
        let known = Self::NUMA_BALANCING.0 | Self::RELATIVE_NODES.0 | Self::STATIC_NODES.0;
        let reason = if self.0 & !known != 0 {
            "unknown bits are set"
        } else if self.contains(Self(Self::STATIC_NODES.0 | Self::RELATIVE_NODES.0)) {
            "STATIC_NODES and RELATIVE_NODES exclude each other"
        } else {
            return Ok(());
        };
        Err(MemPolicyError::Flags {
            bits: self.0,
            reason,
        })
    }
}

impl BitOr for MpolFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_must_be_there() {
        let machine = BTreeSet::from([0, 1, 2]);
        let cpuset = BTreeSet::from([0]);
        let policy = MemPolicy::bind([0, 2]);
        let check = |flags| policy.validate_on(flags, Some(&cpuset), &machine);
        assert!(check(MpolFlags::NONE).is_err());
        assert!(check(MpolFlags::STATIC_NODES).is_ok());
        assert!(check(MpolFlags::RELATIVE_NODES).is_ok());
        assert!(check(MpolFlags::STATIC_NODES | MpolFlags::RELATIVE_NODES).is_err());
        assert!(check(MpolFlags::from_bits(1)).is_err());
        assert!(policy.validate_on(MpolFlags::NONE, None, &machine).is_ok());
        assert!(
            MemPolicy::bind([3])
                .validate_on(MpolFlags::STATIC_NODES, None, &machine)
                .is_err()
        );
        assert!(MemPolicy::interleave([]).validate(MpolFlags::NONE).is_err());
    }

    #[test]
    fn flags_that_would_do_nothing_are_refused() {
        let with = |policy: MemPolicy, flags| policy.validate(flags).is_ok();
        assert!(!with(MemPolicy::Default, MpolFlags::STATIC_NODES));
        assert!(!with(MemPolicy::Local, MpolFlags::RELATIVE_NODES));
        assert!(!with(MemPolicy::interleave([0]), MpolFlags::NUMA_BALANCING));
        assert!(with(MemPolicy::bind([0]), MpolFlags::NUMA_BALANCING));
        assert!(with(MemPolicy::Local, MpolFlags::NONE));
    }
}
