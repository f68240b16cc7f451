//! The programs, schedulers and custom work types to which a text refers by name. They are declared elsewhere, in the same file
//! or in the test.

use super::node::{Node, TextError};
use super::suggest::instead;
use crate::payload::Payload;
use crate::scheduler::Scheduler;
use crate::workload::WorkType;

/// The table of things that a text may name. In a file, these are the programs and schedulers that the file declares; in a text
/// within a test, those that the test passes in.
#[derive(Clone, Debug, Default)]
pub struct Names {
    payloads: Vec<&'static Payload>,
    schedulers: Vec<&'static Scheduler>,
    /// The work types that were added; only custom ones are found.
    works: Vec<WorkType>,
}

impl Names {
    /// Creates an empty table, for texts that refer to no program, scheduler or custom work type.
    pub const fn new() -> Self {
        Self {
            payloads: Vec::new(),
            schedulers: Vec::new(),
            works: Vec::new(),
        }
    }

    /// Adds a program of the host, which operations can start by its name. The test must declare it as its `payload` or
    /// among its `workloads`.
    pub fn payload(mut self, payload: &'static Payload) -> Self {
        self.payloads.push(payload);
        self
    }

    /// Adds a scheduler, which operations can start by its name. The rules of
    /// [`Op::AttachScheduler`](crate::ops::Op::AttachScheduler) determine which schedulers are allowed.
    pub fn scheduler(mut self, scheduler: &'static Scheduler) -> Self {
        self.schedulers.push(scheduler);
        self
    }

    /// Adds a custom work type ([`WorkType::Custom`]), which a text names as `work_type = { custom = "its name" }`. Any other
    /// work type is ignored.
    pub fn work(mut self, work: WorkType) -> Self {
        self.works.push(work);
        self
    }

    pub(crate) fn find_payload(&self, node: &Node) -> Result<&'static Payload, TextError> {
        let known: Vec<_> = self.payloads.iter().map(|one| (one.name, *one)).collect();
        find(node, "program", "[[payload]]", &known)
    }

    pub(crate) fn find_scheduler(&self, node: &Node) -> Result<&'static Scheduler, TextError> {
        let known: Vec<_> = self.schedulers.iter().map(|one| (one.name, *one)).collect();
        find(node, "scheduler", "[[staged_scheduler]]", &known)
    }

    pub(crate) fn find_work(&self, node: &Node) -> Result<WorkType, TextError> {
        let known: Vec<_> = (self.works.iter())
            .filter_map(|work| match work {
                WorkType::Custom { name, .. } => Some((name.as_str(), work)),
                _ => None,
            })
            .collect();
        let how = "a custom work type, which the test passes with `Names::work`";
        find(node, "work type of the test", how, &known).cloned()
    }
}

/// Returns the thing of `known` that the name at `node` stands for. The error message uses `what`, the kind of the thing,
/// and `how`, a description of how to declare it.
fn find<T: Copy>(node: &Node, what: &str, how: &str, known: &[(&str, T)]) -> Result<T, TextError> {
    let super::Value::Text(name) = &node.value else {
        return Err(node.expected(&format!("the name of a {what}")));
    };
    let found = known.iter().find(|(one, _)| one == name);
    found.map(|(_, thing)| *thing).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        node.error(match names.as_slice() {
            [] => format!("there is no {what} {name:?}: declare it, with {how}"),
            names => format!("there is no {what} {name:?}: {}", instead(name, names)),
        })
    })
}
