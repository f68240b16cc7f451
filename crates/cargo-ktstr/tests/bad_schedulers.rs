//! Tests `check` on programs that are not schedulers, and on a scheduler that dies after it has attached: each check ends
//! with a message that names what was found, and with the right exit code. Each check boots a virtual machine. The programs
//! that are not schedulers are found on any Linux system.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};

use common::{ktstr, text};
use ktstr::test_support::{Scheduler, SchedulerSpec};

/// Returns the path of the program with this name.
fn program(name: &str) -> PathBuf {
    let folders = ["/usr/bin", "/bin"].map(Path::new);
    let found = folders.iter().map(|folder| folder.join(name));
    found.into_iter().find(|path| path.is_file()).unwrap()
}

/// Checks one scenario, asserts the exit code, and returns the screen.
fn check(binary: &Path, args: &[&str], code: i32) -> String {
    let root = tempfile::tempdir().unwrap();
    let words = ["check", binary.to_str().unwrap(), "--scenarios", "steady"];
    let words = [&words[..], &["--seeds", "1", "--"], args].concat();
    let output = ktstr(&root.path().join("ktstr"), &words)
        .current_dir(root.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(code), "{}", text(&output));
    text(&output)
}

fn holds(screen: &str, parts: &[&str]) {
    for part in parts {
        assert!(screen.contains(part), "there is no {part:?} in {screen}");
    }
}

#[test]
fn a_program_that_exits_at_once_is_reported_with_the_advice_to_stay_in_the_foreground() {
    let screen = check(&program("true"), &[], 1);
    let printed =
        "it exited with code 0 before it attached; a scheduler must stay in the foreground";
    holds(&screen, &["DOES NOT LOAD on ", printed]);
}

#[test]
fn a_program_without_its_configuration_is_shown_with_its_output() {
    let screen = check(&program("cat"), &["/etc/scx_mine/config.toml"], 1);
    holds(
        &screen,
        &[
            "it exited with code 1 before it attached",
            "/etc/scx_mine/config.toml: No such file or directory",
        ],
    );
}

#[test]
fn a_program_that_never_attaches_ends_at_the_time_limit() {
    let screen = check(&program("sleep"), &["1000000"], 1);
    holds(
        &screen,
        &["was still not `enabled` after 120 s of guest time"],
    );
}

#[test]
fn a_program_that_exhausts_the_memory_of_the_guest_is_not_blamed() {
    // `tail` reads an endless line into memory.
    let screen = check(&program("tail"), &["/dev/zero"], 2);
    holds(
        &screen,
        &[
            "DOES NOT LOAD on ",
            "and that is not the scheduler's fault",
            "was killed by signal 9 before it attached: the guest ran out of memory, of which it has ",
        ],
    );
}

#[test]
fn a_scheduler_that_dies_after_it_has_attached_is_broken() {
    let declared = Scheduler::named("scx_ktstr")
        .binary(SchedulerSpec::Discover("scx-ktstr"))
        .manifest_dir(env!("CARGO_MANIFEST_DIR"));
    let found = ktstr::run::find_scheduler_binary(&declared).unwrap();
    let path = found.unwrap().path;
    let screen = check(&path, &["--crash-after", "1"], 1);
    holds(
        &screen,
        &["BROKEN  1", "scheduler ejected", "the kernel reported it"],
    );
    let screen = check(&path, &["--exit-after", "1"], 1);
    holds(
        &screen,
        &["BROKEN  1", "stopped on its own and exited with code 0"],
    );
}
