// SPDX-License-Identifier: GPL-2.0-only
//! Waits for SIGINT and SIGTERM instead of handling them. The process has a single thread, which
//! waits between two polls anyway, so it needs no signal handler.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// A set of SIGINT and SIGTERM, which are blocked in this thread.
pub(crate) struct Signals {
    set: libc::sigset_t,
    /// Becomes readable when one of the signals is pending.
    arrival: OwnedFd,
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
            0 => {}
            error => return Err(io::Error::from_raw_os_error(error)),
        }
        // SAFETY: an initialised set, and a new descriptor that nobody else owns.
        let arrival = unsafe {
            match libc::signalfd(-1, &set, libc::SFD_CLOEXEC) {
                fd if fd < 0 => return Err(io::Error::last_os_error()),
                fd => OwnedFd::from_raw_fd(fd),
            }
        };
        Ok(Self { set, arrival })
    }

    /// Waits for one of the signals, or until something arrives at one of these descriptors, for at most `limit`. Returns
    /// whether a signal arrived.
    pub(crate) fn wait_or_arrival(
        &self,
        descriptors: impl Iterator<Item = RawFd>,
        limit: Duration,
    ) -> bool {
        let mut polled: Vec<libc::pollfd> = std::iter::once(self.arrival.as_raw_fd())
            .chain(descriptors)
            .map(|fd| libc::pollfd {
                fd,
                events: libc::POLLIN,
                revents: 0,
            })
            .collect();
        let limit_ms = limit.as_millis().try_into().unwrap_or(libc::c_int::MAX);
        // SAFETY: the pointer and the length are those of the vector. An interrupted call only waits for less time.
        unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, limit_ms) };
        polled[0].revents != 0
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
