//! Workers whose cgroup or cpuset changes may use other CPUs afterwards, and a worker below a frozen cgroup cannot run. The
//! checks must then report neither a breach of isolation nor a worker that makes no progress.

use std::time::Duration;

use anyhow::Result;
use ktstr::prelude::*;

fn on(name: &'static str, cpu: usize) -> CgroupDef {
    CgroupDef::named(name).cpuset(CpusetSpec::exact([cpu]))
}

/// The workers of `a` end in `c`, and have run on the CPUs of `a`, `b` and `c`.
#[ktstr_test(cores = 4, duration_s = 3, isolation, clock = "virtual")]
fn workers_that_move_twice_keep_what_they_were_allowed(ctx: &Ctx) -> Result<AssertResult> {
    let backdrop = Backdrop::from_cgroups([
        on("a", 0).workers(2),
        on("b", 1).workers(1),
        on("c", 2).workers(1),
    ]);
    let hold = || HoldSpec::Fixed(Duration::from_millis(700));
    let steps = vec![
        Step::with_op(Op::set_cpu_weight("a", 100), hold()),
        Step::with_op(Op::move_all_tasks("a", "b"), hold()),
        Step::with_op(Op::move_all_tasks("b", "c"), hold()),
    ];
    execute_scenario(ctx, backdrop, steps)
}

/// The test forces migrations by changes of the affinity, and changes the cpuset of `hand` without an operation. Neither is the
/// scheduler's doing.
#[ktstr_test(
    cores = 4,
    duration_s = 1,
    isolation,
    max_migration_ratio = 0.001,
    clock = "virtual"
)]
fn a_test_may_change_the_cpus_of_its_workers(ctx: &Ctx) -> Result<AssertResult> {
    let sleepy = WorkType::bursty(Duration::from_millis(1), Duration::from_millis(5));
    let backdrop = Backdrop::from_cgroups([
        CgroupDef::named("a").workers(2).work_type(sleepy),
        on("hand", 2).workers(1),
    ]);
    let mut moving = Step::hold(HoldSpec::loop_at(Duration::from_millis(20)));
    moving.ops = (0..3)
        .map(|cpu| Op::set_affinity("a", AffinityIntent::exact([cpu])))
        .collect();
    let file = ctx.cgroups.parent_path().join("hand/cpuset.cpus");
    std::thread::scope(|scope| {
        let by_hand = scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            std::fs::write(file, "3")
        });
        let result = execute_scenario(ctx, backdrop, vec![moving]);
        by_hand.join().expect("the thread does not panic")?;
        result
    })
}

/// The kernel gives a cgroup the CPUs of its parent if its own are all offline.
#[ktstr_test(cores = 4, duration_s = 2, isolation, clock = "virtual")]
fn a_cpuset_without_an_online_cpu_is_that_of_the_parent(ctx: &Ctx) -> Result<AssertResult> {
    let steps = vec![
        Step::with_op(
            Op::cpu_offline(3),
            HoldSpec::Fixed(Duration::from_millis(300)),
        ),
        Step::with_defs(
            vec![on("late", 3).workers(2)],
            HoldSpec::Fixed(Duration::from_secs(1)),
        ),
    ];
    execute_steps(ctx, steps)
}

/// The cgroup has the CPUs of its parent, because its own CPU 3 is offline. When CPU 2 comes back, the cgroup has this CPU too.
#[ktstr_test(cores = 4, duration_s = 2, isolation, clock = "virtual")]
fn a_cpuset_that_follows_its_parent_grows_with_it(ctx: &Ctx) -> Result<AssertResult> {
    let hold = HoldSpec::Fixed(Duration::from_millis(500));
    let mut backdrop = Backdrop::new();
    let off = [Op::cpu_offline(2), Op::cpu_offline(3)];
    backdrop.ops.extend(off);
    backdrop
        .ops
        .push(Op::add_cgroup_def(on("late", 3).workers(3)));
    let steps = vec![Step::hold(hold), Step::with_op(Op::cpu_online(2), hold)];
    execute_scenario(ctx, backdrop, steps)
}

/// A cgroup without a cpuset has that of the cgroup above it, and its workers choose among those CPUs.
#[ktstr_test(cores = 4, duration_s = 1, isolation, clock = "virtual")]
fn an_affinity_is_one_of_the_cpus_above(ctx: &Ctx) -> Result<AssertResult> {
    let mut backdrop = Backdrop::new();
    backdrop.ops.push(Op::add_cgroup("a"));
    backdrop
        .ops
        .push(Op::set_cpuset("a", CpusetSpec::exact([2, 3])));
    let below = CgroupDef::named("a/x")
        .workers(1)
        .affinity(AffinityIntent::SingleCpu);
    backdrop.ops.push(Op::add_cgroup_def(below));
    let step = Step::hold(HoldSpec::Fixed(Duration::from_millis(500)));
    let mut result = execute_scenario(ctx, backdrop, vec![step])?;
    let mut cgroups = result.stats.cgroups.iter();
    let cpus = cgroups
        .find(|c| c.cgroup_name == "a/x")
        .map(|c| c.cpus_used.clone());
    if cpus != Some([2].into())
        || result
            .info_notes
            .iter()
            .any(|note| note.message.contains("affinity"))
    {
        let notes = &result.info_notes;
        let text = format!("on the CPUs {cpus:?}: {notes:?}");
        result.merge(AssertResult::fail_msg(text));
    }
    Ok(result)
}

/// To stop the worker of `a/x` at the end of the step, the harness has to thaw the cgroup `a` above it.
#[ktstr_test(cores = 2, duration_s = 2, not_stuck, clock = "virtual")]
fn a_worker_below_a_frozen_cgroup_stops(ctx: &Ctx) -> Result<AssertResult> {
    let mut backdrop = Backdrop::new();
    backdrop.ops.push(Op::add_cgroup("a"));
    let below = CgroupDef::named("a/x").workers(1);
    let ops = vec![Op::add_cgroup_def(below), Op::freeze_cgroup("a")];
    let hold = HoldSpec::Fixed(Duration::from_millis(500));
    let step = Step {
        setup: Vec::new().into(),
        ops,
        hold,
    };
    execute_scenario(ctx, backdrop, vec![step])
}
