//! Sets of CPUs for cgroups, specified by rules that apply to any machine.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::topology::{TestTopology, cpuset_string};

/// A rule that selects a set of CPUs. Fractions and parts refer to the *usable* CPUs: if there are more than two CPUs, all
/// except the last one, which is reserved for the harness, and otherwise all CPUs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CpusetSpec {
    /// The CPUs of the LLC at this index.
    Llc(usize),
    /// The CPUs of this NUMA node.
    Numa(usize),
    /// The usable CPUs from one fraction of them to another. Both ends are rounded down to whole CPUs.
    Range {
        /// The fraction at which the range starts: at least 0, and less than `end_frac`.
        start_frac: f64,
        /// The fraction at which the range ends, at most 1.
        end_frac: f64,
    },
    /// Part `index` of `of` equal parts; the last part takes the remainder.
    Disjoint {
        /// The number of the part, from 0.
        index: usize,
        /// The number of parts.
        of: usize,
    },
    /// Like [`CpusetSpec::Disjoint`], but the part is widened on both sides, within the usable CPUs.
    Overlap {
        /// The number of the part, from 0.
        index: usize,
        /// The number of parts.
        of: usize,
        /// The fraction of its length by which the part is widened on each side, 0..=1, rounded down to whole CPUs.
        frac: f64,
    },
    /// Exactly these CPUs, by number.
    Exact(BTreeSet<usize>),
}

/// Why a cpuset is not possible on a machine.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CpusetError {
    /// The machine has no LLC at this index, or no node with this number.
    #[error("CpusetSpec: {what} {index} does not exist, there are {count}")]
    OutOfRange {
        /// "LLC" or "NUMA node".
        what: &'static str,
        /// The index of the LLC, or the number of the node, that was requested.
        index: usize,
        /// How many LLCs or nodes the machine has.
        count: usize,
    },
    /// The index of the part is not less than the number of parts.
    #[error("CpusetSpec: part {index} of {of} does not exist")]
    NoSuchPart {
        /// The requested part, from 0.
        index: usize,
        /// The number of parts.
        of: usize,
    },
    /// There are more parts than usable CPUs.
    #[error("CpusetSpec: {usable} usable CPUs cannot be divided into {of} parts")]
    TooManyParts {
        /// The number of parts.
        of: usize,
        /// The number of usable CPUs.
        usable: usize,
    },
    /// A fraction outside [0, 1].
    #[error("CpusetSpec: {name} = {value} is not in [0, 1]")]
    Fraction {
        /// Name of the fraction.
        name: &'static str,
        /// The fraction that was given.
        value: f64,
    },
    /// A range whose end is not after its start.
    #[error("CpusetSpec: the range from {start} to {end} is empty")]
    Backwards {
        /// The fraction of the usable CPUs at which the range starts.
        start: f64,
        /// The fraction of the usable CPUs at which the range ends.
        end: f64,
    },
    /// CPUs that the machine does not have.
    #[error("CpusetSpec: CPUs {missing} do not exist, the machine has {present}")]
    NoSuchCpus {
        /// The CPUs that do not exist, as a list.
        missing: String,
        /// The CPUs of the machine, as a list.
        present: String,
    },
    /// The rule selects no CPU.
    #[error("CpusetSpec: {spec:?} gives no CPU, the usable CPUs are {usable}")]
    Empty {
        /// The rule that selects no CPU.
        spec: CpusetSpec,
        /// The usable CPUs, as a list.
        usable: String,
    },
}

impl CpusetSpec {
    /// The CPUs of the LLC at this index.
    pub const fn llc(index: usize) -> Self {
        Self::Llc(index)
    }

    /// The CPUs of this NUMA node.
    pub const fn numa(node: usize) -> Self {
        Self::Numa(node)
    }

    /// The usable CPUs from one fraction of them to another.
    pub const fn range(start_frac: f64, end_frac: f64) -> Self {
        Self::Range {
            start_frac,
            end_frac,
        }
    }

    /// Part `index` of `of` equal parts.
    pub const fn disjoint(index: usize, of: usize) -> Self {
        Self::Disjoint { index, of }
    }

    /// Part `index` of `of` equal parts, widened on both sides by `frac` of its length.
    pub const fn overlap(index: usize, of: usize, frac: f64) -> Self {
        Self::Overlap { index, of, frac }
    }

    /// The set of exactly these CPUs, by number.
    pub fn exact(cpus: impl IntoIterator<Item = usize>) -> Self {
        Self::Exact(cpus.into_iter().collect())
    }

    /// Checks that the rule selects CPUs in this context.
    ///
    /// # Errors
    /// As [`CpusetSpec::resolve_on`].
    pub fn validate(&self, ctx: &Ctx) -> Result<(), CpusetError> {
        self.resolve_on(ctx.topo).map(drop)
    }

    /// Returns the CPUs that the rule selects in this context. The set is never empty.
    ///
    /// # Errors
    /// As [`CpusetSpec::resolve_on`].
    pub fn resolve(&self, ctx: &Ctx) -> Result<BTreeSet<usize>, CpusetError> {
        self.resolve_on(ctx.topo)
    }

    /// Does the same as [`CpusetSpec::resolve`]. Both functions print nothing, and return an error for CPUs that do not exist
    /// instead of leaving them out.
    ///
    /// # Errors
    /// As [`CpusetSpec::resolve_on`].
    pub fn resolve_quiet(&self, ctx: &Ctx) -> Result<BTreeSet<usize>, CpusetError> {
        self.resolve(ctx)
    }

    /// Returns the CPUs that the rule selects on this machine. The set is never empty.
    ///
    /// # Errors
    /// [`CpusetError`] names the value that is out of range, or the rule that selects no CPU.
    pub fn resolve_on(&self, topology: &TestTopology) -> Result<BTreeSet<usize>, CpusetError> {
        let usable = topology.usable_cpus();
        let cpus = match *self {
            Self::Llc(index) => {
                let count = topology.num_llcs();
                if index >= count {
                    return Err(CpusetError::OutOfRange {
                        what: "LLC",
                        index,
                        count,
                    });
                }
                topology.llc_aligned_cpuset(index)
            }
            Self::Numa(index) => {
                if !topology.numa_node_ids().contains(&index) {
                    return Err(CpusetError::OutOfRange {
                        what: "NUMA node",
                        index,
                        count: topology.num_numa_nodes(),
                    });
                }
                topology.numa_aligned_cpuset(index)
            }
            Self::Range {
                start_frac,
                end_frac,
            } => {
                fraction("start_frac", start_frac)?;
                fraction("end_frac", end_frac)?;
                if start_frac >= end_frac {
                    return Err(CpusetError::Backwards {
                        start: start_frac,
                        end: end_frac,
                    });
                }
                let at = |frac: f64| (usable.len() as f64 * frac).floor() as usize;
                let range = at(start_frac)..at(end_frac).min(usable.len());
                usable.get(range).unwrap_or(&[]).iter().copied().collect()
            }
            Self::Disjoint { index, of } => part(topology, index, of, 0.0)?,
            Self::Overlap { index, of, frac } => {
                fraction("frac", frac)?;
                part(topology, index, of, frac)?
            }
            Self::Exact(ref cpus) => {
                let all = topology.all_cpuset();
                let missing: BTreeSet<usize> = cpus.difference(&all).copied().collect();
                if !missing.is_empty() {
                    return Err(CpusetError::NoSuchCpus {
                        missing: cpuset_string(&missing),
                        present: cpuset_string(&all),
                    });
                }
                cpus.clone()
            }
        };
        if cpus.is_empty() {
            return Err(CpusetError::Empty {
                spec: self.clone(),
                usable: cpuset_string(&topology.usable_cpuset()),
            });
        }
        Ok(cpus)
    }
}

/// Checks that a fraction is in [0, 1].
fn fraction(name: &'static str, value: f64) -> Result<(), CpusetError> {
    if (0.0..=1.0).contains(&value) {
        Ok(())
    } else {
        Err(CpusetError::Fraction { name, value })
    }
}

/// Returns the CPUs of part `index` of `of`, widened by `frac` of its length on each side.
fn part(
    topology: &TestTopology,
    index: usize,
    of: usize,
    frac: f64,
) -> Result<BTreeSet<usize>, CpusetError> {
    if index >= of {
        return Err(CpusetError::NoSuchPart { index, of });
    }
    topology
        .partition(index, of, frac)
        .ok_or(CpusetError::TooManyParts {
            of,
            usable: topology.usable_cpus().len(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Topology;
    use proptest::prelude::*;

    fn view(cores: u32) -> TestTopology {
        TestTopology::from_vm_topology(&Topology::new(2, 2, cores, 1))
    }

    #[test]
    fn each_rule() {
        // The machine has 16 CPUs, of which 15 are usable: 0-14.
        let view = view(8);
        let list = |spec: CpusetSpec| cpuset_string(&spec.resolve_on(&view).expect("CPUs"));
        assert_eq!(list(CpusetSpec::llc(1)), "8-15");
        assert_eq!(list(CpusetSpec::numa(0)), "0-7");
        assert_eq!(list(CpusetSpec::range(0.0, 0.5)), "0-6");
        assert_eq!(list(CpusetSpec::range(0.5, 1.0)), "7-14");
        assert_eq!(list(CpusetSpec::disjoint(0, 2)), "0-6");
        assert_eq!(list(CpusetSpec::disjoint(1, 2)), "7-14");
        assert_eq!(list(CpusetSpec::overlap(0, 2, 0.5)), "0-9");
        assert_eq!(list(CpusetSpec::overlap(1, 2, 0.5)), "4-14");
        assert_eq!(list(CpusetSpec::exact([1, 15])), "1,15");
    }

    #[test]
    fn errors_say_what_there_is() {
        let view = view(1);
        let error = |spec: CpusetSpec| spec.resolve_on(&view).expect_err("no CPUs").to_string();
        insta::assert_snapshot!(error(CpusetSpec::llc(2)), @"CpusetSpec: LLC 2 does not exist, there are 2");
        insta::assert_snapshot!(error(CpusetSpec::disjoint(2, 2)), @"CpusetSpec: part 2 of 2 does not exist");
        insta::assert_snapshot!(error(CpusetSpec::disjoint(0, 0)), @"CpusetSpec: part 0 of 0 does not exist");
        insta::assert_snapshot!(error(CpusetSpec::disjoint(0, 3)), @"CpusetSpec: 2 usable CPUs cannot be divided into 3 parts");
        insta::assert_snapshot!(error(CpusetSpec::range(f64::NAN, 1.0)), @"CpusetSpec: start_frac = NaN is not in [0, 1]");
        insta::assert_snapshot!(error(CpusetSpec::range(0.5, 0.5)), @"CpusetSpec: the range from 0.5 to 0.5 is empty");
        insta::assert_snapshot!(error(CpusetSpec::range(0.0, 0.1)), @"CpusetSpec: Range { start_frac: 0.0, end_frac: 0.1 } gives no CPU, the usable CPUs are 0-1");
        insta::assert_snapshot!(error(CpusetSpec::exact([1, 2])), @"CpusetSpec: CPUs 2 do not exist, the machine has 0-1");
        insta::assert_snapshot!(error(CpusetSpec::exact([])), @"CpusetSpec: Exact({}) gives no CPU, the usable CPUs are 0-1");
    }

    proptest! {
        #[test]
        fn ranges_that_meet_cover_once(cores in 1u32..40, cut in 0.01f64..0.99) {
            let view = view(cores);
            let get = |a, b| CpusetSpec::range(a, b).resolve_on(&view).unwrap_or_default();
            let (left, right) = (get(0.0, cut), get(cut, 1.0));
            prop_assert!(left.is_disjoint(&right));
            prop_assert_eq!(&left | &right, view.usable_cpuset());
        }
    }
}
