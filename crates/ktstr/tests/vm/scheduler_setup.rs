//! Tests of the setup of a scheduler: a configuration that the test supplies, and a scheduler inside the kernel.

use ktstr::prelude::*;

const CONFIG: &str = ktstr::json!({"layers": [{"name": "batch", "weight": 3}]});

declare_scheduler!(CONFIGURED, {
    name = "configured",
    binary = "scx-ktstr",
    config_file_def = ("--config {file}", "/tmp/ktstr/layers.json"),
});

declare_scheduler!(BUILTIN, {
    name = "kernel",
    kernel_builtin_enable = ["echo 77 > /proc/sys/kernel/panic"],
    kernel_builtin_disable = ["echo 0 > /proc/sys/kernel/panic"],
});

/// The file has the declared path, which was passed to the scheduler.
#[ktstr_test(scheduler = CONFIGURED, config = CONFIG, duration_s = 1, no_perf_mode)]
fn a_configuration_reaches_the_scheduler(ctx: &Ctx) -> Result<AssertResult> {
    let text = std::fs::read_to_string("/tmp/ktstr/layers.json")?;
    let pid = ctx
        .sched_pid
        .ok_or_else(|| anyhow::anyhow!("no scheduler"))?;
    let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline"))?.replace('\0', " ");
    let mut verdict = Verdict::new();
    verdict.claim("text", text.as_str()).eq(CONFIG);
    let handed = line.contains("--config /tmp/ktstr/layers.json");
    claim!(verdict, handed).because(&line).eq(true);
    Ok(verdict.into_result())
}

/// The command that enables the scheduler has run before the test. Its tasks are in the kernel's own classes, so the default
/// check that sched_ext runs the workers does not apply.
#[ktstr_test(scheduler = BUILTIN, duration_s = 1)]
fn a_scheduler_of_the_kernel_is_turned_on(ctx: &Ctx) -> Result<AssertResult> {
    let panic = std::fs::read_to_string("/proc/sys/kernel/panic")?;
    let mut verdict = Verdict::new();
    verdict.claim("kernel.panic", panic.trim()).eq("77");
    let mut result = execute_defs(ctx, vec![CgroupDef::named("spin").workers(1)])?;
    result.merge(verdict.into_result());
    Ok(result)
}

/// A test that needs pinned CPUs is skipped, and its function never called.
#[ktstr_test(performance_mode, duration_s = 1)]
fn no_performance_mode_no_run(_ctx: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::fail_msg("it was run without"))
}
