//! Tests of the reader of rt-app workload files: the scenarios that it makes from files as people write them, and (`refused`)
//! the errors for files that cannot be run.
#![allow(clippy::unwrap_used)]

mod refused;

use std::time::Duration;

use ktstr_scenario::ops::CgroupDef;
use ktstr_scenario::rt_app::RtAppFile;
use ktstr_scenario::text::Scenario;
use ktstr_scenario::topology::{TestTopology, Topology};
use ktstr_scenario::workload::{
    AffinityIntent, MemPolicy, RtAction, RtPhase, SchedPolicy, WorkSpec, WorkType,
};

const fn us(us: u64) -> Duration {
    Duration::from_micros(us)
}

/// Reads a file. Checks that its scenario is valid, and stays the same if it is printed as text and read again.
fn read(text: &str) -> RtAppFile {
    let file = Scenario::from_rt_app(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let machine = TestTopology::from_vm_topology(&Topology::new(1, 1, 8, 1));
    file.scenario.validate(&machine).unwrap();
    let printed = file.scenario.to_text().unwrap();
    assert_eq!(
        Scenario::from_text(&printed).unwrap(),
        file.scenario,
        "{printed}"
    );
    file
}

/// Returns the only cgroup of a file's scenario.
fn cgroup(file: &RtAppFile) -> &CgroupDef {
    let [cgroup] = file.scenario.backdrop.cgroups.as_slice() else {
        panic!("{file:?}")
    };
    cgroup
}

/// Returns the phases of a group of workers, and how often each worker executes all of them.
fn phases(work: &WorkSpec) -> (&[RtPhase], u64) {
    let WorkType::RtApp { phases, repeat, .. } = &work.work_type else {
        panic!("{work:?}")
    };
    (phases, *repeat)
}

/// Reads a file with one task, `me`, whose only phase has these events. Returns the actions of that phase.
fn actions(events: &str) -> Vec<RtAction> {
    let file = read(&format!("{{ \"tasks\" : {{ \"me\" : {{\n{events} }} }} }}"));
    let [work] = cgroup(&file).works.as_slice() else {
        panic!("{file:?}")
    };
    let [phase] = phases(work).0 else {
        panic!("{work:?}")
    };
    phase.actions.clone()
}

#[test]
fn events_become_actions_in_their_order() {
    use RtAction::*;
    let name = |text: &str| text.to_owned();
    let timer = |text: &str, shared| Timer {
        name: name(text),
        period: us(500),
        absolute: false,
        shared,
    };
    let wait = || Wait {
        condition: name("c"),
        mutex: name("m"),
    };
    for (events, expected) in [
        (
            "\"run\" : 10, \"sleep\" : 20, \"run\" : 30, \"runtime\" : 40",
            vec![Run(us(10)), Sleep(us(20)), Run(us(30)), Runtime(us(40))],
        ),
        // A key that begins with the name of an event is that event.
        (
            "\"run0\" : 1, \"run1\" : 2, \"runtime_a\" : 3, \"unlock1\" : \"m\", \"sem_wait2\" : \"s\"",
            vec![
                Run(us(1)),
                Run(us(2)),
                Runtime(us(3)),
                Unlock(name("m")),
                SemWait(name("s")),
            ],
        ),
        (
            "\"timer\" : { \"ref\" : \"tick\", \"period\" : 500 }, \"timer\" : { \"ref\" : \"uniqueB\", \"period\" : 500, \
             \"mode\" : \"relative\" }, \"timer\" : { \"period\" : 500 }",
            vec![
                timer("tick", true),
                timer("uniqueB", false),
                timer("unknown", true),
            ],
        ),
        (
            "\"lock\" : \"m\", \"wait\" : { \"ref\" : \"c\", \"mutex\" : \"m\" }, \"unlock\" : \"m\", \"signal\" : \"c\", \
             \"broad\" : \"c\", \"sync\" : { \"mutex\" : \"m\", \"ref\" : \"c\" }",
            vec![
                Lock(name("m")),
                wait(),
                Unlock(name("m")),
                Signal(name("c")),
                Broadcast(name("c")),
                Signal(name("c")),
                wait(),
            ],
        ),
        (
            "\"suspend\", \"suspend\" : \"\", \"suspend\" : \"you\", \"resume\" : \"you\", \"sem_post\" : \"s\", \"yield\" : \"\"",
            vec![
                Suspend(name("me")),
                Suspend(name("me")),
                Suspend(name("you")),
                Resume(name("you")),
                SemPost(name("s")),
                Yield,
            ],
        ),
    ] {
        assert_eq!(actions(events), expected, "{events}");
    }
}

#[test]
fn a_light_task_with_all_usual_keys() {
    let file = read(
        r#"{
    /*
     * A task that uses a fifth of a CPU, and the usual global keys.
     */
    "tasks" : {
        "light" : {
            "loop" : -1,
            "run" :   20000,
            "sleep" : 80000
        }
    },
    "global" : {
        "duration" : 2,
        "calibration" : "CPU0",
        "default_policy" : "SCHED_OTHER",
        "pi_enabled" : false,
        "lock_pages" : true,
        "logdir" : "./",
        "log_basename" : "light",
        "log_size" : "disable",
        "ftrace" : "none",
        "gnuplot" : false,
        "cumulative_slack" : true,
    }
}
"#,
    );
    assert_eq!(
        (file.duration, file.cpus),
        (Some(Duration::from_secs(2)), 1)
    );
    let cgroup = cgroup(&file);
    assert_eq!((cgroup.name.as_ref(), &cgroup.cpu), ("rt-app", &None));
    let [work] = cgroup.works.as_slice() else {
        panic!("{cgroup:?}")
    };
    assert_eq!(work.comm.as_deref(), Some("light"));
    let expected = RtPhase {
        repeat: 0,
        actions: vec![RtAction::Run(us(20_000)), RtAction::Sleep(us(80_000))],
    };
    assert_eq!(phases(work), (&[expected][..], 1));
    let notes: Vec<String> = file.notes.iter().map(ToString::to_string).collect();
    let places: Vec<&str> = notes
        .iter()
        .map(|note| note.split(": ").next().unwrap())
        .collect();
    assert_eq!(
        places,
        [
            "line 14, `global.calibration`",
            "line 17, `global.lock_pages`",
            "line 18, `global.logdir`",
            "line 19, `global.log_basename`",
            "line 23, `global.cumulative_slack`"
        ]
    );
    insta::assert_snapshot!(notes[0], @"line 14, `global.calibration`: it has no effect: `run` is an amount of CPU time, which needs no calibration");
    // Without the object `global` the file sets no duration.
    let bare = read(
        r#"{ "tasks" : { "t" : { "run" : 1 } }, "resources" : { "m" : { "type" : "mutex" } } }"#,
    );
    assert_eq!(bare.duration, None);
    assert_eq!(bare.notes.len(), 1, "{:?}", bare.notes);
    let endless = read(r#"{ "tasks" : { "t" : { "run" : 1 } }, "global" : { "duration" : -1 } }"#);
    assert_eq!(endless.duration, None);
}

#[test]
fn loops_are_of_the_task_or_of_its_phases() {
    let of = |text: &str| {
        let file = read(&format!("{{ \"tasks\" : {{ \"t\" : {{ {text} }} }} }}"));
        let (phases, repeat) = phases(&cgroup(&file).works[0]);
        (
            repeat,
            phases.iter().map(|phase| phase.repeat).collect::<Vec<_>>(),
        )
    };
    // A task without `phases` has one phase, and its `loop` says how often this phase is repeated.
    assert_eq!(of("\"run\" : 1"), (0, vec![1]));
    assert_eq!(of("\"loop\" : 7, \"run\" : 1"), (1, vec![7]));
    assert_eq!(of("\"loop\" : -1, \"run\" : 1"), (1, vec![0]));
    let phases = "\"phases\" : { \"p\" : { \"loop\" : 3, \"run\" : 1 }, \"p\" : { \"run\" : 2 }, }";
    assert_eq!(of(phases), (0, vec![3, 1]));
    assert_eq!(of(&format!("{phases}, \"loop\" : 4")), (4, vec![3, 1]));
}

#[test]
fn tasks_of_several_phases_policies_and_cpus() {
    let file = read(
        r#"{
    "tasks" : {
        "walker" : {
            "instance" : 3, "delay" : 5000, "policy" : "SCHED_OTHER", "priority" : -19, "cpus" : [ 2, 3 ], "nodes_membind" : [ 0 ],
            "phases" : {
                "here" : { "cpus" : [ 0 ], "run" : 1500, "priority" : 5 },
                "there" : { "policy" : "SCHED_FIFO", "run" : 1500 },
                "back" : { "policy" : "SCHED_BATCH", "priority" : 3, "run" : 1500 },
                "short" : { "dl-runtime" : 700, "cpus" : 6, "run" : 1 }
            }
        },
        "audio" : { "policy" : "SCHED_RR", "priority" : 20, "run" : 1, "timer" : { "ref" : "unique", "period" : 10 } },
        "loud" : { "run" : 1 },
        "sliced" : { "policy" : "SCHED_OTHER", "priority" : -19, "dl-runtime" : 100000, "run" : 20000 }
    },
    "global" : { "default_policy" : "SCHED_FIFO", "pi_enabled" : true }
}"#,
    );
    assert!(file.notes.is_empty(), "{:?}", file.notes);
    assert_eq!(file.cpus, 7);
    let [walker, audio, loud, sliced] = cgroup(&file).works.as_slice() else {
        panic!("{file:?}")
    };
    assert_eq!((walker.num_workers, walker.nice), (Some(3), Some(-19)));
    assert_eq!(walker.affinity, AffinityIntent::exact([2, 3]));
    assert_eq!(walker.mem_policy, MemPolicy::bind([0]));
    let WorkType::RtApp {
        delay,
        inherits_priority,
        ..
    } = walker.work_type
    else {
        panic!("{walker:?}")
    };
    assert_eq!((delay, inherits_priority), (us(5000), true));
    let all: Vec<_> = phases(walker)
        .0
        .iter()
        .map(|phase| phase.actions.clone())
        .collect();
    let run = || RtAction::Run(us(1500));
    let cpus = |cpus: &[usize]| RtAction::Cpus(cpus.iter().copied().collect());
    assert_eq!(all[0], [cpus(&[0]), RtAction::Priority(5), run()]);
    assert_eq!(
        all[1],
        [cpus(&[]), RtAction::Policy(SchedPolicy::Fifo(10)), run()]
    );
    assert_eq!(
        all[2],
        [
            cpus(&[]),
            RtAction::Policy(SchedPolicy::Batch),
            RtAction::Priority(3),
            run()
        ]
    );
    assert_eq!(audio.sched_policy, SchedPolicy::RoundRobin(20));
    assert_eq!(loud.sched_policy, SchedPolicy::Fifo(10));
    assert_eq!(
        (sliced.sched_policy, sliced.nice),
        (SchedPolicy::Normal, Some(-19))
    );
    assert_eq!(phases(sliced).0[0].actions[0], RtAction::Slice(us(100_000)));
}

#[test]
fn deadline_tasks_have_their_budget_by_new_names_and_old_ones() {
    let policy = |keys: &str| {
        let file = read(&format!(
            "{{ \"tasks\" : {{ \"t\" : {{ \"policy\" : \"SCHED_DEADLINE\", {keys}, \"run\" : 1 }} }} }}"
        ));
        let work = cgroup(&file).works[0].clone();
        (
            work.sched_policy,
            phases(&work).0[0].actions.len(),
            file.notes.len(),
        )
    };
    let of =
        |runtime, deadline, period| SchedPolicy::deadline(us(runtime), us(deadline), us(period));
    let new = "\"dl-runtime\" : 10, \"dl-period\" : 100, \"dl-deadline\" : 50";
    assert_eq!(policy(new), (of(10, 50, 100), 1, 0));
    assert_eq!(policy("\"dl-runtime\" : 10"), (of(10, 10, 10), 1, 0));
    assert_eq!(
        policy("\"dl-runtime\" : 10, \"dl-period\" : 30"),
        (of(10, 30, 30), 1, 0)
    );
    // `runtime`, the old name of the budget, is also the name of an event. A note tells users that it is no event here.
    let old = "\"runtime\" : 10, \"period\" : 100, \"deadline\" : 50";
    assert_eq!(policy(old), (of(10, 50, 100), 1, 1));
    // If the task also has `dl-runtime`, `runtime` is an event.
    assert_eq!(
        policy("\"dl-runtime\" : 10, \"runtime\" : 7"),
        (of(10, 10, 10), 2, 0)
    );
    let without = read(
        "{ \"tasks\" : { \"t\" : { \"deadline\" : 7, \"dl-period\" : 5, \"policy\" : \"SCHED_FIFO\",\n \"dl-runtime\" : 3, \"run\" : 1 } } }",
    );
    let lines: Vec<usize> = without.notes.iter().map(|note| note.line).collect();
    assert_eq!(lines, [1, 1, 2], "{:?}", without.notes);
}

#[test]
fn each_task_group_becomes_a_cgroup() {
    let file = read(
        r#"{
    "tasks" : {
        "a" : { "taskgroup" : "/tg1/inner", "run" : 1 },
        "b" : { "run" : 1, "taskgroup" : "" },
        "c" : { "phases" : { "p" : { "run" : 1, "taskgroup" : "/tg2" }, "q" : { "run" : 1 } } },
        "d" : { "run" : 1, "taskgroup" : "/tg1/inner/" },
        "e" : { "run" : 1, "taskgroup" : "/" },
        "f" : { "run" : 1, "instance" : 0 }
    }
}"#,
    );
    let cgroups = &file.scenario.backdrop.cgroups;
    let all: Vec<(String, Vec<&str>, bool)> = cgroups
        .iter()
        .map(|def| {
            let names = def.works.iter().map(|work| work.comm.as_deref().unwrap());
            (def.name.to_string(), names.collect(), def.cpu.is_some())
        })
        .collect();
    assert_eq!(
        all,
        [
            ("rt-app".to_owned(), vec!["b", "e"], true),
            ("tg1/inner".to_owned(), vec!["a", "d"], true),
            ("tg2".to_owned(), vec!["c"], true),
        ]
    );
    assert_eq!(file.notes.len(), 1, "{:?}", file.notes);
    assert!(file.notes[0].message.contains("0 instances"));
}

/// The tasks without a task group have a cgroup of their own, which is neither one of the file's groups nor above one.
#[test]
fn tasks_without_a_task_group_have_a_free_name() {
    let of = |groups: &[&str]| {
        let tasks = groups.iter().enumerate();
        let tasks = tasks.map(|(at, group)| {
            format!("\"t{at}\" : {{ \"run\" : 1, \"taskgroup\" : \"{group}\" }},")
        });
        let tasks: String = tasks.collect();
        let file = read(&format!(
            "{{ \"tasks\" : {{ {tasks} \"own\" : {{ \"run\" : 1 }} }} }}"
        ));
        let own = |def: &&CgroupDef| !groups.contains(&&*format!("/{}", def.name));
        let mut all = file.scenario.backdrop.cgroups.iter();
        all.find(own).map(|def| def.name.to_string())
    };
    assert_eq!(of(&[]).as_deref(), Some("rt-app"));
    assert_eq!(of(&["/x"]).as_deref(), Some("rt-app"));
    assert_eq!(of(&["/rt-app"]).as_deref(), Some("rt-app-root"));
    assert_eq!(of(&["/rt-app/x"]).as_deref(), Some("rt-app-root"));
    assert_eq!(
        of(&["/rt-app", "/rt-app-root"]).as_deref(),
        Some("rt-app-root-3")
    );
}

#[test]
fn barriers_and_timers_depend_on_the_events_of_all_tasks() {
    let file = read(
        r#"{ "tasks" : {
        "a" : { "instance" : 4, "barrier" : "all", "run" : 1, "barrier" : "some" },
        "b" : { "barrier" : "all", "run" : 1, "timer" : { "ref" : "tick", "period" : 9 }, "timer" : { "ref" : "unique", "period" : 9 } },
        "c" : { "timer" : { "ref" : "tick", "period" : 5, "mode" : "absolute" }, "timer" : { "ref" : "unique", "period" : 9, "mode" : "absolute" } }
    } }"#,
    );
    let mut barriers = Vec::new();
    let mut absolutes = Vec::new();
    for work in &cgroup(&file).works {
        for action in &phases(work).0[0].actions {
            match action {
                RtAction::Barrier { name, threads } => barriers.push((name.as_str(), *threads)),
                RtAction::Timer { absolute, .. } => absolutes.push(*absolute),
                _ => {}
            }
        }
    }
    assert_eq!(barriers, [("all", 5), ("some", 4), ("all", 5)]);
    // `b` and `c` share the timer `tick`, so it is absolute in both. Each of them has its own timer `unique`.
    assert_eq!(absolutes, [true, false, true, true]);
}

#[test]
fn names_of_threads_are_cut_to_fifteen_bytes() {
    let file = read(
        r#"{ "tasks" : { "rather_long_name" : { "run" : 1 }, "ééééééééé" : { "run" : 1 }, "" : { "run" : 1 } } }"#,
    );
    let names: Vec<_> = cgroup(&file)
        .works
        .iter()
        .map(|work| work.comm.as_deref())
        .collect();
    assert_eq!(
        names,
        [Some("rather_long_nam"), Some("ééééééé"), Some("rt-app")]
    );
}
