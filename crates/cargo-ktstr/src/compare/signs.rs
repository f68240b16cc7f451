//! The sign vectors of the permutation test, and the sum of the differences under each of them. A vector flips or keeps the sign
//! of each pair's difference. For few pairs all vectors are tried, else a sample that is drawn with a fixed seed.
//!
//! A comparison of stored results can have a thousand pairs, so the sums are not added up pair by pair. Instead, a table for
//! each group of eight neighbouring pairs holds the group's sum under each of the 256 sign patterns, and the sum under a vector
//! takes one look-up per group.

use super::rng::Rng;

/// The largest number of pairs for which every sign vector is tried.
pub const EXACT: usize = 12;
/// The number of sign vectors that are drawn for more pairs.
pub const DRAWS: usize = 10_000;
/// The seed of the draws, so that the same numbers give the same result.
const SEED: u64 = 0x5163_6e73;
/// The number of pairs that one look-up covers: one for each bit of a byte. A 64-bit word has eight bytes, so this is also the
/// number of groups in a word.
const GROUP: usize = 8;

/// The sums under one sign vector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sum {
    /// The sum of the differences, each with its sign.
    pub differences: f64,
    /// The sum of the signs: the number of pairs that keep their sign minus the number of pairs whose sign is flipped.
    pub signs: f64,
}

/// The sums of some differences under all sign vectors that are tried.
#[derive(Clone, Debug)]
pub struct Sums {
    /// The number of differences.
    pub pairs: usize,
    /// The sums under each vector.
    pub of: Vec<Sum>,
}

impl Sums {
    /// Adds up `differences` under each sign vector.
    pub fn of(differences: &[f64]) -> Self {
        let pairs = differences.len();
        let tables: Vec<[f64; 1 << GROUP]> = differences.chunks(GROUP).map(table).collect();
        let mut of = Vec::with_capacity(if pairs <= EXACT { 1 << pairs } else { DRAWS });
        each(pairs, |words| {
            let mut differences = 0.0;
            for (at, table) in tables.iter().enumerate() {
                let byte = words[at / GROUP] >> (at % GROUP * GROUP) & 0xff;
                differences += table[byte as usize];
            }
            let signs = pairs as f64 - 2.0 * f64::from(flipped(words));
            of.push(Sum { differences, signs });
        });
        Self { pairs, of }
    }

    /// Returns the number of sign vectors. If the vectors are drawn, the observed one, which flips no sign, need not be
    /// among them, so it is counted in addition.
    pub fn all(&self) -> usize {
        self.of.len() + self.observed()
    }

    /// Returns 1 if the vectors are drawn, so that the observed one has to be counted in addition; else 0.
    pub fn observed(&self) -> usize {
        usize::from(self.pairs > EXACT)
    }
}

/// Returns the sums of up to eight differences under each pattern of flipped signs.
fn table(group: &[f64]) -> [f64; 1 << GROUP] {
    std::array::from_fn(|pattern| {
        let signed = group.iter().enumerate();
        signed
            .map(|(at, d)| if pattern >> at & 1 == 1 { -d } else { *d })
            .sum()
    })
}

/// Returns the number of signs that a vector flips.
fn flipped(words: &[u64]) -> u32 {
    words.iter().map(|word| word.count_ones()).sum()
}

/// Calls `with` for the sign vectors of `n` pairs: all of them, or those that are drawn. A vector is a set of bits, lowest first:
/// bit i is 1 if the sign of pair i is flipped, and the bits after the last pair are 0.
fn each(n: usize, mut with: impl FnMut(&[u64])) {
    if n <= EXACT {
        for mask in 0..1_u64 << n {
            with(&[mask]);
        }
        return;
    }
    let mut rng = Rng::new(SEED);
    let mut words = vec![0; n.div_ceil(64)];
    let unused = (64 - n % 64) % 64;
    for _ in 0..DRAWS {
        words.fill_with(|| rng.next());
        if let Some(last) = words.last_mut() {
            *last &= u64::MAX >> unused;
        }
        with(&words);
    }
}

/// Numbers of sign vectors. If the vectors are drawn, the observed one is counted in both numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// The number of all sign vectors.
    pub all: usize,
    /// Those that flip no sign or all signs: under them the mean is as far from 0 as the observed mean, whatever the
    /// differences are.
    pub always: usize,
}

/// Returns the numbers of sign vectors of `n` pairs.
pub fn counts(n: usize) -> Counts {
    let mut always = 0;
    each(n, |words| {
        let flipped = flipped(words) as usize;
        always += usize::from(flipped == 0 || flipped == n);
    });
    match n <= EXACT {
        true => Counts {
            all: 1 << n,
            always,
        },
        false => Counts {
            all: DRAWS + 1,
            always: always + 1,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_vectors_of_few_pairs_and_a_sample_for_many() {
        let mut masks = Vec::new();
        each(2, |words| masks.push(words.to_vec()));
        assert_eq!(masks, [[0], [1], [2], [3]]);
        let draw = |n| {
            let mut all = Vec::new();
            each(n, |words| all.push(words.to_vec()));
            all
        };
        assert_eq!(draw(13).len(), DRAWS);
        assert_eq!(draw(13), draw(13), "the seed is fixed");
        for n in [13, 64, 70, 128] {
            let used = |words: &Vec<u64>| words.iter().fold(0, |all, word| all + word.count_ones());
            let most = draw(n).iter().map(used).max();
            assert!(most.is_some_and(|most| most as usize <= n), "{n}: {most:?}");
        }
        let both = |n| (counts(n).all, counts(n).always);
        assert_eq!(both(6), (64, 2));
        assert_eq!(both(40), (DRAWS + 1, 1));
        // In about 2.4 of 10 000 draws all 13 signs are alike.
        let (all, always) = both(13);
        assert!(all == DRAWS + 1 && (1..12).contains(&always), "{always}");
    }

    #[test]
    fn the_sums_equal_sums_pair_by_pair() {
        for n in [1, 3, 8, 9, 12, 13, 64, 65, 130] {
            let differences: Vec<f64> = (0..n).map(|at| f64::from(at * 7 % 11) - 4.5).collect();
            let sums = Sums::of(&differences);
            let mut at = 0;
            each(differences.len(), |words| {
                let sign = |pair: usize| match words[pair / 64] >> (pair % 64) & 1 {
                    1 => -1.0,
                    _ => 1.0,
                };
                let pairs = differences.iter().enumerate();
                let wanted: f64 = pairs.map(|(pair, d)| sign(pair) * d).sum();
                let signs: f64 = (0..differences.len()).map(sign).sum();
                // Multiples of a half are added without rounding.
                assert_eq!(
                    (sums.of[at].differences, sums.of[at].signs),
                    (wanted, signs)
                );
                at += 1;
            });
            assert_eq!(
                (sums.of.len(), sums.all()),
                (at, counts(differences.len()).all)
            );
        }
    }
}
