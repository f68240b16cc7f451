//! A machine from a template.

use std::path::Path;

use ktstr_machine::Machine;

use super::template::{self, Template};
use super::{WarmError, housekeeping, key, make};
use crate::run::RunError;
use crate::run::captures::Knowledge;
use crate::run::conversation::Conversation;
use crate::run::engine::Engine;
use crate::run::plan::Plan;
use crate::run::start::{Level, Started};

/// Forks a machine for `plan` from its template, which is made if need be.
pub(in crate::run) fn fork(
    plan: &Plan,
    engine: Engine,
    knowledge: &mut Knowledge,
) -> Result<Started, WarmError> {
    let root = housekeeping::root().map_err(RunError::from)?;
    match attempt(&root, plan, engine, knowledge) {
        Err(WarmError::Damaged { key, reason }) => {
            eprintln!("ktstr: the template {key} is damaged and is made again: {reason}");
            template::discard(&root, &key)?;
            attempt(&root, plan, engine, knowledge)
        }
        other => other,
    }
}

fn attempt(
    root: &Path,
    plan: &Plan,
    engine: Engine,
    knowledge: &mut Knowledge,
) -> Result<Started, WarmError> {
    let booted_key = key::booted(plan, engine);
    let mut template = obtain(root, &booted_key, || {
        make::booted(root, &booted_key, plan, engine, knowledge)
    })?;
    let mut level = Level::Booted;
    if plan.shares_attach() {
        let attached_key = key::attached(&booted_key, plan);
        match obtain(root, &attached_key, || {
            make::attached(root, &attached_key, plan, engine, &template, knowledge)
        }) {
            Ok(attached) => {
                template = attached;
                level = Level::Attached;
            }
            // The scheduler does not come up: the run itself shall find out and tell of it.
            Err(WarmError::NotReached(_)) => {}
            Err(error) => return Err(error),
        }
    }
    let machine = restore(plan, engine, &template, false, &template.ram)?;
    Ok(Started {
        conversation: Conversation::resume(
            machine,
            plan.shape.cpus(),
            template.places(),
            template.said(),
        ),
        level,
        present: template.description.present.clone(),
        console: template.description.console.clone(),
    })
}

/// Restores a machine from `template`. When QEMU cannot, the template is at fault.
pub(super) fn restore(
    plan: &Plan,
    engine: Engine,
    template: &Template,
    share: bool,
    ram: &[std::fs::File],
) -> Result<Machine, WarmError> {
    Machine::restore(
        &plan.qemu,
        &plan.machine(engine),
        ram,
        share,
        &template.state(),
        &template.description.points,
    )
    .map_err(|error| WarmError::Damaged {
        key: template.description.key.clone(),
        reason: error.to_string(),
    })
}

/// Opens a template, or makes it first.
fn obtain(
    root: &Path,
    key: &str,
    make: impl FnOnce() -> Result<(), WarmError>,
) -> Result<Template, WarmError> {
    if let Some(template) = Template::open(root, key)? {
        return Ok(template);
    }
    make()?;
    Template::open(root, key)?.ok_or_else(|| {
        WarmError::NotReached("came up, but its template was removed at once".to_owned())
    })
}
