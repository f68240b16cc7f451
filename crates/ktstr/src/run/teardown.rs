//! `cleanup_budget_ms`: how long the guest may take to shut down once the scenario is over.

use std::time::Duration;

use ktstr_assert::{AssertDetail, DetailKind};

use super::guest_state::GuestState;
use super::verdict::{Fault, Judgement};
use crate::entry::KtstrTestEntry;

/// How long the guest took to shut down: in guest time under the virtual clock, otherwise in the machine's running time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Teardown {
    /// From the end of the scenario or, without a scenario, of the test function to the end of the test process.
    of_test: Duration,
    /// From the end of the test process to the guest's last message, before which PID 1 stops the scheduler.
    of_scheduler: Duration,
}

impl Teardown {
    /// Returns the teardown of a guest that sent its last message, after the test process had ended; `None` for any other.
    pub(super) fn of(guest: &GuestState) -> Option<Self> {
        if !guest.bye {
            return None;
        }
        let (over, ended) = (guest.over?, guest.ended?);
        Some(Self {
            of_test: ended.saturating_sub(over),
            of_scheduler: guest.at.saturating_sub(ended),
        })
    }

    /// Returns the time of the whole teardown.
    pub(super) fn whole(self) -> Duration {
        self.of_test + self.of_scheduler
    }
}

/// Fails a test whose guest took longer to shut down than the test's budget, even after `delay` is subtracted. `delay` is
/// the time for which the host kept a vCPU from running meanwhile; it is `None` under the virtual clock, where the host has
/// no influence, and if it was not measured.
pub(super) fn judge(
    judgement: &mut Judgement,
    entry: &KtstrTestEntry,
    teardown: Option<Teardown>,
    delay: Option<Duration>,
) {
    let (Some(budget), Some(teardown)) = (entry.cleanup_budget, teardown) else {
        return;
    };
    let took = teardown.whole();
    if took <= budget {
        return;
    }
    let message = format!(
        "the guest took {} ms to end after its scenario, cleanup_budget_ms allows {}",
        took.as_millis(),
        budget.as_millis()
    );
    if let Some(delay) = delay.filter(|delay| took.saturating_sub(*delay) <= budget) {
        judgement.result.note(format!(
            "{message}; the run does not fail for it, because the host let a vCPU wait for {} ms of that",
            delay.as_millis()
        ));
        return;
    }
    judgement
        .result
        .record_fail(AssertDetail::new(DetailKind::Other, message));
    if judgement.fault.is_none() {
        let has_scheduler = entry.scheduler.binary.has_active_scheduling();
        let fault = if teardown.of_scheduler > teardown.of_test && has_scheduler {
            Fault::Scheduler
        } else {
            Fault::Test
        };
        judgement.blame(
            fault,
            format!(
                "{} ms until the test process ended, then {} ms until the scheduler was stopped",
                teardown.of_test.as_millis(),
                teardown.of_scheduler.as_millis()
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use ktstr_assert::AssertResult;
    use ktstr_guest::protocol::{ProcessEnd, ToHost};
    use ktstr_scenario::scheduler::{Scheduler, SchedulerSpec};

    use super::*;

    const SCHEDULER: Scheduler = Scheduler::named("s").binary(SchedulerSpec::Discover("s"));
    const ENTRY: KtstrTestEntry = KtstrTestEntry {
        name: "slow",
        scheduler: &SCHEDULER,
        cleanup_budget: Some(Duration::from_millis(100)),
        ..KtstrTestEntry::DEFAULT
    };

    /// Judges a guest whose scenario ends at 1 s, whose test process ends `of_test` ms later, and which itself ends
    /// `of_scheduler` ms after that.
    /// The host delays it by `delay` ms.
    fn judged(of_test: u64, of_scheduler: u64, delay: Option<u64>) -> Judgement {
        let mut guest = GuestState::default();
        let mut at = Duration::from_secs(1);
        let end = ToHost::ScenarioEnd {
            elapsed_ms: 1000,
            total_iterations: 1,
        };
        guest.take(end, at);
        at += Duration::from_millis(of_test);
        let ended = ToHost::TestEnded {
            end: ProcessEnd::Exited(0),
            oom_killed: false,
        };
        guest.take(ended, at);
        at += Duration::from_millis(of_scheduler);
        guest.take(ToHost::Bye, at);
        let mut judgement = Judgement {
            guest: Ok(AssertResult::pass()),
            result: AssertResult::pass(),
            fault: None,
            evidence: None,
            crash: None,
        };
        let delay = delay.map(Duration::from_millis);
        judge(&mut judgement, &ENTRY, Teardown::of(&guest), delay);
        judgement
    }

    #[test]
    fn a_teardown_within_the_budget_is_a_pass() {
        assert!(judged(60, 40, None).result.is_pass());
    }

    #[test]
    fn a_teardown_beyond_the_budget_fails_and_is_attributed() {
        let of_test = judged(90, 20, None);
        assert!(of_test.result.is_fail());
        assert_eq!(of_test.fault, Some(Fault::Test));
        let of_scheduler = judged(10, 95, Some(4));
        assert_eq!(of_scheduler.fault, Some(Fault::Scheduler));
        let text: Vec<_> = of_scheduler.result.failure_details().collect();
        assert_eq!(
            text[0].message,
            "the guest took 105 ms to end after its scenario, cleanup_budget_ms allows 100"
        );
        assert_eq!(
            of_scheduler.evidence.as_deref(),
            Some("10 ms until the test process ended, then 95 ms until the scheduler was stopped")
        );
    }

    #[test]
    fn a_host_that_delayed_the_guest_is_no_failure_of_the_test() {
        assert!(judged(500, 500, Some(899)).result.is_fail());
        let judgement = judged(500, 500, Some(900));
        assert!(judgement.result.is_pass());
        assert!(
            judgement.result.info_notes[0]
                .message
                .contains("let a vCPU wait for 900 ms")
        );
    }

    #[test]
    fn a_guest_that_never_ended_has_no_teardown() {
        assert_eq!(Teardown::of(&GuestState::default()), None);
    }
}
