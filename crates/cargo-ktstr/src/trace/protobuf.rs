//! Encodes the subset of protocol buffers that a trace needs: numbers, strings and nested messages
//! (<https://protobuf.dev/programming-guides/encoding>).

/// A message under construction: its encoded fields.
#[derive(Debug, Default, Clone)]
pub struct Message(pub Vec<u8>);

impl Message {
    /// Adds an unsigned number.
    pub fn number(mut self, field: u32, value: u64) -> Self {
        self.head(field, 0);
        self.varint(value);
        self
    }

    /// Adds a signed number in two's complement, which is the encoding of `int32` and `int64`.
    pub fn signed(self, field: u32, value: i64) -> Self {
        self.number(field, value.cast_unsigned())
    }

    /// Adds a floating-point number in the encoding of `double`.
    pub fn double(mut self, field: u32, value: f64) -> Self {
        self.head(field, 1);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Adds a string: its length in bytes, then its UTF-8.
    pub fn text(self, field: u32, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    /// Adds a nested message.
    pub fn message(self, field: u32, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        self.head(field, 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// Adds the tag of a field: its number and its wire type.
    fn head(&mut self, field: u32, wire: u32) {
        self.varint(u64::from(field << 3 | wire));
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

    #[test]
    fn fields_are_encoded_as_the_specification_shows() {
        // The examples of the specification: 150 in field 1, "testing" in field 2, and the first message in field 3 of another.
        let number = Message::default().number(1, 150);
        assert_eq!(number.0, [0x08, 0x96, 0x01]);
        let text = Message::default().text(2, "testing");
        assert_eq!(text.0, *b"\x12\x07testing");
        let nested = Message::default().message(3, &number);
        assert_eq!(nested.0, [0x1a, 0x03, 0x08, 0x96, 0x01]);
        let minus = Message::default().signed(1, -2);
        assert_eq!(minus.0, *b"\x08\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01");
        assert_eq!(
            read::field(&minus.0, 1),
            Some(read::Value::Number(u64::MAX - 1))
        );
    }
}
