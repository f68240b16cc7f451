//! Progressive filling: everybody's share grows by weight until it is full or blocked.

use super::flow::{Blocked, blocked};
use super::tree::Tree;
use crate::event::Pid;

/// Rounding of times, nanoseconds.
const EPSILON_NS: f64 = 100.0;

/// A task under one affinity, in a window.
#[derive(Debug, Clone)]
pub(super) struct Consumer {
    pub(super) pid: Pid,
    pub(super) cgroup: Option<u64>,
    /// The CPUs on which it may run.
    pub(super) mask: u128,
    pub(super) weight: f64,
    /// Its cgroup in the tree.
    pub(super) leaf: usize,
    /// CPU time that it could use at most.
    pub(super) demand: f64,
    /// CPU time that it got.
    pub(super) got_ns: u64,
    /// Of it, CPU time in short bursts.
    pub(super) short_ns: u64,
    /// Whether it was in a long burst.
    pub(super) long: bool,
    /// Whether it waited all the time.
    pub(super) whole: bool,
}

/// What each of `consumers` is entitled to of the CPUs' `capacity`, nanoseconds. With a tree the weights of cgroups count.
pub(super) fn fill(consumers: &[Consumer], capacity: &[f64], tree: Option<&Tree>) -> Vec<f64> {
    let mut shares = vec![0.0; consumers.len()];
    let mut open: Vec<usize> = (0..consumers.len())
        .filter(|index| consumers[*index].demand > EPSILON_NS)
        .collect();
    while !open.is_empty() {
        let weights: Vec<(usize, f64)> = open
            .iter()
            .map(|index| (consumers[*index].leaf, consumers[*index].weight))
            .collect();
        let rates = match tree {
            Some(tree) => tree.shares(&weights),
            None => weights.iter().map(|(_, weight)| *weight).collect(),
        };
        // Until the first has all that it could use, unless a set of CPUs is full before.
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
            // Rounding left nobody who is full: nothing is gained by going on.
            break;
        }
    }
    shares
}
