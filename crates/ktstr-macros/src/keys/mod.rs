//! All keys of `#[ktstr_test]`: the value that each takes, its default, its meaning, and whether it is available. The rows
//! are in `table.rs`; the array of keys and the documentation of the attribute are generated from them here.

#[macro_use]
mod table;

/// The kind of value that a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `true`, `false`, or the bare key.
    Bool,
    /// An integer that may not be zero.
    Positive {
        /// The largest value that is accepted.
        max: u64,
    },
    /// An integer that may be zero.
    Integer {
        /// The largest value that is accepted.
        max: u64,
    },
    /// A floating-point literal that is finite and at least 0, such as `5.0`.
    Float,
    /// A floating-point or integer literal of at least 0, or `off`. An integer is at most `u32::MAX`.
    Limit,
    /// A string literal. A constant or a macro is not accepted, because the value is needed when the attribute is expanded.
    Text,
    /// A string literal or a path to a constant.
    TextOrPath,
    /// A list of string literals.
    Texts,
    /// A path to an item.
    Path,
    /// A list of paths to items.
    Paths,
    /// A path to an item, or a list of them.
    PathOrPaths,
    /// Any expression. Only reserved keys have this kind, so the expression is never looked at.
    Any,
}

/// What a key is about. The group decides under which heading of the documentation the key appears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// What runs, and on which machine.
    Setting,
    /// A check: a field of `Assert` of the same name.
    Check,
    /// A check that bounds what the monitor samples. A bound that is given is enforced, unless `monitor` is `"report"`.
    MonitorBound,
    /// How the outcome is judged.
    Outcome,
    /// How the test is run.
    Run,
    /// A key that is not implemented yet.
    Reserved,
}

/// One key of `#[ktstr_test]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) group: Group,
    /// The value if the key is not given, as the documentation prints it.
    pub(crate) default: &'static str,
    /// One line of documentation, including the unit.
    pub(crate) doc: &'static str,
    /// The field of `Assert` that the key sets; `None` for a key that is no check.
    pub(crate) field: Option<Field>,
}

/// The field of `Assert` that a key sets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    /// `flag` or `bound`. The check of a `flag` is on only if the field is `true`, and its builder is written by hand. The
    /// check of a `bound` is on as soon as the field is set.
    pub(crate) switch: &'static str,
    /// The part of the checks to which the field belongs, such as `workers`.
    pub(crate) part: &'static str,
    /// The type of the field, in Rust.
    pub(crate) type_: &'static str,
    /// The lines of the field's documentation.
    pub(crate) about: &'static [&'static str],
}

/// Whether a key has an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Every value has its effect.
    Available,
    /// The key is reserved: any use is an error.
    Later,
    /// Only this value is accepted, and it has no effect.
    Only(bool),
}

impl Key {
    pub(crate) fn status(&self) -> Status {
        match (self.group, self.kind) {
            (Group::Reserved, Kind::Bool) => Status::Only(false),
            (Group::Reserved, _) => Status::Later,
            _ => Status::Available,
        }
    }
}

/// Generates the array [`KEYS`] from the table.
macro_rules! array {
    ($(
        $name:ident: $kind:ident $(($max:ident))?, $group:ident = $default:tt, $doc:literal
        $(=> { $( #[doc = $about:literal] )* $switch:ident $part:ident: $type:ty })?;
    )*) => {
        /// All keys, in the order of the documentation.
        pub(crate) const KEYS: &[Key] = &[$( Key {
            name: stringify!($name),
            kind: Kind::$kind $({ max: $max::MAX as u64 })?,
            group: Group::$group,
            default: default!($default),
            doc: $doc,
            // The first element of the array is the field if the row has one, otherwise `None`.
            field: [$( Some(Field {
                switch: stringify!($switch),
                part: stringify!($part),
                type_: stringify!($type),
                about: &[$( $about ),*],
            }), )? None][0],
        } ),*];
    };
}

/// Expands to the text of a default value. `INHERITED` and `OFF` stand for the defaults that many keys have.
macro_rules! default {
    (INHERITED) => {
        "the scheduler's"
    };
    (OFF) => {
        "not checked"
    };
    ($text:literal) => {
        $text
    };
}

table!(array);

/// Expands to the documentation of all keys, as one text: the tables that are printed below `#[ktstr_test]`.
macro_rules! page {
    ($(
        $name:ident: $kind:ident $(($max:ident))?, $group:ident = $default:tt, $doc:literal $(=> $field:tt)?;
    )*) => {
        concat!(
            section!("What runs, and on which machine"),
            $( row!(Setting $group: $name $kind $($max)?, $default, $doc), )*
            "\n",
            section!("Checks"),
            $( row!(Check $group: $name $kind $($max)?, $default, $doc), )*
            "\n",
            section!("How the outcome is judged"),
            $( row!(Outcome $group: $name $kind $($max)?, $default, $doc), )*
            "\n",
            section!("How it runs"),
            $( row!(Run $group: $name $kind $($max)?, $default, $doc), )*
            "\n",
            "# Reserved\n\n",
            "These keys are not implemented yet. Using one is a compile error, except for `false` where the table says so.\n\n",
            "| Key | Intended meaning |\n| --- | --- |\n",
            $( row!(Reserved $group: $name $kind $($max)?, $default, $doc), )*
        )
    };
}

/// Expands to the heading of a section of the documentation, and the head of its table.
macro_rules! section {
    ($heading:literal) => {
        concat!(
            "# ",
            $heading,
            "\n\n| Key | Takes | Default | Meaning |\n| --- | --- | --- | --- |\n"
        )
    };
}

/// Expands to the line of a key in the table of a section, or to an empty text if the key belongs to another group.
macro_rules! row {
    (Setting Setting: $($key:tt)*) => { row!($($key)*) };
    (Check Check: $($key:tt)*) => { row!($($key)*) };
    (Check MonitorBound: $($key:tt)*) => { row!($($key)*) };
    (Outcome Outcome: $($key:tt)*) => { row!($($key)*) };
    (Run Run: $($key:tt)*) => { row!($($key)*) };
    (Reserved Reserved: $name:ident Bool, $default:tt, $doc:literal) => {
        concat!("| `", stringify!($name), "` | ", $doc, " (`false` is accepted) |\n")
    };
    (Reserved Reserved: $name:ident Any, $default:tt, $doc:literal) => {
        concat!("| `", stringify!($name), "` | ", $doc, " |\n")
    };
    ($section:ident $other:ident: $($key:tt)*) => { "" };
    ($name:ident $kind:ident $($max:ident)?, $default:tt, $doc:literal) => {
        concat!(
            "| `", stringify!($name), "` | ", takes!($kind $($max)?), " | ", default!($default), " | ", $doc, " |\n"
        )
    };
}

/// Expands to the text of the documentation about the values that a key of this kind takes.
#[rustfmt::skip]
macro_rules! takes {
    (Bool) => { "`bool`" };
    (Positive $max:ident) => { concat!("`", stringify!($max), "`, at least 1") };
    (Integer $max:ident) => { concat!("`", stringify!($max), "`") };
    (Float) => { "`f64` literal" };
    (Limit) => { "number or `off`" };
    (Text) => { "string literal" };
    (TextOrPath) => { "string literal or path" };
    (Texts) => { "list of string literals" };
    (Path) => { "path" };
    (Paths) => { "list of paths" };
    (PathOrPaths) => { "path or list of paths" };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for (i, key) in KEYS.iter().enumerate() {
            assert!(KEYS[..i].iter().all(|k| k.name != key.name), "{}", key.name);
        }
    }

    #[test]
    fn the_keys_of_checks_have_a_field() {
        for key in KEYS {
            let checks = matches!(key.group, Group::Check | Group::MonitorBound);
            assert_eq!(key.field.is_some(), checks, "{}", key.name);
        }
    }

    /// A key would be missing from the documentation if its group had no section, or if the section left the key out.
    #[test]
    fn the_documentation_has_each_key_once() {
        let page = table!(page);
        for key in KEYS {
            let lines = page
                .lines()
                .filter(|line| line.starts_with(&format!("| `{}` | ", key.name)));
            assert_eq!(lines.count(), 1, "{}", key.name);
        }
    }
}
