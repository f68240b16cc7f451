//! Restricts what QEMU may do on the host.
//!
//! A guest is hostile, and QEMU is the barrier around it. The only files that QEMU itself has to open are its firmware, the
//! kernel image and, for a fork, the saved state of the template; it gets everything else as open descriptors. It therefore runs
//! with its seccomp filter if it supports one, without the right to gain privileges, without capabilities except the one to open
//! files, and with no descriptors except those that it was given.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::MachineError;

/// QEMU's option for its seccomp filter, and the option's value. The filter kills QEMU if it makes a system call of one of
/// the groups in the value. QEMU installs the filter in all threads, before it reads the guest's image.
pub const SANDBOX: [&str; 2] = [
    "-sandbox",
    "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
];

/// Whether a QEMU of this process has refused [`SANDBOX`].
static REFUSED: AtomicBool = AtomicBool::new(false);

/// Returns QEMU's arguments for the filter; none after it was refused.
pub(crate) fn sandbox() -> &'static [&'static str] {
    match REFUSED.load(Ordering::Relaxed) {
        true => &[],
        false => &SANDBOX,
    }
}

/// Returns whether `error` comes from a QEMU that cannot install its filter. In this case the user is warned once, and this
/// process starts all further machines without the filter. A QEMU that is already starting with the filter may refuse it, too. A
/// guest cannot cause a refusal, because none has run in that QEMU yet.
pub(crate) fn is_refused(error: &MachineError) -> bool {
    let MachineError::Died { stderr, .. } = error else {
        return false;
    };
    // `REFUSED` does not decide: another thread may have set it after this QEMU was started with the filter.
    if !names_sandbox(stderr) {
        return false;
    }
    if !REFUSED.swap(true, Ordering::Relaxed) {
        eprintln!(
            "ktstr: this QEMU runs without its seccomp sandbox, so a guest that breaks out of QEMU \
             has one barrier less to overcome; QEMU printed: {stderr}. Install a QEMU that is built with \
             libseccomp (Debian's is), or let this environment install seccomp filters"
        );
    }
    true
}

/// Returns whether QEMU refuses its sandbox: its message then quotes the option, or says what failed in seccomp (`system/vl.c`,
/// `system/qemu-seccomp.c`). The word `sandbox` or `seccomp` alone does not show a refusal, because it may be part of a path.
fn names_sandbox(stderr: &str) -> bool {
    let words = [
        ": -sandbox on",
        "-sandbox support is not enabled",
        "seccomp syscall filter",
        "seccomp context",
        "seccomp thread synchronization",
        "seccomp denylist",
    ];
    words.iter().any(|words| stderr.contains(words))
}

/// Confines the calling process, which is about to become QEMU. It is called between fork and exec, and makes system calls
/// only. QEMU gets the descriptors `inherit` and the three standard streams, and no others unless the kernel is older than
/// 5.11. It is an error if a system call fails, or if the process `parent` has exited.
pub(crate) fn before_exec(inherit: &[RawFd], parent: rustix::process::Pid) -> std::io::Result<()> {
    close_others()?;
    for fd in inherit {
        // SAFETY: this changes a flag of a descriptor, and fails if the descriptor is not open.
        if unsafe { libc::fcntl(*fd, libc::F_SETFD, 0) } < 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    // The program may be a script that starts QEMU. A process group of its own lets both be killed together, and keeps signals
    // of the user's terminal away from them.
    rustix::process::setpgid(None, None)?;
    rustix::thread::set_no_new_privs(true)?;
    drop_capabilities()?;
    // This comes last, because some changes of credentials clear the signal (prctl(2)).
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if rustix::process::getppid() != Some(parent) {
        // The parent exited before the signal was set.
        return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}

/// Marks every descriptor except the standard streams to be closed at exec. Descriptors that this process opened are
/// marked already, but not those that it inherited or that a C library opened.
fn close_others() -> std::io::Result<()> {
    // SAFETY: the system call takes no pointers.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3_u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    let error = std::io::Error::last_os_error();
    match error.raw_os_error() {
        _ if done == 0 => Ok(()),
        // Kernels before 5.11 lack the system call or the flag, so nothing is marked.
        Some(libc::ENOSYS | libc::EINVAL) => Ok(()),
        _ => Err(error),
    }
}

/// Drops all capabilities except the one that root may need to open files: a user's home is often accessible only to its
/// owner, and root opens the kernel image and the template's state there.
fn drop_capabilities() -> rustix::io::Result<()> {
    let now = rustix::thread::capabilities(None)?;
    let kept = now.permitted & CapabilitySet::DAC_OVERRIDE;
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_sandbox_or_seccomp() {
        for printed in [
            "-sandbox support is not enabled in this QEMU binary",
            "failed to install seccomp syscall filter in the kernel",
        ] {
            assert!(names_sandbox(printed), "{printed}");
        }
        for printed in [
            "could not open kernel file '/k'",
            "could not open kernel file '/home/u/ci-sandbox/seccomp/k'",
        ] {
            assert!(!names_sandbox(printed), "{printed}");
        }
    }
}
