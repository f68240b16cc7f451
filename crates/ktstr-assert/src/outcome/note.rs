//! A measured value that is recorded with the verdict.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A value of [`crate::AssertResult::measurements`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum NoteValue {
    /// A signed integer of 64 bits.
    Int(i64),
    /// An unsigned integer of 64 bits.
    Uint(u64),
    /// A float. Non-finite values are preserved when it is serialized.
    Float(#[serde(with = "crate::float::one")] f64),
    /// A value that is true or false.
    Bool(bool),
    /// Text, for a value that is not a number.
    Text(String),
}

macro_rules! from {
    ($($t:ty => $v:ident),*) => { $(
        impl From<$t> for NoteValue {
            fn from(v: $t) -> Self {
                NoteValue::$v(v.into())
            }
        }
    )* };
}
from!(i64 => Int, u64 => Uint, f64 => Float, bool => Bool, String => Text, &str => Text);

impl fmt::Display for NoteValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoteValue::Int(v) => v.fmt(f),
            NoteValue::Uint(v) => v.fmt(f),
            NoteValue::Float(v) => v.fmt(f),
            NoteValue::Bool(v) => v.fmt(f),
            NoteValue::Text(v) => v.fmt(f),
        }
    }
}
