//! Parses rt-app's workload files, which are almost JSON, into a tree of nodes.
//!
//! In addition to JSON, a file may have comments (`/* */`, `//`), a comma before a closing bracket, texts in single quotes, and
//! keys without a value, which get the empty text as their value. A key may occur several times in an object. The order of the
//! keys is kept, because it is the order in which events are executed.

use crate::text::{Node, TextError, Value};

/// The largest depth of nested objects and lists. No published file has more than six levels.
const MAX_DEPTH: usize = 32;

/// Parses a whole text.
pub(super) fn read(text: &str) -> Result<Node, TextError> {
    let mut reader = Reader {
        rest: text,
        line: 1,
        path: Vec::new(),
    };
    reader.skip()?;
    let node = reader.value()?;
    reader.skip()?;
    match reader.rest.chars().next() {
        None => Ok(node),
        Some(_) => Err(reader.error(format!(
            "found {} after the end of the outermost object",
            reader.found()
        ))),
    }
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
    /// The keys and list indices that lead to the current position.
    path: Vec<String>,
}

type Read<T> = Result<T, TextError>;

impl<'a> Reader<'a> {
    fn error(&self, message: impl Into<String>) -> TextError {
        self.error_at(self.line, message)
    }

    fn error_at(&self, line: usize, message: impl Into<String>) -> TextError {
        TextError {
            line,
            key: self.path.join("."),
            message: message.into(),
        }
    }

    /// Describes the character at the current position for messages.
    fn found(&self) -> String {
        match self.rest.chars().next() {
            None => "the end of the text".to_owned(),
            Some(letter) => format!("{letter:?}"),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.rest.bytes().next()
    }

    /// Consumes and returns this number of bytes, which must end at the boundary of a character.
    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.line += taken.bytes().filter(|byte| *byte == b'\n').count();
        self.rest = rest;
        taken
    }

    /// Consumes and returns the characters for which `is` returns true.
    fn take_while(&mut self, is: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|letter| !is(letter));
        self.take(end.unwrap_or(self.rest.len()))
    }

    /// Consumes the next byte if it is `byte`, and returns whether it was.
    fn takes(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.take(1);
        }
        found
    }

    /// Skips white space and comments.
    fn skip(&mut self) -> Read<()> {
        loop {
            self.take_while(|letter| letter.is_whitespace() || letter == '\u{feff}');
            if self.rest.starts_with("//") {
                self.take_while(|letter| letter != '\n');
            } else if self.rest.starts_with("/*") {
                match self.rest.find("*/") {
                    Some(end) => self.take(end + 2),
                    None => {
                        return Err(
                            self.error("the comment that begins here has no end: close it with */")
                        );
                    }
                };
            } else {
                return Ok(());
            }
        }
    }

    fn node(&self, line: usize, value: Value) -> Node {
        Node {
            value,
            line,
            path: self.path.join("."),
        }
    }

    fn value(&mut self) -> Read<Node> {
        let line = self.line;
        let value = match self.peek() {
            Some(b'{') => Value::Table(self.object()?),
            Some(b'[') => Value::List(self.list()?),
            Some(quote @ (b'"' | b'\'')) => Value::Text(self.text(quote)?),
            Some(b'-' | b'+' | b'0'..=b'9') => self.number()?,
            Some(letter) if letter.is_ascii_alphabetic() => self.word()?,
            _ => return Err(self.error(format!("found {}, expected a value", self.found()))),
        };
        Ok(self.node(line, value))
    }

    /// Returns an error if an object or a list at the current position would be nested too deeply.
    fn deeper(&self) -> Read<()> {
        match self.path.len() < MAX_DEPTH {
            true => Ok(()),
            false => Err(self.error(format!(
                "objects and lists are nested more than {MAX_DEPTH} deep"
            ))),
        }
    }

    fn object(&mut self) -> Read<Vec<(String, Node)>> {
        self.deeper()?;
        let began = self.line;
        self.take(1);
        let mut entries = Vec::new();
        loop {
            self.skip()?;
            if self.takes(b'}') {
                return Ok(entries);
            }
            let line = self.line;
            let key = match self.peek() {
                Some(quote @ (b'"' | b'\'')) => self.text(quote)?,
                None => return Err(self.unclosed(began, "object")),
                Some(_) => {
                    let what = format!("found {}, expected a key in quotes or }}", self.found());
                    return Err(self.error(what));
                }
            };
            self.path.push(key.clone());
            self.skip()?;
            let node = match self.takes(b':') {
                true => {
                    self.skip()?;
                    self.value()?
                }
                false => self.node(line, Value::Text(String::new())),
            };
            // The node gets the line of its key, because the value may begin on a later line, and users look for the key.
            entries.push((key, Node { line, ..node }));
            self.skip()?;
            self.separated(b'}', began, "object")?;
            self.path.pop();
        }
    }

    fn list(&mut self) -> Read<Vec<Node>> {
        self.deeper()?;
        let began = self.line;
        self.take(1);
        let mut items = Vec::new();
        loop {
            self.skip()?;
            if self.takes(b']') {
                return Ok(items);
            }
            if self.rest.is_empty() {
                return Err(self.unclosed(began, "list"));
            }
            self.path.push(items.len().to_string());
            items.push(self.value()?);
            self.skip()?;
            self.separated(b']', began, "list")?;
            self.path.pop();
        }
    }

    /// Consumes the comma after an entry. It may be missing only before the end of the object or list.
    fn separated(&mut self, close: u8, began: usize, what: &str) -> Read<()> {
        if self.takes(b',') || self.peek() == Some(close) {
            return Ok(());
        }
        match self.rest.is_empty() {
            true => Err(self.unclosed(began, what)),
            false => Err(self.error(format!(
                "found {}, expected a comma or {:?}",
                self.found(),
                char::from(close)
            ))),
        }
    }

    /// Creates the error for an object or a list without an end, at the line on which it begins.
    fn unclosed(&self, began: usize, what: &str) -> TextError {
        self.error_at(began, format!("the {what} that begins here has no end"))
    }

    /// Parses a text in quotes, with the escapes of JSON and `\'`.
    fn text(&mut self, quote: u8) -> Read<String> {
        let began = self.line;
        self.take(1);
        let mut text = String::new();
        loop {
            text.push_str(self.take_while(|letter| {
                letter != char::from(quote) && letter != '\\' && letter != '\n'
            }));
            match self.peek() {
                Some(byte) if byte == quote => {
                    self.take(1);
                    return Ok(text);
                }
                Some(b'\\') => text.push(self.escape()?),
                _ => {
                    return Err(self.error_at(
                        began,
                        "the text that begins here does not end on this line: close its quotes",
                    ));
                }
            }
        }
    }

    /// Returns the number in the escape `\uXXXX` that begins `at` bytes from here; `None` if none begins there.
    fn half(&self, at: usize) -> Option<u16> {
        let digits = self.rest.get(at..at + 6)?.strip_prefix("\\u")?;
        let is_number = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_number.then(|| u16::from_str_radix(digits, 16).ok())?
    }

    /// Parses an escape, which begins with a backslash.
    fn escape(&mut self) -> Read<char> {
        let mut letters = self.rest.chars();
        letters.next();
        let plain = match letters.next() {
            Some(letter @ ('"' | '\'' | '\\' | '/')) => letter,
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => {
                // A character beyond U+FFFF is written as two escapes, the two halves of its UTF-16 form.
                let first = self.half(0);
                let second = first.and_then(|_| self.half(6));
                let halves = first.into_iter().chain(second);
                let letter = char::decode_utf16(halves).next().and_then(Result::ok);
                let letter = letter.ok_or_else(|| {
                    self.error("found \\u without the four hexadecimal digits of a character")
                })?;
                self.take(6 * letter.len_utf16());
                return Ok(letter);
            }
            _ => return Err(self.error("found a backslash that begins no JSON escape: write two")),
        };
        self.take(2);
        Ok(plain)
    }

    fn number(&mut self) -> Read<Value> {
        let digits =
            self.take_while(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter));
        let integer = digits.parse().map(Value::Integer);
        let float = || digits.parse().ok().filter(|float: &f64| float.is_finite());
        integer.or_else(|_| {
            let number = float().map(Value::Float);
            number.ok_or_else(|| self.error(format!("{digits} is not a number")))
        })
    }

    fn word(&mut self) -> Read<Value> {
        let word = self.take_while(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        match word.to_ascii_lowercase().as_str() {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            "null" => Ok(Value::Text(String::new())),
            _ => Err(self.error(format!(
                "found the word {word}, expected a value: put a text into quotes"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Formats keys and values in their order, without their lines.
    fn plain(node: &Node) -> String {
        match &node.value {
            Value::Table(entries) => {
                let all = entries
                    .iter()
                    .map(|(key, node)| format!("{key}={}", plain(node)));
                format!("{{{}}}", all.collect::<Vec<_>>().join(" "))
            }
            Value::List(items) => {
                let all: Vec<_> = items.iter().map(plain).collect();
                format!("[{}]", all.join(" "))
            }
            Value::Text(text) => format!("{text:?}"),
            Value::Integer(number) => number.to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn order_and_repeated_keys_stay() {
        let text = "\u{feff}{ // first\n 'run' : 1, /* two\nlines */ \"sleep\" : -2,\n\"run\" : +3, \"suspend\",\n\"l\" : [1, 2,], \
                    \"o\" : { \"f\" : 1.5, \"t\" : True, \"n\" : null, }, }\n// end";
        let node = read(text).expect("it is read");
        assert_eq!(
            plain(&node),
            r#"{run=1 sleep=-2 run=3 suspend="" l=[1 2] o={f=Float(1.5) t=Bool(true) n=""}}"#
        );
        let Value::Table(entries) = &node.value else {
            panic!("an object")
        };
        let lines: Vec<usize> = entries.iter().map(|(_, node)| node.line).collect();
        assert_eq!(lines, [2, 3, 4, 4, 5, 5]);
        let texts = read(r#"["a\"b", "\u00e9\n", 'it"s', "\\\/"]"#).expect("texts");
        assert_eq!(plain(&texts), r#"["a\"b" "é\n" "it\"s" "\\/"]"#);
    }

    #[test]
    fn an_escape_of_two_halves_is_one_character() {
        let texts = read(r#"["\ud83d\ude00!", "\u0041"]"#).expect("texts");
        assert_eq!(plain(&texts), r#"["😀!" "A"]"#);
        for wrong in [
            r#""\ud83d!""#,
            r#""\ude00""#,
            r#""\u+041""#,
            r#""\u00""#,
            r#""\u00zz\u0041""#,
        ] {
            let error = read(wrong).expect_err(wrong).to_string();
            assert!(error.contains("four hexadecimal digits"), "{error}");
        }
    }

    #[test]
    fn what_is_no_json_is_named_with_its_line() {
        let error = |text: &str| read(text).expect_err(text).to_string();
        insta::assert_snapshot!(error("{\n\"a\" : 1\n\"b\" : 2 }"), @r#"line 3, `a`: found '"', expected a comma or '}'"#);
        insta::assert_snapshot!(error("{\n\"a\" : {\n\"b\" : 2"), @"line 2, `a.b`: the object that begins here has no end");
        insta::assert_snapshot!(error("{\n\"a : 2\n}"), @"line 2: the text that begins here does not end on this line: close its quotes");
        insta::assert_snapshot!(error("{}\n}"), @"line 2: found '}' after the end of the outermost object");
        insta::assert_snapshot!(error("{ \"a\" : \n yes }"), @"line 2, `a`: found the word yes, expected a value: put a text into quotes");
        insta::assert_snapshot!(error("{ a : 1 }"), @"line 1: found 'a', expected a key in quotes or }");
        insta::assert_snapshot!(error("\n/* {}"), @"line 2: the comment that begins here has no end: close it with */");
        insta::assert_snapshot!(error("{ \"a\" : 1x }"), @"line 1, `a`: 1x is not a number");
        insta::assert_snapshot!(error(""), @"line 1: found the end of the text, expected a value");
        for bad in [
            "[1",
            "[1 2]",
            "{\"a\":}",
            "\"\\u12\"",
            "\"\\q\"",
            "1e999",
            "{,}",
            "\"\\u",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let deep = "[".repeat(100_000);
        assert!(error(&deep).contains("objects and lists are nested more than 32 deep"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = read(&text);
        }

        /// Texts in which most characters have a meaning for the parser.
        #[test]
        fn no_nearly_json_panics(text in r#"[{}\[\],:"'\\/*\n a1u.é-]{0,60}"#) {
            if let Err(error) = read(&text) {
                prop_assert!((1..=1 + text.matches('\n').count()).contains(&error.line));
            }
        }
    }
}
