//! A binary arithmetic coder: it converts bits into bytes according to their probabilities, so that an expected bit
//! takes little space.
//!
//! Writing and reading take the same steps, so one function does both: it takes the bit to be written, and returns the bit
//! that was written or read. Bytes that are not the output of a writer produce arbitrary bits. [`Coder::is_sound`] detects
//! at the end whether there were too few or too many bytes.

/// The lowest probability of either value of a bit, in units of 1/65 536.
const LEAST: i32 = 48;
/// The number of bits in a context after which each new bit has the same constant influence.
const MEMORY: u8 = 60;
/// The probability of a bit about which nothing is known, in units of 1/65 536.
const HALF: u16 = 1 << 15;
/// The number of bytes that a reader reads ahead, and that a writer therefore appends.
const AHEAD: usize = 4;

/// The probability of a bit in its context, learned from the earlier bits there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bit {
    one: u16,
    seen: u8,
}

impl Bit {
    /// The state in which nothing is known yet.
    pub(crate) const NEW: Self = Self { one: HALF, seen: 0 };

    fn learn(&mut self, bit: bool) {
        let one = i32::from(self.one);
        let goal = if bit { i32::from(u16::MAX) } else { 0 };
        let moved = one + (goal - one) / (i32::from(self.seen) + 2);
        let moved = moved.clamp(LEAST, i32::from(u16::MAX) - LEAST);
        self.one = u16::try_from(moved).unwrap_or(HALF);
        if self.seen < MEMORY {
            self.seen += 1;
        }
    }
}

/// Writes bits to bytes, or reads them.
#[derive(Debug)]
pub(crate) struct Coder<'a> {
    /// The range of values that the following bytes can have.
    low: u32,
    high: u32,
    way: Way<'a>,
}

#[derive(Debug)]
enum Way<'a> {
    Writing(Vec<u8>),
    Reading {
        bytes: &'a [u8],
        /// The number of bytes that were read, including those beyond the end.
        taken: usize,
        /// The last bytes that were read.
        window: u32,
    },
}

impl<'a> Coder<'a> {
    /// Creates a coder that writes bits to its own buffer.
    pub(crate) fn writer() -> Self {
        Self {
            low: 0,
            high: u32::MAX,
            way: Way::Writing(Vec::new()),
        }
    }

    /// Creates a coder that reads from `bytes`.
    pub(crate) fn reader(bytes: &'a [u8]) -> Self {
        let mut coder = Self {
            low: 0,
            high: u32::MAX,
            way: Way::Reading {
                bytes,
                taken: 0,
                window: 0,
            },
        };
        for _ in 0..AHEAD {
            coder.step();
        }
        coder
    }

    /// Codes a bit, and updates its probability.
    pub(crate) fn bit(&mut self, model: &mut Bit, bit: bool) -> bool {
        let bit = self.code(model.one, bit);
        model.learn(bit);
        bit
    }

    /// Codes a bit that is as likely to be one as zero.
    pub(crate) fn even(&mut self, bit: bool) -> bool {
        self.code(HALF, bit)
    }

    fn code(&mut self, one: u16, bit: bool) -> bool {
        let part = (u64::from(self.high - self.low) * u64::from(one)) >> 16;
        // `part` is smaller than `high - low`, so the mask cuts nothing off. The middle is therefore below the end of the range,
        // and each value of the bit gets at least one number of the range.
        let middle = self.low + (part & 0xffff_ffff) as u32;
        let bit = match &self.way {
            Way::Writing(_) => bit,
            Way::Reading { window, .. } => *window <= middle,
        };
        if bit {
            self.high = middle;
        } else {
            self.low = middle + 1;
        }
        while (self.low ^ self.high) >> 24 == 0 {
            self.step();
            self.low <<= 8;
            self.high = self.high << 8 | 0xff;
        }
        bit
    }

    /// Writes the first byte of the range, which is the same at both ends, or reads the next byte. Beyond the end it reads 0.
    fn step(&mut self) {
        match &mut self.way {
            Way::Writing(bytes) => bytes.push((self.high >> 24) as u8),
            Way::Reading {
                bytes,
                taken,
                window,
            } => {
                let byte = bytes.get(*taken).copied().unwrap_or_default();
                *window = *window << 8 | u32::from(byte);
                *taken = taken.saturating_add(1);
            }
        }
    }

    /// Whether a reader has read no byte beyond the end of its bytes. It is always true for a writer.
    pub(crate) fn is_inside(&self) -> bool {
        match &self.way {
            Way::Writing(_) => true,
            Way::Reading { bytes, taken, .. } => *taken <= bytes.len(),
        }
    }

    /// Whether a reader that has read everything reached the end exactly.
    pub(crate) fn is_sound(&self) -> bool {
        match &self.way {
            Way::Writing(_) => true,
            Way::Reading { bytes, taken, .. } => *taken == bytes.len(),
        }
    }

    /// Returns the bytes that were written; none for a reader.
    pub(crate) fn finish(self) -> Vec<u8> {
        match self.way {
            Way::Writing(mut bytes) => {
                bytes.extend_from_slice(&self.low.to_be_bytes());
                bytes
            }
            Way::Reading { .. } => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes a sequence of bits in which every third is set, with some equally likely bits between them.
    fn code(coder: &mut Coder<'_>, count: u32) -> Vec<bool> {
        let mut model = Bit::NEW;
        (0..count)
            .map(|n| match n % 100 {
                99 => coder.even(n % 200 == 99),
                _ => coder.bit(&mut model, n % 3 == 0),
            })
            .collect()
    }

    #[test]
    fn what_is_written_is_read() {
        for count in [0, 1, 7, 8, 1000, 100_000] {
            let mut writer = Coder::writer();
            let written = code(&mut writer, count);
            let bytes = writer.finish();
            let mut reader = Coder::reader(&bytes);
            assert_eq!(code(&mut reader, count), written, "{count}");
            assert!(reader.is_sound() && reader.is_inside(), "{count}");
            let cut = &bytes[..bytes.len() - 1];
            let mut reader = Coder::reader(cut);
            code(&mut reader, count);
            assert!(!reader.is_sound() && !reader.is_inside(), "{count}");
        }
    }

    #[test]
    fn expected_bits_take_little_space() {
        let mut writer = Coder::writer();
        let mut model = Bit::NEW;
        for _ in 0..100_000 {
            writer.bit(&mut model, false);
        }
        assert!(writer.finish().len() < 100);
    }
}
