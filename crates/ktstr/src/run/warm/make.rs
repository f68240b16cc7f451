//! Making templates: boot a machine, or hand a booted one to the scheduler, and save it.

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

/// Guest time a machine is left alone before it is saved: what the kernel put off while
/// booting or attaching is then done once, and not in every fork.
const SETTLE: Duration = Duration::from_millis(300);

/// Boots `plan`'s machine up to where it waits for messages.
pub(super) fn booted(
    root: &Path,
    key: &str,
    plan: &Plan,
    engine: Engine,
    knowledge: &mut Knowledge,
) -> Result<(), WarmError> {
    let Some(making) = template::begin(root, key, &ram_sizes(plan))? else {
        return Ok(());
    };
    let mut present = Stamps::new();
    let mut archive = Initramfs::new();
    pack(&mut archive, &plan.base, &mut present)?;
    let machine = Machine::prepare_in(
        &plan.qemu,
        &super::fork::specification(plan, engine, true),
        &archive.build().map_err(crate::run::RunError::from)?,
        &making.ram,
        &boot_points(engine, knowledge)?,
    )?;
    let mut conversation = Conversation::new(machine, plan.shape.cpus());
    conversation.run()?;
    reached(
        conversation.until(|said| said.hello.is_some())?,
        &conversation,
    )?;
    save(
        making,
        conversation,
        plan,
        engine,
        knowledge,
        ("booted", String::new()),
        present,
    )
}

/// Starts `plan`'s scheduler in a machine of the template `base`.
pub(super) fn attached(
    root: &Path,
    key: &str,
    plan: &Plan,
    engine: Engine,
    base: &Template,
    knowledge: &mut Knowledge,
) -> Result<(), WarmError> {
    derived(
        root,
        key,
        plan,
        engine,
        base,
        knowledge,
        "attached",
        |started, knowledge| started.prepare(plan, knowledge),
    )
}

/// Starts the test process in a machine of the template `base`.
pub(super) fn loaded(
    root: &Path,
    key: &str,
    plan: &Plan,
    engine: Engine,
    base: &Template,
    knowledge: &mut Knowledge,
) -> Result<(), WarmError> {
    derived(
        root,
        key,
        plan,
        engine,
        base,
        knowledge,
        "loaded",
        |started, _| started.load(plan),
    )
}

/// Takes a machine of the template `base` on by `step`.
#[expect(
    clippy::too_many_arguments,
    reason = "what a template is made of, and its name"
)]
fn derived(
    root: &Path,
    key: &str,
    plan: &Plan,
    engine: Engine,
    base: &Template,
    knowledge: &mut Knowledge,
    name: &str,
    step: impl FnOnce(&mut Started, &mut Knowledge) -> Result<Option<End>, RunError>,
) -> Result<(), WarmError> {
    let Some(making) = template::begin(root, key, &ram_sizes(plan))? else {
        return Ok(());
    };
    for (from, to) in base.ram.iter().zip(&making.ram) {
        sparse::copy(from, to).map_err(|e| WarmError::files("copying the template's RAM", e))?;
    }
    let machine = super::fork::restore(plan, engine, base, true, &making.ram)?;
    let mut started = Started {
        conversation: Conversation::resume(machine, plan.shape.cpus(), base.places(), base.said()),
        level: Level::Booted,
        present: base.description.present.clone(),
        console: String::new(),
    };
    started.conversation.run()?;
    let end = step(&mut started, knowledge)?;
    reached(end, &started.conversation)?;
    let before = base.description.console.clone();
    save(
        making,
        started.conversation,
        plan,
        engine,
        knowledge,
        (name, before),
        started.present,
    )
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

/// `level` comes with what the guest had printed before this conversation.
fn save(
    making: Making,
    mut conversation: Conversation,
    plan: &Plan,
    engine: Engine,
    knowledge: &mut Knowledge,
    (level, console_before): (&str, String),
    present: Stamps,
) -> Result<(), WarmError> {
    // Under the virtual clock a template is taken where the guest first waits for a message, at
    // the same instruction each time it is made.
    reached(conversation.until_idle()?, &conversation)?;
    if engine.clock == ClockMode::Real {
        settle(&mut conversation)?;
    }
    let points = boot_points(engine, knowledge)?;
    conversation.machine.stop()?;
    if engine.clock == ClockMode::Real {
        // What it said up to the moment it stopped; nothing comes after.
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
    let places = conversation.places();
    let Conversation { machine, said, .. } = conversation;
    let console = format!("{console_before}{}", machine.end());
    making.commit(Told {
        what,
        kernel: plan.kernel.vmlinux.clone(),
        qemu: plan.qemu.path.clone(),
        places,
        said: &said,
        console,
        present,
        points,
    })?;
    super::housekeeping::make_room();
    Ok(())
}

fn settle(conversation: &mut Conversation) -> Result<(), WarmError> {
    let settled = conversation.machine.running_time() + SETTLE;
    while conversation.machine.running_time() < settled {
        reached(conversation.look(Duration::MAX)?, conversation)?;
    }
    Ok(())
}

fn ram_sizes(plan: &Plan) -> Vec<u64> {
    plan.shape.memory_mib.iter().map(|mib| mib << 20).collect()
}
