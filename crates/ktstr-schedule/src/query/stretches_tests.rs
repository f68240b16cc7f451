//! The stretches show what happened, and the sums are computed from them.

use std::collections::BTreeMap;

use super::*;
use crate::event::{DequeueReason, What};
use crate::testing::Script;

fn all(script: &Script) -> (Vec<Stretch>, Answers) {
    let file = script.file();
    let schedule = Schedule::read(&file).expect("a writer's file can be read");
    let mut all = Vec::new();
    let answers = stretches(&schedule, |stretch| all.push(*stretch)).expect("it is not damaged");
    (all, answers)
}

/// Checks that the CPU time of each task is the same in the stretches and in the sums.
#[track_caller]
fn same_cpu_time(stretches: &[Stretch], answers: &Answers) {
    let mut ran: BTreeMap<Pid, u64> = BTreeMap::new();
    for stretch in stretches {
        if let Did::Ran { .. } = stretch.did {
            *ran.entry(stretch.task).or_default() += stretch.len_ns();
        }
    }
    for task in answers.tasks.keys().chain(ran.keys()) {
        let booked = answers.sum(|key| key.task == *task).run_ns;
        assert_eq!(ran.get(task).copied().unwrap_or(0), booked, "{task:?}");
    }
}

#[test]
fn a_task_sleeps_waits_and_runs() {
    let mut script = Script::default();
    script.at(10).switch(1, 0, 7, Reason::Idle);
    script.at(20).switch(1, 7, 8, Reason::Slept);
    let wake = What::Wake {
        task: Pid(7),
        waker: Pid(8),
        interrupt: true,
    };
    script.at(40).push(1, wake).wake(1, 7, 1);
    let insert = What::Insert {
        task: Pid(7),
        dsq: 99,
        slice_ns: 5,
    };
    script.at(42).push(1, insert);
    // The task is awake already, so this call wakes nobody.
    let again = What::Wake {
        task: Pid(7),
        waker: Pid(9),
        interrupt: false,
    };
    script.at(45).push(0, again);
    script.at(55).switch(1, 8, 7, Reason::Preempted);
    script.at(60).phase(1);
    let (all, answers) = all(&script);
    same_cpu_time(&all, &answers);
    let of: Vec<_> = all.iter().filter(|s| s.task == Pid(7)).collect();
    let times: Vec<_> = of.iter().map(|s| (s.from_ns, s.to_ns)).collect();
    assert_eq!(times, [(10, 20), (20, 40), (40, 55), (55, 60)]);
    assert!(matches!(
        of[0].did,
        Did::Ran {
            cpu: Cpu(1),
            then: Some(Reason::Slept),
            ..
        }
    ));
    assert_eq!(of[1].did, Did::Slept);
    let waker = Waker {
        task: Pid(8),
        cpu: Cpu(1),
        interrupt: true,
        at_ns: 40,
    };
    let waited = Did::Waited {
        cpu: Cpu(1),
        cause: WaitCause::Woken,
        waker: Some(waker),
        dsq: Some(99),
        left_dsq_ns: None,
        served: true,
    };
    assert_eq!(of[2].did, waited);
    assert!(matches!(of[3].did, Did::Ran { then: None, .. }));
    let preempted = all.iter().find(|s| s.task == Pid(8) && s.from_ns == 55);
    let preempted = preempted.expect("it waits to the end").did;
    assert!(matches!(
        preempted,
        Did::Waited {
            cause: WaitCause::Preempted,
            dsq: None,
            served: false,
            ..
        }
    ));
}

/// A bypass takes a task out of its queue without the BPF scheduler. The stretch notes this. It notes nothing if another CPU
/// takes the task for itself, or if the scheduler puts the task into a queue again.
#[test]
fn a_task_leaves_its_queue_if_it_is_enqueued_without_the_scheduler() {
    let left = |on: u16, inserted: bool| {
        let mut script = Script::default();
        script.at(10).switch(1, 0, 8, Reason::Idle);
        let insert = What::Insert {
            task: Pid(7),
            dsq: 99,
            slice_ns: 5,
        };
        script.at(20).push(1, insert).wake(1, 7, 1);
        let dequeue = What::Dequeue {
            task: Pid(7),
            on: Cpu(1),
            class: Class::Ext,
            reason: DequeueReason::Change,
        };
        let enqueue = What::Enqueue {
            task: Pid(7),
            on: Cpu(on),
            class: Class::Ext,
            wakeup: false,
        };
        script.at(40).push(1, dequeue);
        if on != 1 {
            // The kernel moves the task before it enqueues it on the other CPU.
            let (task, to) = (Pid(7), Cpu(on));
            script.push(1, What::Migrate { task, to });
        }
        script.push(1, enqueue);
        if inserted {
            script.push(1, insert);
        }
        script.at(50).switch(on, 8, 7, Reason::Slept);
        script.at(60).phase(1);
        let (all, _) = all(&script);
        all.iter().find_map(|stretch| match stretch.did {
            Did::Waited { left_dsq_ns, .. } if stretch.task == Pid(7) => Some(left_dsq_ns),
            _ => None,
        })
    };
    assert_eq!(left(1, false), Some(Some(40)));
    assert_eq!(left(1, true), Some(None));
    assert_eq!(left(0, false), Some(None));
}

/// Moves task 7 from the runqueue of one CPU to that of another one.
fn moved(script: &mut Script, at: u64, from: u16, to: u16) {
    let (task, class) = (Pid(7), Class::Fair);
    script.at(at).push(
        to,
        What::Dequeue {
            task,
            on: Cpu(from),
            class,
            reason: DequeueReason::Change,
        },
    );
    script.push(to, What::Migrate { task, to: Cpu(to) });
    script.push(
        to,
        What::Enqueue {
            task,
            on: Cpu(to),
            class,
            wakeup: false,
        },
    );
}

/// The CPU that runs a task next takes it from the runqueue on which it waited.
#[test]
fn a_task_that_a_cpu_takes_did_not_wait_there() {
    let mut script = Script::default();
    script.at(1_000_000).wake(1, 7, 1);
    moved(&mut script, 30_000_000, 1, 3);
    script.at(30_002_000).switch(3, 0, 7, Reason::Idle);
    script.at(40_000_000).switch(3, 7, 0, Reason::Slept);
    let (all, answers) = all(&script);
    assert!(
        matches!(all[0].did, Did::Waited { cpu: Cpu(1), .. }),
        "{:?}",
        all[0]
    );
    assert!(matches!(all[1].did, Did::Ran { cpu: Cpu(3), .. }));
    assert_eq!(answers.waits[0].cpu, Cpu(1));
    assert!(answers.queues.is_empty(), "{:?}", answers.queues);
}

/// A balancer moves a waiting task to CPU 2, where the task still has to wait.
#[test]
fn a_wait_has_the_runqueues_on_which_the_task_was() {
    let mut script = Script::default();
    script.at(1_000_000).wake(1, 7, 1);
    moved(&mut script, 10_000_000, 1, 2);
    moved(&mut script, 30_000_000, 2, 3);
    script.at(30_002_000).switch(3, 0, 7, Reason::Idle);
    // The next wait is on the CPU on which the task ran.
    script.at(40_000_000).switch(3, 7, 0, Reason::Preempted);
    script.at(50_000_000).switch(3, 0, 7, Reason::Idle);
    script.at(51_000_000).wake(0, 8, 0);
    let (all, answers) = all(&script);
    let cpus: Vec<_> = all
        .iter()
        .filter_map(|stretch| match stretch.did {
            Did::Waited { cpu, .. } if stretch.task == Pid(7) => Some(cpu),
            _ => None,
        })
        .collect();
    assert_eq!(cpus, [Cpu(2), Cpu(3)]);
    let queues = vec![(1_000_000, Cpu(1)), (10_000_000, Cpu(2))];
    assert_eq!(answers.queues, [((Pid(7), 1_000_000), queues)].into());
    let cpus: Vec<_> = answers.waits.iter().map(|wait| wait.cpu).collect();
    assert_eq!(cpus[..2], [Cpu(2), Cpu(3)]);
}

/// The fair class delays the dequeue of a task that sleeps, and may move it to another CPU in that state.
#[test]
fn a_task_that_is_moved_in_its_sleep_does_not_wait() {
    let mut script = Script::default();
    script.at(10).switch(0, 0, 7, Reason::Idle);
    script.at(20).switch(0, 7, 0, Reason::Slept);
    let dequeue = What::Dequeue {
        task: Pid(7),
        on: Cpu(0),
        class: Class::Fair,
        reason: DequeueReason::Change,
    };
    let enqueue = What::Enqueue {
        task: Pid(7),
        on: Cpu(1),
        class: Class::Fair,
        wakeup: false,
    };
    script.at(30).push(1, dequeue).push(1, enqueue);
    // When a task whose dequeue was delayed wakes, its enqueue lacks the flag of a wake-up.
    script.at(50).push(1, enqueue);
    script.at(60).switch(1, 0, 7, Reason::Idle);
    script.at(70).phase(1);
    let (all, _) = all(&script);
    let of = all.iter().filter(|stretch| stretch.task == Pid(7));
    let of: Vec<_> = of.map(|s| (s.from_ns, s.to_ns, s.did)).collect();
    assert!(matches!(of[1], (20, 50, Did::Slept)), "{of:?}");
    let woken = WaitCause::Woken;
    assert!(
        matches!(of[2], (50, 60, Did::Waited { cause, .. }) if cause == woken),
        "{of:?}"
    );
}

#[test]
fn time_is_not_counted_twice_if_clocks_go_back() {
    let mut script = Script::default();
    script.at(10).switch(0, 0, 7, Reason::Idle);
    script.at(10).switch(1, 0, 8, Reason::Idle);
    // The phase begins at a time that CPU 1's clock has not reached when the task on CPU 1 stops.
    script.at(100).phase(1);
    script.at(98).switch(1, 8, 0, Reason::Slept);
    script.at(120).affinity(7, 1);
    script.at(110).affinity(7, 3);
    script.at(130).switch(0, 7, 0, Reason::Slept);
    let (all, answers) = all(&script);
    same_cpu_time(&all, &answers);
    assert_eq!(answers.sum(|key| key.task == Pid(7)).run_ns, 120);
    assert_eq!(answers.sum(|key| key.task == Pid(8)).run_ns, 88);
}

#[test]
fn a_throttled_task_runs_until_it_leaves_its_cpu() {
    let mut script = Script::default();
    script.at(10).switch(0, 0, 7, Reason::Idle);
    script.at(20).dequeue(0, 7, DequeueReason::Throttle);
    script.at(23).switch(0, 7, 0, Reason::Preempted);
    script.at(50).wake(0, 7, 0);
    script.at(55).switch(0, 0, 7, Reason::Idle);
    script.at(60).switch(0, 7, 0, Reason::Exited);
    let (all, answers) = all(&script);
    same_cpu_time(&all, &answers);
    let did: Vec<_> = all.iter().map(|s| (s.len_ns(), s.did)).collect();
    assert!(matches!(did[0], (13, Did::Ran { .. })), "{did:?}");
    assert_eq!(did[1], (27, Did::Throttled));
    assert!(
        matches!(
            did[2],
            (
                5,
                Did::Waited {
                    cause: WaitCause::Unthrottled,
                    ..
                }
            )
        ),
        "{did:?}"
    );
}
