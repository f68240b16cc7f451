//! Tests of the attribution of faults in virtual machines: a workload that starves itself, and a busy host. A run with all kinds
//! of measurements tests that every metric of workers has a value.

#[macro_use]
mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ktstr::prelude::*;
use ktstr::run::Fault;
use ktstr::test_support::ClockMode;

const SCX_KTSTR: Scheduler =
    Scheduler::named("scx_ktstr").binary(SchedulerSpec::Discover("scx-ktstr"));
const TWO_CPUS: Topology = Topology::new(1, 1, 2, 1);

fn real_time_hog(ctx: &Ctx) -> Result<AssertResult> {
    let on_one = |name| {
        CgroupDef::named(name)
            .cpuset(CpusetSpec::exact([1]))
            .workers(1)
    };
    execute_defs(
        ctx,
        vec![
            on_one("hog").sched_policy(SchedPolicy::fifo(50)),
            on_one("victim"),
        ],
    )
}
case!(HOG = "real_time_hog", real_time_hog, scheduler: &SCX_KTSTR, topology: TWO_CPUS,
    duration: Duration::from_secs(3), watchdog_timeout: Duration::from_secs(20),
    assert: Assert::NO_OVERRIDES.check_not_stuck().max_gap_ms(300));

#[test]
fn a_real_time_worker_that_starves_others_is_the_workloads_fault() {
    let finished = ktstr::run::run(&HOG);
    assert_eq!(finished.exit_code(), 1, "{}", finished.text);
    assert_eq!(finished.fault, Some(Fault::Test), "{}", finished.text);
    let evidence = finished.evidence.expect("a fault has its evidence");
    assert!(
        evidence.starts_with("the test's real-time task SpinWait["),
        "{evidence}"
    );
    assert!(evidence.contains("] in cgroup hog "), "{evidence}");
    assert!(finished.text.contains("stuck"), "{}", finished.text);
}

/// Starves a worker by a real-time thread of the test's own, which no result of the scenario names.
fn real_time_thread(ctx: &Ctx) -> Result<AssertResult> {
    static STOP: AtomicBool = AtomicBool::new(false);
    let victim = CgroupDef::named("victim").cpuset(CpusetSpec::exact([1]));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            bind_to_cpu_1_as_fifo();
            while !STOP.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let result = execute_defs(ctx, vec![victim.workers(1)]);
        STOP.store(true, Ordering::Relaxed);
        result
    })
}
case!(THREAD = "real_time_thread", real_time_thread, scheduler: &SCX_KTSTR, topology: TWO_CPUS,
    duration: Duration::from_secs(2), watchdog_timeout: Duration::from_secs(20),
    assert: Assert::NO_OVERRIDES.check_not_stuck().max_gap_ms(300));

fn bind_to_cpu_1_as_fifo() {
    // SAFETY: both structures are plain data, of which all zeros are valid, and live on this stack; 0 is the calling thread.
    unsafe {
        let mut cpus: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(1, &mut cpus);
        assert_eq!(
            libc::sched_setaffinity(0, size_of_val(&cpus), &raw const cpus),
            0
        );
        let param = libc::sched_param { sched_priority: 50 };
        assert_eq!(
            libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param),
            0
        );
    }
}

#[test]
fn a_real_time_thread_of_the_test_that_starves_a_worker_is_the_tests_fault() {
    let finished = ktstr::run::run(&THREAD);
    assert_eq!(finished.exit_code(), 1, "{}", finished.text);
    assert_eq!(finished.fault, Some(Fault::Test), "{}", finished.text);
    let evidence = finished.evidence.expect("a fault has its evidence");
    assert!(evidence.contains("real-time task"), "{evidence}");
}

/// Runs workers of the least weight beside workers of the greatest, which are stopped later: after them in the same step, and
/// with the backdrop.
fn light_beside_heavy(ctx: &Ctx) -> Result<AssertResult> {
    let light = || CgroupDef::named("light").workers(2).nice(19);
    let heavy = || CgroupDef::named("heavy").workers(2).nice(-20);
    let began = std::time::Instant::now();
    let mut result = execute_defs(ctx, vec![light(), heavy()])?;
    let took_ms = began.elapsed().as_millis() as u64;
    let mut verdict = Verdict::new();
    // The stop helps the light workers after 200 ms; without help it takes 5 s.
    let claim = verdict.claim("ms until the workers were stopped", took_ms);
    claim.at_most(2_000);
    result.merge(verdict.into_result());
    let step = Step::with_defs(vec![light()], HoldSpec::frac(0.2));
    let backdrop = Backdrop::new().push_cgroup(heavy());
    result.merge(execute_scenario(ctx, backdrop, vec![step])?);
    Ok(result)
}
case!(LIGHT = "light_beside_heavy", light_beside_heavy, scheduler: &SCX_KTSTR, topology: TWO_CPUS,
    duration: Duration::from_secs(1));
case!(LIGHT_EEVDF = "light_beside_heavy_eevdf", light_beside_heavy, topology: TWO_CPUS,
    duration: Duration::from_secs(1));

/// The stop of workers that the scheduler rightly gives next to nothing neither takes seconds nor has the scheduler ejected.
#[test]
fn a_scheduler_is_not_blamed_for_the_stop_of_light_workers() {
    for entry in [&LIGHT, &LIGHT_EEVDF] {
        let finished = ktstr::run::run(entry);
        assert_eq!(finished.exit_code(), 0, "{}", finished.text);
    }
}

fn undecided(_: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::inconclusive_msg("the sample was too small"))
}
case!(UNDECIDED = "undecided", undecided, duration: Duration::from_secs(1));

#[test]
fn a_test_that_cannot_decide_is_not_the_harnesss_fault() {
    let finished = ktstr::run::run(&UNDECIDED);
    assert_eq!(finished.exit_code(), 2, "{}", finished.text);
    assert_eq!(finished.fault, Some(Fault::Test), "{}", finished.text);
}

case!(STARVED = "busy_host", scenarios::steady, scheduler: &SCX_KTSTR, topology: TWO_CPUS,
    duration: Duration::from_secs(2), watchdog_timeout: Duration::from_secs(20),
    clock: ClockMode::Real,
    assert: Assert::NO_OVERRIDES.check_not_stuck().check_isolation());

/// Makes runs while two busy loops for each CPU of the host use its CPUs. `KTSTR_STARVED_RUNS` sets the number of runs; the
/// default is 3.
#[test]
fn a_starved_host_is_never_a_failure() {
    static STOP: AtomicBool = AtomicBool::new(false);
    let runs = std::env::var("KTSTR_STARVED_RUNS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(3);
    std::thread::scope(|scope| {
        let cpus = std::thread::available_parallelism().map_or(2, |cpus| cpus.get());
        for _ in 0..2 * cpus {
            scope.spawn(|| {
                while !STOP.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let outcomes: Vec<_> = (0..runs).map(|_| ktstr::run::run(&STARVED)).collect();
        STOP.store(true, Ordering::Relaxed);
        let mut judged = 0;
        for finished in outcomes {
            assert!(!finished.result.is_fail(), "{}", finished.text);
            // With several threads, QEMU may execute stale code after the kernel has patched it (ARCHITECTURE.md). Such a
            // run has ended before the host's load could matter.
            if finished.fault == Some(Fault::Harness)
                && finished.text.contains("a breakpoint that it had removed")
            {
                continue;
            }
            judged += 1;
            let vm = finished.vm.as_ref().expect("it ran");
            let stat = vm
                .host_vcpu_schedstat
                .expect("the schedstat of the host was read");
            assert!(stat.dilation() > 1.2, "{stat:?}");
            println!("dilation {:.2}: {:?}", stat.dilation(), finished.verdict);
            if finished.result.is_inconclusive() {
                assert_eq!(finished.fault, Some(Fault::Host), "{}", finished.text);
            }
        }
        assert!(judged > 0, "QEMU ended all runs");
    });
}

/// Cgroups with all kinds of measurements: wakeups, timers, the two benchmarks, and periods of rt-app threads.
const MEASURING: [&str; 5] = ["pipes", "timers", "schbench", "taobench", "periods"];

fn all_measures(ctx: &Ctx) -> Result<AssertResult> {
    let [pipes, timers, schbench, taobench, periods] = MEASURING.map(CgroupDef::named);
    let requests = SchbenchConfig::DEFAULT.worker_threads(2);
    // Look-ups have latencies only if there is an arrival rate.
    let look_ups = TaobenchConfig::DEFAULT
        .client_threads(1)
        .cache_capacity_mib(1);
    let look_ups = look_ups.arrival_rate(200);
    let period = RtAction::Timer {
        name: "tick".to_owned(),
        period: Duration::from_millis(20),
        absolute: false,
        shared: false,
    };
    let work = [RtAction::Run(Duration::from_millis(1)), period];
    let work = WorkType::rt_app(vec![RtPhase::once(work)], 0, Duration::ZERO, false);
    execute_defs(
        ctx,
        vec![
            pipes
                .work_type(WorkType::PipeIo { burst_iters: 64 })
                .workers(2),
            timers
                .work_type(WorkType::TimerLatency { interval_us: 1000 })
                .workers(2),
            schbench.work_type(WorkType::schbench(requests)).workers(1),
            taobench.work_type(WorkType::taobench(look_ups)).workers(1),
            periods.work_type(work).workers(1),
        ],
    )
}

// The workers' pages are counted only if a check needs them, so this entry has a bound on them, which always holds.
case!(MEASURED = "measured", all_measures, scheduler: &SCX_KTSTR, topology: TWO_CPUS,
    assert: Assert::NO_OVERRIDES.min_page_locality(0.0), duration: Duration::from_secs(1),
    watchdog_timeout: Duration::from_secs(20));

#[test]
fn every_metric_of_workers_has_a_value_in_a_real_run() {
    use ktstr::assert::metric::{MetricKind, REGISTRY, Source};

    let finished = ktstr::run::run(&MEASURED);
    let vm = finished.vm.as_ref().expect("it ran");
    let step = Phase::step(0);
    for def in REGISTRY.iter().filter(|def| def.source == Source::Workers) {
        let value = match def.kind {
            MetricKind::PerPhase => MEASURING
                .iter()
                .find_map(|cgroup| vm.phase_cgroup_metric(step, cgroup, def.name)),
            _ => vm.run_metric(def.name),
        };
        assert!(value.is_some_and(f64::is_finite), "{}: {value:?}", def.name);
    }
    for name in [
        "total_migrations",
        "total_iterations",
        "total_cpu_time_ns",
        "iteration_rate",
    ] {
        assert!(vm.phase_metric(step, name).is_some(), "{name}");
    }
    for def in REGISTRY.iter().filter(|def| def.source == Source::Pending) {
        assert_eq!(vm.run_metric(def.name), None, "{}", def.name);
    }
}

/// Workers of the highest real-time priority on every CPU, in a step and in a work type of its own.
fn highest_priority(ctx: &Ctx) -> Result<AssertResult> {
    let rt = CgroupDef::named("rt").workers(2);
    let mut result = execute_defs(ctx, vec![rt.sched_policy(SchedPolicy::fifo(99))])?;
    let own = WorkType::RtStarvation {
        rt_workers: 2,
        cfs_workers: 0,
        rt_priority: 98,
        burst_iters: 1024,
    };
    let own = CgroupDef::named("own").work_type(own).workers(2);
    result.merge(execute_defs(ctx, vec![own])?);
    Ok(result)
}
case!(HIGHEST = "highest_priority", highest_priority, topology: TWO_CPUS, duration: Duration::from_secs(1));

#[test]
fn workers_of_the_highest_priority_are_stopped_and_told_of() {
    let finished = ktstr::run::run(&HIGHEST);
    assert_eq!(finished.exit_code(), 0, "{}", finished.text);
    let notes = &finished.result.info_notes;
    for (cgroup, priority) in [("rt", 99), ("own", 98)] {
        let told = format!(
            "cgroup {cgroup}: a worker has the real-time priority 97 instead of {priority}"
        );
        let told = notes.iter().filter(|note| note.message.starts_with(&told));
        assert_eq!(told.count(), 1, "{notes:?}");
    }
}
