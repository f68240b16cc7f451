//! Forking one worker, and what the child does before and after its body. Everything the child
//! runs is free of allocation, locks and panics: the parent may have had threads at the fork.

use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::WorkerError;
use super::ctx::{STOP, Tie, WorkerCtx};
use super::kinds::Body;
use super::rng::Rng;
use super::shared::{Control, PhasePage, Telemetry};
use super::sys;

/// Exit code of a worker whose set-up failed.
pub(super) const SETUP_FAILED: i32 = 71;
/// Exit code of a worker whose body panicked.
pub(super) const PANICKED: i32 = 101;

/// What a child needs, all of it made before the fork.
pub(super) struct ChildPlan<'a> {
    pub body: Body,
    pub tie: Tie,
    pub member: usize,
    /// As which of 32 it waits at the gate.
    pub gate_bit: u32,
    pub rng: Rng,
    pub comm: Option<[u8; 16]>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// Pipe ends of the whole group; the child keeps its own two.
    pub group_fds: &'a [i32],
    pub tele: &'a Telemetry,
    pub control: &'a Control,
    pub phase: &'a PhasePage,
}

/// Forks; the parent gets the child's pid and a pidfd. The child waits at the gate.
pub(super) fn fork(plan: &ChildPlan<'_>) -> Result<(i32, OwnedFd), WorkerError> {
    let parent = std::process::id() as i32;
    // A stop signal may come before the child has had its first moment on a CPU: it has to wait
    // until the handler is there, or it would kill. SIGUSR1 is unblocked in `set_up`.
    let pid = {
        let _blocked = BlockStop::new();
        // SAFETY: the child runs `child` only, which is async-signal-safe, and never returns.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            child(plan, parent);
        }
        pid
    };
    if pid < 0 {
        return Err(WorkerError::sys("fork a worker"));
    }
    // Both sides do it, so that it holds whoever runs first; the second one's error is of no
    // consequence.
    // SAFETY: plain integers.
    unsafe { libc::setpgid(pid, pid) };
    // SAFETY: plain integers; the child cannot be reaped by anybody else meanwhile.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        let error = WorkerError::sys("open a pidfd of a worker");
        super::collect::kill_and_reap(pid);
        return Err(error);
    }
    // SAFETY: a fresh fd that nobody else owns.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(fd as i32) }))
}

/// Keeps the stop signal from the calling thread while it lives.
struct BlockStop(libc::sigset_t);

impl BlockStop {
    fn new() -> Self {
        // SAFETY: both sets are made right here; only the calling thread's mask changes.
        unsafe {
            let mut stop: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut stop);
            libc::sigaddset(&mut stop, libc::SIGUSR1);
            libc::pthread_sigmask(libc::SIG_BLOCK, &stop, &mut before);
            Self(before)
        }
    }
}

impl Drop for BlockStop {
    fn drop(&mut self) {
        // SAFETY: restores the mask that was read in `new`.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}

/// Ends the child if its body should ever unwind into the parent's frames.
struct ExitOnUnwind;

impl Drop for ExitOnUnwind {
    fn drop(&mut self) {
        // SAFETY: ends the child, never returns.
        unsafe { libc::_exit(PANICKED) };
    }
}

extern "C" fn on_stop(_: libc::c_int) {
    STOP.store(true, Relaxed);
}

fn child(plan: &ChildPlan<'_>, parent: i32) -> ! {
    let guard = ExitOnUnwind;
    if let Err(errno) = set_up(plan, parent) {
        plan.tele.setup_errno.store(errno, Relaxed);
        // SAFETY: ends the child, never returns.
        unsafe { libc::_exit(SETUP_FAILED) };
    }
    while plan.control.gate.load(Acquire) == 0 && !STOP.load(Relaxed) {
        sys::futex_wait_as(&plan.control.gate, 0, plan.gate_bit);
    }
    if plan.control.gate.load(Acquire) != 0 {
        let mut ctx = WorkerCtx::begin(plan.tele, plan.control, plan.phase, plan.rng);
        ctx.knobs = plan.body.knobs;
        ctx.tie = plan.tie;
        ctx.member = plan.member;
        ctx.group = plan.body.group;
        (plan.body.run)(&mut ctx);
        ctx.finish();
    }
    std::mem::forget(guard);
    // SAFETY: ends the child, never returns.
    unsafe { libc::_exit(0) }
}

fn set_up(plan: &ChildPlan<'_>, parent: i32) -> Result<(), i32> {
    let check = |rc: i32| if rc < 0 { Err(sys::errno()) } else { Ok(()) };
    // SAFETY: system calls on integers and on structures made right here; the handler only
    // stores to an atomic.
    unsafe {
        libc::setpgid(0, 0);
        STOP.store(false, Relaxed);
        let mut action: libc::sigaction = std::mem::zeroed();
        let handler: extern "C" fn(libc::c_int) = on_stop;
        // Without SA_RESTART: the signal has to end a blocking call.
        action.sa_sigaction = handler as libc::sighandler_t;
        check(libc::sigaction(
            libc::SIGUSR1,
            &action,
            std::ptr::null_mut(),
        ))?;
        action.sa_sigaction = libc::SIG_DFL;
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGCHLD] {
            check(libc::sigaction(signal, &action, std::ptr::null_mut()))?;
        }
        action.sa_sigaction = libc::SIG_IGN;
        check(libc::sigaction(
            libc::SIGPIPE,
            &action,
            std::ptr::null_mut(),
        ))?;
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        check(libc::sigprocmask(
            libc::SIG_SETMASK,
            &none,
            std::ptr::null_mut(),
        ))?;
        for fd in plan.group_fds {
            let own = match plan.tie {
                Tie::Pipe { wait, wake } => *fd == wait || *fd == wake,
                _ => false,
            };
            if !own {
                libc::close(*fd);
            }
        }
        if let Some(comm) = &plan.comm {
            check(libc::prctl(libc::PR_SET_NAME, comm.as_ptr(), 0, 0, 0))?;
        }
        if let Some(gid) = plan.gid {
            check(libc::syscall(libc::SYS_setresgid, gid, gid, gid) as i32)?;
        }
        if let Some(uid) = plan.uid {
            check(libc::syscall(libc::SYS_setresuid, uid, uid, uid) as i32)?;
        }
        // After the change of user, which clears it.
        check(libc::prctl(
            libc::PR_SET_PDEATHSIG,
            libc::SIGKILL as libc::c_ulong,
            0,
            0,
            0,
        ))?;
        if libc::getppid() != parent {
            return Err(libc::ESRCH);
        }
    }
    Ok(())
}
