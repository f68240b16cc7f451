//! The tests that the bench measures. In `bench_eevdf`, `bench_scx` and their variants with eight CPUs, two workers spin
//! for a window of one second. Memory for the guest's files is added to the 448 MiB that these tests declare, so their machines
//! with two CPUs have 512 MiB. The other tests measure the exact schedule and the virtual clock.

use ktstr::prelude::*;

const SCX_KTSTR: Scheduler =
    Scheduler::named("scx_ktstr").binary(SchedulerSpec::Discover("scx-ktstr"));

fn spin(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![CgroupDef::named("spin").workers(2)])
}

#[ktstr_test(
    llcs = 1,
    cores = 2,
    duration_s = 1,
    num_snapshots = 4,
    memory_mib = 448
)]
fn bench_eevdf(ctx: &Ctx) -> Result<AssertResult> {
    spin(ctx)
}

#[ktstr_test(scheduler = SCX_KTSTR, llcs = 1, cores = 2, duration_s = 1, num_snapshots = 4, memory_mib = 448)]
fn bench_scx(ctx: &Ctx) -> Result<AssertResult> {
    spin(ctx)
}

#[ktstr_test(
    llcs = 2,
    cores = 4,
    duration_s = 1,
    num_snapshots = 4,
    memory_mib = 448
)]
fn bench_eevdf_8(ctx: &Ctx) -> Result<AssertResult> {
    spin(ctx)
}

#[ktstr_test(scheduler = SCX_KTSTR, llcs = 2, cores = 4, duration_s = 1, num_snapshots = 4, memory_mib = 448)]
fn bench_scx_8(ctx: &Ctx) -> Result<AssertResult> {
    spin(ctx)
}

/// Workers that compute, that sleep between bursts, and that wake each other.
fn mixed(ctx: &Ctx) -> Result<AssertResult> {
    let burst = std::time::Duration::from_millis(3);
    execute_defs(
        ctx,
        vec![
            CgroupDef::named("spin").workers(4),
            CgroupDef::named("bursts")
                .workers(4)
                .work_type(WorkType::bursty(burst, burst)),
            CgroupDef::named("pipes")
                .workers(4)
                .work_type(WorkType::pipe_io(1024)),
        ],
    )
}

#[ktstr_test(llcs = 1, cores = 4, duration_s = 5, num_snapshots = 0)]
fn bench_schedule(ctx: &Ctx) -> Result<AssertResult> {
    mixed(ctx)
}

#[ktstr_test(scheduler = SCX_KTSTR, llcs = 1, cores = 4, duration_s = 5, num_snapshots = 0)]
fn bench_schedule_scx(ctx: &Ctx) -> Result<AssertResult> {
    mixed(ctx)
}

fn spin_on_all(ctx: &Ctx) -> Result<AssertResult> {
    let workers = ctx.topo.total_cpus();
    execute_defs(ctx, vec![CgroupDef::named("spin").workers(workers)])
}

/// Tests for the virtual clock, three for each shape. In the first all CPUs are idle and in the second all are busy, both for so
/// long that QEMU's translation of the kernel's code matters little. The third is busy for one second, so the translation counts.
macro_rules! clocked {
    ($($idle:ident $busy:ident $first:ident: $numa:tt $llcs:tt $cores:tt,)*) => {$(
        #[ktstr_test(numa_nodes = $numa, llcs = $llcs, cores = $cores, duration_s = 20, num_snapshots = 0)]
        fn $idle(ctx: &Ctx) -> Result<AssertResult> {
            execute_defs(ctx, vec![])
        }

        #[ktstr_test(numa_nodes = $numa, llcs = $llcs, cores = $cores, duration_s = 10, num_snapshots = 0)]
        fn $busy(ctx: &Ctx) -> Result<AssertResult> {
            spin_on_all(ctx)
        }

        #[ktstr_test(numa_nodes = $numa, llcs = $llcs, cores = $cores, duration_s = 1, num_snapshots = 0)]
        fn $first(ctx: &Ctx) -> Result<AssertResult> {
            spin_on_all(ctx)
        }
    )*};
}

clocked! {
    bench_idle_1 bench_busy_1 bench_first_1: 1 1 1,
    bench_idle_2 bench_busy_2 bench_first_2: 1 1 2,
    bench_idle_4 bench_busy_4 bench_first_4: 1 1 4,
    bench_idle_8 bench_busy_8 bench_first_8: 1 2 4,
    bench_idle_32 bench_busy_32 bench_first_32: 2 4 8,
}
