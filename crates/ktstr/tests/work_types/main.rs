//! Tests that each work type has the effect on a kernel by which it differs from a worker that only spins. There is one virtual
//! machine per group of work types.

#[macro_use]
#[path = "../common/mod.rs"]
mod common;

mod basics;
mod benches;
mod cgroups;
mod classes;
mod custom;
mod memory;
mod rt_app;
mod schbench;
mod threads;
mod waits;
mod watch;

use ktstr::prelude::*;

/// Four CPUs: two cores of two threads.
const SMT: Topology = Topology::new(1, 1, 2, 2);
/// Two nodes of two CPUs.
const NODES: Topology = Topology::with_nodes(
    2,
    1,
    &[
        ktstr::topology::NumaNode::new(1, 384),
        ktstr::topology::NumaNode::new(1, 384),
    ],
);

const SCHED: Scheduler =
    Scheduler::named("ktstr_sched").binary(SchedulerSpec::Discover("scx-ktstr"));

macro_rules! families {
    ($($entry:ident = $name:literal, $func:path $(, $field:ident: $value:expr)*;)*) => { $(
        case!($entry = $name, $func, clock: ClockMode::Virtual, num_snapshots: 0,
            duration: std::time::Duration::from_secs(1)
            $(, $field: $value)*);
    )* };
}

families! {
    BASICS = "work_basics", basics::all, topology: SMT;
    WAITS = "work_waits", waits::all, topology: SMT;
    WAITS_SCX = "work_waits_scx", waits::all, topology: SMT, scheduler: &SCHED;
    QUEUES = "work_queues", waits::queues, topology: SMT;
    CLASSES = "work_classes", classes::all, topology: SMT;
    INVERSION = "work_inversion", classes::inversion, topology: SMT;
    MEMORY = "work_memory", memory::all, topology: NODES;
    POLICIES = "work_mem_policies", memory::policies, topology: NODES;
    CGROUPS = "work_cgroups", cgroups::all, topology: SMT;
    LACKING = "work_lacking", cgroups::lacking, topology: SMT;
    SWAPPED = "work_swapped", cgroups::swapped, topology: SMT;
    BENCHES = "work_benches", benches::all, topology: SMT;
    SCHBENCH = "work_schbench", schbench::all, topology: SMT;
    FRAMES = "work_frames", benches::frames, topology: SMT;
    SOFTIRQ = "work_softirq", benches::woken, topology: SMT;
    CUSTOM = "work_custom", custom::all, topology: SMT;
    RT_APP = "work_rt_app", rt_app::all, topology: SMT;
    RT_APP_SCX = "work_rt_app_scx", rt_app::all, topology: SMT, scheduler: &SCHED;
    THREADS = "work_threads", threads::all, topology: SMT;
}

/// Runs an entry, which must pass. The test function checks everything in the guest, and returns an error for a wrong value.
#[track_caller]
fn holds(entry: &'static KtstrTestEntry) {
    let finished = ktstr::run::run(entry);
    assert!(finished.result.is_pass(), "{}", finished.text);
    let output = finished.vm.map(|vm| vm.output).unwrap_or_default();
    println!("{output}");
}

macro_rules! tests {
    ($($name:ident = $entry:ident;)*) => { $(
        #[test]
        fn $name() {
            holds(&$entry);
        }
    )* };
}

tests! {
    basic_work_is_no_spin = BASICS;
    work_that_waits_is_woken = WAITS;
    work_that_waits_is_woken_under_scx_ktstr = WAITS_SCX;
    queues_fill_and_run_dry = QUEUES;
    members_have_their_classes = CLASSES;
    only_inheritance_bounds_an_inversion = INVERSION;
    memory_is_touched_and_moved = MEMORY;
    memory_comes_from_where_the_policy_says = POLICIES;
    cgroups_are_changed = CGROUPS;
    swappable_cgroups_do_something_else = SWAPPED;
    requests_are_handed_out_and_served = BENCHES;
    parameters_of_schbench_change_its_work = SCHBENCH;
    frames_come_back_in_softirqs = FRAMES;
    functions_of_a_test_are_workers = CUSTOM;
    actions_of_rt_app_have_their_effects = RT_APP;
    actions_of_rt_app_have_their_effects_under_scx_ktstr = RT_APP_SCX;
    workers_are_threads_of_one_process = THREADS;
}

#[test]
fn what_a_worker_lacks_is_in_the_verdict() {
    let finished = ktstr::run::run(&LACKING);
    println!("{}", finished.text);
    let needs = [
        ("nodes", "needs CPUs of two NUMA nodes"),
        (
            "forks",
            "could not fork a child; does the limit on tasks (pids.max)",
        ),
        ("storm", "Resource temporarily unavailable (os error 11)"),
        (
            "pinned",
            "to CPUs 3: Invalid argument (os error 22); none of these CPUs is both online",
        ),
        ("pinned", "(online: 0-2)"),
        ("memory", "signal 9 killed worker"),
    ];
    for (cgroup, text) in needs {
        let mut failures = finished.result.failure_details();
        let is_it =
            |d: &AssertDetail| d.cgroup.as_deref() == Some(cgroup) && d.message.contains(text);
        assert!(
            failures.any(is_it),
            "{cgroup}: {text}\n{:?}",
            finished.result.outcomes
        );
    }
}

/// The exact schedule shows who woke whom.
#[test]
fn a_frame_wakes_from_a_softirq_and_a_pipe_does_not() {
    let finished = ktstr::run::run(&SOFTIRQ);
    assert!(finished.result.is_pass(), "{}", finished.text);
    let record = finished.record.expect("a run leaves a record");
    let file = record.with_file_name(ktstr_schedule::SCHEDULE_FILE);
    let file = std::fs::read(file).expect("its schedule");
    let schedule = ktstr_schedule::Schedule::read(&file).expect("a schedule");
    let events = schedule.events().expect("all of them");
    let output = finished.vm.map(|vm| vm.output).unwrap_or_default();
    // Returns the wake-ups of one worker: by interrupts, and by tasks.
    let wakes = |name: &str| -> [usize; 2] {
        let line = output.lines().find_map(|line| line.strip_prefix(name));
        let pid: u32 = line.and_then(|tid| tid.trim().parse().ok()).expect(name);
        [true, false].map(|by| {
            let same = |what: &ktstr_schedule::What| {
                matches!(what, ktstr_schedule::What::Wake { task, interrupt, .. }
                if task.0 == pid && *interrupt == by)
            };
            events.iter().filter(|event| same(&event.what)).count()
        })
    };
    let [frames, pipes, spins] = ["IrqWake", "PipeIo", "SpinWait"].map(wakes);
    assert!(frames[0] > 30 && frames[0] > 9 * frames[1], "{frames:?}");
    assert!(pipes[1] > 30 && pipes[1] > 9 * pipes[0], "{pipes:?}");
    // A spinner is woken only at its start and at its stop.
    assert!(spins.iter().sum::<usize>() < 10, "{spins:?}");
}

/// The entries include epoll, functions of the test as workers, and workers that are threads.
#[test]
fn the_same_seed_is_the_same_work() {
    for entry in [&QUEUES, &CUSTOM, &RT_APP, &THREADS, &BENCHES, &FRAMES] {
        let digest = || {
            let finished = ktstr::run::run(entry);
            assert!(finished.result.is_pass(), "{}", finished.text);
            let vm = finished.vm.expect("a machine ran");
            (vm.seed, vm.digest.expect("under the virtual clock"))
        };
        assert_eq!(digest(), digest(), "{}", entry.name);
    }
}
