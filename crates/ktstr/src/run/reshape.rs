//! The shape of the machine when it is not the one that the test declares.
//!
//! `KTSTR_TOPOLOGY` asks for another: one shape for all tests of a command. What a test's constraints do not admit is skipped.

use ktstr_scenario::topology::Topology;

use super::{RunError, environment};
use crate::entry::KtstrTestEntry;

const TOPOLOGY: &str = "KTSTR_TOPOLOGY";

/// On which shape a test is to run.
#[derive(Debug)]
pub(super) enum Reshaped {
    /// The entry as it is to run.
    Run(&'static KtstrTestEntry),
    /// Not at all, and why.
    Skip(String),
}

/// `entry` on the shape that the environment asks for, if it asks.
pub(super) fn reshape(entry: &'static KtstrTestEntry) -> Result<Reshaped, RunError> {
    match environment(TOPOLOGY) {
        Some(text) if !entry.host_only => onto(entry, &text),
        _ => Ok(Reshaped::Run(entry)),
    }
}

fn onto(entry: &'static KtstrTestEntry, text: &str) -> Result<Reshaped, RunError> {
    let topology = Topology::from_name(text).map_err(|error| RunError::Environment {
        name: TOPOLOGY,
        value: text.to_owned(),
        wanted: error.to_string(),
    })?;
    if topology == entry.topology {
        return Ok(Reshaped::Run(entry));
    }
    if let Err(error) = entry.constraints.admits(&topology) {
        return Ok(Reshaped::Skip(format!(
            "{TOPOLOGY}={text} is not a shape for this test: {error}"
        )));
    }
    // What a test declares lives as long as the program, and a program runs few tests.
    Ok(Reshaped::Run(Box::leak(Box::new(KtstrTestEntry {
        topology,
        ..*entry
    }))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ktstr_scenario::topology::TopologyConstraints;

    static WIDE: KtstrTestEntry = KtstrTestEntry {
        name: "wide",
        constraints: TopologyConstraints::DEFAULT.with_min_llcs(2),
        topology: Topology::new(1, 2, 1, 1),
        ..KtstrTestEntry::DEFAULT
    };

    #[test]
    fn a_test_runs_on_the_shape_that_is_asked_for() {
        match onto(&WIDE, "8cpu-2llc-smt") {
            Ok(Reshaped::Run(entry)) => {
                assert_eq!(entry.topology, Topology::new(1, 2, 2, 2));
                assert_eq!(entry.name, "wide");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_shape_that_the_constraints_do_not_admit_is_a_skip() {
        match onto(&WIDE, "1n1l4c1t") {
            Ok(Reshaped::Skip(why)) => assert_eq!(
                why,
                "KTSTR_TOPOLOGY=1n1l4c1t is not a shape for this test: constraints: min_llcs = 2, and the topology has 1"
            ),
            other => panic!("{other:?}"),
        }
        // The default admits one node: nobody said that this test was made for two.
        assert!(matches!(onto(&WIDE, "2n2l2c1t"), Ok(Reshaped::Skip(_))));
    }

    #[test]
    fn a_text_that_is_no_shape_is_an_error() {
        assert!(matches!(
            onto(&WIDE, "8 cpus"),
            Err(RunError::Environment { .. })
        ));
    }
}
