//! The code of docs/guide/scenarios.md, as tests that run. The code between `// block` and `// end` is on the page verbatim and
//! in this order.

// block
use std::time::Duration;

use ktstr::prelude::*;

const MINE: Scheduler = Scheduler::named("mine").binary(SchedulerSpec::Discover("scx-ktstr"));

/// One worker wakes three, over and over, on a CPU of each LLC.
fn front(cpus: [usize; 2]) -> CgroupDef {
    CgroupDef::named("front")
        .work_type(WorkType::futex_fan_out(3, 256))
        .workers(4)
        .cpuset(CpusetSpec::exact(cpus))
}

#[ktstr_test(scheduler = MINE, llcs = 2, cores = 2, duration_s = 2, not_stuck, isolation)]
fn wakes_cross_llcs(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![front([0, 2])])
}
// end

// block
/// Eight workers that want a CPU for 40 ms of 50, and may have one CPU's worth of time together.
fn batch() -> CgroupDef {
    let [burst, pause] = [40, 10].map(Duration::from_millis);
    CgroupDef::named("batch")
        .work_type(WorkType::bursty(burst, pause))
        .workers(8)
        .cpu_quota_pct(100)
}

#[ktstr_test(scheduler = MINE, llcs = 2, cores = 2, duration_s = 2, not_stuck, isolation)]
fn wakes_cross_llcs_beside_a_batch(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![front([0, 2]), batch()])
}
// end

// block
fn churn(ctx: &Ctx) -> Result<AssertResult> {
    let mut other = front([1, 3]);
    other.name = "other".to_owned();
    let backdrop = Backdrop::from_cgroups([front([0, 2]), other]);
    let quiet = Step::hold(HoldSpec::frac(0.4));
    let mut churn = Step::with_defs(vec![batch()], HoldSpec::loop_at(Duration::from_millis(50)));
    churn.ops = vec![Op::swap_cpusets("front", "other")];
    execute_scenario(ctx, backdrop, vec![quiet, churn])
}
// end

// block
#[ktstr_test(scheduler = MINE, llcs = 2, cores = 2, duration_s = 3, not_stuck, isolation)]
fn wakes_cross_llcs_under_churn(ctx: &Ctx) -> Result<AssertResult> {
    let result = churn(ctx)?;
    let front = |step| {
        let phase = result.stats.phase(Phase::step(step));
        let left = phase.and_then(|phase| phase.per_cgroup.get("front").cloned());
        left.unwrap_or_default()
    };
    let (quiet, churn) = (front(0), front(1));
    let mut verdict = Verdict::new();
    verdict
        .claim_set("quiet: CPUs used", &quiet.cpus_used)
        .len_eq(2);
    verdict
        .claim_present(
            "churn: p99 wake latency, µs",
            churn.get("p99_wake_latency_us"),
        )
        .at_most(100_000.0);
    verdict
        .claim("churn: moves between CPUs", churn.total_migrations)
        .at_least(1);
    verdict.merge(result);
    Ok(verdict.into_result())
}
// end

// block
#[ktstr_test(scheduler = MINE, llcs = 2, cores = 2, duration_s = 1, not_stuck, isolation)]
fn wakes_cross_llcs_by_text(ctx: &Ctx) -> Result<AssertResult> {
    let scenario = Scenario::from_text(
        r#"
        [[cgroup]]
        name = "front"
        work_type = { futex_fan_out = { fan_out = 3, spin_iters = 256 } }
        workers = 4
        cpuset = "0,2"

        [[step]]
        hold = 0.5

        [[step]]
        ops = [{ set_cpuset = { cgroup = "front", cpus = "1,3" } }]
        "#,
    )?;
    execute_scenario(ctx, scenario.backdrop, scenario.steps)
}
// end

/// With the defect that the page mentions, the claim of the page fails with the text that the page shows.
#[test]
fn an_unused_llc_fails_the_claim_of_the_page() {
    let declared = find_test("wakes_cross_llcs_under_churn").expect("it is above");
    let broken = Box::leak(Box::new(KtstrTestEntry {
        extra_sched_args: &["--idle-llc"],
        ..*declared
    }));
    let finished = ktstr::run::run(broken);
    println!("{}", finished.text);
    let page = include_str!("../../../../docs/guide/scenarios.md");
    let shown = between(page, "\n```text\n", "\n```\n");
    let mut details = finished.result.failure_details().map(ToString::to_string);
    assert!(
        details.any(|detail| detail == shown[1]),
        "the page says: {shown:?}"
    );
}

/// Returns the text between each `open` line and the next `close` line.
pub fn between<'a>(text: &'a str, open: &str, close: &str) -> Vec<&'a str> {
    let starts = text.split(open).skip(1);
    starts
        .map(|rest| rest.split(close).next().unwrap_or(rest))
        .collect()
}

/// The text on the page is the file that `cargo-ktstr/tests/run.rs` runs. The error that the page shows for a typo in this file
/// is the error that the validation returns.
#[test]
fn the_text_of_the_page_is_the_file_that_runs() {
    let page = include_str!("../../../../docs/guide/scenarios.md");
    let file = include_str!("../../../../docs/guide/scenarios/wakes-cross-llcs.toml");
    assert_eq!(between(page, "\n```toml\n", "\n```\n"), [file.trim_end()]);
    let wrong = file.replace("a = \"front\"", "a = \"fornt\"");
    let wrong = ktstr::scenario::file::ScenarioFile::from_text(&wrong).expect("it can be read");
    let machine = TestTopology::from_vm_topology(&Topology::new(1, 2, 2, 1));
    let error = wrong
        .validate(&machine)
        .expect_err("the scenario has no cgroup `fornt`")
        .to_string();
    let shown = between(page, "\n```text\n", "\n```\n");
    assert_eq!(shown[0], error);
}

#[test]
fn the_code_of_the_page_is_the_code_that_runs() {
    let page = include_str!("../../../../docs/guide/scenarios.md");
    let printed = between(page, "\n```rust\n", "\n```\n");
    let run = between(include_str!("guide.rs"), "\n// block\n", "\n// end\n");
    assert_eq!(run.len(), 5, "{run:#?}");
    assert_eq!(
        printed, run,
        "left: docs/guide/scenarios.md; right: crates/ktstr/tests/vm/guide.rs"
    );
}
