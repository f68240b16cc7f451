//! Numbers from the bytes of an input, in their order. When the bytes end, the numbers are 0.

/// The bytes of an input that have not been drawn yet.
#[derive(Debug, Clone)]
pub struct Draw<'a>(&'a [u8]);

impl<'a> Draw<'a> {
    /// Starts with all bytes of the input.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Returns whether all bytes have been drawn.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Draws up to `len` bytes.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (now, later) = self.0.split_at(len.min(self.0.len()));
        self.0 = later;
        now
    }

    /// Draws all bytes that are left.
    pub fn rest(&mut self) -> &'a [u8] {
        self.bytes(usize::MAX)
    }

    /// Draws one byte.
    pub fn u8(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    /// Draws a truth value: true for an even byte, and when the bytes have ended.
    pub fn flag(&mut self) -> bool {
        self.u8() & 1 == 0
    }

    /// Draws two bytes.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    /// Draws four bytes.
    pub fn u32(&mut self) -> u32 {
        u32::from(self.u16()) | u32::from(self.u16()) << 16
    }

    /// Draws eight bytes.
    pub fn u64(&mut self) -> u64 {
        u64::from(self.u32()) | u64::from(self.u32()) << 32
    }

    /// Draws a number that is often small, and often at the end of a range.
    pub fn number(&mut self) -> u64 {
        let kind = self.u8();
        match kind {
            0..=127 => u64::from(kind),
            128..=159 => u64::from(self.u16()),
            160..=191 => u64::from(self.u32()),
            192..=207 => u64::MAX - u64::from(kind - 192),
            208..=223 => (1 << 63) - 8 + u64::from(kind - 208),
            224..=239 => (1 << 32) - 8 + u64::from(kind - 224),
            _ => self.u64(),
        }
    }

    /// Draws an index below `len`; 0 if there is none.
    pub fn index(&mut self, len: usize) -> usize {
        let number = match len {
            0..=256 => usize::from(self.u8()),
            257..=65536 => usize::from(self.u16()),
            _ => self.u32() as usize,
        };
        number % len.max(1)
    }

    /// Draws a short text.
    pub fn text(&mut self) -> String {
        let len = usize::from(self.u8() % 32);
        String::from_utf8_lossy(self.bytes(len)).into_owned()
    }
}
