//! The monitor on real machines: what it sees of a healthy run, that each of its bounds is broken by
//! a scheduler that deserves it, that looking changes nothing, and what is told of a scheduler that
//! the kernel ejected.

use std::time::Duration;

use anyhow::Result;
use ktstr::prelude::*;
use ktstr::run::{Finished, run};

const SCHED: Scheduler =
    Scheduler::named("ktstr_sched").binary(SchedulerSpec::Discover("scx-ktstr"));

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

#[ktstr_test_entry]
static CONTENDED: KtstrTestEntry = KtstrTestEntry {
    name: "monitored",
    func: contended,
    scheduler: &SCHED,
    topology: Topology::new(1, 1, 2, 1),
    duration: Duration::from_secs(2),
    clock: ClockMode::Virtual,
    num_snapshots: 0,
    assert: Assert::NO_OVERRIDES.with_monitor_defaults(),
    ..KtstrTestEntry::DEFAULT
};

/// The entry with something changed; what a test declares lives as long as the program.
fn with(change: impl FnOnce(&mut KtstrTestEntry)) -> &'static KtstrTestEntry {
    let mut entry = CONTENDED;
    change(&mut entry);
    Box::leak(Box::new(entry))
}

fn monitor(finished: &Finished) -> &ktstr::assert::MonitorReport {
    let vm = finished.vm.as_ref().expect("a machine ran");
    vm.monitor.as_ref().expect("the monitor was on")
}

/// Samples every 100 ms, with values that fit a machine on which more runs than there are CPUs.
fn is_sane(finished: &Finished) {
    assert!(finished.text.is_empty(), "{}", finished.text);
    let report = monitor(finished);
    assert_eq!(report.unavailable, None);
    let n = report.samples.len();
    assert!((17..=20).contains(&n), "{n} samples in 2 s");
    for sample in &report.samples {
        assert_eq!(sample.cpus.len(), 2);
        assert_eq!(sample.scx_attached, Some(true));
        let runnable: u32 = sample.cpus.iter().map(|c| c.nr_running).sum();
        assert!((4..12).contains(&runnable), "{runnable} runnable tasks");
        for cpu in &sample.cpus {
            assert_eq!(cpu.idle, Some(false), "{cpu:?}");
            assert!(cpu.waiting.is_some());
        }
    }
}

#[test]
fn a_healthy_run_is_sampled_and_passes() {
    let finished = run(&CONTENDED);
    is_sane(&finished);
}
