//! The result of a run, and whose fault it is that the run did not pass.

use ktstr_assert::{AssertDetail, AssertResult, Finding};
use ktstr_scenario::scheduler::Promises;

/// The party that is at fault for a run that did not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The scheduler under test.
    Scheduler,
    /// The test function or its workload.
    Test,
    /// The user asked for a kernel, a scheduler or a value of a variable that cannot be used.
    User,
    /// The guest's kernel, or whatever made it hang or panic.
    Kernel,
    /// ktstr itself, on the host or in the guest.
    Harness,
    /// The host: it is too slow, or lacks some resource.
    Host,
    /// The evidence does not show whose fault it is. Such a run is inconclusive.
    Undetermined,
}

impl Fault {
    /// Returns the name of the fault in the record.
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

/// The result of a run, before the host's own checks.
#[derive(Debug, Clone)]
pub(crate) struct Judgement {
    /// The guest's own verdict, or the reason why there is none.
    pub(crate) guest: Result<AssertResult, String>,
    /// The result so far.
    pub(crate) result: AssertResult,
    /// Whose fault it is that the run did not pass; `None` for a pass.
    pub(crate) fault: Option<Fault>,
    /// The evidence for that fault, in one line.
    pub(crate) evidence: Option<String>,
    /// The message of a panic in the kernel or in the test function.
    pub(crate) crash: Option<String>,
}

impl Judgement {
    /// Creates the result of a run that does not apply on this host.
    pub(crate) fn skip(why: String) -> Self {
        Self {
            guest: Err(why.clone()),
            result: AssertResult::skip(why),
            fault: None,
            evidence: None,
            crash: None,
        }
    }

    /// Creates a failure with this finding.
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

    /// Creates an inconclusive result with this reason.
    pub(super) fn inconclusive(fault: Fault, message: String) -> Self {
        Self::unanswered(fault, Finding::NoAnswer { message })
    }

    /// Creates an inconclusive result with this finding.
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

    /// Sets whose fault it is, and the evidence for it.
    pub(in crate::run) fn blame(&mut self, fault: Fault, evidence: String) {
        self.fault = Some(fault);
        self.evidence = Some(evidence);
    }

    /// Whether later findings decide whose fault the run is: no fault has been found yet, or only programs of the test
    /// have failed, which may be a consequence of what is found later.
    pub(super) fn is_open(&self) -> bool {
        let of_payload = |d: &AssertDetail| matches!(d.finding, Finding::PayloadFailed { .. });
        let payloads_alone = self.result.is_fail() && self.result.failure_details().all(of_payload);
        self.fault.is_none() || self.guest.is_ok() && payloads_alone
    }

    /// Adds the evidence for the fault, unless it is empty.
    pub(super) fn because(mut self, evidence: String) -> Self {
        self.evidence = Some(evidence).filter(|evidence| !evidence.is_empty());
        self
    }

    /// Adds the message of a panic in the kernel or in the test function.
    pub(super) fn with_crash(mut self, crash: String) -> Self {
        self.crash = Some(crash);
        self
    }
}

/// The facts about the test that the verdict needs.
pub(in crate::run) struct Case<'a> {
    pub(in crate::run) scheduler: &'a str,
    pub(in crate::run) has_scheduler: bool,
    /// Whether the test has stopped or started schedulers itself.
    pub(in crate::run) changed: bool,
    pub(in crate::run) promises: Promises,
    pub(in crate::run) topology: &'a str,
    pub(in crate::run) memory_mib: u32,
    /// Whether guest time is virtual: a scheduler's own watchdog then counts virtual seconds.
    pub(in crate::run) virtual_clock: bool,
    /// Whether several host threads translated and executed the guest's CPUs in parallel.
    pub(in crate::run) parallel_tcg: bool,
}
