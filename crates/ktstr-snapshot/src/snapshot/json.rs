//! Queries of JSON documents, such as a scheduler's own statistics, in the form of [`SnapshotField`](super::SnapshotField).

use serde_json::Value;

use super::{SnapshotError, SnapshotResult, below};

/// A value in a JSON document, or the reason why it is missing. It mirrors [`SnapshotField`](super::SnapshotField).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum JsonField<'a> {
    /// A value and the path that led to it.
    Value {
        /// The path from the root, for messages.
        path: String,
        /// The value as it is in the document.
        value: &'a Value,
    },
    /// There is no value, for this reason.
    Missing(SnapshotError),
}

/// Returns the value of `root` at a dotted path; `root` itself for an empty path.
pub fn stats_path<'a>(root: &'a Value, path: &str) -> JsonField<'a> {
    let root = JsonField::Value {
        path: String::new(),
        value: root,
    };
    if path.is_empty() {
        root
    } else {
        root.get(path)
    }
}

impl<'a> JsonField<'a> {
    /// Returns whether there is a value.
    pub fn is_present(&self) -> bool {
        matches!(self, Self::Value { .. })
    }

    /// Returns why there is no value; `None` if there is one.
    pub fn error(&self) -> Option<&SnapshotError> {
        match self {
            Self::Missing(error) => Some(error),
            Self::Value { .. } => None,
        }
    }

    /// Returns the JSON value; `None` if it is missing.
    pub fn raw(&self) -> Option<&'a Value> {
        match self {
            Self::Value { value, .. } => Some(value),
            Self::Missing(_) => None,
        }
    }

    /// Returns the member at a dotted path, in which a number indexes an array.
    pub fn get(&self, path: &str) -> JsonField<'a> {
        let (base, root) = match self {
            Self::Value { path, value } => (path, *value),
            Self::Missing(error) => return Self::Missing(error.clone()),
        };
        let requested = below(base, path);
        let mut value = root;
        for component in path.split('.') {
            value = match step(value, component, &requested) {
                Ok(next) => next,
                Err(error) => return Self::Missing(error),
            };
        }
        Self::Value {
            path: requested,
            value,
        }
    }

    /// Returns the members of an object with their names; empty for everything else.
    pub fn iter_members(&self) -> impl Iterator<Item = (&'a str, JsonField<'a>)> + use<'a> {
        let (base, members) = match self {
            Self::Value { path, value } => (path.clone(), value.as_object()),
            Self::Missing(_) => (String::new(), None),
        };
        members.into_iter().flatten().map(move |(name, value)| {
            let path = below(&base, name);
            (name.as_str(), JsonField::Value { path, value })
        })
    }

    /// Returns the value as a non-negative integer; anything else is a type error.
    pub fn as_u64(&self) -> SnapshotResult<u64> {
        self.convert("u64", Value::as_u64)
    }

    /// Returns the value as an integer; anything else, or a number above `i64::MAX`, is a type error.
    pub fn as_i64(&self) -> SnapshotResult<i64> {
        self.convert("i64", Value::as_i64)
    }

    /// Returns the value as a number, integer or not; anything else is a type error.
    pub fn as_f64(&self) -> SnapshotResult<f64> {
        self.convert("f64", Value::as_f64)
    }

    /// Returns the value as a boolean; anything else is a type error.
    pub fn as_bool(&self) -> SnapshotResult<bool> {
        self.convert("bool", Value::as_bool)
    }

    /// Returns the value as a string; anything else is a type error.
    pub fn as_str(&self) -> SnapshotResult<&'a str> {
        self.convert("str", Value::as_str)
    }

    /// Returns an array of non-negative integers; anything else is a type error.
    pub fn as_u64_array(&self) -> SnapshotResult<Vec<u64>> {
        self.convert("array of u64", |v| {
            v.as_array()?.iter().map(Value::as_u64).collect()
        })
    }

    /// Returns an array of numbers; anything else is a type error.
    pub fn as_f64_array(&self) -> SnapshotResult<Vec<f64>> {
        self.convert("array of f64", |v| {
            v.as_array()?.iter().map(Value::as_f64).collect()
        })
    }

    fn convert<T>(
        &self,
        expected: &str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> SnapshotResult<T> {
        match self {
            Self::Value { path, value } => {
                convert(value).ok_or_else(|| SnapshotError::TypeMismatch {
                    requested: path.clone(),
                    expected: expected.to_owned(),
                    actual: describe(value),
                })
            }
            Self::Missing(error) => Err(error.clone()),
        }
    }
}

fn step<'a>(value: &'a Value, component: &str, requested: &str) -> SnapshotResult<&'a Value> {
    if component.is_empty() {
        return Err(SnapshotError::EmptyPathComponent {
            requested: requested.to_owned(),
        });
    }
    match (value, component.parse::<usize>()) {
        (Value::Object(members), _) => {
            members
                .get(component)
                .ok_or_else(|| SnapshotError::FieldNotFound {
                    requested: requested.to_owned(),
                    component: component.to_owned(),
                    container: "object".to_owned(),
                    available: members.keys().cloned().collect(),
                })
        }
        (Value::Array(elements), Ok(index)) => {
            elements
                .get(index)
                .ok_or_else(|| SnapshotError::IndexOutOfRange {
                    requested: requested.to_owned(),
                    index: index as u64,
                    len: elements.len() as u64,
                })
        }
        (other, _) => Err(SnapshotError::NotAStruct {
            requested: requested.to_owned(),
            component: component.to_owned(),
            actual: describe(other),
        }),
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "a boolean".to_owned(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(_) => "a string".to_owned(),
        Value::Array(elements) => format!("an array of length {}", elements.len()),
        Value::Object(_) => "an object".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_and_conversions() {
        let doc = json!({"a": {"b": [1, 2.5, "x"]}, "neg": -1});
        assert_eq!(stats_path(&doc, "a.b.0").as_u64(), Ok(1));
        assert_eq!(stats_path(&doc, "a").get("b").get("1").as_f64(), Ok(2.5));
        assert_eq!(stats_path(&doc, "a.b.2").as_str(), Ok("x"));
        let error = stats_path(&doc, "neg").as_u64().expect_err("negative");
        assert_eq!(
            error.to_string(),
            "`neg` cannot be read as u64: it is the number -1"
        );
        let error = stats_path(&doc, "a.c").as_u64().expect_err("no member");
        assert_eq!(
            error.to_string(),
            "`a.c`: no member `c` in object; members: b"
        );
        let empty = stats_path(&doc, "a..b");
        assert!(matches!(
            empty.error(),
            Some(SnapshotError::EmptyPathComponent { .. })
        ));
        assert!(stats_path(&doc, "").is_present());
        let paths = |of: JsonField<'_>| -> Vec<String> {
            let errors = of.iter_members().map(|(_, member)| member.as_bool());
            errors
                .map(|e| e.expect_err("none is a bool").to_string())
                .collect()
        };
        assert_eq!(
            paths(stats_path(&doc, "")),
            [
                "`a` cannot be read as bool: it is an object",
                "`neg` cannot be read as bool: it is the number -1"
            ]
        );
        assert_eq!(
            paths(stats_path(&doc, "a")),
            ["`a.b` cannot be read as bool: it is an array of length 3"]
        );
    }
}
