//! The requirements on the machine itself: available kernels, KVM, space in `/dev/shm` and on disks, and permission to read the
//! memory of a child process.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ktstr::run::kvm::Finding;
use ktstr_state::arch;
use ktstr_state::env::{self, Row};

use super::tools::on_path;
use super::{Check, permissions};
use crate::kernel;

/// The least free disk space in MiB: enough for two cached kernels and some runs.
const DISK_MIN_MIB: u64 = 1024;

pub(super) fn checks() -> Vec<Check> {
    vec![
        kernel_source(),
        kernel_cache(),
        kvm(Path::new("/dev/kvm")),
        match free_mib(Path::new("/dev/shm")) {
            Some(mib) => Check::info("/dev/shm", format!("{mib} MiB free")),
            None => Check::info("/dev/shm", "not there"),
        },
        disk("disk for kernels", kernel::cache_dir()),
        disk("disk for runs", Some(ktstr_record::runs_root())),
        child_memory(),
    ]
}

fn kernel_source() -> Check {
    let name = "where kernels come from";
    let named = [env::TEST_KERNEL.row(), env::KERNEL.row()];
    let set = |row: &Row| Some(format!("{}={}", row.name, row.shown()?));
    if let Some(named) = named.into_iter().find_map(set) {
        return Check::found(name, named);
    }
    match (on_path("apt-get"), env::OFFLINE.is_on()) {
        (_, true) => Check::info(
            name,
            "KTSTR_OFFLINE is set: only kernels that are already here",
        ),
        (Some(path), false) => Check::found(
            name,
            format!("Debian's packages, through {}", path.display()),
        ),
        (None, false) => Check::missing(
            name,
            "no apt-get to fetch one with",
            format!(
                "set KTSTR_KERNEL to a {} of a kernel with sched_ext",
                arch::IMAGE
            ),
        ),
    }
}

fn kernel_cache() -> Check {
    let name = "cached kernels";
    match kernel::cached_ids() {
        Ok(ids) if ids.is_empty() => {
            Check::info(name, "none yet; the first test fetches one (about 40 MB)")
        }
        Ok(ids) => Check::found(name, ids.join(", ")),
        Err(error) => Check::missing(
            name,
            error.to_string(),
            "set KTSTR_CACHE_DIR to a folder that can be written",
        ),
    }
}

/// Checks whether KVM can be opened. Even if it can, a kernel may fail to boot under it, so the results of earlier boots are
/// reported as well.
fn kvm(device: &Path) -> Check {
    match File::options().read(true).write(true).open(device) {
        Ok(_) => Check::info(
            "KVM",
            match ktstr::run::kvm::findings() {
                Ok(known) => opened(&known),
                Err(error) => format!(
                    "can be opened; the results of earlier boots under it cannot be read: {error}"
                ),
            },
        ),
        Err(error) => Check {
            todo: (error.kind() == std::io::ErrorKind::PermissionDenied)
                .then(|| permissions::kvm_todo(Path::new("/"), device))
                .flatten(),
            ..Check::info(
                "KVM",
                format!(
                    "{}: {error}; guests run in software, which is slower",
                    device.display()
                ),
            )
        },
    }
}

/// Describes the newest result of a boot under KVM, and the newest failure if that was another boot.
fn opened(known: &[Finding]) -> String {
    let newest = known.first();
    let failed = known.iter().find(|finding| finding.failed.is_some());
    let mut text = "can be opened".to_owned();
    for finding in newest
        .into_iter()
        .chain(failed.filter(|_| failed != newest))
    {
        text.push_str(&format!("; {finding}"));
    }
    if known.is_empty() {
        text.push_str("; whether a kernel boots under it is tried by the first run");
    }
    text
}

fn disk(name: &'static str, folder: Option<PathBuf>) -> Check {
    let Some(folder) = folder else {
        return Check::missing(name, "no folder for it", "set KTSTR_CACHE_DIR or HOME");
    };
    // The folder itself need not exist yet.
    let Some(mib) = folder.ancestors().find_map(free_mib) else {
        return Check::missing(
            name,
            format!("cannot ask {}", folder.display()),
            "check the path",
        );
    };
    let found = format!("{mib} MiB free at {}", folder.display());
    if mib >= DISK_MIN_MIB {
        Check::found(name, found)
    } else {
        Check::missing(
            name,
            found,
            format!(
                "free {DISK_MIN_MIB} MiB there, or choose another disk by KTSTR_CACHE_DIR or KTSTR_RUNS_ROOT"
            ),
        )
    }
}

fn free_mib(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize) >> 20)
}

/// Captures read the guest's memory from the QEMU process, a child. This checks the same permission on a child that does nothing.
fn child_memory() -> Check {
    let name = "reading QEMU's memory";
    let spawned = Command::new("sleep")
        .arg("60")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    let Ok(mut child) = spawned else {
        return Check::info(name, "not tried: no sleep(1)");
    };
    let opened = File::open(format!("/proc/{}/mem", child.id()));
    // The child exits on its own if it cannot be killed.
    let _ = child.kill();
    let _ = child.wait();
    match opened {
        Ok(_) => Check::found(name, "permitted"),
        Err(error) => {
            let scope =
                fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
            Check::missing(
                name,
                format!("{error} (kernel.yama.ptrace_scope is {})", scope.trim()),
                "sysctl kernel.yama.ptrace_scope=1; in a container, add the capability SYS_PTRACE",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    #[test]
    fn a_folder_that_is_not_there_yet_is_asked_of_its_parent() {
        assert_ne!(
            disk("d", Some(std::env::temp_dir().join("not/there/yet"))).found,
            ""
        );
        assert_eq!(disk("d", None).status, Status::Missing);
    }

    #[test]
    fn a_child_can_be_read_here() {
        // The tests of captures need this permission too.
        assert_eq!(child_memory().status, Status::Found);
    }

    #[test]
    fn a_kvm_that_failed_is_shown_with_the_reason() {
        let finding = |failed: Option<&str>, kernel: &str| Finding {
            failed: failed.map(str::to_owned),
            at: 0,
            kernel: kernel.to_owned(),
            qemu: "10.0.2".to_owned(),
            host: "this".to_owned(),
        };
        let text = opened(&[
            finding(None, "7.3.4"),
            finding(Some("it reset itself"), "7.1.1"),
        ]);
        assert!(text.contains("kernel 7.3.4 booted under it"), "{text}");
        assert!(text.contains("7.1.1 did not boot under it") && text.contains("it reset itself"));
        assert!(opened(&[]).contains("tried by the first run"));
    }

    #[test]
    fn no_kvm_is_no_defect() {
        assert_eq!(kvm(Path::new("/nonexistent")).status, Status::Info);
    }
}
