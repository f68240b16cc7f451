//! Divides a check among several machines: which machine runs which places. A place is never divided, since the outcome with
//! one seed decides whether the next seed is run there.
//!
//! The division follows from the matrix alone, so that machines agree on it without communication. The costs are estimates. A
//! wrong estimate only makes one shard slower than the others.

use std::fmt;
use std::str::FromStr;

use ktstr::test_support::Topology;
use serde::{Deserialize, Serialize};

use super::matrix::{Matrix, Place};
use crate::cell;

/// Estimated additional seconds of the first run on a kernel and a shape, which boots the machine.
const BOOT: u64 = 40;
/// Estimated seconds per CPU of the machine for a run of the scheduler and one of EEVDF. The time grows with the CPUs because
/// the virtual clock executes them one after the other.
const RUN: u64 = 3;
/// The number of CPUs to assume for a shape that cannot be parsed; a checked matrix has no such shape.
const CPUS: u64 = 2;

/// One of the shards of a check: `2/3` is the second of three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shard {
    /// The number of the shard, from 1.
    pub index: usize,
    /// The number of shards.
    pub of: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| text.trim().parse::<usize>().ok();
        let parts = text.split_once('/');
        let shard = parts.and_then(|(index, of)| Some((number(index)?, number(of)?)));
        match shard {
            Some((index, of)) if (1..=of).contains(&index) => Ok(Self { index, of }),
            _ => Err(format!(
                "expected I/N with I from 1 to N, such as 2/3, not `{text}`"
            )),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

/// Returns, for each place of the matrix in order, the number of the shard that runs it, from 1.
///
/// The places are sorted by machine and cut into contiguous ranges, so that few machines are booted by two shards. The cuts are
/// chosen such that the most expensive range is as cheap as possible.
pub fn division(matrix: &Matrix, of: usize) -> Vec<usize> {
    let seeds = matrix.seeds.count();
    let runs: Vec<(Machine, u64)> = (matrix.places.iter())
        .map(|place| {
            let (kernel, shape) = (place.kernel.id.clone(), shape(place));
            (Machine { kernel, shape }, seeds)
        })
        .collect();
    divide(&runs, of)
}

/// The kernel and the shape that are booted for a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The kernel's id or label.
    pub kernel: String,
    /// The shape, such as `1n2l2c1t`, or the name of a preset.
    pub shape: String,
}

/// Returns, for each element of `runs` in order, the number of the shard that makes it, from 1. An element is a machine and the
/// number of runs on it. See [`division`].
pub fn divide(runs: &[(Machine, u64)], of: usize) -> Vec<usize> {
    let machine = |at: usize| &runs[at].0;
    let mut order: Vec<usize> = (0..runs.len()).collect();
    order.sort_by_key(|at| runs.iter().position(|(one, _)| one == machine(*at)));
    // The cost of each element in this sorted order, and whether it needs another machine than the element before.
    let costs: Vec<(u64, bool)> = (order.iter().enumerate())
        .map(|(nth, at)| {
            let before = nth.checked_sub(1).map(|nth| machine(order[nth]));
            let (machine, count) = &runs[*at];
            let cost = cpus(&machine.shape).saturating_mul(RUN);
            (cost.saturating_mul(*count), before != Some(machine))
        })
        .collect();
    let (mut enough, mut few) = (costs.iter().map(|(cost, _)| cost + BOOT).sum(), 0_u64);
    while enough - few > 1 {
        let middle = few + (enough - few) / 2;
        match stretches(&costs, of, middle) {
            Some(_) => enough = middle,
            None => few = middle,
        }
    }
    let mut owner = vec![1; order.len()];
    for (at, shard) in order
        .iter()
        .zip(stretches(&costs, of, enough).into_iter().flatten())
    {
        owner[*at] = shard;
    }
    owner
}

/// Cuts the places into ranges, none of which costs more than `most`. Returns the number of the range of each place, from 1;
/// `None` if this takes more than `of` ranges, or if a single place costs more than `most`. No range is empty if there are at
/// least `of` places.
fn stretches(costs: &[(u64, bool)], of: usize, most: u64) -> Option<Vec<usize>> {
    let (mut shard, mut load) = (1, 0_u64);
    let mut owner: Vec<usize> = Vec::with_capacity(costs.len());
    for (nth, (cost, other)) in costs.iter().enumerate() {
        let is_first = owner.last() != Some(&shard);
        let boot = if is_first || *other { BOOT } else { 0 };
        let needed = costs.len() - nth <= of.saturating_sub(shard);
        if !is_first && (load + boot + cost > most || needed) {
            (shard, load) = (shard + 1, BOOT + cost);
        } else {
            load += boot + cost;
        }
        if shard > of || load > most {
            return None;
        }
        owner.push(shard);
    }
    Some(owner)
}

/// Returns the shape of the machine of a place.
fn shape(place: &Place) -> String {
    let own = || cell::own_shape(&place.scenario).unwrap_or_default();
    place.topology.clone().unwrap_or_else(own)
}

fn cpus(shape: &str) -> u64 {
    let named = Topology::from_name(shape).ok();
    named.map_or(CPUS, |shape| u64::from(shape.total_cpus()).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::axes::Kernel;
    use crate::explore::Seeds;

    /// Returns a matrix of these scenarios, kernels and shapes.
    fn matrix(scenarios: usize, kernels: &[&str], shapes: &[&str]) -> Matrix {
        let kernels: Vec<Kernel> = kernels
            .iter()
            .map(|id| Kernel {
                id: (*id).to_owned(),
                release: (*id).to_owned(),
                asked: None,
            })
            .collect();
        let mut places = Vec::new();
        for kernel in &kernels {
            for shape in shapes {
                places.extend((0..scenarios).map(|n| Place {
                    scenario: format!("s{n}"),
                    kernel: kernel.clone(),
                    topology: Some((*shape).to_owned()),
                }));
            }
        }
        Matrix {
            scenarios: (0..scenarios).map(|n| format!("s{n}")).collect(),
            kernels,
            missing: Vec::new(),
            topologies: shapes.iter().map(|s| Some((*s).to_owned())).collect(),
            seeds: Seeds { first: 1, end: 3 },
            places,
        }
    }

    fn loads(matrix: &Matrix, of: usize) -> Vec<u64> {
        let owner = division(matrix, of);
        let load = |shard: usize| {
            let places = matrix.places.iter().zip(&owner);
            let mine = places.filter(|(_, owner)| **owner == shard);
            mine.map(|(place, _)| cpus(&shape(place))).sum()
        };
        (1..=of).map(load).collect()
    }

    #[test]
    fn a_shard_is_one_of_several() {
        assert_eq!("2/3".parse(), Ok(Shard { index: 2, of: 3 }));
        assert_eq!(Shard { index: 2, of: 3 }.to_string(), "2/3");
        for wrong in ["0/3", "4/3", "3", "", "a/b", "-1/3", "1/0", "1/2/3"] {
            let error = wrong.parse::<Shard>().expect_err("no shard");
            assert!(error.contains("such as 2/3"), "{error}");
        }
    }

    #[test]
    fn every_place_is_in_one_shard_and_none_is_empty() {
        for (scenarios, of) in [(3, 3), (12, 5), (36, 7), (1, 1)] {
            let matrix = matrix(scenarios, &["a"], &["1n1l2c1t"]);
            let owner = division(&matrix, of);
            assert_eq!(owner.len(), matrix.places.len());
            for shard in 1..=of {
                assert!(owner.contains(&shard), "{shard}/{of} has no place");
            }
            assert_eq!(owner, division(&matrix, of), "it is not reproducible");
        }
    }

    #[test]
    fn the_load_is_even() {
        let one_machine = loads(&matrix(36, &["a"], &["1n1l2c1t"]), 3);
        assert_eq!(one_machine, [24, 24, 24]);
        // With machines of two and of eight CPUs, the places of a shard have at most a third of all CPUs plus eight.
        let mixed = loads(&matrix(20, &["a"], &["1n1l2c1t", "1n1l8c1t"]), 3);
        let (most, all) = (mixed.iter().max().copied(), mixed.iter().sum::<u64>());
        assert!(most.is_some_and(|most| most <= all / 3 + 8), "{mixed:?}");
    }

    #[test]
    fn a_machine_is_booted_where_it_pays() {
        // With two kernels and two shards, each shard boots one kernel.
        let matrix = matrix(6, &["a", "b"], &["1n1l2c1t"]);
        let owner = division(&matrix, 2);
        for kernel in 0..2 {
            let of_kernel = &owner[kernel * 6..kernel * 6 + 6];
            assert!(of_kernel.iter().all(|o| *o == of_kernel[0]), "{owner:?}");
        }
    }
}
