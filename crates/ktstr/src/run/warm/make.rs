//! Builds templates: boots a machine, or takes a booted one and attaches the scheduler, and saves it.

use std::path::Path;
use std::time::Duration;

use ktstr_machine::{ClockMode, Initramfs, Machine};

use super::template::{self, Making, Template, Told};
use super::{Stamps, WarmError, sparse};
use crate::run::RunError;
use crate::run::captures::Knowledge;
use crate::run::conversation::{Conversation, End};
use crate::run::engine::Engine;
use crate::run::plan::Plan;
use crate::run::start::{Level, Started, boot_points, pack};

/// The guest time for which a machine keeps running before it is saved. Work that the kernel deferred during boot or
/// attach is then done once, and not in every fork.
const SETTLE: Duration = Duration::from_millis(300);

/// Builds the templates of one run.
pub(super) struct Maker<'a> {
    /// The folder of templates.
    pub(super) root: &'a Path,
    pub(super) plan: &'a Plan,
    pub(super) engine: Engine,
}

impl Maker<'_> {
    /// Boots the machine to the point where it waits for messages.
    pub(super) fn booted(&self, key: &str, knowledge: &mut Knowledge) -> Result<(), WarmError> {
        let Some(making) = self.begin(key)? else {
            return Ok(());
        };
        let plan = self.plan;
        let mut present = Stamps::new();
        let mut archive = Initramfs::new();
        pack(&mut archive, &plan.base, &mut present)?;
        let machine = Machine::prepare_in(
            &plan.qemu,
            &super::fork::specification(plan, self.engine, true),
            &archive.build().map_err(RunError::from)?,
            &making.ram,
            &boot_points(self.engine, knowledge)?.without_observation(),
        )?;
        let mut conversation = Conversation::new(machine, plan.shape.cpus());
        conversation.run()?;
        reached(
            conversation.until(|said| said.hello.is_some())?,
            &conversation,
        )?;
        let level = ("booted", String::new());
        self.save(making, conversation, knowledge, level, present)
    }

    /// Starts the scheduler in a fork of the template `base`.
    pub(super) fn attached(
        &self,
        key: &str,
        base: &Template,
        knowledge: &mut Knowledge,
    ) -> Result<(), WarmError> {
        self.derived((key, "attached"), base, knowledge, |started, knowledge| {
            started.prepare(self.plan, knowledge)
        })
    }

    /// Starts the test process in a fork of the template `base`.
    pub(super) fn loaded(
        &self,
        key: &str,
        base: &Template,
        knowledge: &mut Knowledge,
    ) -> Result<(), WarmError> {
        self.derived((key, "loaded"), base, knowledge, |started, _| {
            started.load(self.plan)
        })
    }

    /// Applies `step` to a fork of the template `base`.
    fn derived(
        &self,
        (key, name): (&str, &str),
        base: &Template,
        knowledge: &mut Knowledge,
        step: impl FnOnce(&mut Started, &mut Knowledge) -> Result<Option<End>, RunError>,
    ) -> Result<(), WarmError> {
        let Some(making) = self.begin(key)? else {
            return Ok(());
        };
        for (from, to) in base.ram.iter().zip(&making.ram) {
            sparse::copy(from, to)
                .map_err(|e| WarmError::files("copying the template's RAM", e))?;
        }
        let machine = super::fork::restore(
            self.plan,
            self.engine,
            base,
            true,
            &making.ram,
            &base.description.points.without_observation(),
        )?;
        let cpus = self.plan.shape.cpus();
        let mut started = Started {
            conversation: Conversation::resume(machine, cpus, base.cursors(), base.said()),
            level: Level::Booted,
            present: base.description.present.clone(),
            console: String::new(),
        };
        started.conversation.run()?;
        let end = step(&mut started, knowledge)?;
        reached(end, &started.conversation)?;
        let level = (name, base.description.console.clone());
        let Started {
            conversation,
            present,
            ..
        } = started;
        self.save(making, conversation, knowledge, level, present)
    }

    /// Returns `None` if another process has built the template in the meantime.
    fn begin(&self, key: &str) -> Result<Option<Making>, WarmError> {
        let sizes = self.plan.shape.memory_mib.iter().map(|mib| mib << 20);
        template::begin(self.root, key, &sizes.collect::<Vec<u64>>())
    }

    /// `level` also holds the console output from before this session.
    fn save(
        &self,
        making: Making,
        mut conversation: Conversation,
        knowledge: &mut Knowledge,
        (level, console_before): (&str, String),
        present: Stamps,
    ) -> Result<(), WarmError> {
        let Self { plan, engine, .. } = *self;
        // Under the virtual clock a template is saved where the guest first waits for a message, which is at the same
        // instruction each time it is built.
        reached(conversation.until_idle()?, &conversation)?;
        if engine.clock == ClockMode::Real {
            settle(&mut conversation)?;
        }
        let points = boot_points(engine, knowledge)?;
        conversation.machine.stop()?;
        if engine.clock == ClockMode::Real {
            // Read what the guest sent up to the moment at which it was stopped. Nothing comes after that.
            reached(conversation.look(Duration::MAX)?, &conversation)?;
        }
        if conversation.said.scheduler_died.is_some() {
            return Err(WarmError::NotReached(
                "lost its scheduler right after it had attached".to_owned(),
            ));
        }
        conversation.machine.save(&making.state())?;
        let mut what = format!(
            "{level} {} {} {} MiB",
            plan.kernel.release,
            plan.topology(),
            plan.memory_mib
        );
        if let Some(found) = plan
            .scheduler
            .as_ref()
            .filter(|_| conversation.said.prepared)
        {
            what.push_str(&format!(" {}", found.path.display()));
        }
        if conversation.said.loaded {
            what.push_str(&format!(" {}", plan.program.path.display()));
        }
        let cursors = conversation.cursors();
        let Conversation { machine, said, .. } = conversation;
        let console = format!("{console_before}{}", machine.end());
        making.commit(Told {
            what,
            kernel: plan.kernel.boot.clone(),
            qemu: plan.qemu.path.clone(),
            cursors,
            said: &said,
            console,
            present,
            points,
        })?;
        super::housekeeping::make_room();
        Ok(())
    }
}

fn reached(end: Option<End>, conversation: &Conversation) -> Result<(), WarmError> {
    match end {
        None => Ok(()),
        Some(end) => {
            let said = &conversation.said;
            let why = said.not_attached.clone().or(said.harness_error.clone());
            Err(WarmError::NotReached(why.unwrap_or_else(|| {
                format!("ended before it was ready ({end:?})")
            })))
        }
    }
}

fn settle(conversation: &mut Conversation) -> Result<(), WarmError> {
    let settled = conversation.machine.running_time() + SETTLE;
    while conversation.machine.running_time() < settled {
        reached(conversation.look(Duration::MAX)?, conversation)?;
    }
    Ok(())
}
