//! The repeat of a run that failed (`auto_repro`): the same seed once more, with captures at the times of the findings.
//!
//! Under the virtual clock the repeat is the same run, as its digest shows. So one repeat is enough, and its captures show the
//! run that failed. Under the real clock a run is repeated until the failure comes back, a few times at most. Whatever a repeat
//! does, the verdict and the record of the first run do not change: the record is on disk before the repeat starts.

mod evidence;
mod place;
mod text;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use ktstr_record::compare::Run;
use ktstr_record::terminal::{eprint_line, escaped};
use ktstr_record::{RepeatRecord, Repeated, RunVerdict};
use ktstr_state::env::{self, AUTO_REPRO};

pub(super) use evidence::Evidence;
pub use place::{place, queue_name};

use super::{Fault, Finished, RunError, once, report};
use crate::entry::KtstrTestEntry;

/// How often a run under the real clock is repeated at most, unless `KTSTR_AUTO_REPRO` is set.
const USUAL_TRIES: u32 = 3;
/// The largest number of captures at requested times in a run. It is limited because each capture stops the machine.
pub(super) const MOST_CAPTURES: usize = 16;

/// What is done in a run in addition to what every run does. The default is nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Observe {
    /// The times of captures under the virtual clock, in ascending order, in nanoseconds of the kernel's scheduler clock.
    pub(super) clock_ns: Vec<u64>,
    /// The times of captures under the real clock, in ascending order, counted from the start of the workload window.
    pub(super) window: Vec<Duration>,
    /// The run that this one repeats; `None` for a first run.
    pub(super) repeats: Option<Box<Run>>,
}

/// Returns how often a failed run is repeated at most under the real clock; 0 turns all repeats off.
///
/// # Errors
/// Returns an error if `KTSTR_AUTO_REPRO` is not a number from 0 to 100.
pub(super) fn tries() -> Result<u32, RunError> {
    Ok(AUTO_REPRO.get()?.unwrap_or(USUAL_TRIES))
}

/// Returns whether a failure of this test is repeated: the test has a BPF scheduler, does not turn repeats off, and does not
/// expect an error. A run with captures at times that the user requested is not repeated, because the user already repeats a
/// run.
fn is_wanted(entry: &KtstrTestEntry) -> bool {
    entry.auto_repro
        && entry.scheduler.binary.has_bpf_scheduler()
        && !entry.expect_err
        && !env::CAPTURE_AT.is_set()
}

/// Runs one test to its end. If the test has a BPF scheduler, and failed by the fault of the scheduler or of the guest's
/// kernel, repeats the run. The declaration (`auto_repro`) or `KTSTR_AUTO_REPRO` turns that off, and so do `expect_err` and
/// `KTSTR_CAPTURE_AT`. Returns the first run, with what the repeats showed.
pub fn run_and_repeat(declared: &'static KtstrTestEntry) -> Finished {
    let mut first = super::run(declared);
    let is_for_repeat = first.verdict == RunVerdict::Fail
        && matches!(first.fault, Some(Fault::Scheduler | Fault::Kernel))
        && is_wanted(first.entry);
    let tries = tries().unwrap_or(0);
    if !is_for_repeat || tries == 0 || first.vm.is_none() {
        return first;
    }
    // A panic during the repeat must not change the outcome of the first run.
    let repeated = catch_unwind(AssertUnwindSafe(|| repeat(&first, tries)));
    let section = repeated.unwrap_or_else(|panic| {
        format!(
            "the repeat ended in a panic, which says nothing about the run: {}",
            super::panic_text(&*panic)
        )
    });
    first.repeat = Some(section);
    first.text = escaped(&report::text(&first)).into_owned();
    first
}

/// Repeats a failed run, and returns what the repeats showed, or why the run was not repeated, as lines.
fn repeat(first: &Finished, tries: u32) -> String {
    let Some(record) = &first.record else {
        return "the run left no record to compare a repeat with, so it was not repeated"
            .to_owned();
    };
    let recorded = match Run::read(record) {
        Ok(run) => run,
        Err(error) => return format!("the run was not repeated: {error}"),
    };
    let mut observe = Observe::default();
    let is_virtual = first.vm.as_ref().is_some_and(|vm| vm.mips.is_some());
    match is_virtual {
        true => observe.clock_ns = first.evidence_of_schedule.times(MOST_CAPTURES),
        false => observe.window = text::window_times(&recorded.record, MOST_CAPTURES),
    }
    observe.repeats = Some(Box::new(recorded));
    eprint_line(&format!(
        "ktstr: {} failed, see {}; it is run again now, with captures at the times of its findings ({AUTO_REPRO}=0 turns that off)",
        first.entry.name,
        record.display()
    ));
    let mut section = text::label(first);
    if is_virtual {
        let again = once(first.entry, &observe);
        section.push_str(&text::of_virtual(first, &again));
        return section;
    }
    let tried = try_until_it_fails(
        tries,
        || once(first.entry, &observe),
        |run| run.repeats.as_ref().map(|repeat| repeat.outcome),
    );
    section.push_str(&text::of_real(&tried, tries));
    section
}

/// Calls `run` until a run fails as the first one did, `tries` times at most, and returns all runs.
fn try_until_it_fails<T>(
    tries: u32,
    mut run: impl FnMut() -> T,
    outcome: impl Fn(&T) -> Option<Repeated>,
) -> Vec<T> {
    let mut tried = Vec::new();
    for _ in 0..tries {
        let next = run();
        let is_back = outcome(&next) == Some(Repeated::FailedAgain);
        tried.push(next);
        if is_back {
            break;
        }
    }
    tried
}

/// Compares the repeat `again` with the run `first`. Under the virtual clock the result is whether both are the same run.
/// Under the real clock the failure is back if the repeat fails the check of the first run's most significant finding.
pub(super) fn compared(first: &Run, again: &Run) -> RepeatRecord {
    let run = first.record.run_id.clone();
    if first.record.clock == Some(ktstr_record::Clock::Virtual) {
        let comparison = ktstr_record::compare::repeated(first, again);
        return RepeatRecord {
            run,
            outcome: Repeated::of(&comparison),
            text: comparison.to_string(),
        };
    }
    let check = first.record.findings.first().map(|finding| &finding.check);
    let is_back = again.record.verdict == RunVerdict::Fail
        && again
            .record
            .findings
            .iter()
            .any(|finding| finding.outcome == "fail" && Some(&finding.check) == check);
    RepeatRecord {
        run,
        outcome: match is_back {
            true => Repeated::FailedAgain,
            false => Repeated::DidNotFailAgain,
        },
        text: format!(
            "{}{}",
            again.record.verdict.as_str(),
            again
                .record
                .reason
                .as_ref()
                .map_or_else(String::new, |reason| format!(": {reason}"))
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_in_real_time_is_repeated_until_the_failure_is_back() {
        use Repeated::{DidNotFailAgain, FailedAgain};
        let of = |outcomes: &[Repeated], tries| {
            let mut next = outcomes.iter().copied();
            let run = || next.next().unwrap_or(DidNotFailAgain);
            try_until_it_fails(tries, run, |outcome| Some(*outcome))
        };
        assert_eq!(of(&[FailedAgain], 3), [FailedAgain]);
        assert_eq!(
            of(&[DidNotFailAgain, FailedAgain], 3),
            [DidNotFailAgain, FailedAgain]
        );
        assert_eq!(of(&[], 3), [DidNotFailAgain; 3]);
        assert_eq!(of(&[FailedAgain], 0), []);
    }

    #[test]
    fn a_failure_of_another_check_is_not_the_failure() {
        let run = |check: &str, verdict| {
            let mut record = ktstr_record::RunRecord::new("t");
            record.clock = Some(ktstr_record::Clock::Real);
            record.verdict = verdict;
            record.reason = Some("why".to_owned());
            record.findings.push(ktstr_record::FindingRecord {
                outcome: "fail".to_owned(),
                check: check.to_owned(),
                ..Default::default()
            });
            Run {
                record,
                switches: None,
            }
        };
        let first = run("gap", RunVerdict::Fail);
        let outcome = |again: &Run| compared(&first, again).outcome;
        assert_eq!(outcome(&first), Repeated::FailedAgain);
        assert_eq!(
            outcome(&run("starvation", RunVerdict::Fail)),
            Repeated::DidNotFailAgain
        );
        let excused = run("gap", RunVerdict::Inconclusive);
        let repeat = compared(&first, &excused);
        assert_eq!(repeat.outcome, Repeated::DidNotFailAgain);
        assert_eq!(repeat.text, "inconclusive: why");
    }
}
