//! The JSON of the commands, whole or bounded: with `--limit N` every list has at most N entries and every text at most 1,000
//! characters, and `left_out` counts the rest.
//!
//! Without `--limit` the output has the schema that the command's page describes. `--limit` adds to it: an object gets one more
//! field, `left_out`, and a command that prints a list prints an object with that list in the field `items`.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Map, Value};

/// The name of the field that has the counts of what was left out.
pub const LEFT_OUT: &str = "left_out";
/// The name of the field that has the entries of a command that prints a list.
const ITEMS: &str = "items";
/// The largest number of characters of a text.
const TEXT: usize = 1000;

/// The option that bounds the JSON of a command.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Limit {
    /// With --json: print at most N entries of each list and 1,000 characters of each string. The field `left_out` lists what was
    /// shortened, with the number of entries or characters that are missing (docs/see.md).
    #[arg(long, value_name = "N", requires = "json")]
    limit: Option<usize>,
}

#[cfg(test)]
impl Limit {
    /// Returns the limit of `--limit most`.
    pub const fn at(most: usize) -> Self {
        Self { limit: Some(most) }
    }
}

/// Prints a value as JSON.
pub fn print(out: &mut dyn Write, value: &impl Serialize, limit: Limit) -> Result<()> {
    out.write_all(text(value, limit)?.as_bytes())?;
    Ok(())
}

/// Returns a value as indented JSON, with a newline at its end.
pub fn text(value: &impl Serialize, limit: Limit) -> Result<String> {
    let text = match limit.limit {
        None => serde_json::to_string_pretty(value),
        Some(most) => {
            let value = serde_json::to_value(value).context("the result as JSON")?;
            serde_json::to_string_pretty(&bounded(value, most))
        }
    };
    Ok(text.context("the result as JSON")? + "\n")
}

/// Cuts the lists and texts in `value`, and adds the counts of what was cut. A list becomes the field `items` of an object.
fn bounded(value: Value, most: usize) -> Value {
    let mut fields = match value {
        Value::Object(fields) => fields,
        other => Map::from_iter([(ITEMS.to_owned(), other)]),
    };
    let mut left_out = BTreeMap::new();
    for (name, field) in &mut fields {
        cut(field, name, most, &mut left_out);
    }
    let counts = left_out
        .into_iter()
        .map(|(path, count)| (path, count.into()));
    let replaced = fields.insert(LEFT_OUT.to_owned(), Value::Object(counts.collect()));
    debug_assert!(
        replaced.is_none(),
        "a result has a field `{LEFT_OUT}` of its own"
    );
    Value::Object(fields)
}

/// Cuts the lists and texts in a value. `left_out` gets the numbers of entries and characters that were cut, by the `path`
/// of the field. If several entries of a list have the field, their numbers are added up.
fn cut(value: &mut Value, path: &str, most: usize, left_out: &mut BTreeMap<String, u64>) {
    let mut count = |rest: usize| {
        if rest > 0 {
            *left_out.entry(path.to_owned()).or_default() += rest as u64;
        }
    };
    match value {
        Value::String(text) => {
            let rest = text.chars().count().saturating_sub(TEXT);
            if rest > 0 {
                *text = text.chars().take(TEXT).collect();
            }
            count(rest);
        }
        Value::Array(items) => {
            count(items.len().saturating_sub(most));
            items.truncate(most);
            items
                .iter_mut()
                .for_each(|item| cut(item, path, most, left_out));
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                cut(field, &format!("{path}.{name}"), most, left_out);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn limited(value: &Value, limit: Option<usize>) -> Value {
        let text = text(value, Limit { limit }).expect("JSON");
        assert!(text.ends_with('\n'));
        serde_json::from_str(&text).expect("JSON")
    }

    #[test]
    fn a_list_is_cut_and_its_rest_counted() {
        let list = json!([1, 2, 3, 4]);
        assert_eq!(limited(&list, None), list);
        let cut = json!({ "items": [1], "left_out": { "items": 3 } });
        assert_eq!(limited(&list, Some(1)), cut);
        let whole = json!({ "items": [1, 2, 3, 4], "left_out": {} });
        assert_eq!(limited(&list, Some(4)), whole);
        let none = json!({ "items": [], "left_out": { "items": 4 } });
        assert_eq!(limited(&list, Some(0)), none);
    }

    #[test]
    fn lists_within_lists_are_counted_together() {
        let row = |seeds: &[u64]| json!({ "seeds": seeds, "of": 9 });
        let report = json!({ "schema": 1, "rows": [row(&[1, 2, 3]), row(&[4, 5, 6, 7]), row(&[])], "host": { "cpus": [1, 2, 3] } });
        assert_eq!(limited(&report, None), report);
        let cut = json!({
            "schema": 1,
            "rows": [row(&[1, 2]), row(&[4, 5])],
            "host": { "cpus": [1, 2] },
            "left_out": { "rows": 1, "rows.seeds": 3, "host.cpus": 1 },
        });
        assert_eq!(limited(&report, Some(2)), cut);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let value = json!({ "log": "é".repeat(1500), "lines": ["x".repeat(1001), "y"] });
        let cut = limited(&value, Some(2));
        assert_eq!(
            cut["log"].as_str().map(|text| text.chars().count()),
            Some(1000)
        );
        assert_eq!(cut["left_out"], json!({ "log": 500, "lines": 1 }));
    }

    #[test]
    fn the_output_is_bounded_however_large_the_result_is() {
        let run = json!({ "messages": vec!["m".repeat(5000); 300], "digest": "d" });
        let text = |runs: usize| {
            let limit = Limit { limit: Some(5) };
            text(&vec![run.clone(); runs], limit).expect("JSON")
        };
        // Only the counts become longer.
        assert!(text(400).len() <= text(10).len() + 20);
        assert!(text(400).len() < 5 * 5 * 1100 + 2000);
    }
}
