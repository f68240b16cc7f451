//! The environment variables that the host side of ktstr reads: [`TABLE`] has a row for each, and apart from the exceptions
//! below no other code reads the environment.
//!
//! The type of a variable states the grammar of its value ([`Variable<Switch>`], [`Variable<Number<u32>>`] …). A variable
//! has only the accessors of its type, so all readers agree on the grammar. An empty value counts as unset, except for
//! [`Presence`] and for [`List`]. README.md's list of variables and the variables in a run record come from the table.
//!
//! # Variables that are also read elsewhere
//!
//! The code that needs these variables reads them itself, because it also runs in the guest, and the guest's crates do not
//! depend on code of the host:
//!
//! - `KTSTR_GUEST` and `KTSTR_GUEST_TEST` (`ktstr-guest/src/init`): they are set in the guest only, and tell PID 1's
//!   program and the test's binary that they run there.
//! - `KTSTR_LOG_PASSES` (`ktstr-assert/src/verdict/core.rs`) has a row, because the host passes it on to the guest and records
//!   it. The code that prints claims reads the variable itself, because most claims are made in the guest.
//!
//! Build scripts read the variables that cargo sets for them. Tests read variables that only they set.

mod table;
#[cfg(test)]
mod tests;

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

pub use table::*;

/// How README.md, a run record and a comparison of runs treat a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// README.md lists it, because users set it.
    InReadme,
    /// A run record notes its value, because it can change what a guest does.
    InRecord,
    /// It only changes what is printed, so two runs with different values of it can be compared.
    OnlyOutput,
    /// The value `0` means the same as an unset variable.
    ZeroIsNone,
}

/// A row of the table.
#[derive(Debug)]
pub struct Row {
    /// The name of the variable.
    pub name: &'static str,
    /// What the variable does, as one cell of README.md's table: Markdown without a line break.
    pub effect: &'static str,
    marks: &'static [Mark],
}

impl Row {
    /// Whether README.md lists the variable.
    pub fn is_in_readme(&self) -> bool {
        self.marks.contains(&Mark::InReadme)
    }

    /// Returns the value as text for people and for the record; `None` if the variable is unset or empty. Bytes that are not
    /// UTF-8 are replaced, so the text is not for use as a path.
    pub fn shown(&self) -> Option<String> {
        let value = self.value()?;
        Some(value.to_string_lossy().into_owned())
    }

    /// Returns the value for the comparison with another run; `None` if the variable is unset or empty, if its value is `0` and
    /// it has [`Mark::ZeroIsNone`], or if it has [`Mark::OnlyOutput`].
    pub fn compared(&self) -> Option<String> {
        let is = |mark| self.marks.contains(&mark);
        let value = self.shown().filter(|_| !is(Mark::OnlyOutput))?;
        (value != "0" || !is(Mark::ZeroIsNone)).then_some(value)
    }

    fn value(&self) -> Option<OsString> {
        env::var_os(self.name).filter(|value| !value.is_empty())
    }
}

/// Returns the rows of the variables that a run record notes, in the order of the table.
pub fn recorded() -> impl Iterator<Item = &'static Row> {
    let noted = |row: &&Row| row.marks.contains(&Mark::InRecord);
    TABLE.iter().copied().filter(noted)
}

/// A value that a variable does not accept. The user has to correct it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}={value}: {wanted}")]
pub struct Invalid {
    /// The name of the variable.
    pub name: &'static str,
    /// Its value; bytes that are not UTF-8 are replaced.
    pub value: String,
    /// Which values are accepted, or why this one is not.
    pub wanted: String,
}

/// A variable whose value has the grammar `K`. It can be used in place of the variable's name: as an argument of
/// [`std::process::Command::env`], and in messages.
#[derive(Debug)]
pub struct Variable<K: 'static> {
    row: Row,
    grammar: K,
}

impl<K> Variable<K> {
    /// Returns the name of the variable.
    pub const fn name(&self) -> &'static str {
        self.row.name
    }

    /// Returns the variable's row in [`TABLE`].
    pub const fn row(&self) -> &Row {
        &self.row
    }

    /// Returns the error for a value of this variable, where `wanted` says which values are accepted, or why this one is not.
    pub fn invalid(&self, value: impl Into<String>, wanted: impl Into<String>) -> Invalid {
        Invalid {
            name: self.row.name,
            value: value.into(),
            wanted: wanted.into(),
        }
    }
}

impl<K> AsRef<OsStr> for Variable<K> {
    fn as_ref(&self) -> &OsStr {
        self.row.name.as_ref()
    }
}

impl<K> fmt::Display for Variable<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row.name)
    }
}

/// The grammar of a path, which need not be UTF-8.
#[derive(Debug)]
pub struct Path;

impl Variable<Path> {
    /// Returns the path; `None` if the variable is unset or empty.
    pub fn get(&self) -> Option<PathBuf> {
        self.row.value().map(PathBuf::from)
    }
}

/// The grammar of a list of paths, such as `PATH`, in which an empty value stands for the current folder and is not unset.
#[derive(Debug)]
pub struct List;

impl Variable<List> {
    /// Returns the list as it is, for [`std::env::split_paths`]; `None` if the variable is unset.
    pub fn get(&self) -> Option<OsString> {
        env::var_os(self.row.name)
    }
}

/// The grammar of a text in UTF-8. The field says which texts are accepted, for the error.
#[derive(Debug)]
pub struct Text(pub(crate) &'static str);

impl Variable<Text> {
    /// Whether the variable has a value, valid or not.
    pub fn is_set(&self) -> bool {
        self.row.value().is_some()
    }

    /// Returns the text; `None` if the variable is unset or empty.
    ///
    /// # Errors
    /// Returns an error if the value is not UTF-8.
    pub fn get(&self) -> Result<Option<String>, Invalid> {
        let value = self.row.value().map(|value| self.accept(value));
        value.transpose()
    }

    /// Returns what `read` makes of the text; `None` if the variable is unset or empty.
    ///
    /// # Errors
    /// Returns an error if the value is not UTF-8, or if `read` returns `None`, that is, does not accept it.
    pub fn get_as<T>(&self, read: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, Invalid> {
        let Some(text) = self.get()? else {
            return Ok(None);
        };
        match read(&text) {
            Some(value) => Ok(Some(value)),
            None => Err(self.unaccepted(text)),
        }
    }

    /// Returns the error for a text that the reader does not accept.
    pub fn unaccepted(&self, text: impl Into<String>) -> Invalid {
        self.invalid(text, self.grammar.0)
    }

    fn accept(&self, value: OsString) -> Result<String, Invalid> {
        value
            .into_string()
            .map_err(|value| self.unaccepted(value.to_string_lossy()))
    }
}

/// The grammar of a whole number in one of the ranges. The text says which numbers are accepted, for the error.
#[derive(Debug)]
pub struct Number<T: 'static>(
    pub(crate) &'static [RangeInclusive<T>],
    pub(crate) &'static str,
);

impl<T: FromStr + PartialOrd> Variable<Number<T>> {
    /// Returns the number; `None` if the variable is unset or empty.
    ///
    /// # Errors
    /// Returns an error if the value is no number in one of the ranges.
    pub fn get(&self) -> Result<Option<T>, Invalid> {
        let value = self.row.value().map(|value| self.accept(value));
        value.transpose()
    }

    fn accept(&self, value: OsString) -> Result<T, Invalid> {
        let Number(ranges, wanted) = &self.grammar;
        let text = value.to_string_lossy();
        let number = text.parse().ok();
        number
            .filter(|number| ranges.iter().any(|range| range.contains(number)))
            .ok_or_else(|| self.invalid(text, *wanted))
    }
}

/// The grammar of a switch: `0` is off, and any other value is on.
#[derive(Debug)]
pub struct Switch;

impl Variable<Switch> {
    /// Whether the variable switches its feature on.
    pub fn is_on(&self) -> bool {
        self.get() == Some(true)
    }

    /// Whether the variable switches its feature off. An empty value does not switch it off.
    pub fn is_off(&self) -> bool {
        self.get() == Some(false)
    }

    fn get(&self) -> Option<bool> {
        self.row.value().map(|value| value != "0")
    }
}

/// The grammar of a flag that any value sets, even `0`. It is for variables that other programs set. Two older variables of
/// ktstr have it, too, but a new one has to be a [`Switch`].
#[derive(Debug)]
pub struct NotEmpty;

impl Variable<NotEmpty> {
    /// Whether the variable has a value.
    pub fn is_on(&self) -> bool {
        self.row.value().is_some()
    }
}

/// The grammar of a flag that only the value `1` sets.
#[derive(Debug)]
pub struct One;

impl Variable<One> {
    /// Whether the value is `1`.
    pub fn is_on(&self) -> bool {
        self.row.value().is_some_and(|value| value == "1")
    }
}

/// The grammar of a flag that is set if the variable exists, even with an empty value.
#[derive(Debug)]
pub struct Presence;

impl Variable<Presence> {
    /// Whether the variable exists.
    pub fn is_on(&self) -> bool {
        env::var_os(self.row.name).is_some()
    }
}
