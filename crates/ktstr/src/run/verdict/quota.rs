//! Failures that a quota of CPU time (`cpu.max`) explains. The guest marks them. Such a failure stands nevertheless if the exact
//! schedule shows that the scheduler withheld CPU time to which a worker was entitled. Before Linux 6.18 the kernel takes
//! a throttled group off its queue as a whole and dequeues none of its tasks, so the exact schedule shows less of these times.

use ktstr_assert::{AssertDetail, Outcome, QuotaEffect};
use ktstr_schedule::Pid;
use ktstr_schedule::query::Answers;

use super::acquit::OWED_MS;
use super::schedule::Seen;
use super::{Case, Fault, Judgement, Logs, fault};

/// Turns the failures that a quota explains into notes, and makes those that it may explain inconclusive. If no failure is
/// left and some became inconclusive, the fault is undetermined. If nothing but notes is left, nobody is at fault.
pub(in crate::run) fn judge(
    judgement: &mut Judgement,
    case: &Case,
    seen: Option<&Seen>,
    logs: Logs<'_>,
) {
    let answers = seen.map(|seen| &seen.answers);
    let mut explained = Vec::new();
    let mut open = None;
    for outcome in std::mem::take(&mut judgement.result.outcomes) {
        let outcome = match outcome {
            // The real-time workers of a test leave no CPU time for others, whatever their quota.
            Outcome::Fail(detail)
                if !is_proven(&detail, answers)
                    && case
                        .hogs
                        .at(&judgement.result.measurements, &detail)
                        .is_none() =>
            {
                match detail.quota {
                    Some(QuotaEffect::Explains) => {
                        explained.push(detail.message);
                        continue;
                    }
                    Some(QuotaEffect::MayExplain) => {
                        open.get_or_insert_with(|| in_cgroup(&detail));
                        Outcome::Inconclusive(detail)
                    }
                    None => Outcome::Fail(detail),
                }
            }
            other => other,
        };
        judgement.result.outcomes.push(outcome);
    }
    if explained.is_empty() && open.is_none() {
        return;
    }
    for message in explained {
        judgement.result.note(format!(
            "{message}: the cgroup or one above it was out of quota (cpu.max), and with this quota a worker may have to wait \
             that long for its turn"
        ));
    }
    if judgement.result.is_fail() || open.is_none() && judgement.result.is_inconclusive() {
        fault::attribute_again(judgement, case, logs);
    } else if let Some(place) = open {
        let more = match case.virtual_clock {
            true => "",
            false => "; the virtual clock (KTSTR_CLOCK=virtual) shows more",
        };
        let why = format!(
            "a quota (cpu.max) limits {place} or one above it, and nothing shows whether the quota kept its workers from \
             running{more}"
        );
        judgement.blame(Fault::Undetermined, why);
    } else {
        judgement.blame_nobody();
    }
}

fn in_cgroup(detail: &AssertDetail) -> String {
    let cgroup = detail.cgroup.as_deref();
    cgroup.map_or_else(|| "a cgroup".to_owned(), |name| format!("cgroup {name}"))
}

/// Returns whether the exact schedule proves the failure: in one of its waits, the worker was owed at least [`OWED_MS`], apart
/// from the time in which a quota limited it. A failure about several workers is never proven in this way: the schedule has
/// findings of its own about the shares and wake-ups of a cgroup, which no quota explains.
fn is_proven(detail: &AssertDetail, answers: Option<&Answers>) -> bool {
    let (Some(answers), Some(tid)) = (answers, detail.finding.tid()) else {
        return false;
    };
    let task = Pid(tid.cast_unsigned());
    let mut waits = answers.waits.iter().filter(|wait| wait.task == task);
    waits.any(|wait| wait.owed_ns as f64 / 1e6 >= OWED_MS)
}

#[cfg(test)]
mod tests {
    use ktstr_assert::{AssertResult, Finding};
    use ktstr_schedule::query::{Wait, WaitCause};
    use ktstr_schedule::{Class, Cpu, Tables};

    use super::super::tests::{CASE, NO_LOGS};
    use super::*;

    fn judged(quota: Option<QuotaEffect>, others: &[Outcome], seen: Option<&Seen>) -> Judgement {
        let mut detail = AssertDetail::of(Finding::Gap {
            tid: 7,
            gap_ms: 2500,
            cpu: 0,
            at_ms: 4000,
            bound_ms: 2000,
        });
        detail.quota = quota;
        detail.cgroup = Some("limited".into());
        let mut result = AssertResult::fail(detail);
        result.outcomes.extend_from_slice(others);
        let mut judgement = Judgement {
            guest: Ok(result.clone()),
            result,
            fault: Some(Fault::Scheduler),
            evidence: None,
            crash: None,
        };
        judge(&mut judgement, &CASE, seen, NO_LOGS);
        judgement
    }

    #[test]
    fn a_gap_that_a_quota_explains_is_nobodys_fault() {
        let explained = judged(Some(QuotaEffect::Explains), &[], None);
        assert!(explained.result.is_pass() && explained.fault.is_none());
        let note = explained.result.info_notes[0].to_string();
        assert!(note.contains("was out of quota"), "{note}");
        let open = judged(Some(QuotaEffect::MayExplain), &[], None);
        assert!(open.result.is_inconclusive());
        assert_eq!(open.fault, Some(Fault::Undetermined));
        let why = open.evidence.expect("evidence");
        assert!(why.starts_with("a quota (cpu.max) limits cgroup limited or one above it"));
        // The run was under the virtual clock, so there is no reason to advise it.
        assert!(!why.contains("KTSTR_CLOCK"), "{why}");
        let other = judged(None, &[], None);
        assert!(other.result.is_fail() && other.fault == Some(Fault::Scheduler));
    }

    #[test]
    fn missing_data_that_is_left_is_not_the_schedulers_fault() {
        let missing = Outcome::Inconclusive(AssertDetail::of(Finding::NotMeasured {
            kind: ktstr_assert::DetailKind::Benchmark,
            what: "the wake latency".to_owned(),
            why: String::new(),
        }));
        let judgement = judged(Some(QuotaEffect::Explains), &[missing], None);
        assert!(judgement.result.is_inconclusive(), "{judgement:?}");
        assert_eq!(judgement.fault, Some(Fault::Harness));
    }

    #[test]
    fn what_the_test_cannot_decide_is_not_the_schedulers_fault() {
        let own = Outcome::Inconclusive(AssertDetail::from("the sample was too small"));
        let judgement = judged(Some(QuotaEffect::Explains), &[own], None);
        assert!(judgement.result.is_inconclusive(), "{judgement:?}");
        assert_eq!(judgement.fault, Some(Fault::Test), "{judgement:?}");
    }

    #[test]
    fn what_no_quota_explains_decides_the_fault() {
        let own = Outcome::Fail(AssertDetail::from("the test says no"));
        for effect in [QuotaEffect::Explains, QuotaEffect::MayExplain] {
            let judgement = judged(Some(effect), std::slice::from_ref(&own), None);
            assert!(judgement.result.is_fail(), "{judgement:?}");
            assert_eq!(judgement.fault, Some(Fault::Test), "{judgement:?}");
        }
    }

    #[test]
    fn the_schedule_proves_what_a_quota_does_not_explain() {
        let seen = |owed_ms: u64| Seen {
            answers: Answers {
                waits: vec![Wait {
                    phase: Some(1),
                    task: Pid(7),
                    class: Class::Ext,
                    cgroup: None,
                    cpu: Cpu(0),
                    cause: WaitCause::Preempted,
                    from_ns: 0,
                    to_ns: 2_500_000_000,
                    owed_ns: owed_ms * 1_000_000,
                    judged_ns: 1_000_000_000,
                    served: true,
                }],
                ..Answers::default()
            },
            tables: Tables::default(),
        };
        for effect in [QuotaEffect::Explains, QuotaEffect::MayExplain] {
            let proven = judged(Some(effect), &[], Some(&seen(50)));
            assert!(proven.result.is_fail() && proven.fault == Some(Fault::Scheduler));
            assert!(!judged(Some(effect), &[], Some(&seen(49))).result.is_fail());
        }
    }
}
