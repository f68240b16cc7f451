//! The check behind `survives_storm`, by which a test requires that the scheduler outlives the test: if sched_ext ejects the
//! scheduler, the run fails, even if it would otherwise be inconclusive. Only an ejection that a busy host explains stays
//! inconclusive.

use ktstr_assert::{AssertDetail, DetailKind, Finding};

use super::Fault;
use super::verdict::Judgement;
use crate::entry::KtstrTestEntry;
use crate::vm_result::VmResult;

/// Fails a run of a test with `survives_storm` in which sched_ext ejected the scheduler. A run that has failed already, or whose
/// ejection a busy host explains, stays as it is.
pub(super) fn judge(judgement: &mut Judgement, entry: &KtstrTestEntry, vm: &VmResult) {
    let Some(exit) = vm.scx_exit.as_ref().filter(|_| entry.survives_storm) else {
        return;
    };
    let excused = |detail: &AssertDetail| {
        detail.host_explains && matches!(detail.finding, Finding::Ejected { .. })
    };
    if judgement.result.is_fail() || judgement.result.inconclusive_details().any(excused) {
        return;
    }
    let message = format!(
        "scheduler process died: sched_ext ejected the scheduler, which survives_storm does not allow: {} ({})",
        exit.msg, exit.kind_name
    );
    let detail = AssertDetail::new(DetailKind::SchedulerCrashed, message);
    judgement.result.record_fail(detail);
    judgement.blame(Fault::Scheduler, "sched_ext ejected it".to_owned());
}

#[cfg(test)]
mod tests {
    use ktstr_assert::{AssertResult, Ejection};
    use ktstr_snapshot::report::ScxExit;

    use super::*;

    #[test]
    fn an_ejection_fails_only_a_test_with_survives_storm() {
        let mut vm = VmResult::blank();
        let judged_of = |entry: &KtstrTestEntry, vm: &VmResult, result| {
            let mut judgement = Judgement::skip(String::new());
            judgement.result = result;
            judge(&mut judgement, entry, vm);
            judgement.result
        };
        let judged = |entry: &KtstrTestEntry, vm: &VmResult| {
            let slow = AssertResult::inconclusive_msg("the host was too slow");
            judged_of(entry, vm, slow)
        };
        let plain = KtstrTestEntry::DEFAULT;
        let storm = KtstrTestEntry {
            survives_storm: true,
            ..plain
        };
        assert!(judged(&storm, &vm).is_inconclusive());
        vm.scx_exit = Some(ScxExit {
            kind_name: "SCX_EXIT_ERROR_STALL".into(),
            msg: "spin[7] failed to run".into(),
            ..ScxExit::default()
        });
        assert!(judged(&plain, &vm).is_inconclusive());
        let mut ejected = AssertDetail::of(Finding::Ejected {
            scheduler: "ktstr".into(),
            reason: "spin[7] failed to run".into(),
            cause: Ejection::Stall {
                task: None,
                seconds: None,
            },
        });
        ejected.host_explains = true;
        let mut excused = AssertResult::pass();
        excused.record_inconclusive(ejected);
        assert!(judged_of(&storm, &vm, excused).is_inconclusive());
        let result = judged(&storm, &vm);
        let detail = result.failure_details().next().expect("a failure");
        assert!(detail.message.starts_with("scheduler process died"));
        assert!(
            detail
                .message
                .ends_with("spin[7] failed to run (SCX_EXIT_ERROR_STALL)")
        );
    }
}
