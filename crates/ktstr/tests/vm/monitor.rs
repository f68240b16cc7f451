//! Tests of the monitor in virtual machines: its samples of a healthy run, a defective scheduler for each of its bounds, and the
//! report about a scheduler that the kernel ejected. Sampling must not change the run.

use std::time::Duration;

use crate::common::{Case, scx_ktstr};
use anyhow::Result;
use ktstr::assert::monitor::{MonitorReport, MonitorThresholds, WaitsIn};
use ktstr::prelude::*;
use ktstr::run::{Fault, Finished, run};

/// Twice as many spinning workers as CPUs, and some that sleep.
fn contended(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    execute_defs(
        ctx,
        vec![
            CgroupDef::named("spin").workers(2 * cpus),
            CgroupDef::named("burst")
                .workers(2)
                .work_type(WorkType::bursty(
                    Duration::from_millis(3),
                    Duration::from_millis(2),
                )),
        ],
    )
}

/// Declares entries: name, function, seconds of the window, scheduler and its stall timeout, checks, and machine.
macro_rules! monitored {
    ($($entry:ident = $name:literal, $func:expr, $seconds:literal, $sched:ident $timeout:literal,
        $assert:expr, $topology:ident $clock:ident;)*) => { $(
        case!($entry = $name, $func, clock: ClockMode::$clock, num_snapshots: 0,
            topology: $topology, duration: Duration::from_secs($seconds), scheduler: &$sched,
            watchdog_timeout: Duration::from_secs($timeout), assert: $assert);
    )* };
}

monitored! {
    CONTENDED = "contended", contended, 2, SCHED 5, MONITORED, TWO Virtual;
    IN_REAL_TIME = "in_real_time", contended, 2, SCHED 5, UNASKED, TWO Real;
    UNEVEN = "uneven", crowded, 2, SCATTERSHOT 5, UNEVEN_BOUNDS, FOUR Virtual;
    UNEVEN_NOT = "uneven_not", crowded, 2, SCHED 5, UNEVEN_BOUNDS, FOUR Virtual;
    KEEPS_LAST = "keeps_last", crowded, 2, SLOW 5, KEEP_LAST_BOUNDS, TWO Virtual;
    KEEPS_LAST_NOT = "keeps_last_not", crowded, 2, SCHED 5, KEEP_LAST_BOUNDS, TWO Virtual;
    IDLES = "idles", contended, 3, STALLS_SOON 20, MONITORED, TWO Virtual;
    STANDS_STILL = "stands_still", stands_still, 4, SCHED 20, CLOCK_BOUND, TWO Virtual;
    STANDS_STILL_UNASKED = "stands_still_unasked", stands_still, 4, SCHED 20, MAY_WAIT, TWO Virtual;
    WEDGED = "wedged", wedged, 6, SCHED 5, MONITORED, TWO Real;
    // The scheduler stalls at 11.5 s. By then the kernel's watchdog has run once, after 10 s, which is half of the scheduler's
    // own timeout of 20 s. From then on it runs every second, which is half of the test's timeout.
    STALLED = "stalled", half_loaded, 16, STALLS_LATE 2, UNASKED, TWO Virtual;
    // The ejection ends the run, so the window can be long enough for any host.
    STALLED_IN_REAL_TIME = "stalled_real", half_loaded, 60, STALLS_LATE 2, UNASKED, TWO Real;
    FAIR = "fair", crowded, 1, KERNELS_OWN 5, MONITORED, FOUR Virtual;
    FAIR_CONFINED = "fair_confined", confined, 1, KERNELS_OWN 5, MONITORED, FOUR Virtual;
    HEALTHY_CONTENDED = "healthy_contended", contended, 1, SCHED 5, MONITORED, FOUR Virtual;
    HEALTHY_CROWDED = "healthy_crowded", crowded, 1, SCHED 5, MONITORED, FOUR Virtual;
    HEALTHY_CONFINED = "healthy_confined", confined, 1, SCHED 5, MONITORED, FOUR Virtual;
    HEALTHY_HALF = "healthy_half", half_loaded, 1, SCHED 5, MONITORED, FOUR Virtual;
}

const SCHED: Scheduler = scx_ktstr(&[]);
const KERNELS_OWN: Scheduler = Scheduler::EEVDF;
const SCATTERSHOT: Scheduler = scx_ktstr(&["--scattershot"]);
const SLOW: Scheduler = scx_ktstr(&["--slow"]);
const STALLS_SOON: Scheduler = scx_ktstr(&["--stall-after", "0.5"]);
const STALLS_LATE: Scheduler = scx_ktstr(&["--stall-after", "11.5"]);
const TWO: Topology = Topology::new(1, 1, 2, 1);
const FOUR: Topology = Topology::new(1, 2, 2, 1);

const UNASKED: Assert = Assert::NO_OVERRIDES;
const MONITORED: Assert = Assert::NO_OVERRIDES.with_monitor_defaults();
const ENFORCED: Assert = Assert {
    enforce_monitor_thresholds: true,
    ..Assert::NO_OVERRIDES
};
const UNEVEN_BOUNDS: Assert = ENFORCED
    .max_imbalance_ratio(1.3)
    .max_local_dsq_depth(1)
    .sustained_samples(3);
/// A stopped clock also makes tasks wait, so the schedule is unfair too. Which of the checks on the schedule fails depends on
/// the task that waits. The tests of the clock do without these checks.
const MAY_WAIT: Assert = UNASKED.without_defaults();
const CLOCK_BOUND: Assert = ENFORCED.fail_on_rq_clock_stuck(true).without_defaults();
const KEEP_LAST_BOUNDS: Assert = ENFORCED.max_keep_last_rate(10.0).sustained_samples(3);

/// Returns a copy of the entry with a change that the guest does not use. It is leaked, because declarations live as long as
/// the program.
fn with(
    entry: &KtstrTestEntry,
    change: impl FnOnce(&mut KtstrTestEntry),
) -> &'static KtstrTestEntry {
    let mut entry = *entry;
    change(&mut entry);
    Box::leak(Box::new(entry))
}

fn monitor(finished: &Finished) -> &MonitorReport {
    let vm = finished.vm.as_ref().expect("a machine ran");
    vm.monitor.as_ref().expect("the monitor was on")
}

/// Runs the entry, and fails with its text if the verdict does not match `pass`.
fn ended(entry: &'static KtstrTestEntry, pass: bool) -> Finished {
    let finished = run(entry);
    assert_eq!(finished.text.is_empty(), pass, "{}", finished.text);
    finished
}

/// Returns whether this kernel counts sched_ext's events, which kernels from 6.15 on do.
fn counts_events() -> bool {
    let kernel = ktstr_kernel::resolve(None, &mut |_| {}).expect("a kernel");
    let types = kernel.btf_bytes().expect("types");
    let name = b"scx_event_stats";
    types.windows(name.len()).any(|part| part == name)
}

fn has_note(finished: &Finished, part: &str) -> bool {
    let notes = &finished.result.info_notes;
    notes.iter().any(|note| note.message.contains(part))
}

fn fails_with(entry: &'static KtstrTestEntry, parts: &[&str]) -> Finished {
    let finished = ended(entry, false);
    assert_eq!(finished.fault, Some(Fault::Scheduler), "{}", finished.text);
    for part in parts {
        let text = &finished.text;
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    finished
}

/// Checks that there is a sample every 100 ms, with plausible values for a machine with more runnable tasks than CPUs.
fn is_sane(finished: &Finished) {
    let report = monitor(finished);
    assert_eq!(report.unavailable, None);
    let times: Vec<u64> = report.samples.iter().map(|s| s.elapsed_ms).collect();
    assert!((17..=20).contains(&times.len()), "{times:?} in 2 s");
    for (i, sample) in report.samples.iter().enumerate() {
        assert_eq!(sample.cpus.len(), 2);
        assert_eq!(sample.scx_attached, Some(true));
        let runnable: u32 = sample.cpus.iter().map(|c| c.nr_running).sum();
        // Four workers spin, and two more wake now and then. A task that is being passed to another CPU is counted on neither.
        assert!((2..14).contains(&runnable), "{runnable} runnable tasks");
        for (c, cpu) in sample.cpus.iter().enumerate() {
            let waiting = cpu.waiting.as_ref().expect("who waits is known");
            let running = usize::from(cpu.idle == Some(false));
            // A task that is just being passed to the BPF scheduler may be neither among the waiting tasks nor running.
            let known = waiting.len() + running;
            assert!(known.abs_diff(cpu.nr_running as usize) <= 1, "{cpu:?}");
            assert!(waiting.iter().all(|t| t.pid > 0 && !t.comm.is_empty()));
            if let Some(before) = i.checked_sub(1).map(|b| &report.samples[b].cpus[c]) {
                assert!(before.rq_clock < cpu.rq_clock, "cpu{c} at {:?}", times[i]);
                let delay = |c: &ktstr::assert::monitor::CpuSnapshot| {
                    c.schedstat.expect("every kernel has these").run_delay
                };
                assert!(delay(before) <= delay(cpu) && before.nr_switches < cpu.nr_switches);
            }
        }
    }
    let summary = &report.summary;
    assert!((2.0..7.0).contains(&summary.avg_nr_running), "{summary:?}");
    let domains = report.samples[0].cpus[0].sched_domains.as_ref();
    let domain = domains.and_then(|all| all.first()).expect("two CPUs");
    assert_eq!(domain.span_weight, 2, "{domain:?}");
}

/// Checks the metrics of the run and of its only phase; those that this kernel does not count are absent.
fn has_metrics(vm: &VmResult) {
    let length = vm.run_metric("avg_nr_running").expect("the monitor's");
    assert!((2.0..7.0).contains(&length), "{length}");
    assert_eq!(vm.run_metric("stuck_count"), Some(0.0));
    let events = ["total_event_vcpu_sec", "total_fallback"].map(|name| vm.run_metric(name));
    match (counts_events(), events) {
        (true, [Some(seconds), Some(0.0)]) => assert!((3.0..=4.0).contains(&seconds), "{seconds}"),
        (false, [None, None]) => {}
        (_, other) => panic!("events: {other:?}"),
    }
    assert_eq!(vm.run_metric("total_ttwu_count"), None);
    let delay = |value: Option<f64>| value.expect("every kernel has it");
    let whole = delay(vm.run_metric("total_run_delay"));
    let phase = delay(vm.phase_metric(Phase::step(0), "total_run_delay"));
    assert!(0.0 < phase && phase <= whole, "{phase} of {whole}");
}

#[test]
fn a_healthy_run_is_sampled_and_passes() {
    let finished = ended(&CONTENDED, true);
    is_sane(&finished);
    assert_eq!(monitor(&finished).torn_samples, 0);
    assert_eq!(
        monitor(&finished).scx_event_counters_supported,
        counts_events()
    );
    // Under the virtual clock, a vCPU's share of the host is meaningless.
    assert!(
        monitor(&finished).samples[0].cpus[0]
            .vcpu_cpu_time_ns
            .is_none()
    );
    has_metrics(finished.vm.as_ref().expect("a machine ran"));
}

#[test]
fn a_running_guest_is_sampled_too() {
    // Whatever the other load of this host does to the run, the samples must be consistent.
    let finished = ended(&IN_REAL_TIME, true);
    let report = monitor(&finished);
    let vm = finished.vm.as_ref().expect("a machine ran");
    let host = vm
        .host_vcpu_schedstat
        .expect("the schedstat of its threads was read");
    assert!(host.sampled_vcpus == 2 && host.total_on_cpu_ns > 0 && host.dilation() >= 1.0);
    // On a busy host, samples may come late, and vCPUs may be stopped in the middle of what a sample reads.
    let (least, torn) = match host.dilation() > 1.5 {
        true => (2, u64::MAX),
        false => (10, 3),
    };
    let n = report.samples.len() as u64 + report.torn_samples;
    // The guest's message that the window ends may come late, too.
    let most = 20 + host.total_run_delay_ns / 80_000_000;
    assert!((least..=most).contains(&n), "{n} samples in 2 s");
    let are_torn = report.torn_samples;
    assert!(are_torn <= torn, "{are_torn} are torn");
    for pair in report.samples.windows(2) {
        for (before, now) in pair[0].cpus.iter().zip(&pair[1].cpus) {
            assert!(before.rq_clock <= now.rq_clock);
            assert!(before.vcpu_cpu_time_ns.is_some());
            assert!(before.vcpu_cpu_time_ns <= now.vcpu_cpu_time_ns);
            assert!(before.vcpu_run_delay_ns <= now.vcpu_run_delay_ns);
        }
    }
}

#[test]
fn sampling_changes_nothing() {
    let digest = |monitor: &str| {
        let ended = Case::new("contended").env("KTSTR_MONITOR", monitor).run();
        assert_eq!(ended.code, Some(0), "{}", ended.text);
        let samples = ended.artefact("monitor.json");
        assert_eq!(samples.is_empty(), monitor == "0");
        let record = ended.record.expect("the run left a record").record;
        record.digest.expect("a virtual run has a digest")
    };
    assert_eq!(digest("1"), digest("0"));
}

/// Four workers per CPU, each of which may run on all CPUs.
fn crowded(ctx: &Ctx) -> Result<AssertResult> {
    let workers = 4 * ctx.topo.total_cpus();
    execute_defs(ctx, vec![CgroupDef::named("crowd").workers(workers)])
}

#[test]
fn local_queues_filled_blindly_are_uneven_and_deep() {
    ended(&UNEVEN_NOT, true);
    fails_with(
        &UNEVEN,
        &["imbalance ratio above 1.3", "local DSQ deeper than 1"],
    );
}

#[test]
fn a_cpu_that_goes_on_with_its_task_while_others_wait() {
    let healthy = ended(&KEEPS_LAST_NOT, true);
    let noted = has_note(&healthy, "counts no sched_ext events");
    assert_eq!(noted, !counts_events());
    if noted {
        // Nothing is checked, and a note says so.
        let slow = ended(&KEEPS_LAST, true);
        assert!(has_note(&slow, "counts no sched_ext events"));
        return;
    }
    fails_with(
        &KEEPS_LAST,
        &["dispatch_keep_last above 10 events per vCPU-second"],
    );
}

#[test]
fn idle_cpus_beside_waiting_tasks() {
    fails_with(
        &IDLES,
        &[
            ", which may run there, waited",
            "waited and got no CPU while cpu",
        ],
    );
}

/// Blocks the CPUs in the middle of the window.
fn wedged(ctx: &Ctx) -> Result<AssertResult> {
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_millis(500));
        crate::common::wedge::loop_with_interrupts_off()
    });
    contended(ctx)
}

#[test]
fn runqueue_clocks_that_do_not_advance() {
    // The run is under the real clock: under the virtual clock a sample is taken while the guest is held, and the guest is no
    // longer held once no CPU takes timer interrupts.
    let finished = ended(&WEDGED, false);
    // Nothing in the guest shows that the program that blocks the CPUs belongs to the test, so nobody is blamed.
    assert_eq!(
        finished.fault,
        Some(Fault::Undetermined),
        "{}",
        finished.text
    );
    let still = "runqueue clocks did not advance ";
    assert!(finished.text.contains(still), "{}", finished.text);
}

/// Makes the timer interrupts of the second CPU last for most of a second, and ends like any other run. The scheduler is blamed
/// for the test's program here, because nothing in the guest shows whose program it is.
fn stands_still(ctx: &Ctx) -> Result<AssertResult> {
    // An enqueue on the second CPU advances the clock of its runqueue, so this thread, and the threads that it starts, run only
    // on the first CPU.
    let mut first = rustix::thread::CpuSet::new();
    first.set(0);
    rustix::thread::sched_setaffinity(None, &first)?;
    let slow = std::thread::spawn(|| -> std::io::Result<()> {
        std::thread::sleep(Duration::from_millis(500));
        let slow = crate::common::wedge::slow_ticks(1)?;
        std::thread::sleep(Duration::from_millis(1500));
        drop(slow);
        Ok(())
    });
    let spin = |name, cpu| {
        CgroupDef::named(name)
            .workers(2)
            .affinity(AffinityIntent::exact([cpu]))
    };
    let result = execute_defs(ctx, vec![spin("first", 0), spin("second", 1)])?;
    let slow = slow.join();
    slow.expect("it does not panic")?;
    Ok(result)
}

#[test]
fn a_runqueue_clock_that_does_not_advance_for_longer_than_the_bound() {
    // The run passes without the bound on the clock, so nothing else is wrong with it.
    ended(&STANDS_STILL_UNASKED, true);
    fails_with(
        &STANDS_STILL,
        &[
            "cpu1: runqueue clock did not advance for ",
            " samples in a row",
        ],
    );
}

/// Eight workers that a cpuset confines to one of the CPUs, and six that are pinned to another CPU.
fn confined(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(
        ctx,
        vec![
            CgroupDef::named("confined")
                .workers(8)
                .cpuset(CpusetSpec::exact([0])),
            CgroupDef::named("pinned")
                .workers(6)
                .affinity(AffinityIntent::exact([1])),
        ],
    )
}

/// One bursty worker for each CPU, one spinning worker for every two CPUs, and a pair of workers that wake each other.
fn half_loaded(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let bursty = WorkType::bursty(Duration::from_millis(7), Duration::from_millis(3));
    execute_defs(
        ctx,
        vec![
            CgroupDef::named("bursty").workers(cpus).work_type(bursty),
            CgroupDef::named("spin").workers(cpus / 2),
            CgroupDef::named("pipe")
                .workers(2)
                .work_type(WorkType::pipe_io(64)),
        ],
    )
}

#[test]
fn what_the_workload_does_is_not_held_against_the_scheduler() {
    for entry in [
        &HEALTHY_CONTENDED,
        &HEALTHY_CROWDED,
        &HEALTHY_CONFINED,
        &HEALTHY_HALF,
    ] {
        for seed in 0..SEEDS {
            let finished = ended(with(entry, |e| e.seed = Some(seed)), true);
            assert!(monitor(&finished).samples.len() >= 8);
        }
    }
}

/// The kernel's own scheduler is sampled too, although no bounds apply to it.
#[test]
fn the_fair_class_is_sampled_too() {
    for entry in [&FAIR, &FAIR_CONFINED] {
        let finished = ended(entry, true);
        let report = monitor(&finished);
        assert!(report.samples.len() >= 8);
        let busy = |s: &ktstr::assert::MonitorSample| {
            let mut waiting = s.waiting();
            waiting.any(|t| t.queue == WaitsIn::Fair && t.ran_ns > 0)
        };
        let crowded = report.samples.iter().filter(|s| busy(s)).count();
        assert!(
            2 * crowded > report.samples.len(),
            "only {crowded} samples have waiting tasks"
        );
        for sample in &report.samples {
            assert_eq!(sample.scx_attached, Some(false));
            assert!(sample.cpus.iter().all(|c| c.event_counters.is_none()));
        }
        // EEVDF must meet the bounds too if it is treated like a scheduler under test.
        let mut report = report.clone();
        for sample in &mut report.samples {
            sample.scx_attached = None;
        }
        let verdict = MonitorThresholds::default().evaluate(&report);
        assert!(verdict.passed, "{verdict:?}");
    }
}

/// The number of seeds of each healthy workload.
const SEEDS: u64 = 2;

/// Checks the report about a scheduler that the kernel's watchdog ejected. Returns for how many seconds the task had waited.
fn reported_stall(finished: &Finished) -> f64 {
    let vm = finished.vm.as_ref().expect("a machine ran");
    let exit = vm.scx_exit.as_ref().expect("the kernel's notes were read");
    assert_eq!(exit.kind_name, "SCX_EXIT_ERROR_STALL");
    let of_exit = |taken: &&MomentCapture| taken.moment == CaptureMoment::ScxExit;
    let taken = vm.moment_captures().iter().find(of_exit);
    let taken = taken.expect("a capture of the exit");
    assert!(!taken.report.is_placeholder, "{:?}", taken.report);
    assert_eq!(exit.reason, "runnable task stall");
    assert!(exit.dump.contains("CPU states"), "{}", exit.dump);
    assert!(
        exit.backtrace
            .iter()
            .any(|f| f.starts_with("scx_watchdog_workfn+")),
        "{:?}",
        exit.backtrace
    );
    let (who, seconds) = exit.stalled().expect("the message names the task");
    assert!(who.contains('['), "{who}");
    seconds
}

const TOLD: &[&str] = &[
    "the kernel ejected scheduler `scx-ktstr`: runnable task stall (",
    "SCX_EXIT_ERROR_STALL; detected in scx_watchdog_workfn+",
    "--- sched_ext dump ---",
];

#[test]
fn a_stall_is_found_after_the_timeout() {
    let finished = fails_with(&STALLED, TOLD);
    let seconds = reported_stall(&finished);
    assert!((2.0..3.2).contains(&seconds), "found after {seconds} s");
}

#[test]
fn a_stall_is_found_after_the_timeout_by_the_hosts_clock() {
    let finished = ended(&STALLED_IN_REAL_TIME, false);
    let vm = finished.vm.as_ref().expect("a machine ran");
    let stat = vm
        .host_vcpu_schedstat
        .expect("the schedstat of the host was read");
    // On a host that is busy with other work, a task may wait because its machine waits. The stall is reported nevertheless.
    match stat.dilation() > 1.5 {
        true => assert_eq!(finished.fault, Some(Fault::Host), "{}", finished.text),
        false => assert_eq!(finished.fault, Some(Fault::Scheduler), "{}", finished.text),
    }
    let text = &finished.text;
    assert!(text.contains(TOLD[0]), "no {:?} in {text}", TOLD[0]);
    let seconds = reported_stall(&finished);
    // The kernel's watchdog needs CPU time too, so it may be late by the time for which the vCPUs waited.
    let latest = 3.6 + stat.total_run_delay_ns as f64 / 1e9;
    assert!(
        (2.0..latest).contains(&seconds),
        "found after {seconds} s, latest {latest} s"
    );
}
