//! The table of rt-app's events, with the actions that each event becomes. A key is an event if it begins with the name of an
//! event (`run`, `run0`, `run_b`).

use std::collections::{BTreeMap, BTreeSet};

use super::object::{Object, micros, name, text};
use super::task::Task;
use super::{RtAppNote, note};
use crate::text::{Node, TextError};
use crate::workload::RtAction;

/// The actions that an event becomes, or what is wrong with the event.
type Actions = Result<Vec<RtAction>, TextError>;

/// What a `Read` function gets in addition to the event's value: where the event is, and the list to which it adds notes.
pub(super) struct Place<'a> {
    /// The name of the task that has the event.
    pub(super) task: &'a str,
    pub(super) notes: &'a mut Vec<RtAppNote>,
}

/// Reads the value of an event's key.
type Read = fn(&mut Place<'_>, &Node) -> Actions;

/// All events, each with the function that reads it.
const EVENTS: &[(&str, Read)] = &[
    ("run", |_, node| one(RtAction::Run(micros(node)?))),
    ("runtime", |_, node| one(RtAction::Runtime(micros(node)?))),
    ("sleep", |_, node| one(RtAction::Sleep(micros(node)?))),
    ("timer", |_, node| one(timer(node)?)),
    ("lock", |_, node| one(RtAction::Lock(name(node)?))),
    ("unlock", |_, node| one(RtAction::Unlock(name(node)?))),
    ("wait", |_, node| one(wait(node)?.1)),
    ("signal", |_, node| one(RtAction::Signal(name(node)?))),
    ("broad", |_, node| one(RtAction::Broadcast(name(node)?))),
    // As in rt-app, `sync` does not take the lock before the signal, and does not release it after the wait. A file uses the
    // events `lock` and `unlock` for that.
    ("sync", |_, node| {
        let (condition, wait) = wait(node)?;
        Ok(vec![RtAction::Signal(condition), wait])
    }),
    ("barrier", |_, node| {
        let name = name(node)?;
        one(RtAction::Barrier { name, threads: 1 })
    }),
    ("suspend", |place, node| one(suspend(place, node)?)),
    ("resume", |_, node| one(RtAction::Resume(name(node)?))),
    ("sem_post", |_, node| one(RtAction::SemPost(name(node)?))),
    ("sem_wait", |_, node| one(RtAction::SemWait(name(node)?))),
    ("yield", |_, node| {
        text(node)?;
        one(RtAction::Yield)
    }),
    ("fork", |_, node| {
        Err(node.error(
            "ktstr starts all threads when the scenario starts, and an event cannot start one: give \"instance\" and \"delay\" to \
             the task that the event names",
        ))
    }),
    ("mem", |_, node| no_memory(node)),
    ("memrun", |_, node| no_memory(node)),
    ("iorun", |_, node| no_memory(node)),
];

fn one(action: RtAction) -> Actions {
    Ok(vec![action])
}

/// Returns the error for an event that accesses memory or files.
fn no_memory(node: &Node) -> Actions {
    Err(node.error(
        "ktstr has no events that access memory or files: leave it out, or add workers of the work type cache_pressure or \
         io_sync_write",
    ))
}

/// Returns the names of all events.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    EVENTS.iter().map(|(name, _)| *name)
}

/// Returns the actions of the event that a key names, or `None` if the key is not an event.
pub(super) fn read(place: &mut Place<'_>, key: &str, node: &Node) -> Option<Actions> {
    // If a key begins with several names, the longest one counts: `runtime` also begins with `run`.
    let begins = EVENTS.iter().filter(|(name, _)| key.starts_with(name));
    let (_, become_actions) = begins.max_by_key(|(name, _)| name.len())?;
    Some(become_actions(place, node))
}

fn timer(node: &Node) -> Result<RtAction, TextError> {
    let object = Object::of(node)?;
    object.only(&["ref", "period", "mode"])?;
    let period = match object.micros("period")? {
        Some((period, _)) if !period.is_zero() => period,
        Some((_, node)) => return Err(node.expected("a period of more than 0 microseconds")),
        None => return Err(node.error("\"period\" is missing: give it in microseconds")),
    };
    let absolute = match object.word("mode")? {
        None | Some(("relative", _)) => false,
        Some(("absolute", _)) => true,
        Some((_, node)) => return Err(node.expected("\"relative\" or \"absolute\"")),
    };
    let name = object.word("ref")?.map_or("unknown", |(name, _)| name);
    Ok(RtAction::Timer {
        name: name.to_owned(),
        period,
        absolute,
        shared: !name.starts_with("unique"),
    })
}

/// Returns the name of the condition, and the action that waits for it.
fn wait(node: &Node) -> Result<(String, RtAction), TextError> {
    let object = Object::of(node)?;
    object.only(&["ref", "mutex"])?;
    let condition = object.needed("ref")?.to_owned();
    let mutex = object.needed("mutex")?.to_owned();
    let wait = RtAction::Wait {
        condition: condition.clone(),
        mutex,
    };
    Ok((condition, wait))
}

fn suspend(place: &mut Place<'_>, node: &Node) -> Result<RtAction, TextError> {
    let name = match text(node)? {
        "" => place.task,
        name => name,
    };
    if name != place.task {
        let task = place.task;
        place.notes.push(note(
            node,
            format!(
                "the thread waits for a resume of \"{name}\", but rt-app since 2025 ignores the name and waits for a resume of \
                 \"{task}\""
            ),
        ));
    }
    Ok(RtAction::Suspend(name.to_owned()))
}

/// Fills in what depends on the events of all tasks: how many threads meet at a barrier, and which timers are absolute. A timer
/// is absolute if at least one of its events has the mode "absolute".
pub(super) fn settle(tasks: &mut [Task]) {
    let mut threads: BTreeMap<String, u32> = BTreeMap::new();
    let mut absolute_ones = BTreeSet::new();
    for (at, task) in tasks.iter().enumerate() {
        for action in task.actions() {
            match action {
                RtAction::Barrier { name, .. } => {
                    let count = threads.entry(name.clone()).or_default();
                    *count = count.saturating_add(task.instances);
                }
                RtAction::Timer {
                    name,
                    absolute: true,
                    shared,
                    ..
                } => {
                    absolute_ones.insert(timer_key(at, name, *shared));
                }
                _ => {}
            }
        }
    }
    for (at, task) in tasks.iter_mut().enumerate() {
        for action in task.actions_mut() {
            match action {
                RtAction::Barrier { name, threads: all } => {
                    *all = threads.get(name).copied().unwrap_or(1);
                }
                RtAction::Timer {
                    name,
                    absolute,
                    shared,
                    ..
                } => *absolute = absolute_ones.contains(&timer_key(at, name, *shared)),
                _ => {}
            }
        }
    }
}

/// Returns a key that is the same for two events if they use the same timer. A timer that is not shared belongs to one task.
fn timer_key(task: usize, name: &str, shared: bool) -> (Option<usize>, String) {
    ((!shared).then_some(task), name.to_owned())
}
