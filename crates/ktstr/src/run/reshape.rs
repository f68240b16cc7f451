//! `KTSTR_TOPOLOGY`: sets one topology for all tests of a command, instead of the ones that the tests declare. Tests whose
//! constraints do not allow it are skipped.

use ktstr_scenario::topology::Topology;
use ktstr_state::env::TOPOLOGY;

use super::RunError;
use crate::entry::KtstrTestEntry;

/// Whether a test runs, and on which topology.
#[derive(Debug)]
pub(super) enum Reshaped {
    /// The entry, with the topology on which it runs.
    Run(&'static KtstrTestEntry),
    /// The test does not run, for this reason.
    Skip(String),
}

/// Returns `entry` with the topology that the environment asks for, or unchanged if it asks for none or if the test runs
/// on the host. Returns a skip if the test's constraints do not allow this topology.
pub(super) fn reshape(entry: &'static KtstrTestEntry) -> Result<Reshaped, RunError> {
    if entry.host_only {
        return Ok(Reshaped::Run(entry));
    }
    match TOPOLOGY.get()? {
        Some(text) => onto(entry, &text),
        None => Ok(Reshaped::Run(entry)),
    }
}

fn onto(entry: &'static KtstrTestEntry, text: &str) -> Result<Reshaped, RunError> {
    let topology =
        Topology::from_name(text).map_err(|error| TOPOLOGY.invalid(text, error.to_string()))?;
    if topology == entry.topology {
        return Ok(Reshaped::Run(entry));
    }
    if let Err(error) = entry.constraints.admits(&topology) {
        return Ok(Reshaped::Skip(format!(
            "{TOPOLOGY}={text} is not a shape for this test: {error}"
        )));
    }
    // Entries have to live as long as the program. A program runs few tests, so leaking one for each is harmless.
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
        // The default constraints allow one node only: a test has to declare that it works with two.
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
