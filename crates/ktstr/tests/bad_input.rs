//! Tests of the messages if something that a run needs is missing or invalid: what was tried, what was found, what to do. The
//! exit code is 1 for a fault of the user or of the test, and 2 for a fault of the host. None of these runs starts a machine.

#[macro_use]
mod common;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use common::Case;
use ktstr::prelude::*;

const SCX_KTSTR: Scheduler =
    Scheduler::named("scx_ktstr").binary(SchedulerSpec::Discover("scx-ktstr"));
const NOWHERE: Scheduler =
    Scheduler::named("nowhere").binary(SchedulerSpec::Discover("scx_nowhere"));

fn never_called(_: &Ctx) -> Result<AssertResult> {
    unreachable!("these runs end before there is a guest")
}

case!(PLAIN = "plain", never_called);
case!(SCHEDULED = "scheduled", never_called, scheduler: &SCX_KTSTR);
case!(UNFOUND = "unfound", never_called, scheduler: &NOWHERE);
case!(BAD_SHAPE = "bad_shape", never_called, topology: Topology::new(2, 3, 1, 1));

#[test]
fn no_qemu() {
    let empty = tempfile::tempdir().expect("a temporary folder");
    let ended = Case::new("plain")
        .env("KTSTR_QEMU", "")
        .env("PATH", empty.path())
        .run();
    let folder = empty.path().display().to_string();
    ended.says(
        2,
        &[
            "no QEMU",
            "qemu-system-x86_64",
            &folder,
            "make deps",
            "KTSTR_QEMU",
        ],
    );
    Case::new("plain")
        .env("KTSTR_QEMU", "/nowhere/qemu")
        .run()
        .says(
            1,
            &[
                "KTSTR_QEMU=/nowhere/qemu: there is no such file",
                "fault: the user's",
            ],
        );
}

#[test]
fn a_qemu_that_is_too_old() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let old = folder.path().join("qemu-system-x86_64");
    std::fs::write(
        &old,
        "#!/bin/sh\necho 'QEMU emulator version 7.2.19 (Debian)'\n",
    )
    .expect("a writable folder");
    std::fs::set_permissions(&old, PermissionsExt::from_mode(0o755)).expect("our file");
    let ended = Case::new("plain").env("KTSTR_QEMU", &old).run();
    ended.says(
        2,
        &[
            "7.2.19",
            "QEMU 10 or newer",
            "make deps",
            "bookworm-backports",
        ],
    );
}

#[test]
fn no_kernel_and_offline() {
    let cache = common::private_tempdir();
    let ended = Case::new("plain")
        .env("KTSTR_CACHE_DIR", cache.path())
        .env("KTSTR_OFFLINE", "1")
        .kernel("debian:7.3")
        .run();
    let looked = cache.path().display().to_string();
    ended.says(
        2,
        &[
            "no kernel for `debian:7.3`",
            "KTSTR_OFFLINE",
            &looked,
            "KTSTR_KERNEL",
        ],
    );
}

#[test]
fn a_file_that_is_no_kernel() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let cache = common::private_tempdir();
    let run = |request: &str| {
        Case::new("plain")
            .env("KTSTR_CACHE_DIR", cache.path())
            .env("KTSTR_OFFLINE", "1")
            .kernel(request)
            .run()
    };
    run(file).says(1, &[file, "is not a kernel", "bzImage", "vmlinux"]);
    run("/nowhere/vmlinuz").says(1, &["kernel `/nowhere/vmlinuz`", "no such file or folder"]);
}

/// Creates a cache with the real kernel and a modified description.
fn cache_of(change: impl Fn(&mut serde_json::Value)) -> (tempfile::TempDir, String) {
    let kernel = real_kernel();
    let cache = common::private_tempdir();
    let entry = cache.path().join("kernels").join(&kernel.id);
    common::private_folder(&entry);
    for file in std::fs::read_dir(kernel.vmlinux.parent().expect("an entry is a folder"))
        .expect("an entry can be read")
        .flatten()
    {
        let place = entry.join(file.file_name());
        if file.file_name() == "kernel.json" {
            let text = std::fs::read(file.path()).expect("a file of ours");
            let mut meta = serde_json::from_slice(&text).expect("JSON");
            change(&mut meta);
            std::fs::write(place, meta.to_string()).expect("a writable folder");
        } else {
            symlink(file.path(), place).expect("a writable folder");
        }
    }
    (cache, kernel.id)
}

fn real_kernel() -> ktstr_kernel::Kernel {
    ktstr_kernel::resolve(None, &mut ktstr_kernel::progress::on_stderr()).expect("a kernel")
}

#[test]
fn a_kernel_without_what_a_scheduler_needs() {
    let run = |field: &str| {
        let (cache, id) = cache_of(|meta| {
            assert_eq!(meta[field], true, "{meta}");
            meta[field] = false.into();
        });
        let ended = Case::new("scheduled")
            .env("KTSTR_CACHE_DIR", cache.path())
            .env("KTSTR_OFFLINE", "1")
            .kernel(&id)
            .run();
        (ended, id)
    };
    let (ended, id) = run("has_sched_ext");
    ended.says(
        1,
        &[
            &id,
            "has no sched_ext",
            "CONFIG_SCHED_CLASS_EXT",
            "kernel fetch",
        ],
    );
    let (ended, id) = run("has_btf");
    ended.says(
        1,
        &[&id, "has no BTF", "CONFIG_DEBUG_INFO_BTF", "kernel fetch"],
    );
}

#[test]
fn a_scheduler_that_is_nowhere() {
    let ended = Case::new("unfound").run();
    let folder = std::env::current_exe().expect("our binary");
    let folder = folder.parent().expect("a file has a folder");
    let places = [
        folder.join("scx_nowhere"),
        folder.with_file_name("scx_nowhere"),
    ];
    let places = places.map(|place| place.display().to_string());
    let mut parts: Vec<&str> = places.iter().map(String::as_str).collect();
    parts.extend([
        "`scx_nowhere` was not found",
        "cargo build -p scx_nowhere",
        "has no package or binary of that name",
        "KTSTR_SCHEDULER",
    ]);
    ended.says(1, &parts);
}

#[test]
fn a_named_scheduler_that_cannot_be_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let script = folder.path().join("script");
    std::fs::write(&script, "#!/bin/sh\n").expect("writable");
    for (named, found) in [
        (Path::new("/nowhere/scx"), "there is no such file"),
        (folder.path(), "it is a folder"),
        (&script, "it is a script, and the guest has no interpreter"),
    ] {
        let named = named.display().to_string();
        let ended = Case::new("scheduled").env("KTSTR_SCHEDULER", &named).run();
        ended.says(
            1,
            &["KTSTR_SCHEDULER: `", &named, found, "fault: the user's"],
        );
    }
}

#[test]
fn a_profile_that_cargo_does_not_have() {
    let case = Case::new("scheduled").env("KTSTR_SCHEDULER_PROFILE", "nonsense");
    case.run().says(
        1,
        &[
            "the scheduler `scx-ktstr` does not build",
            "profile `nonsense` is not defined",
        ],
    );
    let case = Case::new("scheduled").env("KTSTR_SCHEDULER_PROFILE", "--config=x");
    case.run().says(
        1,
        &[
            "KTSTR_SCHEDULER_PROFILE=--config=x",
            "name of a cargo profile",
        ],
    );
}

#[test]
fn a_topology_that_cannot_be_divided() {
    let ended = Case::new("bad_shape").run();
    ended.says(1, &["llcs = 3 cannot be divided by numa_nodes = 2"]);
}

#[test]
fn a_seed_that_is_no_number() {
    let ended = Case::new("plain").env("KTSTR_SEED", "twelve").run();
    ended.says(1, &["KTSTR_SEED=twelve", "whole number"]);
}

#[test]
fn variables_with_invalid_values_are_refused() {
    let out_of_range = [
        ("KTSTR_TURN_US", "9", "10 to 1000 microseconds"),
        ("KTSTR_TURN_US", "-1", "10 to 1000 microseconds"),
        ("KTSTR_VIRTUAL_MIPS", "300", "125, 250, 500 or 1000"),
        ("KTSTR_CLOCK", "wall", "`auto`, `real` or `virtual`"),
        ("KTSTR_TEMPLATES_MIB", "8G", "a number of MiB"),
        (
            "KTSTR_TOPOLOGY",
            "4cpu",
            "expected <nodes>n<llcs>l<cores>c<threads>t",
        ),
        (
            "KTSTR_TOPOLOGY",
            "4cpu-9llc",
            "The presets are: 4cpu-1llc-nosmt, 4cpu-2llc-nosmt",
        ),
        (
            "KTSTR_TOPOLOGY",
            "1n2l0c1t",
            "must be a number of at least 1",
        ),
    ];
    for (name, value, wanted) in out_of_range {
        let mut case = Case::new("plain").env(name, value);
        if name != "KTSTR_CLOCK" {
            case = case.env("KTSTR_CLOCK", "virtual");
        }
        let printed = format!("{name}={value}");
        case.run().says(1, &[&printed, wanted]);
    }
}

#[test]
fn a_text_that_is_not_utf_8_is_refused() {
    let value = OsStr::from_bytes(b"debian:\xff");
    for (name, wanted) in [
        ("KTSTR_KERNEL", "the spec of a kernel, in UTF-8"),
        ("KTSTR_TEST_KERNEL", "the spec of a kernel, in UTF-8"),
        ("KTSTR_TOPOLOGY", "the shape of a machine, in UTF-8"),
    ] {
        let ended = Case::new("plain").env(name, value).run();
        ended.says(1, &[&format!("{name}=debian:\u{fffd}: "), wanted]);
    }
}

/// Runs with this folder as the cache. The run must refuse the folder with the exit code for the host's fault, and state
/// what was found and what to do.
#[track_caller]
fn refuses(cache: &Path, parts: &[&str]) {
    let ended = Case::new("plain")
        .env("KTSTR_CACHE_DIR", cache)
        .env("KTSTR_OFFLINE", "1")
        .run();
    let named = cache.display().to_string();
    ended.says(2, &["the cache folder", &named, "KTSTR_CACHE_DIR"]);
    ended.says(2, parts);
}

#[test]
fn a_cache_that_is_not_this_users_alone() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let set_mode = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("our folder");
    };
    let real = dir.path().join("real");
    common::private_folder(&real);
    let link = dir.path().join("link");
    symlink(&real, &link).expect("a writable folder");
    refuses(
        &link,
        &["is a symbolic link to", &real.display().to_string()],
    );

    let open = dir.path().join("open");
    common::private_folder(&open);
    set_mode(&open, 0o777);
    refuses(
        &open,
        &["can be written by other users (mode 777)", "chmod go-w"],
    );

    let file = dir.path().join("file");
    std::fs::write(&file, "").expect("a writable folder");
    refuses(&file, &["is not a folder"]);

    // Any other user's folder must be refused.
    if rustix::process::getuid().is_root() {
        let foreign = dir.path().join("foreign");
        common::private_folder(&foreign);
        std::os::unix::fs::chown(&foreign, Some(12345), None).expect("root may");
        refuses(&foreign, &["belongs to user 12345", "runs as user 0"]);
    } else {
        refuses(Path::new("/usr"), &["belongs to user 0"]);
        let unreadable = dir.path().join("unreadable");
        common::private_folder(&unreadable);
        set_mode(&unreadable, 0o000);
        refuses(&unreadable, &["cannot open", "ermission denied"]);
        set_mode(&unreadable, 0o700);
    }
}

#[test]
fn a_runs_root_that_is_not_this_users_alone_costs_the_record() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let link = dir.path().join("link");
    symlink("/nowhere", &link).expect("a writable folder");
    // The declaration is reported to be at fault even if the record cannot be written.
    let mut case = Case::new("bad_shape");
    case.command.env("KTSTR_RUNS_ROOT", &link);
    let ended = case.run();
    ended.says(
        1,
        &[
            "record could not be written",
            "the folder of runs",
            "is a symbolic link to /nowhere",
            "KTSTR_RUNS_ROOT",
        ],
    );
}

/// The cache is on a file system of 8 MiB that only the run sees. Afterwards the shell lists the files that the run left there.
#[test]
fn a_disk_that_is_full_in_the_cache() {
    const OF_ITS_OWN: [&str; 2] = ["--map-root-user", "--mount"];
    if !common::can_mount(&OF_ITS_OWN) {
        return;
    }
    let image = real_kernel().image;
    let cache = common::private_tempdir();
    let program = std::env::current_exe().expect("our binary");
    let mut command = Command::new("unshare");
    command.args(OF_ITS_OWN).args(["sh", "-c"]).arg(
        "mount -t tmpfs -o mode=700,size=8m none \"$KTSTR_CACHE_DIR\" || exit 99\n\
         \"$@\"; code=$?\n\
         find \"$KTSTR_CACHE_DIR\" -type f -size +0 -exec echo 'left behind:' {} + >&2\n\
         exit $code",
    );
    command.arg("sh").arg(program);
    command.args(["--exact", "ktstr/__unit_test_plain__", "--nocapture"]);
    let ended = Case::of(command)
        .env("KTSTR_CACHE_DIR", cache.path())
        .env("KTSTR_OFFLINE", "1")
        .kernel(&image)
        .run();
    ended.says(
        2,
        &[
            "no space left while writing",
            "Free some space",
            "KTSTR_CACHE_DIR",
        ],
    );
    assert!(!ended.text.contains("left behind"), "{}", ended.text);
}
