// SPDX-License-Identifier: GPL-2.0-only
//! Waits for SIGINT and SIGTERM instead of handling them, because the process has a single thread
//! that has nothing else to do.

use std::io;
use std::time::Duration;

/// A set of SIGINT and SIGTERM, which are blocked in this thread.
pub(crate) struct Signals {
    set: libc::sigset_t,
}

impl Signals {
    /// Blocks the signals, which then stay pending until [`Self::wait`].
    pub(crate) fn block() -> io::Result<Self> {
        let mut set = std::mem::MaybeUninit::uninit();
        // SAFETY: sigemptyset initialises the set. The other calls get an initialised set, and a
        // null pointer where that is allowed.
        let (set, status) = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            let mut set = set.assume_init();
            libc::sigaddset(&mut set, libc::SIGINT);
            libc::sigaddset(&mut set, libc::SIGTERM);
            (
                set,
                libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()),
            )
        };
        match status {
            0 => Ok(Self { set }),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Waits for one of the signals, for at most `limit`. Returns whether one arrived.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        let limit = libc::timespec {
            tv_sec: limit.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        };
        // SAFETY: both pointers are to initialised values that outlive the call.
        unsafe { libc::sigtimedwait(&self.set, std::ptr::null_mut(), &limit) > 0 }
    }
}
