//! Forks a machine from a template.

use std::path::Path;

use ktstr_machine::{Machine, MachineError, MachineSpec, WatchPoints};

use ktstr_record::terminal::eprint_line;

use super::make::Maker;
use super::template::{self, Template};
use super::{TemplateError, housekeeping, key};
use crate::run::RunError;
use crate::run::captures::LazyKernelInfo;
use crate::run::guest_session::GuestSession;
use crate::run::machine_kind::MachineKind;
use crate::run::plan::Plan;
use crate::run::schedule::{self, Recorder};
use crate::run::start::{Level, Started};

/// Forks a machine for `plan` from its template, which is built first if it does not exist, and rebuilt once if it is damaged.
pub(in crate::run) fn fork(
    plan: &Plan,
    machine_kind: MachineKind,
    kernel_info: &mut LazyKernelInfo,
) -> Result<Started, TemplateError> {
    let root = housekeeping::folder().map_err(RunError::from)?;
    match attempt(&root, plan, machine_kind, kernel_info) {
        Err(TemplateError::Damaged { key, reason }) => {
            eprint_line(&format!(
                "ktstr: the template {key} is damaged and will be rebuilt: {reason}"
            ));
            template::discard(&root, &key)?;
            attempt(&root, plan, machine_kind, kernel_info)
        }
        other => other,
    }
}

fn attempt(
    root: &Path,
    plan: &Plan,
    machine_kind: MachineKind,
    kernel_info: &mut LazyKernelInfo,
) -> Result<Started, TemplateError> {
    let keys = Keys::of(plan, machine_kind);
    let (template, level) = match keys.open_loaded(root, plan)? {
        Some(found) => found,
        None => keys.build(root, plan, machine_kind, kernel_info)?,
    };
    let points = schedule::points_of_run(&template.description.points, machine_kind);
    let machine = restore(plan, machine_kind, &template, false, &template.ram, &points)?;
    let cpus = plan.shape.cpus();
    let mut session =
        GuestSession::resume(machine, cpus, template.cursors(), template.guest_state());
    session.recorder = Recorder::new(&points, &plan.shape);
    Ok(Started {
        session,
        level,
        present: template.description.present.clone(),
        console: template.description.console.clone(),
    })
}

/// The keys of the chain of templates for a plan. The first template has booted, the second also has the scheduler attached, and
/// in the last one the test process also waits for its job. Each is built from the one before it. The key of the last template is
/// computed later, because it depends on whether the scheduler attached.
struct Keys {
    booted: String,
    /// `None` for a run without a scheduler's program, and for a run that has to start its scheduler itself.
    attached: Option<String>,
}

impl Keys {
    fn of(plan: &Plan, machine_kind: MachineKind) -> Self {
        let booted = key::booted(plan, machine_kind);
        let attached = plan.shares_attach().then(|| key::attached(&booted, plan));
        Self { booted, attached }
    }

    /// Opens the last template of the chain, in which the test process is loaded; `None` if it does not exist. The templates from
    /// which it was built are marked as used.
    fn open_loaded(
        &self,
        root: &Path,
        plan: &Plan,
    ) -> Result<Option<(Template, Level)>, TemplateError> {
        let (base, level) = match &self.attached {
            Some(attached) => (attached, Level::Attached),
            None => (&self.booted, Level::Booted),
        };
        let Some(template) = Template::open(root, &key::loaded(base, plan))? else {
            return Ok(None);
        };
        for key in self.attached.iter().chain([&self.booted]) {
            template::touch(root, key);
        }
        Ok(Some((template, level)))
    }

    /// Builds the missing templates of the chain, and returns the last one that the guest reached.
    fn build(
        &self,
        root: &Path,
        plan: &Plan,
        machine_kind: MachineKind,
        kernel_info: &mut LazyKernelInfo,
    ) -> Result<(Template, Level), TemplateError> {
        let maker = Maker {
            root,
            plan,
            machine_kind,
        };
        let mut template = open_or_build(root, &self.booted, || {
            maker.booted(&self.booted, kernel_info)
        })?;
        let mut level = Level::Booted;
        if let Some(attached) = &self.attached {
            let made = open_or_build(root, attached, || {
                maker.attached(attached, &template, kernel_info)
            });
            if let Some(made) = reached(made)? {
                template = made;
                level = Level::Attached;
            }
        }
        let loaded = key::loaded(&template.description.key, plan);
        let made = open_or_build(root, &loaded, || {
            maker.loaded(&loaded, &template, kernel_info)
        });
        Ok((reached(made)?.unwrap_or(template), level))
    }
}

/// Returns `None` for a template whose guest did not reach the point at which it is saved: the run itself then gets the same
/// error and reports it.
fn reached(made: Result<Template, TemplateError>) -> Result<Option<Template>, TemplateError> {
    match made {
        Ok(template) => Ok(Some(template)),
        Err(TemplateError::NotReached(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the specification of a machine. While a machine that becomes a `template` boots or attaches the scheduler, the
/// kernel patches its own text, so the CPUs of such a machine do not run in parallel; see [`MachineSpec::parallel`]. When a
/// template is forked, the patching is over.
pub(super) fn specification(plan: &Plan, machine_kind: MachineKind, template: bool) -> MachineSpec {
    MachineSpec {
        parallel: !template,
        ..plan.machine(machine_kind)
    }
}

/// Restores a machine from `template`, with its RAM in the files `ram`. With `share` the machine becomes a template itself,
/// and its writes go to the files; otherwise they are private. If QEMU cannot be started, does not answer, or is not the program
/// that was started, that says nothing about the template, and the error is returned as it is. After any other failure, the
/// template is considered damaged.
pub(super) fn restore(
    plan: &Plan,
    machine_kind: MachineKind,
    template: &Template,
    share: bool,
    ram: &[std::fs::File],
    points: &WatchPoints,
) -> Result<Machine, TemplateError> {
    Machine::restore(
        &plan.qemu,
        &specification(plan, machine_kind, share),
        ram,
        share,
        &template.state(),
        points,
    )
    .map_err(|error| match error {
        MachineError::Spawn { .. }
        | MachineError::NoAnswer { .. }
        | MachineError::NotExecuted { .. } => RunError::from(error).into(),
        damage => TemplateError::Damaged {
            key: template.description.key.clone(),
            reason: damage.to_string(),
        },
    })
}

/// Opens a template, or builds it if it does not exist.
fn open_or_build(
    root: &Path,
    key: &str,
    make: impl FnOnce() -> Result<(), TemplateError>,
) -> Result<Template, TemplateError> {
    if let Some(template) = Template::open(root, key)? {
        return Ok(template);
    }
    make()?;
    Template::open(root, key)?.ok_or_else(|| {
        TemplateError::NotReached("came up, but its template was removed at once".to_owned())
    })
}
