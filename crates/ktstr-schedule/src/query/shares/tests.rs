//! The shares on small machines, which can be checked by hand.

use super::fill::{Consumer, fill};
use super::queues::limit;
use super::tree::Tree;
use super::weight::of_nice;
use crate::event::Pid;

const WINDOW: f64 = 100e6;

fn one(mask: u128, weight: f64, leaf: usize, demand: f64) -> Consumer {
    Consumer {
        pid: Pid(1),
        cgroup: None,
        mask,
        weight,
        leaf,
        demand: demand * WINDOW,
        got_ns: 0,
        short_ns: 0,
        long: true,
        whole: false,
    }
}

/// Returns the shares of a window, in percent of one CPU.
fn shares(consumers: &[Consumer], cpus: usize, tree: Option<&Tree>) -> Vec<u64> {
    let shares = fill(consumers, &vec![WINDOW; cpus], tree);
    shares
        .iter()
        .map(|share| (share / WINDOW * 100.0).round() as u64)
        .collect()
}

#[test]
fn weights_divide_the_time_and_unused_time_goes_to_the_others() {
    let tasks = [
        one(!0, 1024.0, 0, 1.0),
        one(!0, 1024.0, 0, 1.0),
        one(!0, 1024.0, 0, 0.1),
    ];
    assert_eq!(shares(&tasks, 1, None), [45, 45, 10]);
    let tasks = [one(!0, 3.0, 0, 1.0), one(!0, 1.0, 0, 1.0)];
    assert_eq!(shares(&tasks, 1, None), [75, 25]);
    // No task can use more than one CPU, however heavy it is.
    let tasks = [
        one(!0, 90.0, 0, 1.0),
        one(!0, 1.0, 0, 1.0),
        one(!0, 1.0, 0, 1.0),
    ];
    assert_eq!(shares(&tasks, 2, None), [100, 50, 50]);
}

#[test]
fn an_affinity_confines_tasks_and_leaves_the_other_cpus_to_the_rest() {
    // Three tasks may run on CPU 0 only, and one anywhere.
    let mut tasks = vec![one(0b01, 1.0, 0, 1.0); 3];
    tasks.push(one(0b11, 1.0, 0, 1.0));
    assert_eq!(shares(&tasks, 2, None), [33, 33, 33, 100]);
    // Overlapping affinities on three CPUs: two tasks with {0,1}, two with {1,2}, one with {2}.
    let tasks = [
        one(0b011, 1.0, 0, 1.0),
        one(0b011, 1.0, 0, 1.0),
        one(0b110, 1.0, 0, 1.0),
        one(0b110, 1.0, 0, 1.0),
        one(0b100, 1.0, 0, 1.0),
    ];
    assert_eq!(shares(&tasks, 3, None), [60, 60, 60, 60, 60]);
    // Each task has its own CPU.
    let tasks: Vec<_> = (0..4).map(|cpu| one(1 << cpu, 1.0, 0, 1.0)).collect();
    assert_eq!(shares(&tasks, 4, None), [100; 4]);
}

/// Returns the shares of a window, in percent of one CPU, that tasks can get if each of them stays in the queue of one CPU.
fn whole(consumers: &[Consumer], cpus: usize, tree: Option<&Tree>) -> Vec<u64> {
    let mut shares = fill(consumers, &vec![WINDOW; cpus], tree);
    limit(&mut shares, consumers, &vec![WINDOW; cpus], WINDOW, tree);
    shares
        .iter()
        .map(|share| (share / WINDOW * 100.0).round() as u64)
        .collect()
}

#[test]
fn a_task_is_entitled_to_its_share_of_the_fullest_of_even_queues() {
    assert_eq!(whole(&vec![one(!0, 1.0, 0, 1.0); 3], 2, None), [50; 3]);
    assert_eq!(whole(&vec![one(!0, 1.0, 0, 1.0); 4], 2, None), [50; 4]);
    assert_eq!(whole(&vec![one(!0, 1.0, 0, 1.0); 9], 4, None), [33; 9]);
    // Only the queues of the CPUs that the tasks may use count.
    assert_eq!(whole(&vec![one(0b0111, 1.0, 0, 1.0); 4], 8, None), [50; 4]);
    // With a CPU for each task, nothing is limited.
    assert_eq!(whole(&vec![one(!0, 1.0, 0, 1.0); 2], 2, None), [100; 2]);
    // A task that gets all that it wants does not compete for a queue. The others have a queue each, so nothing is limited.
    let mut tasks = vec![one(!0, 1.0, 0, 1.0); 2];
    tasks.push(one(!0, 1.0, 0, 0.1));
    assert_eq!(whole(&tasks, 2, None), [95, 95, 10]);
    // The light task joins one of the heavy ones, and does not force both heavy tasks into one queue.
    let tasks = [
        one(!0, 9.0, 0, 1.0),
        one(!0, 9.0, 0, 1.0),
        one(!0, 1.0, 0, 1.0),
    ];
    assert_eq!(whole(&tasks, 2, None), [90, 90, 10]);
    // Different affinities leave the fair shares as they are.
    let tasks = [
        one(0b11, 1.0, 0, 1.0),
        one(0b11, 1.0, 0, 1.0),
        one(0b01, 1.0, 0, 1.0),
    ];
    assert_eq!(whole(&tasks, 2, None), [67, 67, 67]);
    // The weight of a cgroup is divided among its tasks before they are put into queues.
    let mut tree = Tree::default();
    let (a, b) = (tree.leaf("/a", |_| None), tree.leaf("/b", |_| None));
    let tasks = [
        one(!0, 1.0, a, 1.0),
        one(!0, 1.0, b, 1.0),
        one(!0, 1.0, b, 1.0),
    ];
    assert_eq!(whole(&tasks, 2, Some(&tree)), [100, 50, 50]);
}

#[test]
fn a_cgroup_s_weight_is_divided_among_its_tasks() {
    let mut tree = Tree::default();
    let weight = |path: &str| (path == "/a").then_some(2048.0);
    let (a, b, c) = (
        tree.leaf("/a", weight),
        tree.leaf("/b", weight),
        tree.leaf("/b/c", weight),
    );
    let tasks = [
        one(!0, 1024.0, a, 1.0),
        one(!0, 1024.0, b, 1.0),
        one(!0, 1024.0, c, 1.0),
        one(!0, 1024.0, c, 1.0),
    ];
    assert_eq!(shares(&tasks, 1, None), [25; 4]);
    let percent = shares(&tasks, 1, Some(&tree));
    assert_eq!(percent, [67, 17, 8, 8]);
    // What /a cannot use goes to /b.
    assert_eq!(shares(&tasks, 2, Some(&tree)), [100, 50, 25, 25]);
}

#[test]
fn a_step_of_nice_is_a_quarter() {
    let near = |nice, weight: f64| (of_nice(nice) / weight - 1.0).abs() < 0.02;
    assert!(near(0, 1024.0) && near(5, 335.0) && near(-20, 88761.0) && near(19, 15.0));
}
