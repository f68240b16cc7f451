//! Tests of the metrics of a run that come from the CPU time of its tasks and from the pressure of interrupts.

use anyhow::{Context, Result, ensure};
use ktstr::prelude::*;
use ktstr::snapshot::CgroupPsi;

const SCHED: Scheduler = Scheduler::named("ktstr").binary(SchedulerSpec::Discover("scx-ktstr"));

/// Two workers on two CPUs: in the first step they only compute, in the second they mostly yield, which is work of the kernel.
#[ktstr_test(scheduler = SCHED, cores = 2, duration_s = 2, num_snapshots = 8, post_vm = of_steps)]
fn the_time_of_tasks_is_split_into_user_and_system(ctx: &Ctx) -> Result<AssertResult> {
    let step = |name, work| {
        let cgroup = CgroupDef::named(name).work_type(work).workers(2);
        Step::with_defs(vec![cgroup], HoldSpec::frac(0.5))
    };
    let steps = [
        step("computes", WorkType::SpinWait),
        step("yields", WorkType::YieldHeavy),
    ];
    execute_steps(ctx, steps.into())
}

fn of_steps(vm: &VmResult) -> Result<()> {
    let mut all = 0.0;
    for (step, shares) in [(0, 0.0..0.2), (1, 0.5..1.0)] {
        let of = |name: &str| {
            let value = vm.phase_metric(Phase::step(step), name);
            value.with_context(|| format!("{name} of step {step}"))
        };
        let observed = of("observed_task_cpu_time_ns")?;
        ensure!(observed == of("user_time_ns")? + of("system_time_ns")?);
        // Four captures span three intervals of 178 ms, in which two CPUs are busy: 1.07 s of CPU time.
        ensure!(
            (0.9e9..1.2e9).contains(&observed),
            "{observed} ns in step {step}"
        );
        let share = of("system_cpu_fraction")?;
        ensure!(shares.contains(&share), "{share} in step {step}");
        all += observed;
    }
    let run = vm.run_metric("observed_task_cpu_time_ns");
    // There are fewer than two captures before the first step, so the CPU time of the run is that of the steps.
    ensure!(
        run == Some(all),
        "CPU time of the run: {run:?} ns, of its steps: {all} ns"
    );
    interrupts(vm)
}

/// Checks that the metrics of interrupt pressure exist if and only if the kernel accounts for the time of interrupts. The stock
/// kernel does not.
fn interrupts(vm: &VmResult) -> Result<()> {
    let series = vm.periodic_series();
    let groups = series.iter_samples().flat_map(|s| s.snapshot.cgroup_psi());
    let groups: Vec<&CgroupPsi> = groups.collect();
    ensure!(groups.iter().any(|group| group.path == "/"), "{groups:?}");
    let accounts = |group: &&CgroupPsi| group.lines.contains_key("irq.full");
    let accounts = groups.iter().any(accounts);
    for name in [
        "psi_irq_full_avg10",
        "max_cgroup_psi_irq_avg10",
        "total_irq_pressure_us",
    ] {
        let value = vm.run_metric(name);
        ensure!(value.is_some() == accounts, "{name}: {value:?}");
    }
    Ok(())
}
