//! Tests of the guest's disk: its requests take guest time, and the tasks that wait for them sleep in state D.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ktstr::prelude::*;

use crate::guide::between;

const SLOW: DiskConfig = DiskConfig::DEFAULT
    .capacity_mib(16)
    .latency(Duration::from_millis(4))
    .with_name("data");
const READ_ONLY: DiskConfig = DiskConfig::DEFAULT.capacity_mib(16).read_only();
const FEW: DiskConfig = DiskConfig::DEFAULT.capacity_mib(16).iops(100);

/// The data stays, and a request takes the declared time.
#[ktstr_test(cores = 2, disk = SLOW, post_vm = one_write_of_1_mib)]
fn a_disk_keeps_data_and_takes_its_time(_: &Ctx) -> Result<AssertResult> {
    let mut disk = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/data")?;
    let size = disk.seek(std::io::SeekFrom::End(0))?;
    ensure!(size == 16 << 20, "{size} bytes");
    disk.rewind()?;
    let began = Instant::now();
    disk.write_all(&vec![7; 1 << 20])?;
    disk.sync_data()?;
    let took = began.elapsed();
    ensure!(took >= Duration::from_millis(4), "the write took {took:?}");
    let mut read = vec![0; 1 << 20];
    let mut again = File::open("/dev/vda")?;
    again.read_exact(&mut read)?;
    ensure!(read.iter().all(|byte| *byte == 7), "the data is lost");
    Ok(AssertResult::pass())
}

fn one_write_of_1_mib(vm: &VmResult) -> Result<()> {
    let counters = vm.virtio_blk_counters.expect("the test has a disk");
    ensure!(counters.bytes_written == 1 << 20, "{counters:?}");
    ensure!(counters.writes_completed >= 1, "{counters:?}");
    Ok(())
}

/// The workers of these types wait for the disk most of the time. Without a disk they would use the CPU all the time.
#[ktstr_test(cores = 2, duration_s = 1, disk = SLOW, post_vm = the_disk_was_used)]
fn workers_wait_for_the_disk(ctx: &Ctx) -> Result<AssertResult> {
    let group = |name: &str, work| CgroupDef::named(name).workers(2).work_type(work);
    execute_defs(
        ctx,
        vec![
            group("write", WorkType::IoSyncWrite),
            group("read", WorkType::IoRandRead),
            group("convoy", WorkType::IoConvoy),
        ],
    )
}

fn the_disk_was_used(vm: &VmResult) -> Result<()> {
    let counters = vm.virtio_blk_counters.expect("the test has a disk");
    for cgroup in ["write", "read", "convoy"] {
        let all = vm.phase_cgroup(Phase::step(0), cgroup).expect("it ran");
        ensure!(all.total_iterations > 5, "{cgroup}: {all:?}");
        let asleep = all.get("min_off_cpu_pct").unwrap_or(0.0);
        // Six workers that never sleep would be off the two CPUs for 67 % of their time. The bound is below 100 %, because the
        // kernel's own work for the disk takes CPU time: 13 % for the convoy on Linux 6.12.
        ensure!(asleep > 80.0, "{cgroup} was off the CPU for {asleep} %");
    }
    // Each of the two readers completes at most one read in 4 ms. It lives longer than the step, since its last read ends later.
    let readers = vm.phase_cgroup(Phase::step(0), "read").expect("it ran");
    let most = 2 * (readers.longest_life_ns / 4_000_000 + 1);
    let count = readers.total_iterations;
    ensure!((most / 2..=most).contains(&count), "{readers:?}");
    ensure!(
        counters.reads_completed >= readers.total_iterations,
        "{counters:?}"
    );
    ensure!(counters.writes_completed > 100, "{counters:?}");
    Ok(())
}

#[ktstr_test(cores = 2, disk = READ_ONLY)]
fn a_read_only_disk_refuses_writes(_: &Ctx) -> Result<AssertResult> {
    File::open("/dev/vda")?.read_exact(&mut [0; 512])?;
    let opened = OpenOptions::new().write(true).open("/dev/vda");
    let written = opened.and_then(|mut disk| {
        disk.write_all(&[1; 4096])?;
        disk.sync_data()
    });
    ensure!(written.is_err(), "the write was accepted");
    Ok(AssertResult::pass())
}

/// Four readers share one disk that serves 100 requests in a second.
#[ktstr_test(cores = 4, duration_s = 1, disk = FEW, post_vm = one_hundred_in_a_second)]
fn a_rate_bounds_all_requests_together(ctx: &Ctx) -> Result<AssertResult> {
    let readers = CgroupDef::named("read").workers(4);
    execute_defs(ctx, vec![readers.work_type(WorkType::IoRandRead)])
}

fn one_hundred_in_a_second(vm: &VmResult) -> Result<()> {
    let readers = vm.phase_cgroup(Phase::step(0), "read").expect("it ran");
    let most = readers.longest_life_ns / 10_000_000 + 4;
    let count = readers.total_iterations;
    ensure!((most / 2..=most).contains(&count), "{readers:?}");
    Ok(())
}

#[ktstr_test(cores = 2)]
fn without_a_declaration_there_is_no_disk(_: &Ctx) -> Result<AssertResult> {
    ensure!(!std::path::Path::new("/dev/vda").exists());
    Ok(AssertResult::pass())
}

const MINE: Scheduler = Scheduler::named("mine").binary(SchedulerSpec::Discover("scx-ktstr"));

// block
const DISK: DiskConfig = DiskConfig::DEFAULT
    .capacity_mib(64)
    .latency(Duration::from_millis(2));

#[ktstr_test(scheduler = MINE, cores = 4, duration_s = 2, disk = DISK)]
fn readers_beside_spinners(ctx: &Ctx) -> Result<AssertResult> {
    let reading = WorkType::IoRandRead;
    execute_defs(
        ctx,
        vec![
            CgroupDef::named("spin").workers(4),
            CgroupDef::named("read").workers(2).work_type(reading),
        ],
    )
}
// end

#[test]
fn the_code_of_the_page_is_the_code_that_runs() {
    let page = include_str!("../../../../docs/guide/disk.md");
    let printed = between(page, "\n```rust\n", "\n```\n");
    let run = between(include_str!("disk.rs"), "\n// block\n", "\n// end\n");
    assert_eq!(printed, run, "left: docs/guide/disk.md; right: this file");
}
