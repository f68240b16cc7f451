//! Damages valid JSON documents, because random bytes seldom form objects with as many keys as our files and messages have.

use serde_json::{Value, json};

use crate::Draw;

/// The largest number of values that a repetition or a copy may produce, so that a list is not doubled without end.
const MOST_VALUES: usize = 20_000;

/// Returns `document` with as many of its values replaced, removed, repeated or renamed as `draw` has bytes for.
pub fn damaged(document: &Value, draw: &mut Draw<'_>) -> Value {
    let mut document = document.clone();
    while !draw.is_empty() {
        let values = count(&document);
        let other = nth(&mut document, &mut draw.index(values)).map(|value| value.clone());
        let Some(value) = nth(&mut document, &mut draw.index(values)) else {
            break;
        };
        match draw.u8() % 12 {
            0 => *value = Value::Null,
            1 => *value = json!(draw.flag()),
            2 => *value = json!(draw.number()),
            3 => *value = json!(draw.number().cast_signed()),
            4 => *value = json!(f64::from_bits(draw.u64())),
            5 => *value = json!([0.0, -0.0, 1e308, -1e308, 5e-324, 1e19][draw.index(6)]),
            6 => *value = json!(draw.text()),
            7 => *value = json!([]),
            8 => remove(value, draw),
            9 => repeat(value, draw, values),
            10 => rename(value, draw),
            _ => {
                if let Some(other) = other.filter(|other| count(other) + values < MOST_VALUES) {
                    *value = other;
                }
            }
        }
    }
    document
}

fn remove(value: &mut Value, draw: &mut Draw<'_>) {
    match value {
        Value::Array(items) if !items.is_empty() => {
            items.remove(draw.index(items.len()));
        }
        Value::Object(entries) => {
            let key = entries.keys().nth(draw.index(entries.len())).cloned();
            key.map(|key| entries.remove(&key));
        }
        _ => *value = Value::Null,
    }
}

fn repeat(value: &mut Value, draw: &mut Draw<'_>, values: usize) {
    match value {
        Value::Array(items) => {
            let times = usize::from(draw.u8());
            let one = items.get(draw.index(items.len())).cloned();
            let one = one.unwrap_or(Value::Null);
            if values + times * count(&one) < MOST_VALUES {
                items.extend(std::iter::repeat_n(one, times));
            }
        }
        Value::String(text) if text.len() < 4096 => *text = text.repeat(1 + draw.index(16)),
        _ => {}
    }
}

fn rename(value: &mut Value, draw: &mut Draw<'_>) {
    if let Value::Object(entries) = value {
        let key = entries.keys().nth(draw.index(entries.len())).cloned();
        let held = key.and_then(|key| entries.remove(&key));
        entries.insert(draw.text(), held.unwrap_or(Value::Null));
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(entries) => entries.values().map(count).sum(),
        _ => 0,
    }
}

/// Returns the value number `left`, counted from the outermost one, which is number 0; `None` if there are fewer values.
fn nth<'a>(value: &'a mut Value, left: &mut usize) -> Option<&'a mut Value> {
    if *left == 0 {
        return Some(value);
    }
    *left -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| nth(item, left)),
        Value::Object(entries) => entries.values_mut().find_map(|item| nth(item, left)),
        _ => None,
    }
}
