//! Topologies as text: `2n4l8c2t` is two nodes, four LLCs in total, eight cores under each LLC, two threads per core. The
//! text is a name for people and for the command line, and is not complete: it leaves out memory, distances, and which nodes
//! have no CPUs.

use std::fmt;
use std::str::FromStr;

use super::declared::{Topology, TopologyError};

/// Why a text is not a topology.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopologyParseError {
    /// The text is not of the form `<n>n<l>l<c>c<t>t`.
    #[error("topology {text:?}: expected <nodes>n<llcs>l<cores>c<threads>t, such as 1n2l4c1t")]
    BadFormat {
        /// The whole text, as it was given.
        text: String,
    },
    /// The name of an unknown preset.
    #[error(
        "topology {text:?} is neither a shape nor a preset. A shape looks like 1n2l4c1t (1 NUMA node, 2 LLCs in total, 4 cores \
         per LLC, 1 thread per core). The presets are: {known}"
    )]
    UnknownPreset {
        /// The name, as it was given.
        text: String,
        /// The names of all presets.
        known: String,
    },
    /// A number is malformed, zero, or larger than `u32::MAX`.
    #[error(
        "topology {text:?}: {found:?} before '{unit}' must be a number of at least 1 and at most {}",
        u32::MAX
    )]
    BadComponent {
        /// The whole text, as it was given.
        text: String,
        /// The letter of the component.
        unit: char,
        /// The text before the letter.
        found: String,
    },
    /// LLCs cannot be spread evenly over the nodes.
    #[error(
        "topology {text:?}: the number of LLCs, {llcs}, must be a multiple of the number of NUMA nodes, {numa_nodes}"
    )]
    NotMultiple {
        /// The whole text, as it was given.
        text: String,
        /// The number of LLCs over all nodes in the text.
        llcs: u32,
        /// The number of NUMA nodes in the text.
        numa_nodes: u32,
    },
    /// The number of CPUs does not fit in 32 bits.
    #[error("topology {text:?}: too many CPUs")]
    Overflow {
        /// The whole text, as it was given.
        text: String,
    },
}

impl fmt::Display for Topology {
    /// Formats a shape as `1n2l4c2t`: nodes, LLCs in total, cores per LLC, threads per core. If the nodes with CPUs have
    /// different numbers of LLCs, the number of LLCs is written as a sum with one term for each of these nodes. If the LLCs have
    /// different numbers of cores, the number of cores is a sum with one term for each LLC: `1n2l3+1c1t` is an LLC of three cores
    /// and an LLC of one core. A text with a sum cannot be parsed. Nodes without CPUs are counted in the number of nodes only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let llcs: Vec<u32> = match self.nodes {
            None => vec![self.llcs],
            Some(nodes) => nodes.iter().map(|node| node.llcs).collect(),
        };
        let cores: Vec<u32> = match self.llc_cores {
            None => vec![self.cores_per_llc],
            Some(cores) => cores.to_vec(),
        };
        f.write_str(&short(
            self.numa_nodes,
            &llcs,
            &cores,
            self.threads_per_core,
        ))
    }
}

/// Returns the text of a shape, as `Display` formats it. `llcs` has the number of LLCs of each node, or only the total if all
/// nodes have the same number; `cores` likewise has the number of cores of each LLC, or one number for all.
pub(super) fn short(nodes: u32, llcs: &[u32], cores: &[u32], threads: u32) -> String {
    let with_cpus: Vec<u32> = llcs.iter().copied().filter(|llcs| *llcs > 0).collect();
    let uneven = |numbers: &[u32]| {
        let differ = numbers.windows(2).any(|pair| pair[0] != pair[1]);
        differ.then(|| {
            let texts: Vec<String> = numbers.iter().map(u32::to_string).collect();
            texts.join("+")
        })
    };
    let total = || llcs.iter().fold(0u32, |a, b| a.saturating_add(*b));
    let llcs = uneven(&with_cpus).unwrap_or_else(|| total().to_string());
    let first = || cores.first().copied().unwrap_or_default();
    let cores = uneven(cores).unwrap_or_else(|| first().to_string());
    format!("{nodes}n{llcs}l{cores}c{threads}t")
}

impl FromStr for Topology {
    type Err = TopologyParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut rest = text;
        let mut numbers = [0u32; 4];
        for (number, unit) in numbers.iter_mut().zip(['n', 'l', 'c', 't']) {
            let (found, after) =
                rest.split_once(unit)
                    .ok_or_else(|| TopologyParseError::BadFormat {
                        text: text.to_owned(),
                    })?;
            let digits = !found.is_empty() && found.bytes().all(|b| b.is_ascii_digit());
            *number = match found.parse() {
                Ok(value) if digits && value > 0 => value,
                _ => {
                    return Err(TopologyParseError::BadComponent {
                        text: text.to_owned(),
                        unit,
                        found: found.to_owned(),
                    });
                }
            };
            rest = after;
        }
        if !rest.is_empty() {
            return Err(TopologyParseError::BadFormat {
                text: text.to_owned(),
            });
        }
        let [numa_nodes, llcs, cores, threads] = numbers;
        let topology = Self::new(numa_nodes, llcs, cores, threads);
        match topology.validate() {
            Ok(()) => Ok(topology),
            Err(TopologyError::NotMultiple { llcs, numa_nodes }) => {
                Err(TopologyParseError::NotMultiple {
                    text: text.to_owned(),
                    llcs,
                    numa_nodes,
                })
            }
            Err(_) => Err(TopologyParseError::Overflow {
                text: text.to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(text: &str) -> String {
        text.parse::<Topology>()
            .expect_err("not a topology")
            .to_string()
    }

    #[test]
    fn bad_texts_say_why() {
        insta::assert_snapshot!(error("2n4l8c"), @r#"topology "2n4l8c": expected <nodes>n<llcs>l<cores>c<threads>t, such as 1n2l4c1t"#);
        insta::assert_snapshot!(error("1n1l2c1tx"), @r#"topology "1n1l2c1tx": expected <nodes>n<llcs>l<cores>c<threads>t, such as 1n2l4c1t"#);
        insta::assert_snapshot!(error("1n0l2c1t"), @r#"topology "1n0l2c1t": "0" before 'l' must be a number of at least 1 and at most 4294967295"#);
        insta::assert_snapshot!(error("1n+1l2c1t"), @r#"topology "1n+1l2c1t": "+1" before 'l' must be a number of at least 1 and at most 4294967295"#);
        insta::assert_snapshot!(error("1n99999999999l2c1t"), @r#"topology "1n99999999999l2c1t": "99999999999" before 'l' must be a number of at least 1 and at most 4294967295"#);
        insta::assert_snapshot!(error("2n3l2c1t"), @r#"topology "2n3l2c1t": the number of LLCs, 3, must be a multiple of the number of NUMA nodes, 2"#);
        insta::assert_snapshot!(error("1n65536l65536c1t"), @r#"topology "1n65536l65536c1t": too many CPUs"#);
    }

    proptest! {
        #[test]
        fn print_then_parse_is_the_same(n in 1u32..9, per in 1u32..9, c in 1u32..64, t in 1u32..5) {
            let topology = Topology::new(n, n * per, c, t);
            prop_assert_eq!(topology.to_string().parse::<Topology>(), Ok(topology));
        }

        #[test]
        fn parsing_is_total(text in "[0-9nlct+ ]{0,24}") {
            if let Ok(topology) = text.parse::<Topology>() {
                prop_assert!(topology.validate().is_ok());
            }
        }
    }
}
