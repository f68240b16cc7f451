//! A scenario: a backdrop and steps.

use super::fields::Keys;
use super::node::{Node, TextError, Unsayable};
use super::{Fields, Names, Text, read, write};
use crate::ops::{Backdrop, Step};
use crate::payload::Payload;

/// A backdrop and steps: everything that a test function makes the guest do.
///
/// ```
/// use ktstr_scenario::text::Scenario;
///
/// let scenario = Scenario::from_text(
///     r#"
///     [[cgroup]]
///     name = "front"
///     work_type = { futex_fan_out = { fan_out = 3 } }
///     workers = 4
///     cpuset = "0,2"
///
///     [[step]]
///     hold = 0.4
///
///     [[step]]
///     hold = "every 50ms"
///     ops = [{ set_cpuset = { cgroup = "front", cpus = "1,3" } }]
///     "#,
/// )?;
/// assert_eq!(scenario.backdrop.cgroups[0].name, "front");
/// assert_eq!(scenario.steps.len(), 2);
///
/// // The printed text is read as the same scenario.
/// let text = scenario.to_text()?;
/// assert_eq!(Scenario::from_text(&text)?, scenario);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scenario {
    /// The cgroups and operations that last for the whole scenario.
    pub backdrop: Backdrop,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

impl Scenario {
    /// Reads a scenario from TOML: `[[cgroup]]`, `ops` and `payloads` of the backdrop, and `[[step]]` for each step, with
    /// `hold`, `ops` and `[[step.cgroup]]`. The keys and words of the text are the names of fields, builders and variants in
    /// Rust, in snake case. A key that is left out has the same default as in Rust.
    ///
    /// # Errors
    /// [`TextError`] with the line and the key, what was found and what is allowed.
    pub fn from_text(text: &str) -> Result<Self, TextError> {
        Self::from_text_with(text, &Names::new())
    }

    /// Like [`Scenario::from_text`], for a text that refers to programs, schedulers or custom work types of the test.
    ///
    /// # Errors
    /// As [`Scenario::from_text`].
    pub fn from_text_with(text: &str, names: &Names) -> Result<Self, TextError> {
        let root = read::read(text)?;
        let fields = Fields::open(&root, names)?;
        for (key, node) in fields.entries() {
            if !KEYS.contains(&key.as_str()) {
                return Err(node.error(format!(
                    "unknown key `{key}`: {}. The test's attribute sets the machine and the checks",
                    super::suggest::instead(key, KEYS)
                )));
            }
        }
        Self::take(&fields)
    }

    /// Returns the scenario as text that [`Scenario::from_text_with`] can read. All parameters are written out, except rarely
    /// used ones that have their default value.
    ///
    /// # Errors
    /// [`Unsayable`] for cgroups that a function creates, numbers that are not finite, limits of a cgroup of which none is set,
    /// and unknown flags of a memory policy.
    pub fn to_text(&self) -> Result<String, Unsayable> {
        let mut keys = Keys::default();
        self.put(&mut keys)?;
        Ok(write::write(&keys.done()))
    }

    pub(super) fn put(&self, keys: &mut Keys) -> Result<(), Unsayable> {
        let Backdrop {
            cgroups,
            ops,
            payloads,
        } = &self.backdrop;
        keys.unless("ops", ops, &Vec::new())?;
        keys.unless("payloads", payloads, &Vec::<&'static Payload>::new())?;
        keys.sections("cgroup", cgroups)?;
        keys.sections("step", &self.steps)
    }

    pub(super) fn take(fields: &Fields<'_>) -> Result<Self, TextError> {
        let steps = match fields.get("step") {
            Some(node) => Vec::take(node, fields.names)?,
            None => Vec::new(),
        };
        if steps.is_empty() {
            return Err(TextError {
                line: 1,
                key: "step".to_owned(),
                message: "there is no step, so the scenario would end at once: add `[[step]]`, which lasts for the whole duration by default"
                    .to_owned(),
            });
        }
        Ok(Self {
            backdrop: Backdrop {
                cgroups: fields.or("cgroup", Vec::new)?,
                ops: fields.or("ops", Vec::new)?,
                payloads: fields.or("payloads", Vec::new)?,
            },
            steps,
        })
    }
}

/// The top-level keys of a scenario.
pub(super) const KEYS: &[&str] = &["cgroup", "ops", "payloads", "step"];

/// Returns the deepest existing node on the path `key`, for the line number of an error; the root if there is none.
pub(super) fn deepest<'a>(root: &'a Node, key: &str) -> &'a Node {
    let mut found = root;
    loop {
        let children: Vec<&Node> = match &found.value {
            super::Value::Table(entries) => entries.iter().map(|(_, node)| node).collect(),
            super::Value::List(items) | super::Value::Sections(items) => items.iter().collect(),
            _ => Vec::new(),
        };
        let on_the_way = |node: &&Node| {
            let rest = key.strip_prefix(node.path.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        match children.into_iter().find(on_the_way) {
            Some(next) => found = next,
            None => return found,
        }
    }
}
