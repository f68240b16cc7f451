//! The keys of the object `global`: the keys that have an effect, and the table of the keys that have none.

use std::time::Duration;

use super::object::{Object, unknown};
use super::sched::Class;
use super::{RtAppNote, note};
use crate::text::{Node, TextError, Value};

/// The settings that hold for all tasks.
pub(super) struct Global {
    pub(super) duration: Option<Duration>,
    pub(super) class: Class,
    /// Whether the holder of a lock inherits the priority of its waiters.
    pub(super) inherits: bool,
}

/// The keys that have an effect.
const KEYS: &[&str] = &["duration", "default_policy", "pi_enabled"];

const LOGS: &str = "ktstr writes no log of rt-app: the record of the run has the exact schedule and the workers' metrics";

/// The keys that have no effect, each with the reason.
const WITHOUT: &[(&str, &str)] = &[
    (
        "calibration",
        "`run` is an amount of CPU time, which needs no calibration",
    ),
    ("lock_pages", "the guest has no swap that pages could go to"),
    ("logdir", LOGS),
    ("log_basename", LOGS),
    ("log_size", LOGS),
    ("gnuplot", LOGS),
    (
        "ftrace",
        "the exact schedule of the run has these events, and `cargo ktstr trace` exports them",
    ),
    (
        "cumulative_slack",
        "ktstr does not add up the slack of several timer events: it measures each of them",
    ),
    ("io_device", "ktstr has no events that access files"),
    ("mem_buffer_size", "ktstr has no events that access memory"),
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
                return Err(unknown("key", key, node, &known));
            }
        }
    }
    if let Some((seconds, node)) = object.integer("duration")? {
        let seconds = u32::try_from(seconds.max(0));
        let seconds = seconds.map_err(|_| {
            node.expected("a whole number of seconds, at most 4294967295, or -1 for no end")
        })?;
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

/// Returns whether the value switches off what the key stands for, so that no note is needed.
fn is_off(node: &Node) -> bool {
    match &node.value {
        Value::Bool(on) => !on,
        Value::Text(word) => matches!(word.to_ascii_lowercase().as_str(), "none" | "disable"),
        _ => false,
    }
}
