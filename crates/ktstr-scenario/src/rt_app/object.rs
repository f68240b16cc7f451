//! The keys of an object, and what stands under them.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::text::{Node, TextError, Value, nearest};

/// An object whose keys may stand several times.
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

    /// All keys in their order.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, &'a Node)> {
        let entries: &'a [(String, Node)] = self.entries;
        entries.iter().map(|(key, node)| (key.as_str(), node))
    }

    /// What stands under a key that can stand only once.
    pub(super) fn get(&self, key: &str) -> Result<Option<&'a Node>, TextError> {
        let mut all = self.entries().filter(|(name, _)| *name == key);
        let found = all.next();
        match all.next() {
            None => Ok(found.map(|(_, node)| node)),
            Some((_, again)) => Err(again.error(format!(
                "the key \"{key}\" stands here a second time, and only events, phases and tasks can: remove one of them"
            ))),
        }
    }

    /// Refuses all keys but the known ones.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), TextError> {
        match self.entries().find(|(key, _)| !known.contains(key)) {
            None => Ok(()),
            Some((key, node)) => Err(unknown(key, node, known)),
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

    /// A text that must be there and says something.
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

/// An error about a key that is not known.
pub(super) fn unknown(key: &str, node: &Node, known: &[&str]) -> TextError {
    let meant = nearest(key, known);
    let meant = meant.map_or_else(String::new, |meant| format!("did you mean \"{meant}\"? "));
    node.error(format!(
        "unknown key \"{key}\": {meant}There are: {}",
        known.join(", ")
    ))
}

pub(super) fn text(node: &Node) -> Result<&str, TextError> {
    match &node.value {
        Value::Text(text) => Ok(text),
        _ => Err(node.expected("a text in quotes")),
    }
}

/// The name of an object, which is not empty.
pub(super) fn name(node: &Node) -> Result<String, TextError> {
    match text(node)? {
        "" => Err(node.expected("a name in quotes")),
        name => Ok(name.to_owned()),
    }
}

/// A time in microseconds, as all times of rt-app are.
pub(super) fn micros(node: &Node) -> Result<Duration, TextError> {
    let us = match node.value {
        Value::Integer(us) => u32::try_from(us).ok(),
        _ => None,
    };
    let us = us.ok_or_else(|| node.expected("microseconds, a whole number of 0 to 4294967295"))?;
    Ok(Duration::from_micros(u64::from(us)))
}

/// The numbers of CPUs or nodes: a list, or a single one.
pub(super) fn numbers(node: &Node) -> Result<BTreeSet<usize>, TextError> {
    // As many CPUs as the guest's masks have.
    let one = |node: &Node| match node.value {
        Value::Integer(number @ 0..=1023) => Ok(number as usize),
        _ => Err(node.expected("numbers of 0 to 1023 in a list such as [0, 1]")),
    };
    let all: BTreeSet<usize> = match &node.value {
        Value::List(items) => items.iter().map(one).collect::<Result<_, _>>()?,
        _ => BTreeSet::from([one(node)?]),
    };
    match all.is_empty() {
        true => Err(node.error("the list is empty: leave the key out for all of them")),
        false => Ok(all),
    }
}
