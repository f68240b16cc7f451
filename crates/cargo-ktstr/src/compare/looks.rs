//! When a comparison looks at its runs: once after all seeds, or up to three times, each time after more seeds than before, so
//! that more seeds are run only where they can still change a conclusion.
//!
//! Each look may use a fixed share of the significance level, and the shares add up to 1. The p-value of a test is the smallest,
//! over the looks that were taken, of the look's own p-value divided by its share (alpha spending by Bonferroni's inequality):
//! if nothing differs, `p_k/w_k ≤ u` has a probability of at most `u·w_k` for look k, so the probability that it holds for any
//! of the looks is at most u. A look that is not taken can only make the smallest value larger, so this bound holds whatever
//! decides where more seeds are run. Holm's procedure over all tests takes these p-values like any others.

use serde::Serialize;

use super::judge::LEVEL;
use super::{LEAST_SEEDS, MORE_SEEDS, MOST_SEEDS, holm, permutation};
use crate::explore::Seeds;

/// The share of the level that the first of several looks uses. It is the largest share, because most conclusions are reached
/// there, and a larger share needs fewer seeds.
const FIRST_SHARE: f64 = 0.5;
/// The default largest number of seeds, as a multiple of the number at the first look.
const MOST_TIMES: u64 = 2;

/// A look at the runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Look {
    /// The seed after the last one that this look covers.
    pub end: u64,
    /// The share of the level that this look uses.
    pub share: f64,
}

/// The looks of a comparison, the look with the smallest number of seeds first. There is at least one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Looks {
    /// The first seed of every look. A look covers the seeds from here up to, but not including, its [`Look::end`].
    pub first: u64,
    /// The looks; their shares add up to 1.
    pub all: Vec<Look>,
}

impl Looks {
    /// Returns a single look after all of these seeds.
    pub fn one(seeds: Seeds) -> Self {
        Self {
            first: seeds.first,
            all: vec![Look {
                end: seeds.end,
                share: 1.0,
            }],
        }
    }

    /// Returns looks after these seeds, half-way to `most` seeds, and after `most` seeds. A later look that would cover no more
    /// seeds than the one before it is left out.
    pub fn growing(seeds: Seeds, most: u64) -> Self {
        let first = seeds.count();
        let mut later = vec![first.midpoint(most), most];
        later.retain(|count| *count > first);
        later.dedup();
        if later.is_empty() {
            return Self::one(seeds);
        }
        let share = (1.0 - FIRST_SHARE) / later.len() as f64;
        let later = later.into_iter().map(|count| Look {
            end: seeds.first.saturating_add(count),
            share,
        });
        let at_first = Look {
            end: seeds.end,
            share: FIRST_SHARE,
        };
        Self {
            first: seeds.first,
            all: std::iter::once(at_first).chain(later).collect(),
        }
    }

    /// Returns the looks that a comparison has by default: each of them can decide this number of tests. A family that is too
    /// large for several looks gets a single look, which may not be able to decide it either.
    pub fn usual(tests: usize) -> Self {
        let seeds = |share: f64| Seeds {
            first: 1,
            end: 1 + enough(tests, share) as u64,
        };
        let first = seeds(FIRST_SHARE);
        let growing = Self::growing(first, MOST_TIMES * first.count());
        match growing.all.iter().all(|look| growing.decides(*look, tests)) {
            true => growing,
            false => Self::one(seeds(1.0)),
        }
    }

    /// Returns whether a look can decide this number of tests: the smallest p that its pairs can have is small enough for the
    /// strictest step of Holm's procedure.
    pub fn decides(&self, look: Look, tests: usize) -> bool {
        let pairs = (look.end - self.first) as usize;
        permutation::smallest_p(pairs) <= LEVEL * look.share / tests.max(1) as f64
    }

    /// Returns the look with the largest number of seeds.
    pub fn last(&self) -> Look {
        let none = Look {
            end: self.first,
            share: 1.0,
        };
        self.all.last().copied().unwrap_or(none)
    }
}

/// Returns the default number of seeds of a look with this share of the level: [`MORE_SEEDS`] more than it takes to decide this
/// number of tests, but at least [`LEAST_SEEDS`] and at most [`MOST_SEEDS`].
pub fn enough(tests: usize, share: f64) -> usize {
    let needed = holm::pairs_needed(tests, LEVEL * share).unwrap_or(MOST_SEEDS);
    (needed + MORE_SEEDS).clamp(LEAST_SEEDS, MOST_SEEDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeds(first: u64, end: u64) -> Seeds {
        Seeds { first, end }
    }

    fn of(looks: &Looks) -> Vec<(u64, f64)> {
        looks
            .all
            .iter()
            .map(|look| (look.end, look.share))
            .collect()
    }

    #[test]
    fn the_shares_add_up_to_the_level() {
        assert_eq!(of(&Looks::one(seeds(3, 9))), [(9, 1.0)]);
        let three = Looks::growing(seeds(3, 11), 16);
        assert_eq!(of(&three), [(11, 0.5), (15, 0.25), (19, 0.25)]);
        // With one seed more there is nothing half-way.
        assert_eq!(of(&Looks::growing(seeds(1, 9), 9)), [(9, 0.5), (10, 0.5)]);
        assert_eq!(of(&Looks::growing(seeds(1, 9), 8)), [(9, 1.0)]);
        for tests in [1, 8, 32, 100, 200, 1000, 100_000] {
            let shares: f64 = Looks::usual(tests).all.iter().map(|look| look.share).sum();
            assert!((shares - 1.0).abs() < 1e-12, "{tests}: {shares}");
        }
    }

    #[test]
    fn every_usual_look_can_decide_the_family() {
        for tests in [1, 8, 32, 125] {
            let looks = Looks::usual(tests);
            assert_eq!(looks.all.len(), 3, "{tests}");
            for look in &looks.all {
                assert!(looks.decides(*look, tests), "{tests}: {look:?}");
            }
        }
        // No p of drawn signs is below 1/10001, which is too large for 126 tests at a quarter of the level.
        let one = Looks::usual(126);
        assert_eq!(one.all.len(), 1);
        assert!(one.decides(one.last(), 126));
        assert!(!Looks::one(seeds(1, 6)).decides(Look { end: 6, share: 1.0 }, 1));
    }

    #[test]
    fn the_usual_number_of_seeds_decides_the_usual_family() {
        assert_eq!(enough(1, 1.0), LEAST_SEEDS);
        assert_eq!(enough(32, 1.0), 13);
        assert_eq!(enough(32, 0.5), 14);
        assert_eq!(enough(100_000, 1.0), MOST_SEEDS);
    }
}
