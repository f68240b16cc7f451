//! Tests that the exact schedule has the right cgroup for a forked task, although its `task_struct` is often that of
//! a task that has died.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use ktstr::prelude::*;
use ktstr::run::run;
use ktstr_schedule::{SCHEDULE_FILE, Schedule, What};

case!(FORKS = "forks", forks, duration: Duration::from_secs(1), clock: ktstr::test_support::ClockMode::Virtual,
    topology: Topology::new(1, 1, 2, 1));

fn forks(ctx: &Ctx) -> Result<AssertResult> {
    let def = CgroupDef::named("forks").workers(1);
    execute_defs(ctx, vec![def.work_type(WorkType::ForkExit)])
}

#[test]
fn a_forked_task_is_in_the_cgroup_of_its_parent() {
    let finished = run(&FORKS);
    assert!(finished.result.is_pass(), "{}", finished.text);
    let record = finished.record.as_ref().expect("the run left a record");
    let file = std::fs::read(record.with_file_name(SCHEDULE_FILE)).expect("its schedule");
    let schedule = Schedule::read(&file).expect("a schedule");
    let mut all = schedule.tables().cgroups.iter();
    let found = all.find(|(_, cgroup)| cgroup.path.ends_with("/forks"));
    let id = *found.expect("the cgroup is in the schedule").0;
    let mut cgroups = BTreeMap::new();
    let (mut there, mut elsewhere) = (0, 0);
    for event in schedule.events().expect("all of them") {
        match event.what {
            What::Cgroup { task, cgroup } => {
                cgroups.insert(task, cgroup);
            }
            What::Exit { task } => {
                cgroups.remove(&task);
            }
            What::Fork { task, .. } => match cgroups.get(&task) {
                Some(cgroup) if *cgroup == id => there += 1,
                _ => elsewhere += 1,
            },
            _ => {}
        }
    }
    // The worker itself, threads of the harness, and kernel threads are forked outside of the cgroup.
    assert!(
        there > 50 && elsewhere < 20,
        "{there} there, {elsewhere} elsewhere"
    );
}
