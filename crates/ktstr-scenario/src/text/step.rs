//! The text form of steps and holds.

use super::basic::{duration_text, parse_duration};
use super::fields::Keys;
use super::node::{Node, TextError, Unsayable, Value};
use super::{Fields, Names, Text};
use crate::ops::{HoldSpec, Setup, Step};

/// The beginning of the text of a hold that repeats the operations of its step until the end of the test: `every 50ms`.
const EVERY: &str = "every ";

impl Text for HoldSpec {
    fn expected() -> String {
        "a fraction of the duration such as 0.5, a time such as \"50ms\", or \"every 50ms\", which repeats the operations to \
         the end"
            .to_owned()
    }

    fn put(&self) -> Result<Node, Unsayable> {
        match *self {
            Self::Frac(fraction) => fraction.put(),
            Self::Fixed(time) => time.put(),
            Self::Loop { interval } => {
                Ok(Node::text(format!("{EVERY}{}", duration_text(interval))))
            }
        }
    }

    fn take(node: &Node, names: &Names) -> Result<Self, TextError> {
        let of = |text: &str| match text.strip_prefix(EVERY) {
            Some(interval) => parse_duration(interval).map(Self::loop_at),
            None => parse_duration(text).map(Self::fixed),
        };
        let hold = match &node.value {
            Value::Text(text) => of(text),
            Value::Float(_) | Value::Integer(_) => Some(Self::Frac(f64::take(node, names)?)),
            _ => None,
        };
        let hold = hold.ok_or_else(|| node.expected(&Self::expected()))?;
        hold.validate()
            .map_err(|error| node.error(error.to_string()))?;
        Ok(hold)
    }
}

impl Text for Step {
    fn expected() -> String {
        "a step such as { hold = 0.5 }".to_owned()
    }

    fn put(&self) -> Result<Node, Unsayable> {
        let Self { setup, ops, hold } = self;
        let defs = match setup {
            Setup::Defs(defs) => defs,
            Setup::Factory(_) => {
                return Err(Unsayable {
                    what: "the cgroups that a function makes".to_owned(),
                    instead: "give the step the cgroups themselves, with Setup::Defs",
                });
            }
        };
        let mut keys = Keys::default();
        keys.unless("hold", hold, &HoldSpec::FULL)?;
        keys.unless("ops", ops, &Vec::new())?;
        keys.sections("cgroup", defs)?;
        Ok(keys.done())
    }

    fn take(node: &Node, names: &Names) -> Result<Self, TextError> {
        let fields = Fields::of(node, &["hold", "ops", "cgroup"], names)?;
        Ok(Self {
            setup: Setup::Defs(fields.or("cgroup", Vec::new)?),
            ops: fields.or("ops", Vec::new)?,
            hold: fields.or("hold", HoldSpec::default)?,
        })
    }
}
