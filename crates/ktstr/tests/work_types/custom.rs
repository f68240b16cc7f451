//! Tests of custom functions as workers, in cgroups of a step.

use std::io::Write;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Result, ensure};
use ktstr::prelude::*;

/// Sleeps repeatedly for the configured number of milliseconds.
fn sleeps(ctx: &WorkerCtx) -> WorkerReport {
    let mut report = WorkerReport::default();
    while !ctx.stop().load(Relaxed) {
        std::thread::sleep(Duration::from_millis(ctx.cfg().u64s[0]));
        report.iterations += 1;
    }
    report
}

/// Moves itself to the cgroup `refuge`, and reports its old and its new cgroup.
fn flees(ctx: &WorkerCtx) -> WorkerReport {
    let mut report = WorkerReport::default();
    let home = ctx.cgroup_dir().ends_with("home");
    let missing = ctx.open_sibling_cgroup_procs("nowhere").is_err();
    let fled = ctx
        .open_sibling_cgroup_procs("refuge")
        .and_then(|mut procs| procs.write_all(b"0"))
        .is_ok();
    let now = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let there = now.trim().ends_with("/refuge");
    let pinned = ctx.cpus() == [2, 3];
    let facts = [home, missing, fled, there, pinned];
    report.iterations = facts.iter().filter(|fact| **fact).count() as u64;
    report.work_units = ctx.sibling_pids().len() as u64;
    while !ctx.stop().load(Relaxed) {
        std::thread::sleep(Duration::from_millis(5));
    }
    report
}

fn panics(ctx: &WorkerCtx) -> WorkerReport {
    panic!("on CPU {}, on purpose", ctx.cpus().len());
}

/// A panic of a worker only affects that worker: the test continues, and no panic of the test is reported to the host.
fn panic_is_reported(ctx: &Ctx) -> Result<()> {
    let config = WorkloadConfig::default().work_type(WorkType::custom("panics", panics));
    let mut handle = WorkloadHandle::spawn_seeded(&config, ctx.seed)?;
    handle.start();
    std::thread::sleep(Duration::from_millis(50));
    let report = handle.stop_and_collect().remove(0);
    let expected = WorkerExitInfo::Panicked("on CPU 4, on purpose".to_owned());
    ensure!(report.exit_info == Some(expected), "{report:?}");
    Ok(())
}

pub fn all(ctx: &Ctx) -> Result<AssertResult> {
    panic_is_reported(ctx)?;
    let cfg = CustomCfg {
        u64s: [20, 0, 0, 0],
        ..CustomCfg::default()
    };
    let defs = vec![
        CgroupDef::named("refuge").work_type(WorkType::custom_with("sleeps", sleeps, cfg)),
        CgroupDef::named("home")
            .cpuset(CpusetSpec::exact([2, 3]))
            .workers(2)
            .work_type(WorkType::custom("flees", flees)),
    ];
    let result = execute_defs(ctx, defs)?;
    let of = |name: &str| {
        let found = result.stats.cgroups.iter().find(|c| c.cgroup_name == name);
        found.map_or(0, |cgroup| cgroup.total_iterations)
    };
    // Fifty sleeps of 20 ms fit into the window; each of the two workers in `home` found all five facts.
    ensure!((20..=51).contains(&of("refuge")), "{}", of("refuge"));
    ensure!(of("home") == 10, "{}", of("home"));
    ensure!(result.is_pass(), "{:?}", result.outcomes);
    Ok(result)
}
