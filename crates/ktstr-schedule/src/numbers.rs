//! Codes numbers as bits. Each context has a model, which predicts the next number from the recent numbers of this context and
//! from the frequencies of lengths and leading bits.

use std::collections::HashMap;

use crate::arithmetic::{Bit, Coder};

/// The number of recent numbers that a context keeps, the latest first.
const RECENT: usize = 7;
/// The number of bits of an index into the recent numbers. The index [`RECENT`], which is one past the last, stands for a number
/// that is not a recent one.
const RECENT_BITS: u32 = 3;
/// The number of bits for the length of a number in bits, which is at most 64.
const LENGTH_BITS: u32 = 7;
const LENGTHS: usize = 65;
/// The number of bits after a number's leading one that have learned probabilities, separately for each length.
const TOP_BITS: u32 = 3;
/// The number of lowest bits that have learned probabilities. Times are nearly multiples of the time of an instruction, so
/// their low bits can be predicted.
const LOW_BITS: u32 = 2;
/// The number of contexts that have their own model. Later contexts share one.
const MODELS: usize = 1 << 13;

/// The state of a context.
#[derive(Debug, Clone)]
struct Model {
    recent: [u64; RECENT],
    place: [Bit; 1 << RECENT_BITS],
    length: [Bit; 1 << LENGTH_BITS],
    top: [[Bit; 1 << TOP_BITS]; LENGTHS],
    low: [Bit; 1 << LOW_BITS],
}

impl Model {
    const NEW: Self = Self {
        recent: [0; RECENT],
        place: [Bit::NEW; 1 << RECENT_BITS],
        length: [Bit::NEW; 1 << LENGTH_BITS],
        top: [[Bit::NEW; 1 << TOP_BITS]; LENGTHS],
        low: [Bit::NEW; 1 << LOW_BITS],
    };
}

/// Writes numbers to bytes, or reads them: see [`Coder`].
#[derive(Debug)]
pub(crate) struct Numbers<'a> {
    coder: Coder<'a>,
    places: HashMap<u32, usize>,
    models: Vec<Model>,
    /// Whether a number was read that a writer cannot have written.
    broken: bool,
}

impl<'a> Numbers<'a> {
    /// Creates a coder that writes numbers to its own buffer.
    pub(crate) fn writer() -> Self {
        Self::by(Coder::writer())
    }

    /// Creates a coder that reads from `bytes`.
    pub(crate) fn reader(bytes: &'a [u8]) -> Self {
        Self::by(Coder::reader(bytes))
    }

    fn by(coder: Coder<'a>) -> Self {
        Self {
            coder,
            places: HashMap::new(),
            models: Vec::new(),
            broken: false,
        }
    }

    /// Codes a number in `context`: a writer writes `value`, a reader ignores it. Returns the number that was written or
    /// read; 0 if a reader finds a number of more than 64 bits.
    pub(crate) fn code(&mut self, context: u32, value: u64) -> u64 {
        let next = self.models.len().min(MODELS);
        let place = *self.places.entry(context).or_insert(next);
        if place == self.models.len() {
            self.models.push(Model::NEW);
        }
        let Some(model) = self.models.get_mut(place) else {
            return 0;
        };
        let known = model.recent.iter().position(|known| *known == value);
        let known = known.unwrap_or(RECENT) as u64;
        let at = tree(&mut self.coder, &mut model.place, RECENT_BITS, known);
        let at = usize::try_from(at).unwrap_or(RECENT);
        let (value, end) = match model.recent.get(at) {
            Some(known) => (*known, at),
            None => match new(&mut self.coder, model, value) {
                Some(value) => (value, RECENT - 1),
                None => {
                    self.broken = true;
                    return 0;
                }
            },
        };
        model.recent[..=end].rotate_right(1);
        model.recent[0] = value;
        value
    }

    /// Whether everything that a reader has read so far can have been written by a writer.
    pub(crate) fn is_whole(&self) -> bool {
        !self.broken && self.coder.is_inside()
    }

    /// The same as [`Self::is_whole`], for a reader that has read everything: the bytes must end there.
    pub(crate) fn is_sound(&self) -> bool {
        !self.broken && self.coder.is_sound()
    }

    /// Returns the bytes that were written; none for a reader.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.coder.finish()
    }
}

/// Codes a number that is not a recent one: its length, followed by the bits after the leading one. Returns `None` if a reader
/// finds a length of more than 64 bits.
fn new(coder: &mut Coder<'_>, model: &mut Model, value: u64) -> Option<u64> {
    let length = u64::from(u64::BITS - value.leading_zeros());
    let length = tree(coder, &mut model.length, LENGTH_BITS, length);
    let length = u32::try_from(length).ok()?;
    let top = model.top.get_mut(length as usize)?;
    if length < 2 {
        return Some(u64::from(length));
    }
    let mut left = length - 1;
    let first = left.min(TOP_BITS);
    left -= first;
    let mask = |bits: u32| (1u64 << bits) - 1;
    let mut read = 1 << first | tree(coder, top, first, value >> left & mask(first));
    let last = left.min(LOW_BITS);
    while left > last {
        left -= 1;
        read = read << 1 | u64::from(coder.even(value >> left & 1 == 1));
    }
    Some(read << last | tree(coder, &mut model.low, last, value & mask(last)))
}

/// Codes a number of `bits` bits, highest first. The prediction for each bit depends on the bits before it.
fn tree(coder: &mut Coder<'_>, models: &mut [Bit], bits: u32, value: u64) -> u64 {
    let mut at = 1usize;
    for shift in (0..bits).rev() {
        let Some(model) = models.get_mut(at) else {
            return 0;
        };
        let bit = coder.bit(model, value >> shift & 1 == 1);
        at = at << 1 | usize::from(bit);
    }
    at as u64 - (1 << bits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code(numbers: &mut Numbers<'_>, values: &[(u32, u64)]) -> Vec<u64> {
        let coded = values.iter().map(|(of, value)| numbers.code(*of, *value));
        coded.collect()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            values in proptest::collection::vec((0..3u32, prop_oneof![any::<u64>(), 0..9u64]), 0..300),
        ) {
            let mut writer = Numbers::writer();
            code(&mut writer, &values);
            let bytes = writer.finish();
            let mut reader = Numbers::reader(&bytes);
            let blank: Vec<(u32, u64)> = values.iter().map(|(of, _)| (*of, 0)).collect();
            let read = code(&mut reader, &blank);
            prop_assert!(reader.is_sound());
            prop_assert_eq!(read, values.into_iter().map(|(_, value)| value).collect::<Vec<_>>());
        }
    }

    #[test]
    fn contexts_beyond_the_bound_share_a_model() {
        let values: Vec<(u32, u64)> = (0..2 * MODELS as u32)
            .map(|n| (n, u64::from(n % 5)))
            .collect();
        let mut writer = Numbers::writer();
        code(&mut writer, &values);
        assert_eq!(writer.models.len(), MODELS + 1);
        let bytes = writer.finish();
        let mut reader = Numbers::reader(&bytes);
        let read = code(
            &mut reader,
            &values.iter().map(|(of, _)| (*of, 0)).collect::<Vec<_>>(),
        );
        assert!(
            read.iter()
                .zip(&values)
                .all(|(read, (_, value))| read == value)
        );
    }
}
