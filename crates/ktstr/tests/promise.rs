//! Tests in virtual machines that declarations and environment variables have their documented effect, and that the record
//! shows it.

#[macro_use]
mod common;

use std::time::Duration;

use anyhow::Context;
use common::Case;
use ktstr::claim;
use ktstr::prelude::*;

const SCX_KTSTR: Scheduler = Scheduler::named("scx_ktstr")
    .binary(SchedulerSpec::Discover("scx-ktstr"))
    .manifest_dir(env!("CARGO_MANIFEST_DIR"))
    .sysctls(&[Sysctl::new("kernel.sched_schedstats", "1")])
    .kargs(&["ktstr.promise=kept"]);

case!(KEPT = "kept", kept, scheduler: &SCX_KTSTR, clock: ClockMode::Virtual,
    duration: Duration::from_millis(200), extra_sched_args: &["--promise"]);
case!(IN_NO_TIME = "in_no_time", short, scheduler: &SCX_KTSTR, clock: ClockMode::Virtual,
    duration: Duration::from_millis(200), cleanup_budget: Some(Duration::from_millis(1)));

/// Fails at the end, so that the run prints its report.
fn kept(ctx: &Ctx) -> Result<AssertResult> {
    let pid = ctx.sched_pid.context("the scheduler runs")?;
    let environ = std::fs::read_to_string(format!("/proc/{pid}/environ"))?;
    let set = std::fs::read_to_string("/proc/sys/kernel/sched_schedstats")?;
    let line = std::fs::read_to_string("/proc/cmdline")?;
    let mut verdict = Verdict::new();
    claim!(verdict, environ.contains("RUST_LOG=promise")).eq(true);
    claim!(verdict, set.trim() == "1").eq(true);
    claim!(verdict, line.contains("ktstr.promise=kept")).eq(true);
    eprintln!("said on standard error");
    verdict.note("planted");
    let mut result = verdict.into_result();
    result.record_fail(AssertDetail::new(DetailKind::Other, "planted".to_owned()));
    Ok(result)
}

fn short(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![CgroupDef::named("cg").workers(1)])
}

#[test]
fn the_scheduler_that_ran_is_shown_and_recorded() {
    let ended = Case::new("kept")
        .env("RUST_LOG", "promise")
        .env("KTSTR_LOG_PASSES", "1")
        .run();
    ended.says(
        1,
        &[
            "[sched=scx-ktstr]",
            "failed: planted",
            "\nscheduler: ",
            "(scx-ktstr 0.",
            ", built by cargo)",
        ],
    );
    let record = &ended.record.as_ref().expect("a record").record;
    let ran = record.scheduler.as_ref().expect("a scheduler ran");
    let path = ran.path.as_ref().expect("it has a binary");
    let hash = blake3::hash(&std::fs::read(path).expect("readable")).to_hex();
    assert_eq!(ran.hash.as_deref(), Some(hash.as_str()));
    assert!(
        ended.text.contains(&format!("BLAKE3 {}", &hash[..12])),
        "{}",
        ended.text
    );
    assert!(
        ran.version
            .as_ref()
            .expect("it has one")
            .starts_with("scx-ktstr 0.")
    );
    assert_eq!(ran.resolve_source.as_deref(), Some("auto_built"));
    assert_eq!(ran.args, ["--promise"]);
    assert_eq!(record.sysctls["kernel.sched_schedstats"], "1");
    assert_eq!(record.kargs, ["ktstr.promise=kept"]);
    assert!(record.cleanup_duration_ms.expect("it ended") > 0.0);
    let stderr = ended.artefact("stderr.log");
    for printed in ["said on standard error", "environ.contains"] {
        assert!(
            stderr.contains(printed),
            "{printed:?} is not in stderr.log:\n{stderr}"
        );
    }
}

#[test]
fn a_named_scheduler_is_shown_by_its_path() {
    let found = ktstr::run::find_scheduler_binary(&SCX_KTSTR).expect("it builds");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let other = folder.path().join("scx-ktstr");
    std::fs::copy(found.expect("it has a binary").path, &other).expect("writable");
    let path = other.display().to_string();
    let ended = Case::new("kept").env("KTSTR_SCHEDULER", &path).run();
    ended.says(1, &[&format!("[sched={path}]"), "named by KTSTR_SCHEDULER"]);
    assert!(!ended.text.contains("[sched=scx-ktstr]"), "{}", ended.text);
}

#[test]
fn a_guest_that_takes_longer_to_end_than_its_budget_fails() {
    let ended = Case::new("in_no_time").run();
    ended.says(
        1,
        &[
            "ms to end after its scenario, cleanup_budget_ms allows 1",
            "fault: the ",
        ],
    );
}
