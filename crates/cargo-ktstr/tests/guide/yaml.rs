//! The parts of YAML that the rules of the CI systems need: texts, lists and mappings.

use yaml_rust2::{Yaml as Parsed, YamlLoader};

/// A node of a document. Scalars are texts: no rule of a CI system here depends on their type.
#[derive(Clone, Debug, PartialEq)]
pub enum Yaml {
    /// A text, a number, a Boolean, or nothing.
    Scalar(String),
    /// A sequence of nodes, in block or in flow style.
    List(Vec<Yaml>),
    /// A mapping, in the order of the file.
    Map(Vec<(String, Yaml)>),
}

impl Yaml {
    /// Returns the value of a key; `None` if this is no mapping or lacks the key.
    pub fn get(&self, key: &str) -> Option<&Yaml> {
        self.entries().iter().find(|(k, _)| k == key).map(|e| &e.1)
    }

    /// Returns the entries of a mapping; for any other node, an empty slice.
    pub fn entries(&self) -> &[(String, Yaml)] {
        match self {
            Self::Map(entries) => entries,
            _ => &[],
        }
    }

    /// Returns the items of a sequence; for any other node, the node itself as the only item, since CI systems accept one item
    /// without a list.
    pub fn items(&self) -> Vec<&Yaml> {
        match self {
            Self::List(items) => items.iter().collect(),
            other => vec![other],
        }
    }

    /// Returns the text of a scalar; empty for anything else.
    pub fn text(&self) -> &str {
        match self {
            Self::Scalar(text) => text,
            _ => "",
        }
    }
}

/// Reads the documents of a file.
///
/// # Errors
///
/// The text is no YAML, a mapping has a key twice, or a node is of a kind that no CI system here expects, such as an alias.
pub fn documents(text: &str) -> Result<Vec<Yaml>, String> {
    let parsed = YamlLoader::load_from_str(text).map_err(|error| format!("no YAML: {error}"))?;
    parsed.iter().map(node).collect()
}

fn node(parsed: &Parsed) -> Result<Yaml, String> {
    Ok(match parsed {
        Parsed::String(text) | Parsed::Real(text) => Yaml::Scalar(text.clone()),
        Parsed::Integer(number) => Yaml::Scalar(number.to_string()),
        Parsed::Boolean(value) => Yaml::Scalar(value.to_string()),
        Parsed::Null => Yaml::Scalar(String::new()),
        Parsed::Array(items) => Yaml::List(items.iter().map(node).collect::<Result<_, _>>()?),
        Parsed::Hash(entries) => {
            let entry = |(key, value): (&Parsed, &Parsed)| match node(key)? {
                Yaml::Scalar(key) => Ok((key, node(value)?)),
                other => Err(format!("a key that is no text: {other:?}")),
            };
            Yaml::Map(entries.iter().map(entry).collect::<Result<_, _>>()?)
        }
        Parsed::Alias(_) | Parsed::BadValue => {
            return Err(format!(
                "a node that is no text, list or mapping: {parsed:?}"
            ));
        }
    })
}

#[test]
fn what_is_not_read_is_an_error() {
    for text in ["a: 1\na: 2\n", "a: 1\n   b: 2\n", "a: [b,\n", "a: \"b\n"] {
        assert!(documents(text).is_err(), "{text:?}");
    }
    let text = |text: &str| Yaml::Scalar(text.to_owned());
    let map = |key: &str, value| Yaml::Map(vec![(key.to_owned(), value)]);
    let read = documents("on: [p, 7]\n---\nd: |\n  l1\n\n  l2\n");
    let lists = map("on", Yaml::List(vec![text("p"), text("7")]));
    assert_eq!(read, Ok(vec![lists, map("d", text("l1\n\nl2\n"))]));
}
