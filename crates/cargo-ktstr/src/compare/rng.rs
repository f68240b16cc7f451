//! Random numbers for resampling, and for made-up runs: SplitMix64 (Steele, Lea and Flood 2014), with the caller's seed.

/// A stream of pseudo-random numbers.
#[derive(Debug)]
pub struct Rng(u64);

impl Rng {
    /// Returns the stream of this seed, at its start.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number of the stream, uniformly distributed over all of `u64`.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a uniformly distributed number below `end`, which must not be 0. The bias is below 2⁻³² for an `end` below 2³².
    pub fn below(&mut self, end: usize) -> usize {
        let product = u128::from(self.next()) * end as u128;
        (product >> 64) as usize
    }

    /// Returns an approximately normal number with mean 0 and variance 1: the centred sum of twelve uniform numbers (Irwin and
    /// Hall), which lies within 6 of 0.
    pub fn normal(&mut self) -> f64 {
        (0..12)
            .map(|_| self.next() as f64 / u64::MAX as f64)
            .sum::<f64>()
            - 6.0
    }
}

#[cfg(test)]
mod tests {
    use super::Rng;

    #[test]
    fn the_stream_is_that_of_the_reference_implementation() {
        // The reference implementation's first numbers for seed 1234567.
        let mut rng = Rng::new(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| rng.next()).collect();
        assert_eq!(
            first,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn normal_numbers_have_mean_0_and_variance_1() {
        let mut rng = Rng::new(3);
        let numbers: Vec<f64> = (0..10_000).map(|_| rng.normal()).collect();
        let mean = numbers.iter().sum::<f64>() / 1e4;
        let variance = numbers.iter().map(|n| n * n).sum::<f64>() / 1e4;
        // The standard errors are 0.01 and 0.014.
        assert!(
            mean.abs() < 0.05 && (variance - 1.0).abs() < 0.07,
            "{mean} {variance}"
        );
    }

    #[test]
    fn numbers_below_an_end_are_uniform() {
        let mut rng = Rng::new(1);
        let mut seen = [0; 6];
        for _ in 0..6000 {
            seen[rng.below(6)] += 1;
        }
        assert!(
            seen.iter().all(|count| (800..1200).contains(count)),
            "{seen:?}"
        );
    }
}
