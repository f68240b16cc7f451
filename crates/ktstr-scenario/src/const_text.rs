//! Messages of failed `const` assertions, with numbers, built at compile time. They consist only of text and unsigned numbers,
//! and have a limited length.

/// A short text that can be built in a `const`.
pub(crate) struct ConstText {
    bytes: [u8; 256],
    len: usize,
}

impl ConstText {
    /// Creates an empty text, which has room for 256 bytes.
    pub(crate) const fn new() -> Self {
        Self {
            bytes: [0; 256],
            len: 0,
        }
    }

    /// Appends `text`, or nothing if it does not fit.
    pub(crate) const fn text(mut self, text: &str) -> Self {
        let from = text.as_bytes();
        if self.len + from.len() > self.bytes.len() {
            return self;
        }
        let mut i = 0;
        while i < from.len() {
            self.bytes[self.len] = from[i];
            self.len += 1;
            i += 1;
        }
        self
    }

    /// Appends `value` in decimal, or nothing if it does not fit.
    pub(crate) const fn number(mut self, value: u32) -> Self {
        let mut divisor = 1u32;
        let mut digits = 1;
        while value / divisor >= 10 {
            divisor *= 10;
            digits += 1;
        }
        if self.len + digits > self.bytes.len() {
            return self;
        }
        while divisor > 0 {
            self.bytes[self.len] = b'0' + (value / divisor % 10) as u8;
            self.len += 1;
            divisor /= 10;
        }
        self
    }

    /// Returns the text that has been appended so far.
    pub(crate) const fn as_str(&self) -> &str {
        let (text, _) = self.bytes.split_at(self.len);
        match core::str::from_utf8(text) {
            Ok(text) => text,
            Err(_) => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ConstText;

    #[test]
    fn numbers_and_text() {
        const TEXT: ConstText = ConstText::new()
            .text("a ")
            .number(0)
            .text(" b ")
            .number(u32::MAX);
        assert_eq!(TEXT.as_str(), "a 0 b 4294967295");
    }

    #[test]
    fn what_does_not_fit_is_left_out_whole() {
        let long = "x".repeat(255);
        let text = ConstText::new().text(&long).text("yy").number(12).text("z");
        assert_eq!(text.as_str(), format!("{long}z"));
    }
}
