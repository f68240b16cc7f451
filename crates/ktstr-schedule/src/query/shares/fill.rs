//! Progressive filling: all shares grow in proportion to their weights. A share stops growing when its task has enough, or when
//! the CPUs on which the task may run are full.

use super::flow::{Blocked, blocked};
use super::tree::Tree;
use crate::event::Pid;

/// The tolerance for rounding errors of times, in nanoseconds.
pub(super) const EPSILON_NS: f64 = 100.0;

/// What a task did in a window while it had one affinity. A task whose affinity changed in the window can be several consumers.
#[derive(Debug, Clone)]
pub(super) struct Consumer {
    pub(super) pid: Pid,
    pub(super) cgroup: Option<u64>,
    /// The CPUs on which it may run.
    pub(super) mask: u128,
    pub(super) weight: f64,
    /// The node of its cgroup in the tree.
    pub(super) leaf: usize,
    /// The largest CPU time that it could use, in nanoseconds.
    pub(super) demand: f64,
    /// The CPU time that it got, in nanoseconds.
    pub(super) got_ns: u64,
    /// The part of that CPU time that was in short bursts, in nanoseconds.
    pub(super) short_ns: u64,
    /// Whether it was in a long burst in some part of the window.
    pub(super) long: bool,
    /// Whether it waited for nearly the whole window, and never ran.
    pub(super) whole: bool,
}

/// Returns the weights by which those consumers whose indices are in `of` share CPU time. The weights of cgroups count only if
/// there is a `tree`.
pub(super) fn rates(consumers: &[Consumer], of: &[usize], tree: Option<&Tree>) -> Vec<f64> {
    let weights = of
        .iter()
        .map(|index| (consumers[*index].leaf, consumers[*index].weight));
    match tree {
        Some(tree) => tree.shares(&weights.collect::<Vec<_>>()),
        None => weights.map(|(_, weight)| weight).collect(),
    }
}

/// Returns the CPU time, in nanoseconds, that each of `consumers` is entitled to, given each CPU's `capacity` in nanoseconds.
/// The weights of cgroups count only if there is a `tree`.
pub(super) fn fill(consumers: &[Consumer], capacity: &[f64], tree: Option<&Tree>) -> Vec<f64> {
    let mut shares = vec![0.0; consumers.len()];
    let mut open: Vec<usize> = (0..consumers.len())
        .filter(|index| consumers[*index].demand > EPSILON_NS)
        .collect();
    while !open.is_empty() {
        let rates = rates(consumers, &open, tree);
        // Grow until the first task has all that it can use, or a set of CPUs is full.
        let until_full = open
            .iter()
            .zip(&rates)
            .map(|(index, rate)| (consumers[*index].demand - shares[*index]) / rate);
        let mut step = until_full.fold(f64::INFINITY, f64::min);
        let mut full = None;
        loop {
            let mut wanted = shares.clone();
            for (index, rate) in open.iter().zip(&rates) {
                wanted[*index] += step * rate;
            }
            let Some(Blocked { cpus, room }) = blocked(consumers, &wanted, capacity) else {
                break;
            };
            let inside = |index: &usize| consumers[*index].mask & !cpus == 0;
            let used: f64 = (0..consumers.len())
                .filter(inside)
                .map(|index| shares[index])
                .sum();
            let rate: f64 = open
                .iter()
                .zip(&rates)
                .filter(|(index, _)| inside(index))
                .map(|(_, rate)| *rate)
                .sum();
            let shorter = ((room - used) / rate.max(f64::MIN_POSITIVE)).max(0.0);
            full = Some(cpus);
            if shorter >= step {
                break;
            }
            step = shorter;
        }
        for (index, rate) in open.iter().zip(&rates) {
            shares[*index] += step * rate;
        }
        let before = open.len();
        open.retain(|index| {
            let consumer = &consumers[*index];
            let blocked = full.is_some_and(|cpus| consumer.mask & !cpus == 0);
            !blocked && consumer.demand - shares[*index] > EPSILON_NS
        });
        if open.len() == before {
            // Because of rounding errors no share has stopped growing, and continuing would change nothing.
            break;
        }
    }
    shares
}
