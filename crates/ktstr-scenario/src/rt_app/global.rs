//! The keys of `global`: those that are acted on, and the table of those that have no meaning here.

use std::time::Duration;

use super::object::{Object, unknown};
use super::sched::Class;
use super::{RtAppNote, note};
use crate::text::{Node, TextError, Value};

/// What holds for all tasks.
pub(super) struct Global {
    pub(super) duration: Option<Duration>,
    pub(super) class: Class,
    /// Whether locks hand the priority of their waiters on.
    pub(super) inherits: bool,
}

/// The keys that are acted on.
const KEYS: &[&str] = &["duration", "default_policy", "pi_enabled"];

const LOGS: &str = "ktstr writes no log of rt-app: the record of the run has the exact schedule and the workers' metrics";

/// The keys that have no effect, each with the reason.
const WITHOUT: &[(&str, &str)] = &[
    (
        "calibration",
        "a run is CPU time, which needs no calibration",
    ),
    ("lock_pages", "the guest has no swap that pages could go to"),
    ("logdir", LOGS),
    ("log_basename", LOGS),
    ("log_size", LOGS),
    ("gnuplot", LOGS),
    (
        "ftrace",
        "the exact schedule of the run has these events: `cargo ktstr trace`",
    ),
    (
        "cumulative_slack",
        "slack is not added up: each timer event is measured",
    ),
    ("io_device", "there are no events of files"),
    ("mem_buffer_size", "there are no events of memory"),
    ("frag", "rt-app does not have this key any more"),
];

pub(super) fn read(node: Option<&Node>, notes: &mut Vec<RtAppNote>) -> Result<Global, TextError> {
    let mut global = Global {
        duration: None,
        class: Class::Other,
        inherits: false,
    };
    let Some(node) = node else {
        return Ok(global);
    };
    let object = Object::of(node)?;
    for (key, node) in object.entries() {
        let without = WITHOUT.iter().find(|(name, _)| *name == key);
        match without {
            Some(_) if is_off(node) => {}
            Some((_, why)) => notes.push(note(node, format!("it has no effect: {why}"))),
            None if KEYS.contains(&key) => {}
            None => {
                let without = WITHOUT.iter().map(|(name, _)| *name);
                let known: Vec<&str> = KEYS.iter().copied().chain(without).collect();
                return Err(unknown(key, node, &known));
            }
        }
    }
    if let Some((seconds, node)) = object.integer("duration")? {
        let seconds = u32::try_from(seconds.max(0));
        let seconds = seconds.map_err(|_| node.expected("seconds, at most 4294967295, or -1"))?;
        global.duration = (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)));
    }
    if let Some((word, node)) = object.word("default_policy")? {
        global.class = Class::of(word, node)?;
    }
    if let Some(node) = object.get("pi_enabled")? {
        global.inherits = match node.value {
            Value::Bool(on) => on,
            _ => return Err(node.expected("true or false")),
        };
    }
    Ok(global)
}

/// Whether a key says that what it stands for is not wanted.
fn is_off(node: &Node) -> bool {
    match &node.value {
        Value::Bool(on) => !on,
        Value::Text(word) => matches!(word.to_ascii_lowercase().as_str(), "none" | "disable"),
        _ => false,
    }
}
