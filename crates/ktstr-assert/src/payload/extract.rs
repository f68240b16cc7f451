//! Extracts metrics from the output of a program. Any text gives a list, which may be empty; the functions never fail.

use std::collections::BTreeMap;

use serde_json::Value;

use super::format::{MetricPattern, OutputFormat};
use super::metrics::{Metric, MetricStream};

/// The largest depth of a number in JSON. Deeper numbers are skipped.
pub const MAX_DEPTH: usize = 64;
/// The search for JSON ends after more than this many opening braces that do not start a valid object, so that text without JSON
/// does not cost much time.
const MAX_ATTEMPTS: usize = 10_000;
/// At most this many metrics are collected from the JSON of one stream, and at most this many matches of one pattern are read.
const MAX_NUMBERS: usize = 100_000;

/// Extracts the metrics from the text of one stream, sorted by name. Numbers that are not finite are left out.
pub fn extract_metrics(output: &str, format: &OutputFormat, stream: MetricStream) -> Vec<Metric> {
    let mut found = BTreeMap::new();
    match format {
        OutputFormat::ExitCode => {}
        OutputFormat::Json => json(output, &mut found),
        OutputFormat::Patterns(list) => patterns(output, list, &mut found),
    }
    found
        .into_iter()
        .filter(|(_, value)| value.is_finite())
        .map(|(name, value)| Metric {
            name,
            value,
            stream,
            ..Metric::default()
        })
        .collect()
}

/// Collects the numbers of every JSON object in the text, whatever surrounds the object.
fn json(text: &str, found: &mut BTreeMap<String, f64>) {
    let mut at = 0;
    let mut attempts = 0;
    while let Some(open) = text.get(at..).and_then(|rest| rest.find('{')) {
        let from = at + open;
        let mut values = serde_json::Deserializer::from_str(&text[from..]).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => {
                leaves(&value, &mut String::new(), 0, found);
                at = from + values.byte_offset();
            }
            // The text ends inside this object. The search does not continue inside it, because the numbers of nested objects
            // would get names without the path that leads to them.
            Some(Err(error)) if error.is_eof() => return,
            _ => {
                attempts += 1;
                if attempts > MAX_ATTEMPTS {
                    return;
                }
                // A brace before a key begins an object that is not valid JSON, for example because a number is NaN. The search
                // skips the whole object, because the numbers of nested objects would get names without the path that leads
                // to them.
                at = match text[from + 1..].trim_start().starts_with('"') {
                    true => from + length_of_object(&text[from..]),
                    false => from + 1,
                };
            }
        }
    }
}

/// Returns the length of the text from its first brace to the brace that closes it. Braces in strings do not count. A line that
/// starts with a brace begins another object, whatever is still open. Without either, returns the length of the text.
fn length_of_object(text: &str) -> usize {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            // A string in JSON contains no newline.
            b'\n' if text[at + 1..].starts_with('{') => return at + 1,
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' if !in_string => depth += 1,
            b'}' if !in_string => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    text.len()
}

/// Collects the numbers in a value under their paths.
fn leaves(value: &Value, path: &mut String, depth: usize, found: &mut BTreeMap<String, f64>) {
    if depth > MAX_DEPTH || found.len() >= MAX_NUMBERS {
        return;
    }
    let mut below = |key: &str, value: &Value| {
        let length = path.len();
        if length > 0 {
            path.push('.');
        }
        path.push_str(key);
        leaves(value, path, depth + 1, found);
        path.truncate(length);
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| below(key, value)),
        Value::Array(items) => {
            for (i, value) in items.iter().enumerate() {
                below(&i.to_string(), value);
            }
        }
        Value::Number(number) => {
            if let Some(number) = number.as_f64() {
                found.insert(path.clone(), number);
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

fn patterns(text: &str, list: &[MetricPattern], found: &mut BTreeMap<String, f64>) {
    for pattern in list {
        // A pattern that does not compile is refused before the program is run.
        let Ok(regex) = pattern.compile() else {
            continue;
        };
        for groups in regex.captures_iter(text).take(MAX_NUMBERS) {
            let number = groups.name("value").or_else(|| groups.get(1));
            let number = number.and_then(|m| m.as_str().replace(',', "").parse::<f64>().ok());
            let name = match groups.name("key") {
                Some(key) => format!("{}.{}", pattern.name, key.as_str()),
                None => pattern.name.to_owned(),
            };
            if let Some(number) = number {
                found.insert(name, number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(text: &str, format: OutputFormat) -> Vec<(String, f64)> {
        let metrics = extract_metrics(text, &format, MetricStream::Stdout);
        metrics.into_iter().map(|m| (m.name, m.value)).collect()
    }

    fn pairs(list: &[(&str, f64)]) -> Vec<(String, f64)> {
        list.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect()
    }

    #[test]
    fn numbers_of_objects_among_other_text() {
        let text = "starting {not json}\n{\"a\": 1, \"b\": {\"c\": -2.5, \"s\": \"3\", \"t\": true}} then\n\
                    [ {\"list\": [10, {\"x\": 11}]} ] {\"a\": 4";
        assert_eq!(
            found(text, OutputFormat::Json),
            pairs(&[
                ("a", 1.0),
                ("b.c", -2.5),
                ("list.0", 10.0),
                ("list.1.x", 11.0)
            ])
        );
        assert_eq!(
            found("{\"a\":1}{\"a\":2}", OutputFormat::Json),
            pairs(&[("a", 2.0)]),
            "the later one counts"
        );
        assert_eq!(
            found(
                "{\"iops\":100,\"lat\":{\"iops\":3}}\n{\"iops\":90,\"lat\":{\"iops\":2},",
                OutputFormat::Json
            ),
            pairs(&[("iops", 100.0), ("lat.iops", 3.0)]),
            "the text ends inside the second object"
        );
        assert_eq!(
            found(
                "{\"iops\": NaN, \"s\": \"}\\\"\", \"lat\": {\"iops\": 3}} {\"other\": 1}",
                OutputFormat::Json
            ),
            pairs(&[("other", 1.0)]),
            "the first object is not valid JSON"
        );
        for (cut, last) in [
            ("{\"iops\":90,\"lat\":{\"iops\":2},\n{\"iops\":100}", 100.0),
            ("{\"a\": \"x\n{\"iops\": 2}\n{\"iops\": 3}", 3.0),
            ("unexpected '{\"' in input\n{\"iops\": 5}", 5.0),
        ] {
            assert_eq!(
                found(cut, OutputFormat::Json),
                pairs(&[("iops", last)]),
                "{cut}"
            );
        }
        assert_eq!(found(text, OutputFormat::ExitCode), []);
    }

    #[test]
    fn numbers_that_are_too_deep_are_skipped() {
        let deep = |n: usize| format!("{}1{}", "{\"d\":".repeat(n), "}".repeat(n));
        assert_eq!(found(&deep(MAX_DEPTH), OutputFormat::Json).len(), 1);
        assert_eq!(found(&deep(MAX_DEPTH + 1), OutputFormat::Json).len(), 0);
    }

    #[test]
    fn patterns_read_lines_and_tables() {
        let format = OutputFormat::Patterns(&[
            MetricPattern {
                name: "time",
                regex: r"(?m)^Time: ([0-9.]+)$",
            },
            MetricPattern {
                name: "rate",
                regex: r"(?m)^row (?P<key>\w+) +(?P<value>[0-9,.]+|inf)",
            },
        ]);
        let text = "Time: 1.5\nTime: 0.25\nrow cpu 1,000.5\nrow vm   7\nrow no inf\n";
        assert_eq!(
            found(text, format),
            pairs(&[("rate.cpu", 1000.5), ("rate.vm", 7.0), ("time", 0.25)])
        );
    }

    #[test]
    fn a_pattern_that_cannot_find_a_number_is_refused() {
        let error = |regex| {
            let pattern = MetricPattern { name: "m", regex };
            pattern.compile().expect_err("must be refused").to_string()
        };
        assert!(
            error("(").starts_with("metric pattern \"m\": \"(\" is not a regular expression: ")
        );
        insta::assert_snapshot!(error("[0-9]+"), @r#"metric pattern "m": "[0-9]+" has no group: put parentheses around the number"#);
    }

    proptest! {
        #[test]
        fn any_text_gives_a_list(text in "[\\[\\]{}\":,0-9a\\\\. -]{0,200}") {
            for metric in extract_metrics(&text, &OutputFormat::Json, MetricStream::Stderr) {
                prop_assert!(metric.value.is_finite());
            }
        }
    }
}
