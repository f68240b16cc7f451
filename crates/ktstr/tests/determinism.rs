//! The virtual clock's promise: the same seed is the same run, to the last bit, observed or not,
//! whatever else the host does; and other seeds are other runs.
//!
//! `KTSTR_DETERMINISM_RUNS` repeats each comparison more often (`make determinism`).

use std::collections::BTreeSet;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::Result;
use ktstr::prelude::*;
use ktstr::run::{Finished, run};

const SCHED: Scheduler =
    Scheduler::named("ktstr_sched").binary(SchedulerSpec::Discover("scx-ktstr"));

/// More workers than CPUs, of kinds that compute, sleep and wake each other.
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

#[ktstr_test_entry]
static CONTENDED: KtstrTestEntry = KtstrTestEntry {
    name: "contended",
    func: contended,
    scheduler: &SCHED,
    topology: Topology::new(1, 1, 2, 1),
    duration: Duration::from_secs(1),
    clock: ClockMode::Virtual,
    num_snapshots: 0,
    ..KtstrTestEntry::DEFAULT
};

/// The entry with something changed; what a test declares lives as long as the program.
fn with(change: impl FnOnce(&mut KtstrTestEntry)) -> &'static KtstrTestEntry {
    let mut entry = CONTENDED;
    change(&mut entry);
    Box::leak(Box::new(entry))
}

fn runs() -> usize {
    std::env::var("KTSTR_DETERMINISM_RUNS")
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(2)
}

fn digest(finished: &Finished) -> String {
    assert!(finished.text.is_empty(), "{}", finished.text);
    let vm = finished.vm.as_ref().expect("a machine ran");
    assert_eq!(vm.clock, "virtual");
    assert!(vm.switches.is_some(), "every switch was followed");
    vm.digest.clone().expect("a virtual run has a digest")
}

/// Keeps the host's CPUs busy until dropped.
struct Busy(Vec<Child>);

impl Busy {
    fn new() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
        let burn = || {
            Command::new("sh")
                .args(["-c", "while :; do :; done"])
                .spawn()
                .expect("a shell")
        };
        Self((0..cpus).map(|_| burn()).collect())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs `entry` again and again, every second time on a busy host.
fn is_one_run(entry: &'static KtstrTestEntry) {
    let digests: Vec<String> = (0..runs())
        .map(|round| {
            let _busy = (round % 2 == 1).then(Busy::new);
            digest(&run(entry))
        })
        .collect();
    let distinct: BTreeSet<_> = digests.iter().collect();
    assert_eq!(distinct.len(), 1, "{}: {digests:?}", entry.topology);
}

#[test]
fn the_same_seed_is_the_same_run_on_one_cpu() {
    is_one_run(with(|entry| entry.topology = Topology::new(1, 1, 1, 1)));
}

#[test]
fn the_same_seed_is_the_same_run_on_two_cpus() {
    is_one_run(&CONTENDED);
}

#[test]
fn the_same_seed_is_the_same_run_on_four_cpus_in_two_caches() {
    is_one_run(with(|entry| entry.topology = Topology::new(1, 2, 2, 1)));
}

#[test]
fn the_same_seed_is_the_same_run_under_eevdf() {
    is_one_run(with(|entry| entry.scheduler = &Scheduler::EEVDF));
}

#[test]
fn looking_changes_nothing() {
    let digests: BTreeSet<String> = [0, 1, 7]
        .into_iter()
        .map(|count| {
            let finished = run(with(|entry| entry.num_snapshots = count));
            let vm = finished.vm.as_ref().expect("a machine ran");
            assert_eq!(vm.periodic_real, count);
            digest(&finished)
        })
        .collect();
    assert_eq!(digests.len(), 1, "{digests:?}");
}

#[test]
fn other_seeds_are_other_runs() {
    let switches: BTreeSet<_> = (0..4)
        .map(|seed| {
            let finished = run(with(|entry| entry.seed = Some(seed)));
            digest(&finished);
            finished.vm.and_then(|vm| vm.switches)
        })
        .collect();
    assert_eq!(switches.len(), 4, "{switches:?}");
}
