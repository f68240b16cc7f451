//! The limit of the fair shares if no task is divided among the queues of several CPUs.
//!
//! The fluid model moves tasks between CPUs without end. A scheduler puts each task into the queue of one CPU, and may leave it
//! there: of three tasks on two CPUs, two share a CPU, and each of them gets a half instead of two thirds. So no task is entitled
//! to more than it would get in the fullest queue, once the queues are as even as whole tasks allow.

use super::fill::{Consumer, EPSILON_NS, rates};
use super::tree::Tree;

/// Limits `shares`, which are the consumers' fair shares of a window of `length` nanoseconds, to what a task gets if each task
/// stays in the queue of one CPU. `capacity` is the CPU time of each CPU, in nanoseconds. The tasks that want more than their
/// share compete for the queues. If the affinities of these tasks differ, nothing is limited, because the affinities then
/// determine which queues a task can be in.
pub(super) fn limit(
    shares: &mut [f64],
    consumers: &[Consumer],
    capacity: &[f64],
    length: f64,
    tree: Option<&Tree>,
) {
    let mut competing: Vec<usize> = (0..consumers.len())
        .filter(|index| consumers[*index].demand - shares[*index] > EPSILON_NS)
        .collect();
    let mut masks = competing.iter().map(|index| consumers[*index].mask);
    let Some(first) = masks.next() else { return };
    if masks.any(|mask| mask != first) {
        return;
    }
    let is_allowed = |(cpu, left): &(usize, &f64)| **left > 0.0 && first >> cpu & 1 == 1;
    let cpus = capacity.iter().enumerate().filter(is_allowed).count();
    if cpus == 0 {
        return;
    }
    let mut rate = vec![0.0; consumers.len()];
    for (index, of) in competing.iter().zip(rates(consumers, &competing, tree)) {
        rate[*index] = of;
    }
    // The heaviest task comes first, and each goes to the queue with the least weight.
    competing.sort_by(|a, b| rate[*b].total_cmp(&rate[*a]).then(a.cmp(b)));
    let mut queues: Vec<(f64, Vec<usize>)> = vec![(0.0, Vec::new()); cpus];
    for index in competing {
        if let Some(least) = queues.iter_mut().min_by(|a, b| a.0.total_cmp(&b.0)) {
            least.0 += rate[index];
            least.1.push(index);
        }
    }
    // Equal tasks are interchangeable, so each of them may be the one in the fullest queue.
    let least = |of: f64| {
        let with = queues.iter().filter(|(_, tasks)| {
            tasks
                .iter()
                .any(|index| (rate[*index] - of).abs() <= of * 1e-6)
        });
        with.map(|(sum, _)| of / sum).fold(1.0, f64::min)
    };
    for (index, share) in shares.iter_mut().enumerate() {
        if rate[index] > 0.0 {
            *share = share.min(least(rate[index]) * length);
        }
    }
}
