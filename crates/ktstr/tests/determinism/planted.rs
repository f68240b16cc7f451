//! Tests that the comparison that the other tests use finds nondeterminism: here the host's clock is exposed to the guest, once
//! by a device and once by a file.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use ktstr::prelude::*;
use ktstr_record::compare::{Comparison, Parting};

use crate::common::Case;
use crate::runs::{differences, of_child, twice};

/// The guest's clock chip follows the host's wall clock.
#[test]
fn the_host_s_clock_behind_a_device_is_found() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let wrapper = folder.path().join("qemu");
    let qemu = ktstr_machine::Qemu::find().expect("there is a QEMU");
    let script = format!(
        "#!/bin/bash\nexec {} \"${{@/base=2020-01-01,clock=vm/base=utc,clock=host}}\"\n",
        qemu.path.display()
    );
    std::fs::write(&wrapper, script).expect("a writable folder");
    std::fs::set_permissions(&wrapper, PermissionsExt::from_mode(0o755)).expect("its own file");
    let runs = twice("contended", |case| {
        case.env("KTSTR_COLD", "1").env("KTSTR_QEMU", &wrapper)
    });
    let found = differences(&runs);
    assert_eq!(found.len(), 1, "nothing was found");
    println!("the clock chip: {}", found[0].1);
}

const FILE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/host-time");

case!(
    LEAK = "leak",
    leak,
    topology: Topology::new(1, 1, 2, 1),
    duration: Duration::from_millis(200),
    clock: ClockMode::Virtual,
    num_snapshots: 0,
    extra_include_files: &[FILE],
);

/// Sleeps for a time that depends on the host's clock.
fn leak(_: &Ctx) -> Result<AssertResult> {
    let text = std::fs::read_to_string("/include-files/host-time").context("the planted file")?;
    let ns: u64 = text.trim().parse()?;
    std::thread::sleep(Duration::from_nanos(1_000_000 + ns % 10_000_000));
    Ok(AssertResult::pass())
}

#[test]
fn the_host_s_clock_in_a_file_is_found_and_the_first_switch_named() {
    let runs: Vec<_> = (0..2)
        .map(|_| {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let now = now.expect("this is later").as_nanos();
            std::fs::write(FILE, now.to_string()).expect("a folder of cargo's");
            of_child(&Case::new("leak").run())
        })
        .collect();
    let found = differences(&runs);
    let [(1, Comparison::Differ(parting @ Parting::Switch { left, right, .. }))] = &found[..]
    else {
        panic!("no switch was found: {found:?}");
    };
    println!("the file: {parting}");
    assert!(left.is_some() && right.is_some() && left != right);
}
