//! Tests that expect an error of the scheduler: they pass with the expected error, and with no other.

use std::time::Duration;

use ktstr::prelude::*;
use ktstr::run::{Fault, run};

const NONE: Assert = Assert::NO_OVERRIDES;
const CRASHES: Scheduler = Scheduler::named("crashes")
    .binary(SchedulerSpec::Discover("scx-ktstr"))
    .sched_args(&["--crash-after", "1"])
    .assert(NONE.expect_scx_bpf_error_contains("ktstr: host-triggered crash"));
const UNFAIR: Scheduler = Scheduler::named("unfair").binary(SchedulerSpec::Discover("scx-ktstr"));
const REFUSED: Scheduler = Scheduler::named("refused")
    .binary(SchedulerSpec::Discover("scx-ktstr"))
    .sched_args(&["--fail-verify"]);

fn two_cgroups(ctx: &Ctx) -> Result<AssertResult> {
    let cgroup = |name| CgroupDef::named(name).workers(2);
    execute_defs(ctx, vec![cgroup("left"), cgroup("right")])
}

macro_rules! expecting {
    ($($entry:ident = $name:literal, $sched:ident, $assert:expr;)*) => { $(
        case!($entry = $name, two_cgroups, scheduler: &$sched, expect_err: true, assert: $assert,
            topology: Topology::new(1, 1, 2, 1), duration: Duration::from_secs(2));
    )* };
}

expecting! {
    THE_ERROR = "the_error", CRASHES,
        NONE.expect_scx_bpf_error_matches("scx_bpf_error .*crash");
    // The dump of a crash contains this word, but the error does not.
    ANOTHER = "another", CRASHES, NONE.expect_scx_bpf_error_matches("stall");
    STAYED = "stayed", UNFAIR, NONE.max_gap_ms(1).expect_scx_bpf_error_contains("attached");
    AT_LOAD = "at_load", REFUSED, NONE.expect_scx_bpf_error_contains("invalid mem access");
    NOTHING = "nothing", REFUSED, NONE.expect_scx_bpf_error_matches("x*");
}

/// The checks of the scheduler and of the test both apply.
#[test]
fn the_error_that_is_meant() {
    for entry in [&THE_ERROR, &AT_LOAD] {
        let finished = run(entry);
        assert_eq!(finished.exit_code(), 0, "{}", finished.text);
    }
}

#[test]
fn another_error_is_a_failure() {
    let finished = run(&ANOTHER);
    assert_eq!(finished.exit_code(), 1, "{}", finished.text);
    assert_eq!(finished.fault, Some(Fault::Scheduler), "{}", finished.text);
    let wanted = "failed: the scheduler's error should match \"stall\", but was: scx_bpf_error (ktstr: host-triggered crash)";
    assert!(finished.text.contains(wanted), "{}", finished.text);
}

/// The run failed a check, but the scheduler did not exit, so the word `attached` in its log is not an error.
#[test]
fn a_scheduler_that_stays_has_no_error() {
    let finished = run(&STAYED);
    assert_eq!(finished.exit_code(), 1, "{}", finished.text);
    let wanted = "failed: the scheduler's error should contain \"attached\", but nothing was reported about the scheduler's end";
    assert!(finished.text.contains(wanted), "{}", finished.text);
}

#[test]
fn a_pattern_that_matches_any_text_is_refused() {
    let finished = run(&NOTHING);
    assert_eq!(finished.exit_code(), 1, "{}", finished.text);
    let wanted = "expect_scx_bpf_error_matches = \"x*\" matches any text, even an empty one: write a part of the expected error";
    assert!(finished.text.contains(wanted), "{}", finished.text);
}
