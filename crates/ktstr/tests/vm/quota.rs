//! Tests of what the exact schedule shows of quotas and of wake-ups by a timer. The kernel's functions for both change between
//! versions.

use std::time::Duration;

use anyhow::{Result, ensure};
use ktstr::assert::Phase;
use ktstr::prelude::*;
use ktstr::run::{Finished, run};
use ktstr_schedule::{Pid, SCHEDULE_FILE, Schedule, What};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

case!(QUOTAS = "quotas", quotas, duration: Duration::from_secs(2), clock: ktstr::test_support::ClockMode::Virtual,
    topology: Topology::new(1, 1, 2, 1));

/// The worker of `within` works for 4 ms and sleeps for 8 ms. It therefore uses a third of a CPU, far below its quota of 90 %.
/// The worker of `over` never sleeps, and may run for a fifth of the time.
fn quotas(ctx: &Ctx) -> Result<AssertResult> {
    let within = CgroupDef::named("within")
        .workers(1)
        .work_type(WorkType::bursty(ms(4), ms(8)))
        .cpu_quota(ms(90), ms(100));
    let over = CgroupDef::named("over")
        .workers(1)
        .cpu_quota(ms(20), ms(100));
    execute_defs(ctx, vec![within, over])
}

fn only_one_is_throttled(vm: &VmResult) -> Result<()> {
    let throttled = |cgroup: &str| {
        let name = "schedule_throttled_time_ns";
        vm.phase_cgroup_metric(Phase::step(0), cgroup, name)
    };
    let within = throttled("within");
    ensure!(
        within == Some(0.0),
        "a cgroup within its quota was throttled: {within:?}"
    );
    let over = throttled("over").unwrap_or(0.0) / 1e9;
    ensure!((1.4..1.7).contains(&over), "throttled for {over} s of 2 s");
    Ok(())
}

#[test]
fn only_a_group_that_is_out_of_quota_is_throttled_and_wakeups_by_a_timer_come_from_an_interrupt() {
    let finished: Finished = run(&QUOTAS);
    assert!(finished.result.is_pass(), "{}", finished.text);
    let record = finished.record.as_ref().expect("the run left a record");
    let file = std::fs::read(record.with_file_name(SCHEDULE_FILE)).expect("its schedule");
    let schedule = Schedule::read(&file).expect("a schedule");
    let tables = schedule.tables();
    let id_of = |end: &str| {
        let mut all = tables.cgroups.iter();
        let found = all.find(|(_, cgroup)| cgroup.path.ends_with(end));
        *found.expect("the cgroup is in the schedule").0
    };
    // Before Linux 6.18 the kernel takes a throttled group off its queue as a whole and dequeues none of its tasks, so there is
    // no metric of the time for which its tasks were throttled.
    let shows_quotas = crate::common::is_at_least(finished.record.as_deref(), (6, 18));
    let vm = finished.vm.as_ref().expect("a machine ran");
    if shows_quotas {
        only_one_is_throttled(vm).expect("the metric of the schedule");
    }
    let within = id_of("/within");
    let events = schedule.events().expect("all of them");
    let is_throttle =
        |what: &What| matches!(what, What::Throttle { cgroup, .. } if *cgroup == within);
    assert!(!events.iter().any(|event| is_throttle(&event.what)));
    let worker = events.iter().find_map(|event| match event.what {
        What::Cgroup { task, cgroup } if cgroup == within => Some(task),
        _ => None,
    });
    let worker: Pid = worker.expect("its worker");
    let wakes = |by: bool| {
        let is_one = |what: &What| matches!(what, What::Wake { task, interrupt, .. } if *task == worker && *interrupt == by);
        events.iter().filter(|event| is_one(&event.what)).count()
    };
    let (timers, tasks) = (wakes(true), wakes(false));
    assert!(
        timers > 100 && timers > 9 * tasks,
        "{timers} by a timer, {tasks} by tasks"
    );
}
