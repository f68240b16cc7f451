//! The CPUs of the host that a machine may use: those that this process may use, unless the test or the user sets a limit.

use ktstr_machine::Machine;
use ktstr_state::env;

use super::RunError;
use crate::entry::KtstrTestEntry;

/// Restricts the machine to the CPUs of its budget, if it has one. Returns how many CPUs it may use.
pub(super) fn apply(entry: &KtstrTestEntry, machine: &Machine) -> Result<u32, RunError> {
    let budget = match entry.cpu_budget {
        Some(budget) => Some(budget),
        None => env::CPU_CAP.get()?,
    };
    match budget {
        Some(budget) => Ok(machine.share_cpus(budget)?),
        None => Ok(ktstr_record::HostRecord::detect().cores),
    }
}
