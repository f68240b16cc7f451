//! Reads tasks and their phases, and turns each task into a group of workers.

use std::collections::BTreeSet;
use std::time::Duration;

use super::events::{self, Place};
use super::global::Global;
use super::object::{Object, numbers, unknown};
use super::sched::{self, Class, Sched};
use super::{RtAppNote, note};
use crate::text::{Node, TextError};
use crate::workload::{AffinityIntent, MemPolicy, RtAction, RtPhase, WorkSpec, WorkType};

/// The keys of both tasks and phases, apart from `sched::KEYS` and events.
const OF_BOTH: &[&str] = &["loop", "taskgroup", "nodes_membind", "util_min", "util_max"];
/// The keys that only tasks have.
const OF_TASK: &[&str] = &["instance", "delay", "phases", "period", "deadline"];
/// The largest length of a thread's name in bytes.
const MAX_COMM: usize = crate::workload::MAX_COMM;

/// A task of the file, with its events as actions.
pub(super) struct Task {
    name: String,
    pub(super) line: usize,
    pub(super) path: String,
    pub(super) instances: u32,
    /// The path of the task group without the leading `/`; empty if the task has no group.
    pub(super) group: String,
    sched: Sched,
    cpus: Option<BTreeSet<usize>>,
    nodes: Option<BTreeSet<usize>>,
    delay: Duration,
    phases: Vec<RtPhase>,
    repeat: u64,
    inherits: bool,
}

/// Reads all tasks except those with 0 instances, which rt-app does not start.
pub(super) fn read_all(
    node: &Node,
    global: &Global,
    notes: &mut Vec<RtAppNote>,
) -> Result<Vec<Task>, TextError> {
    let mut all = Vec::new();
    for (name, node) in Object::of(node)?.entries() {
        let task = read(name, node, global, notes)?;
        match task.instances {
            0 => notes.push(note(node, "the task has 0 instances, so it is not started")),
            _ => all.push(task),
        }
    }
    match all.is_empty() {
        true => Err(node.error("there is no task with an instance, so nothing would run: add one")),
        false => Ok(all),
    }
}

fn read(
    name: &str,
    node: &Node,
    global: &Global,
    notes: &mut Vec<RtAppNote>,
) -> Result<Task, TextError> {
    let object = Object::of(node)?;
    no_clamps(&object)?;
    let sched = sched::read(&object, global.class, true, notes)?;
    let phases_node = object.get("phases")?;
    let instances = match object.integer("instance")? {
        None => 1,
        Some((number, node)) => {
            let number = u32::try_from(number).ok().filter(|number| *number <= 4096);
            number.ok_or_else(|| node.expected("a whole number from 0 to 4096"))?
        }
    };
    let mut task = Task {
        name: name.to_owned(),
        line: node.line,
        path: node.path.clone(),
        instances,
        group: String::new(),
        cpus: sched::cpus(&object)?,
        nodes: object.get("nodes_membind")?.map(numbers).transpose()?,
        delay: object
            .micros("delay")?
            .map_or(Duration::ZERO, |(delay, _)| delay),
        phases: Vec::new(),
        repeat: 0,
        inherits: global.inherits,
        sched,
    };
    let mut groups = Vec::from_iter(group(&object, &task.sched)?);
    let looped = repeat(&object)?;
    old_keys(&object, &task.sched, phases_node.is_some(), notes)?;
    match phases_node {
        None => {
            // The events of the task form its only phase, which `loop` repeats. Without `loop`, the phase is
            // repeated without end.
            task.repeat = u64::from(looped.is_some());
            let skip_runtime = is_budget(&object, &task.sched)?;
            let actions = actions(&object, name, OF_TASK, skip_runtime, notes)?;
            task.phases.push(RtPhase {
                repeat: looped.unwrap_or(1),
                actions,
            });
        }
        Some(phases) => {
            task.repeat = looped.unwrap_or(0);
            refuse_events(&object)?;
            let phases = Object::of(phases)?;
            for (_, node) in phases.entries() {
                let phase = Object::of(node)?;
                no_clamps(&phase)?;
                if let Some(node) = phase.get("nodes_membind")? {
                    return Err(node.error("ktstr cannot change the memory policy of a thread that runs: move the key to the task"));
                }
                groups.extend(group(&phase, &task.sched)?);
                task.phases.push(read_phase(&phase, &task, notes)?);
            }
            if task.phases.is_empty() {
                return Err(phases.node.error(
                    "there is no phase: a task needs at least one, with at least one event",
                ));
            }
            set_cpus_of_phases(&mut task, &phases)?;
        }
    }
    task.group = one_group(groups)?;
    if let (Some(slice), Some(first)) = (task.sched.slice, task.phases.first_mut()) {
        first.actions.insert(0, RtAction::Slice(slice));
    }
    Ok(task)
}

/// Returns an error if the object has a key that clamps the utilization of its thread.
fn no_clamps(object: &Object<'_>) -> Result<(), TextError> {
    for key in ["util_min", "util_max"] {
        if let Some(node) = object.get(key)? {
            return Err(node.error(
                "ktstr does not clamp the utilization of a thread: leave the key out, or clamp the utilization of a cgroup with \
                 the operations set_uclamp_min and set_uclamp_max",
            ));
        }
    }
    Ok(())
}

/// Reads `loop`: returns how often the phase, or the task with all of its phases, is repeated. 0 means without end; `None` if
/// there is no `loop`.
fn repeat(object: &Object<'_>) -> Result<Option<u64>, TextError> {
    let Some((number, node)) = object.integer("loop")? else {
        return Ok(None);
    };
    match number {
        -1 => Ok(Some(0)),
        number => match u64::try_from(number) {
            Ok(number) if number > 0 => Ok(Some(number)),
            _ => Err(node.expected("a number of repetitions, at least 1, or -1 for no end")),
        },
    }
}

/// Returns the task group that an object names, without slashes at its ends, and the node that names it; `None` if the
/// object names none.
fn group<'a>(object: &Object<'a>, sched: &Sched) -> Result<Option<(String, &'a Node)>, TextError> {
    let Some((path, node)) = object.word("taskgroup")? else {
        return Ok(None);
    };
    if path.is_empty() {
        return Ok(None);
    }
    let Some(below) = path.strip_prefix('/') else {
        return Err(node.expected("a path that begins with \"/\", such as \"/tg1\""));
    };
    if !sched.class.is_fair() {
        return Err(node.error(
            "only a task under SCHED_OTHER, SCHED_BATCH or SCHED_IDLE can have a task group",
        ));
    }
    Ok(Some((below.trim_matches('/').to_owned(), node)))
}

/// Returns the task group of a task, empty if there is none. The task and its phases together may name only one.
fn one_group(groups: Vec<(String, &Node)>) -> Result<String, TextError> {
    let first = groups
        .first()
        .map_or(String::new(), |(group, _)| group.clone());
    match groups.into_iter().find(|(group, _)| *group != first) {
        None => Ok(first),
        Some((group, node)) => Err(node.error(format!(
            "the thread would move from task group \"/{first}\" to \"/{group}\", but ktstr cannot move a single thread: split the \
             task into one task for each group"
        ))),
    }
}

/// Adds notes on the keys by which old files give the budget of `SCHED_DEADLINE`, if they have no effect or could be taken
/// for an event.
fn old_keys(
    object: &Object<'_>,
    sched: &Sched,
    has_phases: bool,
    notes: &mut Vec<RtAppNote>,
) -> Result<(), TextError> {
    let mut without = vec!["period", "deadline"];
    if has_phases {
        without.push("runtime");
    }
    for key in without {
        if let (false, Some(node)) = (sched.class == Class::Deadline, object.get(key)?) {
            notes.push(note(
                node,
                "it has no effect: only tasks under SCHED_DEADLINE have it",
            ));
        }
    }
    if let (false, true, Some(node)) = (
        has_phases,
        is_budget(object, sched)?,
        object.get("runtime")?,
    ) {
        notes.push(note(
            node,
            "`runtime` is taken as the budget of SCHED_DEADLINE, not as an event: if it is meant as an event, give the budget as \
             dl-runtime",
        ));
    }
    Ok(())
}

/// Returns whether the key `runtime` of a task is the budget of `SCHED_DEADLINE`, and not an event.
fn is_budget(object: &Object<'_>, sched: &Sched) -> Result<bool, TextError> {
    let new = object.micros("dl-runtime")?;
    Ok(sched.class == Class::Deadline && new.is_none_or(|(time, _)| time.is_zero()))
}

/// Returns an error if a task with phases also has events, because these events would never be executed.
fn refuse_events(object: &Object<'_>) -> Result<(), TextError> {
    for (key, node) in object.entries() {
        if is_known(key, OF_TASK) || key == "runtime" {
            continue;
        }
        return Err(match events::names().any(|name| key.starts_with(name)) {
            true => node.error(
                "the task has phases, so this event would never be executed: put it into one of them",
            ),
            false => not_known(key, node, OF_TASK),
        });
    }
    Ok(())
}

fn is_known(key: &str, more: &[&str]) -> bool {
    [OF_BOTH, sched::KEYS, more]
        .iter()
        .any(|keys| keys.contains(&key))
}

fn not_known(key: &str, node: &Node, more: &[&'static str]) -> TextError {
    let keys = [OF_BOTH, sched::KEYS, more].concat();
    let known: Vec<&str> = keys.into_iter().chain(events::names()).collect();
    unknown("key", key, node, &known)
}

/// Returns the actions of the events of an object, in the order of the file.
fn actions(
    object: &Object<'_>,
    task: &str,
    more: &[&'static str],
    skip_runtime: bool,
    notes: &mut Vec<RtAppNote>,
) -> Result<Vec<RtAction>, TextError> {
    let mut place = Place { task, notes };
    let mut all = Vec::new();
    for (key, node) in object.entries() {
        if is_known(key, more) || (skip_runtime && key == "runtime") {
            continue;
        }
        match events::read(&mut place, key, node) {
            Some(actions) => all.extend(actions?),
            None => return Err(not_known(key, node, more)),
        }
    }
    match all.is_empty() {
        true => Err(object
            .node
            .error("there is no event here: a phase needs at least one")),
        false => Ok(all),
    }
}

fn read_phase(
    phase: &Object<'_>,
    task: &Task,
    notes: &mut Vec<RtAppNote>,
) -> Result<RtPhase, TextError> {
    let mut all = sched::changes(phase, &task.sched, notes)?;
    all.extend(actions(phase, &task.name, &[], false, notes)?);
    Ok(RtPhase {
        repeat: repeat(phase)?.unwrap_or(1),
        actions: all,
    })
}

/// If any phase names CPUs, makes each phase begin with an action that sets the affinity to the CPUs of the phase. For a phase
/// that names none, the action has the empty set, which restores the task's CPUs.
fn set_cpus_of_phases(task: &mut Task, phases: &Object<'_>) -> Result<(), TextError> {
    let mut own = Vec::new();
    for (_, node) in phases.entries() {
        own.push(sched::cpus(&Object::of(node)?)?);
    }
    if own.iter().any(Option::is_some) {
        for (phase, cpus) in task.phases.iter_mut().zip(own) {
            phase
                .actions
                .insert(0, RtAction::Cpus(cpus.unwrap_or_default()));
        }
    }
    Ok(())
}

impl Task {
    pub(super) fn actions(&self) -> impl Iterator<Item = &RtAction> {
        self.phases.iter().flat_map(|phase| &phase.actions)
    }

    pub(super) fn actions_mut(&mut self) -> impl Iterator<Item = &mut RtAction> {
        self.phases.iter_mut().flat_map(|phase| &mut phase.actions)
    }

    /// Returns the number of CPUs that a machine must have so that all CPUs that the task names exist.
    pub(super) fn cpus(&self) -> usize {
        let of_phases = self.actions().filter_map(|action| match action {
            RtAction::Cpus(cpus) => cpus.last(),
            _ => None,
        });
        let of_task = self.cpus.iter().filter_map(BTreeSet::last);
        of_phases.chain(of_task).max().map_or(1, |last| last + 1)
    }

    /// Turns the task into a group of workers.
    pub(super) fn work(self) -> WorkSpec {
        let mut end = self.name.len().min(MAX_COMM);
        while !self.name.is_char_boundary(end) {
            end -= 1;
        }
        let comm = match &self.name[..end] {
            "" => "rt-app",
            name => name,
        };
        let mut work = WorkSpec::new(WorkType::rt_app(
            self.phases,
            self.repeat,
            self.delay,
            self.inherits,
        ));
        work.num_workers = Some(self.instances as usize);
        work.comm = Some(comm.to_owned());
        work.sched_policy = self.sched.policy;
        work.nice = self.sched.nice;
        work.affinity = self
            .cpus
            .map_or(AffinityIntent::Inherit, AffinityIntent::Exact);
        work.mem_policy = self.nodes.map_or(MemPolicy::Default, MemPolicy::bind);
        work
    }
}
