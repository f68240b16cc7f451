//! The times that findings are about. The HTML page of a run marks the findings at these times, and the repeat of a run
//! takes captures at them.
//!
//! A finding about a certain time has this time in its data. Any other finding is about a step or about the whole run. The
//! times of an [`Aim`] are those of the schedule's clock, which is the kernel's scheduler clock.

use ktstr_record::FindingRecord;
use ktstr_schedule::query::Timeline;
use serde_json::Value;

/// The interval that a finding is about, and its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Aim {
    /// The start of the interval, in nanoseconds of the schedule's clock.
    pub from_ns: u64,
    /// The end of the interval, in nanoseconds of the schedule's clock.
    pub to_ns: u64,
    /// The pid of the task that the finding is about; `None` if it names no task.
    pub pid: Option<u32>,
    /// Whether the interval comes from the finding's data. Otherwise it is the hold of the finding's step or, for a finding
    /// without a step, the time from the start of the first hold to the end of the last one.
    pub exact: bool,
}

impl Aim {
    /// Returns what `finding` is about in a schedule with this `timeline`.
    pub fn of(finding: &FindingRecord, timeline: &Timeline) -> Self {
        let data = finding
            .data
            .as_object()
            .and_then(|data| data.values().next());
        let data = data.unwrap_or(&Value::Null);
        let phase = finding.phase.as_deref();
        let held = timeline
            .held
            .iter()
            .find(|held| phase == Some(&*step(held.number)));
        let around = match held {
            Some(held) => (held.from_ns, held.to_ns),
            None => (timeline.zero_ns(), timeline.steps_end_ns()),
        };
        let moment = moment(data, timeline, around.0);
        let moment = moment.filter(|(from, _)| *from <= timeline.to_ns());
        let (from_ns, to_ns) = moment.unwrap_or(around);
        let tid = data.get("tid").and_then(Value::as_u64);
        let tid = tid.and_then(|tid| u32::try_from(tid).ok());
        let named = || {
            // In a finding about a share, `who` is either a task, written `comm[pid]`, or a cgroup, written `cgroup NAME`.
            let who = data.get("who").and_then(Value::as_str);
            let who = who.filter(|who| !who.starts_with("cgroup "));
            let task = data
                .get("task")
                .or_else(|| data.pointer("/cause/stall/task"));
            pid_of(task.and_then(Value::as_str).or(who)?)
        };
        Self {
            from_ns,
            to_ns: to_ns.min(timeline.to_ns()),
            pid: tid.or_else(named),
            exact: moment.is_some(),
        }
    }
}

/// Returns the interval in the data of a finding; `None` if the data has none. The times that a worker reports (`at_ms`) count
/// from `released`, the time at which the worker was released, which is the start of its step's hold. The clock of the monitor's
/// times (`until_ms`) starts with the first hold and pauses between two holds. All other times count from the start of the
/// first hold. For a
/// stall that sched_ext reported, the interval ends when a scheduler was unloaded. If several were unloaded within the steps, the
/// last unload counts, because an earlier one may be part of a restart by the test. If none was, the first unload after the steps
/// counts.
fn moment(data: &Value, timeline: &Timeline, released: u64) -> Option<(u64, u64)> {
    let zero = timeline.zero_ns();
    let ms = |name: &str| {
        data.get(name)
            .and_then(Value::as_u64)
            .map(|ms| ms.saturating_mul(1_000_000))
    };
    let ejected = || {
        let stall = data.pointer("/cause/stall")?;
        let after = || timeline.unloaded_ns.iter().filter(|at| **at >= zero);
        let in_steps = after().filter(|at| **at <= timeline.steps_end_ns());
        let to = in_steps.max().or_else(|| after().min())?;
        let seconds = stall.get("seconds").and_then(Value::as_f64).unwrap_or(0.0);
        // The kernel's message has the length of the stall in seconds, with three decimals.
        let waited = (seconds.clamp(0.0, 1e6) * 1e9) as u64;
        Some((to.saturating_sub(waited), *to))
    };
    match (
        ms("from_ms"),
        ms("waited_ms"),
        ms("at_ms"),
        ms("gap_ms"),
        ms("until_ms"),
    ) {
        (Some(from), Some(waited), ..) => {
            let from = zero.saturating_add(from);
            Some((from, from.saturating_add(waited)))
        }
        (_, _, Some(at), Some(gap), _) => {
            let to = released.saturating_add(at);
            Some((to.saturating_sub(gap), to))
        }
        (.., Some(until)) => {
            let to = in_holds(timeline, until);
            Some((to, to))
        }
        _ => ejected(),
    }
}

/// Returns the time, in nanoseconds of the schedule's clock, at which the steps had been held for `left` nanoseconds. The
/// time between two holds, in which cgroups are set up and removed, does not count.
fn in_holds(timeline: &Timeline, mut left: u64) -> u64 {
    for held in &timeline.held {
        let length = held.to_ns.saturating_sub(held.from_ns);
        if left <= length {
            return held.from_ns.saturating_add(left);
        }
        left -= length;
    }
    let end = timeline
        .held
        .last()
        .map_or(timeline.zero_ns(), |held| held.to_ns);
    end.saturating_add(left)
}

/// Returns the name that findings and reports use for a step, `Step[0]` for the first. `number` is the step's number in the
/// schedule, which starts at 1.
pub fn step(number: u16) -> String {
    format!("Step[{}]", number.saturating_sub(1))
}

/// Returns the pid in `comm[pid]`; `None` if the text does not have this form.
pub(in crate::run) fn pid_of(task: &str) -> Option<u32> {
    let (_, rest) = task.rsplit_once('[')?;
    rest.trim_end_matches(']').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ktstr_schedule::query::Held;
    use serde_json::json;

    /// Returns what a finding with this data is about, in a schedule with two steps, held from 10 to 50 ms and from 60 to 90
    /// ms, in which the scheduler was unloaded at the times `unloaded_ms`.
    fn aim(data: Value, unloaded_ms: &[u64]) -> Aim {
        let held = |number, from: u64, to: u64| Held {
            number,
            from_ns: from * 1_000_000,
            to_ns: to * 1_000_000,
        };
        let timeline = Timeline {
            held: vec![held(1, 10, 50), held(2, 60, 90)],
            unloaded_ns: unloaded_ms.iter().map(|ms| ms * 1_000_000).collect(),
            ends_ns: Some((1_000_000, 100_000_000)),
        };
        let finding = FindingRecord {
            data,
            ..FindingRecord::default()
        };
        Aim::of(&finding, &timeline)
    }

    #[test]
    fn the_monitors_times_count_the_holds_alone() {
        let at = |until: u64| aim(json!({ "sustained": { "until_ms": until } }), &[]).to_ns;
        assert_eq!(at(40), 50_000_000);
        assert_eq!(at(45), 65_000_000);
    }

    #[test]
    fn an_ejection_is_the_last_unload_in_the_steps() {
        let stall =
            json!({ "ejected": { "cause": { "stall": { "task": "w[7]", "seconds": 0.01 } } } });
        // The first unload is that of a restart by the test, and the last one that of the test's end.
        let ejected = aim(stall.clone(), &[20, 80, 95]);
        assert_eq!((ejected.to_ns, ejected.pid), (80_000_000, Some(7)));
        assert_eq!(aim(stall, &[95]).to_ns, 95_000_000);
    }

    #[test]
    fn a_share_is_that_of_a_task_or_of_a_cgroup() {
        let of = |who: &str| aim(json!({ "underserved": { "who": who } }), &[]).pid;
        assert_eq!(of("victim[7]"), Some(7));
        assert_eq!(of("cgroup a[7]"), None);
    }
}
