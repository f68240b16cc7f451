//! Reads and writes the keys of a table, the variants of an enum, and operations.

use super::node::{Node, TextError, Unsayable, Value};
use super::suggest::instead;
use super::{Names, Text};

/// The keys of a table that is being read.
pub(crate) struct Fields<'a> {
    node: &'a Node,
    entries: &'a [(String, Node)],
    pub(crate) names: &'a Names,
}

impl<'a> Fields<'a> {
    /// Returns the table at `node`. A key that is not one of `known` is an error.
    pub(crate) fn of(node: &'a Node, known: &[&str], names: &'a Names) -> Result<Self, TextError> {
        let fields = Self::open(node, names)?;
        for (key, value) in fields.entries {
            if !known.contains(&key.as_str()) {
                return Err(value.error(format!("unknown key `{key}`: {}", instead(key, known))));
            }
        }
        Ok(fields)
    }

    /// Returns the table at `node`, with any keys.
    pub(crate) fn open(node: &'a Node, names: &'a Names) -> Result<Self, TextError> {
        match &node.value {
            Value::Table(entries) => Ok(Self {
                node,
                entries,
                names,
            }),
            _ => Err(node.expected("a table of keys, such as { key = value }")),
        }
    }

    /// Returns all keys with their nodes, in the order of the text.
    pub(crate) fn entries(&self) -> &'a [(String, Node)] {
        self.entries
    }

    /// Returns the node of a key; `None` if the key is missing.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Node> {
        let found = self.entries.iter().find(|(name, _)| name == key);
        found.map(|(_, node)| node)
    }

    /// Returns the value of an optional key; `None` if the key is missing.
    pub(crate) fn optional<T: Text>(&self, key: &str) -> Result<Option<T>, TextError> {
        self.get(key)
            .map(|node| T::take(node, self.names))
            .transpose()
    }

    /// Returns the value of a key, or the value of `without` if the key is missing.
    pub(crate) fn or<T: Text>(
        &self,
        key: &str,
        without: impl FnOnce() -> T,
    ) -> Result<T, TextError> {
        Ok(self.optional(key)?.unwrap_or_else(without))
    }

    /// Returns the value of a required key. A missing key is an error.
    pub(crate) fn required<T: Text>(&self, key: &str) -> Result<T, TextError> {
        self.optional(key)?.ok_or_else(|| {
            let what = format!("the key `{key}` is missing: give it {}", T::expected());
            self.node.error(what)
        })
    }
}

/// The keys of a table that is being written.
#[derive(Debug, Default)]
pub(crate) struct Keys(Vec<(String, Node)>);

impl Keys {
    /// Adds a key with this node as its value.
    pub(crate) fn node(&mut self, key: &str, node: Node) {
        self.0.push((key.to_owned(), node));
    }

    /// Adds a key with this value, even if it is the default value.
    pub(crate) fn always<T: Text>(&mut self, key: &str, value: &T) -> Result<(), Unsayable> {
        self.node(key, value.put()?);
        Ok(())
    }

    /// Adds a key with this value, or nothing for `None`.
    pub(crate) fn some<T: Text>(&mut self, key: &str, value: &Option<T>) -> Result<(), Unsayable> {
        value.iter().try_for_each(|value| self.always(key, value))
    }

    /// Adds a key with this value, or nothing if it is the default value `without`, which the reader fills in.
    pub(crate) fn unless<T: Text + PartialEq>(
        &mut self,
        key: &str,
        value: &T,
        without: &T,
    ) -> Result<(), Unsayable> {
        match value == without {
            true => Ok(()),
            false => self.always(key, value),
        }
    }

    /// Adds a section `[[key]]` for each of `all`.
    pub(crate) fn sections<T: Text>(&mut self, key: &str, all: &[T]) -> Result<(), Unsayable> {
        if !all.is_empty() {
            let sections = all.iter().map(T::put).collect::<Result<_, _>>()?;
            self.node(key, Node::new(Value::Sections(sections)));
        }
        Ok(())
    }

    /// Returns the table of the keys, in the order in which they were added.
    pub(crate) fn done(self) -> Node {
        Node::table(self.0)
    }
}

/// How a variant of an enum is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// As a word alone, since the variant has no value.
    Word,
    /// As `{ word = value }`.
    Value,
    /// As a word, or as `{ word = value }`: all fields of the variant have defaults.
    Either,
}

/// Converts a name in the code to its text form: `SpinWait` becomes `spin_wait`.
pub(crate) fn snake(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

/// Returns the part of an error message that says what was expected: `what`, and the text forms of all variants.
pub(crate) fn choice(what: &str, all: &[(&str, Shape)]) -> String {
    let one = |(name, shape): &(&str, Shape)| match shape {
        Shape::Value => format!("{{ {} = … }}", snake(name)),
        Shape::Word | Shape::Either => format!("{:?}", snake(name)),
    };
    format!(
        "{what}: {}",
        all.iter().map(one).collect::<Vec<_>>().join(", ")
    )
}

/// Parses a variant. Returns its name in the code, and the node of its value; `None` if the text is a word alone.
pub(crate) fn variant<'a>(
    node: &'a Node,
    what: &str,
    all: &[(&'static str, Shape)],
) -> Result<(&'static str, Option<&'a Node>), TextError> {
    let (word, place, value) = match &node.value {
        Value::Text(word) => (word, node, None),
        Value::Table(entries) => match entries.as_slice() {
            [(word, value)] => (word, value, Some(value)),
            _ => return Err(node.expected(&choice(what, all))),
        },
        _ => return Err(node.expected(&choice(what, all))),
    };
    let Some((name, shape)) = all.iter().find(|(name, _)| snake(name) == *word) else {
        let known: Vec<String> = all.iter().map(|(name, _)| snake(name)).collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        return Err(place.error(format!("{word:?} is not {what}: {}", instead(word, &known))));
    };
    match (shape, value) {
        (Shape::Word, Some(_)) => {
            Err(place.error(format!("`{word}` takes no value: write {word:?} alone")))
        }
        (Shape::Value, None) => {
            Err(place.error(format!("`{word}` needs a value: write {{ {word} = … }}")))
        }
        _ => Ok((name, value)),
    }
}

/// Writes a variant as a node: as a word, or as `{ word = value }`.
pub(crate) fn put_variant(name: &str, value: Option<Node>) -> Node {
    match value {
        None => Node::text(snake(name)),
        Some(value) => Node::table(vec![(snake(name), value)]),
    }
}

/// Parses an operation. Returns its name in the code and the nodes of its fields, in the order of the table `all`; `None` for a
/// field that is left out.
///
/// An operation without fields is a word alone (`"detach_scheduler"`). The value of an operation with one field is the value of
/// that field (`{ freeze_cgroup = "a" }`). The value of an operation with several fields is a table of them
/// (`{ set_cpuset = { cgroup = "a", cpus = "0" } }`).
pub(crate) fn operation<'a>(
    node: &'a Node,
    all: &[(&'static str, &'static [&'static str])],
    names: &'a Names,
) -> Result<(&'static str, Vec<Option<&'a Node>>), TextError> {
    let shapes: Vec<(&'static str, Shape)> = (all.iter())
        .map(|(name, fields)| match fields {
            [] => (*name, Shape::Word),
            _ => (*name, Shape::Value),
        })
        .collect();
    let (name, value) = variant(node, "an operation", &shapes)?;
    let fields = all.iter().find(|(one, _)| *one == name);
    let fields = fields.map_or(&[][..], |(_, fields)| *fields);
    let given = match (fields, value) {
        ([_], value) => vec![value],
        (fields, Some(value)) => {
            let table = Fields::of(value, fields, names)?;
            fields.iter().map(|field| table.get(field)).collect()
        }
        (_, None) => Vec::new(),
    };
    Ok((name, given))
}

/// Returns the value of a required field of an operation. `given` is the node of the field; `None` is an error.
pub(crate) fn needed<T: Text>(
    given: Option<&Node>,
    operation: &Node,
    field: &str,
    names: &Names,
) -> Result<T, TextError> {
    let given = given.ok_or_else(|| {
        let what = format!("the key `{field}` is missing: give it {}", T::expected());
        operation.error(what)
    })?;
    T::take(given, names)
}

/// Writes an operation as a node, in the forms that [`operation`] reads. Fields without a node are left out.
pub(crate) fn put_operation(name: &str, fields: Vec<(&str, Option<Node>)>) -> Node {
    let only = fields.len() == 1;
    let mut given: Vec<(String, Node)> = (fields.into_iter())
        .filter_map(|(key, node)| Some((key.to_owned(), node?)))
        .collect();
    match given.pop() {
        None => put_variant(name, None),
        Some((_, value)) if only => put_variant(name, Some(value)),
        Some(last) => {
            given.push(last);
            put_variant(name, Some(Node::table(given)))
        }
    }
}
