//! Reads workload files of rt-app (<https://github.com/scheduler-tools/rt-app>) as scenarios.
//!
//! The format is the one that rt-app's `doc/tutorial.txt` describes, with the extensions that rt-app's parser accepts. A file is
//! almost JSON: an object with the keys `global`, `tasks` and, in old files, `resources`. Each task becomes a group of workers of
//! the work type [`RtApp`](crate::workload::WorkType::RtApp). All tasks with the same
//! `taskgroup` become threads of one process in one cgroup; the tasks without a `taskgroup` share another cgroup.
//!
//! Nothing is dropped silently: a key that ktstr does not support is an error, and a key that has no effect in ktstr's machines
//! leads to a note ([`RtAppNote`]). Errors and notes have the line of the key.
//!
//! | File | Holds |
//! |---|---|
//! | `json.rs` | the parser, which makes a tree of nodes with their lines |
//! | `object.rs` | access to the keys of an object, and to numbers, times and words |
//! | `events.rs` | the table of events, with the actions that each becomes |
//! | `sched.rs` | policies, priorities, affinities |
//! | `task.rs` | tasks and phases |
//! | `global.rs` | the keys of `global`, with the table of those that have no effect |
//! | `groups.rs` | the cgroups of the task groups |

mod events;
mod global;
mod groups;
mod json;
mod object;
mod sched;
mod task;

use std::time::Duration;

use crate::ops::{Backdrop, Step};
use crate::text::{Scenario, TextError};
use object::Object;

/// A workload file of rt-app, read as a scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct RtAppFile {
    /// The tasks as workers of the backdrop, which run for the whole scenario, and one empty step.
    pub scenario: Scenario,
    /// How long rt-app would run the tasks. `None` if the file sets no end.
    pub duration: Option<Duration>,
    /// The number of CPUs that a machine must have so that all CPUs that the file names exist; at least 1.
    pub cpus: usize,
    /// The notes on keys that have no effect, or another effect than in rt-app, in the order of their lines.
    pub notes: Vec<RtAppNote>,
}

/// A note on a key of a file that has no effect, or another effect than in rt-app.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RtAppNote {
    /// The line number of the key, from 1.
    pub line: usize,
    /// The keys from the outermost object down to this one, joined by dots, such as `global.calibration`.
    pub key: String,
    /// Why the key has no effect, or which other effect it has.
    pub message: String,
}

impl std::fmt::Display for RtAppNote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}, `{}`: {}", self.line, self.key, self.message)
    }
}

impl Scenario {
    /// Reads the text of a workload file of rt-app. It may have comments, repeated keys, commas before a closing bracket, and
    /// keys without a value, because published files have these.
    ///
    /// `run` is an amount of CPU time, however fast the CPU is, so the file's calibration has no effect. [`RtAppFile::notes`]
    /// lists the keys that have no effect here, or a different one. A key whose value only turns its own feature off is not
    /// listed.
    ///
    /// # Errors
    /// Returns a [`TextError`] with the line if the text cannot be parsed, if it has a key or a value that rt-app does not have,
    /// or if it uses a feature that ktstr does not support, such as the events `fork`, `mem`, `memrun` and `iorun`.
    ///
    /// ```
    /// use ktstr_scenario::text::Scenario;
    ///
    /// let file = Scenario::from_rt_app(
    ///     r#"{
    ///     /* a fifth of a CPU */
    ///     "tasks" : {
    ///         "light" : { "instance" : 2, "loop" : -1, "run" : 20000, "sleep" : 80000, }
    ///     },
    ///     "global" : { "duration" : 2, "calibration" : "CPU0" }
    ///     }"#,
    /// )?;
    /// let group = &file.scenario.backdrop.cgroups[0].works[0];
    /// assert_eq!((group.comm.as_deref(), group.num_workers), (Some("light"), Some(2)));
    /// assert_eq!(file.notes[0].to_string().split(": ").next(), Some("line 6, `global.calibration`"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_rt_app(text: &str) -> Result<RtAppFile, TextError> {
        let root = json::read(text)?;
        let root = Object::of(&root)?;
        root.only(&["global", "tasks", "resources"])?;
        let mut notes = Vec::new();
        let global = global::read(root.get("global")?, &mut notes)?;
        if let Some(resources) = root.get("resources")? {
            let why = "it has no effect: each lock, condition or timer is created by the events that use its name";
            notes.push(note(resources, why));
        }
        let tasks = root.get("tasks")?.ok_or_else(|| TextError {
            line: 1,
            key: "tasks".to_owned(),
            message: "there are no tasks: a workload file of rt-app needs an object \"tasks\""
                .to_owned(),
        })?;
        let mut all = task::read_all(tasks, &global, &mut notes)?;
        events::settle(&mut all);
        let cpus = all.iter().map(task::Task::cpus).max().unwrap_or(1);
        let cgroups = groups::cgroups(all)?;
        notes.sort();
        Ok(RtAppFile {
            scenario: Scenario {
                backdrop: Backdrop {
                    cgroups,
                    ..Backdrop::default()
                },
                steps: vec![Step::default()],
            },
            duration: global.duration,
            cpus,
            notes,
        })
    }
}

/// Creates a note on the key of a node.
fn note(node: &crate::text::Node, message: impl Into<String>) -> RtAppNote {
    RtAppNote {
        line: node.line,
        key: node.path.clone(),
        message: message.into(),
    }
}
