//! Writes a tree of nodes as TOML in a normal form: first the keys of a table in order, then its sections. A list that does not
//! fit into a line has one item per line.

use std::fmt::Write as _;

use super::node::{Node, Value};

/// The largest number of bytes that a key and its list may have together to be written in one line. The ` = ` between them
/// does not count.
const WIDTH: usize = 100;

/// Returns the TOML text of the whole tree `root`.
pub(super) fn write(root: &Node) -> String {
    let mut out = String::new();
    if let Value::Table(entries) = &root.value {
        table(&mut out, "", entries);
    }
    out
}

fn table(out: &mut String, path: &str, entries: &[(String, Node)]) {
    for (key, node) in entries {
        if !matches!(node.value, Value::Sections(_)) {
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(out, "{} = {}", word(key), block(key, node));
        }
    }
    for (key, node) in entries {
        let Value::Sections(sections) = &node.value else {
            continue;
        };
        let path = match path {
            "" => word(key),
            path => format!("{path}.{}", word(key)),
        };
        for section in sections {
            let line = if out.is_empty() { "" } else { "\n" };
            let _ = writeln!(out, "{line}[[{path}]]");
            if let Value::Table(entries) = &section.value {
                table(out, &path, entries);
            }
        }
    }
}

/// Formats the value of a key. A list that does not fit into a line with the key has one item per line.
fn block(key: &str, node: &Node) -> String {
    let line = inline(node);
    match &node.value {
        Value::List(items) if key.len() + line.len() > WIDTH => {
            let items: Vec<String> = items
                .iter()
                .map(|item| format!("    {},\n", inline(item)))
                .collect();
            format!("[\n{}]", items.concat())
        }
        _ => line,
    }
}

fn inline(node: &Node) -> String {
    match &node.value {
        Value::Text(text) => quoted(text),
        Value::Integer(number) => number.to_string(),
        // The number is written with a decimal point or an exponent, so that it is read back as a floating-point number.
        Value::Float(number) => format!("{number:?}"),
        Value::Bool(value) => value.to_string(),
        Value::List(items) | Value::Sections(items) => {
            let items: Vec<String> = items.iter().map(inline).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Table(entries) => {
            let of = |(key, node): &(String, Node)| format!("{} = {}", word(key), inline(node));
            let entries: Vec<String> = entries.iter().map(of).collect();
            match entries.as_slice() {
                [] => "{}".to_owned(),
                entries => format!("{{ {} }}", entries.join(", ")),
            }
        }
    }
}

/// Formats a key. A key of letters, digits, `_` and `-` needs no quotes.
fn word(key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    match !key.is_empty() && key.bytes().all(plain) {
        true => key.to_owned(),
        false => quoted(key),
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            letter if letter.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(letter));
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}
