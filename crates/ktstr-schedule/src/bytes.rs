//! Encodes numbers as bytes, and reads numbers and texts back.

/// Appends `value` with seven bits per byte, lowest first (LEB128).
pub(crate) fn put(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    to.push((value & 0x7f) as u8);
}

/// The bytes that have not been read yet. Each function reads a value from their start, and returns `None` if they end too
/// early or hold no such value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn number(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return None;
            }
            value |= part << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    pub(crate) fn slice(&mut self, len: u64) -> Option<&'a [u8]> {
        let len = usize::try_from(len)
            .ok()
            .filter(|len| *len <= self.0.len())?;
        let (slice, rest) = self.0.split_at(len);
        self.0 = rest;
        Some(slice)
    }

    /// Reads a text: its length, which may be at most `max`, and then as many bytes of UTF-8.
    pub(crate) fn text(&mut self, max: u64) -> Option<String> {
        let len = self.number().filter(|len| *len <= max)?;
        String::from_utf8(self.slice(len)?.to_vec()).ok()
    }
}
