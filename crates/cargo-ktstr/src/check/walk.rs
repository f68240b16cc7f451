//! Makes the runs of a check in rounds, one seed per round, and pairs each run of the scheduler with a run of EEVDF with the
//! same seed.
//!
//! If the scheduler does not load on a kernel, nothing more is run on that kernel. If it is known to be broken in a place (a
//! scenario on a kernel and a shape), no further seeds are run in that place. Both are decided between rounds, so that the set of
//! runs does not depend on which run is faster. EEVDF's outcomes are cached across calls, since under the virtual clock they are
//! always the same.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use ktstr_record::{RunVerdict, runs_root};
use ktstr_state::env;
use serde::{Deserialize, Serialize};

use super::matrix::{Matrix, Place};
use super::shard::{Shard, division};
use super::sort::{Class, judge};
use crate::cell::{Cell, Outcome, Store, pool};

/// A run of the scheduler and the run of EEVDF that it is compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// Scenario, kernel and shape that both runs have.
    pub place: Place,
    /// The seed of both runs.
    pub seed: u64,
    /// The outcome of the scheduler's run.
    pub ours: Outcome,
    /// The outcome of EEVDF's run; `None` if it was not run because the scheduler did not load.
    pub eevdf: Option<Outcome>,
}

/// The outcomes of all runs that were made, and the number of runs that were left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Walked {
    /// The pairs, in the order of seeds and places.
    pub pairs: Vec<Pair>,
    /// Runs that were left out because the time was over.
    pub left_out: u64,
    /// Runs of EEVDF that were made now; the others were cached.
    pub eevdf_runs: u64,
}

impl Walked {
    /// Sorts the pairs by seed and place. Their order then depends neither on which runs ended first, nor on how the check was
    /// divided into shards.
    pub fn sort(&mut self, matrix: &Matrix) {
        self.pairs
            .sort_by_key(|pair| (pair.seed, matrix.position(&pair.place)));
    }
}

/// The cache of EEVDF's outcomes, which later calls use instead of running it again.
#[derive(Debug)]
pub struct Baseline {
    store: Mutex<Store<Cell>>,
    runs: Mutex<u64>,
    records: PathBuf,
}

impl Baseline {
    /// Opens the cache for this binary, this QEMU and the environment variables that change what a guest does.
    pub fn open() -> Result<Self> {
        let own = std::env::current_exe().context("looking for this binary")?;
        let qemu = ktstr_machine::Qemu::find()?.path;
        let set =
            env::recorded().filter_map(|row| Some(format!("{}={}\n", row.name, row.shown()?)));
        let records = runs_root();
        let folder = records.with_file_name("ktstr-check");
        let store = Store::open(&folder, &[&own, &qemu], &set.collect::<String>())?;
        Ok(Self {
            store: Mutex::new(store),
            runs: Mutex::new(0),
            records,
        })
    }

    /// Returns how many runs of EEVDF were made so far.
    fn made(&self) -> u64 {
        *self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the outcome of the cell under EEVDF is cached.
    fn knows(&self, cell: &Cell) -> bool {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.get(&cell.baseline()).is_some()
    }

    /// Returns the outcome of the cell under EEVDF, from the cache or from a run.
    pub fn outcome(&self, cell: &Cell) -> Outcome {
        let cell = cell.baseline();
        let lock = || self.store.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(&cell) {
            return known.clone();
        }
        let outcome = cell.run(&self.records);
        *self.runs.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        tidy(&outcome, &self.records);
        // An inconclusive run may be conclusive next time, so it is not cached. If the cache cannot be written, the cell is run
        // again next time.
        if outcome.verdict != RunVerdict::Inconclusive {
            let _ = lock().put(cell, outcome.clone());
        }
        outcome
    }
}

/// Removes the record of a run that passed or was skipped, since nobody will need it. Only a record directly below
/// `records` is removed.
pub fn tidy(outcome: &Outcome, records: &Path) {
    let passed = matches!(outcome.verdict, RunVerdict::Pass | RunVerdict::Skip);
    let folder = outcome.record.as_deref().and_then(Path::parent);
    if let Some(folder) = folder.filter(|folder| passed && folder.parent() == Some(records)) {
        // A failure only costs disk space.
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// Makes the runs of `matrix`, or of a `shard` of it. `cell` returns the scheduler's cell for a place and a seed.
///
/// A shard that has places on a kernel first runs the matrix's first place on that kernel, even if another shard has that place.
/// So all shards use the same place and seed to find out whether the scheduler loads on the kernel.
pub fn walk(
    matrix: &Matrix,
    shard: Option<Shard>,
    jobs: usize,
    deadline: Option<Instant>,
    bar: &ProgressBar,
    cell: impl Fn(&Place, u64) -> Cell + Sync,
) -> Result<Walked> {
    let baseline = Baseline::open()?;
    let mut walked = Walked::default();
    let owner = shard.map(|shard| (shard.index, division(matrix, shard.of)));
    let is_mine = |place: &Place| match (&owner, matrix.position(place)) {
        (Some((index, owner)), Some(at)) => owner.get(at) == Some(index),
        _ => true,
    };
    let mine: Vec<&Place> = matrix.places.iter().filter(|p| is_mine(p)).collect();
    let all = (mine.len() as u64).saturating_mul(matrix.seeds.count());
    bar.set_length(all);
    // The duration of the last pair in milliseconds, as an estimate for the next.
    let last = AtomicU64::new(0);
    let work = |(place, seed): &(Place, u64)| {
        let began = Instant::now();
        let is_over = |time: Instant| deadline.is_some_and(|deadline| time >= deadline);
        if is_over(began + Duration::from_millis(last.load(Relaxed))) {
            return None;
        }
        let cell = cell(place, *seed);
        let ours = cell.run(&baseline.records);
        tidy(&ours, &baseline.records);
        let asked = !ours.never_attached();
        // Without a run of EEVDF the outcome cannot be confirmed, and there is no time left for that run.
        if asked && is_over(Instant::now()) && !baseline.knows(&cell) {
            return None;
        }
        let eevdf = asked.then(|| baseline.outcome(&cell));
        last.store(began.elapsed().as_millis() as u64, Relaxed);
        Some(Pair {
            place: place.clone(),
            seed: *seed,
            ours,
            eevdf,
        })
    };
    // The runs of EEVDF in places of other shards.
    let mut for_others = 0;
    for seed in matrix.seeds.first..matrix.seeds.end {
        let open = mine.iter().filter(|place| is_open(&walked.pairs, place));
        let mut round: Vec<(Place, u64)> = open.map(|place| ((*place).clone(), seed)).collect();
        if seed == matrix.seeds.first {
            // One run on each kernel shows whether the scheduler loads there at all.
            let mut firsts = Vec::new();
            for kernel in &matrix.kernels {
                let first = matrix.places.iter().find(|place| place.kernel == *kernel);
                let needed = |_: &&Place| mine.iter().any(|place| place.kernel == *kernel);
                firsts.extend(first.filter(needed).map(|place| (place.clone(), seed)));
            }
            round.retain(|job| !firsts.contains(job));
            bar.set_message("does it load?");
            let (own, others): (Vec<_>, Vec<_>) =
                firsts.into_iter().partition(|(place, _)| is_mine(place));
            // These runs are not counted here, because the shard that has the place counts them. Otherwise the merged numbers
            // would be larger than those of a whole check.
            let (made, left_out) = (baseline.made(), walked.left_out);
            collect(&mut walked, others, jobs, bar, &work)?;
            for_others = baseline.made() - made;
            walked.left_out = left_out;
            collect(&mut walked, own, jobs, bar, &work)?;
            round.retain(|(place, _)| is_open(&walked.pairs, place));
        }
        bar.set_message(format!("seed {seed}"));
        collect(&mut walked, round, jobs, bar, &work)?;
    }
    walked.eevdf_runs = baseline.made() - for_others;
    // Drop the runs in the places of other shards: they only showed whether the scheduler loads.
    walked.pairs.retain(|pair| is_mine(&pair.place));
    walked.sort(matrix);
    Ok(walked)
}

fn collect(
    walked: &mut Walked,
    round: Vec<(Place, u64)>,
    jobs: usize,
    bar: &ProgressBar,
    work: &(impl Fn(&(Place, u64)) -> Option<Pair> + Sync),
) -> Result<()> {
    pool::run(round, jobs, bar, work, |_, pair| {
        match pair {
            Some(pair) => walked.pairs.push(pair),
            None => walked.left_out += 1,
        }
        Ok(())
    })
}

/// Returns whether a place is to be run with a further seed. It is if the scheduler is not known to be broken in this place,
/// and loads on the place's kernel or has not been run on that kernel yet.
fn is_open(pairs: &[Pair], place: &Place) -> bool {
    let of_kernel = pairs
        .iter()
        .filter(|pair| pair.place.kernel == place.kernel);
    let mut here = pairs.iter().filter(|pair| pair.place == *place);
    let loads = |pair: &Pair| !pair.ours.never_attached();
    let mut of_kernel = of_kernel.peekable();
    let loads_at_all = of_kernel.peek().is_none() || of_kernel.any(loads);
    loads_at_all && !here.any(|pair| judge(pair).iter().any(|f| f.class == Class::Broken))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{failed, pair, passed};
    use super::*;
    use crate::cell::Proof;

    #[test]
    fn a_decided_place_is_not_run_again() {
        let green = pair("steady", 1, passed(), passed());
        let place = green.place.clone();
        assert!(is_open(&[], &place));
        assert!(is_open(std::slice::from_ref(&green), &place));

        let broken = pair("steady", 1, failed("starvation", Proof::Schedule), passed());
        assert!(!is_open(std::slice::from_ref(&broken), &place));
        let other = Place {
            scenario: "other".to_owned(),
            ..place.clone()
        };
        assert!(is_open(&[broken], &other));

        let refused = Pair {
            eevdf: None,
            ..pair(
                "steady",
                1,
                failed("scheduler not attached", Proof::Kernel),
                passed(),
            )
        };
        assert!(!is_open(std::slice::from_ref(&refused), &other));
        assert!(is_open(&[refused, green], &other), "`green` has loaded");
    }

    #[test]
    fn only_the_record_of_a_pass_below_the_root_is_removed() {
        let root = tempfile::tempdir().expect("a folder");
        let record = |name: &str| {
            let folder = root.path().join(name);
            std::fs::create_dir(&folder).expect("a folder");
            folder.join("record.json")
        };
        let mut outcome = passed();
        outcome.record = Some(record("a"));
        tidy(&outcome, root.path());
        assert!(!root.path().join("a").exists());
        outcome.record = Some(record("b"));
        tidy(&outcome, Path::new("/elsewhere"));
        assert!(root.path().join("b").exists());
        outcome.verdict = RunVerdict::Fail;
        tidy(&outcome, root.path());
        assert!(root.path().join("b").exists());
    }
}
