//! Tests of programs and files of the host in the guest: they have the documented paths and the same contents as on the host,
//! and a program can run because its shared libraries are packed too.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::common::Case;
use anyhow::{Context, Result, ensure};
use ktstr::prelude::*;

/// A folder that the host's side of the test fills before the run.
const FOLDER: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/payload-data");

case!(
    FILES = "payload_files",
    files,
    topology: Topology::new(1, 1, 2, 1),
    num_snapshots: 0,
    extra_include_files: &["ls", FOLDER],
);

/// `ls` needs libraries that the test's own binary does not need, and is found on the `PATH` of the test process.
fn files(_: &Ctx) -> Result<AssertResult> {
    let listed = Command::new("ls")
        .args([
            "-1",
            "/include-files/payload-data",
            "/include-files/payload-data/in",
        ])
        .output()
        .context("`ls` starts")?;
    let printed = String::from_utf8_lossy(&listed.stdout).into_owned();
    ensure!(
        listed.status.success(),
        "`ls` ended with {}: {}",
        listed.status,
        String::from_utf8_lossy(&listed.stderr)
    );
    let expected = "/include-files/payload-data:\nempty\nin\n\n\
                    /include-files/payload-data/in:\ndata\nprogram\n";
    ensure!(
        printed == expected,
        "`ls` said {printed:?}, expected {expected:?}"
    );
    let inside = |name: &str| format!("{}/{name}", "/include-files/payload-data");
    let text = std::fs::read_to_string(inside("in/data"))?;
    ensure!(text == "some data", "the file holds {text:?}");
    ensure!(
        std::fs::read(inside("empty"))?.is_empty(),
        "the empty file is not empty"
    );
    for (name, wanted) in [("in/data", 0), ("in/program", 0o111)] {
        let mode = std::fs::metadata(inside(name))?.permissions().mode();
        ensure!(mode & 0o111 == wanted, "{name} has the mode {mode:o}");
    }
    Ok(AssertResult::pass())
}

#[test]
fn files_of_the_host_are_in_the_guest_and_a_program_runs_there() {
    let inside = std::path::Path::new(FOLDER).join("in");
    std::fs::create_dir_all(&inside).expect("a folder of cargo's");
    for (path, text, mode) in [
        (inside.join("data"), "some data", 0o644),
        (inside.join("program"), "#!/bin/true", 0o755),
        (inside.with_file_name("empty"), "", 0o644),
    ] {
        std::fs::write(&path, text).expect("a folder of cargo's");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("its own file");
    }
    let ended = Case::new("payload_files").run();
    ended.says(0, &[]);
}

fn never_called(_: &Ctx) -> Result<AssertResult> {
    unreachable!("these runs end before there is a guest")
}

case!(NOWHERE = "payload_nowhere", never_called, extra_include_files: &["no-such-load"]);

/// A missing program is the user's fault, and the message lists every path that was searched.
#[test]
fn a_program_that_the_host_does_not_have_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut search = vec![folder.path().to_owned()];
    search.extend(std::env::split_paths(
        &std::env::var_os("PATH").unwrap_or_default(),
    ));
    let ended = Case::new("payload_nowhere")
        .env("PATH", std::env::join_paths(search).expect("no colon"))
        .run();
    let tried = folder.path().join("no-such-load").display().to_string();
    ended.says(
        1,
        &[
            "file for the guest `no-such-load`",
            &tried,
            "fault: the user's",
        ],
    );
}
