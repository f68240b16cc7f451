//! Tests of the pointers in a capture: what they point to is read while the guest is stopped.

use anyhow::{Context as _, Result, ensure};
use ktstr::prelude::*;

const SCHED: Scheduler = Scheduler::named("ktstr").binary(SchedulerSpec::Discover("scx-ktstr"));

#[ktstr_test(scheduler = SCHED, llcs = 2, cores = 2, duration_s = 1, num_snapshots = 2, post_vm = targets_are_seen)]
fn a_capture_has_what_the_schedulers_pointers_point_to(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![CgroupDef::named("spinners").workers(2)])
}

fn targets_are_seen(vm: &VmResult) -> Result<()> {
    ensure!(vm.periodic_real == 2, "{} captures", vm.periodic_real);
    for sample in vm.periodic_series().iter_samples() {
        a_reference_leads_to_a_mask(&sample.snapshot)?;
        a_reference_leads_to_a_task(&sample.snapshot)?;
        a_list_in_an_arena_is_followed(&sample.snapshot)?;
    }
    Ok(())
}

/// The scheduler keeps a reference (a kptr) to a mask of the CPUs of the first LLC.
fn a_reference_leads_to_a_mask(snapshot: &Snapshot<'_>) -> Result<()> {
    let mask = snapshot.map("ktstr_kptrs")?.at(0).get("first_llc");
    ensure!(
        mask.as_u64()? >> 63 == 1,
        "the pointer is not an address in the kernel"
    );
    ensure!(mask.as_str()? == "0-1", "{:?}", mask.raw());
    Ok(())
}

/// The scheduler keeps a reference to the task that initialised it. The scheduler declares only a few members of a task, at
/// offsets of its own; the capture has all members, which are read at the offsets of the running kernel.
fn a_reference_leads_to_a_task(snapshot: &Snapshot<'_>) -> Result<()> {
    let kptrs = snapshot.map("ktstr_kptrs")?;
    let task = kptrs.at(0).get("initiator");
    let address = task.as_u64()?;
    let all = snapshot.task_enrichments();
    let known = all.iter().find(|known| known.task_kva == address);
    let known = known.with_context(|| format!("no task at {address:#x} in {all:?}"))?;
    ensure!(task.get("pid").as_i64()? == i64::from(known.pid));
    ensure!(task.get("comm").as_str()? == known.comm);
    ensure!(task.get("prio").as_i64()? == i64::from(known.prio));
    // This follows a second pointer, which is a member of the task.
    let mask = task.get("cpus_ptr");
    ensure!(mask.as_str()? == "0-3", "{:?}", mask.raw());
    Ok(())
}

/// The scheduler keeps a list of two nodes in an arena. The pointers of the list are addresses in the scheduler's process.
fn a_list_in_an_arena_is_followed(snapshot: &Snapshot<'_>) -> Result<()> {
    let list = snapshot.var("ktstr_arena_list");
    ensure!(
        list.as_u64()? >> 63 == 0,
        "the pointer is not an address in a process"
    );
    ensure!(list.get("number").as_u64()? == 1, "{:?}", list.raw());
    ensure!(list.get("next.number").as_u64()? == 2, "{:?}", list.raw());
    ensure!(list.get("next").as_u64()? == list.as_u64()? + 16);
    ensure!(list.get("next.next").as_u64()? == 0);
    let holder = snapshot.var("ktstr_bss_arena_holder");
    ensure!(holder.get("arena_target").as_u64()? == list.as_u64()?);
    Ok(())
}
