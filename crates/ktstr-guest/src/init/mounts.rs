//! Mounts the file systems that schedulers and tests expect.

use std::path::Path;

use rustix::mount::{MountFlags, mount};

use super::InitError;

/// The file systems to mount: the type, the mount point, and whether the guest needs it.
const MOUNTS: &[(&str, &str, bool)] = &[
    ("proc", "/proc", true),
    ("sysfs", "/sys", true),
    ("devtmpfs", "/dev", true),
    ("tmpfs", "/run", true),
    ("tmpfs", "/dev/shm", true),
    ("cgroup2", "/sys/fs/cgroup", true),
    ("bpf", "/sys/fs/bpf", false),
    ("debugfs", "/sys/kernel/debug", false),
    ("tracefs", "/sys/kernel/tracing", false),
];

/// Mounts all file systems. File systems that the guest does not need are skipped silently if the kernel lacks them.
pub(super) fn mount_all() -> Result<(), InitError> {
    for &(what, target, needed) in MOUNTS {
        if !Path::new(target).exists() {
            // Mount points in /dev must be created, because /dev is a fresh devtmpfs. The kernel itself creates the mount
            // points below /sys if it supports the file system; otherwise this call fails, and so does the mount.
            let _ = std::fs::create_dir_all(target);
        }
        match mount(what, target, what, MountFlags::empty(), None) {
            // Some kernels mount devtmpfs themselves.
            Ok(()) | Err(rustix::io::Errno::BUSY) => {}
            Err(_) if !needed => {}
            Err(cause) => {
                return Err(InitError::Mount {
                    what,
                    target,
                    cause,
                });
            }
        }
    }
    Ok(())
}
