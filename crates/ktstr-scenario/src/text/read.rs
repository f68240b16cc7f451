//! Parses TOML text to a tree of nodes.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::node::{Node, TextError, Value};

/// Reads a whole text.
pub(super) fn read(text: &str) -> Result<Node, TextError> {
    let lines = Lines(text);
    let table = DeTable::parse(text).map_err(|error| TextError {
        line: error.span().map_or(1, |span| lines.at(span.start)),
        key: String::new(),
        message: error.message().trim_end().replace('\n', "; "),
    })?;
    Ok(Node {
        value: entries(table.get_ref(), "", &lines)?,
        line: 1,
        path: String::new(),
    })
}

/// A text, in which [`Lines::at`] finds the line of a byte.
struct Lines<'a>(&'a str);

impl Lines<'_> {
    /// Returns the number of the line, from 1, that has the byte at this offset.
    fn at(&self, offset: usize) -> usize {
        let before = self.0.as_bytes().iter().take(offset);
        1 + before.filter(|byte| **byte == b'\n').count()
    }
}

fn entries(table: &DeTable<'_>, path: &str, lines: &Lines) -> Result<Value, TextError> {
    // The parser sorts the keys by name, but errors and settings must come in the order of the text.
    let mut all: Vec<_> = table.iter().collect();
    all.sort_by_key(|(key, _)| key.span().start);
    let of = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let key: &str = AsRef::<str>::as_ref(key.get_ref());
        let path = match path {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        };
        Ok((key.to_owned(), node(value, path, lines)?))
    };
    all.into_iter()
        .map(of)
        .collect::<Result<_, _>>()
        .map(Value::Table)
}

fn node(value: &Spanned<DeValue<'_>>, path: String, lines: &Lines) -> Result<Node, TextError> {
    let line = lines.at(value.span().start);
    let error = |message: String| TextError {
        line,
        key: path.clone(),
        message,
    };
    let read = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => {
            let digits = number.as_str();
            let value = i128::from_str_radix(digits, number.radix());
            Value::Integer(value.map_err(|_| error(format!("the number {digits} is too large")))?)
        }
        DeValue::Float(number) => {
            let value = number.as_str().parse();
            Value::Float(value.map_err(|_| error(format!("{} is not a number", number.as_str())))?)
        }
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(_) => {
            return Err(error(
                "found a date, but no value of a scenario is a date: put a text into quotes"
                    .to_owned(),
            ));
        }
        DeValue::Array(items) => {
            let of = |(at, item)| node(item, format!("{path}[{at}]"), lines);
            let items = items.iter().enumerate().map(of);
            Value::List(items.collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => entries(table, &path, lines)?,
    };
    Ok(Node {
        value: read,
        line,
        path,
    })
}
