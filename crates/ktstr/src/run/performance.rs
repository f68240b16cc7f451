//! Tests in performance mode: with pinned CPUs and huge pages on the host, so that their numbers mean something.
//!
//! The harness has no such mode. A test that asks for it is skipped, or fails if the environment allows no skips. If the
//! environment or the test's `no_perf_mode` turns the mode off, the test runs like any other.

use ktstr_state::env::{NO_PERF_MODE, NO_SKIP_MODE};

use super::RunError;
use crate::entry::KtstrTestEntry;

const WHY: &str = "ktstr has no performance mode: it does not pin vCPUs to CPUs of the host (with KTSTR_NO_PERF_MODE=1 the test runs without)";

/// Returns the reason why `entry` is skipped; `None` if it is not skipped.
///
/// # Errors
/// Returns an error if the test would be skipped and the environment allows no skips.
pub(super) fn skipped(entry: &KtstrTestEntry) -> Result<Option<String>, RunError> {
    judged(entry, NO_PERF_MODE.is_on(), NO_SKIP_MODE.is_on())
}

fn judged(entry: &KtstrTestEntry, off: bool, no_skip: bool) -> Result<Option<String>, RunError> {
    let asked = entry.performance_mode && !entry.no_perf_mode && !off;
    match (asked, no_skip) {
        (false, _) => Ok(None),
        (true, false) => Ok(Some(WHY.to_owned())),
        (true, true) => Err(RunError::Declaration {
            test: entry.name.to_owned(),
            reason: format!(
                "{WHY}, and {NO_SKIP_MODE} allows no skip: unset it, or remove performance_mode from the test"
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_in_performance_mode_is_skipped_unless_the_mode_is_off() {
        let plain = KtstrTestEntry::DEFAULT;
        let fast = KtstrTestEntry {
            performance_mode: true,
            ..plain
        };
        assert!(matches!(judged(&plain, false, true), Ok(None)));
        assert!(matches!(judged(&fast, false, false), Ok(Some(why)) if why == WHY));
        let error = judged(&fast, false, true).expect_err("no skip").to_string();
        assert!(matches!(judged(&fast, true, true), Ok(None)));
        assert!(
            error.contains("KTSTR_NO_SKIP_MODE allows no skip"),
            "{error}"
        );
    }
}
