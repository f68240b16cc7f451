//! The tests that are measured: a window of one second, as little as a run can be. With the files of the guest their
//! machines have 512 MiB.

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
