//! The permissions of this user on this machine: to read a child's memory and `/proc`, to create files by `memfd_create(2)`,
//! to use KVM, and to write the folders of state.
//!
//! The probes of the system read small files below a root, which is `/`, or in a test a folder with simulated files. The
//! probes of folders look at the folder itself.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ktstr_state::{Folder, Place};

use super::Check;

/// The number of the bit of `CAP_SYS_PTRACE` in a capability set (capabilities(7)).
const CAP_SYS_PTRACE: u32 = 19;

pub(super) fn checks() -> Vec<Check> {
    let root = Path::new("/");
    let cache = crate::kernel::cache_dir();
    vec![
        ptrace_scope(root),
        proc_mount(root),
        memfd(root),
        match cache {
            Some(path) => folder("cache folder", &path, Place::CACHE),
            None => Check::missing(
                "cache folder",
                "neither KTSTR_CACHE_DIR nor HOME is set",
                "set KTSTR_CACHE_DIR",
            ),
        },
        folder("folder of runs", &ktstr_record::runs_root(), Place::RUNS),
    ]
}

fn text(root: &Path, path: &str) -> Option<String> {
    fs::read_to_string(root.join(path)).ok()
}

/// Checks Yama (Documentation/admin-guide/LSM/Yama.rst). QEMU is a child of the process that runs the test. Captures read its
/// memory, and the virtual clock reads its state. Both need the permissions of ptrace(2), which Yama denies at level 2 without
/// `CAP_SYS_PTRACE`, and at level 3.
fn ptrace_scope(root: &Path) -> Check {
    let name = "ptrace of QEMU";
    let setting = "kernel.yama.ptrace_scope";
    let Some(scope) = text(root, "proc/sys/kernel/yama/ptrace_scope") else {
        return Check::found(name, "this kernel has no Yama to forbid it");
    };
    let scope = scope.trim();
    let found = format!("{setting} is {scope}");
    match scope {
        "0" | "1" => Check::found(name, found),
        "2" if capable(root, CAP_SYS_PTRACE) => Check::found(
            name,
            format!("{found}, and this process has CAP_SYS_PTRACE"),
        ),
        "2" => Check::missing(
            name,
            format!("{found}: only processes with CAP_SYS_PTRACE may trace a child"),
            format!(
                "as root, run `sysctl {setting}=1`, and write the same to a file in /etc/sysctl.d"
            ),
        ),
        "3" => Check::missing(
            name,
            format!("{found}: no process may trace a child until the next boot"),
            format!("set {setting}=1 where /etc/sysctl.d sets it to 3, and restart the machine"),
        ),
        _ => Check::info(name, format!("{found}, an unknown level")),
    }
}

/// Returns whether this process has the capability with this bit in its effective set.
fn capable(root: &Path, bit: u32) -> bool {
    let status = text(root, "proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .is_some_and(|set| set >> bit & 1 == 1)
}

/// Checks the mount options of /proc (Documentation/filesystems/proc.rst). ktstr works with any `hidepid`, because QEMU runs as
/// this user, and a user's own processes stay visible. It does not work with `subset=pid`, because that hides the files that say
/// how much memory the host has and which locks are held. A remount cannot take this option back (fs/proc/root.c).
fn proc_mount(root: &Path) -> Check {
    let name = "/proc";
    let mounts = text(root, "proc/self/mounts").unwrap_or_default();
    // The last mount hides the earlier ones.
    let options = mounts.lines().rev().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (place, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
        (place == "/proc" && kind == "proc").then(|| options.to_owned())
    });
    let Some(options) = options else {
        return Check::missing(name, "not mounted", "mount -t proc proc /proc");
    };
    let has = |wanted: &str| options.split(',').any(|option| option == wanted);
    let hidden = options
        .split(',')
        .find(|option| option.starts_with("hidepid=") && *option != "hidepid=0");
    if has("subset=pid") {
        Check::missing(
            name,
            "mounted with subset=pid: the host's memory and locks cannot be read",
            "as root, run `mount -t proc proc /proc`, which mounts another one over it",
        )
    } else if let Some(hidden) = hidden {
        Check::info(
            name,
            format!(
                "mounted with {hidden}: only processes of this user can be read, which is enough"
            ),
        )
    } else {
        Check::found(name, "all of it can be read")
    }
}

/// Checks `memfd_create(2)`, with which the files of the guest's memory and of the clock's plugin are created.
fn memfd(root: &Path) -> Check {
    let name = "memfd_create";
    match text(root, "proc/sys/vm/memfd_noexec")
        .as_deref()
        .map(str::trim)
    {
        None | Some("0") => Check::found(name, "permitted"),
        Some(level) => Check::found(
            name,
            format!(
                "vm.memfd_noexec is {level}: such files cannot be executed, and ktstr does not execute them"
            ),
        ),
    }
}

/// Returns what to do about a KVM device that this user may not open: join its group if the group may open it and is not
/// root's, or else give the device to the group `kvm`. `None` if there is no such device.
pub(super) fn kvm_todo(root: &Path, device: &Path) -> Option<String> {
    let meta = fs::metadata(device).ok()?;
    let group = text(root, "etc/group").and_then(|text| {
        text.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (name, id) = (fields.next()?, fields.nth(1)?);
            (id.parse() == Ok(meta.gid())).then(|| name.to_owned())
        })
    });
    match group {
        Some(group) if meta.mode() & 0o060 == 0o060 && meta.gid() != 0 => Some(format!(
            "as root, run `usermod -a -G {group} USER`, and log in again"
        )),
        _ => Some(format!(
            "as root, run `chgrp kvm {0} && chmod 660 {0}`, and add this user to the group kvm",
            device.display()
        )),
    }
}

/// Checks that a folder of state belongs to this user alone and can be written, or that it can be created.
fn folder(name: &'static str, path: &Path, place: Place) -> Check {
    let refused = |error: &dyn std::fmt::Display| {
        Check::missing(
            name,
            error.to_string(),
            format!("set {} to a folder of your own", place.variable),
        )
    };
    let (nearest, found) = match Folder::existing(path, place) {
        Err(error) => return refused(&error),
        Ok(Some(_)) => (
            path.to_owned(),
            format!("{}, this user's own", path.display()),
        ),
        Ok(None) => (
            nearest(path),
            format!("{}, made when it is needed", path.display()),
        ),
    };
    match rustix::fs::access(
        &nearest,
        rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
    ) {
        Ok(()) => Check::found(name, found),
        Err(errno) => refused(&format!(
            "{}: {} cannot be written ({})",
            path.display(),
            nearest.display(),
            std::io::Error::from(errno)
        )),
    }
}

/// Returns the nearest existing path above `path`.
fn nearest(path: &Path) -> PathBuf {
    path.ancestors()
        .skip(1)
        .find(|above| !matches!(fs::symlink_metadata(above), Err(e) if e.kind() == ErrorKind::NotFound))
        .unwrap_or(Path::new("/"))
        .to_owned()
}

#[cfg(test)]
#[path = "permissions_tests.rs"]
mod tests;
