#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ktstr_assert::{DetailKind, Phase};
use ktstr_scenario::cgroup::{CgroupError, CgroupOps};
use ktstr_scenario::ops::{
    CpusetPartition, CpusetSpec, IrqSelector, KernelTarget, KernelValue, KernelValueWidth,
    SpawnPlacement,
};
use ktstr_scenario::topology::{TestTopology, Topology};
use ktstr_scenario::workload::{RtAction, RtPhase, WorkSpec, WorkType};

use super::*;

type Done = std::result::Result<(), CgroupError>;

/// A cgroup tree that only records the calls it receives, and fails those that start with `fail_on`.
struct Fake {
    root: PathBuf,
    calls: Mutex<Vec<String>>,
    fail_on: Option<&'static str>,
    /// How many of the calls that `fail_on` selects succeed before the first of them fails.
    succeed_first: usize,
    /// Whether a quota is lifted only when the worker that was placed last sleeps. The engine lifts it before it stops workers.
    lifts_late: bool,
    placed_last: Mutex<Option<i32>>,
}

impl Fake {
    fn new() -> Self {
        Self {
            root: "/fake".into(),
            calls: Mutex::new(Vec::new()),
            fail_on: None,
            succeed_first: 0,
            lifts_late: false,
            placed_last: Mutex::new(None),
        }
    }

    fn call(&self, what: String) -> Done {
        let mut calls = self.calls.lock().unwrap();
        let fails = self.fail_on.is_some_and(|f| {
            what.starts_with(f)
                && calls.iter().filter(|c| c.starts_with(f)).count() >= self.succeed_first
        });
        calls.push(what);
        drop(calls);
        if fails {
            return Err(CgroupError::Access {
                action: "pretend",
                path: self.root.clone(),
                cause: std::io::Error::from_raw_os_error(libc::EBUSY),
            });
        }
        Ok(())
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

macro_rules! recorded {
    ($($name:ident($($arg:ident: $ty:ty),*);)+) => {$(
        fn $name(&self, name: &str $(, $arg: $ty)*) -> Done {
            let args: &[String] = &[$(format!(" {:?}", $arg)),*];
            self.call(format!("{} {name}{}", stringify!($name), args.concat()))
        }
    )+};
}

impl CgroupOps for Fake {
    fn parent_path(&self) -> &Path {
        &self.root
    }
    fn setup(&self, controllers: &BTreeSet<Controller>) -> Done {
        self.call(format!("setup {controllers:?}"))
    }
    fn place_task_during_handshake(&self, name: &str, pid: i32) -> Done {
        *self.placed_last.lock().unwrap() = Some(pid);
        self.call(format!("place {name}"))
    }
    fn read_procs(&self, _name: &str) -> std::result::Result<Vec<i32>, CgroupError> {
        Ok(Vec::new())
    }
    fn set_file(&self, name: &str, _: Option<Controller>, file: &str, value: &str) -> Done {
        self.call(format!("set_file {name} {file} {value}"))
    }
    fn set_cpu_max(&self, name: &str, quota: Option<u64>, period: u64) -> Done {
        let last = *self.placed_last.lock().unwrap();
        if let (true, None, Some(pid)) = (self.lifts_late, quota, last) {
            crate::workers::tests::asleep(pid);
        }
        self.call(format!("set_cpu_max {name} {quota:?} {period}"))
    }
    fn cleanup_all(&self) -> Done {
        self.call("cleanup_all".to_owned())
    }
    recorded! {
        create_cgroup();
        remove_cgroup();
        set_cpuset(cpus: &BTreeSet<usize>);
        clear_cpuset();
        set_cpuset_mems(nodes: &BTreeSet<usize>);
        clear_cpuset_mems();
        set_cpu_weight(weight: u32);
        set_memory_max(bytes: Option<u64>);
        set_memory_high(bytes: Option<u64>);
        set_memory_low(bytes: Option<u64>);
        set_memory_swap_max(bytes: Option<u64>);
        set_io_weight(weight: u16);
        set_freeze(frozen: bool);
        set_pids_max(max: Option<u64>);
        move_task(pid: i32);
        move_tasks(pids: &[i32]);
        clear_subtree_control();
        drain_tasks();
    }
}

fn topo() -> TestTopology {
    TestTopology::from_vm_topology(&Topology::new(1, 1, 2, 1))
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn failures(result: &AssertResult) -> Vec<String> {
    result
        .failure_details()
        .map(|d| d.message.clone())
        .collect()
}

#[test]
fn two_steps_give_two_carriers_in_order() {
    let (fake, topo) = (Fake::new(), topo());
    let ctx = Ctx::builder(&fake, &topo).duration(ms(1000)).build();
    let step = |name: &str| Step {
        setup: vec![CgroupDef::named(name).workers(2)].into(),
        ops: vec![],
        hold: HoldSpec::frac(0.5),
    };
    let began = Instant::now();
    let result = execute_steps(&ctx, vec![step("cg_step0"), step("cg_step1")]).unwrap();
    assert!(result.is_pass(), "{result:?}");
    assert!(began.elapsed() >= ms(990), "{:?}", began.elapsed());
    assert_eq!(ctx.current_step.load(Relaxed), 2);
    for (k0, name) in [(0, "cg_step0"), (1, "cg_step1")] {
        let bucket = result.stats.phase(Phase::step(k0)).unwrap();
        assert_eq!(bucket.label, format!("Step[{k0}]"));
        assert_eq!(bucket.per_cgroup.len(), 1);
        let carrier = &bucket.per_cgroup[name];
        assert_eq!(carrier.num_workers, 2);
        assert!(carrier.total_iterations > 0 && carrier.total_cpu_time_ns > 0);
    }
    assert_eq!(result.stats.total_workers, 4);
    let names: Vec<_> = result
        .stats
        .cgroups
        .iter()
        .map(|c| &c.cgroup_name)
        .collect();
    assert_eq!(names, ["cg_step0", "cg_step1"]);
    assert_eq!(
        fake.calls(),
        [
            "setup {}",
            "create_cgroup cg_step0",
            "place cg_step0",
            "place cg_step0",
            "remove_cgroup cg_step0",
            "create_cgroup cg_step1",
            "place cg_step1",
            "place cg_step1",
            "remove_cgroup cg_step1",
        ]
    );
}

#[test]
fn invalid_holds_are_errors_before_anything_runs() {
    let (fake, topo) = (Fake::new(), topo());
    let ctx = Ctx::builder(&fake, &topo).build();
    let bad = Step::hold(HoldSpec::frac(0.0));
    let error = execute_steps(&ctx, vec![Step::default(), bad]).unwrap_err();
    assert!(format!("{error:#}").contains("step 2"), "{error:#}");
    assert!(fake.calls().is_empty());
}

#[test]
fn a_failure_inside_a_step_is_a_failed_result() {
    let topo = topo();
    let run = |fake: &Fake, ops: Vec<Op>, defs: Vec<CgroupDef>| {
        let ctx = Ctx::builder(fake, &topo).duration(ms(50)).build();
        let step = Step {
            setup: defs.into(),
            ops,
            hold: HoldSpec::FULL,
        };
        execute_steps(&ctx, vec![step, Step::default()]).unwrap()
    };
    let cases = [
        (
            vec![Op::set_cpuset("no", CpusetSpec::llc(0))],
            vec![],
            "no cgroup \"no\"",
        ),
        (vec![Op::capture_snapshot("x")], vec![], "host_only"),
        (vec![Op::detach_scheduler()], vec![], "host_only"),
        (vec![], vec![CgroupDef::named("a").workers(0)], "workers(0)"),
        (
            vec![Op::add_cgroup("a")],
            vec![CgroupDef::named("a")],
            "exists already",
        ),
        (
            vec![],
            vec![
                CgroupDef::named("a")
                    .work_type(WorkType::SmtSiblingSpin)
                    .workers(3),
            ],
            "SmtSiblingSpin: 3 workers cannot be divided into groups of 2",
        ),
    ];
    for (ops, defs, expected) in cases {
        let fake = Fake::new();
        let result = run(&fake, ops, defs);
        let messages = failures(&result);
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert!(messages[0].starts_with("step 1 failed: "), "{messages:?}");
        assert!(messages[0].contains(expected), "{messages:?}");
        let calls = fake.calls();
        let made = calls.iter().filter(|c| c.starts_with("create")).count();
        let removed = calls.iter().filter(|c| c.starts_with("remove")).count();
        assert_eq!(made, removed, "everything created is removed: {calls:?}");
    }
    let fake = Fake {
        fail_on: Some("place"),
        ..Fake::new()
    };
    let result = run(&fake, vec![], vec![CgroupDef::named("a")]);
    assert!(failures(&result)[0].contains("cannot pretend"));
}

#[test]
fn a_worker_that_cannot_do_its_work_fails_the_step() {
    let (fake, topo) = (Fake::new(), topo());
    let ctx = Ctx::builder(&fake, &topo).duration(ms(100)).build();
    let amx = WorkType::alu_hot(ktstr_scenario::workload::AluWidth::Amx);
    let defs = vec![CgroupDef::named("tiles").work_type(amx)];
    let messages = failures(&execute_defs(&ctx, defs).unwrap());
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!(
        messages[0].starts_with("cgroup tiles: worker "),
        "{messages:?}"
    );
    assert!(messages[0].contains("has no code for AMX"), "{messages:?}");
}

#[test]
fn swappable_cgroups_use_the_work_type_override() {
    let (fake, topo) = (Fake::new(), topo());
    let ctx = Ctx::builder(&fake, &topo)
        .duration(ms(100))
        .work_type_override(Some(WorkType::pipe_io(1)))
        .build();
    let one = |swappable| {
        let def = CgroupDef::named("a").workers(1).swappable(swappable);
        failures(&execute_defs(&ctx, vec![def]).unwrap())
    };
    assert!(one(false).is_empty());
    // A single worker cannot form a pair.
    assert!(one(true)[0].contains("groups of 2"), "{:?}", one(true));
}

#[test]
fn a_dead_scheduler_ends_the_scenario_with_its_kind() {
    let (fake, topo) = (Fake::new(), topo());
    let mut child = std::process::Command::new("sleep")
        .arg("600")
        .spawn()
        .unwrap();
    let ctx = Ctx::builder(&fake, &topo)
        .duration(ms(300_000))
        .sched_pid(Some(child.id() as i32))
        .build();
    let began = Instant::now();
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(ms(150));
            child.kill().unwrap();
        });
        execute_defs(&ctx, vec![CgroupDef::named("a")]).unwrap()
    });
    assert!(began.elapsed() < ms(60_000));
    // The engine sees how a process ended only until the process is reaped.
    child.wait().unwrap();
    let detail = result.failure_details().next().unwrap();
    assert_eq!(detail.kind, DetailKind::SchedulerCrashed);
    assert!(detail.message.starts_with("scheduler process died"));
    assert_eq!(detail.phase.as_deref(), Some("Step[0]"));
    assert!(
        result.stats.phase(Phase::step(0)).is_some(),
        "the reports of the interrupted step are collected"
    );
}

#[test]
fn backdrop_workers_have_a_carrier_in_each_phase() {
    let (fake, topo) = (Fake::new(), topo());
    let ctx = Ctx::builder(&fake, &topo).duration(ms(1200)).build();
    let backdrop = Backdrop::new().push_cgroup(CgroupDef::named("bg"));
    let steps = vec![
        Step::hold(HoldSpec::frac(0.5)),
        Step::hold(HoldSpec::frac(0.5)),
    ];
    let result = execute_scenario(&ctx, backdrop, steps).unwrap();
    for k0 in [0, 1] {
        let bucket = result.stats.phase(Phase::step(k0)).unwrap();
        assert!(bucket.per_cgroup["bg"].total_iterations > 0, "step {k0}");
    }
    assert_eq!(result.stats.total_workers, 1);
}

#[test]
fn operations_change_cgroups_and_workers() {
    let (fake, topo) = (Fake::new(), topo());
    let ctx = Ctx::builder(&fake, &topo).duration(ms(500)).build();
    let pair = WorkSpec::new(WorkType::PipeIo { burst_iters: 4 }).workers(2);
    let steps = vec![Step {
        setup: vec![CgroupDef::named("b").cpuset(CpusetSpec::exact([1]))].into(),
        ops: vec![
            Op::add_cgroup("never_ran"),
            Op::spawn_in_cgroup("never_ran", WorkType::SpinWait),
            Op::stop_cgroup("never_ran"),
            Op::spawn_host(WorkSpec::default()),
            Op::stop_cgroup("a"),
            Op::remove_cgroup("a"),
            Op::remove_cgroup("never"),
        ],
        hold: HoldSpec::FULL,
    }];
    let backdrop = Backdrop::new().extend_ops([
        Op::add_cgroup("a"),
        Op::set_cpuset("a", CpusetSpec::exact([0])),
        Op::Spawn {
            placement: SpawnPlacement::cgroup("a"),
            work: pair,
        },
    ]);
    let result = execute_scenario(&ctx, backdrop, steps).unwrap();
    assert!(result.is_pass(), "{result:?}");
    let bucket = result.stats.phase(Phase::step(0)).unwrap();
    let names: Vec<_> = bucket.per_cgroup.keys().map(String::as_str).collect();
    assert_eq!(names, ["(runner)", "a", "b"]);
    let calls = fake.calls();
    assert_eq!(calls[0], "setup {Cpuset}");
    for call in ["set_cpuset a {0}", "set_cpuset b {1}", "remove_cgroup a"] {
        assert_eq!(calls.iter().filter(|c| *c == call).count(), 1, "{call}");
    }
}

#[test]
fn a_loop_runs_its_ops_again() {
    // The cpuset of `a` is set once for the backdrop, once at the start of the step, and then in each round. The second round
    // succeeds and the third fails, which ends the scenario. The number of calls is therefore the same on a busy host.
    let fake = Fake {
        fail_on: Some("set_cpuset a"),
        succeed_first: 4,
        ..Fake::new()
    };
    let topo = topo();
    let ctx = Ctx::builder(&fake, &topo).duration(ms(60_000)).build();
    let step = Step {
        setup: vec![
            CgroupDef::named("a").cpuset(CpusetSpec::exact([0])),
            CgroupDef::named("b").cpuset(CpusetSpec::exact([1])),
        ]
        .into(),
        ops: vec![],
        hold: HoldSpec::loop_at(ms(50)),
    };
    let backdrop = Backdrop::new().extend_cgroups(step.setup.defs(&ctx));
    let swap = Step::new(vec![Op::swap_cpusets("a", "b")], step.hold);
    let began = std::time::Instant::now();
    let result = execute_scenario(&ctx, backdrop, vec![swap]).unwrap();
    assert!(began.elapsed() >= ms(150), "{:?}", began.elapsed());
    let failures = failures(&result);
    assert!(
        failures.len() == 1 && failures[0].contains("pretend"),
        "{failures:?}"
    );
    let calls = fake.calls();
    let sets = calls.iter().filter(|c| c.starts_with("set_cpuset a"));
    assert_eq!(sets.count(), 5);
}

#[test]
fn limits_are_set_during_a_step() {
    let (fake, topo) = (Fake::new(), topo());
    let ctx = Ctx::builder(&fake, &topo).duration(ms(50)).build();
    let ops = vec![
        Op::add_cgroup("a"),
        Op::set_cpu_max("a", ms(20), ms(100)),
        Op::set_cpu_weight("a", 300),
        Op::set_cpu_idle("a", true),
        Op::set_uclamp_min("a", 12.5),
        Op::set_uclamp_max("a", None),
        Op::set_memory_high("a", 1 << 20),
        Op::set_pids_max("a", None),
        Op::kill_cgroup("a"),
    ];
    let steps = vec![Step::new(ops, HoldSpec::FULL)];
    let result = execute_steps(&ctx, steps).unwrap();
    assert!(result.is_pass(), "{:?}", failures(&result));
    let calls = fake.calls();
    assert_eq!(calls[0], "setup {Cpu, Memory, Pids}");
    for call in [
        "set_cpu_max a Some(20000) 100000",
        "set_cpu_weight a 300",
        "set_file a cpu.idle 1",
        "set_file a cpu.uclamp.min 12.50",
        "set_file a cpu.uclamp.max max",
        "set_memory_high a Some(1048576)",
        "set_pids_max a None",
        "set_file a cgroup.kill 1",
        // The quota is lifted before the workers are stopped.
        "set_cpu_max a None 100000",
    ] {
        assert!(calls.iter().any(|c| c == call), "{call}: {calls:?}");
    }
}

/// Workers need CPU time to stop. The quota of a cgroup above theirs is therefore lifted until they have stopped.
#[test]
fn a_quota_above_is_lifted_while_workers_stop() {
    let (fake, topo) = (Fake::new(), topo());
    let ctx = Ctx::builder(&fake, &topo).duration(ms(50)).build();
    let below = vec![CgroupDef::named("a/b").workers(1)];
    let steps = vec![Step::with_defs(below, HoldSpec::FULL)];
    let backdrop =
        Backdrop::new().extend_ops([Op::add_cgroup("a"), Op::set_cpu_max("a", ms(20), ms(100))]);
    let result = execute_scenario(&ctx, backdrop, steps).unwrap();
    assert!(result.is_pass(), "{:?}", failures(&result));
    let calls = fake.calls();
    let wanted = ["set_cpu_max a ", "remove_cgroup a/b"];
    let own = calls
        .iter()
        .filter(|c| wanted.iter().any(|w| c.starts_with(w)));
    assert_eq!(
        own.collect::<Vec<_>>(),
        [
            "set_cpu_max a Some(20000) 100000",
            "set_cpu_max a None 100000",
            "set_cpu_max a Some(20000) 100000",
            "remove_cgroup a/b",
            "set_cpu_max a None 100000",
        ]
    );
}

#[test]
fn the_cgroups_below_a_removed_one_are_removed_first() {
    let (fake, topo) = (Fake::new(), topo());
    let ctx = Ctx::builder(&fake, &topo).duration(ms(50)).build();
    let backdrop = Backdrop::new()
        .push_cgroup(CgroupDef::named("a/b/c").workers(1))
        .push_op(Op::add_cgroup("a/b"))
        .push_op(Op::add_cgroup("ab"));
    let ops = vec![Op::add_cgroup("a"), Op::remove_cgroup("a")];
    let result = execute_scenario(&ctx, backdrop, vec![Step::new(ops, HoldSpec::FULL)]).unwrap();
    assert!(result.is_pass(), "{:?}", failures(&result));
    assert_eq!(result.stats.total_workers, 1);
    let calls = fake.calls();
    let removed = calls.iter().filter(|c| c.starts_with("remove_cgroup"));
    let names = ["a/b/c", "a/b", "a", "ab"].map(|name| format!("remove_cgroup {name}"));
    assert_eq!(removed.cloned().collect::<Vec<_>>(), names);
}

#[test]
fn an_invalid_operation_says_what_to_do() {
    let (fake, topo) = (Fake::new(), topo());
    let ctx = Ctx::builder(&fake, &topo).duration(ms(20)).build();
    let spawn = Op::spawn(SpawnPlacement::cgroup(""), WorkSpec::default());
    let cases: [(Op, &[&str]); 11] = [
        (
            spawn,
            &[
                "Op::Spawn(SpawnPlacement::Cgroup)",
                "cgroup name is empty",
                "SpawnPlacement::runner_cgroup",
            ],
        ),
        (Op::capture_snapshot("x"), &["host_only"]),
        (
            Op::capture_snapshot("x".repeat(65)),
            &["65 bytes", "1 to 64"],
        ),
        (Op::watch_snapshot("vm_swappiness"), &["host_only"]),
        (Op::watch_snapshot(""), &["0 bytes", "1 to 64"]),
        (
            Op::write_kernel_cold(KernelTarget::kva(16), KernelValue::bytes([])),
            &["no bytes", "0x10"],
        ),
        (
            Op::read_kernel_hot("x", KernelTarget::kva(16), KernelValueWidth::bytes(5000)),
            &["5000 bytes", "1 to 4096"],
        ),
        (Op::cpu_offline(1), &["host_only"]),
        (Op::steer_irq(IrqSelector::by_number(1), 1), &["host_only"]),
        (Op::set_uclamp_min("later", 101.0), &["101 percent"]),
        (
            Op::set_cpu_idle("later", true),
            &["later", "before its setup"],
        ),
    ];
    for (op, words) in cases {
        let setup = vec![CgroupDef::named("later")].into();
        let ops = vec![op];
        let hold = HoldSpec::FULL;
        let result = execute_steps(&ctx, vec![Step { setup, ops, hold }]).unwrap();
        let printed = failures(&result).join("\n");
        for word in words {
            assert!(printed.contains(word), "no {word:?} in {printed:?}");
        }
    }
}

#[test]
fn the_workers_of_a_step_find_new_objects() {
    // Each worker of a step blocks, or completes its phases and waits for the stop, before the step ends.
    let fake = Fake {
        lifts_late: true,
        ..Fake::new()
    };
    let topo = topo();
    let ctx = Ctx::builder(&fake, &topo).duration(ms(100)).build();
    let name = || "x".to_owned();
    let barrier = || RtAction::Barrier {
        name: name(),
        threads: 2,
    };
    let work = |actions: &[RtAction]| {
        WorkType::rt_app(
            vec![RtPhase::once(actions.to_vec())],
            1,
            Duration::ZERO,
            false,
        )
    };
    // Returns how many phases the worker of the second step completes after the first step's worker has ended.
    let second = |backdrop: Backdrop, first: &[RtAction], then: &[RtAction]| {
        let step = |actions: &[RtAction]| {
            let def = CgroupDef::named("a").cpu_quota_pct(100);
            Step::with_defs(vec![def.work_type(work(actions))], HoldSpec::frac(0.5))
        };
        let steps = vec![step(first), step(then)];
        let result = execute_scenario(&ctx, backdrop, steps).unwrap();
        let bucket = result.stats.phase(Phase::step(1)).unwrap();
        bucket.per_cgroup["a"].total_iterations
    };
    let none = Backdrop::new;
    assert_eq!(second(none(), &[barrier()], &[barrier()]), 0);
    let (post, take) = ([RtAction::SemPost(name())], [RtAction::SemWait(name())]);
    assert_eq!(second(none(), &post, &take), 0);
    // A worker of the backdrop still uses the semaphore, so the semaphore is not reset.
    let later = [RtAction::Sleep(ms(60_000)), RtAction::SemWait(name())];
    let kept = Backdrop::new().push_cgroup(CgroupDef::named("bg").work_type(work(&later)));
    assert_eq!(second(kept, &post, &take), 1);
}

/// The workers of a cgroup without a cpuset are judged by the cpuset of the cgroup above it.
#[test]
fn workers_below_a_cpuset_are_judged_by_it() {
    // The fake tree enforces nothing, so the workers run where this thread may: on one CPU that is not in the cpuset.
    let here = rustix::thread::sched_getaffinity(None).unwrap();
    let own = (0..1023).find(|cpu| here.is_set(*cpu)).unwrap();
    let mut only = rustix::thread::CpuSet::new();
    only.set(own);
    rustix::thread::sched_setaffinity(None, &only).unwrap();
    let fake = Fake::new();
    let topo = TestTopology::from_vm_topology(&Topology::new(1, 1, own as u32 + 2, 1));
    let ctx = Ctx::builder(&fake, &topo).duration(ms(100)).build();
    let steps = vec![Step {
        setup: vec![CgroupDef::named("a/x").workers(1)].into(),
        ops: vec![
            Op::add_cgroup("a"),
            Op::set_cpuset("a", CpusetSpec::exact([own + 1])),
        ],
        hold: HoldSpec::FULL,
    }];
    let checks = Assert::NO_OVERRIDES.check_isolation();
    let result = execute_steps_with(&ctx, steps, Some(&checks)).unwrap();
    rustix::thread::sched_setaffinity(None, &here).unwrap();
    let kinds: Vec<_> = result.failure_details().map(|d| d.kind).collect();
    assert_eq!(kinds, [DetailKind::Isolation], "{result:?}");
}

#[test]
fn a_partition_is_allowed_its_cpus_and_all_others_are_not() {
    let fake = Fake::new();
    let topo = TestTopology::from_vm_topology(&Topology::new(1, 1, 4, 1));
    let ctx = Ctx::builder(&fake, &topo).build();
    let mut scenario = LiveScenario::new(false, None).unwrap();
    scenario.add(&ctx, Owner::Backdrop, "a").unwrap();
    let b = scenario.add(&ctx, Owner::Step, "b").unwrap();
    (b.cpuset, b.partition) = (Some(BTreeSet::from([1])), CpusetPartition::Root);
    scenario.note_effective_cpus(&ctx);
    scenario.add(&ctx, Owner::Backdrop, "a/x").unwrap();
    let mut allowed = |name| {
        let allowed = scenario.get(name).unwrap().allowed.cpus();
        allowed.map(|cpus| cpus.iter().copied().collect::<Vec<_>>())
    };
    assert_eq!(allowed("a"), Some(vec![0, 2, 3]));
    assert_eq!(allowed("a/x"), Some(vec![0, 2, 3]));
    assert_eq!(allowed("b"), Some(vec![1]));
    // The step ends, and the partition with it.
    let mut result = AssertResult::pass();
    scenario.tear_down(&ctx, Owner::Step, &mut result);
    assert_eq!(scenario.get("a").unwrap().allowed.cpus(), None);
    let written = "set_file b cpuset.cpus.partition member";
    assert!(
        fake.calls().iter().any(|call| call == written),
        "{:?}",
        fake.calls()
    );
}

#[test]
fn captures_are_rejected_in_a_looping_step() {
    let (fake, topo) = (Fake::new(), topo());
    let ctx = Ctx::builder(&fake, &topo).duration(ms(20)).build();
    let hold = HoldSpec::loop_at(ms(5));
    for op in [
        Op::capture_snapshot("x"),
        Op::capture_cgroup_procs("x", "a"),
        Op::watch_snapshot("x"),
        Op::read_kernel_hot("x", KernelTarget::kva(16), KernelValueWidth::u32()),
        Op::read_kernel_cold("x", KernelTarget::kva(16), KernelValueWidth::u32()),
    ] {
        let error = execute_steps(&ctx, vec![Step::with_op(op, hold)]).unwrap_err();
        assert!(error.to_string().contains("HoldSpec::Loop"), "{error:#}");
    }
    assert_eq!(fake.calls(), [""; 0], "nothing has run");
}

#[test]
fn workers_of_the_backdrop_live_on_in_the_harnesss_own_cgroup() {
    let (fake, topo) = (Fake::new(), topo());
    let ctx = Ctx::builder(&fake, &topo).duration(ms(200)).build();
    let backdrop = Backdrop::from_cgroups([CgroupDef::named("a").workers(1)]);
    let half = HoldSpec::frac(0.5);
    let steps = vec![
        Step::with_op(Op::move_all_tasks("a", ""), half),
        Step::hold(half),
    ];
    let result = execute_scenario(&ctx, backdrop, steps).unwrap();
    assert!(result.is_pass(), "{result:?}");
    let last = result.stats.phase(Phase::step(1)).unwrap();
    let workers: Vec<_> = last.per_cgroup.values().map(|c| c.num_workers).collect();
    assert_eq!(workers, [1], "{last:?}");
}
