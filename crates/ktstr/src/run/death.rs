//! How the scheduler under test came to its end, if it did before the test: ejected by the kernel,
//! dead as a process, or gone by itself. Told from sched_ext's own notes, the kernel's log, and what
//! PID 1 saw of the process.

use ktstr_assert::{AssertDetail, DetailKind, Outcome};
use ktstr_guest::protocol::ProcessEnd;
use ktstr_introspect::report::ScxExit;

use super::judge::{Case, Fault, Judgement, SAID_LAST, last_words};
use super::transcript::Transcript;
use crate::vm_result::VmResult;

/// What was said of the scheduler's end: the kernel's words, or, where it had no hand in it, the scheduler's own last ones.
/// Nothing of a scheduler that was there to the end.
pub(super) fn told(vm: &VmResult, judgement: &Judgement) -> String {
    let noted = vm.scx_exit.as_ref().map(reason);
    let ended = |detail: &AssertDetail| {
        matches!(
            detail.kind,
            DetailKind::SchedulerCrashed
                | DetailKind::SchedulerExitedCleanly
                | DetailKind::SchedulerDiedUnknownReason
        )
    };
    let own = || {
        let log = vm.scheduler_log();
        // What libbpf prints of a dump names tasks, symbols and counters, all of which are no words on the end.
        let words = log.split(DUMP).next().unwrap_or_default();
        let cut = words.len().saturating_sub(MOST_TOLD);
        let cut = (cut..words.len()).find(|at| words.is_char_boundary(*at));
        words[cut.unwrap_or(words.len())..].to_owned()
    };
    noted
        .or_else(|| ejection(&vm.kernel_log))
        .or_else(|| judgement.result.failure_details().any(ended).then(own))
        .unwrap_or_default()
}

/// How a dump of sched_ext begins (`scx_dump_state` in kernel/sched/ext.c, from 6.12 on).
const DUMP: &str = " triggered exit kind ";
/// Bytes of a scheduler's log in which its last words are looked for.
const MOST_TOLD: usize = 16 << 10;

/// Folds in the scheduler's end.
pub(super) fn judge(
    judgement: &mut Judgement,
    case: &Case,
    said: &Transcript,
    console: &str,
    exit: Option<&ScxExit>,
) {
    let told = exit.filter(|exit| exit.is_error());
    let ejected = told.map(reason).or_else(|| ejection(console));
    // A test that went wrong by itself says nothing of a scheduler that went along with it.
    if said.not_attached.is_none() && said.panic.is_none() && said.error.is_none() {
        died(judgement, case, said, ejected.is_some(), exit);
    }
    let Some(reason) = ejected else { return };
    let scheduler = case.scheduler;
    judgement.result.record_fail(AssertDetail::new(
        DetailKind::SchedulerEvent,
        format!("the kernel ejected scheduler `{scheduler}`: {reason}"),
    ));
    let evidence = told.map_or_else(
        || "the kernel's log says that it put an end to it".to_owned(),
        noted,
    );
    judgement.blame(Fault::Scheduler, evidence);
}

/// What PID 1 or the engine saw of the process. The guest sees that sched_ext is off, but not why.
fn died(
    judgement: &mut Judgement,
    case: &Case,
    said: &Transcript,
    ejected: bool,
    exit: Option<&ScxExit>,
) {
    let left = exit.filter(|exit| !exit.is_error());
    let (kind, how) = match (said.scheduler_died, left) {
        _ if ejected => (DetailKind::SchedulerCrashed, None),
        (Some(ProcessEnd::Exited(0)), _) | (None, Some(_)) => {
            let status = said
                .scheduler_died
                .map_or("", |_| " and exited with code 0");
            let how = format!("`{}` left by itself{status}", case.scheduler);
            (DetailKind::SchedulerExitedCleanly, Some(how))
        }
        (Some(end), _) => {
            let how = format!("`{}` {end}", case.scheduler);
            (DetailKind::SchedulerCrashed, Some(how))
        }
        (None, None) => (DetailKind::SchedulerDiedUnknownReason, None),
    };
    let mut message = how.as_deref().map(|how| format!("{DIED}: {how}"));
    if let Some(message) = message.as_mut().filter(|_| !ejected) {
        let log = last_words(&said.scheduler_log);
        if !log.is_empty() {
            message.push_str(&format!("{SAID_LAST}\n{log}"));
        }
    }
    let mut seen = false;
    for outcome in &mut judgement.result.outcomes {
        if let Outcome::Fail(detail) = outcome
            && detail.message.starts_with(DIED)
        {
            seen = true;
            if detail.kind == DetailKind::SchedulerDiedUnknownReason {
                detail.kind = kind;
                detail.message = message.take().unwrap_or_else(|| detail.message.clone());
            }
        }
    }
    match (seen, said.scheduler_died, message) {
        // A clean end that nobody saw in the test is the one after it.
        (false, None, _) => return,
        (false, Some(_), Some(message)) => {
            let detail = AssertDetail::new(kind, message);
            judgement.result.record_fail(detail);
        }
        _ => {}
    }
    // That a process which dies drops its scheduler is no news.
    let of_itself = kind == DetailKind::SchedulerExitedCleanly;
    let notes = left
        .filter(|_| of_itself)
        .map(|exit| format!("sched_ext notes {}: {}", exit.kind_name, exit.reason));
    let process = said
        .scheduler_died
        .map(|end| format!("its process {end} while the test ran"));
    let evidence: Vec<String> = process.into_iter().chain(notes).collect();
    if !evidence.is_empty() {
        judgement.blame(Fault::Scheduler, evidence.join("; "));
    }
}

/// How the guest's engine begins to tell of a dead scheduler.
const DIED: &str = "scheduler process died";

/// What happened, and to whom.
fn reason(exit: &ScxExit) -> String {
    match exit.msg.as_str() {
        "" => exit.reason.clone(),
        msg => format!("{} ({msg})", exit.reason),
    }
}

/// The kind of an ejection, and where in the kernel it was noticed.
fn noted(exit: &ScxExit) -> String {
    let mut text = format!("sched_ext notes {}", exit.kind_name);
    // The first frames are those of noting it.
    let frames: Vec<String> = frames(exit)
        .into_iter()
        .skip_while(|frame| NOTING.iter().any(|f| frame.starts_with(f)))
        .take(FRAMES)
        .collect();
    if !frames.is_empty() {
        text.push_str(&format!("; noticed in {}", frames.join(" < ")));
    }
    text
}

/// The backtrace, as function and offset. The dump's own also names BPF programs.
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

/// Frames of a backtrace that are told.
const FRAMES: usize = 3;
/// Functions of sched_ext that take its notes.
const NOTING: &[&str] = &[
    "scx_vexit",
    "__scx_exit",
    "scx_exit",
    "scx_bpf_error",
    "stack_trace_save",
];

/// Why sched_ext put an end to a scheduler, as the kernel's log says it (kernel/sched/ext.c): that
/// it was unloaded is no reason.
fn ejection(console: &str) -> Option<String> {
    let mut lines = console.lines().map(without_time);
    let reason = lines.find_map(|line| {
        let (_, rest) = line
            .strip_prefix("sched_ext: BPF scheduler ")?
            .split_once(" disabled (")?;
        let reason = rest.trim_end().trim_end_matches(')');
        (!reason.starts_with("unregistered")).then_some(reason)
    })?;
    let detail = lines
        .next()
        .and_then(|line| line.strip_prefix("sched_ext: "))
        .and_then(|line| line.split_once(": "));
    Some(match detail {
        Some((_, detail)) => format!("{reason} ({})", detail.trim()),
        None => reason.to_owned(),
    })
}

/// A line of the kernel's log without its time stamp.
pub(super) fn without_time(line: &str) -> &str {
    match line.split_once("] ") {
        Some((stamp, rest)) if stamp.starts_with('[') => rest,
        _ => line,
    }
}
