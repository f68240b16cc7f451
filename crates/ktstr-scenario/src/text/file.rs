//! A file with a scenario, its settings, and its claims about the run.

use super::fields::Keys;
use super::node::{Node, TextError, Unsayable, Value};
use super::scenario::{self, deepest};
use super::suggest::instead;
use super::{Fields, Names, Scenario, Text, read, write};
use crate::payload::Payload;
use crate::scheduler::{Scheduler, SchedulerSpec};
use crate::topology::TestTopology;
use ktstr_assert::OutputFormat;

/// The sections of a file in addition to those of its scenario.
const SECTIONS: &[&str] = &["payload", "staged_scheduler", "claim"];

/// A whole file: settings, declarations of programs and schedulers, a scenario, and claims.
///
/// A key at the top of the file that does not belong to a declaration, the scenario or a claim is a setting, with a single value
/// or a list of texts. This crate does not know the names of settings; the code that runs the file checks them.
#[derive(Clone, Debug)]
pub struct ScenarioFile {
    /// The settings of the machine and the checks, in the order of the text.
    pub settings: Vec<Setting>,
    /// The programs of the host that operations may start.
    pub payloads: Vec<&'static Payload>,
    /// The schedulers that operations may start.
    pub schedulers: Vec<&'static Scheduler>,
    /// The scenario that the file describes.
    pub scenario: Scenario,
    /// The claims about the metrics of the run.
    pub claims: Vec<ClaimDef>,
    /// The text as a tree, for the line numbers of later errors.
    root: Node,
}

/// A setting: a key at the top of a file, with a single value or a list of texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The key as the file writes it.
    pub key: String,
    /// The value as the file writes it.
    pub value: SettingValue,
    /// The number of the line, from 1.
    pub line: usize,
}

/// The value of a setting.
#[derive(Clone, Debug, PartialEq)]
pub enum SettingValue {
    /// The value is `true` or `false`.
    Bool(bool),
    /// The value is a whole number.
    Integer(i128),
    /// The value is a number with a fraction or an exponent.
    Float(f64),
    /// The value is a text in quotes.
    Text(String),
    /// The value is a list of texts in quotes.
    Texts(Vec<String>),
}

/// A claim about a metric of a cgroup in a step: `[[claim]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimDef {
    /// The number of the step, from 0.
    pub step: usize,
    /// The name of the cgroup; `None` if the claim is about the metric of the whole step.
    pub cgroup: Option<String>,
    /// The name of the metric; `cargo ktstr metrics` lists all names.
    pub metric: String,
    /// The bounds between which the value of the metric must lie.
    pub bounds: Bounds,
}

/// The bounds of a claim, at least one of which is set.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bounds {
    /// The smallest value that passes.
    pub at_least: Option<f64>,
    /// The largest value that passes.
    pub at_most: Option<f64>,
}

impl ScenarioFile {
    /// Reads a file. The declarations of programs and schedulers are leaked, so that they live as long as the process.
    ///
    /// # Errors
    /// [`TextError`] with the line and the key, what was found and what is allowed.
    pub fn from_text(text: &str) -> Result<Self, TextError> {
        let root = read::read(text)?;
        let none = Names::new();
        let fields = Fields::open(&root, &none)?;
        let mut settings = Vec::new();
        for (key, node) in fields.entries() {
            if !scenario::KEYS.contains(&key.as_str()) && !SECTIONS.contains(&key.as_str()) {
                settings.push(setting(key, node)?);
            }
        }
        let payloads: Vec<&'static Payload> = leaked::<Declared<Payload>>(&fields, "payload")?;
        let schedulers = leaked::<Declared<Scheduler>>(&fields, "staged_scheduler")?;
        let names = payloads
            .iter()
            .fold(Names::new(), |names, one| names.payload(one));
        let names = schedulers
            .iter()
            .fold(names, |names, one| names.scheduler(one));
        let scenario = Scenario::take(&Fields::open(&root, &names)?)?;
        let claims: Vec<ClaimDef> = fields.or("claim", Vec::new)?;
        for (at, claim) in claims.iter().enumerate() {
            if claim.step >= scenario.steps.len() {
                let node = deepest(&root, &format!("claim[{at}].step"));
                return Err(node.error(format!(
                    "there is no step {}: steps are counted from 0, and the last one is {}",
                    claim.step,
                    scenario.steps.len() - 1
                )));
            }
        }
        Ok(Self {
            settings,
            payloads,
            schedulers,
            scenario,
            claims,
            root,
        })
    }

    /// Returns the file in its normal form, which parses to the same value.
    ///
    /// # Errors
    /// [`Unsayable`] as [`Scenario::to_text`].
    pub fn to_text(&self) -> Result<String, Unsayable> {
        let mut keys = Keys::default();
        for setting in &self.settings {
            keys.node(&setting.key, setting.value.node()?);
        }
        let declared: Vec<_> = self.payloads.iter().copied().map(Declared).collect();
        keys.sections("payload", &declared)?;
        let declared: Vec<_> = self.schedulers.iter().copied().map(Declared).collect();
        keys.sections("staged_scheduler", &declared)?;
        self.scenario.put(&mut keys)?;
        keys.sections("claim", &self.claims)?;
        Ok(write::write(&keys.done()))
    }

    /// Checks that the scenario can be run on a machine of this shape.
    ///
    /// # Errors
    /// [`TextError`] with the line of the error.
    pub fn validate(&self, topology: &TestTopology) -> Result<(), TextError> {
        self.scenario
            .validate(topology)
            .map_err(|invalid| TextError {
                line: deepest(&self.root, &invalid.key).line,
                key: invalid.key,
                message: invalid.message,
            })
    }

    /// Returns the number of the line, from 1, on which claim `at` has its key `step`. Claims are counted from 0.
    pub fn line_of_claim(&self, at: usize) -> usize {
        deepest(&self.root, &format!("claim[{at}].step")).line
    }

    /// Returns the top-level keys of a file that are not settings.
    pub fn keys() -> impl Iterator<Item = &'static str> {
        scenario::KEYS.iter().chain(SECTIONS).copied()
    }
}

fn setting(key: &str, node: &Node) -> Result<Setting, TextError> {
    let value = match &node.value {
        Value::Bool(value) => SettingValue::Bool(*value),
        Value::Integer(number) => SettingValue::Integer(*number),
        Value::Float(number) => SettingValue::Float(*number),
        Value::Text(text) => SettingValue::Text(text.clone()),
        Value::List(items)
            if items
                .iter()
                .all(|item| matches!(item.value, Value::Text(_))) =>
        {
            SettingValue::Texts(Text::take(node, &Names::new())?)
        }
        Value::List(_) | Value::Sections(_) | Value::Table(_) => {
            let known: Vec<&str> = ScenarioFile::keys().collect();
            return Err(node.error(format!("unknown key `{key}`: {}", instead(key, &known))));
        }
    };
    Ok(Setting {
        key: key.to_owned(),
        value,
        line: node.line,
    })
}

impl SettingValue {
    fn node(&self) -> Result<Node, Unsayable> {
        match self {
            Self::Bool(value) => value.put(),
            Self::Integer(number) => Ok(Node::new(Value::Integer(*number))),
            Self::Float(number) => number.put(),
            Self::Text(text) => text.put(),
            Self::Texts(texts) => texts.put(),
        }
    }
}

/// A declaration in a section, which lives as long as the process.
struct Declared<T: 'static>(&'static T);

/// Returns the declarations in the sections `[[key]]`.
fn leaked<D>(fields: &Fields<'_>, key: &str) -> Result<Vec<&'static D::Of>, TextError>
where
    D: Text + Holds,
{
    let all: Vec<D> = fields.or(key, Vec::new)?;
    Ok(all.into_iter().map(|one| one.held()).collect())
}

/// Gives access to the declaration in a [`Declared`]. `Of` is the type of the declaration.
trait Holds {
    type Of: 'static;
    fn held(self) -> &'static Self::Of;
}

impl<T> Holds for Declared<T> {
    type Of = T;

    fn held(self) -> &'static T {
        self.0
    }
}

fn leak_texts(texts: Vec<String>) -> &'static [&'static str] {
    let texts: Vec<&'static str> = texts.into_iter().map(|text| &*text.leak()).collect();
    texts.leak()
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

impl Text for Declared<Payload> {
    fn expected() -> String {
        "a program such as { name = \"load\", binary = \"stress-ng\" }".to_owned()
    }

    fn put(&self) -> Result<Node, Unsayable> {
        let payload = self.0;
        let mut keys = Keys::default();
        keys.always("name", &payload.name.to_owned())?;
        // A declaration that was read from a file is always a program, never a scheduler.
        keys.always("binary", &payload.program().unwrap_or_default().to_owned())?;
        keys.unless("args", &owned(payload.default_args), &Vec::new())?;
        keys.unless("include_files", &owned(payload.include_files), &Vec::new())?;
        keys.unless("json", &(payload.output == OutputFormat::Json), &false)?;
        Ok(keys.done())
    }

    fn take(node: &Node, names: &Names) -> Result<Self, TextError> {
        let known = ["name", "binary", "args", "include_files", "json"];
        let fields = Fields::of(node, &known, names)?;
        let (name, binary): (String, String) =
            (fields.required("name")?, fields.required("binary")?);
        let payload = Payload::binary(name.leak(), binary.leak())
            .with_default_args(leak_texts(fields.or("args", Vec::new)?))
            .with_include_files(leak_texts(fields.or("include_files", Vec::new)?))
            .with_output(match fields.or("json", || false)? {
                true => OutputFormat::Json,
                false => OutputFormat::ExitCode,
            });
        payload
            .validate()
            .map_err(|error| node.error(error.to_string()))?;
        Ok(Self(Box::leak(Box::new(payload))))
    }
}

impl Text for Declared<Scheduler> {
    fn expected() -> String {
        "a scheduler such as { name = \"other\", binary = \"./scx_other\" }".to_owned()
    }

    fn put(&self) -> Result<Node, Unsayable> {
        let mut keys = Keys::default();
        keys.always("name", &self.0.name.to_owned())?;
        keys.always("binary", &self.0.binary.display_name().to_owned())?;
        keys.unless("args", &owned(self.0.sched_args), &Vec::new())?;
        Ok(keys.done())
    }

    fn take(node: &Node, names: &Names) -> Result<Self, TextError> {
        let fields = Fields::of(node, &["name", "binary", "args"], names)?;
        let (name, binary): (String, String) =
            (fields.required("name")?, fields.required("binary")?);
        let scheduler = Scheduler::named(name.leak())
            .binary(SchedulerSpec::of_binary(binary.leak()))
            .sched_args(leak_texts(fields.or("args", Vec::new)?));
        Ok(Self(Box::leak(Box::new(scheduler))))
    }
}

impl Text for ClaimDef {
    fn expected() -> String {
        "a claim such as { step = 0, cgroup = \"a\", metric = \"total_migrations\", at_least = 1 }"
            .to_owned()
    }

    fn put(&self) -> Result<Node, Unsayable> {
        let mut keys = Keys::default();
        keys.always("step", &self.step)?;
        keys.some("cgroup", &self.cgroup)?;
        keys.always("metric", &self.metric)?;
        keys.some("at_least", &self.bounds.at_least)?;
        keys.some("at_most", &self.bounds.at_most)?;
        Ok(keys.done())
    }

    fn take(node: &Node, names: &Names) -> Result<Self, TextError> {
        let known = ["step", "cgroup", "metric", "at_least", "at_most"];
        let fields = Fields::of(node, &known, names)?;
        let bounds = Bounds {
            at_least: fields.optional("at_least")?,
            at_most: fields.optional("at_most")?,
        };
        if bounds == Bounds::default() {
            return Err(node
                .error("a claim without a bound is always true: give it `at_least` or `at_most`"));
        }
        let given = [bounds.at_least, bounds.at_most].into_iter().flatten();
        if let Some(bound) = given.into_iter().find(|bound| !bound.is_finite()) {
            return Err(node.error(format!("the bound {bound} is not a finite number")));
        }
        if let (Some(least), Some(most)) = (bounds.at_least, bounds.at_most)
            && least > most
        {
            return Err(node.error(format!(
                "no value is at least {least} and at most {most}: `at_least` is the lower bound"
            )));
        }
        Ok(Self {
            step: fields.required("step")?,
            cgroup: fields.optional("cgroup")?,
            metric: fields.required("metric")?,
            bounds,
        })
    }
}
