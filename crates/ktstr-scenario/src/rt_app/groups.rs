//! Makes a cgroup of each task group, with the tasks that name the group. The tasks that name no task group share one more
//! cgroup.

use std::collections::BTreeMap;

use super::task::Task;
use crate::ops::CgroupDef;
use crate::text::TextError;

/// The name of each cgroup's process, whose threads are the tasks. The cgroup of the tasks without a task group has this name as
/// well, unless a task group has the name already or is below it.
const PROCESS: &str = "rt-app";
/// The kernel's default weight. It is set to enable the CPU controller, without which the kernel does not schedule the cgroup
/// as a group.
const WEIGHT: u32 = 100;

/// Returns the cgroups, with the tasks as their workers.
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
                    "its task group \"/{name}\" is below \"/{above}\", which has tasks as well, and in cgroup v2 a group that has \
                     groups below it cannot have tasks: put the tasks of \"/{above}\" into a group of their own below it"
                ),
            });
        }
    }
    let has_groups = groups.keys().any(|name| !name.is_empty());
    // The group of the tasks without a task group must not be one of the file's groups, nor above one.
    let is_free = |name: &String| {
        let below = |group: &str| {
            group
                .strip_prefix(name.as_str())
                .map(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        !groups.keys().any(|group| below(group) == Some(true))
    };
    let root = (1..).map(|n| match n {
        1 => PROCESS.to_owned(),
        2 => format!("{PROCESS}-root"),
        n => format!("{PROCESS}-root-{n}"),
    });
    let root = root.into_iter().find(is_free).unwrap_or_default();
    let def = |(name, tasks): (String, Vec<Task>)| {
        let place = tasks.first().map(|task| (task.line, task.path.clone()));
        let name = match name.is_empty() {
            true => root.clone(),
            false => name,
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
