//! Workers that are threads of one forked process, the leader.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::WorkerError;
use super::child::{self, ExitOnUnwind, Plan, SETUP_FAILED};
use super::sys;

/// Number of threads of this leader whose setup is over, even if it failed. This is a futex.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// Forks a leader with this name and one thread for each plan, and waits until all threads have published their thread ids. The
/// threads wait at the gate. Returns the leader's process id and a pidfd.
pub(super) fn fork(
    comm: Option<[u8; 16]>,
    plans: &[Plan<'_>],
) -> Result<(i32, OwnedFd), WorkerError> {
    let (ready, notify) = rustix::pipe::pipe().map_err(|e| WorkerError::System {
        action: "create the pipe from the leader of the workers".to_owned(),
        cause: e.into(),
    })?;
    let notify_fd = notify.as_raw_fd();
    // Allocate this here, because the child must not allocate.
    let mut threads: Vec<libc::pthread_t> = vec![0; plans.len()];
    let (pid, pidfd) =
        child::fork_with(|parent| lead(comm, plans, &mut threads, notify_fd, parent))?;
    drop(notify);
    let mut byte = [0u8];
    // The read returns when all threads have started, or when the leader has exited.
    let got = loop {
        match rustix::io::read(&ready, &mut byte) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other,
        }
    };
    if matches!(got, Ok(1)) {
        return Ok((pid, pidfd));
    }
    super::collect::kill_and_reap(pid);
    let errno = plans.iter().map(|plan| plan.tele.setup_errno.load(Relaxed));
    let errno = errno.into_iter().find(|errno| *errno != 0);
    Err(WorkerError::System {
        action: format!("start {} workers as threads of one process", plans.len()),
        cause: std::io::Error::from_raw_os_error(errno.unwrap_or(libc::ECHILD)),
    })
}

/// Runs in the leader: starts the threads, tells the parent once all of them have started, and waits for the threads to end.
fn lead(
    comm: Option<[u8; 16]>,
    plans: &[Plan<'_>],
    threads: &mut [libc::pthread_t],
    notify: i32,
    parent: i32,
) -> i32 {
    let failed = |errno: i32| {
        if let Some(plan) = plans.first() {
            plan.tele.setup_errno.store(errno, Relaxed);
        }
        SETUP_FAILED
    };
    STARTED.store(0, Relaxed);
    if let Err(errno) = child::set_up_process(parent, comm.as_ref()) {
        return failed(errno);
    }
    for (thread, plan) in threads.iter_mut().zip(plans) {
        let plan = std::ptr::from_ref(plan).cast_mut().cast();
        // SAFETY: the plan lives until the process exits, because `lead` joins all threads. The
        // thread only reads it.
        let rc = unsafe { libc::pthread_create(thread, std::ptr::null(), run, plan) };
        if rc != 0 {
            return failed(rc);
        }
    }
    loop {
        let started = STARTED.load(Acquire);
        if started as usize >= plans.len() {
            break;
        }
        sys::futex_wait(&STARTED, started);
    }
    // SAFETY: one readable byte; the parent keeps the other end open.
    unsafe {
        libc::write(notify, [1u8].as_ptr().cast(), 1);
        libc::close(notify);
    }
    for thread in threads {
        // SAFETY: each thread was created above and is joined once.
        unsafe { libc::pthread_join(*thread, std::ptr::null_mut()) };
    }
    0
}

extern "C" fn run(plan: *mut libc::c_void) -> *mut libc::c_void {
    let guard = ExitOnUnwind;
    // SAFETY: `lead` passes a plan that outlives the thread and is never written to.
    let plan: &Plan<'_> = unsafe { &*plan.cast_const().cast() };
    plan.tele.tid.store(sys::tid(), Relaxed);
    let ready = child::set_up_thread(plan);
    STARTED.fetch_add(1, Release);
    sys::futex_wake(&STARTED, 1);
    match ready {
        Ok(()) => child::work(plan),
        Err(errno) => plan.tele.setup_errno.store(errno, Relaxed),
    }
    std::mem::forget(guard);
    std::ptr::null_mut()
}
