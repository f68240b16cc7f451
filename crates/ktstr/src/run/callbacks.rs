//! The test's own callbacks on the host, which are called after the machine has ended.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ktstr_assert::{AssertDetail, AssertResult, DetailKind};

use super::verdict::{Fault, Judgement};
use super::{panic_text, report};
use crate::entry::KtstrTestEntry;
use crate::vm_result::VmResult;

/// Calls the test's own callbacks: `post_vm` only if the guest's result is not a failure, whatever the host's checks found, and
/// `post_vm_unconditional` always. `expect_err` does not invert what the callbacks report. A callback can turn the run into
/// a skip ([`post_vm_skip`](crate::gates::post_vm_skip)). A test without a `post_vm` does not check its periodic captures,
/// so its run becomes inconclusive if it has not failed and none of them holds data.
pub(super) fn call(entry: &KtstrTestEntry, vm: &VmResult, judgement: &mut Judgement) {
    let failed = judgement.result.is_fail() || judgement.result.is_inconclusive();
    let guest_failed = !matches!(&vm.guest_result, Ok(result) if !result.is_fail());
    let mut calls = Vec::new();
    match entry.post_vm {
        Some(call) if !guest_failed => calls.push(call),
        None if !failed && vm.periodic_target > 0 && vm.periodic_real == 0 => {
            judgement.result.record_inconclusive(AssertDetail::new(
                DetailKind::Other,
                format!(
                    "none of the {} captures asked for holds data: {}",
                    vm.periodic_target,
                    report::placeholder_reason(vm)
                ),
            ));
            if judgement.fault.is_none() {
                let why = report::placeholder_reason(vm);
                judgement.blame(Fault::Harness, format!("data is missing: {why}"));
            }
        }
        _ => {}
    }
    calls.extend(entry.post_vm_unconditional);
    for call in calls {
        let problem = match catch_unwind(AssertUnwindSafe(|| call(vm))) {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => match error.downcast_ref::<crate::gates::PostVmSkip>() {
                Some(skip) => {
                    judgement.result = AssertResult::skip(skip.reason());
                    judgement.blame_nobody();
                    continue;
                }
                None => format!("post_vm callback returned Err: {error:#}"),
            },
            Err(panic) => format!("post_vm callback panicked: {}", panic_text(&*panic)),
        };
        judgement
            .result
            .record_fail(AssertDetail::new(DetailKind::Other, problem));
        if judgement.fault.is_none() {
            let passed = "nothing else failed in the run".to_owned();
            judgement.blame(Fault::Test, passed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails with a text that shows that it was called.
    fn called(_: &VmResult) -> anyhow::Result<()> {
        anyhow::bail!("post_vm was called")
    }

    /// Returns whether `post_vm` is called after a guest with the result `guest`, in a run whose result is `whole` so far.
    fn is_called(guest: Result<AssertResult, &str>, whole: AssertResult) -> bool {
        let entry = KtstrTestEntry {
            post_vm: Some(called),
            ..KtstrTestEntry::DEFAULT
        };
        let vm = VmResult {
            guest_result: guest.map_err(str::to_owned),
            ..VmResult::blank()
        };
        let mut judgement = Judgement::skip(String::new());
        judgement.result = whole;
        call(&entry, &vm, &mut judgement);
        let mut details = judgement.result.failure_details();
        details.any(|detail| detail.message.contains("post_vm was called"))
    }

    #[test]
    fn post_vm_is_called_unless_the_guest_failed() {
        use AssertResult as R;
        assert!(is_called(Ok(R::pass()), R::pass()));
        // A check of the host failed, or a failure was expected.
        assert!(is_called(Ok(R::pass()), R::fail_msg("the schedule")));
        assert!(is_called(Ok(R::inconclusive_msg("unsure")), R::pass()));
        assert!(!is_called(Ok(R::fail_msg("the test")), R::pass()));
        assert!(!is_called(Err("no result"), R::fail_msg("lost")));
    }
}
