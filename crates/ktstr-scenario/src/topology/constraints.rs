//! Constraints on the topologies (shapes) that a test accepts. The shape that the test declares must meet them, and is never
//! changed by them.

use super::declared::Topology;
use crate::const_text::ConstText;

/// A filter on topologies. `None` in a maximum means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TopologyConstraints {
    /// The smallest number of NUMA nodes that is accepted.
    pub min_numa_nodes: u32,
    /// The largest number of NUMA nodes that is accepted.
    pub max_numa_nodes: Option<u32>,
    /// The smallest number of LLCs that is accepted.
    pub min_llcs: u32,
    /// The largest number of LLCs that is accepted.
    pub max_llcs: Option<u32>,
    /// Whether only shapes with more than one thread per core are accepted.
    pub requires_smt: bool,
    /// The smallest number of CPUs that is accepted.
    pub min_cpus: u32,
    /// The largest number of CPUs that is accepted.
    pub max_cpus: Option<u32>,
}

/// Why constraints can never be met, or are not met by a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ConstraintsError {
    /// A minimum is above its maximum.
    #[error("constraints: min_{what} = {min} is more than max_{what} = {max}")]
    MinAboveMax {
        /// The dimension: `numa_nodes`, `llcs` or `cpus`.
        what: &'static str,
        /// The minimum that was given.
        min: u32,
        /// The maximum that was given.
        max: u32,
    },
    /// A shape does not meet the constraints.
    #[error("constraints: {limit} = {bound}, and the topology has {has}")]
    Outside {
        /// The name of the limit: `min_llcs` and so on, or `threads per core (requires_smt)`.
        limit: &'static str,
        /// The value of the constraint.
        bound: u32,
        /// The number that the topology has instead.
        has: u32,
    },
    /// A maximum is zero.
    #[error("constraints: max_{what} is 0, so no topology can be accepted")]
    ZeroMax {
        /// The dimension, as the constraint names it.
        what: &'static str,
    },
}

impl ConstraintsError {
    /// Panics with the message of this error, which in a `const` is a compile error.
    const fn panic(self) -> ! {
        let message = match self {
            Self::ZeroMax { what } => ConstText::new()
                .text("constraints: max_")
                .text(what)
                .text(" is 0, so no topology can be accepted"),
            Self::MinAboveMax { what, min, max } => ConstText::new()
                .text("constraints: min_")
                .text(what)
                .text(" = ")
                .number(min)
                .text(" is more than max_")
                .text(what)
                .text(" = ")
                .number(max),
            Self::Outside { limit, bound, has } => ConstText::new()
                .text("constraints: ")
                .text(limit)
                .text(" = ")
                .number(bound)
                .text(", and the topology has ")
                .number(has),
        };
        panic!("{}", message.as_str())
    }
}

impl TopologyConstraints {
    /// One node, at most 12 LLCs, at most 192 CPUs.
    pub const DEFAULT: Self = Self {
        min_numa_nodes: 1,
        max_numa_nodes: Some(1),
        min_llcs: 1,
        max_llcs: Some(12),
        requires_smt: false,
        min_cpus: 1,
        max_cpus: Some(192),
    };

    /// Constraints without any limit, which accept every shape.
    pub const UNLIMITED: Self = Self {
        min_numa_nodes: 1,
        max_numa_nodes: None,
        min_llcs: 1,
        max_llcs: None,
        requires_smt: false,
        min_cpus: 1,
        max_cpus: None,
    };

    /// Checks that the declared shape `topology` is within the limits that were set explicitly. A limit that equals the default
    /// counts as not set, so that tests on two nodes need not lift the default limit of one.
    ///
    /// # Errors
    /// [`ConstraintsError::Outside`] names the first limit that the shape violates.
    pub const fn holds(&self, topology: &Topology) -> Result<(), ConstraintsError> {
        self.within(topology, &Self::DEFAULT)
    }

    /// Returns the same constraints if [`TopologyConstraints::holds`] succeeds. Otherwise it panics, which in a `const` is a
    /// compile error.
    ///
    /// # Panics
    /// If the check fails; the message has the numbers.
    pub const fn holding(self, topology: &Topology) -> Self {
        match self.holds(topology) {
            Ok(()) => self,
            Err(error) => error.panic(),
        }
    }

    /// Panics unless the shape meets all limits, including those that equal the default. In a `const` that is a compile error.
    ///
    /// # Panics
    /// If the shape violates a limit; the message has the numbers.
    pub const fn hold_strictly(self, topology: &Topology) {
        if let Err(error) = self.within(topology, &Self::UNLIMITED) {
            error.panic();
        }
    }

    /// Checks that a test with these constraints may run on `topology`, which need not be the test's declared topology. All
    /// limits count, including those that equal the default.
    ///
    /// # Errors
    /// [`ConstraintsError::Outside`] names the first limit that the shape violates.
    pub const fn admits(&self, topology: &Topology) -> Result<(), ConstraintsError> {
        self.within(topology, &Self::UNLIMITED)
    }

    /// Checks the limits, except for a limit with the same value as in `unset`, which counts as not set. Also checks that cores
    /// have more than one thread if that is required.
    const fn within(&self, topology: &Topology, unset: &Self) -> Result<(), ConstraintsError> {
        let sizes = [
            (
                topology.numa_nodes,
                ("min_numa_nodes", self.min_numa_nodes, unset.min_numa_nodes),
                ("max_numa_nodes", self.max_numa_nodes, unset.max_numa_nodes),
            ),
            (
                topology.llcs,
                ("min_llcs", self.min_llcs, unset.min_llcs),
                ("max_llcs", self.max_llcs, unset.max_llcs),
            ),
            (
                topology.total_cpus(),
                ("min_cpus", self.min_cpus, unset.min_cpus),
                ("max_cpus", self.max_cpus, unset.max_cpus),
            ),
        ];
        let mut i = 0;
        while i < sizes.len() {
            let (has, (min_name, min, unset_min), (max_name, max, unset_max)) = sizes[i];
            if min != unset_min && has < min {
                return Err(ConstraintsError::Outside {
                    limit: min_name,
                    bound: min,
                    has,
                });
            }
            if let Some(max) = max
                && !is(unset_max, max)
                && has > max
            {
                return Err(ConstraintsError::Outside {
                    limit: max_name,
                    bound: max,
                    has,
                });
            }
            i += 1;
        }
        if self.requires_smt && topology.threads_per_core < 2 {
            return Err(ConstraintsError::Outside {
                limit: "threads per core (requires_smt)",
                bound: 2,
                has: topology.threads_per_core,
            });
        }
        Ok(())
    }

    /// Sets the smallest accepted number of NUMA nodes.
    pub const fn with_min_numa_nodes(mut self, n: u32) -> Self {
        self.min_numa_nodes = n;
        self
    }

    /// Sets the largest accepted number of NUMA nodes.
    pub const fn with_max_numa_nodes(mut self, n: u32) -> Self {
        self.max_numa_nodes = Some(n);
        self
    }

    /// Lifts the limit on NUMA nodes.
    pub const fn without_max_numa_nodes(mut self) -> Self {
        self.max_numa_nodes = None;
        self
    }

    /// Sets the smallest accepted number of LLCs.
    pub const fn with_min_llcs(mut self, n: u32) -> Self {
        self.min_llcs = n;
        self
    }

    /// Sets the largest accepted number of LLCs.
    pub const fn with_max_llcs(mut self, n: u32) -> Self {
        self.max_llcs = Some(n);
        self
    }

    /// Lifts the limit on LLCs.
    pub const fn without_max_llcs(mut self) -> Self {
        self.max_llcs = None;
        self
    }

    /// Sets whether only shapes with more than one thread per core are accepted.
    pub const fn with_requires_smt(mut self, requires_smt: bool) -> Self {
        self.requires_smt = requires_smt;
        self
    }

    /// Sets the smallest accepted number of CPUs.
    pub const fn with_min_cpus(mut self, n: u32) -> Self {
        self.min_cpus = n;
        self
    }

    /// Sets the largest accepted number of CPUs.
    pub const fn with_max_cpus(mut self, n: u32) -> Self {
        self.max_cpus = Some(n);
        self
    }

    /// Lifts the limit on CPUs.
    pub const fn without_max_cpus(mut self) -> Self {
        self.max_cpus = None;
        self
    }

    /// Checks that the limits do not contradict each other: no maximum is 0, and none is below its minimum.
    ///
    /// # Errors
    /// [`ConstraintsError`] names the first contradiction.
    pub const fn validate(&self) -> Result<(), ConstraintsError> {
        let dimensions = [
            ("numa_nodes", self.min_numa_nodes, self.max_numa_nodes),
            ("llcs", self.min_llcs, self.max_llcs),
            ("cpus", self.min_cpus, self.max_cpus),
        ];
        let mut i = 0;
        while i < dimensions.len() {
            let (what, min, max) = dimensions[i];
            if let Some(max) = max {
                if max == 0 {
                    return Err(ConstraintsError::ZeroMax { what });
                }
                if min > max {
                    return Err(ConstraintsError::MinAboveMax { what, min, max });
                }
            }
            i += 1;
        }
        Ok(())
    }

    /// Returns the same constraints if they do not contradict each other. Otherwise it panics, which in a `const` is
    /// a compile error.
    ///
    /// # Panics
    /// If [`TopologyConstraints::validate`] fails, with its message.
    pub const fn checked(self) -> Self {
        match self.validate() {
            Ok(()) => self,
            Err(error) => error.panic(),
        }
    }

    /// Returns whether the shape meets all limits, regardless of the host.
    pub const fn accepts_shape(&self, topology: &Topology) -> bool {
        self.accepts_verifier(topology)
            && at_most(topology.numa_nodes, self.max_numa_nodes)
            && at_most(topology.llcs, self.max_llcs)
            && at_most(topology.total_cpus(), self.max_cpus)
    }

    /// Returns whether the shape meets all limits and can be mapped one to one to the host: the host has enough CPUs and LLCs,
    /// and its largest LLC has at least as many CPUs as the largest LLC of the shape.
    pub const fn accepts(
        &self,
        topology: &Topology,
        host_cpus: u32,
        host_llcs: u32,
        host_max_cpus_per_llc: u32,
    ) -> bool {
        self.accepts_no_perf_mode(topology, host_cpus)
            && topology.llcs <= host_llcs
            && largest_llc(topology) <= host_max_cpus_per_llc
    }

    /// Returns whether the shape meets all limits and the host has enough CPUs.
    pub const fn accepts_no_perf_mode(&self, topology: &Topology, host_cpus: u32) -> bool {
        self.accepts_shape(topology) && topology.total_cpus() <= host_cpus
    }

    /// Returns whether the shape meets the minima and has the required threads per core. The maxima do not matter if a scheduler
    /// is only loaded and verified.
    pub const fn accepts_verifier(&self, topology: &Topology) -> bool {
        topology.numa_nodes >= self.min_numa_nodes
            && topology.llcs >= self.min_llcs
            && topology.total_cpus() >= self.min_cpus
            && (!self.requires_smt || topology.threads_per_core > 1)
    }
}

impl Default for TopologyConstraints {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Returns whether there is a limit and it is `value`.
const fn is(limit: Option<u32>, value: u32) -> bool {
    match limit {
        Some(limit) => limit == value,
        None => false,
    }
}

const fn at_most(value: u32, max: Option<u32>) -> bool {
    match max {
        Some(max) => value <= max,
        None => true,
    }
}

/// Returns the number of CPUs of the largest LLC.
const fn largest_llc(topology: &Topology) -> u32 {
    let mut largest = 0;
    let mut llc = 0;
    while llc < topology.llcs {
        let cores = topology.cores_in_llc(llc);
        if cores > largest {
            largest = cores;
        }
        llc += 1;
        if topology.llc_cores.is_none() {
            break;
        }
    }
    largest.saturating_mul(topology.threads_per_core)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_limit_refuses_a_shape() {
        let c = TopologyConstraints::DEFAULT;
        let t = |n, l, c, s| Topology::new(n, l, c, s);
        assert!(c.accepts(&t(1, 12, 16, 1), 192, 12, 16));
        assert!(!c.accepts(&t(1, 12, 16, 1), 191, 12, 16), "CPUs missing");
        assert!(!c.accepts(&t(1, 12, 16, 1), 192, 11, 16), "LLCs missing");
        assert!(!c.accepts(&t(1, 12, 16, 1), 192, 12, 15), "LLC too small");
        assert!(c.accepts_no_perf_mode(&t(1, 12, 16, 1), 192));
        assert!(!c.accepts_shape(&t(2, 2, 1, 1)), "too many nodes");
        assert!(!c.accepts_shape(&t(1, 13, 1, 1)), "too many LLCs");
        assert!(!c.accepts_shape(&t(1, 1, 193, 1)), "too many CPUs");
        assert!(
            c.accepts_verifier(&t(2, 16, 32, 1)),
            "verifier has no maxima"
        );
        assert!(!c.with_requires_smt(true).accepts_shape(&t(1, 1, 4, 1)));
        assert!(!c.with_min_cpus(5).accepts_verifier(&t(1, 1, 4, 1)));
        assert!(c.without_max_numa_nodes().accepts_shape(&t(2, 2, 1, 1)));
    }

    #[test]
    fn contradictions_are_named() {
        let error = TopologyConstraints::DEFAULT
            .with_min_llcs(13)
            .validate()
            .expect_err("the minimum is above the maximum");
        insta::assert_snapshot!(error, @"constraints: min_llcs = 13 is more than max_llcs = 12");
    }

    #[test]
    fn a_declared_shape_outside_a_given_limit_is_named() {
        let two_nodes = Topology::new(2, 2, 1, 1);
        let c = TopologyConstraints::DEFAULT;
        assert_eq!(
            c.holds(&two_nodes),
            Ok(()),
            "a default limit is not enforced"
        );
        let error = |c: TopologyConstraints| c.holds(&two_nodes).expect_err("outside").to_string();
        insta::assert_snapshot!(error(c.with_min_llcs(3)), @"constraints: min_llcs = 3, and the topology has 2");
        insta::assert_snapshot!(error(c.with_max_llcs(1)), @"constraints: max_llcs = 1, and the topology has 2");
        insta::assert_snapshot!(error(c.with_min_cpus(4)), @"constraints: min_cpus = 4, and the topology has 2");
        insta::assert_snapshot!(error(c.with_max_cpus(1)), @"constraints: max_cpus = 1, and the topology has 2");
        insta::assert_snapshot!(error(c.with_min_numa_nodes(3)), @"constraints: min_numa_nodes = 3, and the topology has 2");
        insta::assert_snapshot!(error(c.with_requires_smt(true)), @"constraints: threads per core (requires_smt) = 2, and the topology has 1");
    }

    #[test]
    #[should_panic(expected = "constraints: max_numa_nodes = 1, and the topology has 2")]
    fn a_limit_that_is_given_counts_even_if_it_is_the_default_one() {
        let given = TopologyConstraints::UNLIMITED.with_max_numa_nodes(1);
        given.hold_strictly(&Topology::new(2, 2, 1, 1));
    }

    #[test]
    #[should_panic(expected = "constraints: min_cpus = 193 is more than max_cpus = 192")]
    fn checked_panics_with_the_numbers() {
        let _ = TopologyConstraints::DEFAULT.with_min_cpus(193).checked();
    }

    proptest! {
        #[test]
        fn a_stricter_filter_accepts_no_more(
            n in 1u32..4, l in 1u32..8, c in 1u32..16, s in 1u32..3,
            host in 1u32..256, min in 0u32..64, max in 1u32..64,
        ) {
            let topology = Topology::new(n, n * l, c, s);
            let loose = TopologyConstraints::DEFAULT.without_max_numa_nodes();
            let strict = loose.with_min_cpus(min).with_max_cpus(max.min(192));
            if strict.accepts_no_perf_mode(&topology, host) {
                prop_assert!(loose.accepts_no_perf_mode(&topology, host));
                prop_assert!(topology.total_cpus() <= host.min(max));
            }
            if loose.accepts(&topology, host, 8, 32) {
                prop_assert!(loose.accepts_no_perf_mode(&topology, host));
                prop_assert!(loose.accepts_verifier(&topology));
            }
        }
    }
}
