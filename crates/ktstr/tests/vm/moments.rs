//! Tests of captures at events: each shows the guest at the time of the event, and the run is the same with and without them.

use std::time::Duration;

use crate::common::{Case, Ended, scx_ktstr, wedge};
use ktstr::prelude::*;
use ktstr::snapshot::ScxExit;
use ktstr::test_support::ClockMode;
use ktstr_record::CaptureRecord;

const STALLS: Scheduler = scx_ktstr(&["--stall-after", "1"]);
const CRASHES: Scheduler = scx_ktstr(&["--crash-after", "1"]);
const LEAVES: Scheduler = scx_ktstr(&["--exit-after", "1"]);
const SOUND: Scheduler = scx_ktstr(&[]);

const SPINNERS: usize = 6;
const COMM: &str = "spinner";

macro_rules! moments {
    ($($entry:ident = $name:literal, $func:expr, $sched:ident $timeout:literal;)*) => { $(
        case!($entry = $name, $func, clock: ClockMode::Virtual, topology: Topology::new(1, 1, 2, 1),
            duration: Duration::from_secs(3), scheduler: &$sched, watchdog_timeout: Duration::from_secs($timeout));
    )* };
}

moments! {
    STALL = "moment_stall", spinners, STALLS 2;
    CRASH = "moment_crash", spinners, CRASHES 5;
    LEAVE = "moment_leave", spinners, LEAVES 5;
    HANG = "moment_hang", hangs, SOUND 5;
    PANIC = "moment_panic", panics, SOUND 5;
}

/// More spinners than CPUs, so that some of them are waiting at any time.
fn spinners(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(
        ctx,
        vec![CgroupDef::named("spin").workers(SPINNERS).comm(COMM)],
    )
}

fn hangs(ctx: &Ctx) -> Result<AssertResult> {
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_millis(500));
        wedge::loop_with_interrupts_off()
    });
    spinners(ctx)
}

fn panics(ctx: &Ctx) -> Result<AssertResult> {
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_millis(500));
        std::fs::write("/proc/sysrq-trigger", "c")
    });
    spinners(ctx)
}

/// The capture of an event in a run.
struct Taken {
    index: CaptureRecord,
    report: FailureDumpReport,
}

fn moments(ended: &Ended) -> Vec<Taken> {
    let record = &ended.record.as_ref().expect("the run left a record").record;
    let captures = ended.artefact("captures.json");
    let reports: Vec<(String, FailureDumpReport)> =
        serde_json::from_str(&captures).unwrap_or_else(|error| panic!("{error}: {}", ended.text));
    assert_eq!(reports.len(), record.captures.len());
    record
        .captures
        .iter()
        .zip(reports)
        .filter(|(index, _)| index.moment.is_some())
        .map(|(index, (tag, report))| {
            assert_eq!(index.tag, tag);
            assert_eq!(index.placeholder, None);
            let index = index.clone();
            Taken { index, report }
        })
        .collect()
}

#[track_caller]
fn the_one(ended: &Ended, moment: CaptureMoment) -> Taken {
    let mut all = moments(ended);
    all.retain(|taken| taken.index.moment == Some(moment));
    assert_eq!(all.len(), 1, "{moment:?}: {}", ended.text);
    all.swap_remove(0)
}

/// Returns the waiting tasks, each with its queue.
fn queued(report: &FailureDumpReport) -> Vec<(&QueuedTask, &DsqState)> {
    let queues = report.dsq_states.iter();
    queues
        .flat_map(|queue| queue.tasks.iter().map(move |task| (task, queue)))
        .collect()
}

/// Returns the series of kernels in this host's cache that have all functions at which the guest is held: 7.0 and newer.
/// Real-time kernels are left out.
fn kernels() -> Vec<String> {
    let cache = ktstr_kernel::cache::Cache::from_env().expect("a cache");
    let (whole, _) = cache.scan().expect("a cache that can be read");
    let mut series: Vec<String> = whole
        .iter()
        .filter(|kernel| !kernel.release.contains("rt"))
        .filter_map(|kernel| {
            let mut numbers = kernel.release.split('.');
            let (major, minor) = (numbers.next()?, numbers.next()?);
            (major.parse::<u32>().ok()? >= 7).then(|| format!("debian:{major}.{minor}"))
        })
        .collect();
    series.sort();
    series.dedup();
    series
}

#[test]
fn a_stall_shows_the_queue_in_which_each_task_waits() {
    let kernels = kernels();
    let mut with_queues = 0;
    for kernel in kernels {
        let ended = Case::new("moment_stall").kernel(&kernel).run();
        assert_eq!(ended.code, Some(1), "{kernel}: {}", ended.text);
        let taken = the_one(&ended, CaptureMoment::ScxExit);
        with_queues += u32::from(stalled_tasks_are_queued(&kernel, &ended, &taken));
        let bypass = the_one(&ended, CaptureMoment::ScxBypass);
        assert!(bypass.index.clock_ns >= taken.index.clock_ns, "{kernel}");
        // At this capture, sched_ext has already begun to end the scheduler.
        let state = bypass
            .report
            .scx_sched_state
            .value()
            .expect("sched_ext's state");
        assert_ne!(state.exit_kind, Some(0), "{kernel}");
    }
    assert!(
        with_queues > 0,
        "no kernel lets the scheduler create queues"
    );
}

/// The scheduler no longer serves its queues, so each waiting task is in a queue, the task in the kernel's message included. On
/// a kernel that does not let it create queues, the scheduler holds its tasks back itself. Returns whether there are queues.
fn stalled_tasks_are_queued(kernel: &str, ended: &Ended, taken: &Taken) -> bool {
    let report = &taken.report;
    let is_queue = |queue: &DsqState| queue.origin == "user";
    let has_queues = report.dsq_states.iter().any(is_queue);
    let queued = queued(report);
    let waiting: Vec<&TaskEnrichment> = report
        .task_enrichments
        .iter()
        .filter(|task| task.comm == COMM && task.state == 0 && !task.on_cpu)
        .collect();
    assert!(waiting.len() >= SPINNERS - 2, "{kernel}: {waiting:?}");
    let mut in_queues = 0;
    for task in waiting {
        let found: Vec<&str> = queued
            .iter()
            .filter(|(queued, _)| queued.pid == task.pid)
            .map(|(_, queue)| queue.origin.as_str())
            .collect();
        // A task that was preempted by a task of a higher class continues on its CPU, whatever the scheduler does.
        let stays = format!("local cpu {}", task.cpu);
        let right = match found[..] {
            [] => !has_queues,
            [origin] => origin == stays || (origin == "user" && has_queues),
            _ => false,
        };
        let queues = &report.dsq_states;
        assert!(right, "{kernel}: {task:?} is in {found:?} of {queues:?}");
        in_queues += u32::from(found == ["user"]);
    }
    assert!(in_queues > 0 || !has_queues, "{kernel}: {queued:?}");
    let stall = Snapshot::new(report).var("stall").as_u64();
    assert_eq!(stall, Ok(1), "{kernel}");
    let exit: ScxExit = serde_json::from_str(&ended.artefact("scx_exit.json")).expect("notes");
    if let Some((who, _)) = exit.stalled()
        && has_queues
    {
        let named = queued
            .iter()
            .any(|(task, _)| format!("{}[{}]", task.comm, task.pid) == who);
        assert!(
            named,
            "{kernel}: {who} is in none of {:?}",
            report.dsq_states
        );
    }
    // The capture is taken just before the kernel records the exit.
    let state = report.scx_sched_state.value().expect("sched_ext's state");
    assert_eq!(
        (state.enable_state.as_str(), state.exit_kind),
        ("enabled", Some(0)),
        "{kernel}"
    );
    has_queues
}

#[test]
fn an_error_of_the_scheduler_is_captured_before_it_is_noted() {
    let ended = Case::new("moment_crash").run();
    assert_eq!(ended.code, Some(1), "{}", ended.text);
    let taken = the_one(&ended, CaptureMoment::ScxExit);
    let crash = Snapshot::new(&taken.report).var("crash").as_u64();
    assert_eq!(crash, Ok(1));
    let state = taken
        .report
        .scx_sched_state
        .value()
        .expect("sched_ext's state");
    assert_eq!(state.exit_kind, Some(0));
}

#[test]
fn a_scheduler_that_leaves_is_captured_while_it_is_attached() {
    for kernel in kernels() {
        let ended = Case::new("moment_leave").kernel(&kernel).run();
        assert_eq!(ended.code, Some(1), "{kernel}: {}", ended.text);
        let taken = the_one(&ended, CaptureMoment::ScxExit);
        let state = taken
            .report
            .scx_sched_state
            .value()
            .expect("sched_ext's state");
        assert_eq!(state.enable_state, "enabled", "{kernel}");
        assert_eq!(state.ops_name.as_deref(), Some("ktstr"), "{kernel}");
        let dispatched = Snapshot::new(&taken.report).var("nr_dispatched");
        let dispatched = dispatched.as_u64().expect("a variable");
        assert!(dispatched > 0, "{kernel}");
    }
}

#[test]
fn a_guest_that_hangs_is_captured_as_it_hangs() {
    let ended = Case::new("moment_hang").run();
    let taken = the_one(&ended, CaptureMoment::Hang);
    // Each CPU is blocked at a switch, most likely a switch of a worker, so a task other than the idle task is on a CPU.
    let running: Vec<&TaskEnrichment> = taken
        .report
        .task_enrichments
        .iter()
        .filter(|task| task.on_cpu && task.pid > 0)
        .collect();
    assert!(!running.is_empty(), "{:?}", taken.report.rq_scx_states);
}

#[test]
fn a_panic_is_captured_where_it_begins() {
    for clock in ["virtual", "real"] {
        let ended = Case::new("moment_panic").env("KTSTR_CLOCK", clock).run();
        let taken = the_one(&ended, CaptureMoment::Panic);
        let report = &taken.report;
        // The test process caused the panic, and is still on its CPU.
        let process = report
            .task_enrichments
            .iter()
            .any(|task| task.on_cpu && task.pid > 0 && task.comm != COMM);
        assert!(process, "{clock}: {:?}", report.rq_scx_states);
    }
}

#[test]
fn a_run_is_the_same_with_and_without_captures_of_moments() {
    let with = Case::new("moment_stall").run();
    assert_eq!(moments(&with).len(), 2, "{}", with.text);
    let without = Case::new("moment_stall").env("KTSTR_MOMENTS", "0").run();
    assert!(without.artefact("captures.json").is_empty());
    let record = |ended: &Ended| ended.record.as_ref().expect("a record").record.clone();
    let (with, without) = (record(&with), record(&without));
    assert!(with.digest.is_some(), "{with:?}");
    assert_eq!(with.digest, without.digest);
    assert_eq!(with.switches, without.switches);
}
