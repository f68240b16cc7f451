//! Tests of the virtual clock: runs with the same seed are identical, observed or not, whatever else the host does; and runs
//! with different seeds differ.
//!
//! `KTSTR_DETERMINISM_RUNS` repeats each comparison more often. The ignored tests take minutes, or need something to be
//! installed first. `make determinism` sets the variable, installs what is needed, and runs the ignored tests too.

#[path = "../common/mod.rs"]
#[macro_use]
mod common;
mod gate;
mod planted;
mod runs;
mod seeds;
mod starts;
mod thirty;

use std::time::Duration;

use anyhow::Result;
use ktstr::prelude::*;
use runs::{assert_one, contended_runs, repeated};

const SCHED: Scheduler =
    Scheduler::named("ktstr_sched").binary(SchedulerSpec::Discover("scx-ktstr"));

/// `scx_bpfland` from the package registry; `make determinism` installs it.
const BPFLAND: Scheduler = Scheduler::named("bpfland").binary(SchedulerSpec::Path(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../target/registry/bin/scx_bpfland"
)));

/// More workers than CPUs, which compute, sleep and wake each other.
fn contended(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    execute_defs(
        ctx,
        vec![
            CgroupDef::named("spin").workers(cpus + 1),
            CgroupDef::named("burst")
                .workers(2)
                .work_type(WorkType::bursty(
                    Duration::from_millis(3),
                    Duration::from_millis(2),
                )),
            CgroupDef::named("pipe")
                .workers(2)
                .work_type(WorkType::pipe_io(64)),
        ],
    )
}

case!(
    CONTENDED = "contended",
    contended,
    scheduler: &SCHED,
    topology: Topology::new(1, 1, 2, 1),
    duration: Duration::from_secs(1),
    clock: ClockMode::Virtual,
    num_snapshots: 0,
);

/// A scheduler that serves statistics, for which the guest asks before each capture.
const SERVES: Scheduler = Scheduler::named("serves")
    .binary(SchedulerSpec::Discover("scx-ktstr"))
    .sched_args(&["--stats"]);

case!(
    SERVED = "served",
    contended,
    scheduler: &SERVES,
    topology: Topology::new(1, 1, 2, 1),
    duration: Duration::from_secs(1),
    clock: ClockMode::Virtual,
    num_snapshots: 4,
);

const DISK: DiskConfig = DiskConfig::DEFAULT.capacity_mib(8);

fn on_a_disk(ctx: &Ctx) -> Result<AssertResult> {
    let group = |name: &str, work| CgroupDef::named(name).workers(2).work_type(work);
    execute_defs(
        ctx,
        vec![
            group("spin", WorkType::SpinWait),
            group("write", WorkType::IoSyncWrite),
            group("read", WorkType::IoRandRead),
        ],
    )
}

case!(
    ON_A_DISK = "on_a_disk",
    on_a_disk,
    scheduler: &SCHED,
    topology: Topology::new(1, 1, 2, 1),
    duration: Duration::from_secs(1),
    clock: ClockMode::Virtual,
    num_snapshots: 0,
    disk: Some(DISK),
);

// Captures are at least 100 ms apart, so this window has room for twenty captures.
case!(
    SEEN = "seen",
    contended,
    scheduler: &SCHED,
    topology: Topology::new(1, 1, 2, 1),
    duration: Duration::from_secs(3),
    clock: ClockMode::Virtual,
);

/// Returns a copy of [`CONTENDED`] with a change that only the host uses. It is leaked, because declarations live as long as the
/// program.
fn with(change: impl FnOnce(&mut KtstrTestEntry)) -> &'static KtstrTestEntry {
    let mut entry = CONTENDED;
    change(&mut entry);
    Box::leak(Box::new(entry))
}

fn is_one_run(label: &str, times: usize, entry: &'static KtstrTestEntry) {
    assert_one(label, &contended_runs(times, entry));
}

#[test]
fn the_same_seed_is_the_same_run_on_one_cpu() {
    let entry = with(|entry| entry.topology = Topology::new(1, 1, 1, 1));
    is_one_run("1 CPU", repeated(100), entry);
}

#[test]
fn the_same_seed_is_the_same_run_on_two_cpus() {
    is_one_run("2 CPUs", repeated(100), &CONTENDED);
}

#[test]
fn the_same_seed_is_the_same_run_on_four_cpus_in_two_caches() {
    let entry = with(|entry| entry.topology = Topology::new(1, 2, 2, 1));
    is_one_run("4 CPUs", repeated(100), entry);
}

#[test]
fn the_same_seed_is_the_same_run_on_eight_cpus_in_two_caches() {
    let entry = with(|entry| entry.topology = Topology::new(1, 2, 4, 1));
    is_one_run("8 CPUs", repeated(100), entry);
}

#[test]
#[ignore = "boots a minute: `make determinism` runs it"]
fn the_same_seed_is_the_same_run_on_32_cpus_in_two_nodes() {
    let entry = with(|entry| entry.topology = Topology::new(2, 4, 8, 1));
    is_one_run("32 CPUs", 5, entry);
}

#[test]
fn the_same_seed_is_the_same_run_under_eevdf() {
    let entry = with(|entry| entry.scheduler = &Scheduler::EEVDF);
    is_one_run("EEVDF", repeated(20), entry);
}

#[test]
#[ignore = "needs a scheduler of the package registry: `make determinism` installs it"]
fn the_same_seed_is_the_same_run_under_a_scheduler_of_somebody_else() {
    let entry = with(|entry| entry.scheduler = &BPFLAND);
    is_one_run("scx_bpfland", 20, entry);
}

/// Returns a copy of [`SEEN`] with `count` captures.
fn seen(count: u32) -> &'static KtstrTestEntry {
    let mut entry = SEEN;
    entry.num_snapshots = count;
    Box::leak(Box::new(entry))
}

#[test]
fn captures_change_nothing() {
    let looked: Vec<_> = [0, 1, 20]
        .into_iter()
        .map(|count| {
            let finished = ktstr::run::run(seen(count));
            let run = runs::of(&finished);
            assert_eq!(run.record.periodic_real, count);
            run
        })
        .collect();
    assert_one("0, 1 and 20 captures", &looked);
}

#[test]
fn recording_the_schedule_changes_nothing() {
    let runs = ["1", "0"].map(|value| {
        let ended = common::Case::new("contended")
            .env("KTSTR_SCHEDULE", value)
            .run();
        let record = ended.record.as_ref().expect("the run left a record");
        let schedule = record.path.with_file_name(ktstr_schedule::SCHEDULE_FILE);
        assert_eq!(schedule.exists(), value == "1");
        runs::of_child(&ended)
    });
    assert_one("with and without a schedule", &runs);
}

#[test]
fn captures_are_the_same_too() {
    let looked = contended_runs(repeated(20), seen(20));
    assert_eq!(looked[0].record.periodic_real, 20);
    assert!(looked[0].record.captures_digest.is_some());
    assert_one("20 captures", &looked);
}

/// The guest itself requests the statistics, so the requests are part of the run.
#[test]
fn the_statistics_of_a_scheduler_are_the_same_too() {
    let looked = contended_runs(repeated(20), &SERVED);
    assert_eq!(looked[0].record.periodic_real, 4);
    assert_one("4 captures with statistics", &looked);
}

#[test]
fn the_same_seed_is_the_same_run_on_a_disk() {
    is_one_run("a disk", repeated(20), &ON_A_DISK);
}
