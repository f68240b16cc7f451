//! Tests as a beginner writes them, with no attributes except the machine's shape and the window. Whatever they catch is
//! caught by the default checks alone.
//!
//! The scenarios were chosen before any results were counted: one that is busy, one with spare CPUs, and one in which
//! cgroups are created and removed while another cgroup moves between CPUs. The copies on other shapes are for the
//! schedulers without a defect.

use std::time::Duration;

use ktstr::prelude::*;

use crate::cell::SCX_KTSTR;

const ENTRY: KtstrTestEntry = KtstrTestEntry {
    scheduler: &SCX_KTSTR,
    duration: Duration::from_secs(3),
    ..KtstrTestEntry::DEFAULT
};

macro_rules! plain {
    ($( $name:literal $func:ident ($nodes:literal, $llcs:literal, $cores:literal); )*) => { $(
        const _: () = {
            #[ktstr_test_entry]
            static ENTRY_OF: KtstrTestEntry = KtstrTestEntry {
                name: concat!("canned-plain_", $name),
                func: $func,
                topology: Topology::new($nodes, $llcs, $cores, 1),
                ..ENTRY
            };
        };
    )* };
}

plain! {
    "four_cgroups" four_cgroups (1, 2, 2);
    "spare" spare (1, 2, 2);
    "moves" moves (1, 2, 2);
    "four_cgroups_on_2" four_cgroups (1, 1, 2);
    "spare_on_2" spare (1, 1, 2);
    "moves_on_2" moves (1, 1, 2);
    "four_cgroups_on_8" four_cgroups (1, 4, 2);
    "spare_on_8" spare (1, 2, 4);
    "moves_on_8" moves (1, 1, 8);
    "four_cgroups_on_16" four_cgroups (2, 4, 4);
    "spare_on_16" spare (2, 2, 8);
}

fn pipes(name: &str, pairs: usize) -> CgroupDef {
    let work = WorkType::PipeIo { burst_iters: 1000 };
    CgroupDef::named(name).work_type(work).workers(2 * pairs)
}

/// Four cgroups: two of spinners, a third one of spinners with a nice value of 5, and a fourth one whose workers wake each other
/// through pipes. There are at least three tasks for each CPU.
fn four_cgroups(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let defs = vec![
        CgroupDef::named("spin_a").workers(cpus),
        CgroupDef::named("spin_b").workers(cpus),
        CgroupDef::named("nice_5").workers(cpus / 2).nice(5),
        pipes("pipes", cpus.div_ceil(4)),
    ];
    execute_defs(ctx, defs)
}

/// Less load than CPUs: there are as many tasks as CPUs, but only half of them spin; the others run for 5 ms and then sleep
/// for 15 ms.
fn spare(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let bursts = WorkType::Bursty {
        burst_duration: Duration::from_millis(5),
        sleep_duration: Duration::from_millis(15),
    };
    let defs = vec![
        CgroupDef::named("busy").workers(cpus / 2),
        CgroupDef::named("bursts")
            .work_type(bursts)
            .workers(cpus / 2),
    ];
    execute_defs(ctx, defs)
}

/// A cgroup is confined to one half of the CPUs and moved to the other half six times, while other cgroups are created and
/// removed.
fn moves(ctx: &Ctx) -> Result<AssertResult> {
    let cpus: Vec<usize> = ctx.topo.all_cpus().to_vec();
    let (low, high) = cpus.split_at(cpus.len() / 2);
    let half = |cpus: &[usize]| CpusetSpec::exact(cpus.iter().copied());
    let backdrop = Backdrop::from_cgroups([
        CgroupDef::named("stays").workers(cpus.len()),
        CgroupDef::named("moves")
            .workers(cpus.len())
            .cpuset(half(low)),
    ]);
    let steps = (0..6)
        .map(|step| {
            let to = if step % 2 == 0 { high } else { low };
            let comes = CgroupDef::named(format!("comes_{step}")).workers(cpus.len() / 2);
            let hold = HoldSpec::Frac(1.0 / 6.0);
            let mut step = Step::with_defs(vec![comes], hold);
            step.ops = vec![Op::set_cpuset("moves", half(to))];
            step
        })
        .collect();
    execute_scenario(ctx, backdrop, steps)
}
