//! Whose fault a finding is that the guest measured: what speaks for the workload, for a lack of
//! memory, for a host that was busy with other things. Each comes with its evidence, in one line.

use ktstr_assert::{AssertDetail, AssertResult, DetailKind, NoteValue, Outcome};
use ktstr_guest::engine::HOG_KEY;

use super::judge::{Fault, Judgement};
use crate::vm_result::HostVcpuSchedstat;

/// A machine's threads that waited for the host's CPUs this much longer than they ran were
/// disturbed: `1 + waited / ran`.
const CONTENDED: f64 = 1.5;

/// Kinds whose numbers are times or shares of time: those a busy host distorts where the guest's
/// clock is the host's.
fn is_of_time(detail: &AssertDetail) -> bool {
    match detail.kind {
        DetailKind::NoProgress
        | DetailKind::Stuck
        | DetailKind::Unfair
        | DetailKind::Benchmark
        | DetailKind::Monitor
        | DetailKind::Temporal
        | DetailKind::WorkerStuck => true,
        DetailKind::SchedulerEvent => detail.message.contains("runnable task stall"),
        _ => false,
    }
}

/// Whether contention of this degree explains the failure: a measured latency has to come under
/// its bound once it is divided by it.
fn explains(dilation: f64, detail: &AssertDetail) -> bool {
    is_of_time(detail)
        && detail
            .latency_gate
            .is_none_or(|gate| gate.measured_ns as f64 / dilation <= gate.threshold_ns as f64)
}

/// Failures of time that a busy host explains become inconclusive, and the host is named.
pub(super) fn excuse(judgement: &mut Judgement, stat: &HostVcpuSchedstat) {
    let dilation = stat.dilation();
    if dilation <= CONTENDED {
        return;
    }
    let evidence = format!(
        "the host was busy: the machine's threads ran {:.1} s and waited {:.1} s for a CPU \
         (dilation {dilation:.1})",
        stat.total_on_cpu_ns as f64 / 1e9,
        stat.total_run_delay_ns as f64 / 1e9,
    );
    let mut excused = false;
    for outcome in &mut judgement.result.outcomes {
        if let Outcome::Fail(detail) = outcome
            && explains(dilation, detail)
        {
            detail
                .message
                .push_str("; the host's other work can explain it");
            *outcome = Outcome::Inconclusive(detail.clone());
            excused = true;
        }
    }
    if excused && !judgement.result.is_fail() {
        judgement.blame(Fault::Host, evidence);
    } else if excused {
        judgement.result.note(evidence);
    }
}

/// What the console says of memory that ran out (mm/oom_kill.c).
fn killed_for_memory(console: &str) -> Option<&str> {
    let at = console.find("Out of memory: Killed process ")?;
    let line = console[at..].lines().next()?;
    let end = line.find(" total-vm").unwrap_or(line.len());
    Some(line[..end].trim_end_matches(','))
}

fn first_failure(result: &AssertResult) -> Option<&AssertDetail> {
    result.failure_details().next()
}

/// Names whose fault a guest's own result is, when it is no pass and nothing else was found.
pub(super) fn name(
    judgement: &mut Judgement,
    has_scheduler: bool,
    scheduler: &str,
    console: &str,
    memory_mib: u32,
) {
    if judgement.fault.is_some() || judgement.result.is_pass() || judgement.result.is_skip() {
        return;
    }
    if judgement.result.is_inconclusive() {
        let missing = judgement.result.inconclusive_details().next();
        let what = missing.map_or_else(String::new, |d| d.message.clone());
        judgement.blame(Fault::Harness, format!("data is missing: {what}"));
        return;
    }
    let starved = judgement
        .result
        .failure_details()
        .all(|d| is_of_time(d) && d.kind != DetailKind::SchedulerEvent);
    if starved && let Some(line) = killed_for_memory(console) {
        let line = format!("{line} ({memory_mib} MiB; raise `memory_mib`)");
        judgement.blame(Fault::Test, line);
        return;
    }
    let hog = judgement.result.measurements.get(HOG_KEY);
    if starved && let Some(NoteValue::Text(hog)) = hog {
        let hog = hog.clone();
        judgement.blame(Fault::Test, hog);
        return;
    }
    let of_scheduling = first_failure(&judgement.result).is_some_and(|detail| {
        is_of_time(detail) || matches!(detail.kind, DetailKind::Isolation | DetailKind::Migration)
    });
    match (has_scheduler, of_scheduling) {
        (true, true) => judgement.blame(
            Fault::Scheduler,
            format!("`{scheduler}` drove the CPUs, and nothing else explains it"),
        ),
        (true, false) => judgement.blame(
            Fault::Scheduler,
            format!("what was claimed did not hold under `{scheduler}`"),
        ),
        (false, true) => judgement.blame(
            Fault::Kernel,
            "no scheduler was under test: the kernel's own drove the CPUs".to_owned(),
        ),
        (false, false) => judgement.blame(
            Fault::Test,
            "no scheduler was under test: what the test claimed did not hold".to_owned(),
        ),
    }
}

#[cfg(test)]
#[path = "blame_tests.rs"]
mod tests;
