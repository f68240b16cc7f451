//! The CPUs of the host that a machine may use: those that this process may use, unless the test or the user sets a limit.

use ktstr_machine::Machine;

use super::{RunError, environment};
use crate::entry::KtstrTestEntry;

/// The environment variable that limits every test whose declaration sets no limit.
const CAP: &str = "KTSTR_CPU_CAP";

/// Restricts the machine to the CPUs of its budget, if it has one. Returns how many CPUs it may use.
pub(super) fn apply(entry: &KtstrTestEntry, machine: &Machine) -> Result<u32, RunError> {
    match entry
        .cpu_budget
        .map_or_else(cap, |budget| Ok(Some(budget)))?
    {
        Some(budget) => Ok(machine.share_cpus(budget)?),
        None => Ok(ktstr_record::HostRecord::detect().cores),
    }
}

/// Returns the user's limit; `None` if there is none.
fn cap() -> Result<Option<u32>, RunError> {
    let Some(value) = environment(CAP) else {
        return Ok(None);
    };
    match value.parse() {
        Ok(0) | Err(_) => Err(RunError::Environment {
            name: CAP,
            value,
            wanted: "expected a number of the host's CPUs, at least 1".to_owned(),
        }),
        Ok(cap) => Ok(Some(cap)),
    }
}
