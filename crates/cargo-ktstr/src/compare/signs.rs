//! Sign vectors: all of them for few pairs, else a sample drawn with a fixed seed.

use super::rng::Rng;

/// The largest number of pairs for which every sign vector is tried.
pub const EXACT: usize = 12;
/// The number of sign vectors that are drawn for more pairs.
pub const DRAWS: usize = 10_000;
/// The seed of the draws, so that the same numbers give the same result.
const SEED: u64 = 0x5163_6e73;

/// A sign vector: the set of pairs whose sign is flipped.
#[derive(Clone, Copy, Debug)]
pub struct Turned<'a>(&'a [u64]);

impl Turned<'_> {
    /// Returns whether the sign of the pair `at` is flipped.
    pub fn at(self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 == 1
    }
}

/// Calls `with` for sign vectors of `n` pairs: all of them, or those drawn.
pub fn each(n: usize, mut with: impl FnMut(Turned<'_>)) {
    if n <= EXACT {
        for mask in 0..1_u64 << n {
            with(Turned(&[mask]));
        }
        return;
    }
    let mut rng = Rng::new(SEED);
    let mut words = vec![0; n.div_ceil(64)];
    for _ in 0..DRAWS {
        words.fill_with(|| rng.next());
        with(Turned(&words));
    }
}

/// Returns the number of sign vectors, and how many of them are "at least as far" for any differences: those that flip none or
/// all signs. If they are drawn, the observed one is counted in addition.
pub fn counts(n: usize) -> (usize, usize) {
    let mut always = 0;
    each(n, |turned| {
        let first = turned.at(0);
        always += usize::from((1..n).all(|at| turned.at(at) == first));
    });
    match n <= EXACT {
        true => (1 << n, always),
        false => (DRAWS + 1, always + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_few_and_some_of_many() {
        let mut turned = Vec::new();
        each(2, |is| turned.push([is.at(0), is.at(1)]));
        turned.sort_unstable();
        let all = [[false, false], [false, true], [true, false], [true, true]];
        assert_eq!(turned, all);
        let draw = || {
            let mut all = Vec::new();
            each(13, |is| {
                all.push((0..13).map(|at| is.at(at)).collect::<Vec<bool>>())
            });
            all
        };
        assert_eq!(draw().len(), DRAWS);
        assert_eq!(draw(), draw(), "the seed is fixed");
        assert_eq!(counts(6), (64, 2));
        assert_eq!(counts(40), (DRAWS + 1, 1));
        // Of 10 000 draws of 13 signs, about 2.4 have all signs alike.
        let (all, always) = counts(13);
        assert!(all == DRAWS + 1 && (1..12).contains(&always), "{always}");
    }
}
