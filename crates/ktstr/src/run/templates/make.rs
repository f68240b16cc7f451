//! Builds templates: boots a machine, or forks one from a template and attaches the scheduler or starts the test process, and
//! saves the machine.

use std::path::Path;
use std::time::Duration;

use ktstr_machine::{ClockMode, Initramfs, Machine};

use super::template::{self, Template, TemplateBuilder, TemplateMeta};
use super::{Stamps, TemplateError, sparse};
use crate::run::RunError;
use crate::run::captures::LazyKernelInfo;
use crate::run::guest_session::{End, GuestSession};
use crate::run::guest_state::GuestState;
use crate::run::machine_kind::MachineKind;
use crate::run::plan::{Plan, TEST_BINARY};
use crate::run::start::{Level, Started, boot_points, pack};
use crate::run::verdict;

/// How long a machine under the real clock keeps running before it is saved. Work that the kernel deferred during boot or
/// attach is then done once, and not in every fork.
const SETTLE: Duration = Duration::from_millis(300);

/// Builds the templates of one run.
pub(super) struct Maker<'a> {
    /// The folder of templates.
    pub(super) root: &'a Path,
    pub(super) plan: &'a Plan,
    pub(super) machine_kind: MachineKind,
}

impl Maker<'_> {
    /// Boots a machine to the point where it waits for messages, and saves it as the template `key`. Like [`Self::attached`]
    /// and [`Self::loaded`], does nothing if the template exists already.
    pub(super) fn booted(
        &self,
        key: &str,
        kernel_info: &mut LazyKernelInfo,
    ) -> Result<(), TemplateError> {
        let Some(builder) = self.begin_build(key)? else {
            return Ok(());
        };
        let plan = self.plan;
        let mut present = Stamps::new();
        let mut archive = Initramfs::new();
        pack(&mut archive, &plan.base, &mut present)?;
        let machine = Machine::prepare_in(
            &plan.qemu,
            &super::fork::specification(plan, self.machine_kind, true),
            &archive.build().map_err(RunError::from)?,
            &builder.ram,
            &boot_points(self.machine_kind, kernel_info)?.without_observation(),
        )?;
        let mut session = GuestSession::new(machine, plan.shape.cpus());
        session.run()?;
        reached(session.wait_until(|guest| guest.hello.is_some())?, &session)?;
        let level = ("booted", String::new());
        self.save(builder, session, kernel_info, level, present)
    }

    /// Starts the scheduler in a fork of the template `base`, and saves the fork as the template `key`.
    pub(super) fn attached(
        &self,
        key: &str,
        base: &Template,
        kernel_info: &mut LazyKernelInfo,
    ) -> Result<(), TemplateError> {
        self.build_on(
            (key, "attached"),
            base,
            kernel_info,
            |started, kernel_info| started.prepare(self.plan, kernel_info),
        )
    }

    /// Starts the test process in a fork of the template `base`, and saves the fork as the template `key`.
    pub(super) fn loaded(
        &self,
        key: &str,
        base: &Template,
        kernel_info: &mut LazyKernelInfo,
    ) -> Result<(), TemplateError> {
        self.build_on((key, "loaded"), base, kernel_info, |started, _| {
            started.load(self.plan)
        })
    }

    /// Applies `step` to a fork of the template `base`, and saves the fork as the template `key` of the level `name`.
    fn build_on(
        &self,
        (key, name): (&str, &str),
        base: &Template,
        kernel_info: &mut LazyKernelInfo,
        step: impl FnOnce(&mut Started, &mut LazyKernelInfo) -> Result<Option<End>, RunError>,
    ) -> Result<(), TemplateError> {
        let Some(builder) = self.begin_build(key)? else {
            return Ok(());
        };
        for (from, to) in base.ram.iter().zip(&builder.ram) {
            sparse::copy(from, to)
                .map_err(|e| TemplateError::files("copying the template's RAM", e))?;
        }
        let machine = super::fork::restore(
            self.plan,
            self.machine_kind,
            base,
            true,
            &builder.ram,
            &base.description.points.without_observation(),
        )?;
        let cpus = self.plan.shape.cpus();
        let mut started = Started {
            session: GuestSession::resume(machine, cpus, base.cursors(), base.guest_state()),
            level: Level::Booted,
            present: base.description.present.clone(),
            console: String::new(),
        };
        started.session.run()?;
        let end = step(&mut started, kernel_info)?;
        reached(end, &started.session)?;
        let level = (name, base.description.console.clone());
        let Started {
            session, present, ..
        } = started;
        self.save(builder, session, kernel_info, level, present)
    }

    /// Starts to build the template `key`. Returns `None` if another process has built it in the meantime.
    fn begin_build(&self, key: &str) -> Result<Option<TemplateBuilder>, TemplateError> {
        let sizes = self.plan.shape.memory_mib.iter().map(|mib| mib << 20);
        template::begin_build(self.root, key, &sizes.collect::<Vec<u64>>())
    }

    /// Saves the machine as a template. The pair is the name of the template's level, and the console output from
    /// before this session.
    fn save(
        &self,
        builder: TemplateBuilder,
        mut session: GuestSession,
        kernel_info: &mut LazyKernelInfo,
        (level, console_before): (&str, String),
        present: Stamps,
    ) -> Result<(), TemplateError> {
        let Self {
            plan, machine_kind, ..
        } = *self;
        // Under the virtual clock a template is saved where the guest first waits for a message, which is at the same
        // instruction each time it is built.
        reached(session.run_until_idle()?, &session)?;
        if machine_kind.clock == ClockMode::Real {
            settle(&mut session)?;
        }
        let points = boot_points(machine_kind, kernel_info)?;
        session.machine.stop()?;
        if machine_kind.clock == ClockMode::Real {
            // Read what the guest sent up to the moment at which it was stopped. A stopped guest sends nothing more.
            reached(session.poll(Duration::MAX)?, &session)?;
        }
        if session.guest.scheduler_died.is_some() {
            return Err(TemplateError::NotReached(
                "lost its scheduler right after it had attached".to_owned(),
            ));
        }
        session.machine.save(&builder.state())?;
        let mut what = format!(
            "{level} {} {} {} MiB",
            plan.kernel.release,
            plan.topology(),
            plan.memory_mib
        );
        if let Some(found) = plan.scheduler.as_ref().filter(|_| session.guest.prepared) {
            what.push_str(&format!(" {}", found.path.display()));
        }
        let mut program = None;
        if session.guest.loaded {
            what.push_str(&format!(" {}", plan.program.path.display()));
            program = plan
                .for_load
                .get(TEST_BINARY)
                .map(|file| file.stamp.clone());
        }
        let cursors = session.cursors();
        let GuestSession { machine, guest, .. } = session;
        let console = format!("{console_before}{}", machine.end());
        fit(plan, &guest, &console)?;
        builder.commit(TemplateMeta {
            what,
            program,
            kernel: plan.kernel.boot.clone(),
            qemu: plan.qemu.path.clone(),
            cursors,
            guest: &guest,
            console,
            present,
            points,
        })?;
        super::housekeeping::make_room(plan.templates_cap);
        Ok(())
    }
}

/// Returns an error if the guest ended (`end`) before it reached the point at which a template is saved.
fn reached(end: Option<End>, session: &GuestSession) -> Result<(), TemplateError> {
    match end {
        None => Ok(()),
        Some(end) => {
            let guest = &session.guest;
            let why = guest.not_attached.clone().or(guest.harness_error.clone());
            Err(TemplateError::NotReached(why.unwrap_or_else(|| {
                format!("ended before it was ready ({end:?})")
            })))
        }
    }
}

/// Returns an error if the guest must not become a template, because every run that forks it would inherit what went wrong. On a
/// host that stops the guest for seconds, Linux boots without a CPU that did not start in time (`do_wait_cpu_initialized()` in
/// arch/x86/kernel/smpboot.c and its successors), and sched_ext's watchdog ejects a scheduler.
fn fit(plan: &Plan, guest: &GuestState, console: &str) -> Result<(), TemplateError> {
    let seen = guest.hello.as_ref().map(|hello| &hello.topology);
    if let Some(seen) = seen
        && seen.as_deref() != Ok(&*plan.topology())
    {
        let seen = seen.as_ref().unwrap_or_else(|why| why);
        return Err(TemplateError::NotReached(format!(
            "came up with another topology than {}: {seen}",
            plan.topology()
        )));
    }
    match verdict::is_ejected(console) {
        true => Err(TemplateError::NotReached(
            "lost its scheduler, which the kernel ejected before the machine was saved".to_owned(),
        )),
        false => Ok(()),
    }
}

/// Lets the guest run for [`SETTLE`].
fn settle(session: &mut GuestSession) -> Result<(), TemplateError> {
    let settled = session.machine.running_time() + SETTLE;
    while session.machine.running_time() < settled {
        reached(session.poll(Duration::MAX)?, session)?;
    }
    Ok(())
}
