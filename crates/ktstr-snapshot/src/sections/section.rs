//! One section of a capture: a value, or the reason why there is none.

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A section of a capture.
///
/// In JSON a section is two members of the report: its value, and under a second name the reason why the value is missing or
/// incomplete. A list is always written, `[]` if it is missing; any other value and the reason are only written if they exist.
/// An empty list without a reason is [`Section::Whole`], because the guest may have none of what the section lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Section<T> {
    /// The section was read as a whole.
    Whole(T),
    /// A part of the section was read; the text is the reason why the rest is missing.
    Part(T, String),
    /// Nothing was read; the text is the reason.
    Missing(String),
    /// The report has neither a value nor a reason, for example because it was written before the section existed. A section that
    /// is a list is never `Absent`: it is an empty [`Section::Whole`] in this case.
    Absent,
}

/// The value of a section. The table of sections implements this trait for the type of each row.
pub trait SectionValue: Serialize + DeserializeOwned {
    /// The names of the value and of the reason in JSON.
    const KEYS: &'static [&'static str; 2];

    /// Returns what is written in place of a missing value: the empty list; `None` if nothing is written.
    fn placeholder() -> Option<Self> {
        None
    }

    /// Returns whether this is an empty list.
    fn is_blank(&self) -> bool {
        false
    }
}

impl<T> Section<T> {
    /// Returns what was read of the section; `None` if nothing was read.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Whole(value) | Self::Part(value, _) => Some(value),
            Self::Missing(_) | Self::Absent => None,
        }
    }

    /// Returns what was read of the section, to change it; `None` if nothing was read.
    pub fn value_mut(&mut self) -> Option<&mut T> {
        match self {
            Self::Whole(value) | Self::Part(value, _) => Some(value),
            Self::Missing(_) | Self::Absent => None,
        }
    }

    /// Returns why the section is missing or incomplete; `None` if it is whole, or if no reason is known.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Part(_, reason) | Self::Missing(reason) => Some(reason),
            Self::Whole(_) | Self::Absent => None,
        }
    }
}

impl<T: SectionValue> Section<T> {
    fn new(value: Option<T>, reason: Option<String>) -> Self {
        match (value.filter(|value| !value.is_blank()), reason) {
            (Some(value), None) => Self::Whole(value),
            (Some(value), Some(reason)) => Self::Part(value, reason),
            (None, Some(reason)) => Self::Missing(reason),
            (None, None) => T::placeholder().map_or(Self::Absent, Self::Whole),
        }
    }
}

/// Returns the section of a report that has neither a value nor a reason: an empty list in [`Section::Whole`] if the section
/// is a list, and otherwise [`Section::Absent`].
impl<T: SectionValue> Default for Section<T> {
    fn default() -> Self {
        Self::new(None, None)
    }
}

/// A list that is missing reads as an empty one.
impl<T> Deref for Section<Vec<T>> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.value().map_or(&[], Vec::as_slice)
    }
}

impl<'a, T> IntoIterator for &'a Section<Vec<T>> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T> From<Vec<T>> for Section<Vec<T>> {
    fn from(list: Vec<T>) -> Self {
        Self::Whole(list)
    }
}

/// The answer of a reader that reads everything or nothing.
impl<T: SectionValue, E: Display> From<Result<T, E>> for Section<T> {
    fn from(read: Result<T, E>) -> Self {
        match read {
            Ok(value) => Self::Whole(value),
            Err(error) => Self::Missing(error.to_string()),
        }
    }
}

/// The answer of a reader that also returns a part, with the reason why the rest is missing.
impl<T: SectionValue, E: Display> From<Result<(T, Option<String>), E>> for Section<T> {
    fn from(read: Result<(T, Option<String>), E>) -> Self {
        match read {
            Ok((value, reason)) => Self::new(Some(value), reason),
            Err(error) => Self::Missing(error.to_string()),
        }
    }
}

/// The answer of a reader that is only called if the section was asked for.
impl<T, R: Into<Section<T>>> From<Option<R>> for Section<T> {
    fn from(read: Option<R>) -> Self {
        read.map_or_else(|| Self::Missing("not asked for".to_owned()), Into::into)
    }
}

/// Writes the two members. The report flattens its sections, so they become members of the report.
impl<T: SectionValue> Serialize for Section<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let [name, unavailable] = T::KEYS;
        let mut members = serializer.serialize_map(None)?;
        if let Some(value) = self.value() {
            members.serialize_entry(name, value)?;
        } else if let Some(empty) = T::placeholder() {
            members.serialize_entry(name, &empty)?;
        }
        if let Some(reason) = self.reason() {
            members.serialize_entry(unavailable, reason)?;
        }
        members.end()
    }
}

impl<'de, T: SectionValue> Deserialize<'de> for Section<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_struct("Section", T::KEYS, Members(PhantomData))
    }
}

/// Reads the two members in any order; each of them may be missing.
struct Members<T>(PhantomData<T>);

impl<'de, T: SectionValue> Visitor<'de> for Members<T> {
    type Value = Section<T>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [name, unavailable] = T::KEYS;
        write!(to, "the members `{name}` and `{unavailable}`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let [name, unavailable] = T::KEYS;
        let (mut value, mut reason) = (None, None);
        while let Some(key) = members.next_key::<String>()? {
            if key == *name {
                value = members.next_value()?;
            } else if key == *unavailable {
                reason = members.next_value()?;
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Section::new(value, reason))
    }
}
