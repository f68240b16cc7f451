//! Tests of the probes on simulated machines.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::doctor::Status;

fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

const NO_CAPABILITY: &str = "Name:\tx\nCapEff:\t0000000000000000\n";
const ONLY_PTRACE: &str = "Name:\tx\nCapEff:\t0000000000080000\n";

#[test]
fn yama_levels() {
    let scope = |level: &str, status: &str| {
        let files = [
            ("proc/sys/kernel/yama/ptrace_scope", level),
            ("proc/self/status", status),
        ];
        ptrace_scope(root(&files).path())
    };
    assert_eq!(ptrace_scope(root(&[]).path()).status, Status::Found);
    assert_eq!(scope("0\n", NO_CAPABILITY).status, Status::Found);
    assert_eq!(scope("1\n", NO_CAPABILITY).status, Status::Found);
    assert_eq!(scope("2\n", ONLY_PTRACE).status, Status::Found);
    let two = scope("2\n", NO_CAPABILITY);
    assert_eq!(two.status, Status::Missing);
    assert!(
        two.todo
            .unwrap()
            .contains("sysctl kernel.yama.ptrace_scope=1")
    );
    // At this level not even a capability helps.
    let three = scope("3\n", ONLY_PTRACE);
    assert_eq!(three.status, Status::Missing);
    assert!(three.todo.unwrap().contains("restart the machine"));
}

#[test]
fn options_of_proc() {
    let mounted = |options: &str| {
        let mounts = format!("none / ext4 rw 0 0\nproc /proc proc {options} 0 0\n");
        proc_mount(root(&[("proc/self/mounts", &mounts)]).path())
    };
    assert_eq!(mounted("rw,relatime").status, Status::Found);
    assert_eq!(mounted("rw,hidepid=0").status, Status::Found);
    for hidden in ["hidepid=2", "hidepid=invisible"] {
        let check = mounted(&format!("rw,{hidden}"));
        assert_eq!(check.status, Status::Info);
        assert!(check.found.contains(hidden), "{}", check.found);
    }
    let subset = mounted("rw,hidepid=2,subset=pid");
    assert_eq!(subset.status, Status::Missing);
    assert!(subset.todo.unwrap().contains("mount -t proc proc /proc"));
    assert_eq!(proc_mount(root(&[]).path()).status, Status::Missing);
    let twice = "proc /proc proc rw,subset=pid 0 0\nproc /proc proc rw 0 0\n";
    let check = proc_mount(root(&[("proc/self/mounts", twice)]).path());
    assert_eq!(
        check.status,
        Status::Found,
        "the later mount covers the earlier one"
    );
}

#[test]
fn nameless_files_work_at_each_level() {
    let level = |text: &str| memfd(root(&[("proc/sys/vm/memfd_noexec", text)]).path());
    for text in ["0\n", "1\n", "2\n"] {
        assert_eq!(level(text).status, Status::Found);
    }
    assert!(level("2\n").found.contains("vm.memfd_noexec is 2"));
}

#[test]
fn the_group_of_a_closed_kvm_device_is_named() {
    let dir = root(&[("dev/kvm", "")]);
    let device = dir.path().join("dev/kvm");
    let gid = fs::metadata(&device).unwrap().gid();
    let todo = |mode: u32, group: &str| {
        fs::set_permissions(&device, fs::Permissions::from_mode(mode)).unwrap();
        fs::create_dir_all(dir.path().join("etc")).unwrap();
        fs::write(dir.path().join("etc/group"), group).unwrap();
        kvm_todo(dir.path(), &device).unwrap()
    };
    let group = format!("root:x:0:\nvirt:x:{gid}:somebody\n");
    let named = todo(0o660, &group);
    if gid == 0 {
        // The advice must not be to join root's group.
        assert!(named.contains("chgrp kvm"), "{named}");
    } else {
        assert!(named.contains("usermod -a -G virt USER"), "{named}");
    }
    let closed = todo(0o600, &group);
    assert!(
        closed.contains("chgrp kvm") && closed.contains("chmod 660"),
        "{closed}"
    );
    assert_eq!(kvm_todo(dir.path(), Path::new("/nonexistent")), None);
}

#[test]
fn folders_of_state() {
    let dir = tempfile::tempdir().unwrap();
    let look = |path: &Path| folder("f", path, Place::CACHE);
    let missing = look(&dir.path().join("not/there"));
    assert_eq!(missing.status, Status::Found);
    assert!(missing.found.contains("made when it is needed"));
    assert!(!dir.path().join("not").exists(), "asking makes nothing");
    assert!(look(dir.path()).found.contains("this user's own"));

    let link = dir.path().join("link");
    symlink(dir.path(), &link).unwrap();
    let check = look(&link);
    assert_eq!(check.status, Status::Missing);
    assert!(check.found.contains("symbolic link"), "{}", check.found);
    assert!(check.todo.unwrap().contains("KTSTR_CACHE_DIR"));

    let open = dir.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(look(&open).found.contains("can be written by other users"));

    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let below = look(&file.join("cache"));
    assert_eq!(below.status, Status::Missing, "{}", below.found);
    // Root may write everywhere, so this holds only for other users.
    if rustix::process::geteuid().as_raw() != 0 {
        let closed = dir.path().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
        let check = look(&closed.join("cache"));
        assert_eq!(check.status, Status::Missing);
        assert!(check.found.contains("cannot be written"), "{}", check.found);
    }
}
