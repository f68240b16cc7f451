//! What QEMU may do on the host.
//!
//! A guest is hostile, and QEMU is the wall around it. QEMU needs nothing that is not open when it
//! starts but its firmware, the kernel image and a template's state, so it runs with its seccomp
//! filter, without the right to gain privileges, without the caller's capabilities, and with no
//! descriptor but those it was given.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::MachineError;

/// QEMU's option and its value: the filter kills a QEMU that makes a system call of these groups.
/// QEMU installs the filter before it looks at the guest's image, in all its threads.
pub const SANDBOX: [&str; 2] = [
    "-sandbox",
    "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
];

/// Whether a QEMU of this process refused [`SANDBOX`].
static REFUSED: AtomicBool = AtomicBool::new(false);

/// QEMU's arguments for the filter: none once it was refused.
pub(crate) fn sandbox() -> &'static [&'static str] {
    match REFUSED.load(Ordering::Relaxed) {
        true => &[],
        false => &SANDBOX,
    }
}

/// Whether `error` is that of a QEMU which cannot install its filter. The user is then told once,
/// and machines start without it: a guest has no part in that, for none has run yet.
pub(crate) fn is_refused(error: &MachineError) -> bool {
    let MachineError::Died { stderr, .. } = error else {
        return false;
    };
    if sandbox().is_empty() || !speaks_of_sandbox(stderr) {
        return false;
    }
    if !REFUSED.swap(true, Ordering::Relaxed) {
        eprintln!(
            "ktstr: this QEMU runs without its seccomp sandbox, so a guest that breaks out of it \
             meets one wall less; QEMU said: {stderr}. Install a QEMU that is built with \
             libseccomp (Debian's is), or let this environment install seccomp filters"
        );
    }
    true
}

fn speaks_of_sandbox(stderr: &str) -> bool {
    ["sandbox", "seccomp"]
        .iter()
        .any(|word| stderr.contains(word))
}

/// Confines the calling process, which is about to become QEMU: to be called between fork and exec,
/// makes system calls only. Of what is open only `inherit` and the three standard streams stay open.
pub(crate) fn before_exec(inherit: &[RawFd], parent: rustix::process::Pid) -> std::io::Result<()> {
    close_others()?;
    for fd in inherit {
        // SAFETY: changes a flag of a descriptor, if it is one.
        if unsafe { libc::fcntl(*fd, libc::F_SETFD, 0) } < 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    rustix::thread::set_no_new_privs(true)?;
    drop_capabilities()?;
    // Last: a change of credentials would clear it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if rustix::process::getppid() != Some(parent) {
        // The parent was gone before the signal was asked for.
        return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}

/// Marks every descriptor but the standard streams to be closed by the exec: what this process
/// opens is marked already, but not what it inherited itself, or what a C library opened.
fn close_others() -> std::io::Result<()> {
    // SAFETY: a system call without pointers.
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
        // A kernel before 5.11 has no such call or no such flag.
        Some(libc::ENOSYS | libc::EINVAL) => Ok(()),
        _ => Err(error),
    }
}

/// Leaves root the one capability that its files may need: a user's home is often closed to all
/// but its owner, and root opens the kernel image and the template's state there.
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
    fn only_a_qemu_that_speaks_of_its_sandbox_refused_it() {
        for said in [
            "-sandbox support is not enabled in this QEMU binary",
            "failed to install seccomp syscall filter in the kernel",
        ] {
            assert!(speaks_of_sandbox(said), "{said}");
        }
        assert!(!speaks_of_sandbox("could not open kernel file '/k'"));
    }
}
