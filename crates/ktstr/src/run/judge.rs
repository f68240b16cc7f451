//! From a conversation to a verdict that names whose fault it is.

use ktstr_assert::{Assert, AssertDetail, AssertResult, Finding, MonitorReport, MonitorThresholds};
use ktstr_introspect::report::ScxExit;
use ktstr_machine::Halt;

use super::conversation::End;
use super::transcript::Transcript;
use super::watch::Silence;
use super::{blame, death, refusal};
use crate::vm_result::{GuestLifecyclePhase, WatchdogKillReason};

/// Whose fault a run is that did not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The scheduler under test.
    Scheduler,
    /// The test function or its workload.
    Test,
    /// What the user asked for: a kernel, a scheduler, a variable.
    User,
    /// The guest's kernel, or what made it hang or panic.
    Kernel,
    /// ktstr itself.
    Harness,
    /// The host: too slow, out of something.
    Host,
}

impl Fault {
    /// The word for it in the record.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler",
            Self::Test => "test",
            Self::User => "user",
            Self::Kernel => "kernel",
            Self::Harness => "harness",
            Self::Host => "host",
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Scheduler => "the scheduler's",
            Self::Test => "the test's",
            Self::User => "the user's",
            Self::Kernel => "the guest kernel's",
            Self::Harness => "the harness's",
            Self::Host => "the host's",
        })
    }
}

/// What a conversation amounts to, before the host's own checks.
#[derive(Debug, Clone)]
pub(crate) struct Judgement {
    /// What the guest itself concluded, if it came that far.
    pub(crate) guest: Result<AssertResult, String>,
    /// The result so far.
    pub(crate) result: AssertResult,
    /// Whose fault it is, when it is no pass.
    pub(crate) fault: Option<Fault>,
    /// What speaks for that, in one line.
    pub(crate) evidence: Option<String>,
    /// The panic of kernel or test function.
    pub(crate) crash: Option<String>,
}

impl Judgement {
    fn fail(fault: Fault, finding: Finding) -> Self {
        let detail = AssertDetail::of(finding);
        Self {
            guest: Err(detail.message.clone()),
            result: AssertResult::fail(detail),
            fault: Some(fault),
            evidence: None,
            crash: None,
        }
    }

    fn inconclusive(fault: Fault, message: String) -> Self {
        let detail = AssertDetail::of(Finding::NoAnswer { message });
        Self {
            guest: Err(detail.message.clone()),
            result: AssertResult::inconclusive(detail),
            fault: Some(fault),
            evidence: None,
            crash: None,
        }
    }

    /// Names whose fault it is, with what speaks for it.
    pub(super) fn blame(&mut self, fault: Fault, evidence: String) {
        self.fault = Some(fault);
        self.evidence = Some(evidence);
    }

    fn because(mut self, evidence: String) -> Self {
        self.evidence = Some(evidence).filter(|evidence| !evidence.is_empty());
        self
    }

    fn with_crash(mut self, crash: String) -> Self {
        self.crash = Some(crash);
        self
    }
}

/// What is told of the test, for messages.
pub(super) struct Case<'a> {
    pub(super) scheduler: &'a str,
    pub(super) has_scheduler: bool,
    pub(super) topology: &'a str,
    pub(super) memory_mib: u32,
    /// CPUs translated and executed by several host threads at once.
    pub(super) parallel_tcg: bool,
}

/// Judges how it ended first, then what was said.
pub(super) fn judge(
    case: &Case,
    end: &End,
    said: &Transcript,
    console: &str,
    exit: Option<&ScxExit>,
) -> Judgement {
    if let Some(message) = &said.harness_error {
        return Judgement::inconclusive(Fault::Harness, format!("in the guest: {message}"));
    }
    if let Some(hello) = &said.hello
        && hello.topology.as_deref() != Ok(case.topology)
    {
        let seen = match &hello.topology {
            Ok(seen) => seen.clone(),
            Err(why) => format!("none that has a name ({why})"),
        };
        return Judgement::inconclusive(
            Fault::Harness,
            format!(
                "the guest was to have topology {} and sees {seen}",
                case.topology
            ),
        );
    }
    match end {
        End::Garbled(error) => {
            return Judgement::inconclusive(
                Fault::Harness,
                format!("the guest's mailbox was garbled: {error}"),
            );
        }
        End::Lost(lost) => {
            return Judgement::inconclusive(
                Fault::Harness,
                format!("messages of the guest were lost: {lost}"),
            )
            .because("a frame of the mailbox had a bad checksum or number".to_owned());
        }
        End::GaveUp(reason, silence) => return gave_up(case, *reason, silence, said),
        End::Halted(halt) => return halted(case, *halt, said, console),
        End::Bye => {}
    }
    let mut judgement = finished(case, said);
    death::judge(&mut judgement, case, said, console, exit);
    blame::name(&mut judgement, case, console);
    judgement
}

/// Folds in what the monitor saw. Its bounds hold for a scheduler under test alone, so they are asked
/// only if there is one, and if the test sets any.
pub(super) fn monitor(
    judgement: &mut Judgement,
    case: &Case,
    checks: &Assert,
    report: Option<&MonitorReport>,
) {
    let Some(thresholds) = MonitorThresholds::from_assert(checks) else {
        return;
    };
    // Whatever brought the run to no answer made the samples say nothing either.
    if !case.has_scheduler || judgement.result.is_inconclusive() {
        return;
    }
    // Turned off by the user: nothing was promised.
    let Some(report) = report else { return };
    let mut result = thresholds.evaluate(report).into_result();
    if result.is_inconclusive() && judgement.guest.is_err() {
        // The run ended before there was much to see: that is told already.
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
                "seen from outside while `{}` drove the CPUs",
                case.scheduler
            );
            Some((Fault::Scheduler, why))
        }
        () if result.is_inconclusive() => {
            let why = report.unavailable.clone();
            let why = why.unwrap_or_else(|| format!("{} samples", report.samples.len()));
            Some((Fault::Harness, format!("data is missing: {why}")))
        }
        () => None,
    };
    judgement.result.merge(result);
    if let (None, Some((fault, why))) = (judgement.fault, blamed) {
        judgement.blame(fault, why);
    }
}

fn gave_up(
    case: &Case,
    reason: WatchdogKillReason,
    silence: &Silence,
    said: &Transcript,
) -> Judgement {
    let place = match said.phase {
        GuestLifecyclePhase::Boot => "while booting",
        GuestLifecyclePhase::Attach => "while the scheduler was to attach",
        GuestLifecyclePhase::Dispatch => "before the scenario began",
        GuestLifecyclePhase::Body => "in the middle of the scenario",
        GuestLifecyclePhase::Teardown => "after the scenario",
    };
    let what = match reason {
        WatchdogKillReason::Tier3Deadman => {
            return Judgement::inconclusive(
                Fault::Host,
                format!("host too slow: the guest got too little CPU to make progress {place}"),
            )
            .because(blame::of_slow_host(silence, said));
        }
        WatchdogKillReason::Tier2IdleWedge => "went idle for good",
        _ => "kept its CPUs busy without any progress",
    };
    let fault = if said.attached.is_some() && case.has_scheduler {
        Fault::Scheduler
    } else {
        Fault::Kernel
    };
    let finding = Finding::Hung {
        stage: place.to_owned(),
        doing: format!("it {what}"),
    };
    Judgement::fail(fault, finding).because(blame::of_hang(silence, said))
}

fn halted(case: &Case, halt: Halt, said: &Transcript, console: &str) -> Judgement {
    match (halt, panic_of(console)) {
        (Halt::AcceleratorFailed, _) => Judgement::inconclusive(
            Fault::Host,
            "the host's virtualisation stopped with an internal error".to_owned(),
        ),
        // QEMU's, not the kernel's: see `MachineSpec::parallel`.
        (_, Some(panic)) if case.parallel_tcg && console.contains("Oops: int3") => {
            Judgement::inconclusive(
                Fault::Harness,
                "the guest's kernel ran into a breakpoint that it had removed: QEMU's TCG, with a \
                 thread for each CPU, sometimes goes on with old code while a kernel patches its \
                 text; the virtual clock (KTSTR_CLOCK=virtual) and KVM do not"
                    .to_owned(),
            )
            .with_crash(panic)
            .because(blame::of_panic(console))
        }
        (_, Some(panic)) => {
            let fault = if said.attached.is_some() && case.has_scheduler {
                Fault::Scheduler
            } else {
                Fault::Kernel
            };
            let reason = panic.clone();
            Judgement::fail(fault, Finding::KernelPanic { reason })
                .with_crash(panic)
                .because(blame::of_panic(console))
        }
        (Halt::Reset, None) => went_down("reset itself without a panic message"),
        (Halt::PowerOff, None) => went_down("powered off before it was done"),
    }
}

fn went_down(how: &str) -> Judgement {
    let how = how.to_owned();
    Judgement::fail(Fault::Kernel, Finding::WentDown { how })
}

/// The reason of a kernel panic on the console.
fn panic_of(console: &str) -> Option<String> {
    let (_, rest) = console.rsplit_once("Kernel panic - not syncing: ")?;
    Some(rest.lines().next().unwrap_or_default().trim().to_owned())
}

fn finished(case: &Case, said: &Transcript) -> Judgement {
    if let Some(reason) = &said.not_attached {
        let refusal = refusal::of(&said.scheduler_log);
        let why = refusal.as_ref().map(ToString::to_string);
        let evidence = match &refusal {
            Some(_) => format!("{reason}; its whole log is in scheduler.log"),
            None => format!("the guest's kernel runs, and {reason}"),
        };
        let finding = Finding::NotAttached {
            scheduler: case.scheduler.to_owned(),
            why: why.unwrap_or_else(|| reason.clone()),
            log: last_words(&said.scheduler_log),
        };
        return Judgement::fail(Fault::Scheduler, finding).because(evidence);
    }
    if let Some(panic) = &said.panic {
        let message = panic.clone();
        return Judgement::fail(Fault::Test, Finding::TestPanicked { message })
            .with_crash(panic.clone());
    }
    if let Some(error) = &said.error {
        let message = error.clone();
        return Judgement::fail(Fault::Test, Finding::TestError { message });
    }
    match (&said.result, said.test_end) {
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

/// What a scheduler's log says last: where the verifier refused a program, its reason.
pub(super) fn last_words(log: &str) -> String {
    match refusal::of(log) {
        Some(refusal) => refusal.excerpt(),
        None => last_lines(log, LAST_WORDS),
    }
}

/// Lines of a scheduler's log that are part of a message.
const LAST_WORDS: usize = 8;

/// The last `count` lines of a text, indented.
pub(super) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..]
        .iter()
        .map(|line| format!("    {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
