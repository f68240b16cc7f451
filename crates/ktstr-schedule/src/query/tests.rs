//! Answers for small hand-written schedules.

use super::{Phase, WaitCause, percentile};
use crate::event::Reason::{Idle, Preempted, Slept, Yielded};
use crate::event::{Class, Cpu, DequeueReason, Pid, What};
use crate::tables::Cgroup;
use crate::testing::Script;

const A: u32 = 10;
const B: u32 = 11;

#[test]
fn two_tasks_share_a_cpu() {
    let mut script = Script::default();
    script.at(0).wake(0, A, 0).wake(0, B, 0);
    script.at(5).switch(0, 0, A, Idle);
    script.at(105).switch(0, A, B, Preempted);
    script.at(155).switch(0, B, A, Yielded);
    script.at(255).dequeue(0, A, DequeueReason::Sleep);
    script.at(257).switch(0, A, B, Slept);
    script.at(300).push(0, What::End {});
    let answers = script.answers();
    let of = |pid| answers.sum(|key| key.task == Pid(pid));
    let (a, b) = (of(A), of(B));
    assert_eq!(
        (a.run_ns, a.wait_ns, b.run_ns, b.wait_ns),
        (202, 55, 93, 207)
    );
    assert_eq!((a.runs, a.preempted, a.slept, b.yielded), (2, 1, 1, 1));
    assert_eq!((a.wakeups, b.wakeups), (1, 1));
    assert_eq!(answers.sum(|key| key.cpu == Cpu(0)).run_ns, 295);
    let waits = answers.waits_ns(|wait| wait.task == Pid(B));
    assert_eq!(waits, [102, 105]);
    assert_eq!(percentile(&waits, 99.0), Some(105));
    let causes: Vec<_> = answers.waits.iter().map(|wait| wait.cause).collect();
    use WaitCause as C;
    assert_eq!(causes, [C::Woken, C::Woken, C::Preempted, C::Yielded]);
}

/// A task runs on CPU 0 from 5 to 105 ns, and may use only CPU 1 from 50 ns on. The other task may run where it runs.
#[test]
fn a_run_outside_of_the_affinity_is_counted() {
    let mut script = Script::default();
    script.at(0).wake(0, A, 0).wake(0, B, 0);
    script.affinity(A, 0b01).affinity(B, 0b01);
    script.at(5).switch(0, 0, A, Idle);
    script.at(50).affinity(A, 0b10);
    script.at(105).switch(0, A, B, Preempted);
    script.at(155).switch(0, B, 0, Slept);
    script.at(300).push(0, What::End {});
    let outside: Vec<_> = script.answers().outside_ns.into_iter().collect();
    assert_eq!(outside, [(Pid(A), 55)]);
}

/// Times that leap over centuries and back, as in a damaged file, do not overflow.
#[test]
fn a_wait_of_centuries_is_as_long_as_it_is() {
    const FAR: u64 = 1 << 63;
    let real_time = What::Enqueue {
        task: Pid(B),
        on: Cpu(1),
        class: Class::RealTime,
        wakeup: true,
    };
    let mut script = Script::default();
    script.at(1).phase(1).wake(0, A, 0).push(1, real_time);
    script.switch(1, 0, B, Idle);
    for again in 1..4 {
        // A change of a task accounts for its time. The clock of the second change is behind, so that change takes the time
        // back.
        for at in [FAR + again, 1] {
            script.at(at).affinity(A, 0b11).affinity(B, 0b11);
        }
    }
    script.at(FAR + 9).switch(0, 0, A, Idle);
    script.at(FAR + 20).push(0, What::End {});
    let answers = script.answers();
    let of = |pid| answers.sum(|key| key.task == Pid(pid));
    assert_eq!((of(A).wait_ns, of(A).run_ns), (FAR + 8, 11));
    assert_eq!((of(B).wait_ns, of(B).run_ns), (0, FAR + 19));
    assert_eq!(answers.waits_ns(|wait| wait.task == Pid(A)), [FAR + 8]);
}

/// The only wait begins by the clock of one CPU and ends by that of another, which is behind.
#[test]
fn a_wait_that_ends_before_it_began_has_no_length() {
    let mut script = Script::default();
    script.at(10).phase(1);
    script.at(100).wake(0, A, 0);
    script.at(50).switch(1, 0, A, Idle);
    script.at(200).push(0, What::End {});
    let answers = script.answers();
    let measures = super::measures(&answers, &script.tables, "");
    let starved = measures.starved.expect("there is a wait");
    assert_eq!((starved.waited_ns, starved.from_ns), (0, 90));
    assert!(starved.served);
}

#[test]
fn a_run_is_divided_among_its_phases() {
    let mut script = Script::default();
    script.at(0).switch(0, 0, A, Idle);
    script.at(10).phase(0);
    script.at(30).phase(1);
    script.at(70).switch(0, A, 0, Slept);
    script.at(80).push(0, What::End {});
    let answers = script.answers();
    let of = |phase: Phase| answers.sum(|key| key.phase == phase).run_ns;
    assert_eq!([of(None), of(Some(0)), of(Some(1))], [10, 20, 40]);
    assert_eq!(answers.phases[&Some(1)], 50);
    assert_eq!(answers.idle[&(Some(1), Cpu(0))].idle_ns, 10);
}

#[test]
fn migrations_are_those_between_two_runs() {
    let mut script = Script::default();
    for (at, cpu) in [(0, 0), (10, 1), (20, 2), (30, 3), (40, 3)] {
        script.at(at).switch(cpu, 0, A, Idle);
        script.at(at + 5).switch(cpu, A, 0, Slept);
    }
    let totals = script.answers().sum(|_| true);
    let counted = (
        totals.migrations,
        totals.llc_migrations,
        totals.node_migrations,
    );
    assert_eq!(counted, (3, 1, 1));
}

/// Two CPUs are idle. For 50 ns a task waits that may run on one of them. For the next 50 ns another task waits, which may
/// run on neither.
#[test]
fn an_idle_cpu_is_wasted_only_beside_a_task_that_may_run_there() {
    let mut script = Script::default();
    script.affinity(A, 0b101).affinity(B, 0b001);
    for cpu in 0..3 {
        script.at(0).switch(cpu, 20 + u32::from(cpu), 0, Slept);
    }
    script.at(0).switch(0, 0, 30, Idle);
    script.at(10).wake(0, A, 0);
    script.at(60).switch(2, 0, A, Idle);
    script.at(60).wake(0, B, 0);
    script.at(110).push(0, What::End {});
    let answers = script.answers();
    assert_eq!(answers.wasted_ns[&None], 50);
    let idle = |cpu| answers.idle[&(None, Cpu(cpu))];
    assert_eq!((idle(1).idle_ns, idle(1).beside_waiter_ns), (110, 0));
    assert_eq!((idle(2).idle_ns, idle(2).beside_waiter_ns), (60, 50));
}

/// The kernel puts the lowest groups back first, and enqueues their tasks before it puts back the groups above them.
#[test]
fn tasks_of_a_nested_group_wait_from_its_unthrottle_on() {
    let mut script = Script::default();
    let cgroup = |path: &str| Cgroup {
        path: path.to_owned(),
    };
    script.tables.cgroups = [(1, cgroup("/a")), (2, cgroup("/a/b"))].into();
    script.push(
        0,
        What::Cgroup {
            task: Pid(A),
            cgroup: 2,
        },
    );
    let on = Cpu(0);
    script.at(0).switch(0, 0, A, Idle);
    for cgroup in [1, 2] {
        script.at(10).push(0, What::Throttle { cgroup, on });
    }
    script.dequeue(0, A, DequeueReason::Throttle);
    script.switch(0, A, 0, Preempted);
    let enqueue = What::Enqueue {
        task: Pid(A),
        on,
        class: Class::Fair,
        wakeup: false,
    };
    script.at(25).push(0, What::Unthrottle { cgroup: 2, on });
    script
        .push(0, enqueue)
        .push(0, What::Unthrottle { cgroup: 1, on });
    script.at(60).switch(0, 0, A, Idle);
    let a = script.answers().sum(|key| key.task == Pid(A));
    assert_eq!((a.wait_ns, a.throttled_ns), (35, 15));
}

/// Before 6.18 a group that is out of quota leaves its queue as a whole, and no task of it is dequeued.
#[test]
fn tasks_of_a_throttled_group_do_not_wait() {
    let waits = |missing: &[&str]| {
        let mut script = Script::default();
        let path = "/a".to_owned();
        script.tables.cgroups = [(1, Cgroup { path })].into();
        script.tables.missing = missing.iter().map(|name| (*name).to_owned()).collect();
        for task in [A, B] {
            let (task, cgroup) = (Pid(task), 1);
            script.push(0, What::Cgroup { task, cgroup });
        }
        let on = Cpu(0);
        let fair = |task| What::Enqueue {
            task: Pid(task),
            on,
            class: Class::Fair,
            wakeup: true,
        };
        script.at(0).push(0, fair(A)).push(0, fair(B));
        script.switch(0, 0, A, Idle);
        script.at(10).push(0, What::Throttle { cgroup: 1, on });
        script.switch(0, A, 0, Preempted);
        script.at(90).push(0, What::Unthrottle { cgroup: 1, on });
        script.switch(0, 0, A, Idle);
        script.at(95).switch(0, A, B, Preempted);
        let answers = script.answers();
        [A, B].map(|task| {
            let sum = answers.sum(|key| key.task == Pid(task));
            (sum.wait_ns, sum.throttled_ns, sum.preempted)
        })
    };
    assert_eq!(waits(&["throttle_cfs_rq_work"]), [(0, 80, 1), (15, 80, 0)]);
    assert_eq!(waits(&[]), [(80, 0, 2), (95, 0, 0)]);
}

#[test]
fn a_throttled_task_does_not_wait() {
    let mut script = Script::default();
    let cgroup = |path: &str| Cgroup {
        path: path.to_owned(),
    };
    script.tables.cgroups = [(1, cgroup("/a")), (2, cgroup("/a/b")), (3, cgroup("/ab"))].into();
    for (task, cgroup) in [(A, 2), (B, 3)] {
        let task = Pid(task);
        script.push(0, What::Cgroup { task, cgroup });
    }
    let on = Cpu(0);
    script.at(0).switch(0, 0, A, Idle);
    script.at(10).push(0, What::Throttle { cgroup: 1, on });
    script.dequeue(0, A, DequeueReason::Throttle);
    script.switch(0, A, 0, Preempted);
    let fair = |task| What::Enqueue {
        task: Pid(task),
        on,
        class: Class::Fair,
        wakeup: true,
    };
    // `A` is woken while the parent of its cgroup is out of quota; `B` is in another cgroup.
    script.at(15).push(0, fair(A)).push(0, fair(B));
    script.at(25).push(0, What::Unthrottle { cgroup: 1, on });
    script.push(0, fair(A));
    script.at(30).switch(0, 0, A, Idle);
    let answers = script.answers();
    let a = answers.sum(|key| key.task == Pid(A));
    assert_eq!((a.run_ns, a.throttled_ns, a.wait_ns), (10, 15, 5));
    assert_eq!(a.preempted, 0);
    assert_eq!(answers.sum(|key| key.cgroup == Some(3)).wait_ns, 15);
    let unthrottled = answers.waits.iter().find(|wait| wait.task == Pid(A));
    let wait = unthrottled.map(|wait| (wait.cause, wait.len_ns()));
    assert_eq!(wait, Some((WaitCause::Unthrottled, 5)));
}

#[test]
fn a_change_of_a_waiting_task_does_not_end_its_wait() {
    let mut script = Script::default();
    script.at(0).wake(0, A, 0);
    script.at(10).dequeue(0, A, DequeueReason::Change);
    script.at(10).push(
        0,
        What::Enqueue {
            task: Pid(A),
            on: Cpu(1),
            class: Class::Fair,
            wakeup: false,
        },
    );
    script.at(30).switch(1, 0, A, Idle);
    script.at(50).push(1, What::End {});
    let answers = script.answers();
    assert_eq!(answers.waits_ns(|_| true), [30]);
    let totals = answers.sum(|key| key.cpu == Cpu(1));
    assert_eq!((totals.wait_ns, totals.run_ns), (20, 20));
    assert_eq!(totals.other_class_ns, 20);
}

/// A task waits from 10 ns on, gets a CPU only in the second step, and waits once more there.
#[test]
fn a_step_has_the_waits_that_were_open_at_its_end() {
    let mut script = Script::default();
    script.at(0).phase(1);
    script.at(10).wake(0, A, 0);
    script.at(40).push(0, What::End {});
    script.at(50).phase(2);
    script.at(60).switch(0, 0, A, Idle);
    script.at(70).switch(0, A, 0, Slept);
    script.at(80).wake(0, A, 0);
    script.at(90).push(0, What::End {});
    let answers = script.answers();
    let lengths = |step| -> Vec<u64> { answers.waits_of(step).map(super::Wait::len_ns).collect() };
    assert_eq!(lengths(Some(1)), [30]);
    assert_eq!(lengths(Some(2)), [50, 10]);
    assert_eq!(lengths(None), [50, 10], "each wait is listed once");
}

#[test]
fn a_wait_without_an_end_is_marked_as_not_served() {
    let mut script = Script::default();
    script.at(0).wake(0, A, 0);
    script.at(40).push(0, What::End {});
    let answers = script.answers();
    let [wait] = &answers.waits[..] else {
        panic!("one wait: {:?}", answers.waits);
    };
    assert_eq!((wait.len_ns(), wait.served), (40, false));
}

/// Evaluates a schedule of which only the last phase is complete.
fn thinned(script: &Script) -> super::Answers {
    let mut writer = crate::Writer::with_cap(1);
    script.events.iter().for_each(|event| writer.push(*event));
    let file = writer.finish(&script.tables);
    let schedule = crate::Schedule::read(&file).expect("a writer's file can be read");
    super::Answers::of(&schedule).expect("a writer's events can be read")
}

/// The group runs out of quota in one chunk, and another chunk without frequent events follows.
#[test]
fn a_group_is_still_out_of_quota_after_a_gap() {
    let mut script = Script::default();
    let path = "/a".to_owned();
    script.tables.cgroups = [(1, Cgroup { path })].into();
    let (task, cgroup, on) = (Pid(A), 1, Cpu(0));
    script.push(0, What::Cgroup { task, cgroup });
    script.at(10).phase(1).switch(0, 0, B, Idle);
    script.push(0, What::Throttle { cgroup, on });
    script.at(20).phase(2).switch(0, B, 0, Slept);
    script.at(30).phase(3);
    let fair = What::Enqueue {
        task,
        on,
        class: Class::Fair,
        wakeup: true,
    };
    script.at(100).push(0, fair);
    script.at(150).push(0, What::Unthrottle { cgroup, on });
    script.push(0, fair);
    script.at(160).switch(0, 0, A, Idle);
    let answers = thinned(&script);
    assert_eq!((answers.gaps, answers.complete_from_ns), (2, Some(20)));
    let a = answers.sum(|key| key.task == task);
    assert_eq!((a.throttled_ns, a.wait_ns), (50, 10));
}

/// A real-time task takes a fifth of CPU 0, where `A` and `B` take turns. CPU 0 is the only CPU with less time.
#[test]
fn nothing_is_concluded_about_shares_if_higher_classes_leave_the_cpus_different_times() {
    const MS: u64 = 1_000_000;
    const RT: u32 = 9;
    let answers = |rt_ms: u64| {
        let mut script = Script::default();
        let real_time = What::Enqueue {
            task: Pid(RT),
            on: Cpu(0),
            class: Class::RealTime,
            wakeup: true,
        };
        script.at(MS).phase(1).wake(0, A, 0).wake(0, B, 0);
        script.push(0, real_time).switch(0, 0, A, Idle);
        let mut turn = (A, B);
        for ms in (20..900).step_by(20) {
            script
                .at((ms - rt_ms) * MS)
                .switch(0, turn.0, RT, Preempted);
            script.at(ms * MS).switch(0, RT, turn.1, Preempted);
            turn = (turn.1, turn.0);
        }
        script.push(0, What::End {});
        script.answers()
    };
    assert!(answers(1).even_ns > 500 * MS);
    assert_eq!(answers(4).even_ns, 0);
}

/// A third task may have been waiting since before the gap, and may be entitled to a share of the CPU.
#[test]
fn nothing_is_concluded_about_shares_soon_after_a_gap() {
    const MS: u64 = 1_000_000;
    let mut script = Script::default();
    script.at(MS).phase(1).switch(0, 0, A, Idle);
    script.at(2 * MS).phase(2);
    script.wake(0, B, 0);
    let mut turn = (A, B);
    for ms in (10..900).step_by(10) {
        script.at(ms * MS).switch(0, turn.0, turn.1, Preempted);
        turn = (turn.1, turn.0);
    }
    script.push(0, What::End {});
    let whole = script.answers();
    assert!(whole.even_ns > 500 * MS, "{}", whole.even_ns);
    let answers = thinned(&script);
    assert_eq!(answers.even_ns, 0);
    assert!(answers.uneven_ns > 500 * MS, "{}", answers.uneven_ns);
}
