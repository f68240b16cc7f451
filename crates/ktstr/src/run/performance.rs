//! Tests in performance mode: with pinned CPUs and huge pages on the host, so that their numbers mean something.
//!
//! The harness has no such mode. A test that asks for it is skipped, or fails if the environment allows no skips. If the
//! environment or the test's `no_perf_mode` turns the mode off, the test runs like any other.

use super::{RunError, environment};
use crate::entry::KtstrTestEntry;

/// The environment variable whose presence turns a skip for lack of a host resource into a failure.
const NO_SKIP: &str = "KTSTR_NO_SKIP_MODE";

/// The environment variable that turns performance mode off for all tests.
const NO_PERF: &str = "KTSTR_NO_PERF_MODE";

const WHY: &str = "performance mode is unavailable: the harness does not pin CPUs of the host";

/// Returns the reason why `entry` is skipped; `None` if it is not skipped.
///
/// # Errors
/// Returns an error if the test would be skipped and the environment allows no skips.
pub(super) fn skipped(entry: &KtstrTestEntry) -> Result<Option<String>, RunError> {
    let off = environment(NO_PERF).is_some();
    judged(entry, off, std::env::var_os(NO_SKIP).is_some())
}

fn judged(entry: &KtstrTestEntry, off: bool, no_skip: bool) -> Result<Option<String>, RunError> {
    let asked = entry.performance_mode && !entry.no_perf_mode && !off;
    match (asked, no_skip) {
        (false, _) => Ok(None),
        (true, false) => Ok(Some(WHY.to_owned())),
        (true, true) => Err(RunError::Declaration {
            test: entry.name.to_owned(),
            reason: format!(
                "{WHY}, and {NO_SKIP} allows no skip: unset it, set {NO_PERF}, or remove performance_mode"
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
