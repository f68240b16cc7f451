//! Escapes text from a guest for a terminal.
//!
//! A scheduler's log, the console, a test's output and messages, names of cgroups: all of it comes from the guest, and a
//! terminal executes the control sequences in it, which can write to the clipboard (OSC 52), rename the window, or overwrite
//! earlier output. So everything that is printed is escaped here. The records on disk keep the original text.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{Result, Write};

/// Returns whether a terminal would interpret `c` instead of showing it: control characters (C0 except newline and tab, DEL,
/// C1), the line separators U+2028 and U+2029, and characters that change the direction of text.
fn is_active(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns `text` in which each character that a terminal would interpret is replaced with an escape such as `\u001b`. JSON has
/// the same escapes, so a JSON document stays valid and keeps its content. Changes of colour (`ESC [ … m`) are left out: most
/// schedulers write logs with them, and they carry no information.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_active) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 32);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(behind) = behind_colour(rest) {
            rest = behind;
            continue;
        }
        rest = &rest[c.len_utf8()..];
        if is_active(c) {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Returns what follows a change of colour at the beginning of `text`; `None` if `text` does not begin with one.
fn behind_colour(text: &str) -> Option<&str> {
    let codes = text.strip_prefix("\u{1b}[")?;
    codes
        .trim_start_matches(|c: char| c.is_ascii_digit() || c == ';')
        .strip_prefix('m')
}

/// Prints a line on standard error, escaped.
pub fn eprint_line(text: &str) {
    eprintln!("{}", escaped(text));
}

/// A writer that escapes everything that is written to it.
#[derive(Debug)]
pub struct Escaping<W: Write> {
    inner: W,
    /// The first bytes of an incomplete character.
    begun: Vec<u8>,
}

impl<W: Write> Escaping<W> {
    /// Creates a writer that writes the escaped text to `inner`.
    pub fn new(inner: W) -> Self {
        Self {
            inner,
            begun: Vec::new(),
        }
    }

    fn pass_on(&mut self, end: usize) -> Result<()> {
        let whole: Vec<u8> = self.begun.drain(..end).collect();
        let text = String::from_utf8_lossy(&whole);
        self.inner.write_all(escaped(&text).as_bytes())
    }
}

impl<W: Write> Write for Escaping<W> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.begun.extend_from_slice(bytes);
        let end = match std::str::from_utf8(&self.begun) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.begun.len(),
        };
        self.pass_on(end)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        self.pass_on(self.begun.len())?;
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HOSTILE: &str = "a\x1b]52;c;cm0K\x07b\r\u{9b}2J\u{202e}c\x7f\td\n";

    #[test]
    fn what_a_terminal_obeys_is_shown_instead() {
        assert_eq!(
            escaped(HOSTILE),
            "a\\u001b]52;c;cm0K\\u0007b\\u000d\\u009b2J\\u202ec\\u007f\td\n"
        );
        assert!(matches!(escaped("plain — ünïcode →\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn changes_of_colour_are_left_out_and_nothing_else_is() {
        let log = "\x1b[2m12:00\x1b[0m \x1b[1;32mINFO\x1b[m starts\x1b[2J \x1b[31";
        assert_eq!(escaped(log), "12:00 INFO starts\\u001b[2J \\u001b[31");
    }

    #[test]
    fn json_stays_the_same_document() {
        let json = serde_json::to_string_pretty(&[HOSTILE]).unwrap();
        let shown = escaped(&json);
        assert!(!shown.contains('\u{9b}') && !shown.contains('\u{202e}'));
        assert_eq!(
            serde_json::from_str::<[String; 1]>(&shown).unwrap(),
            [HOSTILE]
        );
    }

    #[test]
    fn a_character_may_come_in_pieces() {
        let mut all = Vec::new();
        let mut out = Escaping::new(&mut all);
        for byte in HOSTILE.bytes().chain("→".bytes()) {
            out.write_all(&[byte]).unwrap();
        }
        out.flush().unwrap();
        assert_eq!(
            String::from_utf8(all).unwrap(),
            format!("{}→", escaped(HOSTILE))
        );
    }
}
