//! Attributes a failure if the way in which the run ended does not show whose fault it is, and states the evidence in one line.
//! Evidence is, for example, a workload that took all CPU time, a lack of memory, or the state of a guest that hung or panicked.

use std::time::Duration;

use ktstr_assert::{AssertDetail, DetailKind, Finding, Outcome, WorkerExitInfo};

use super::super::guest_state::GuestState;
use super::super::stall::{self, StallReport};
use super::kernel_log::without_time;
use super::{Case, Fault, Judgement, Logs, killed, misfit, pages};

/// Attributes the failures that are left after others were removed or excused, since the fault so far may rest on one of
/// those. The end of a scheduler keeps its fault, and so does a test without a result.
pub(super) fn attribute_again(judgement: &mut Judgement, case: &Case, logs: Logs<'_>) {
    let explained = |detail: &AssertDetail| detail.explains_the_rest();
    if judgement.guest.is_err() || judgement.result.failure_details().any(explained) {
        return;
    }
    judgement.blame_nobody();
    attribute_fault(judgement, case, logs);
}

/// Returns the kernel's message about the first process that was killed for lack of memory, and which limit to raise
/// (`mm/oom_kill.c`, `mm/memcontrol.c`). A message about the memory of a cgroup has priority over one about the memory of
/// the machine. `None` if no process was killed for lack of memory.
pub(super) fn killed_for_memory(console: &str, memory_mib: u32) -> Option<String> {
    let of_machine = format!("{memory_mib} MiB; raise `memory_mib`");
    let kinds = [
        (
            "Memory cgroup out of memory: Killed process ",
            "raise the cgroup's memory limit".to_owned(),
        ),
        ("Out of memory: Killed process ", of_machine),
    ];
    let (at, advice) = kinds
        .into_iter()
        .find_map(|(words, advice)| Some((console.find(words)?, advice)))?;
    let line = console[at..].lines().next()?;
    let end = line.find(" total-vm").unwrap_or(line.len());
    Some(format!("{} ({advice})", line[..end].trim_end_matches(',')))
}

/// Attributes a result that is neither a pass nor a skip, if that has not been done yet. If the fault is known already but
/// has no evidence, adds the evidence.
pub(super) fn attribute_fault(judgement: &mut Judgement, case: &Case, logs: Logs<'_>) {
    let Logs {
        console,
        scheduler: scheduler_log,
    } = logs;
    let result = &judgement.result;
    if result.is_pass() || result.is_skip() {
        return;
    }
    if let Some(fault) = judgement.fault {
        let of_memory = || match fault {
            Fault::Test => killed_for_memory(console, case.memory_mib),
            _ => None,
        };
        judgement.evidence.get_or_insert_with(|| {
            of_memory().unwrap_or_else(|| default_evidence(fault).to_owned())
        });
        return;
    }
    if judgement.result.is_inconclusive() {
        let mut details: Vec<&AssertDetail> = judgement.result.inconclusive_details().collect();
        if details.iter().all(|detail| detail.is_about_pages()) {
            let (fault, why) = pages::fault(&judgement.result.measurements, &details);
            judgement.blame(fault, why);
            return;
        }
        details.retain(|detail| !detail.is_about_pages());
        if let Some((fault, why)) = killed::fault(details.iter().copied(), case, console) {
            judgement.blame(fault, why);
            return;
        }
        // The first one that is not in the test's own words, if there is one.
        let first = details.iter().min_by_key(|detail| is_in_own_words(detail));
        let what = first.map_or_else(String::new, |detail| detail.message.clone());
        // Only a test sets the limit of a cgroup. Who used up the memory of the whole machine is unknown.
        let of_limit = killed_for_memory(console, case.memory_mib)
            .filter(|line| line.starts_with("Memory cgroup"));
        let (fault, why) = match of_limit {
            _ if details.iter().all(|detail| is_in_own_words(detail)) => {
                let why = format!("the test itself reports that it cannot decide: {what}");
                (Fault::Test, why)
            }
            Some(line) => (Fault::Test, line),
            None if details.iter().all(|detail| is_for_the_test(detail)) => {
                let why = format!("a check of the test does not fit its workload: {what}");
                (Fault::Test, why)
            }
            None => (Fault::Harness, format!("data is missing: {what}")),
        };
        judgement.blame(fault, why);
        return;
    }
    let mut failures: Vec<&AssertDetail> = judgement.result.failure_details().collect();
    failures.sort_by_key(|detail| detail.rank());
    // A scheduler that the test started and that did not attach is not the test's fault.
    let did_not_start = failures.iter().find_map(|detail| match &detail.finding {
        Finding::StartupDeath { scheduler, .. } => Some(scheduler.clone()),
        _ => None,
    });
    if let Some(scheduler) = did_not_start {
        match misfit::of(scheduler_log) {
            Some(misfit) => undecided(judgement, &format!("{misfit}; {}", misfit.evidence())),
            None => judgement.blame(
                Fault::Scheduler,
                format!("the guest's kernel runs, and `{scheduler}` did not attach when the test started it"),
            ),
        }
        return;
    }
    // A scenario that could not be set up was not run as declared, so its other findings do not count.
    let set_up = failures.iter().find_map(|detail| match &detail.finding {
        Finding::SetUp { stage, error } => Some((stage.clone(), error.clone())),
        _ => None,
    });
    if let Some((stage, error)) = set_up {
        let why = format!("{stage} failed, so the test was not run as declared: {error}");
        judgement.blame(Fault::Test, why);
        return;
    }
    if failures.iter().all(|detail| detail.is_about_pages()) {
        match pages::fault(&judgement.result.measurements, &failures) {
            (Fault::Undetermined, why) => undecided(judgement, &why),
            (fault, why) => judgement.blame(fault, why),
        }
        return;
    }
    failures.retain(|detail| !detail.is_about_pages());
    let deaths = failures.iter().copied();
    if failures.iter().all(|detail| killed::is_death(detail))
        && let Some((fault, why)) = killed::fault(deaths, case, console)
    {
        match fault {
            Fault::Undetermined => undecided(judgement, &why),
            _ => judgement.blame(fault, why),
        }
        return;
    }
    failures.retain(|detail| !matches!(detail.finding, Finding::WorkerKilled { .. }));
    // A payload determines its own exit status, which says nothing about the scheduler or about other findings.
    let of_payload = |d: &AssertDetail| matches!(d.finding, Finding::PayloadFailed { .. });
    if failures.iter().all(|detail| of_payload(detail)) {
        let why = killed_for_memory(console, case.memory_mib).unwrap_or_else(|| {
            "a program that the test runs determines its own exit status and output".to_owned()
        });
        judgement.blame(Fault::Test, why);
        return;
    }
    failures.retain(|detail| !of_payload(detail));
    if let Some(why) = of_workers(&mut failures) {
        let why = killed_for_memory(console, case.memory_mib).unwrap_or(why);
        judgement.blame(Fault::Test, why);
        return;
    }
    let starved = failures
        .iter()
        .all(|d| d.is_about_time() && d.kind != DetailKind::SchedulerEvent);
    if starved && let Some(line) = killed_for_memory(console, case.memory_mib) {
        judgement.blame(Fault::Test, line);
        return;
    }
    let measurements = &judgement.result.measurements;
    let hog = case.hogs.at_all(measurements, failures.iter().copied());
    if starved && let Some(hog) = hog {
        judgement.blame(Fault::Test, hog);
        return;
    }
    if starved && let Some(engine) = case.hogs.engine(failures.iter().copied()) {
        unproven(judgement, Fault::Harness, engine);
        return;
    }
    let of_work = |detail: &AssertDetail| match detail.finding {
        Finding::SlowWorker { tid, .. } => (case.hogs.disturbances(tid))
            .is_some_and(|per_second| per_second <= UNDISTURBED || !case.has_scheduler()),
        _ => false,
    };
    if !failures.is_empty() && failures.iter().all(|detail| of_work(detail)) {
        let why = "the bound is on the work in a second of CPU time, and the schedule shows that the workers were hardly disturbed: how \
                   much they do in that time depends on the work";
        judgement.blame(Fault::Test, why.to_owned());
        return;
    }
    let first = failures.first();
    let of_scheduling = first.is_some_and(|detail| {
        detail.is_about_time()
            || matches!(detail.kind, DetailKind::Isolation | DetailKind::Migration)
    });
    // A bound on a program's metric, without a scheduler under test, is a claim of the test.
    let of_program = |d: &AssertDetail| matches!(d.finding, Finding::PayloadMetric { .. });
    let of_scheduling =
        of_scheduling && (case.has_scheduler() || !first.is_some_and(|detail| of_program(detail)));
    let own_words = first.is_some_and(|detail| is_in_own_words(detail));
    let scheduler = case.scheduler;
    if case.changed && !own_words {
        undecided(judgement, CHANGED);
        return;
    }
    let (fault, why) = match (case.has_scheduler(), of_scheduling) {
        (true, true) => (
            Fault::Scheduler,
            match starved {
                true => format!(
                    "`{scheduler}` scheduled the tasks, and nothing shows another cause: no real-time worker took the CPUs, and \
                     there was no OOM kill"
                ),
                false => format!(
                    "`{scheduler}`, the scheduler under test, decides when and where tasks run"
                ),
            },
        ),
        (true, false) if own_words => (
            Fault::Test,
            format!("the test itself reports the failure; `{scheduler}` scheduled the tasks"),
        ),
        (true, false) => (
            Fault::Scheduler,
            format!("a claim of the test did not hold under `{scheduler}`"),
        ),
        (false, true) => (
            Fault::Kernel,
            "no scheduler was under test: the kernel's own scheduler scheduled the tasks"
                .to_owned(),
        ),
        (false, false) => (
            Fault::Test,
            "no scheduler was under test: a claim of the test did not hold".to_owned(),
        ),
    };
    judgement.blame(fault, why);
}

/// Removes the findings about workers that did no work because they ended by themselves, were killed, or did not respond to
/// the request to stop although they were not starved. Returns the evidence against the test if all findings that are left
/// are texts that the workers or the test reported; `None` otherwise.
fn of_workers(failures: &mut Vec<&AssertDetail>) -> Option<String> {
    let starved: Vec<i32> = failures
        .iter()
        .filter_map(|detail| match detail.finding {
            Finding::Gap { tid, .. } => Some(tid),
            _ => None,
        })
        .collect();
    let mut why = None;
    failures.retain(|detail| {
        let Finding::NoProgress {
            tid,
            exit: Some(exit),
        } = &detail.finding
        else {
            return true;
        };
        let how = match exit {
            // If the worker was runnable but did not run, the guest also reports a gap that lasts until the end of the wait.
            WorkerExitInfo::TimedOut if starved.contains(tid) => return true,
            WorkerExitInfo::TimedOut => {
                "did not respond to the request to stop, although it got CPU time or was not runnable".to_owned()
            }
            WorkerExitInfo::Panicked(message) => format!("panicked: {message}"),
            WorkerExitInfo::Exited(code) => format!("exited by itself with status {code}"),
            WorkerExitInfo::Signaled(signal) => format!("was killed by signal {signal}"),
            WorkerExitInfo::WaitFailed(reason) => format!("could not do its work: {reason}"),
        };
        why.get_or_insert_with(|| format!("worker {tid} {how}"));
        false
    });
    let own_words = |d: &&AssertDetail| d.kind == DetailKind::Other && d.finding == Finding::Text;
    why.filter(|_| failures.iter().all(own_words))
}

/// A worker that is preempted or moved at most this often in a second of its CPU time does its work at its own rate: what a
/// switch costs is a few microseconds.
const UNDISTURBED: f64 = 500.0;

/// The evidence if the test has changed schedulers, and nothing shows which of them is at fault.
pub(super) const CHANGED: &str = "the test started and stopped schedulers itself, and the findings do not show which of them \
                                  scheduled the tasks at the time";

/// Makes all failures inconclusive, because it is undetermined whose fault they are. `why` is the evidence.
pub(super) fn undecided(judgement: &mut Judgement, why: &str) {
    unproven(judgement, Fault::Undetermined, why.to_owned());
}

/// Makes all failures inconclusive, because they say nothing about the scheduler or the test. `why` is the evidence.
pub(super) fn unproven(judgement: &mut Judgement, fault: Fault, why: String) {
    for outcome in &mut judgement.result.outcomes {
        if let Outcome::Fail(detail) = outcome {
            *outcome = Outcome::Inconclusive(detail.clone());
        }
    }
    judgement.blame(fault, why);
}

/// Attributes a kernel panic, and returns the evidence.
/// sched_ext promises that no BPF scheduler can crash the kernel, so the presence of a scheduler proves nothing.
pub(super) fn of_kernel_panic(panic: &str, console: &str, guest: &GuestState) -> (Fault, String) {
    if panic.starts_with("Attempted to kill init") {
        return (Fault::Harness, "PID 1 is ktstr's own".to_owned());
    }
    if panic.starts_with("System is deadlocked on memory") || panic.starts_with("Out of memory") {
        return (Fault::Test, "the guest's memory was used up".to_owned());
    }
    let by = panicking_pid(console);
    let asked = panic == "sysrq triggered crash" || console.contains("sysrq: Trigger a crash");
    if asked && by.is_some() && by == guest.scheduler_pid() {
        return (
            Fault::Scheduler,
            "the scheduler's process requested the panic".to_owned(),
        );
    }
    if asked && guest.test_pid.is_some() {
        let who = match by == guest.test_pid {
            true => "the test process requested the panic",
            false => "a process of the test requested the panic",
        };
        return (Fault::Test, who.to_owned());
    }
    if asked {
        let why =
            "a process requested the panic through sysrq, and nothing shows whose process it was";
        return (Fault::Undetermined, why.to_owned());
    }
    let why = "nothing shows that the scheduler or the test requested the panic";
    (Fault::Kernel, why.to_owned())
}

/// Returns the pid of the task in which the kernel panicked; `None` if the console does not show it.
fn panicking_pid(console: &str) -> Option<i32> {
    let (_, rest) = console.rsplit_once("Kernel panic - not syncing: ")?;
    let line = rest
        .lines()
        .map(without_time)
        .find(|l| l.starts_with("CPU: "))?;
    let (_, pid) = line.split_once("PID: ")?;
    pid.split_whitespace().next()?.parse().ok()
}

/// Returns whether the test reports this in its own words, so that nothing else is known of it.
fn is_in_own_words(detail: &AssertDetail) -> bool {
    detail.kind == DetailKind::Other && detail.finding == Finding::Text
}

/// Returns whether the test is the reason why this was not decided: it reports so itself, or its workload never does what the
/// check measures.
fn is_for_the_test(detail: &AssertDetail) -> bool {
    is_in_own_words(detail) || matches!(detail.finding, Finding::NothingToMeasure { .. })
}

/// Returns the text that stands for the evidence if nothing but the failure itself shows the fault.
pub(in crate::run) fn default_evidence(fault: Fault) -> &'static str {
    match fault {
        Fault::Scheduler => "it scheduled the tasks at that time",
        Fault::Test => "the guest and the scheduler kept working",
        Fault::User => "the cause is a setting, a file or an option",
        Fault::Kernel => "no sched_ext scheduler was attached at that time",
        Fault::Harness | Fault::Host | Fault::Undetermined => {
            "this says nothing about the scheduler"
        }
    }
}

/// Describes a hung guest. Under the virtual clock, states when it sent its last message and how far its clock advanced;
/// under the real clock, for how long it has sent nothing and how much CPU time it used meanwhile. Also states which tasks
/// its first eight CPUs run.
pub(super) fn hang_evidence(stall: &StallReport, guest: &GuestState) -> String {
    let mut parts = Vec::new();
    let apart = match guest.at > guest.progress_at {
        true => ", apart from what the scheduler prints,",
        false => "",
    };
    match stall.guest_clock {
        Some(clock) => {
            // The clock is read at timer interrupts. If the guest no longer serves any, the value stops, no matter how many
            // instructions are executed.
            let stood = match stall.wall > Duration::from_secs(5) {
                true => format!(
                    "; after that, neither came for {} of wall time, during which QEMU used {} of CPU time",
                    secs(stall.wall),
                    secs(stall.cpu_used)
                ),
                false => String::new(),
            };
            let interrupt = match clock.is_zero() {
                true => "took no timer interrupt".to_owned(),
                false => format!("took its last timer interrupt at {}", secs(clock)),
            };
            let last = secs(guest.progress_at);
            parts.push(format!(
                "the guest sent its last message{apart} at {last} of guest time and {interrupt}{stood}"
            ));
        }
        None => parts.push(format!(
            "it has sent nothing{apart} for {}, during which QEMU used {} of CPU time{}",
            secs(stall.wall),
            secs(stall.cpu_used),
            of_each(&stall.vcpus),
        )),
    }
    let at: Vec<String> = (stall.tasks.iter().enumerate())
        .map(|(cpu, task)| format!("cpu{cpu} runs {task}"))
        .take(8)
        .collect();
    parts.extend((!at.is_empty()).then(|| at.join(", ")));
    parts.extend(stall.limit.map(|limit| {
        format!(
            "a test may send nothing for {}, which is the longer of `duration_s` and `watchdog_timeout_s`, and {:.0} s more: if \
             it needs longer before or after a scenario, raise one of them",
            secs(limit),
            stall::MARGIN.as_secs_f64()
        )
    }));
    parts.join("; ")
}

/// Describes a guest on a slow host: how much CPU time it got in how much wall time since its last progress.
pub(super) fn of_slow_host(stall: &StallReport, guest: &GuestState) -> String {
    let wall = stall.wall.as_secs_f64();
    let share = 100.0 * stall.cpu_used.as_secs_f64() / wall.max(1e-3);
    let clock = match stall.guest_clock {
        Some(clock) => format!("the guest's clock has stood at {}", secs(clock)),
        None => format!(
            "after its message at {} the guest has sent nothing",
            secs(guest.progress_at)
        ),
    };
    format!(
        "{clock} for {wall:.0} s of wall time, during which the host gave QEMU only {} of CPU time ({share:.1} %)",
        secs(stall.cpu_used),
    )
}

fn secs(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// Returns the CPU times of the first eight CPUs in parentheses; empty if none is known.
fn of_each(vcpus: &[Duration]) -> String {
    let each: Vec<String> = (vcpus.iter().enumerate())
        .map(|(cpu, ran)| format!("cpu{cpu} {}", secs(*ran)))
        .take(8)
        .collect();
    match each.is_empty() {
        true => String::new(),
        false => format!(" ({})", each.join(", ")),
    }
}

/// The largest number of frames of a panic that are reported.
const FRAMES: usize = 3;
/// Functions on the kernel's path to a panic (`kernel/panic.c`, `lib/dump_stack.c`), which are left out.
const PANICKING: &[&str] = &["dump_stack", "vpanic", "panic", "oops", "die"];

/// Describes where the kernel panicked: the CPU, the task and the innermost functions, as far as the console shows them
/// (`dump_stack_print_info` in `lib/dump_stack.c`). Empty if the console shows no panic.
pub(super) fn of_panic(console: &str) -> String {
    let lines: Vec<&str> = console.lines().map(without_time).collect();
    let Some(panic) = lines.iter().rposition(|l| l.starts_with("Kernel panic")) else {
        return String::new();
    };
    let is_place = |line: &&str| line.starts_with("CPU: ") && line.contains(" Comm: ");
    // After an oops the location is printed before the panic that follows from it.
    let place = (panic..lines.len())
        .chain((0..panic).rev())
        .find(|at| is_place(&lines[*at]));
    let Some(place) = place else {
        return "the console shows no details".to_owned();
    };
    let word = |name: &str| {
        let (_, rest) = lines[place].split_once(name)?;
        rest.split_whitespace().next()
    };
    let mut text = format!(
        "it happened on CPU {} in the task {}[{}]",
        word("CPU: ").unwrap_or("?"),
        word("Comm: ").unwrap_or("?"),
        word("PID: ").unwrap_or("?"),
    );
    let after = || lines[place..].iter();
    // 0010 is the kernel's code segment (`__KERNEL_CS`).
    let faulted = after().find_map(|line| line.strip_prefix("RIP: 0010:"));
    let frames = after()
        .skip_while(|line| !line.starts_with("Call Trace:"))
        .skip(1)
        .take_while(|line| line.starts_with(' '))
        .map(|line| line.trim())
        .filter(|frame| !frame.starts_with(['<', '?']))
        .skip_while(|frame| PANICKING.iter().any(|f| frame.starts_with(f)));
    let frames: Vec<&str> = (faulted.into_iter().chain(frames))
        .filter_map(|frame| frame.split('/').next())
        .take(FRAMES)
        .collect();
    if !frames.is_empty() {
        text.push_str(&format!(", in {}", frames.join(", called by ")));
    }
    text
}

#[cfg(test)]
#[path = "fault_tests.rs"]
mod tests;
