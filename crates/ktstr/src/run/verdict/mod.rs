//! The verdict of a run, and whose fault a failure is. Both are decided from evidence: how the run ended, what the guest
//! reported, and what the guest's memory, its kernel's log and the trace of signals to the scheduler show. Without evidence
//! the fault is undetermined. Checks that the test declares for the host, such as callbacks and budgets, come later and are
//! not in this folder; they attribute their own findings.

mod acquit;
mod contention;
mod fault;
mod hang;
mod hog;
mod judgement;
mod kernel_log;
mod killed;
mod latency;
mod misfit;
pub(super) mod of_test;
mod pages;
pub(super) mod quota;
pub(super) mod schedule;
mod scheduler_exit;
mod verifier_log;
pub(super) mod workers;

use ktstr_assert::{Assert, AssertDetail, Finding, Limit, MonitorReport, MonitorThresholds};
use ktstr_machine::Halt;
use ktstr_record::brief::counted;
use ktstr_snapshot::report::ScxExit;

use super::guest_session::End;
use super::guest_state::GuestState;
use super::stall::StallReport;
use crate::vm_result::WatchdogKillReason;
pub(super) use contention::{CONTENDED, Contention, downgrade_if_contended};
pub(super) use fault::default_evidence;
pub(super) use hog::Hogs;
pub use judgement::Fault;
pub(crate) use judgement::Judgement;
#[cfg(test)]
pub(super) use judgement::UnderTest;
pub(super) use judgement::{Case, Logs};
pub(super) use kernel_log::without_time;
pub(super) use scheduler_exit::{ended_by_own_watchdog, exit_text, is_ejected};

/// Judges a run. An error of the harness in the guest and a wrong topology take precedence; otherwise the verdict follows
/// from how the run ended, from what the guest reported, and from how the scheduler ended. `console` is the kernel's log,
/// and `exit` is what sched_ext recorded about a scheduler that ended before the test did.
pub(super) fn judge(
    case: &Case,
    end: &End,
    guest: &GuestState,
    console: &str,
    exit: Option<&ScxExit>,
) -> Judgement {
    if let Some(message) = &guest.harness_error {
        return Judgement::inconclusive(Fault::Harness, format!("in the guest: {message}"));
    }
    if let Some(hello) = &guest.hello
        && hello.topology.as_deref() != Ok(case.topology)
    {
        let seen = match &hello.topology {
            Ok(seen) => seen.clone(),
            Err(why) => format!("one without a short form ({why})"),
        };
        return Judgement::inconclusive(
            Fault::Harness,
            format!(
                "the guest should have topology {} but reports {seen}",
                case.topology
            ),
        );
    }
    let mut judgement = match end {
        End::Garbled(error) => {
            return Judgement::inconclusive(
                Fault::Harness,
                format!("the guest's mailbox is corrupted: {error}"),
            );
        }
        End::Lost(lost) => {
            return Judgement::inconclusive(
                Fault::Harness,
                format!("messages of the guest were lost: {lost}"),
            )
            .because("a frame of the mailbox had a bad checksum or sequence number".to_owned());
        }
        End::TimedOut(reason, stall) => timed_out(case, *reason, stall, guest),
        End::Halted(halt) => return halted(case, *halt, guest, console),
        End::Completed => finished(case, guest, console),
    };
    match end {
        // If the kernel ejected the scheduler before, that explains why nothing made progress, unless the test started
        // so many tasks that no scheduler could have served all of them in time.
        End::TimedOut(reason, stall) => {
            let slow = *reason == WatchdogKillReason::Tier3Deadman && !case.virtual_clock;
            let of_host = judgement.evidence.clone().filter(|_| slow);
            scheduler_exit::ejected(&mut judgement, case, guest, console, exit);
            // A host that is too slow also keeps tasks waiting until sched_ext's watchdog expires.
            if let Some(evidence) = of_host
                && contention::excuse(&mut judgement, AssertDetail::is_about_time)
                && !judgement.result.is_fail()
            {
                judgement.blame(Fault::Host, evidence);
            }
            // The task that waited may be the one in which the kernel's own watchdog runs.
            let waited = |exit: &ScxExit| match exit.stalled() {
                Some((_, seconds)) => Some(seconds),
                None => exit.unwatched(),
            };
            let waited = exit.and_then(waited);
            if let Some(crowd) = waited.and_then(|waited| hang::crowd(stall, guest, waited)) {
                judgement.blame(Fault::Test, crowd);
            }
        }
        _ => scheduler_exit::judge(&mut judgement, case, guest, console, exit),
    }
    // A scheduler cannot serve any task if real-time workers leave no CPU time.
    if let Some(exit) = exit.filter(|exit| exit.is_stall()) {
        let hog = case.hogs.of_stall(&judgement.result.measurements, exit);
        if let Some(hog) = hog {
            judgement.blame(Fault::Test, hog);
        } else if let Some(engine) = case.hogs.engine_of_stall(exit) {
            fault::unproven(&mut judgement, Fault::Harness, engine);
        }
    }
    let logs = Logs {
        console,
        scheduler: &guest.scheduler_log,
    };
    killed::excuse(&mut judgement, case, console);
    fault::attribute_fault(&mut judgement, case, logs);
    for report in kernel_log::reports(console) {
        judgement.result.note(report.to_string());
    }
    scheduler_exit::note_survivor(&mut judgement, guest);
    judgement
}

/// Turns off the bound on the share of CPU time that the scheduler must give (`min_driven_share`) if it cannot be judged. If the
/// test or the scheduler's declaration sets the bound, a note says why it does not count.
pub(super) fn drop_driven_share(judgement: &mut Judgement, case: &Case, checks: &mut Assert) {
    let why = if !case.has_bpf_scheduler() {
        "no BPF scheduler is under test, and only a BPF scheduler's tasks have a class of their own (sched_ext) by which the \
         share that it gave can be told"
    } else if case.changed {
        "the test itself stops or starts schedulers, so it decides when the scheduler drives the tasks"
    } else {
        return;
    };
    if let Some(floor) = checks.min_driven_share.and_then(Limit::value) {
        let note = format!("min_driven_share = {floor} does not count: {why}");
        judgement.result.note(note);
    }
    checks.min_driven_share = Some(Limit::Off);
}

/// Adds the findings of the monitor. Its bounds apply to a scheduler under test only, so they are checked only if there
/// is one, and the test or the scheduler's declaration sets a bound.
pub(super) fn monitor(
    judgement: &mut Judgement,
    case: &Case,
    checks: &Assert,
    report: Option<&MonitorReport>,
) {
    let Some(thresholds) = MonitorThresholds::from_assert(checks) else {
        return;
    };
    // What makes a run inconclusive makes its samples inconclusive as well, with one exception: if only checks of workers
    // had no data, or the test itself cannot decide something, the samples can still be judged. A test that is skipped runs no
    // scenario, so it has no samples.
    let inconclusive = judgement.result.is_inconclusive() && !judgement.lacks_only_data();
    if !case.has_scheduler() || inconclusive || judgement.result.is_skip() {
        return;
    }
    // The user has turned the monitor off, so there is nothing to judge.
    let Some(report) = report else { return };
    let asked_for_events = checks.max_fallback_rate.or(checks.max_keep_last_rate);
    if asked_for_events.is_some()
        && !report.scx_event_counters_supported
        && !report.samples.is_empty()
    {
        judgement.result.note(
            "monitor: this kernel counts no sched_ext events (before 6.15), so max_fallback_rate and \
             max_keep_last_rate judge nothing",
        );
    }
    let mut result = thresholds.evaluate(report).into_result();
    if result.is_inconclusive() && judgement.guest.is_err() {
        // The run ended too early for the samples to show much. Its end is reported already.
        return;
    }
    if result.is_inconclusive()
        && let Some(why) = &report.unavailable
    {
        result.note(format!("the monitor has no data: {why}"));
    }
    let blamed = match () {
        () if result.is_fail() => {
            let why = format!(
                "the monitor saw it from the host while `{}` scheduled the guest's tasks",
                case.scheduler
            );
            Some((Fault::Scheduler, why))
        }
        () if result.is_inconclusive() => {
            let why = report.unavailable.clone();
            let why = why.unwrap_or_else(|| counted(report.samples.len(), "sample"));
            Some((Fault::Harness, format!("data is missing: {why}")))
        }
        () => None,
    };
    let open = judgement.fault.is_none() || judgement.is_open() && result.is_fail();
    let failed = result.is_fail();
    judgement.result.merge(result);
    if open && failed && case.changed {
        fault::undecided(judgement, fault::CHANGED);
    } else if let (true, Some((fault, why))) = (open, blamed) {
        judgement.blame(fault, why);
    }
}

fn timed_out(
    case: &Case,
    reason: WatchdogKillReason,
    stall: &StallReport,
    guest: &GuestState,
) -> Judgement {
    if reason == WatchdogKillReason::Tier3Deadman {
        let stage = hang::stage(guest.phase);
        return Judgement::inconclusive(
            Fault::Host,
            format!("host too slow: the guest got too little CPU to make progress {stage}"),
        )
        .because(fault::of_slow_host(stall, guest));
    }
    let hang = hang::judge(reason, stall, guest, case);
    let times = fault::hang_evidence(stall, guest);
    let evidence = match hang.evidence.as_str() {
        "" => times,
        more => format!("{more}; {times}"),
    };
    let judgement = match hang.fault {
        Fault::Test => Judgement::fail(hang.fault, hang.finding),
        _ => Judgement::unanswered(hang.fault, hang.finding),
    };
    judgement.because(evidence)
}

fn halted(case: &Case, halt: Halt, guest: &GuestState, console: &str) -> Judgement {
    match (halt, kernel_log::panic_of(console)) {
        (Halt::AcceleratorFailed, _) => Judgement::inconclusive(
            Fault::Host,
            "the host's virtualization stopped with an internal error".to_owned(),
        ),
        // This is a defect of QEMU, not of the kernel: see `MachineSpec::parallel`.
        (_, Some(panic)) if case.parallel_tcg && console.contains("Oops: int3") => {
            Judgement::inconclusive(
                Fault::Harness,
                "the guest's kernel ran into a breakpoint that it had removed: QEMU's TCG, with a \
                 thread for each CPU, sometimes keeps executing old code while a kernel patches its \
                 text; the virtual clock (KTSTR_CLOCK=virtual) and KVM do not"
                    .to_owned(),
            )
            .with_crash(panic)
            .because(fault::of_panic(console))
        }
        (_, Some(panic)) => {
            let (fault, why) = fault::of_kernel_panic(&panic, console, guest);
            let finding = Finding::KernelPanic {
                reason: panic.clone(),
            };
            let judgement = match fault {
                Fault::Harness | Fault::Undetermined => Judgement::unanswered(fault, finding),
                _ => Judgement::fail(fault, finding),
            };
            let place = fault::of_panic(console);
            let parts: Vec<String> = [why, place].into_iter().filter(|p| !p.is_empty()).collect();
            judgement.with_crash(panic).because(parts.join("; "))
        }
        (halt, None) => went_down(halt, guest, console),
    }
}

/// Judges a machine that went down without a panic: either a process asked the kernel to go down, or the cause is unknown.
fn went_down(halt: Halt, guest: &GuestState, console: &str) -> Judgement {
    let how = match halt {
        Halt::Reset => "reset itself without a panic message",
        _ => "powered off before the run ended",
    };
    let finding = Finding::WentDown {
        how: how.to_owned(),
    };
    let test_runs = guest.test_pid.is_some() && guest.test_end.is_none();
    match kernel_log::asked_to_go_down(console) {
        Some(line) if test_runs => Judgement::fail(Fault::Test, finding).because(format!(
            "the kernel was asked to go down while the test ran, and only the test could ask for that: its log ends \
             with {line:?}"
        )),
        Some(line) => Judgement::unanswered(Fault::Harness, finding).because(format!(
            "no test ran, and the kernel's log ends with {line:?}"
        )),
        None => Judgement::unanswered(Fault::Undetermined, finding)
            .because("the kernel's log does not say why".to_owned()),
    }
}

fn finished(case: &Case, guest: &GuestState, console: &str) -> Judgement {
    if let Some(reason) = &guest.not_attached {
        // Before the scheduler has attached, only its own process can use up the memory, so the pid of the killed process is
        // not compared.
        if let (true, Some(line)) = (
            reason.contains("killed by signal 9"),
            kernel_log::killed_for_memory(console, None),
        ) {
            let finding = Finding::NotAttached {
                scheduler: case.scheduler.to_owned(),
                why: format!("{reason}: {}", out_of_memory(case)),
                log: last_words(&guest.scheduler_log),
            };
            return Judgement::unanswered(Fault::Undetermined, finding).because(line);
        }
        let refusal = verifier_log::of(&guest.scheduler_log);
        if let (None, Some(misfit)) = (&refusal, misfit::of(&guest.scheduler_log)) {
            let finding = Finding::NotAttached {
                scheduler: case.scheduler.to_owned(),
                why: misfit.to_string(),
                log: last_words(&guest.scheduler_log),
            };
            return Judgement::unanswered(Fault::Undetermined, finding).because(misfit.evidence());
        }
        let why = refusal.as_ref().map(ToString::to_string);
        let evidence = match &refusal {
            Some(_) => format!("{reason}; its whole log is scheduler.log, next to record.json"),
            None => format!(
                "the guest's kernel runs, and `{}` did not attach: {reason}",
                case.scheduler
            ),
        };
        let finding = Finding::NotAttached {
            scheduler: case.scheduler.to_owned(),
            why: why.unwrap_or_else(|| reason.clone()),
            log: last_words(&guest.scheduler_log),
        };
        return Judgement::fail(Fault::Scheduler, finding).because(evidence);
    }
    if let Some(panic) = &guest.panic {
        let message = panic.clone();
        return Judgement::fail(Fault::Test, Finding::TestPanicked { message })
            .with_crash(panic.clone());
    }
    if let Some(error) = &guest.error {
        let message = error.clone();
        return Judgement::fail(Fault::Test, Finding::TestError { message });
    }
    match (&guest.result, guest.test_end) {
        (Some(result), _) => Judgement {
            guest: Ok(result.clone()),
            result: result.clone(),
            fault: None,
            evidence: None,
            crash: None,
        },
        (None, Some((_, true))) => {
            let memory_mib = case.memory_mib;
            Judgement::fail(Fault::Test, Finding::OutOfMemory { memory_mib })
        }
        (None, Some((end, false))) => {
            let end = end.to_string();
            Judgement::fail(Fault::Test, Finding::NoResult { end })
        }
        (None, None) => Judgement::inconclusive(
            Fault::Harness,
            "the guest finished without having run the test".to_owned(),
        ),
    }
}

/// Returns the message about a scheduler that the guest's OOM killer killed. Nobody is blamed: the scheduler may leak memory,
/// or may need more than the guest has.
fn out_of_memory(case: &Case) -> String {
    format!(
        "the guest ran out of memory, of which it has {} MiB (memory_mib): if this also happens with several times as much, the \
         scheduler leaks memory",
        case.memory_mib
    )
}

/// Returns the last lines of a scheduler's log, or the verifier's reason if it refused a program.
pub(super) fn last_words(log: &str) -> String {
    match verifier_log::of(log) {
        Some(refusal) => refusal.excerpt(),
        None => last_lines(&without_backtrace(log), LAST_WORDS),
    }
}

/// Leaves out the backtraces that Rust programs print after an error: at the end of a log, their frames would push the error
/// itself out of the lines that are quoted.
fn without_backtrace(log: &str) -> String {
    let is_frame = |line: &str| {
        let number = line.split(':').next().unwrap_or_default();
        let is_numbered = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        is_numbered || line.starts_with("at ") || line.is_empty()
    };
    let mut kept = Vec::new();
    let mut inside = false;
    for line in log.lines() {
        let text = line.trim();
        inside = text.eq_ignore_ascii_case("stack backtrace:") || inside && is_frame(text);
        if !inside {
            kept.push(line);
        }
    }
    kept.join("\n")
}

/// The number of lines of a scheduler's log that a message quotes.
const LAST_WORDS: usize = 8;

/// Returns the last `count` lines of a text that are not blank, indented by four spaces.
pub(super) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..]
        .iter()
        .map(|line| format!("    {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
pub(super) mod tests;
