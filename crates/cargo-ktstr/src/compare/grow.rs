//! Makes the runs of a comparison. A place is a scenario on a kernel and a topology. A look is a statistical test of the runs
//! so far (`looks.rs`). Before the first look, every place is run with the first seeds. Before each further look, only the
//! places that are still undecided are run, with more seeds.
//!
//! A place is undecided while one of its metrics shows a difference that would matter, is not significant yet, and would be
//! significant with the seeds of the last look if it stayed as large. Every other place is decided, or cannot be decided by the
//! seeds that are left.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::Job;
use super::judge::judge;
use super::looks::Looks;
use super::report::{Gates, family_of};
use crate::cell::Outcome;

/// A pair of runs: its place and seed, the outcome of A and the outcome of B.
pub type Made = (Job, Outcome, Outcome);

/// The runs of a comparison.
#[derive(Debug)]
pub struct Grown {
    /// The pairs, in the order of the looks, seeds and places.
    pub pairs: Vec<Made>,
    /// The number of looks that each place has had. [`run`] enters every place. The map is empty for a comparison of stored
    /// results, in which every place has had one look.
    pub taken: BTreeMap<[String; 3], usize>,
}

/// Makes the runs of `places`, whose own seeds are ignored. `walk` makes the runs of a list of jobs.
///
/// # Errors
///
/// The first error of `walk`.
pub fn run(
    looks: &Looks,
    places: &[Job],
    gates: &Gates,
    mut walk: impl FnMut(Vec<Job>) -> Result<Vec<Made>>,
) -> Result<Grown> {
    let mut grown = Grown {
        pairs: Vec::new(),
        taken: BTreeMap::new(),
    };
    let mut open: Vec<&Job> = places.iter().collect();
    let mut from = looks.first;
    for (at, look) in looks.all.iter().enumerate() {
        let jobs = (from..look.end).flat_map(|seed| {
            open.iter().map(move |place| Job {
                seed,
                ..(*place).clone()
            })
        });
        let made = walk(jobs.collect())?;
        grown.pairs.extend(made);
        for place in &open {
            grown.taken.insert(place.place(), at + 1);
        }
        if at + 1 == looks.all.len() {
            break;
        }
        from = look.end;
        let family = family_of(&grown.pairs, gates, looks, &grown.taken);
        let undecided: BTreeSet<&[String; 3]> = judge(&family)
            .into_iter()
            .filter(|(_, judged)| judged.undecided)
            .map(|(one, _)| &one.place)
            .collect();
        open.retain(|place| undecided.contains(&place.place()));
        if open.is_empty() {
            break;
        }
    }
    Ok(grown)
}
