//! The worst value of each kind in small hand-written schedules. Times are in milliseconds.

use super::*;
use crate::event::Reason::{Exited, Idle, Preempted, Slept};
use crate::event::{Class, Cpu, CpuMask, SchedExtState, What};
use crate::query::Rules;
use crate::tables::Cgroup;
use crate::testing::Script;

const A: u32 = 10;
const B: u32 = 11;
const MS: u64 = 1_000_000;

/// Two tasks in separate cgroups below `/root`, on the CPUs of `Script`, of which all except CPU 0 are offline.
fn script() -> Script {
    script_on(1)
}

/// The same as [`script`], with this number of CPUs online.
fn script_on(cpus: u16) -> Script {
    let mut script = Script::default();
    let cgroup = |path: &str| Cgroup {
        path: path.to_owned(),
    };
    script.tables.cgroups = [(1, cgroup("/root/a")), (2, cgroup("/root/b"))].into();
    for cpu in cpus..4 {
        online(script.at(0), cpu, false);
    }
    for (task, cgroup) in [(A, 1), (B, 2)] {
        let task = Pid(task);
        script.at(0).push(0, What::Cgroup { task, cgroup });
    }
    script.phase(1);
    script.wake(0, A, 0).wake(0, B, 0);
    script
}

/// Adds the event that a CPU goes online or offline.
fn online(script: &mut Script, cpu: u16, online: bool) {
    let cpu = Cpu(cpu);
    script.push(0, What::Online { cpu, online });
}

/// `A` runs for `a` ms and `B` for `b` ms in turn, for one second.
fn in_turn(script: &mut Script, a: u64, b: u64) {
    in_turn_until(script, a, b, 1000, None);
}

/// The same as [`in_turn`], until `end` ms and with a change after the first turns.
fn in_turn_until(script: &mut Script, a: u64, b: u64, end: u64, mut change: Option<What>) {
    let (mut now, mut last) = (0, 0);
    while now < end {
        if last != 0
            && let Some(what) = change.take()
        {
            script.at(now * MS).push(0, what);
        }
        let reason = if last == 0 { Idle } else { Preempted };
        script.at(now * MS).switch(0, last, A, reason);
        script.at((now + a) * MS).switch(0, A, B, Preempted);
        (now, last) = (now + a + b, B);
    }
    script.at(now * MS).push(0, What::End {});
}

fn measured(script: &Script, rules: Rules) -> Measures {
    let file = script.file();
    let schedule = crate::Schedule::read(&file).expect("a writer's file can be read");
    let answers = Answers::under(&schedule, rules).expect("a writer's events can be read");
    measures(&answers, schedule.tables(), "/root")
}

/// Returns the share of its entitlement that the worst served cgroup got, in tenths.
fn worst_cgroup(script: &Script, rules: Rules) -> Option<f64> {
    measured(script, rules)
        .cgroup
        .map(|worst| (worst.ratio() * 10.0).round())
}

#[test]
fn equal_turns_are_fair_and_unequal_ones_are_not() {
    let mut fair = script();
    in_turn(&mut fair, 10, 10);
    let fair = measured(&fair, Rules::default());
    let ratio = |of: &Option<Underserved>| of.as_ref().map(|of| (of.ratio() * 100.0).round());
    assert_eq!(
        (ratio(&fair.task), ratio(&fair.cgroup)),
        (Some(100.0), Some(100.0))
    );

    let mut unfair = script();
    in_turn(&mut unfair, 30, 10);
    let unfair = measured(&unfair, Rules::default());
    let worst = unfair.cgroup.expect("a cgroup got too little");
    assert_eq!(worst.who, Who::Cgroup("b".to_owned()));
    assert!((0.48..0.54).contains(&worst.ratio()), "{worst:?}");
    let (favoured, ns) = worst.favoured.expect("a cgroup got more");
    assert_eq!(favoured, Who::Cgroup("a".to_owned()));
    assert!((200..300).contains(&(ns / MS)), "{ns}");
}

/// Two tasks take turns of 30 and 10 ms in phases of 0.4 s. One such phase says nothing about shares, two do.
#[test]
fn short_phases_are_judged_together() {
    let worst = |phases: u64| {
        let mut script = script();
        let (mut now, mut last) = (0, 0);
        for phase in 0..phases {
            if phase > 0 {
                script.at(now * MS).phase(1 + phase as u16);
            }
            while now < (phase + 1) * 400 {
                let reason = if last == 0 { Idle } else { Preempted };
                script.at(now * MS).switch(0, last, A, reason);
                script.at((now + 30) * MS).switch(0, A, B, Preempted);
                (now, last) = (now + 40, B);
            }
        }
        script.at(now * MS).push(0, What::End {});
        measured(&script, Rules::default()).cgroup
    };
    assert_eq!(worst(1), None);
    let unfair = worst(2).expect("a cgroup got too little");
    assert_eq!(
        (unfair.who.clone(), unfair.phase),
        (Who::Cgroup("b".to_owned()), None)
    );
    assert!((0.48..0.54).contains(&unfair.ratio()), "{unfair:?}");
}

/// For a second after a change, the queues may be unbalanced. No shares are computed for that second, and later shares do
/// not include it.
#[test]
fn after_a_change_of_affinity_the_queues_need_time_to_balance() {
    let changes = [
        What::Affinity {
            task: Pid(A),
            mask: CpuMask([1, 0]),
        },
        What::Cgroup {
            task: Pid(A),
            cgroup: 2,
        },
        What::Weight {
            cgroup: 1,
            shares: 1064 << 10,
        },
        What::Online {
            cpu: Cpu(1),
            online: false,
        },
    ];
    let worst = |change: Option<What>, end| {
        let mut script = script();
        in_turn_until(&mut script, 30, 10, end, change);
        let rules = Rules {
            cpu_weight: false,
            ..Rules::default()
        };
        measured(&script, rules).task.map(|worst| worst.ratio())
    };
    let unfair = |ratio: Option<f64>| ratio.is_some_and(|ratio| (0.48..0.54).contains(&ratio));
    assert!(unfair(worst(None, 1000)));
    for change in changes {
        assert_eq!(worst(Some(change), 1000), None, "{change:?}");
        assert!(unfair(worst(Some(change), 2000)), "{change:?}");
    }
}

/// A CPU that goes offline still switches to its idle task after the event that reports it as offline.
#[test]
fn a_cpu_that_is_offline_does_not_idle() {
    let mut script = script();
    script.at(0).switch(1, 20, 0, Slept);
    in_turn(&mut script, 10, 10);
    let measures = measured(&script, Rules::default());
    assert_eq!(measures.wasted.map_or(0, |wasted| wasted.ns), 0);
}

/// Two tasks share CPU 0 while CPU 1 idles. At 300 ms, between two steps, their affinities change, so that they may use CPU 1 as
/// well. From then on a balancer has a second to find CPU 1, and only the time that is wasted later counts.
#[test]
fn a_cpu_that_was_newly_allowed_is_wasted_only_after_a_second() {
    let wasted = |end: u64| {
        let mut script = script();
        online(script.at(0), 1, true);
        for task in [A, B] {
            script.affinity(task, 0b01);
        }
        script.switch(1, 20, 0, Slept).switch(0, 0, A, Idle);
        let (mut now, mut last) = (10, A);
        while now < end {
            let next = A + B - last;
            script.at(now * MS).switch(0, last, next, Preempted);
            if now == 300 {
                script.push(0, What::End {});
                script.affinity(A, 0b11).affinity(B, 0b11).phase(2);
            }
            (now, last) = (now + 10, next);
        }
        script.at(end * MS).push(0, What::End {});
        let worst = measured(&script, Rules::default()).wasted;
        worst.map_or(0, |worst| worst.ns / MS)
    };
    assert_eq!(wasted(1200), 0);
    // The second ends at 1300 ms. At any time one of the two tasks waits, for 10 ms each. The first 4 ms of each wait do not
    // count, because an idle CPU looks for work within that time anyway.
    let late = wasted(2300);
    assert!((590..=600).contains(&late), "{late} ms");
}

/// If some tasks may run on fewer CPUs than others, the CPUs on which the tasks start are arbitrary. No shares are judged then
/// until a second after the last task has started to work.
#[test]
fn after_a_start_next_to_a_confined_task_the_queues_need_time_to_balance() {
    let worst = |confined: bool, end| {
        let mut script = script();
        if confined {
            let (task, mask) = (Pid(A), CpuMask([1, 0]));
            script.at(0).push(0, What::Affinity { task, mask });
        }
        in_turn_until(&mut script, 30, 10, end, None);
        measured(&script, Rules::default())
            .task
            .map(|worst| worst.ratio())
    };
    let unfair = |ratio: Option<f64>| ratio.is_some_and(|ratio| (0.48..0.54).contains(&ratio));
    assert!(unfair(worst(false, 1000)));
    assert_eq!(worst(true, 1000), None);
    assert!(unfair(worst(true, 2000)));
}

/// When a task that was confined ends, its CPUs have less to do than the others.
#[test]
fn after_the_end_of_a_confined_task_the_queues_need_time_to_balance() {
    const C: u32 = 12;
    let even_ms = |mask: [u64; 2]| {
        let mut script = script();
        let (task, mask) = (Pid(C), CpuMask(mask));
        script.at(0).push(0, What::Cgroup { task, cgroup: 2 });
        script.at(0).push(0, What::Affinity { task, mask });
        script.at(0).switch(0, 0, C, Idle);
        script.at(20 * MS).switch(0, C, 0, Exited);
        // From then on, two tasks run that may use any CPU.
        let (mut now, mut last) = (20, 0);
        while now < 1000 {
            let reason = if last == 0 { Idle } else { Preempted };
            script.at(now * MS).switch(0, last, A, reason);
            script.at((now + 10) * MS).switch(0, A, B, Preempted);
            (now, last) = (now + 20, B);
        }
        script.at(now * MS).push(0, What::End {});
        let file = script.file();
        let schedule = crate::Schedule::read(&file).expect("a writer's file can be read");
        let answers = Answers::of(&schedule).expect("a writer's events can be read");
        answers.even_ns / MS
    };
    assert!(even_ms([u64::MAX; 2]) > 800);
    assert_eq!(even_ms([1, 0]), 0);
}

/// A task with three times the weight may run three times as long, but not if nice values do not count.
#[test]
fn a_nice_value_changes_the_entitlement() {
    let mut script = script();
    script.at(0).push(
        0,
        What::Nice {
            task: Pid(B),
            nice: 5,
        },
    );
    in_turn(&mut script, 30, 10);
    let ratio = |rules| measured(&script, rules).cgroup.map(|worst| worst.ratio());
    assert!(ratio(Rules::default()).is_some_and(|ratio| ratio > 0.9));
    let even = Rules {
        nice: false,
        ..Rules::default()
    };
    assert!(ratio(even).is_some_and(|ratio| ratio < 0.6));
}

/// If the test sets `cpu.weight`, equal turns are wrong, unless weights do not count.
#[test]
fn the_weight_of_a_cgroup_changes_the_entitlement() {
    let mut script = script();
    let shares = 3072 << 10;
    script.at(0).push(0, What::Weight { cgroup: 1, shares });
    in_turn(&mut script, 10, 10);
    assert_eq!(worst_cgroup(&script, Rules::default()), Some(7.0));
    let side_by_side = Rules {
        cpu_weight: false,
        ..Rules::default()
    };
    assert_eq!(worst_cgroup(&script, side_by_side), Some(10.0));
}

/// Eight tasks share CPU 0 in turns of 20 ms, and the other CPUs are idle. Each task waits for the turns of the seven others.
#[test]
fn the_queue_of_a_confined_cgroup_is_that_of_its_cpus() {
    let mut script = script_on(4);
    let path = "/root/c".to_owned();
    script.tables.cgroups.insert(3, Cgroup { path });
    for task in [A, B] {
        script.dequeue(0, task, crate::event::DequeueReason::Sleep);
    }
    for task in 30..38 {
        let (task, cgroup, mask) = (Pid(task), 3, CpuMask::of(1));
        script.at(0).push(0, What::Cgroup { task, cgroup });
        script.push(0, What::Affinity { task, mask });
        script.wake(0, task.0, 0);
    }
    for turn in 0..100 {
        let (last, next) = (30 + (turn + 7) % 8, 30 + turn % 8);
        script.at(u64::from(turn) * 20 * MS);
        if turn == 0 {
            script.switch(0, 0, next, Idle);
        } else {
            script.switch(0, last, next, Slept);
            script.wake(0, last, 0);
        }
    }
    script.at(2000 * MS).push(0, What::End {});
    let measured = measured(&script, Rules::default());
    let wake = measured.wake.expect("enough wake-ups");
    assert!((7.5..8.5).contains(&measured.queue), "{}", measured.queue);
    let per_task_ms = wake.value / 1e6;
    assert!((16.0..19.0).contains(&per_task_ms), "{per_task_ms}");
}

/// The schedule shows that a cgroup gets a weight, but not that the cgroup is removed. A new cgroup with the same path has the
/// default weight.
#[test]
fn a_new_cgroup_of_the_same_path_has_the_default_weight() {
    let mut script = script();
    let path = "/root/a".to_owned();
    script.tables.cgroups.insert(3, Cgroup { path });
    let shares = 3072 << 10;
    script.at(0).push(0, What::Weight { cgroup: 1, shares });
    let (task, cgroup) = (Pid(A), 3);
    script.push(0, What::Cgroup { task, cgroup });
    in_turn(&mut script, 10, 10);
    assert_eq!(worst_cgroup(&script, Rules::default()), Some(10.0));
}

/// If the test sets `cpu.idle`, equal turns are wrong. If the scheduler could not know of the setting, the setting does not
/// count, and equal turns are right.
#[test]
fn an_idle_cgroup_is_entitled_to_what_the_others_leave() {
    let mut script = script();
    let shares = crate::IDLE_CGROUP_WEIGHT << crate::SHARES_SHIFT;
    script.at(0).push(0, What::Weight { cgroup: 1, shares });
    in_turn(&mut script, 10, 10);
    assert_eq!(worst_cgroup(&script, Rules::default()), Some(5.0));
    let untold = Rules {
        cpu_idle: false,
        ..Rules::default()
    };
    assert_eq!(worst_cgroup(&script, untold), Some(10.0));
}

#[test]
fn a_task_that_waits_is_owed_its_share_and_one_that_sleeps_is_not() {
    let mut script = script();
    script.at(0).switch(0, 0, A, Idle);
    // Time is accounted only at events, so there must be some during the wait.
    for ms in (50..=800).step_by(50) {
        script.at(ms * MS).wake(0, A, 0);
    }
    script.at(800 * MS).switch(0, A, B, Preempted);
    script.at(900 * MS).switch(0, B, 0, Slept);
    script.at(1000 * MS).push(0, What::End {});
    let found = measured(&script, Rules::default());
    let worst = found.starved.expect("a task waited");
    assert_eq!(
        (worst.waited_ns / MS, worst.served, worst.from_ns),
        (800, true, 0)
    );
    let Who::Task { pid, cgroup, .. } = worst.who else {
        panic!("a task waits, not a cgroup");
    };
    assert_eq!((pid, cgroup.as_str()), (Pid(B), "b"));
    // `B` is owed half of the CPU.
    assert!(
        (350..=410).contains(&(worst.owed_ns / MS)),
        "{}",
        worst.owed_ns
    );
}

/// The scheduler is unloaded at 200 ms and loaded again at 700 ms, and another class runs the tasks in between. The cause is
/// either a CPU that went offline before, or something else.
#[test]
fn no_scheduler_has_to_drive_during_a_restart_after_a_hotplug() {
    let driven = |hotplug: bool| {
        let mut script = script();
        script.at(100 * MS).switch(0, 0, A, Idle);
        if hotplug {
            online(script.at(150 * MS), 3, false);
        }
        let mut class = |ms: u64, state, class| {
            script.at(ms * MS).push(0, What::SchedExt { state });
            let (task, on) = (Pid(A), Cpu(0));
            let what = What::Enqueue {
                task,
                on,
                class,
                wakeup: false,
            };
            script.at(ms * MS).push(0, what);
        };
        class(200, SchedExtState::Disabling, Class::Fair);
        // The first attempt to attach fails.
        class(400, SchedExtState::Enabling, Class::Fair);
        class(500, SchedExtState::Disabling, Class::Fair);
        class(700, SchedExtState::Enabling, Class::Ext);
        script.at(1000 * MS).push(0, What::End {});
        let found = measured(&script, Rules::default());
        (found.driven_ns / MS, found.ran_ns / MS)
    };
    assert_eq!(driven(true), (400, 400));
    assert_eq!(driven(false), (400, 900));
}

/// An idle CPU next to a waiting task counts against the scheduler, but not after the kernel has asked the scheduler to load
/// again, as it does after a CPU went online or offline.
#[test]
fn nothing_is_wasted_by_a_scheduler_that_was_asked_to_load_again() {
    let wasted = |hotplug: bool| {
        let mut script = script();
        online(script.at(0), 1, true);
        script.switch(1, 20, 0, Slept);
        script.at(MS).switch(0, 0, A, Idle);
        if hotplug {
            online(script.at(100 * MS), 2, true);
        }
        let state = SchedExtState::Disabling;
        script.at(200 * MS).push(0, What::SchedExt { state });
        script.at(1000 * MS).push(0, What::End {});
        let worst = measured(&script, Rules::default()).wasted;
        worst.map_or(0, |worst| worst.ns / MS)
    };
    assert_eq!(wasted(false), 996);
    assert_eq!(wasted(true), 196);
}

/// CPU 1 is idle from the beginning on, as its first switch shows, while `B` waits for CPU 0.
#[test]
fn a_cpu_is_idle_before_its_first_switch() {
    let wasted = |first: u32, bypassed: bool| {
        let mut script = script_on(2);
        script.at(MS).switch(0, 0, A, Idle);
        if bypassed {
            script.at(200 * MS).push(0, What::Bypass { on: true });
        }
        script.at(900 * MS).switch(1, first, 20, Slept);
        script.at(1000 * MS).push(0, What::End {});
        let worst = measured(&script, Rules::default()).wasted;
        if (first, bypassed) == (0, false) {
            // Two of the four CPUs are offline, and have no CPU time.
            let share = worst.as_ref().map_or(0.0, |worst| worst.share);
            assert!((share - 0.448).abs() < 0.001, "{share}");
        }
        worst.map_or(0, |worst| worst.ns / MS)
    };
    assert_eq!(wasted(0, false), 896);
    assert_eq!(
        wasted(0, true),
        196,
        "during a bypass the kernel places the tasks"
    );
    assert_eq!(wasted(21, false), 0, "the CPU was busy with another task");
}

/// `A` may run for 2 ms of each 10 ms. When it has used them up, it is preempted. It is enqueued again 8 ms later.
#[test]
fn a_deadline_task_without_budget_does_not_wait() {
    let wasted = |class| {
        let mut script = script_on(2);
        script.switch(1, 0, 0, Idle);
        script.dequeue(0, B, crate::event::DequeueReason::Sleep);
        let (task, on, wakeup) = (Pid(A), Cpu(0), false);
        let what = What::Enqueue {
            task,
            on,
            class,
            wakeup,
        };
        for at in (0..1000).step_by(10) {
            script.at(at * MS).push(0, what).switch(0, 0, A, Idle);
            script.at((at + 2) * MS).switch(0, A, 0, Preempted);
        }
        script.at(1000 * MS).push(0, What::End {});
        let worst = measured(&script, Rules::default()).wasted;
        worst.map_or(0, |worst| worst.ns / MS)
    };
    assert_eq!(wasted(Class::Deadline), 0);
    assert!(wasted(Class::Fair) > 300, "{}", wasted(Class::Fair));
}

/// `A` has slice left when a real-time task preempts it, so sched_ext keeps `A` on its CPU, although another CPU is idle.
/// sched_ext does not keep `A` there if the BPF scheduler has put `A` into a queue.
#[test]
fn a_task_that_the_kernel_keeps_behind_a_real_time_task_wastes_nothing() {
    let wasted = |inserted: bool| {
        let mut script = script_on(2);
        script.switch(1, 0, 0, Idle);
        script.dequeue(0, B, crate::event::DequeueReason::Sleep);
        let on = Cpu(0);
        let woken = |task, class| What::Enqueue {
            task: Pid(task),
            on,
            class,
            wakeup: true,
        };
        script.at(0).push(0, woken(A, Class::Ext));
        script.switch(0, 0, A, Idle);
        for at in (10..1000).step_by(20) {
            script.at(at * MS).push(0, woken(20, Class::RealTime));
            script.switch(0, A, 20, Preempted);
            if inserted {
                let (task, dsq, slice_ns) = (Pid(A), 3, 0);
                script.push(
                    0,
                    What::Insert {
                        task,
                        dsq,
                        slice_ns,
                    },
                );
            }
            script.at((at + 10) * MS).switch(0, 20, A, Slept);
        }
        script.at(1010 * MS).push(0, What::End {});
        let worst = measured(&script, Rules::default()).wasted;
        worst.map_or(0, |worst| worst.ns / MS)
    };
    assert_eq!(wasted(false), 0);
    assert!(wasted(true) > 250, "{}", wasted(true));
}

/// The affinities of the tasks differ only in bits of CPUs that the machine does not have.
#[test]
fn bits_of_cpus_that_do_not_exist_make_no_other_affinity() {
    let mut script = script();
    for (task, mask) in [(A, [0b1111, 0]), (B, [0b1111, 0x46_3043_3050_4e50])] {
        let (task, mask) = (Pid(task), CpuMask(mask));
        script.at(0).push(0, What::Affinity { task, mask });
    }
    in_turn(&mut script, 30, 10);
    let found = measured(&script, Rules::default());
    let ratio = found.task.as_ref().map(Underserved::ratio);
    assert!(ratio.is_some_and(|ratio| ratio < 0.6), "{ratio:?}");
}

#[test]
fn the_time_of_a_real_time_task_is_not_held_against_the_scheduler() {
    let driven = |class, bypass_ms: u64| {
        let mut script = script();
        script.at(100 * MS).switch(0, 0, A, Idle);
        let (task, on, wakeup) = (Pid(B), Cpu(0), false);
        let what = What::Enqueue {
            task,
            on,
            class,
            wakeup,
        };
        script.at(200 * MS).push(0, what);
        script.at(200 * MS).switch(0, A, B, Preempted);
        let bypass = script.at(bypass_ms * MS);
        bypass.push(0, What::Bypass { on: true });
        script.at(1000 * MS).push(0, What::End {});
        let found = measured(&script, Rules::default());
        (found.driven_ns / MS, found.ran_ns / MS)
    };
    assert_eq!(driven(Class::RealTime, 1000), (100, 100));
    assert_eq!(driven(Class::Fair, 1000), (100, 900));
    // Time of another class during a bypass counts once.
    assert_eq!(driven(Class::Fair, 500), (100, 900));
    assert_eq!(driven(Class::Ext, 500), (400, 900));
}

/// During a bypass the kernel gives `A` the CPU for 500 ms. Afterwards the scheduler lets `A` wait for as long.
#[test]
fn a_scheduler_may_take_back_what_a_task_got_in_a_bypass() {
    let owed = |bypassed: bool| {
        let mut script = script();
        script.at(0).switch(0, 0, A, Idle);
        for (at, on) in [(1, true), (500, false)] {
            if bypassed {
                script.at(at * MS).push(0, What::Bypass { on });
            }
        }
        script.at(500 * MS).switch(0, A, B, Preempted);
        script.at(900 * MS).switch(0, B, A, Preempted);
        script.at(1000 * MS).push(0, What::End {});
        let worst = measured(&script, Rules::default()).starved;
        worst.map_or(0, |worst| worst.owed_ns / MS)
    };
    assert!((200..=260).contains(&owed(false)), "{}", owed(false));
    assert_eq!(owed(true), 0);
}

#[test]
fn a_phase_has_its_own_preemptions_wakeups_and_waste() {
    let mut script = script();
    in_turn(&mut script, 10, 10);
    let found = measured(&script, Rules::default());
    let rate = found.preemptions.expect("tasks were preempted");
    assert!((95.0..105.0).contains(&rate.value), "{rate:?}");
    assert_eq!(found.wake, None);
    assert_eq!(found.wasted.map(|wasted| wasted.ns), Some(0));
    assert_eq!(found.ran_ns, found.driven_ns);
}
