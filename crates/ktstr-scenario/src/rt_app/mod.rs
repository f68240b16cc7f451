//! Workloads that people publish for rt-app (<https://github.com/scheduler-tools/rt-app>), as scenarios.
//!
//! The format is that of `doc/tutorial.txt` there, and what its parser takes beyond it. A file is nearly JSON: `global`, `tasks`
//! and, in old files, `resources`. Each task becomes a group of workers of the work type
//! [`RtApp`](crate::workload::WorkType::RtApp); all tasks of one task group are threads of one process in one cgroup.
//!
//! Nothing is dropped silently: what cannot be done is an error with its line, what has no meaning in a machine of ktstr is a note
//! with its line.
//!
//! | File | Holds |
//! |---|---|
//! | `json.rs` | nearly JSON, as a tree with lines |
//! | `object.rs` | the keys of an object, numbers, times and words |
//! | `events.rs` | the table of events: what each becomes |
//! | `sched.rs` | policies, priorities, affinities |
//! | `task.rs` | tasks and phases |
//! | `global.rs` | the table of global keys |
//! | `groups.rs` | task groups as cgroups |

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

/// What a file for rt-app says.
#[derive(Clone, Debug, PartialEq)]
pub struct RtAppFile {
    /// The tasks as workers, which live for the whole scenario, and one step.
    pub scenario: Scenario,
    /// For how long rt-app runs the tasks. `None` where the file sets no end.
    pub duration: Option<Duration>,
    /// The number of CPUs that a machine needs for all CPUs that the file names; at least 1.
    pub cpus: usize,
    /// What the file says without effect here, in the order of its lines.
    pub notes: Vec<RtAppNote>,
}

/// Something that a file says and that has no effect, or another one than in rt-app.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RtAppNote {
    /// The line, from 1.
    pub line: usize,
    /// The keys down to the place, as `global.calibration`.
    pub key: String,
    /// Why it has none.
    pub message: String,
}

impl std::fmt::Display for RtAppNote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}, `{}`: {}", self.line, self.key, self.message)
    }
}

impl Scenario {
    /// Reads a workload file for rt-app. Comments, repeated keys, commas before a bracket and keys without a value are read as
    /// people mean them.
    ///
    /// `run` is CPU time, whatever the CPU is worth, so a calibration has no meaning. What else has none is told in
    /// [`RtAppFile::notes`].
    ///
    /// # Errors
    /// [`TextError`] with the line for what is not nearly JSON, for keys and values that rt-app does not have, and for events that
    /// ktstr cannot do: `fork`, `mem`, `memrun`, `iorun`.
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
            let why = "locks, conditions and timers need no declaration: they are made where an event names them";
            notes.push(note(resources, why));
        }
        let tasks = root.get("tasks")?.ok_or_else(|| TextError {
            line: 1,
            key: "tasks".to_owned(),
            message: "there are no tasks: a file for rt-app has an object \"tasks\"".to_owned(),
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

/// A note about what stands at a node.
fn note(node: &crate::text::Node, message: impl Into<String>) -> RtAppNote {
    RtAppNote {
        line: node.line,
        key: node.path.clone(),
        message: message.into(),
    }
}
