//! The text form of numbers, words, times, lists and sets.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use super::node::{Node, TextError, Unsayable, Value};
use super::{Names, Text};
use crate::topology::{cpuset_string, parse_cpulist};

macro_rules! numbers {
    ($($type:ty)+) => { $(
        impl Text for $type {
            fn expected() -> String {
                format!("a whole number of {} to {}", Self::MIN, Self::MAX)
            }

            fn put(&self) -> Result<Node, Unsayable> {
                // The cast is lossless, since no number of the language has more than 64 bits.
                Ok(Node::new(Value::Integer(*self as i128)))
            }

            fn take(node: &Node, _: &Names) -> Result<Self, TextError> {
                match node.value {
                    Value::Integer(number) => Self::try_from(number).ok(),
                    _ => None,
                }
                .ok_or_else(|| node.expected(&Self::expected()))
            }
        }
    )+ };
}

numbers!(u8 u16 u32 u64 usize i32);

/// The word for an optional number that has no value.
const NONE: &str = "none";

impl Text for Option<u8> {
    fn expected() -> String {
        format!("{}, or \"{NONE}\"", u8::expected())
    }

    fn put(&self) -> Result<Node, Unsayable> {
        match self {
            Some(number) => number.put(),
            None => Ok(Node::text(NONE)),
        }
    }

    fn take(node: &Node, names: &Names) -> Result<Self, TextError> {
        match &node.value {
            Value::Text(text) if text == NONE => Ok(None),
            Value::Integer(_) => u8::take(node, names).map(Some),
            _ => Err(node.expected(&Self::expected())),
        }
    }
}

impl Text for f64 {
    fn expected() -> String {
        "a number".to_owned()
    }

    fn put(&self) -> Result<Node, Unsayable> {
        match self.is_finite() {
            true => Ok(Node::new(Value::Float(*self))),
            false => Err(Unsayable {
                what: format!("the number {self}"),
                instead: "give a finite number",
            }),
        }
    }

    fn take(node: &Node, _: &Names) -> Result<Self, TextError> {
        match node.value {
            Value::Float(number) => Ok(number),
            Value::Integer(number) => Ok(number as f64),
            _ => Err(node.expected("a number")),
        }
    }
}

impl Text for bool {
    fn expected() -> String {
        "true or false".to_owned()
    }

    fn put(&self) -> Result<Node, Unsayable> {
        Ok(Node::new(Value::Bool(*self)))
    }

    fn take(node: &Node, _: &Names) -> Result<Self, TextError> {
        match node.value {
            Value::Bool(value) => Ok(value),
            _ => Err(node.expected("true or false")),
        }
    }
}

impl Text for String {
    fn expected() -> String {
        "a text in quotes".to_owned()
    }

    fn put(&self) -> Result<Node, Unsayable> {
        Ok(Node::text(self.as_str()))
    }

    fn take(node: &Node, _: &Names) -> Result<Self, TextError> {
        match &node.value {
            Value::Text(text) => Ok(text.clone()),
            _ => Err(node.expected("a text in quotes")),
        }
    }
}

impl Text for Cow<'static, str> {
    fn expected() -> String {
        String::expected()
    }

    fn put(&self) -> Result<Node, Unsayable> {
        Ok(Node::text(self.as_ref()))
    }

    fn take(node: &Node, names: &Names) -> Result<Self, TextError> {
        String::take(node, names).map(Cow::Owned)
    }
}

impl<T: Text> Text for Vec<T> {
    fn expected() -> String {
        format!("a list of values, each {}", T::expected())
    }

    fn put(&self) -> Result<Node, Unsayable> {
        let items = self.iter().map(T::put).collect::<Result<_, _>>()?;
        Ok(Node::new(Value::List(items)))
    }

    fn take(node: &Node, names: &Names) -> Result<Self, TextError> {
        let items = node.items(&Self::expected())?;
        items.iter().map(|item| T::take(item, names)).collect()
    }
}

/// Sets of CPUs or nodes, in the list format of the kernel.
impl Text for BTreeSet<usize> {
    fn expected() -> String {
        "a list of CPUs or nodes such as \"0-3,8\"".to_owned()
    }

    fn put(&self) -> Result<Node, Unsayable> {
        Ok(Node::text(cpuset_string(self)))
    }

    fn take(node: &Node, _: &Names) -> Result<Self, TextError> {
        match &node.value {
            Value::Text(text) => parse_cpulist(text).map_err(|e| node.error(e.to_string())),
            _ => Err(node.expected(&Self::expected())),
        }
    }
}

/// The units of time with their nanoseconds, from the smallest to the largest.
const UNITS: [(&str, u128); 4] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
];

impl Text for Duration {
    fn expected() -> String {
        "a time such as \"50ms\", in s, ms, us or ns".to_owned()
    }

    fn put(&self) -> Result<Node, Unsayable> {
        Ok(Node::text(duration_text(*self)))
    }

    fn take(node: &Node, _: &Names) -> Result<Self, TextError> {
        match &node.value {
            Value::Text(text) => parse_duration(text),
            _ => None,
        }
        .ok_or_else(|| node.expected(&Self::expected()))
    }
}

/// Formats a time in the largest unit in which it is a whole number.
pub(super) fn duration_text(time: Duration) -> String {
    let ns = time.as_nanos();
    let whole = UNITS
        .iter()
        .rev()
        .find(|(_, unit)| ns.is_multiple_of(*unit));
    let (name, unit) = whole.unwrap_or(&UNITS[0]);
    format!("{}{name}", ns / unit)
}

/// Parses a time: a number, which may have a decimal point, and a unit. Returns `None` for anything else, for a fraction of a
/// nanosecond, and for a time that is too large for a [`Duration`].
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
    let (number, unit) = text.split_at(end);
    let unit = unit.trim_start();
    let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let whole: u128 = whole.parse().ok()?;
    let mut ns = whole.checked_mul(*unit)?;
    let mut place = *unit;
    for digit in part.chars() {
        // A fraction of a nanosecond is refused.
        if !place.is_multiple_of(10) {
            return None;
        }
        place /= 10;
        ns = ns.checked_add(u128::from(digit.to_digit(10)?) * place)?;
    }
    let seconds = u64::try_from(ns / 1_000_000_000).ok()?;
    Some(Duration::new(seconds, (ns % 1_000_000_000) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        for (text, ns) in [
            ("50ms", 50_000_000),
            ("1.5s", 1_500_000_000),
            ("0.25 us", 250),
            ("3ns", 3),
            ("0s", 0),
        ] {
            let time = parse_duration(text).expect(text);
            assert_eq!(time.as_nanos(), ns, "{text}");
            assert_eq!(parse_duration(&duration_text(time)), Some(time));
        }
        assert_eq!(duration_text(Duration::from_millis(1500)), "1500ms");
        let most = Duration::MAX;
        assert_eq!(parse_duration(&duration_text(most)), Some(most));
        for bad in [
            "", "5", "ms", "-1ms", "1.5ns", "1h", "1..2s", "1e3s", "1 ms 2",
        ] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
