//! Checks whether a scenario can be run on a machine, as far as that is known before the machine boots.
//!
//! The check follows the scenario as the guest's engine does: which cgroups exist at each operation, which CPUs they have, and
//! whether they have workers. It cannot check what depends on the kernel, such as whether a CPU can be taken offline.

mod effects;
mod ops;
mod rules;
mod stage;

use crate::ops::{CgroupDef, HoldSpec, Op, Setup, Step};
use crate::topology::TestTopology;

use super::Scenario;
use stage::{Life, Stage};

/// Why a scenario cannot be run, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`: {message}")]
pub struct Invalid {
    /// The place as a path of keys of the text, such as `step[1].ops[0]`; numbers count from 0.
    pub key: String,
    /// A message with what is wrong and what to do.
    pub message: String,
}

/// The result of checking one place; the error is a message.
type Checked = Result<(), String>;

impl Scenario {
    /// Checks that the scenario can be run on a machine of this shape: each cgroup exists when an operation names it, each CPU
    /// exists, and each number is in its range. Cgroups that a function creates are not checked.
    ///
    /// # Errors
    /// [`Invalid`] names the first error and its place.
    pub fn validate(&self, topology: &TestTopology) -> Result<(), Invalid> {
        let mut stage = Stage::new(topology, self.uses_controllers());
        let backdrop = &self.backdrop;
        defs(&mut stage, Life::Scenario, "cgroup", &backdrop.cgroups)?;
        ops(&mut stage, Life::Scenario, "ops", &backdrop.ops)?;
        for (at, payload) in backdrop.payloads.iter().enumerate() {
            at_place(
                format!("payloads[{at}]"),
                payload.validate().map_err(|e| e.to_string()),
            )?;
        }
        stage.release();
        for (at, step) in self.steps.iter().enumerate() {
            step_of(&mut stage, &format!("step[{at}]"), step)?;
            stage.end_step();
        }
        Ok(())
    }

    /// Returns whether the scenario enables a controller for its cgroups, so that none of them can have both workers and child
    /// cgroups.
    fn uses_controllers(&self) -> bool {
        let defs_of = |step: &Step| match &step.setup {
            Setup::Defs(defs) => defs.clone(),
            Setup::Factory(_) => Vec::new(),
        };
        let of_steps = self.steps.iter().flat_map(defs_of);
        let mut defs = of_steps.chain(self.backdrop.cgroups.iter().cloned());
        let of_steps = self.steps.iter().flat_map(|step| &step.ops);
        let mut ops = of_steps.chain(&self.backdrop.ops);
        let limits = |def: &CgroupDef| !def.controllers().is_empty();
        defs.any(|def| limits(&def))
            || ops.any(|op| match op {
                Op::AddCgroupDef { def } => limits(def),
                op => op.controller().is_some(),
            })
    }
}

fn at_place(key: String, checked: Checked) -> Result<(), Invalid> {
    checked.map_err(|message| Invalid { key, message })
}

fn step_of(stage: &mut Stage<'_>, key: &str, step: &Step) -> Result<(), Invalid> {
    let hold = step.hold.validate().map_err(|error| error.to_string());
    at_place(format!("{key}.hold"), hold)?;
    let of_ops = format!("{key}.ops");
    let loops = matches!(step.hold, HoldSpec::Loop { .. });
    if let Some(at) = step.ops.iter().position(|op| loops && op.is_once()) {
        let message = format!(
            "{} cannot be in a step that repeats its operations: its result would be stored under the same tag in each \
             repetition. Put the operation into a separate step",
            step.ops[at].name()
        );
        return at_place(format!("{of_ops}[{at}]"), Err(message));
    }
    if let Setup::Defs(defs) = &step.setup {
        stage.announce(defs);
    }
    ops(stage, Life::Step, &of_ops, &step.ops)?;
    if let Setup::Defs(of_setup) = &step.setup {
        defs(stage, Life::Step, &format!("{key}.cgroup"), of_setup)?;
    }
    stage.release();
    // A step that loops repeats its operations, so they are checked a second time, in the state after the setup. Operations that
    // are possible the second time are possible in every later repetition.
    match loops {
        true => ops(stage, Life::Step, &of_ops, &step.ops),
        false => Ok(()),
    }
}

fn defs(stage: &mut Stage<'_>, life: Life, key: &str, defs: &[CgroupDef]) -> Result<(), Invalid> {
    let each =
        |(at, def): (usize, &CgroupDef)| at_place(format!("{key}[{at}]"), stage.add_def(life, def));
    defs.iter().enumerate().try_for_each(each)
}

fn ops(stage: &mut Stage<'_>, life: Life, key: &str, ops: &[Op]) -> Result<(), Invalid> {
    let each = |(at, op): (usize, &Op)| at_place(format!("{key}[{at}]"), stage.op(life, op));
    ops.iter().enumerate().try_for_each(each)
}
