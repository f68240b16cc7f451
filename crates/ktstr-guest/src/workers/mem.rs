//! Memory policies of workers: `set_mempolicy(2)` and `mbind(2)`, with the constants from
//! include/uapi/linux/mempolicy.h. A worker sets its own policy, after it was moved into its cgroup.

use std::collections::BTreeSet;

use ktstr_scenario::workload::{MemPolicy, MpolFlags};

use super::sys::{self, MASK_WORDS, Mask};

const MPOL_PREFERRED: i32 = 1;
const MPOL_BIND: i32 = 2;
const MPOL_INTERLEAVE: i32 = 3;
const MPOL_LOCAL: i32 = 4;
const MPOL_PREFERRED_MANY: i32 = 5;
const MPOL_WEIGHTED_INTERLEAVE: i32 = 6;
/// Moves existing pages too.
const MPOL_MF_MOVE: u64 = 1 << 1;
/// The number of mask bits that is passed to the kernel. The kernel uses one bit less than this number.
const MAX_NODE: usize = MASK_WORDS * 64 + 1;

/// A memory policy in the kernel's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy {
    mode: i32,
    nodes: Mask,
}

impl Policy {
    /// Returns the policy that a worker sets, or `None` if it keeps the inherited one. With [`MemPolicy::Default`], a worker
    /// that was assigned to a NUMA node is bound to that node. A node that does not fit into a mask is an error.
    pub fn of(
        policy: &MemPolicy,
        flags: MpolFlags,
        numa_node: Option<usize>,
    ) -> Result<Option<Self>, String> {
        let mode = match policy {
            MemPolicy::Default => match numa_node {
                None => return Ok(None),
                Some(node) => return Self::with(MPOL_BIND, &[node].into()).map(Some),
            },
            MemPolicy::Bind(_) => MPOL_BIND,
            MemPolicy::Preferred(_) => MPOL_PREFERRED,
            MemPolicy::Interleave(_) => MPOL_INTERLEAVE,
            MemPolicy::Local => MPOL_LOCAL,
            MemPolicy::PreferredMany(_) => MPOL_PREFERRED_MANY,
            MemPolicy::WeightedInterleave(_) => MPOL_WEIGHTED_INTERLEAVE,
        };
        Self::with(mode | flags.bits() as i32, &policy.nodes()).map(Some)
    }

    fn with(mode: i32, nodes: &BTreeSet<usize>) -> Result<Self, String> {
        let mut mask: Mask = [0; MASK_WORDS];
        for node in nodes {
            match mask.get_mut(node / 64) {
                Some(word) => *word |= 1 << (node % 64),
                None => {
                    return Err(format!(
                        "NUMA node {node} is too large: the largest that a mask can hold is {}",
                        MASK_WORDS * 64 - 1
                    ));
                }
            }
        }
        Ok(Self { mode, nodes: mask })
    }

    /// Sets the policy of the calling thread. `Err` is the errno. This may be called in a forked child.
    pub fn apply(&self) -> Result<(), i32> {
        let empty = sys::mask_len(&self.nodes) == 0;
        let (nodes, bits) = if empty {
            (std::ptr::null(), 0)
        } else {
            (self.nodes.as_ptr(), MAX_NODE)
        };
        // SAFETY: the kernel reads one bit less than `bits`, which is the whole mask; without a mask `bits` is 0.
        let rc = unsafe { libc::syscall(libc::SYS_set_mempolicy, self.mode, nodes, bits) };
        if rc < 0 { Err(sys::errno()) } else { Ok(()) }
    }
}

/// Binds a mapping to nodes, and moves pages that are elsewhere. `Err` is the errno.
pub(super) fn bind_region(region: &mut [u8], nodes: &Mask) -> Result<(), i32> {
    // SAFETY: whole pages of a mapping that is borrowed exclusively; its contents do not change.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_mbind,
            region.as_mut_ptr(),
            region.len(),
            MPOL_BIND,
            nodes.as_ptr(),
            MAX_NODE,
            MPOL_MF_MOVE,
        )
    };
    if rc < 0 { Err(sys::errno()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_use_the_kernels_constants() {
        let of = |policy: MemPolicy, flags, node| Policy::of(&policy, flags, node);
        assert_eq!(of(MemPolicy::Default, MpolFlags::NONE, None), Ok(None));
        let bound = of(MemPolicy::Default, MpolFlags::NONE, Some(1)).expect("fits");
        assert_eq!(
            bound,
            of(MemPolicy::bind([1]), MpolFlags::NONE, Some(0)).expect("fits")
        );
        let flagged = of(
            MemPolicy::interleave([0, 65]),
            MpolFlags::STATIC_NODES,
            None,
        );
        let flagged = flagged.expect("fits").expect("a policy");
        assert_eq!(flagged.mode, 3 | 1 << 15);
        assert_eq!((flagged.nodes[0], flagged.nodes[1]), (1, 2));
        assert!(of(MemPolicy::preferred(5000), MpolFlags::NONE, None).is_err());
    }
}
