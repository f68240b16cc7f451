//! Keeps locks out of forked children.
//!
//! An flock belongs to the open file description, which a child of fork(2) shares until it calls exec. The workers of a
//! `host_only` test would therefore keep the locks that other threads of the test binary held at the time of the fork. A
//! `pthread_atfork(3)` handler replaces the descriptor of every lock in the child, so that only the parent keeps the lock.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Once;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::SeqCst};

/// The maximum number of locks that one process holds at once. A machine needs only a few.
const MOST: usize = 1024;
const FREE: i32 = -1;

/// The descriptors of the locks' files that this process has open; [`FREE`] in the places that are not used.
static HELD: [AtomicI32; MOST] = [const { AtomicI32::new(FREE) }; MOST];
/// The number of threads that are opening or closing a lock's file and updating [`HELD`] along with it.
static ENTERING: AtomicU32 = AtomicU32::new(0);
/// The number of threads that are inside fork(2).
static FORKING: AtomicU32 = AtomicU32::new(0);

/// An open file whose descriptor no forked child keeps.
#[derive(Debug)]
pub(crate) struct OwnFile {
    /// `None` only while the value is being dropped.
    file: Option<File>,
    /// The index of the descriptor in [`HELD`].
    at: usize,
}

impl std::ops::Deref for OwnFile {
    type Target = File;

    fn deref(&self) -> &File {
        self.file.as_ref().expect("taken by drop alone")
    }
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        // A fork must not find a descriptor in the list that another file may have reused, nor miss one that is still open.
        let _entering = Entering::new();
        HELD[self.at].store(FREE, SeqCst);
        // A child of posix_spawn(3) or vfork(2) runs no handler and shares the lock until its exec. Unlocking explicitly
        // releases the lock for all descriptors. It fails only for a lock that is not held.
        if let Some(file) = self.file.take() {
            let _ = file.unlock();
        }
    }
}

/// Opens a file and lists its descriptor in [`HELD`]. No other thread can fork in the meantime. Returns an error if `open`
/// fails, or if this process holds [`MOST`] locks already.
pub(crate) fn open(open: impl FnOnce() -> io::Result<File>) -> io::Result<OwnFile> {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // This fails only for lack of memory; forked children then keep the locks, as they would without the handlers.
        // SAFETY: the three handlers are functions of this library, which is never unloaded.
        unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
    });
    let _entering = Entering::new();
    let file = open()?;
    let fd = file.as_raw_fd();
    for (at, place) in HELD.iter().enumerate() {
        if place.compare_exchange(FREE, fd, SeqCst, SeqCst).is_ok() {
            return Ok(OwnFile {
                file: Some(file),
                at,
            });
        }
    }
    Err(io::Error::other(format!(
        "this process holds {MOST} locks already"
    )))
}

/// A guard that keeps other threads from forking while it lives.
struct Entering;

impl Entering {
    fn new() -> Self {
        loop {
            ENTERING.fetch_add(1, SeqCst);
            if FORKING.load(SeqCst) == 0 {
                return Self;
            }
            // The thread that forks waits for this counter to be 0, so step back instead of making that thread wait.
            ENTERING.fetch_sub(1, SeqCst);
            std::thread::yield_now();
        }
    }
}

impl Drop for Entering {
    fn drop(&mut self) {
        ENTERING.fetch_sub(1, SeqCst);
    }
}

extern "C" fn prepare() {
    FORKING.fetch_add(1, SeqCst);
    while ENTERING.load(SeqCst) != 0 {
        std::thread::yield_now();
    }
}

extern "C" fn parent() {
    FORKING.fetch_sub(1, SeqCst);
}

/// Runs in the child of a process with several threads, so it only makes async-signal-safe calls.
extern "C" fn child() {
    FORKING.store(0, SeqCst);
    // Another thread may have been about to step back in `Entering::new`, and it does not exist here.
    ENTERING.store(0, SeqCst);
    // SAFETY: a constant path; the descriptor is this function's own.
    let null = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    for place in &HELD {
        let fd = place.swap(FREE, SeqCst);
        if fd == FREE {
            continue;
        }
        // SAFETY: a listed descriptor is open. Its `OwnFile` in this copy of the process will close it on drop, so the
        // number must stay valid: /dev/null takes its place. If /dev/null cannot be opened or duplicated, the number is
        // closed, because the child must not keep the lock.
        unsafe {
            if null < 0 || libc::dup3(null, fd, libc::O_CLOEXEC) < 0 {
                libc::close(fd);
            }
        }
    }
    if null >= 0 {
        // SAFETY: opened above and used by nobody else.
        unsafe { libc::close(null) };
    }
}
