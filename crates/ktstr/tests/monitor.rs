//! The monitor on real machines: what it sees of a healthy run, that each of its bounds is broken by
//! a scheduler that deserves it, that looking changes nothing, and what is told of a scheduler that
//! the kernel ejected.

#[macro_use]
mod common;

use std::time::Duration;

use anyhow::Result;
use common::Case;
use ktstr::assert::monitor::MonitorReport;
use ktstr::prelude::*;
use ktstr::run::{Fault, Finished, run};

const fn scx_ktstr(args: &'static [&'static str]) -> Scheduler {
    Scheduler::named("ktstr_sched")
        .binary(SchedulerSpec::Discover("scx-ktstr"))
        .sched_args(args)
}

const SCHED: Scheduler = scx_ktstr(&[]);
const MONITORED: Assert = Assert::NO_OVERRIDES.with_monitor_defaults();

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

macro_rules! monitored {
    ($entry:ident = $name:literal, $func:expr $(, $field:ident: $value:expr)* $(,)?) => {
        case!($entry = $name, $func, scheduler: &SCHED, clock: ClockMode::Virtual,
            topology: Topology::new(1, 1, 2, 1), duration: Duration::from_secs(2),
            assert: MONITORED $(, $field: $value)*);
    };
}

/// The entry with something changed; what a test declares lives as long as the program.
fn with(change: impl FnOnce(&mut KtstrTestEntry)) -> &'static KtstrTestEntry {
    let mut entry = KtstrTestEntry {
        name: "monitored",
        func: contended,
        scheduler: &SCHED,
        clock: ClockMode::Virtual,
        topology: Topology::new(1, 1, 2, 1),
        duration: Duration::from_secs(2),
        assert: MONITORED,
        ..KtstrTestEntry::DEFAULT
    };
    change(&mut entry);
    Box::leak(Box::new(entry))
}

fn leak(scheduler: Scheduler) -> &'static Scheduler {
    Box::leak(Box::new(scheduler))
}

fn monitor(finished: &Finished) -> &MonitorReport {
    let vm = finished.vm.as_ref().expect("a machine ran");
    vm.monitor.as_ref().expect("the monitor was on")
}

/// Runs until it passes or fails; the text is told when that is not as `pass` says.
fn ended(entry: &'static KtstrTestEntry, pass: bool) -> Finished {
    let finished = run(entry);
    assert_eq!(finished.text.is_empty(), pass, "{}", finished.text);
    finished
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

/// A sample every 100 ms, with values that fit a machine on which more runs than there are CPUs.
fn is_sane(finished: &Finished) {
    let report = monitor(finished);
    assert_eq!(report.unavailable, None);
    let times: Vec<u64> = report.samples.iter().map(|s| s.elapsed_ms).collect();
    assert!((17..=20).contains(&times.len()), "{times:?} in 2 s");
    for (i, sample) in report.samples.iter().enumerate() {
        assert_eq!(sample.cpus.len(), 2);
        assert_eq!(sample.scx_attached, Some(true));
        let runnable: u32 = sample.cpus.iter().map(|c| c.nr_running).sum();
        assert!((4..14).contains(&runnable), "{runnable} runnable tasks");
        for (c, cpu) in sample.cpus.iter().enumerate() {
            let waiting = cpu.waiting.as_ref().expect("who waits is known");
            let running = usize::from(cpu.idle == Some(false));
            // One that the BPF scheduler is just being asked about may be in neither.
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

#[test]
fn a_healthy_run_is_sampled_and_passes() {
    let finished = ended(with(|_| ()), true);
    is_sane(&finished);
    assert_eq!(monitor(&finished).torn_samples, 0);
    assert!(monitor(&finished).scx_event_counters_supported);
    // Under the virtual clock a vCPU's share of the host means nothing.
    assert!(
        monitor(&finished).samples[0].cpus[0]
            .vcpu_cpu_time_ns
            .is_none()
    );
}

#[test]
fn a_running_guest_is_sampled_too() {
    let finished = ended(
        with(|e| {
            e.clock = ClockMode::Real;
            // Whatever this host's other work does to the run, the samples must fit together.
            e.assert = Assert::NO_OVERRIDES;
        }),
        true,
    );
    let report = monitor(&finished);
    let n = report.samples.len() as u64 + report.torn_samples;
    assert!((10..=20).contains(&n), "{n} samples in 2 s");
    assert!(report.torn_samples <= 3, "{} are torn", report.torn_samples);
    for pair in report.samples.windows(2) {
        for (before, now) in pair[0].cpus.iter().zip(&pair[1].cpus) {
            assert!(before.rq_clock <= now.rq_clock);
            assert!(before.vcpu_cpu_time_ns.is_some());
            assert!(before.vcpu_cpu_time_ns <= now.vcpu_cpu_time_ns);
            assert!(before.vcpu_run_delay_ns <= now.vcpu_run_delay_ns);
        }
    }
}

monitored!(CONTENDED = "monitored", contended);

#[test]
fn looking_changes_nothing() {
    let digest = |monitor: &str| {
        let ended = Case::new("monitored").env("KTSTR_MONITOR", monitor).run();
        assert_eq!(ended.code, Some(0), "{}", ended.text);
        let samples = ended.artefact("monitor.json");
        assert_eq!(samples.is_empty(), monitor == "0");
        let record = ended.record.expect("the run left a record").record;
        record.digest.expect("a virtual run has a digest")
    };
    assert_eq!(digest("1"), digest("0"));
}

/// Four workers a CPU, each of which may run everywhere.
fn crowded(ctx: &Ctx) -> Result<AssertResult> {
    let workers = 4 * ctx.topo.total_cpus();
    execute_defs(ctx, vec![CgroupDef::named("crowd").workers(workers)])
}

fn crowded_under(args: &'static [&'static str], assert: Assert) -> &'static KtstrTestEntry {
    with(|e| {
        e.func = crowded;
        e.scheduler = leak(scx_ktstr(args));
        e.assert = assert;
    })
}

const ENFORCED: Assert = Assert {
    enforce_monitor_thresholds: true,
    ..Assert::NO_OVERRIDES
};

#[test]
fn local_queues_filled_blindly_are_uneven_and_deep() {
    let bounds = ENFORCED
        .max_imbalance_ratio(1.3)
        .max_local_dsq_depth(1)
        .sustained_samples(3);
    ended(crowded_under(&[], bounds), true);
    fails_with(
        crowded_under(&["--scattershot"], bounds),
        &["imbalance ratio above 1.3", "local DSQ deeper than 1"],
    );
}

#[test]
fn a_cpu_that_goes_on_with_its_task_while_others_wait() {
    let bounds = ENFORCED.max_keep_last_rate(10.0).sustained_samples(3);
    ended(crowded_under(&[], bounds), true);
    fails_with(
        crowded_under(&["--slow"], bounds),
        &["dispatch_keep_last above 10 events per vCPU-second"],
    );
}

#[test]
fn idle_cpus_beside_waiting_tasks() {
    let stalls = with(|e| {
        e.scheduler = leak(scx_ktstr(&["--stall-after", "0.5"]));
        e.watchdog_timeout = Duration::from_secs(20);
        e.duration = Duration::from_secs(3);
    });
    fails_with(
        stalls,
        &[
            "waited that may run there",
            "waited and got no CPU while cpu",
        ],
    );
}

/// Takes the CPUs away in the middle of the window.
fn wedged(ctx: &Ctx) -> Result<AssertResult> {
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_millis(500));
        common::wedge::loop_with_interrupts_off()
    });
    contended(ctx)
}

#[test]
fn a_clock_that_stands_still() {
    // Nothing is held any more under the virtual clock once no CPU takes its timer's interrupt.
    let wedged = with(|e| {
        e.func = wedged;
        e.clock = ClockMode::Real;
        e.duration = Duration::from_secs(1);
        e.watchdog_timeout = Duration::from_secs(1);
    });
    fails_with(wedged, &["runqueue clock stood still for 5 samples"]);
}

/// Eight workers that a cpuset confines to one of the CPUs, and two that are pinned to another.
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

/// As many workers as CPUs that are often off, and as many that never are.
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
    for func in [contended, crowded, confined, half_loaded] {
        for seed in 0..SEEDS {
            let finished = ended(
                with(|e| {
                    e.func = func;
                    e.topology = Topology::new(1, 2, 2, 1);
                    e.duration = Duration::from_secs(1);
                    e.seed = Some(seed);
                }),
                true,
            );
            assert!(monitor(&finished).samples.len() >= 8);
        }
    }
}

/// Seeds of each healthy workload.
const SEEDS: u64 = 2;

/// What is to be told of a scheduler that the kernel's watchdog ejected.
fn is_told(finished: &Finished) -> f64 {
    let vm = finished.vm.as_ref().expect("a machine ran");
    let exit = vm.scx_exit.as_ref().expect("the kernel's notes were read");
    assert_eq!(exit.kind_name, "SCX_EXIT_ERROR_STALL");
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

/// The scheduler stalls at 11.5 s: the kernel has by then looked once after the 10 s that are half
/// the scheduler's own timeout, and looks every second from then on.
fn stalls_late(clock: ClockMode) -> &'static KtstrTestEntry {
    with(|e| {
        e.func = half_loaded;
        e.scheduler = leak(scx_ktstr(&["--stall-after", "11.5"]));
        e.watchdog_timeout = Duration::from_secs(2);
        e.duration = Duration::from_secs(16);
        e.clock = clock;
        e.assert = Assert::NO_OVERRIDES;
    })
}

const STALLED: &[&str] = &[
    "the kernel ejected scheduler `scx-ktstr`: runnable task stall (",
    "SCX_EXIT_ERROR_STALL; noticed in scx_watchdog_workfn+",
    "--- sched_ext dump ---",
];

#[test]
fn a_stall_is_found_after_the_timeout() {
    let finished = fails_with(stalls_late(ClockMode::Virtual), STALLED);
    let seconds = is_told(&finished);
    assert!((2.0..3.2).contains(&seconds), "found after {seconds} s");
}

#[test]
fn a_stall_is_found_after_the_timeout_by_the_hosts_clock() {
    let finished = fails_with(stalls_late(ClockMode::Real), STALLED);
    let seconds = is_told(&finished);
    assert!((2.0..3.6).contains(&seconds), "found after {seconds} s");
}
