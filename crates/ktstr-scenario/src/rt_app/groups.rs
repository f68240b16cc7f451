//! Task groups as cgroups: each has the tasks that name it, and one more has those that name none.

use std::collections::BTreeMap;

use super::task::Task;
use crate::ops::CgroupDef;
use crate::text::TextError;

/// The name of the process whose threads the tasks are, and of the cgroup of those without a task group.
const PROCESS: &str = "rt-app";
/// The kernel's usual weight. Writing it turns the CPU controller on, which makes a group of a cgroup.
const WEIGHT: u32 = 100;

/// The cgroups with the tasks as their workers.
pub(super) fn cgroups(tasks: Vec<Task>) -> Result<Vec<CgroupDef>, TextError> {
    let mut groups: BTreeMap<String, Vec<Task>> = BTreeMap::new();
    for task in tasks {
        groups.entry(task.group.clone()).or_default().push(task);
    }
    let below = |name: &str, above: &str| {
        let rest = name.strip_prefix(above);
        !above.is_empty() && rest.is_some_and(|rest| rest.starts_with('/'))
    };
    for (name, tasks) in &groups {
        let above = groups.keys().find(|above| below(name, above));
        if let (Some(above), Some(task)) = (above, tasks.first()) {
            return Err(TextError {
                line: task.line,
                key: task.path.clone(),
                message: format!(
                    "its task group \"/{name}\" is below \"/{above}\", which has tasks, too: in cgroup v2 only the lowest groups \
                     have tasks. Put those of \"/{above}\" into a group of their own below it"
                ),
            });
        }
    }
    let has_groups = groups.keys().any(|name| !name.is_empty());
    let taken = groups.contains_key(PROCESS);
    let def = |(name, tasks): (String, Vec<Task>)| {
        let place = tasks.first().map(|task| (task.line, task.path.clone()));
        let name = match (name.as_str(), taken) {
            ("", false) => PROCESS.to_owned(),
            ("", true) => format!("{PROCESS}-root"),
            _ => name,
        };
        let mut def = CgroupDef::named(name).pcomm(PROCESS);
        if has_groups {
            def = def.cpu_weight(WEIGHT);
        }
        for task in tasks {
            def = def.work(task.work());
        }
        let checked = def.validate();
        checked.map_err(|error| {
            let (line, key) = place.unwrap_or((1, "tasks".to_owned()));
            let message = error.to_string();
            TextError { line, key, message }
        })?;
        Ok(def)
    };
    groups.into_iter().map(def).collect()
}
