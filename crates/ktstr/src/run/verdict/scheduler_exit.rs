//! How the scheduler under test ended, if it ended before the test did: the kernel ejected it, its process died, or it exited
//! by itself. The sources are sched_ext's exit record, the kernel's log, and PID 1's report about the process.

use ktstr_assert::{AssertDetail, Ejection, Finding, Outcome, SchedulerEnd};
use ktstr_guest::protocol::ProcessEnd;
use ktstr_snapshot::report::ScxExit;

use super::super::guest_state::GuestState;
use super::kernel_log::{killed_for_memory, without_time};
use super::{Case, Fault, Judgement, last_words, out_of_memory};
use crate::vm_result::VmResult;

/// The signals by which the kernel ends a process for what the process itself did (signal(7)): SIGILL, SIGTRAP, SIGABRT, SIGBUS,
/// SIGFPE, SIGSEGV, SIGPIPE, SIGXCPU, SIGXFSZ and SIGSYS.
pub(super) const CRASHES: [i32; 10] = [4, 5, 6, 7, 8, 11, 13, 24, 25, 31];

/// Returns the text about the scheduler's end, in which tests search for an expected error: the kernel's message or, if the
/// kernel did not eject the scheduler, the end of the scheduler's own log. Empty if no failure is about the scheduler's end.
pub(in crate::run) fn exit_text(vm: &VmResult, judgement: &Judgement) -> String {
    let by_kernel = vm.scx_exit.as_ref().map(reason);
    let ended = |detail: &AssertDetail| {
        let finding = &detail.finding;
        matches!(
            finding,
            Finding::SchedulerDied { .. } | Finding::NotAttached { .. }
        )
    };
    let own = || {
        let log = vm.scheduler_log();
        // A dump contains the names of tasks and symbols, in which an expected error must not be found.
        let words = log.split(DUMP).next().unwrap_or_default();
        let cut = words.len().saturating_sub(LOG_TAIL);
        let cut = (cut..words.len()).find(|at| words.is_char_boundary(*at));
        words[cut.unwrap_or(words.len())..].to_owned()
    };
    by_kernel
        .or_else(|| ejection(&vm.kernel_log).map(|logged| logged.reason))
        .or_else(|| judgement.result.failure_details().any(ended).then(own))
        .unwrap_or_default()
}

/// Words in the first line of a dump of sched_ext (`scx_dump_state` in kernel/sched/ext.c, from 6.12 on).
const DUMP: &str = " triggered exit kind ";
/// The number of bytes at the end of a scheduler's log that are searched.
const LOG_TAIL: usize = 16 << 10;

/// Adds the findings about the end of a scheduler whose run did not time out. `exit` is what sched_ext recorded about it.
pub(super) fn judge(
    judgement: &mut Judgement,
    case: &Case,
    guest: &GuestState,
    console: &str,
    exit: Option<&ScxExit>,
) {
    let known = exit.filter(|exit| exit.is_error()).is_some() || ejection(console).is_some();
    // If the test itself panicked or returned an error, the end of the scheduler may be a consequence.
    if guest.not_attached.is_none() && guest.panic.is_none() && guest.error.is_none() {
        let starved = guest
            .scheduler_pid()
            .and_then(|pid| killed_for_memory(console, Some(pid)))
            .filter(|_| guest.scheduler_died == Some(ProcessEnd::Signaled(9)));
        merge_exit(judgement, case, guest, known, exit, starved);
    }
    ejected(judgement, case, guest, console, exit);
}

/// Adds the finding that the kernel ejected the scheduler, if it did.
pub(super) fn ejected(
    judgement: &mut Judgement,
    case: &Case,
    guest: &GuestState,
    console: &str,
    exit: Option<&ScxExit>,
) {
    let error_exit = exit.filter(|exit| exit.is_error());
    // sched_ext's record is that of the scheduler that attached last, so the last ejection in the log with the same reason
    // belongs to it.
    let mut logged = ejections(console);
    let logged = match error_exit {
        Some(exit) => (logged.into_iter()).rfind(|logged| logged.reason.starts_with(&exit.reason)),
        None => (!logged.is_empty()).then(|| logged.swap_remove(0)),
    };
    let known_as = logged.as_ref().map(|logged| logged.scheduler.clone());
    let staged = (guest.attached_as.staged.as_ref()).filter(|_| error_exit.is_some());
    // If the test has replaced its scheduler and sched_ext's record is lost, only the kernel's log shows which one was ejected.
    let name = match staged {
        Some(staged) => Some(staged.clone()),
        None => (known_as.clone()).filter(|_| case.changed && error_exit.is_none()),
    };
    let name = name.unwrap_or_else(|| case.scheduler.to_owned());
    let logged = logged.map(|logged| logged.reason);
    let Some(reason) = error_exit.map(reason).or(logged) else {
        return;
    };
    judgement
        .result
        .record_fail(AssertDetail::of(Finding::Ejected {
            scheduler: name,
            cause: cause(&reason),
            reason,
        }));
    let mut evidence = error_exit.map_or_else(
        || "the kernel's log says that the kernel ejected the scheduler".to_owned(),
        exit_evidence,
    );
    if let (Some(staged), Some(known_as)) = (staged, known_as) {
        evidence =
            format!("the test started `{staged}`, which sched_ext calls `{known_as}`; {evidence}");
    }
    judgement.blame(Fault::Scheduler, evidence);
}

/// Adds what PID 1 or the guest's engine reported about the scheduler's process. The guest can see that sched_ext is off, but
/// not why. `starved` is the kernel's line about a scheduler that was killed because the guest ran out of memory.
fn merge_exit(
    judgement: &mut Judgement,
    case: &Case,
    guest: &GuestState,
    ejected: bool,
    exit: Option<&ScxExit>,
    starved: Option<String>,
) {
    let left = exit.filter(|exit| !exit.is_error());
    let (end, how) = match (guest.scheduler_died, left) {
        _ if ejected => (SchedulerEnd::Crashed, None),
        (Some(ProcessEnd::Exited(0)), _) | (None, Some(_)) => {
            let status = guest
                .scheduler_died
                .map_or("", |_| " and exited with code 0");
            (
                SchedulerEnd::Left,
                Some(format!("stopped on its own{status}")),
            )
        }
        (Some(end), _) if starved.is_some() => (
            SchedulerEnd::Crashed,
            Some(format!("{end}: {}", out_of_memory(case))),
        ),
        (Some(end), _) => (SchedulerEnd::Crashed, Some(end.to_string())),
        (None, None) => (SchedulerEnd::Unknown, None),
    };
    let staged = guest.ended_scheduler().staged.clone();
    let finding = how.map(|how| Finding::SchedulerDied {
        scheduler: staged.or_else(|| Some(case.scheduler.to_owned())),
        end,
        how,
        log: last_words(guest.log_of_ended()),
    });
    // Whether the engine noticed the end, and whether it saw that sched_ext was disabled.
    let (mut seen, mut disabled) = (false, false);
    for outcome in &mut judgement.result.outcomes {
        let Outcome::Fail(detail) = outcome else {
            continue;
        };
        if let Finding::SchedulerDied { end: known, .. } = &mut detail.finding {
            seen = true;
            disabled |= *known == SchedulerEnd::Disabled;
            if matches!(known, SchedulerEnd::Disabled | SchedulerEnd::Unknown) {
                // The finding of the guest's engine is kept if nothing else is known.
                if end != SchedulerEnd::Unknown {
                    *known = end;
                }
                let finding = finding.clone().unwrap_or_else(|| detail.finding.clone());
                *detail = AssertDetail {
                    phase: detail.phase.take(),
                    ..AssertDetail::of(finding)
                };
            }
        }
    }
    match (seen, guest.scheduler_died, finding) {
        // Neither PID 1 nor the engine noticed an end, so the scheduler ended after the test.
        (false, None, _) => return,
        (false, Some(_), Some(finding)) => {
            judgement.result.record_fail(AssertDetail::of(finding));
        }
        _ => {}
    }
    if ejected {
        return;
    }
    let (fault, why) = match starved {
        Some(line) => (Fault::Undetermined, line),
        None => culprit(case, guest, left, disabled),
    };
    judgement.blame(fault, why);
    if fault != Fault::Undetermined {
        return;
    }
    for outcome in &mut judgement.result.outcomes {
        if let Outcome::Fail(detail) = outcome
            && matches!(detail.finding, Finding::SchedulerDied { .. })
        {
            *outcome = Outcome::Inconclusive(detail.clone());
        }
    }
}

/// Attributes the end of a scheduler that the kernel did not eject, and returns the evidence. `left` is sched_ext's record
/// of an exit that was requested; `None` if there is no such record. `disabled` is whether the guest's engine saw that sched_ext
/// was disabled.
fn culprit(
    case: &Case,
    guest: &GuestState,
    left: Option<&ScxExit>,
    disabled: bool,
) -> (Fault, String) {
    if let Some(signal) = guest.scheduler_signal.as_ref()
        && Some(signal.sender) != guest.scheduler_pid()
        && signal.can_end(guest.scheduler_died)
    {
        let fault = match signal.sender {
            1 => Fault::Harness,
            _ => Fault::Test,
        };
        let test = match Some(signal.sender) == guest.test_pid {
            true => ", the test process,",
            false => "",
        };
        let why = format!(
            "{}[{}]{test} sent it signal {}",
            signal.comm, signal.sender, signal.signal
        );
        return (fault, why);
    }
    if left.is_some_and(|exit| exit.kind_name == "SCX_EXIT_SYSRQ") {
        let why = "sched_ext was disabled by sysrq-S, which only the test can have requested";
        return (Fault::Test, why.to_owned());
    }
    if let Some(exit) = left.filter(|exit| exit.follows_hotplug()) {
        let why = format!(
            "sched_ext requested a restart after the test took a CPU online or offline: {}",
            reason(exit)
        );
        return (Fault::Test, why);
    }
    if case.virtual_clock && ended_by_own_watchdog(guest) {
        let why = "the scheduler's own watchdog ended it, but this watchdog counts seconds of the virtual clock, and in \
                   such a second the CPUs do less work than real hardware does in one";
        return (Fault::Undetermined, why.to_owned());
    }
    // A process that dies always detaches its scheduler, so the exit record of such a process adds nothing.
    let notes = left
        .filter(|_| matches!(guest.scheduler_died, Some(ProcessEnd::Exited(0)) | None))
        .map(|exit| format!("sched_ext reported {}: {}", exit.kind_name, exit.reason));
    let whose = match &guest.ended_scheduler().staged {
        Some(staged) => format!("the process of `{staged}`, which the test started,"),
        None => "its process".to_owned(),
    };
    let process = guest
        .scheduler_died
        .map(|end| match end {
            ProcessEnd::Signaled(signal) if !CRASHES.contains(&signal) => {
                format!("{whose} {end} while the test ran, and no other process is known to have sent the signal")
            }
            _ => format!("{whose} {end} while the test ran"),
        });
    let evidence: Vec<String> = process.into_iter().chain(notes).collect();
    match (evidence.is_empty(), disabled) {
        (false, _) => (Fault::Scheduler, evidence.join("; ")),
        (true, true) => {
            let why = "sched_ext was disabled, and nothing else is known to have disabled it";
            (Fault::Scheduler, why.to_owned())
        }
        (true, false) => {
            let why = "the engine found no process of the scheduler, but PID 1, which sees every end, reported none";
            (Fault::Undetermined, why.to_owned())
        }
    }
}

/// Returns whether the last lines of a scheduler's log mention a timeout of its own, and no signal is known to have ended it.
pub(in crate::run) fn ended_by_own_watchdog(guest: &GuestState) -> bool {
    let of_itself = matches!(guest.scheduler_died, Some(ProcessEnd::Exited(_)) | None);
    let last = last_words(guest.log_of_ended()).to_lowercase();
    ["watchdog", "timed out", "timeout"]
        .iter()
        .any(|word| of_itself && last.contains(word))
}

/// Determines why the kernel ejected a scheduler, from the kernel's message (`scx_exit_reason`, `scx_tick` and
/// `check_rq_for_timeouts` in kernel/sched/ext.c).
fn cause(reason: &str) -> Ejection {
    let (_, msg) = reason.split_once(" (").unwrap_or(("", ""));
    let exit = ScxExit {
        msg: msg.to_owned(),
        ..ScxExit::default()
    };
    match (exit.unwatched(), exit.stalled()) {
        (Some(seconds), _) => Ejection::Unwatched { seconds },
        (None, Some((task, seconds))) => Ejection::Stall {
            task: Some(task.to_owned()),
            seconds: Some(seconds),
        },
        (None, None) if reason.starts_with("runnable task stall") => Ejection::Stall {
            task: None,
            seconds: None,
        },
        (None, None) => Ejection::Error,
    }
}

/// Returns the reason of the exit, with the kernel's message in parentheses if there is one.
fn reason(exit: &ScxExit) -> String {
    match exit.msg.as_str() {
        "" => exit.reason.clone(),
        msg => format!("{} ({msg})", exit.reason),
    }
}

/// Returns the kind of an ejection, and the innermost frames of the code that detected its cause, if there is a backtrace.
fn exit_evidence(exit: &ScxExit) -> String {
    let mut text = format!("sched_ext reported {}", exit.kind_name);
    // The first frames belong to the code that records the exit.
    let frames: Vec<String> = frames(exit)
        .into_iter()
        .skip_while(|frame| NOTING.iter().any(|f| frame.starts_with(f)))
        .take(FRAMES)
        .collect();
    if !frames.is_empty() {
        text.push_str(&format!("; detected in {}", frames.join(", called by ")));
    }
    text
}

/// Returns the frames of the exit's backtrace as function and offset. The backtrace in the dump is preferred, because
/// it also names BPF programs.
fn frames(exit: &ScxExit) -> Vec<String> {
    let dumped: Vec<String> = exit
        .dump
        .lines()
        .skip_while(|line| *line != "Backtrace:")
        .skip(1)
        .take_while(|line| line.starts_with(' '))
        .map(|line| line.trim().split('/').next().unwrap_or_default().to_owned())
        .collect();
    match dumped.is_empty() {
        true => exit.backtrace.clone(),
        false => dumped,
    }
}

/// The largest number of frames of a backtrace that are reported.
const FRAMES: usize = 3;
/// The functions that record an exit and its backtrace. The frame after them is where the error was detected.
const NOTING: &[&str] = &[
    "scx_vexit",
    "__scx_exit",
    "scx_exit",
    "scx_bpf_error",
    "stack_trace_save",
];

/// The beginnings of the reasons for which sched_ext disables a scheduler that has done nothing wrong (`scx_exit_reason` in
/// kernel/sched/ext.c).
const NO_EJECTION: [&str; 4] = [
    "unregistered",
    "disabled by sysrq",
    "parent exiting",
    "killed by parent",
];

/// An ejection as the kernel's log has it.
struct Logged {
    /// The name of the scheduler.
    scheduler: String,
    /// Why it was ejected.
    reason: String,
}

/// Returns whether sched_ext ejected a scheduler, according to the kernel's log.
pub(in crate::run) fn is_ejected(console: &str) -> bool {
    ejection(console).is_some()
}

/// Returns which scheduler sched_ext ejected first and why; `None` if it ejected none.
fn ejection(console: &str) -> Option<Logged> {
    ejections(console).into_iter().next()
}

/// Returns which schedulers sched_ext ejected and why, in order, according to the kernel's log (kernel/sched/ext.c). Exits for
/// one of the reasons in [`NO_EJECTION`] are left out.
fn ejections(console: &str) -> Vec<Logged> {
    let lines: Vec<&str> = console.lines().map(without_time).collect();
    let of = |(at, line): (usize, &&'_ str)| {
        let (name, rest) = line
            .strip_prefix("sched_ext: BPF scheduler ")?
            .split_once(" disabled (")?;
        let reason = rest.trim_end().trim_end_matches(')');
        if NO_EJECTION.iter().any(|other| reason.starts_with(other)) {
            return None;
        }
        let detail = lines
            .get(at + 1)
            .and_then(|line| line.strip_prefix("sched_ext: "))
            .and_then(|line| line.split_once(": "));
        let reason = match detail {
            Some((_, detail)) => format!("{reason} ({})", detail.trim()),
            None => reason.to_owned(),
        };
        let scheduler = name.trim_matches('"').to_owned();
        Some(Logged { scheduler, reason })
    };
    lines.iter().enumerate().filter_map(of).collect()
}

/// Notes that the scheduler's process outlived the signals with which PID 1 ends it after the test. Nothing shows whether the
/// scheduler or the kernel is at fault.
pub(super) fn note_survivor(judgement: &mut Judgement, guest: &GuestState) {
    if let Some(survivor) = &guest.scheduler_left {
        judgement.result.note(survivor.clone());
    }
}
