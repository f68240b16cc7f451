//! Forks workers, and does what each of them needs before and after its body. The code between the fork and the body
//! must not allocate, lock or panic, because the parent may have had other threads at the time of the fork.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use ktstr_scenario::workload::WorkSpec;

use super::WorkerError;
use super::ctx::{STOP, WakeLink, WorkerCtx, give_up};
use super::kinds::{self, WorkLoop};
use super::mem;
use super::rng::Rng;
use super::shared::{Bytes, Control, PhasePage, Telemetry};
use super::sys;
use super::unable::Unable;

/// Exit code of a worker process whose setup failed.
pub(super) const SETUP_FAILED: i32 = 71;
/// Exit code of a worker process in which a body panicked.
pub(super) const PANICKED: i32 = 101;

/// Everything that a worker needs, prepared before the fork.
pub(super) struct Plan<'a> {
    pub work: &'a WorkSpec,
    pub work_loop: WorkLoop,
    pub wake_link: WakeLink,
    /// The worker's index in its group.
    pub member: usize,
    /// The index of its group's first member among all workers of the handle.
    pub base: usize,
    pub rng: Rng,
    /// The name of the thread.
    pub comm: [u8; 16],
    pub mem: Option<mem::Policy>,
    pub park_after: u64,
    pub reports_first: bool,
    /// The descriptor that a custom function's report is written to; -1 means none.
    pub report_fd: i32,
    /// Bytes that the group shares, if its work type needs some.
    pub bytes: Option<&'a Bytes>,
    pub tele: &'a Telemetry,
    pub control: &'a Control,
    pub phase: &'a PhasePage,
}

/// Forks one worker, which closes the descriptors of other members of its group and waits at the gate. Returns its process
/// id and a pidfd.
pub(super) fn fork(plan: &Plan<'_>, group_fds: &[i32]) -> Result<(i32, OwnedFd), WorkerError> {
    fork_with(|parent| {
        let close_others = || {
            for fd in group_fds {
                let own = match plan.wake_link {
                    WakeLink::Pipe { wait, wake } => *fd == wait || *fd == wake,
                    WakeLink::Event { fd: own } => *fd == own,
                    WakeLink::None | WakeLink::Futex { .. } | WakeLink::Shared => false,
                };
                if !own {
                    // SAFETY: closes only this process's copy of the descriptor.
                    unsafe { libc::close(*fd) };
                }
            }
        };
        let ready = set_up_process(parent, None).and_then(|()| {
            close_others();
            set_up_thread(plan)?;
            // Set the parent-death signal again, because a change of user clears it.
            die_with(parent)
        });
        if let Err(errno) = ready {
            plan.tele.setup_errno.store(errno, Relaxed);
            exit(SETUP_FAILED);
        }
        work(plan);
        exit(0)
    })
}

/// Forks a child process that calls `child` with its parent's process id, and exits with the code that `child` returns.
/// Returns the process id of the child process and a pidfd.
pub(super) fn fork_with(child: impl FnOnce(i32) -> i32) -> Result<(i32, OwnedFd), WorkerError> {
    let parent = std::process::id() as i32;
    // A stop signal, or a signal of another worker, may arrive before the child has run at all. It must stay pending
    // until the handlers are installed, because it would kill the child otherwise. The setup unblocks both signals.
    let pid = {
        let _blocked = BlockStop::new();
        // SAFETY: the child runs only `child`, which is async-signal-safe up to the body of its work, and never
        // returns from here.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let _guard = ExitOnUnwind;
            exit(child(parent));
        }
        pid
    };
    if pid < 0 {
        return Err(WorkerError::sys("fork a worker"));
    }
    // Both the parent and the child call setpgid(2), so that the process group exists whichever of them runs first. The error of
    // the second call does not matter.
    // SAFETY: plain integers.
    unsafe { libc::setpgid(pid, pid) };
    // SAFETY: plain integers; nobody else can reap the child in the meantime.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        let error = WorkerError::sys("open a pidfd of a worker");
        super::collect::kill_and_reap(pid);
        return Err(error);
    }
    // SAFETY: a fresh descriptor that nothing else owns.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(fd as i32) }))
}

/// Creates a memory file for a report.
pub(super) fn report_file() -> Result<OwnedFd, WorkerError> {
    // SAFETY: a NUL-terminated name.
    let fd = unsafe { libc::memfd_create(c"ktstr-report".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(WorkerError::sys("create a file for the report of a worker"));
    }
    // SAFETY: a fresh descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Returns a descriptor's number, or -1 for none.
pub(super) fn raw(fd: Option<&OwnedFd>) -> i32 {
    fd.map_or(-1, AsRawFd::as_raw_fd)
}

/// A guard that blocks the stop signal, and the signal that workers send each other, in the calling thread.
struct BlockStop(libc::sigset_t);

impl BlockStop {
    fn new() -> Self {
        // SAFETY: both sets are local; only the calling thread's mask changes.
        unsafe {
            let mut stop: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut stop);
            libc::sigaddset(&mut stop, libc::SIGUSR1);
            libc::sigaddset(&mut stop, libc::SIGUSR2);
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

/// Exits the process if a body should ever unwind into the parent's frames.
pub(super) struct ExitOnUnwind;

impl Drop for ExitOnUnwind {
    fn drop(&mut self) {
        exit(PANICKED);
    }
}

/// Exits the process without running any of the parent's exit handlers.
pub(super) fn exit(code: i32) -> ! {
    // SAFETY: ends the child and never returns.
    unsafe { libc::_exit(code) }
}

extern "C" fn on_stop(_: libc::c_int) {
    STOP.store(true, Relaxed);
}

/// Waits at the gate, runs the body, and publishes the final counters.
pub(super) fn work(plan: &Plan<'_>) {
    let gate_bit = 1 << ((plan.base.wrapping_add(plan.member)) % 32);
    while plan.control.gate.load(Acquire) == 0 && !STOP.load(Relaxed) {
        sys::futex_wait_as(&plan.control.gate, 0, gate_bit);
    }
    if plan.control.gate.load(Acquire) == 0 {
        return;
    }
    // Apply the memory policy now that the worker is in its cgroup, because the kernel checks it against the cgroup's
    // nodes.
    if let Some(Err(errno)) = plan.mem.map(|policy| policy.apply()) {
        give_up(plan.tele, Unable::MemPolicy, errno);
        return;
    }
    // The node of this page shows where the kernel places the memory of a worker whose work allocates none.
    if plan.control.measures_pages.load(Relaxed) == 1
        && let Some([byte, ..]) = sys::map(1)
    {
        *std::hint::black_box(byte) = 1;
    }
    let mut ctx = WorkerCtx::begin(
        plan.tele,
        plan.control,
        plan.phase,
        &plan.work.work_type,
        plan.rng,
    );
    ctx.params = plan.work_loop.params;
    ctx.wake_link = plan.wake_link;
    ctx.member = plan.member;
    ctx.base = plan.base;
    ctx.group = plan.work_loop.group;
    ctx.park_after = plan.park_after;
    ctx.reports_first = plan.reports_first;
    ctx.report_fd = plan.report_fd;
    ctx.bytes = plan.bytes;
    (plan.work_loop.run)(&mut ctx);
    ctx.finish();
}

fn check(rc: i32) -> Result<(), i32> {
    if rc < 0 { Err(sys::errno()) } else { Ok(()) }
}

/// Sets up a worker process: its process group, its signals and its name, if `comm` gives one. From then on, the kernel
/// kills the process when the thread that forked it exits. `Err` is the errno.
pub(super) fn set_up_process(parent: i32, comm: Option<&[u8; 16]>) -> Result<(), i32> {
    // SAFETY: system calls on integers and on local structures; the handlers only change atomics.
    unsafe {
        libc::setpgid(0, 0);
        STOP.store(false, Relaxed);
        let mut action: libc::sigaction = std::mem::zeroed();
        let handler: extern "C" fn(libc::c_int) = on_stop;
        // Leave SA_RESTART out, so that the signal interrupts a blocking call.
        action.sa_sigaction = handler as libc::sighandler_t;
        check(libc::sigaction(
            libc::SIGUSR1,
            &action,
            std::ptr::null_mut(),
        ))?;
        let handler: extern "C" fn(libc::c_int) = kinds::on_signal;
        action.sa_sigaction = handler as libc::sighandler_t;
        check(libc::sigaction(
            libc::SIGUSR2,
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
    }
    if let Some(comm) = comm {
        name(comm)?;
    }
    die_with(parent)
}

/// Names the calling thread.
fn name(comm: &[u8; 16]) -> Result<(), i32> {
    // SAFETY: sixteen readable bytes, the last of which is a NUL.
    check(unsafe { libc::prctl(libc::PR_SET_NAME, comm.as_ptr(), 0, 0, 0) })
}

/// Makes the kernel kill this process when the thread that forked it exits (`PR_SET_PDEATHSIG`). `Err` is the errno; it is
/// `ESRCH` if the process `parent` has exited already.
fn die_with(parent: i32) -> Result<(), i32> {
    // SAFETY: plain integers.
    unsafe {
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

/// Sets up a worker thread: its name, group and user. Raw system calls are used because they change only the calling
/// thread. `Err` is the errno.
pub(super) fn set_up_thread(plan: &Plan<'_>) -> Result<(), i32> {
    name(&plan.comm)?;
    // SAFETY: plain integers.
    unsafe {
        if let Some(gid) = plan.work.gid {
            check(libc::syscall(libc::SYS_setresgid, gid, gid, gid) as i32)?;
        }
        if let Some(uid) = plan.work.uid {
            check(libc::syscall(libc::SYS_setresuid, uid, uid, uid) as i32)?;
        }
    }
    Ok(())
}
