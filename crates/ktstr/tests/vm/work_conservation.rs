//! Tests of the checks on CPUs that are idle while tasks wait: a scheduler with this defect is caught, and the same workload
//! passes on the same scheduler without the defect.

use std::time::Duration;

use anyhow::Result;
use ktstr::prelude::*;
use ktstr::run::{Fault, Finished, run};

const SCHED: Scheduler =
    Scheduler::named("ktstr_sched").binary(SchedulerSpec::Discover("scx-ktstr"));
const FOUR: Topology = Topology::new(1, 2, 2, 1);

/// The usual bounds of the monitor.
const USUAL: Assert = Assert::NO_OVERRIDES.with_monitor_defaults();
/// Only the check of work conservation, applied to single samples: see [`a_task_sent_to_the_neighbour`].
const MOMENTS: Assert = Assert {
    enforce_monitor_thresholds: true,
    ..Assert::NO_OVERRIDES
}
.work_conservation(true)
.sustained_samples(1);

macro_rules! entries {
    ($($entry:ident = $name:literal, $func:ident, $args:expr, $assert:ident;)*) => { $(
        case!($entry = $name, $func, clock: ClockMode::Virtual, seed: Some(7), topology: FOUR,
            duration: Duration::from_secs(2), scheduler: &SCHED, extra_sched_args: $args,
            assert: $assert);
    )* };
}

entries! {
    CROWDED = "crowded", crowded, &[], USUAL;
    CROWDED_IDLE_CPU = "crowded_idle_cpu", crowded, &["--idle-cpu"], USUAL;
    LIGHT = "light", light, &[], USUAL;
    LIGHT_WRONG_CPU = "light_wrong_cpu", light, &["--wrong-cpu"], MOMENTS;
}

/// Twice as many workers as CPUs. None of the workers sleeps.
fn crowded(ctx: &Ctx) -> Result<AssertResult> {
    let workers = 2 * ctx.topo.total_cpus();
    execute_defs(ctx, vec![CgroupDef::named("crowd").workers(workers)])
}

/// As many workers as CPUs. One of the workers sleeps now and then, so that there is a free CPU when it wakes.
fn light(ctx: &Ctx) -> Result<AssertResult> {
    let waking = WorkType::bursty(Duration::from_millis(30), Duration::from_millis(5));
    let cpus = ctx.topo.total_cpus();
    execute_defs(
        ctx,
        vec![
            CgroupDef::named("waking").workers(1).work_type(waking),
            CgroupDef::named("light").workers(cpus - 1),
        ],
    )
}

/// Returns how many CPUs were idle while a task that they could have run waited, added up over the samples, and the number of
/// samples.
fn wasted(finished: &Finished) -> (u64, usize) {
    let vm = finished.vm.as_ref().expect("a machine ran");
    let report = vm.monitor.as_ref().expect("the monitor was on");
    (report.summary.wasted_cpu_samples, report.samples.len())
}

/// Checks that the run passes, and that its number of idle CPUs beside waiting tasks ([`wasted`]) is at most `most`. Returns this
/// number.
#[track_caller]
fn passes(entry: &'static KtstrTestEntry, most: u64) -> u64 {
    let finished = run(entry);
    assert!(finished.result.is_pass(), "{}", finished.text);
    let (wasted, samples) = wasted(&finished);
    assert!(wasted <= most && samples >= 17, "{wasted} of {samples}");
    wasted
}

/// Checks that the run fails for a reason with this text, and that it has more idle CPUs beside waiting tasks than the run
/// without the defect.
#[track_caller]
fn fails(entry: &'static KtstrTestEntry, part: &str, without: u64) {
    let finished = run(entry);
    let (wasted, samples) = wasted(&finished);
    assert!(
        wasted > without,
        "{wasted} in {samples} samples, {without} without the defect"
    );
    assert_eq!(finished.fault, Some(Fault::Scheduler), "{}", finished.text);
    let mut shown = finished.result.failure_details();
    let shown = shown.find(|d| d.kind == DetailKind::Monitor && d.message.contains(part));
    assert!(shown.is_some(), "no {part:?} in {}", finished.text);
    println!("{}", shown.expect("it was found").message);
}

#[test]
fn a_cpu_that_takes_no_task_from_a_queue() {
    let without = passes(&CROWDED, 0);
    fails(&CROWDED_IDLE_CPU, "cpu3 idled while", without);
}

/// The idle CPU stays idle until something else wakes it, mostly a kernel thread. This takes less than the five samples in a row
/// after which the usual bound fails, so single samples count here. Without the defect, a sample may fall between the wake-up of
/// the worker and the switch to it, which takes as long as the turns of the other CPUs. That happens in a sample or two at most.
#[test]
fn a_task_sent_to_the_neighbour() {
    let without = passes(&LIGHT, 2);
    fails(&LIGHT_WRONG_CPU, ", which may run there, waited", without);
}

const IDLE: Scheduler = Scheduler::named("idle_cpu")
    .binary(SchedulerSpec::Discover("scx-ktstr"))
    .sched_args(&["--idle-cpu"])
    .topology(1, 2, 2, 1);

/// The attribute `work_conservation` is enough to make the run fail.
#[ktstr_test(scheduler = IDLE, work_conservation, expect_err, duration_s = 2)]
fn an_idle_cpu_fails_a_test_that_asks_by_attribute(ctx: &Ctx) -> Result<AssertResult> {
    crowded(ctx)
}

/// The same run passes in a test that only observes.
#[ktstr_test(scheduler = IDLE, work_conservation, monitor = "report", duration_s = 2)]
fn an_idle_cpu_is_a_note_for_a_test_that_only_wants_to_see(ctx: &Ctx) -> Result<AssertResult> {
    crowded(ctx)
}
