//! Decides whose fault it is that a run stopped making progress, from the state of the test process and of the CPUs when the
//! host gave up on it. Without evidence the fault is undetermined.

use std::time::Duration;

use ktstr_assert::Finding;
use ktstr_snapshot::report::TaskEnrichment;

use super::super::guest_state::GuestState;
use super::super::plan::TEST_COMM;
use super::super::stall::StallReport;
use super::{Case, Fault};
use crate::vm_result::{GuestLifecyclePhase, WatchdogKillReason};

/// The test process counts as busy if the CPU time of its threads, over their whole lives, is at least this share of the length
/// of the stall in guest time, under the virtual clock. The kernel samples CPU time at ticks, so the number is rough.
const BUSY: f64 = 0.25;
/// Under the real clock, a thread counts as busy if its CPU time, over its whole life, is at least this share of the CPU time
/// that the host gave its virtual CPU during the stall. The share is larger, because the thread may have worked before the stall.
const BUSY_IN_REAL_TIME: f64 = 0.5;
/// A guest whose virtual clock has not advanced for this much wall time no longer serves its timer interrupts.
const STOOD: Duration = Duration::from_secs(5);

/// The finding for a run without progress, and whose fault it is.
#[derive(Debug, PartialEq)]
pub(super) struct Hang {
    pub(super) fault: Fault,
    pub(super) finding: Finding,
    /// The evidence for the fault, which may be empty. The caller adds how long the run made no progress.
    pub(super) evidence: String,
}

/// Judges a guest that the host gave up on because it hung, and not because the host was too slow.
pub(super) fn judge(
    reason: WatchdogKillReason,
    stall: &StallReport,
    guest: &GuestState,
    case: &Case,
) -> Hang {
    let stage = stage(guest.phase).to_owned();
    if let Some(count) = left_behind(stall, guest) {
        return Hang {
            fault: Fault::Test,
            finding: Finding::Hung {
                stage: "after the test process had ended".to_owned(),
                doing: still_running(count, "the test"),
            },
            evidence: String::new(),
        };
    }
    if let Some((fault, doing)) = of_test(stall, guest, case) {
        return Hang {
            fault,
            finding: Finding::TestHung {
                stage,
                doing: doing.clone(),
            },
            evidence: String::new(),
        };
    }
    let doing = match reason {
        WatchdogKillReason::Tier2IdleWedge => "it went idle for good",
        _ => "it kept its CPUs busy without any progress",
    };
    Hang {
        fault: Fault::Undetermined,
        finding: Finding::Hung {
            stage,
            doing: doing.to_owned(),
        },
        evidence: "nothing shows what stopped the guest".to_owned(),
    }
}

/// Returns the stage at which the run stopped making progress, as the end of a sentence.
pub(super) fn stage(phase: GuestLifecyclePhase) -> &'static str {
    match phase {
        GuestLifecyclePhase::Boot => "while booting",
        GuestLifecyclePhase::Attach => "while the scheduler was attaching",
        GuestLifecyclePhase::Dispatch => "before the scenario began",
        GuestLifecyclePhase::Body => "in the middle of the scenario",
        GuestLifecyclePhase::Teardown => "after the scenario",
    }
}

/// Returns the fault, and what the test process did, if the process is the cause or is gone; `None` if nothing shows that.
fn of_test(stall: &StallReport, guest: &GuestState, case: &Case) -> Option<(Fault, String)> {
    // A test process that has ended cannot be the cause of the hang.
    let pid = guest.test_pid.filter(|_| guest.test_end.is_none())?;
    if stall.processes.is_empty() {
        return None;
    }
    let threads: Vec<&TaskEnrichment> = (stall.processes.iter())
        .filter(|task| task.tgid == pid)
        .collect();
    if threads.is_empty() {
        return Some((
            Fault::Harness,
            format!("the test process {pid} is gone, and PID 1 did not report its end"),
        ));
    }
    if let Some(doing) = spins(&threads, stall, guest, case) {
        return Some((Fault::Test, doing));
    }
    let sleeps = threads.iter().all(|task| is_asleep(task));
    let name = threads.first().map_or("", |task| task.comm.as_str());
    let kin: Vec<&TaskEnrichment> = (stall.processes.iter())
        .filter(|task| task.tgid != pid && task.comm == name && is_runnable(task))
        .collect();
    let waiting = (stall.processes.iter())
        .filter(|task| is_runnable(task) && !task.on_cpu)
        .count();
    if sleeps && waiting == 0 && kin.is_empty() {
        return Some((
            Fault::Test,
            format!("its process {pid} sleeps, and no task waits for a CPU"),
        ));
    }
    // Before a scenario starts the harness has no workers, so these processes belong to the test.
    // They have the name of the test process, so they were forked from it and run no other program.
    let own = guest.phase == GuestLifecyclePhase::Dispatch && !kin.is_empty();
    own.then(|| (Fault::Test, still_running(kin.len(), "it")))
}

/// Says that this many processes, which `parent` forked, keep running.
fn still_running(count: usize, parent: &str) -> String {
    match count {
        1 => format!("a process that {parent} forked keeps running"),
        _ => format!("{count} processes that {parent} forked keep running"),
    }
}

/// Returns the number of runnable processes that the test forked and that have outlived the test process; `None` if the test
/// process has not ended, if a scenario has run, whose workers may still be ending, or if there are none.
fn left_behind(stall: &StallReport, guest: &GuestState) -> Option<usize> {
    guest.test_end.as_ref()?;
    if guest.window.opened.is_some() {
        return None;
    }
    let left = |task: &&TaskEnrichment| {
        let is_process = task.pid == task.tgid;
        is_process && task.comm == TEST_COMM && is_runnable(task)
    };
    let count = stall.processes.iter().filter(left).count();
    (count > 0).then_some(count)
}

/// The default slice of sched_ext, in seconds: `SCX_SLICE_DFL` (include/linux/sched/ext.h).
const SLICE: f64 = 0.020;

/// Returns the evidence if the test forked so many processes that a CPU cannot give each of them one slice in the time that
/// the stalled task `waited`, in seconds; `None` otherwise. With so many processes, the stall does not show that the
/// scheduler favoured any of them.
pub(super) fn crowd(stall: &StallReport, guest: &GuestState, waited: f64) -> Option<String> {
    let pid = guest.test_pid.filter(|_| guest.test_end.is_none())?;
    let test = stall.processes.iter().find(|task| task.tgid == pid)?;
    let forked = (stall.processes.iter())
        .filter(|task| task.tgid != pid && task.comm == test.comm && is_runnable(task))
        .count();
    let cpus = stall.cpus.max(1) as usize;
    let round = forked as f64 / cpus as f64 * SLICE;
    (round >= waited).then(|| {
        format!(
            "{forked} processes that the test forked wait for {cpus} CPUs, which need {round:.1} s to give each of them a slice \
             of 20 ms"
        )
    })
}

/// Returns the evidence if the test process itself keeps a CPU busy: one of its threads is on a CPU, and either the guest no
/// longer serves timer interrupts, or the threads of the process have used much CPU time ([`BUSY`]). `None` otherwise.
///
/// A BPF scheduler runs with interrupts off in the context of the task that wakes or forks another one, so with a scheduler
/// a CPU without timer interrupts shows nothing about the task on it.
fn spins(
    threads: &[&TaskEnrichment],
    stall: &StallReport,
    guest: &GuestState,
    case: &Case,
) -> Option<String> {
    let on_cpu = threads.iter().find(|task| task.on_cpu)?;
    let cpu_time =
        |task: &TaskEnrichment| Duration::from_nanos(task.utime_ns.saturating_add(task.stime_ns));
    let (ran, needed) = match stall.guest_clock {
        Some(clock) => {
            let all = threads.iter().map(|task| cpu_time(task));
            let stalled = clock.saturating_sub(guest.progress_at);
            let sum = all.fold(Duration::ZERO, Duration::saturating_add);
            (sum, stalled.mul_f64(BUSY))
        }
        None => {
            let given = stall.vcpus.get(on_cpu.cpu as usize).copied();
            let given = given.unwrap_or(stall.cpu_used);
            (cpu_time(on_cpu), given.mul_f64(BUSY_IN_REAL_TIME))
        }
    };
    let bpf = case.has_bpf_scheduler() || case.changed;
    let stood = !bpf && stall.guest_clock.is_some() && stall.wall > STOOD;
    let where_it_is = format!("{}[{}] is on cpu{}", on_cpu.comm, on_cpu.pid, on_cpu.cpu);
    if stood {
        return Some(format!(
            "{where_it_is}, which serves no timer interrupt any more"
        ));
    }
    (ran >= needed).then(|| {
        format!(
            "{where_it_is} and has used {:.1} s of CPU time",
            ran.as_secs_f64()
        )
    })
}

/// Returns whether the task is in an interruptible sleep, or was stopped by a signal or a tracer: `TASK_INTERRUPTIBLE`,
/// `__TASK_STOPPED` or `__TASK_TRACED` (include/linux/sched.h).
fn is_asleep(task: &TaskEnrichment) -> bool {
    task.state & (1 | 4 | 8) != 0 && !task.on_cpu
}

fn is_runnable(task: &TaskEnrichment) -> bool {
    task.state == 0
}

#[cfg(test)]
mod tests {
    use super::super::super::plan::TEST_BINARY;
    use super::super::UnderTest;
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn task(pid: i32, comm: &str, state: u32, on_cpu: bool, ran: Duration) -> TaskEnrichment {
        TaskEnrichment {
            pid,
            tgid: pid,
            comm: comm.to_owned(),
            state,
            on_cpu,
            utime_ns: ran.as_nanos() as u64,
            ..TaskEnrichment::default()
        }
    }

    /// The kernel names a process after its file, in at most 15 bytes (`TASK_COMM_LEN`).
    #[test]
    fn the_kernel_gives_the_test_process_this_name() {
        let (_, name) = TEST_BINARY.rsplit_once('/').expect("a path");
        assert_eq!(name, TEST_COMM);
        assert!(name.len() < 16);
    }

    const EEVDF: Case = Case {
        under_test: UnderTest::Nothing,
        ..super::super::tests::CASE
    };

    #[test]
    fn a_cpu_without_timer_interrupts_says_nothing_about_the_test_under_a_scheduler() {
        let stall = StallReport {
            guest_clock: Some(20 * S),
            wall: 20 * S,
            processes: vec![task(100, TEST_COMM, 0, true, S / 100)],
            ..StallReport::default()
        };
        let guest = GuestState {
            test_pid: Some(100),
            ..GuestState::default()
        };
        for (under_test, fault) in [
            (UnderTest::Nothing, Fault::Test),
            (UnderTest::Builtin, Fault::Test),
            (UnderTest::Bpf, Fault::Undetermined),
        ] {
            let case = Case {
                under_test,
                ..EEVDF
            };
            let hang = judge(WatchdogKillReason::Tier1CpuBudget, &stall, &guest, &case);
            assert_eq!(hang.fault, fault, "{hang:?}");
        }
    }

    /// Under the real clock, a guest has used up to its number of virtual CPUs times the wall time.
    #[test]
    fn in_real_time_a_spinning_thread_is_compared_with_its_own_cpu() {
        let fault = |ran: Duration| {
            let stall = StallReport {
                wall: 20 * S,
                cpu_used: 80 * S,
                vcpus: vec![20 * S; 4],
                processes: vec![task(100, TEST_COMM, 0, true, ran)],
                ..StallReport::default()
            };
            let guest = GuestState {
                test_pid: Some(100),
                ..GuestState::default()
            };
            let case = Case {
                under_test: UnderTest::Bpf,
                ..EEVDF
            };
            judge(WatchdogKillReason::Tier1CpuBudget, &stall, &guest, &case).fault
        };
        assert_eq!(fault(19 * S), Fault::Test);
        // It has worked before, and another task keeps the CPU busy now.
        assert_eq!(fault(6 * S), Fault::Undetermined);
    }

    #[test]
    fn a_crowd_is_counted_for_each_cpu_and_by_the_length_of_the_stall() {
        let guest = GuestState {
            test_pid: Some(1),
            ..GuestState::default()
        };
        let mut processes = vec![task(1, "test", 1, false, S)];
        processes.extend((2..402).map(|pid| task(pid, "test", 0, false, S)));
        let crowd_on = |cpus| {
            let stall = StallReport {
                cpus,
                processes: processes.clone(),
                ..StallReport::default()
            };
            crowd(&stall, &guest, 2.0)
        };
        let evidence = crowd_on(4).expect("100 processes for each CPU");
        assert!(
            evidence.starts_with("400 processes") && evidence.contains("4 CPUs, which need 2.0 s")
        );
        assert_eq!(
            crowd_on(8),
            None,
            "50 processes for each CPU get their slices in one second"
        );
    }

    fn judged(phase: GuestLifecyclePhase, processes: Vec<TaskEnrichment>) -> Hang {
        let stall = StallReport {
            guest_clock: Some(20 * S),
            processes,
            ..StallReport::default()
        };
        let guest = GuestState {
            phase,
            test_pid: Some(100),
            ..GuestState::default()
        };
        judge(WatchdogKillReason::Tier1CpuBudget, &stall, &guest, &EEVDF)
    }

    #[test]
    fn processes_that_outlive_the_test_process_are_its_own_unless_a_scenario_has_run() {
        use ktstr_guest::protocol::ProcessEnd;
        let stall = StallReport {
            guest_clock: Some(20 * S),
            processes: vec![
                task(7, "init", 1, false, S),
                task(501, TEST_COMM, 0, true, S),
                task(502, TEST_COMM, 0, false, S),
            ],
            ..StallReport::default()
        };
        let mut guest = GuestState {
            phase: GuestLifecyclePhase::Teardown,
            test_pid: Some(100),
            test_end: Some((ProcessEnd::Signaled(9), true)),
            ..GuestState::default()
        };
        let of =
            |guest: &GuestState| judge(WatchdogKillReason::Tier1CpuBudget, &stall, guest, &EEVDF);
        let hang = of(&guest);
        assert_eq!(hang.fault, Fault::Test);
        let text = hang.finding.to_string();
        assert!(
            text.contains("2 processes that the test forked keep running"),
            "{text}"
        );
        guest.window.opened = Some(S);
        assert_eq!(of(&guest).fault, Fault::Undetermined);
    }

    #[test]
    fn a_test_that_spins_or_sleeps_or_forks_is_blamed() {
        use GuestLifecyclePhase::{Body, Dispatch};
        let spins = judged(Body, vec![task(100, TEST_COMM, 0, true, 18 * S)]);
        assert_eq!(spins.fault, Fault::Test);
        assert!(spins.finding.to_string().contains("18.0 s of CPU time"));
        let sleeps = judged(Body, vec![task(100, TEST_COMM, 1, false, S)]);
        assert_eq!(sleeps.fault, Fault::Test, "{sleeps:?}");
        let own = vec![
            task(100, TEST_COMM, 1, false, S),
            task(101, TEST_COMM, 0, true, S),
        ];
        assert_eq!(judged(Dispatch, own.clone()).fault, Fault::Test);
        // During a scenario these may be workers, which the test did not fork.
        assert_eq!(judged(Body, own).fault, Fault::Undetermined);
    }

    #[test]
    fn without_evidence_nobody_is_blamed() {
        use GuestLifecyclePhase::Body;
        assert_eq!(judged(Body, Vec::new()).fault, Fault::Undetermined);
        // The test process waits for a CPU, and nothing shows whose task occupies the CPU.
        let waits = vec![task(100, TEST_COMM, 0, false, S), task(7, "x", 0, true, S)];
        assert_eq!(judged(Body, waits).fault, Fault::Undetermined);
        // The test process is on a CPU now, but was not on one for most of the time.
        let at_last = vec![task(100, TEST_COMM, 0, true, S)];
        assert_eq!(judged(Body, at_last).fault, Fault::Undetermined);
    }

    #[test]
    fn a_test_process_whose_end_was_not_reported_is_the_harnesss_fault() {
        let gone = vec![task(1, "init", 1, false, S)];
        let hang = judged(GuestLifecyclePhase::Body, gone);
        assert_eq!(hang.fault, Fault::Harness);
    }
}
