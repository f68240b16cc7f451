//! Reads the policies, priorities, budgets and affinities of tasks and phases.

use std::time::Duration;

use super::object::{Object, numbers, unknown};
use super::{RtAppNote, note};
use crate::text::{Node, TextError};
use crate::workload::{RtAction, SchedPolicy};

/// The keys of tasks and phases that determine how a thread is scheduled.
pub(super) const KEYS: &[&str] = &[
    "policy",
    "priority",
    "dl-runtime",
    "dl-period",
    "dl-deadline",
    "cpus",
];

/// The names that files use for the policies.
const POLICIES: &[(&str, Class)] = &[
    ("SCHED_OTHER", Class::Other),
    ("SCHED_BATCH", Class::Batch),
    ("SCHED_IDLE", Class::Idle),
    ("SCHED_RR", Class::RoundRobin),
    ("SCHED_FIFO", Class::Fifo),
    ("SCHED_DEADLINE", Class::Deadline),
];

/// A policy without its priority or its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Other,
    Batch,
    Idle,
    RoundRobin,
    Fifo,
    Deadline,
}

impl Class {
    pub(super) fn of(word: &str, node: &Node) -> Result<Self, TextError> {
        let found = POLICIES.iter().find(|(name, _)| *name == word);
        let words: Vec<&str> = POLICIES.iter().map(|(name, _)| *name).collect();
        found
            .map(|(_, class)| *class)
            .ok_or_else(|| unknown("policy", word, node, &words))
    }

    /// Returns whether tasks with this policy have nice values.
    pub(super) fn is_fair(self) -> bool {
        matches!(self, Self::Other | Self::Batch | Self::Idle)
    }
}

/// How a thread is to be scheduled.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sched {
    pub(super) class: Class,
    pub(super) policy: SchedPolicy,
    /// The nice value, if the policy has one and the file gives it.
    pub(super) nice: Option<i32>,
    /// The slice, if the policy has one and the file gives it.
    pub(super) slice: Option<Duration>,
}

/// Reads how a task or a phase is scheduled. If it names no policy, it has the policy `class`. `legacy` allows the keys by which
/// old files give the budget of `SCHED_DEADLINE`; only tasks have these keys.
pub(super) fn read(
    object: &Object<'_>,
    class: Class,
    legacy: bool,
    notes: &mut Vec<RtAppNote>,
) -> Result<Sched, TextError> {
    let class = match object.word("policy")? {
        Some((word, node)) => Class::of(word, node)?,
        None => class,
    };
    let priority = object.integer("priority")?;
    let within = |least: i32, most: i32| match priority {
        None => Ok(None),
        Some((number, node)) => match i32::try_from(number) {
            Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
            _ => Err(node.expected(&format!(
                "a priority from {least} to {most} under this policy"
            ))),
        },
    };
    let budget = budget(object, legacy && class == Class::Deadline)?;
    let nice = match class.is_fair() {
        true => within(-20, 19)?,
        false => None,
    };
    // rt-app's default real-time priority is 10.
    let realtime = || Ok::<_, TextError>(within(1, 99)?.unwrap_or(10).unsigned_abs());
    let policy = match class {
        Class::Other => SchedPolicy::Normal,
        Class::Batch => SchedPolicy::Batch,
        Class::Idle => SchedPolicy::Idle,
        Class::Fifo => SchedPolicy::Fifo(realtime()?),
        Class::RoundRobin => SchedPolicy::RoundRobin(realtime()?),
        Class::Deadline => {
            if let Some((number, node)) = priority
                && number != 0
            {
                return Err(node.expected("0 or no priority: SCHED_DEADLINE has none"));
            }
            deadline(object, &budget)?
        }
    };
    let mut slice = None;
    for (key, (time, node)) in ["dl-runtime", "dl-period", "dl-deadline"]
        .iter()
        .zip(budget)
    {
        let Some(node) = node.filter(|_| class != Class::Deadline) else {
            continue;
        };
        match (*key, class) {
            ("dl-runtime", Class::Other | Class::Batch) => {
                slice = Some(time).filter(|time| !time.is_zero())
            }
            _ => notes.push(note(
                node,
                "it has no effect: only SCHED_DEADLINE has this budget",
            )),
        }
    }
    Ok(Sched {
        class,
        policy,
        nice,
        slice,
    })
}

/// The runtime, the period and the deadline, each with the node of its key; 0 and no node if the key is missing.
type Budget<'a> = [(Duration, Option<&'a Node>); 3];

fn budget<'a>(object: &Object<'a>, legacy: bool) -> Result<Budget<'a>, TextError> {
    let given = |key: &str, old: &str| {
        let mut found = object.micros(key)?;
        if legacy && found.is_none_or(|(time, _)| time.is_zero()) {
            found = object.micros(old)?.or(found);
        }
        let (time, node) = found.map_or((Duration::ZERO, None), |(time, node)| (time, Some(node)));
        Ok::<_, TextError>((time, node))
    };
    Ok([
        given("dl-runtime", "runtime")?,
        given("dl-period", "period")?,
        given("dl-deadline", "deadline")?,
    ])
}

/// Returns `SCHED_DEADLINE` with this budget. As in rt-app, a missing period equals the runtime, and a missing
/// deadline equals the period.
fn deadline(object: &Object<'_>, budget: &Budget<'_>) -> Result<SchedPolicy, TextError> {
    let [(runtime, at), (period, _), (deadline, _)] = *budget;
    let or = |time: Duration, other: Duration| if time.is_zero() { other } else { time };
    let period = or(period, runtime);
    let policy = SchedPolicy::Deadline {
        runtime,
        deadline: or(deadline, period),
        period,
    };
    let place = at.unwrap_or(object.node);
    policy
        .validate()
        .map_err(|error| place.error(error.to_string()))?;
    Ok(policy)
}

/// Returns the actions by which a phase changes how its thread is scheduled. `of_task` is how the task of the phase is scheduled.
pub(super) fn changes(
    object: &Object<'_>,
    of_task: &Sched,
    notes: &mut Vec<RtAppNote>,
) -> Result<Vec<RtAction>, TextError> {
    let mut actions = Vec::new();
    let given = |key: &str| Ok::<_, TextError>(object.get(key)?.is_some());
    let budget = given("dl-runtime")? || given("dl-period")? || given("dl-deadline")?;
    let policy = given("policy")?;
    if policy || budget {
        let sched = read(object, of_task.class, false, notes)?;
        if policy || sched.class == Class::Deadline {
            actions.push(RtAction::Policy(sched.policy));
        }
        if policy && sched.class.is_fair() {
            actions.push(RtAction::Priority(sched.nice.unwrap_or(0)));
        }
        actions.extend(sched.slice.map(RtAction::Slice));
    }
    if let (false, Some((number, node))) = (policy, object.integer("priority")?) {
        // An earlier phase may have changed the policy, so the priorities of all policies are accepted.
        let priority = i32::try_from(number)
            .ok()
            .filter(|n| (-20..=99).contains(n));
        let priority = priority.ok_or_else(|| node.expected("a priority from -20 to 99"))?;
        actions.push(RtAction::Priority(priority));
    }
    Ok(actions)
}

/// Returns the CPUs that an object names; `None` if it names none.
pub(super) fn cpus(
    object: &Object<'_>,
) -> Result<Option<std::collections::BTreeSet<usize>>, TextError> {
    object.get("cpus")?.map(numbers).transpose()
}
