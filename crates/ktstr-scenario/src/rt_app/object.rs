//! Access to the keys of an object and their values, with the errors for keys and values that are wrong.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::text::{Node, TextError, Value, nearest};

/// An object, in which a key may occur several times.
#[derive(Clone, Copy)]
pub(super) struct Object<'a> {
    pub(super) node: &'a Node,
    entries: &'a [(String, Node)],
}

impl<'a> Object<'a> {
    pub(super) fn of(node: &'a Node) -> Result<Self, TextError> {
        match &node.value {
            Value::Table(entries) => Ok(Self { node, entries }),
            _ => Err(node.expected("an object in { }")),
        }
    }

    /// Returns all keys with their values, in the order of the file.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, &'a Node)> {
        let entries: &'a [(String, Node)] = self.entries;
        entries.iter().map(|(key, node)| (key.as_str(), node))
    }

    /// Returns the value of a key that may occur only once; `None` if the key is missing.
    pub(super) fn get(&self, key: &str) -> Result<Option<&'a Node>, TextError> {
        let mut all = self.entries().filter(|(name, _)| *name == key);
        let found = all.next();
        match all.next() {
            None => Ok(found.map(|(_, node)| node)),
            Some((_, again)) => Err(again.error(format!(
                "the key \"{key}\" is given a second time, but only events, phases and tasks can be repeated: remove one of the two"
            ))),
        }
    }

    /// Returns an error if the object has a key that is not one of `known`.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), TextError> {
        match self.entries().find(|(key, _)| !known.contains(key)) {
            None => Ok(()),
            Some((key, node)) => Err(unknown("key", key, node, known)),
        }
    }

    pub(super) fn integer(&self, key: &str) -> Result<Option<(i128, &'a Node)>, TextError> {
        let Some(node) = self.get(key)? else {
            return Ok(None);
        };
        match node.value {
            Value::Integer(number) => Ok(Some((number, node))),
            _ => Err(node.expected("a whole number")),
        }
    }

    pub(super) fn word(&self, key: &str) -> Result<Option<(&'a str, &'a Node)>, TextError> {
        let node = self.get(key)?;
        node.map(|node| Ok((text(node)?, node))).transpose()
    }

    /// Returns the text of a key that must be given and must not be empty.
    pub(super) fn needed(&self, key: &str) -> Result<&'a str, TextError> {
        match self.word(key)? {
            Some((word, _)) if !word.is_empty() => Ok(word),
            _ => Err(self
                .node
                .error(format!("\"{key}\" is missing: give it a name in quotes"))),
        }
    }

    pub(super) fn micros(&self, key: &str) -> Result<Option<(Duration, &'a Node)>, TextError> {
        let node = self.get(key)?;
        node.map(|node| Ok((micros(node)?, node))).transpose()
    }
}

/// Creates the error for an unknown word, with the most similar of the `known` words. `what` is the kind of the word,
/// such as "key".
pub(super) fn unknown(what: &str, word: &str, node: &Node, known: &[&str]) -> TextError {
    let meant = nearest(word, known);
    let meant = meant.map_or_else(String::new, |meant| format!("did you mean \"{meant}\"? "));
    node.error(format!(
        "unknown {what} \"{word}\": {meant}The known ones are: {}",
        known.join(", ")
    ))
}

pub(super) fn text(node: &Node) -> Result<&str, TextError> {
    match &node.value {
        Value::Text(text) => Ok(text),
        _ => Err(node.expected("a text in quotes")),
    }
}

/// Returns the name of a lock, a condition or the like, which must not be empty.
pub(super) fn name(node: &Node) -> Result<String, TextError> {
    match text(node)? {
        "" => Err(node.expected("a name in quotes")),
        name => Ok(name.to_owned()),
    }
}

/// Returns a time, which rt-app always gives in microseconds.
pub(super) fn micros(node: &Node) -> Result<Duration, TextError> {
    let us = match node.value {
        Value::Integer(us) => u32::try_from(us).ok(),
        _ => None,
    };
    let us =
        us.ok_or_else(|| node.expected("microseconds, a whole number from 0 to 4294967295"))?;
    Ok(Duration::from_micros(u64::from(us)))
}

/// Returns the numbers of CPUs or NUMA nodes, which are given as a list or as a single number.
pub(super) fn numbers(node: &Node) -> Result<BTreeSet<usize>, TextError> {
    // The affinity masks of the workers have bits for 1024 CPUs.
    let one = |node: &Node| match node.value {
        Value::Integer(number @ 0..=1023) => Ok(number as usize),
        _ => Err(node.expected("whole numbers from 0 to 1023 in a list such as [0, 1]")),
    };
    let all: BTreeSet<usize> = match &node.value {
        Value::List(items) => items.iter().map(one).collect::<Result<_, _>>()?,
        _ => BTreeSet::from([one(node)?]),
    };
    match all.is_empty() {
        true => Err(node.error("the list is empty: leave the key out to allow all of them")),
        false => Ok(all),
    }
}
