//! The result of a run, and whose fault it is that the run did not pass.

use ktstr_assert::{AssertDetail, AssertResult, Finding};
use ktstr_scenario::scheduler::{Promises, SchedulerSpec};

use super::Hogs;

/// The party that is at fault for a run that did not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The scheduler under test.
    Scheduler,
    /// The test function or its workload.
    Test,
    /// The user: nothing can be run, because the declaration, the kernel, the scheduler, a file for the guest or an
    /// environment variable cannot be used. A comparison with a baseline that lacks a value is the user's fault as well.
    User,
    /// The guest's kernel: it panicked, and no process is known to have caused that; or its own scheduler broke a
    /// bound while no scheduler was under test.
    Kernel,
    /// ktstr itself, on the host or in the guest.
    Harness,
    /// The host: it is too slow or too busy, lacks some resource, or its virtualization failed.
    Host,
    /// The evidence does not show whose fault it is. A finding with this fault is inconclusive, and so is the run unless it
    /// has other findings that are failures.
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

/// The result of a run, as far as it has been judged. Each check on the host adds its findings, and may attribute them.
#[derive(Debug, Clone)]
pub(crate) struct Judgement {
    /// The result that the test reported from the guest, or the reason why there is none.
    pub(crate) guest: Result<AssertResult, String>,
    /// The result with the findings of the checks that have been made.
    pub(crate) result: AssertResult,
    /// Whose fault it is that the run did not pass; `None` for a pass, for a skip, and before the fault is attributed.
    pub(crate) fault: Option<Fault>,
    /// The evidence for that fault, in one line.
    pub(crate) evidence: Option<String>,
    /// The message of a panic in the kernel or in the test function.
    pub(crate) crash: Option<String>,
}

impl Judgement {
    /// Creates a skip, for a test that is not run on this host, in performance mode, or on the requested topology. `why`
    /// is the reason.
    pub(crate) fn skip(why: String) -> Self {
        Self {
            guest: Err(why.clone()),
            result: AssertResult::skip(why),
            fault: None,
            evidence: None,
            crash: None,
        }
    }

    /// Creates a failure with this finding, and without evidence.
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

    /// Creates an inconclusive result for a reason that is only a text. [`Self::unanswered`] takes a finding with data.
    pub(super) fn inconclusive(fault: Fault, message: String) -> Self {
        Self::unanswered(fault, Finding::NoAnswer { message })
    }

    /// Creates an inconclusive result with this finding, which keeps its data in the record.
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

    /// Sets the fault and the evidence for it, and replaces any earlier ones.
    pub(in crate::run) fn blame(&mut self, fault: Fault, evidence: String) {
        self.fault = Some(fault);
        self.evidence = Some(evidence);
    }

    /// Removes the fault and its evidence, because no failure is left.
    pub(in crate::run) fn blame_nobody(&mut self) {
        (self.fault, self.evidence) = (None, None);
    }

    /// Returns whether the run is inconclusive only because the test reports that it cannot decide something itself, because
    /// checks of workers had no data, for example because a worker was starved, or because it is undetermined why pages are on
    /// the wrong nodes or who killed a worker. Other checks may still prove what happened to the workers.
    pub(super) fn lacks_only_data(&self) -> bool {
        let of_data = |finding: &Finding| {
            matches!(
                finding,
                Finding::Text
                    | Finding::NotMeasured { .. }
                    | Finding::NothingToMeasure { .. }
                    | Finding::WorkerKilled { .. }
            )
        };
        let unmeasured = |d: &AssertDetail| d.is_about_pages() || of_data(&d.finding);
        self.guest.is_ok()
            && self.result.is_inconclusive()
            && self.result.inconclusive_details().all(unmeasured)
    }

    /// Returns whether later findings decide whose fault it is: no fault has been attributed yet, or only programs of the
    /// test have failed, which may be a consequence of what a later check finds, or only data is missing.
    pub(super) fn is_open(&self) -> bool {
        let of_payload = |d: &AssertDetail| matches!(d.finding, Finding::PayloadFailed { .. });
        let payloads_alone = self.result.is_fail() && self.result.failure_details().all(of_payload);
        self.fault.is_none() || self.guest.is_ok() && payloads_alone || self.lacks_only_data()
    }

    /// Sets the evidence for the fault. An empty text removes the evidence, so that a later check can add it.
    pub(super) fn because(mut self, evidence: String) -> Self {
        self.evidence = Some(evidence).filter(|evidence| !evidence.is_empty());
        self
    }

    /// Sets the message of a panic in the kernel or in the test function.
    pub(super) fn with_crash(mut self, crash: String) -> Self {
        self.crash = Some(crash);
        self
    }
}

/// The texts that the guest has left.
#[derive(Debug, Clone, Copy)]
pub(in crate::run) struct Logs<'a> {
    /// The kernel's log.
    pub(in crate::run) console: &'a str,
    /// The output of the scheduler under test.
    pub(in crate::run) scheduler: &'a str,
}

/// The kind of the scheduler under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::run) enum UnderTest {
    /// No scheduler is under test, so the kernel's default one decides.
    Nothing,
    /// A scheduler inside the kernel, which commands enable. Its tasks are not in the class of sched_ext.
    Builtin,
    /// A BPF scheduler, which runs tasks in the class of sched_ext, and is told of weights by callbacks.
    Bpf,
}

impl From<&SchedulerSpec> for UnderTest {
    fn from(spec: &SchedulerSpec) -> Self {
        match (spec.has_active_scheduling(), spec.has_bpf_scheduler()) {
            (false, _) => Self::Nothing,
            (true, false) => Self::Builtin,
            (true, true) => Self::Bpf,
        }
    }
}

/// The facts about the test that the verdict needs.
pub(in crate::run) struct Case<'a> {
    /// The name of the scheduler in messages. Without a scheduler under test, the name of the kernel's own one.
    pub(in crate::run) scheduler: &'a str,
    pub(in crate::run) under_test: UnderTest,
    /// Whether the test has stopped or started schedulers itself. Its findings then do not show which scheduler drove
    /// the CPUs at the time.
    pub(in crate::run) changed: bool,
    pub(in crate::run) promises: Promises,
    /// Whether the host has seen that the scheduler implements the callback by which the kernel tells it of `cpu.idle`.
    pub(in crate::run) told_of_idle: bool,
    pub(in crate::run) topology: &'a str,
    pub(in crate::run) memory_mib: u32,
    /// Whether guest time is virtual: a scheduler's own watchdog then counts virtual seconds.
    pub(in crate::run) virtual_clock: bool,
    /// Whether several host threads translated and executed the guest's CPUs in parallel.
    pub(in crate::run) parallel_tcg: bool,
    /// What shows which real-time tasks of the test took the CPUs.
    pub(in crate::run) hogs: Hogs<'a>,
}

impl Case<'_> {
    /// Returns whether a scheduler is under test, which then decides about the tasks instead of the kernel's default one.
    pub(in crate::run) fn has_scheduler(&self) -> bool {
        self.under_test != UnderTest::Nothing
    }

    pub(in crate::run) fn has_bpf_scheduler(&self) -> bool {
        self.under_test == UnderTest::Bpf
    }
}
