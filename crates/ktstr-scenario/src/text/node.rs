//! The tree into which a scenario file is parsed, and errors that name a place in the file.

/// A value in a text, with its position.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    /// The number of the line, from 1; 0 for a node that was not read from a text.
    pub(crate) line: usize,
    /// The path of keys to the node, such as `step[1].hold`; empty for the root and for a node that was not read.
    pub(crate) path: String,
}

/// A value in the text.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(String),
    Integer(i128),
    Float(f64),
    Bool(bool),
    List(Vec<Node>),
    /// A list of tables, each of which is written as a section `[[key]]`. Reading a text yields a [`Value::List`] instead.
    Sections(Vec<Node>),
    /// Keys in the order of the text.
    Table(Vec<(String, Node)>),
}

/// Why a text is not a valid scenario, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}{}: {message}", of_key(.key))]
pub struct TextError {
    /// The number of the line, from 1.
    pub line: usize,
    /// The path of keys to the place, such as `step[1].ops[0].set_cpuset.cpus`; numbers count from 0. In a workload file of
    /// rt-app, dots join all parts, as in `tasks.light.run`. The path is empty if no key is at fault, for example if the
    /// text is not valid TOML.
    pub key: String,
    /// A message with what was found, what is allowed, and a suggestion.
    pub message: String,
}

/// Formats the key for the message of an error, with the comma before it; empty without a key.
fn of_key(key: &str) -> String {
    match key {
        "" => String::new(),
        key => format!(", `{key}`"),
    }
}

/// A value that has no text form, such as a function of a test or a NaN.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a text cannot contain {what}: {instead}")]
pub struct Unsayable {
    /// The value that has no text form.
    pub what: String,
    /// What can be written instead.
    pub instead: &'static str,
}

impl Node {
    /// Creates a node that was not read from a text.
    pub(crate) fn new(value: Value) -> Self {
        Self {
            value,
            line: 0,
            path: String::new(),
        }
    }

    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::new(Value::Text(text.into()))
    }

    pub(crate) fn table(entries: Vec<(String, Node)>) -> Self {
        Self::new(Value::Table(entries))
    }

    /// Creates an error at the place of this node.
    pub(crate) fn error(&self, message: impl Into<String>) -> TextError {
        TextError {
            line: self.line,
            key: self.path.clone(),
            message: message.into(),
        }
    }

    /// Creates the error that `what` was expected in place of this node.
    pub(crate) fn expected(&self, what: &str) -> TextError {
        self.error(format!("found {}, expected {what}", self.found()))
    }

    /// Describes the value at this place in a few words.
    pub(crate) fn found(&self) -> String {
        match &self.value {
            Value::Text(text) => format!("{text:?}"),
            Value::Integer(number) => format!("the number {number}"),
            Value::Float(number) => format!("the number {number:?}"),
            Value::Bool(value) => format!("{value}"),
            Value::List(items) | Value::Sections(items) => {
                let plural = if items.len() == 1 { "" } else { "s" };
                format!("a list of {} item{plural}", items.len())
            }
            Value::Table(entries) => {
                let keys: Vec<&str> = entries.iter().map(|(key, _)| key.as_str()).collect();
                match keys.as_slice() {
                    [] => "an empty table".to_owned(),
                    keys => format!("a table with `{}`", keys.join("`, `")),
                }
            }
        }
    }

    /// Returns the items of a list. If the node is not a list, the error names `what` as expected.
    pub(crate) fn items(&self, what: &str) -> Result<&[Node], TextError> {
        match &self.value {
            Value::List(items) | Value::Sections(items) => Ok(items),
            _ => Err(self.expected(what)),
        }
    }
}
