//! Attributes the death of workers that signals killed. Workers that an operation of the test killed are not among them.

use ktstr_assert::{AssertDetail, Finding, Outcome, WorkerExitInfo};

use super::scheduler_exit::CRASHES;
use super::{Case, Fault, Judgement, fault};

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
    let line = fault::killed_for_memory(console, case.memory_mib)?;
    // Only a test sets the limit of a cgroup. Who used up the memory of the whole machine is unknown.
    let fault = match line.starts_with("Memory cgroup") {
        true => Fault::Test,
        false => Fault::Undetermined,
    };
    Some((fault, line))
}

/// Turns the finding that a worker was killed into a note if the signal was neither the kernel's answer to a crash nor that of
/// the OOM killer: only the test itself, or a program that it runs, can have sent it, and then it did so on purpose.
pub(super) fn excuse(judgement: &mut Judgement, case: &Case, console: &str) {
    let of_memory = fault::killed_for_memory(console, case.memory_mib).is_some();
    let mut notes = Vec::new();
    judgement.result.outcomes.retain(|outcome| {
        let Outcome::Fail(detail) = outcome else {
            return true;
        };
        let Finding::WorkerKilled { signal, .. } = detail.finding else {
            return true;
        };
        let stands = CRASHES.contains(&signal) || signal == libc::SIGKILL && of_memory;
        if !stands {
            notes.push(format!(
                "{}: the test itself, or a program that it runs, sent the signal, since neither the harness nor the kernel did",
                detail.message
            ));
        }
        stands
    });
    for note in notes {
        judgement.result.note(note);
    }
}
