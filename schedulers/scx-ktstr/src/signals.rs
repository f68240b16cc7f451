// SPDX-License-Identifier: GPL-2.0-only
//! SIGINT and SIGTERM as something to wait for, instead of handlers: the
//! process has one thread and nothing else to do meanwhile.

use std::io;
use std::time::Duration;

/// SIGINT and SIGTERM, blocked for this thread.
pub(crate) struct Signals {
    set: libc::sigset_t,
}

impl Signals {
    /// Blocks the signals; from here on they stay pending until [`Self::wait`].
    pub(crate) fn block() -> io::Result<Self> {
        let mut set = std::mem::MaybeUninit::uninit();
        // SAFETY: sigemptyset initialises the set it is given; the other calls
        // get an initialised set and a null pointer where one is allowed.
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

    /// Waits for one of them for at most `limit`; true if one came.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        let limit = libc::timespec {
            tv_sec: limit.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        };
        // SAFETY: both pointers are to initialised values that outlive the call.
        unsafe { libc::sigtimedwait(&self.set, std::ptr::null_mut(), &limit) > 0 }
    }
}
