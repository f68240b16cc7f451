//! What a run amounts to, and whose fault it is when it did not pass.

use ktstr_assert::{AssertDetail, AssertResult, Finding};
use ktstr_scenario::scheduler::Promises;

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
    /// The fault is ktstr's own, or its guest side's.
    Harness,
    /// The host: too slow, out of something.
    Host,
    /// The evidence does not say: such a run is inconclusive.
    Undetermined,
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
            Self::Undetermined => "undetermined",
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
            Self::Undetermined => "undetermined",
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
    /// A run that does not apply here.
    pub(crate) fn skip(why: String) -> Self {
        Self {
            guest: Err(why.clone()),
            result: AssertResult::skip(why),
            fault: None,
            evidence: None,
            crash: None,
        }
    }

    /// A run that failed by this finding.
    pub(super) fn fail(fault: Fault, finding: Finding) -> Self {
        let detail = AssertDetail::of(finding);
        Self {
            guest: Err(detail.message.clone()),
            result: AssertResult::fail(detail),
            fault: Some(fault),
            evidence: None,
            crash: None,
        }
    }

    /// A run that came to no answer for this reason.
    pub(super) fn inconclusive(fault: Fault, message: String) -> Self {
        Self::unanswered(fault, Finding::NoAnswer { message })
    }

    /// A run that came to no answer by this finding.
    pub(super) fn unanswered(fault: Fault, finding: Finding) -> Self {
        let detail = AssertDetail::of(finding);
        Self {
            guest: Err(detail.message.clone()),
            result: AssertResult::inconclusive(detail),
            fault: Some(fault),
            evidence: None,
            crash: None,
        }
    }

    /// Names whose fault it is, with what speaks for it.
    pub(in crate::run) fn blame(&mut self, fault: Fault, evidence: String) {
        self.fault = Some(fault);
        self.evidence = Some(evidence);
    }

    /// Whether what is found from now on decides whose fault it is: nothing has so far but how programs of the test's ended,
    /// and that may follow from what is found.
    pub(super) fn is_open(&self) -> bool {
        let of_payload = |d: &AssertDetail| matches!(d.finding, Finding::PayloadFailed { .. });
        let payloads_alone = self.result.is_fail() && self.result.failure_details().all(of_payload);
        self.fault.is_none() || self.guest.is_ok() && payloads_alone
    }

    /// With what speaks for the fault, if there is anything.
    pub(super) fn because(mut self, evidence: String) -> Self {
        self.evidence = Some(evidence).filter(|evidence| !evidence.is_empty());
        self
    }

    /// With the panic of kernel or test function.
    pub(super) fn with_crash(mut self, crash: String) -> Self {
        self.crash = Some(crash);
        self
    }
}

/// What is told of the test, for messages.
pub(in crate::run) struct Case<'a> {
    pub(in crate::run) scheduler: &'a str,
    pub(in crate::run) has_scheduler: bool,
    /// The test has stopped or started schedulers itself.
    pub(in crate::run) changed: bool,
    pub(in crate::run) promises: Promises,
    pub(in crate::run) topology: &'a str,
    pub(in crate::run) memory_mib: u32,
    /// Guest time is counted, not measured: a scheduler's own watchdog counts other seconds.
    pub(in crate::run) virtual_clock: bool,
    /// CPUs translated and executed by several host threads at once.
    pub(in crate::run) parallel_tcg: bool,
}
