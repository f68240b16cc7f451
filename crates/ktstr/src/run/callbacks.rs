//! The test's own callbacks on the host, which are called after the machine has ended.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ktstr_assert::{AssertDetail, AssertResult, DetailKind};

use super::verdict::{Fault, Judgement};
use super::{panic_text, report};
use crate::entry::KtstrTestEntry;
use crate::vm_result::VmResult;

/// Calls the test's own callbacks. `post_vm` is called only if the guest sent a result that is not a failure, even if a check of
/// the host failed. `post_vm_unconditional` is always called. `expect_err` does not invert what the callbacks report. A callback
/// can turn the run into a skip ([`post_vm_skip`](crate::gates::post_vm_skip)), but not if a callback before it failed. A skip
/// that `post_vm` requests is ignored if a check of the host has failed. It is not ignored if the run fails only because
/// `expect_err` asked for an error that did not come (`missed_error`): the callback says that the run shows nothing, so the
/// missing error shows nothing either. A test without a `post_vm` does not check its periodic captures itself, so a run that
/// passed so far becomes inconclusive if no periodic capture holds data.
pub(super) fn call(
    entry: &KtstrTestEntry,
    vm: &VmResult,
    judgement: &mut Judgement,
    missed_error: bool,
) {
    let guest_failed = !matches!(&vm.guest_result, Ok(result) if !result.is_fail());
    let passed_so_far = judgement.result.is_pass() && !guest_failed;
    let mut calls = Vec::new();
    match entry.post_vm {
        Some(call) if !guest_failed => calls.push(("post_vm", call)),
        None if passed_so_far && vm.periodic_target > 0 && vm.periodic_real == 0 => {
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
    let always = entry.post_vm_unconditional;
    calls.extend(always.map(|call| ("post_vm_unconditional", call)));
    let mut callback_failed = false;
    let check_failed = judgement.result.is_fail() && !missed_error;
    for (name, call) in calls {
        let problem = match catch_unwind(AssertUnwindSafe(|| call(vm))) {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => match error.downcast_ref::<crate::gates::PostVmSkip>() {
                Some(skip) if callback_failed || (name == "post_vm" && check_failed) => {
                    judgement.result.note(format!(
                        "{name} asked for a skip, but the run had failed already: {}",
                        skip.reason()
                    ));
                    continue;
                }
                Some(skip) => {
                    judgement.result = AssertResult::skip(skip.reason());
                    judgement.blame_nobody();
                    continue;
                }
                None => format!("{name} callback returned Err: {error:#}"),
            },
            Err(panic) => format!("{name} callback panicked: {}", panic_text(&*panic)),
        };
        callback_failed = true;
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
    use ktstr_assert::Assert;

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
        call(&entry, &vm, &mut judgement, false);
        let mut details = judgement.result.failure_details();
        details.any(|detail| detail.message.contains("post_vm was called"))
    }

    #[test]
    fn a_skip_does_not_hide_a_failure() {
        fn skips(_: &VmResult) -> anyhow::Result<()> {
            Err(crate::gates::post_vm_skip("too few captures"))
        }
        let after = |entry: KtstrTestEntry, result| {
            let vm = VmResult {
                guest_result: Ok(AssertResult::pass()),
                ..VmResult::blank()
            };
            let mut judgement = Judgement::skip(String::new());
            judgement.result = result;
            let missed =
                entry.expect_err && super::super::expect_error(&entry, Some(&vm), &mut judgement);
            call(&entry, &vm, &mut judgement, missed);
            assert!(judgement.result.is_fail() || judgement.fault.is_none());
            judgement.result
        };
        let post_vm = KtstrTestEntry {
            post_vm: Some(skips),
            ..KtstrTestEntry::DEFAULT
        };
        let always = KtstrTestEntry {
            post_vm_unconditional: Some(skips),
            ..KtstrTestEntry::DEFAULT
        };
        let both = KtstrTestEntry {
            post_vm: Some(called),
            ..always
        };
        let host = || AssertResult::fail_msg("the schedule");
        assert!(after(post_vm, AssertResult::pass()).is_skip());
        assert!(after(post_vm, host()).is_fail());
        assert!(after(always, host()).is_skip());
        assert!(after(both, AssertResult::pass()).is_fail());
        // With `expect_err`, a skip also counts if the expected error did not come.
        let expecting = |entry| KtstrTestEntry {
            expect_err: true,
            ..entry
        };
        let other_error = KtstrTestEntry {
            assert: Assert::NO_OVERRIDES.expect_scx_bpf_error_contains("another error"),
            ..expecting(post_vm)
        };
        assert!(after(expecting(post_vm), AssertResult::pass()).is_skip());
        assert!(after(expecting(post_vm), host()).is_skip());
        assert!(after(other_error, host()).is_fail());
        assert!(after(expecting(both), AssertResult::pass()).is_fail());
    }

    #[test]
    fn post_vm_is_called_unless_the_guest_failed() {
        use AssertResult as R;
        assert!(is_called(Ok(R::pass()), R::pass()));
        // The guest passed, but the run failed: by a check of the host, or because `expect_err` expected a failure.
        assert!(is_called(Ok(R::pass()), R::fail_msg("the schedule")));
        assert!(is_called(Ok(R::inconclusive_msg("unsure")), R::pass()));
        assert!(!is_called(Ok(R::fail_msg("the test")), R::pass()));
        assert!(!is_called(Err("no result"), R::fail_msg("lost")));
    }
}
