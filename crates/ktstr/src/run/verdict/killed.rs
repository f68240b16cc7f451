//! Attributes the death of workers that signals killed. Workers that an operation of the test killed are not among them.

use ktstr_assert::{AssertDetail, Finding, WorkerExitInfo};

use super::scheduler_exit::CRASHES;
use super::{Case, Fault, fault};

/// Returns whether the finding is about a worker that a signal killed.
pub(super) fn is_death(detail: &AssertDetail) -> bool {
    let exit = match &detail.finding {
        Finding::WorkerKilled { .. } => return true,
        Finding::NoProgress { exit, .. } => exit,
        _ => return false,
    };
    matches!(exit, Some(WorkerExitInfo::Signaled(_)))
}

/// Returns who is at fault for the deaths of workers, and the evidence. `None` if `findings` has no such death.
pub(super) fn fault<'a>(
    findings: impl Iterator<Item = &'a AssertDetail>,
    case: &Case,
    console: &str,
) -> Option<(Fault, String)> {
    let mut killed: Vec<(i32, i32)> = findings
        .filter_map(|detail| match detail.finding {
            Finding::WorkerKilled { tid, signal } => Some((tid, signal)),
            _ => None,
        })
        .collect();
    // A crash shows its cause, so it comes first.
    killed.sort_by_key(|(_, signal)| !CRASHES.contains(signal));
    let (tid, signal) = *killed.first()?;
    if CRASHES.contains(&signal) {
        let why = format!(
            "worker {tid} crashed: signal {signal} is the kernel's answer to what its own code did"
        );
        return Some((Fault::Test, why));
    }
    let of_memory = fault::killed_for_memory(console, case.memory_mib);
    Some(match of_memory.filter(|_| signal == libc::SIGKILL) {
        // Only a test sets the limit of a cgroup. Who used up the memory of the whole machine is unknown.
        Some(line) if line.starts_with("Memory cgroup") => (Fault::Test, line),
        Some(line) => (Fault::Undetermined, line),
        None => {
            let why = format!(
                "nothing shows who sent signal {signal} to worker {tid}: no operation of the test, no OOM killer; if the test itself \
                 kills its workers, use Op::kill_cgroup"
            );
            (Fault::Undetermined, why)
        }
    })
}
