//! One value of a capture: paths into it and conversions out of it.

use super::{SnapshotError, SnapshotResult, below};
use crate::report::{RenderedMember, RenderedValue};

/// The largest number of pointers and truncated values that are looked through on one path.
const MAX_POINTER_HOPS: usize = 16;

/// One value of a capture, or the reason why it is missing.
///
/// Look-ups can be chained without checks in between: a missing value stays missing and keeps the first error, which the
/// final `as_*` returns.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum SnapshotField<'a> {
    /// A rendered value and the path that led to it.
    Value {
        /// The path from the variable or map entry, for messages.
        path: String,
        /// The value as it was rendered.
        value: &'a RenderedValue,
    },
    /// The key of an element of an array or a per-CPU array: a plain index.
    PercpuKey {
        /// The index of the element, counted from 0.
        key: u32,
    },
    /// There is no value, with the reason.
    Missing(SnapshotError),
}

impl<'a> SnapshotField<'a> {
    /// Creates a field with the value `value`; `path` is used in messages only.
    pub fn new(path: impl Into<String>, value: &'a RenderedValue) -> Self {
        Self::Value {
            path: path.into(),
            value,
        }
    }

    /// Returns whether there is a value.
    pub fn is_present(&self) -> bool {
        !matches!(self, Self::Missing(_))
    }

    /// Returns why there is no value; `None` if there is one.
    pub fn error(&self) -> Option<&SnapshotError> {
        match self {
            Self::Missing(error) => Some(error),
            _ => None,
        }
    }

    /// Returns the rendered value; `None` if it is missing, and for a key that is a plain index.
    pub fn raw(&self) -> Option<&'a RenderedValue> {
        match self {
            Self::Value { value, .. } => Some(value),
            _ => None,
        }
    }

    /// Returns the member at a dotted path, in which a number indexes an array. A pointer is followed if the capture holds
    /// its target, at most 16 times per path. If the capture does not hold the target, the error has the reason.
    pub fn get(&self, path: &str) -> SnapshotField<'a> {
        let (base, value) = match self {
            Self::Value { path, value } => (path, *value),
            Self::PercpuKey { key } => {
                return Self::Missing(SnapshotError::NotAStruct {
                    requested: path.to_owned(),
                    component: path.split('.').next().unwrap_or_default().to_owned(),
                    actual: format!("the per-CPU key {key}"),
                });
            }
            Self::Missing(error) => return Self::Missing(error.clone()),
        };
        let requested = below(base, path);
        match descend(value, path, &requested) {
            Ok(value) => Self::Value {
                path: requested,
                value,
            },
            Err(error) => Self::Missing(error),
        }
    }

    /// Returns the target of a pointer. Use it for a target that is no struct, since [`Self::get`] follows the pointer only to
    /// look up a member, and [`Self::as_u64`] returns the address.
    ///
    /// The field is missing, with the reason, for a pointer whose target the capture does not hold, and for a
    /// value that is no pointer.
    pub fn target(&self) -> SnapshotField<'a> {
        match self.value("the target of a pointer") {
            Ok((path, value)) => match value {
                RenderedValue::Ptr {
                    deref: Some(target),
                    ..
                } => SnapshotField::new(format!("*{path}"), target),
                other => Self::Missing(mismatch(path, "the target of a pointer", other)),
            },
            Err(error) => Self::Missing(error),
        }
    }

    /// Returns the members of a struct with their names; empty for everything else. A pointer to a struct and a truncated struct
    /// count as the struct.
    pub fn iter_members(&self) -> impl Iterator<Item = (&'a str, SnapshotField<'a>)> + use<'a> {
        let (base, members) = match self {
            Self::Value { path, value } => (path.clone(), members_of(value).unwrap_or_default()),
            _ => (String::new(), &[][..]),
        };
        members.iter().map(move |member| {
            (
                member.name.as_str(),
                SnapshotField::new(below(&base, &member.name), &member.value),
            )
        })
    }

    /// Returns the value of an integer, enum, character, boolean, pointer or per-CPU key. A negative value and any other
    /// type are errors.
    pub fn as_u64(&self) -> SnapshotResult<u64> {
        if let Self::PercpuKey { key } = self {
            return Ok(u64::from(*key));
        }
        self.convert("u64", to_u64)
    }

    /// Returns the value of an integer, enum, character, boolean, pointer or per-CPU key. A value above `i64::MAX` and any other
    /// type are errors.
    pub fn as_i64(&self) -> SnapshotResult<i64> {
        if let Self::PercpuKey { key } = self {
            return Ok(i64::from(*key));
        }
        self.convert("i64", to_i64)
    }

    /// Returns the value of a float, an integer or a per-CPU key; a large integer is rounded. Any other type is an error.
    pub fn as_f64(&self) -> SnapshotResult<f64> {
        if let Self::PercpuKey { key } = self {
            return Ok(f64::from(*key));
        }
        self.convert("f64", to_f64)
    }

    /// Returns the value of a boolean, or of an integer, enum, character or pointer that is 0 or 1. Anything else is an error.
    pub fn as_bool(&self) -> SnapshotResult<bool> {
        self.convert("bool", to_bool)
    }

    /// Returns the name of an enumerator, the text of a printable `char` array, or a CPU list, also behind a pointer that was
    /// followed. Anything else is an error.
    pub fn as_str(&self) -> SnapshotResult<&'a str> {
        self.convert("str", |value| match pointed_to(value) {
            RenderedValue::Enum {
                variant: Some(name),
                ..
            } => Some(name.as_str()),
            RenderedValue::Bytes {
                text: Some(text), ..
            } => Some(text.as_str()),
            RenderedValue::CpuList { cpus } => Some(cpus.as_str()),
            _ => None,
        })
    }

    /// Returns an array or a byte string, each element as by [`Self::as_u64`]. Like the other methods for arrays, it looks
    /// through a pointer that was followed.
    pub fn as_u64_array(&self) -> SnapshotResult<Vec<u64>> {
        self.array("array of u64", to_u64)
    }

    /// Returns an array or a byte string, each element as by [`Self::as_u64`]. An element above `u32::MAX` is an error.
    pub fn as_u32_array(&self) -> SnapshotResult<Vec<u32>> {
        self.array("array of u32", |v| u32::try_from(to_u64(v)?).ok())
    }

    /// Returns an array or a byte string, each element as by [`Self::as_i64`].
    pub fn as_i64_array(&self) -> SnapshotResult<Vec<i64>> {
        self.array("array of i64", to_i64)
    }

    /// Returns an array, each element as by [`Self::as_f64`].
    pub fn as_f64_array(&self) -> SnapshotResult<Vec<f64>> {
        self.array("array of f64", to_f64)
    }

    /// Returns an array or a byte string, each element as by [`Self::as_bool`].
    pub fn as_bool_array(&self) -> SnapshotResult<Vec<bool>> {
        self.array("array of bool", to_bool)
    }

    fn value(&self, expected: &str) -> SnapshotResult<(&str, &'a RenderedValue)> {
        match self {
            Self::Value { path, value } => Ok((path, value)),
            Self::PercpuKey { key } => Err(SnapshotError::TypeMismatch {
                requested: "key".to_owned(),
                expected: expected.to_owned(),
                actual: format!("the per-CPU key {key}"),
            }),
            Self::Missing(error) => Err(error.clone()),
        }
    }

    fn convert<T>(
        &self,
        expected: &str,
        convert: impl FnOnce(&'a RenderedValue) -> Option<T>,
    ) -> SnapshotResult<T> {
        let (path, value) = self.value(expected)?;
        convert(value).ok_or_else(|| mismatch(path, expected, value))
    }

    fn array<T>(
        &self,
        expected: &str,
        convert: impl Fn(&RenderedValue) -> Option<T>,
    ) -> SnapshotResult<Vec<T>> {
        let (path, value) = self.value(expected)?;
        let converted = match pointed_to(value) {
            RenderedValue::Array { elements, .. } => elements.iter().map(&convert).collect(),
            RenderedValue::Bytes { hex, .. } => bytes_of(hex).and_then(|bytes| {
                let bytes = bytes.into_iter();
                bytes
                    .map(|value| convert(&RenderedValue::Char { value }))
                    .collect()
            }),
            _ => None,
        };
        converted.ok_or_else(|| mismatch(path, expected, value))
    }
}

fn mismatch(path: &str, expected: &str, value: &RenderedValue) -> SnapshotError {
    let scalar = match value {
        RenderedValue::Int { value, .. } | RenderedValue::Enum { value, .. } => {
            format!(" of value {value}")
        }
        RenderedValue::Uint { value, .. } => format!(" of value {value}"),
        _ => String::new(),
    };
    SnapshotError::TypeMismatch {
        requested: path.to_owned(),
        expected: expected.to_owned(),
        actual: format!("{}{scalar}", value.describe()),
    }
}

fn to_u64(value: &RenderedValue) -> Option<u64> {
    match value {
        RenderedValue::Uint { value, .. } | RenderedValue::Ptr { value, .. } => Some(*value),
        RenderedValue::Int { value, .. } => u64::try_from(*value).ok(),
        RenderedValue::Enum { value, signed, .. } if *signed => u64::try_from(*value).ok(),
        RenderedValue::Enum { value, .. } => Some(value.cast_unsigned()),
        RenderedValue::Bool { value } => Some(u64::from(*value)),
        RenderedValue::Char { value } => Some(u64::from(*value)),
        _ => None,
    }
}

fn to_i64(value: &RenderedValue) -> Option<i64> {
    match value {
        RenderedValue::Int { value, .. } => Some(*value),
        RenderedValue::Enum { value, signed, .. } if *signed => Some(*value),
        other => i64::try_from(to_u64(other)?).ok(),
    }
}

fn to_f64(value: &RenderedValue) -> Option<f64> {
    match value {
        RenderedValue::Float { value, .. } => Some(*value),
        RenderedValue::Int { value, .. } => Some(*value as f64),
        RenderedValue::Uint { value, .. } => Some(*value as f64),
        _ => None,
    }
}

fn to_bool(value: &RenderedValue) -> Option<bool> {
    match value {
        RenderedValue::Bool { value } => Some(*value),
        other => match to_u64(other)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        },
    }
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes();
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    digits
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

/// Returns the target of a pointer that was followed; any other value itself.
fn pointed_to(value: &RenderedValue) -> &RenderedValue {
    match value {
        RenderedValue::Ptr {
            deref: Some(target),
            ..
        } => target,
        other => other,
    }
}

/// Returns the value behind pointers that were followed and behind truncated values.
fn resolve<'a>(mut value: &'a RenderedValue, hops: &mut usize) -> &'a RenderedValue {
    loop {
        value = match value {
            RenderedValue::Ptr {
                deref: Some(target),
                ..
            } if *hops < MAX_POINTER_HOPS => target,
            RenderedValue::Truncated {
                partial: Some(part),
                ..
            } if *hops < MAX_POINTER_HOPS => part,
            other => return other,
        };
        *hops += 1;
    }
}

/// Returns the members of a struct, also behind pointers and truncated values; `None` for everything else.
pub(super) fn members_of(value: &RenderedValue) -> Option<&[RenderedMember]> {
    match resolve(value, &mut 0) {
        RenderedValue::Struct { members, .. } => Some(members),
        _ => None,
    }
}

fn descend<'a>(
    mut value: &'a RenderedValue,
    path: &str,
    requested: &str,
) -> SnapshotResult<&'a RenderedValue> {
    let mut hops = 0;
    for component in path.split('.') {
        if component.is_empty() {
            return Err(SnapshotError::EmptyPathComponent {
                requested: requested.to_owned(),
            });
        }
        value = match resolve(value, &mut hops) {
            container @ RenderedValue::Struct { members, .. } => members
                .iter()
                .find(|member| member.name == component)
                .map(|member| &member.value)
                .ok_or_else(|| SnapshotError::FieldNotFound {
                    requested: requested.to_owned(),
                    component: component.to_owned(),
                    container: container.describe(),
                    available: members.iter().map(|m| m.name.clone()).collect(),
                })?,
            RenderedValue::Array { len, elements } if component.parse::<u64>().is_ok() => {
                let index = component.parse::<u64>().unwrap_or(u64::MAX);
                let captured = elements.len() as u64;
                let all = (*len).max(captured);
                if (captured..all).contains(&index) {
                    return Err(SnapshotError::NoRendered {
                        requested: requested.to_owned(),
                        reason: format!("the capture has the first {captured} of {all} elements"),
                    });
                }
                usize::try_from(index)
                    .ok()
                    .and_then(|index| elements.get(index))
                    .ok_or_else(|| SnapshotError::IndexOutOfRange {
                        requested: requested.to_owned(),
                        index,
                        len: all,
                    })?
            }
            other => {
                return Err(SnapshotError::NotAStruct {
                    requested: requested.to_owned(),
                    component: component.to_owned(),
                    actual: other.describe(),
                });
            }
        };
    }
    Ok(value)
}
