//! Manages one running program: forks it into its cgroup, waits for its exit, and collects its output.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use ktstr_assert::payload::{Captured, PayloadEnd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::capture::Capture;
use super::leftover;
use crate::clock::monotonic_ns;
use crate::workers::wait_failed;

/// Number of programs that this process has started so far.
static RUNS: AtomicUsize = AtomicUsize::new(0);

/// The parameters of starting a program.
pub(super) struct Start<'a> {
    pub program: &'a OsStr,
    pub args: &'a [String],
    /// The `cgroup.procs` file of the program's cgroup, open for writing; `None` for the harness's own cgroup.
    pub cgroup: Option<&'a File>,
    /// Whether the program gets its own process group.
    pub own_group: bool,
}

/// A program that was started and has not been reaped.
#[derive(Debug)]
pub(super) struct Process {
    pub pid: i32,
    /// The number of programs that the harness's process had started before this program.
    pub index: usize,
    pidfd: OwnedFd,
    own_group: bool,
    mark: String,
    capture: Option<Capture>,
    began_ns: u64,
}

/// The result of a program that has exited.
pub(super) struct Ended {
    pub end: PayloadEnd,
    pub elapsed_ns: u64,
    pub cpu_time_ns: u64,
    pub stdout: Captured,
    pub stderr: Captured,
}

impl Process {
    pub fn start(start: &Start<'_>) -> io::Result<Self> {
        let index = RUNS.fetch_add(1, Relaxed);
        let mark = format!("{}.{index}", std::process::id());
        let mut command = Command::new(start.program);
        command
            .args(start.args)
            .env(leftover::MARK, &mark)
            .env_remove(crate::init::TEST_PROCESS_ENV)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if start.own_group {
            command.process_group(0);
        }
        let procs = start.cgroup.map(AsRawFd::as_raw_fd);
        // SAFETY: only system calls are made between fork and exec, on a descriptor that stays open in the parent
        // until `spawn` returns.
        unsafe { command.pre_exec(move || before_exec(procs)) };
        let began_ns = monotonic_ns();
        let mut child = command.spawn()?;
        let pid = child.id() as i32;
        let watched = (|| {
            let id = Pid::from_child(&child);
            let pidfd = pidfd_open(id, PidfdFlags::empty())?;
            let pipes = child.stdout.take().zip(child.stderr.take());
            let (stdout, stderr) =
                pipes.ok_or_else(|| io::Error::other("the child has no output pipes"))?;
            let program = pidfd.try_clone()?;
            let capture = Capture::start(stdout.into(), stderr.into(), program)?;
            Ok((pidfd, capture))
        })();
        match watched {
            Ok((pidfd, capture)) => Ok(Self {
                pid,
                index,
                pidfd,
                own_group: start.own_group,
                mark,
                capture: Some(capture),
                began_ns,
            }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Returns the guest time since the program was started.
    pub fn age(&self) -> Duration {
        Duration::from_nanos(monotonic_ns().saturating_sub(self.began_ns))
    }

    /// Returns whether the program has exited. Waits for the exit for at most `within`, or without a limit if this
    /// argument is `None`.
    pub fn has_ended(&self, within: Option<Duration>) -> bool {
        let until = within.map(|time| monotonic_ns().saturating_add(time.as_nanos() as u64));
        loop {
            let left = until.map(|until| until.saturating_sub(monotonic_ns()));
            let timeout = left.map(|ns| Timespec {
                tv_sec: (ns / 1_000_000_000) as i64,
                tv_nsec: (ns % 1_000_000_000) as i64,
            });
            let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
            match poll(&mut fds, timeout.as_ref()) {
                Ok(0) | Err(rustix::io::Errno::INTR) if left == Some(0) => return false,
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                // If polling fails, this reports an exit, and the caller waits for the process with wait4(2).
                Ok(_) | Err(_) => return true,
            }
        }
    }

    /// Kills the program and every process that it has started.
    pub fn kill(&self) {
        leftover::kill(self.pid);
        self.kill_rest();
    }

    /// Kills the processes that the program has started. The program itself has exited or is about to, and is not
    /// reaped yet, so its pid cannot have been reused.
    fn kill_rest(&self) {
        if self.own_group {
            leftover::kill(-self.pid);
        }
        leftover::kill_marked(&self.mark);
    }

    /// Reaps a program that has exited or was killed. The processes that it has started are killed.
    pub fn reap(&mut self) -> io::Result<Ended> {
        self.has_ended(None);
        let now_ns = monotonic_ns();
        self.kill_rest();
        let mut status = 0;
        // SAFETY: zeroes are a valid value of this plain structure.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        let reaped = loop {
            // SAFETY: both structures live on this stack; the child is ours and not yet reaped.
            let reaped = unsafe { libc::wait4(self.pid, &mut status, 0, &mut usage) };
            let error = io::Error::last_os_error();
            if reaped >= 0 || error.kind() != io::ErrorKind::Interrupted {
                break (reaped, error);
            }
        };
        let output = self.capture.take().map(Capture::finish);
        if reaped.0 < 0 {
            return Err(io::Error::other(wait_failed(&reaped.1)));
        }
        let ([stdout, stderr], exited_ns) = output.unwrap_or_default();
        let end = match libc::WIFSIGNALED(status) {
            true => PayloadEnd::Signaled(libc::WTERMSIG(status)),
            false => PayloadEnd::Exited(libc::WEXITSTATUS(status)),
        };
        Ok(Ended {
            end,
            elapsed_ns: exited_ns
                .map_or(now_ns, |at| at.min(now_ns))
                .saturating_sub(self.began_ns),
            cpu_time_ns: ns(usage.ru_utime) + ns(usage.ru_stime),
            stdout,
            stderr,
        })
    }

    /// Returns whether the program has not been reaped yet.
    pub fn is_there(&self) -> bool {
        self.capture.is_some()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_there() {
            self.kill();
            let _ = self.reap();
        }
    }
}

fn ns(time: libc::timeval) -> u64 {
    time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1_000
}

/// Runs in the child: moves the process into its cgroup before the first instruction of the program, and makes it die with
/// the thread that started it. A `0` in `cgroup.procs` stands for the process that writes it.
fn before_exec(procs: Option<i32>) -> io::Result<()> {
    // SAFETY: plain integers and a one-byte buffer, on a descriptor that the parent keeps open.
    unsafe {
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
            return Err(io::Error::last_os_error());
        }
        if let Some(procs) = procs
            && libc::write(procs, b"0".as_ptr().cast(), 1) != 1
        {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
