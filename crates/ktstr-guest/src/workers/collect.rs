//! Stops and reaps workers: sends the stop signal, waits until a deadline in guest time, and then sends SIGKILL to the process
//! groups of the workers that have not exited. Every worker is reaped, whatever it did.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::attrs::{self, SCHED_EXT};
use crate::init::CGROUPS;

/// The value of `cpu.weight` that a cgroup has if nobody sets it.
const DEFAULT_WEIGHT: u32 = 100;
/// Guest time that workers have to publish their final counters.
pub const COLLECT_DEADLINE: Duration = Duration::from_secs(5);
/// Interval at which the stop signal is sent again. A signal that arrives between a worker's check of its flag and a
/// blocking call would otherwise be lost.
const RESEND: Duration = Duration::from_millis(20);

/// A worker that got at least this much CPU time since the stop was not starved. A worker that checks for the stop after
/// each iteration, as all of our bodies do, needs only a small part of this time.
const SERVED: Duration = Duration::from_millis(100);

/// A worker with less than the default weight gets a real-time policy if it has not exited this long after the stop.
/// Its competitors may have ten thousand times its weight. They would keep it from running for seconds, in which those of a
/// cgroup that is stopped later go on working, and sched_ext's watchdog would eject a scheduler that only follows the weights.
const HELP_AFTER: Duration = Duration::from_millis(200);

/// How a worker process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The process exited with this code.
    Exited(i32),
    /// The process was killed by this signal, which the harness did not send.
    Signaled(i32),
    /// The process missed the deadline, and the harness killed it.
    TimedOut {
        /// The monotonic time in ns just before the worker was killed, if it was starved: at the deadline it was runnable, and
        /// since the stop it had got less CPU time than [`SERVED`]. `None` if the worker was stopped or blocked in the kernel at
        /// the deadline, or if it had got at least that much CPU time. In the last case the worker ignored the stop, or was in a
        /// long iteration.
        starved_until_ns: Option<u64>,
    },
    /// The harness could not wait for the process, for this reason.
    WaitFailed(String),
}

/// A process that contains workers.
pub(super) struct Target<'a> {
    pub pid: i32,
    pub pidfd: &'a OwnedFd,
    /// The thread ids of its workers, each of which has to be interrupted; empty if the process itself is the worker.
    pub threads: Vec<i32>,
}

impl Target<'_> {
    fn send_stop(&self) {
        // SAFETY: plain integers. The process is our own child and not yet reaped, so the pid cannot have been reused.
        // A thread that has ended is no longer found in it.
        unsafe {
            if self.threads.is_empty() {
                libc::kill(self.pid, libc::SIGUSR1);
            }
            for tid in &self.threads {
                libc::syscall(libc::SYS_tgkill, self.pid, *tid, libc::SIGUSR1);
            }
        }
    }

    fn is_runnable(&self) -> bool {
        let is_runnable = |pid| matches!(stat(pid), Some(stat) if stat.state == 'R');
        is_runnable(self.pid) || self.threads.iter().any(|tid| is_runnable(*tid))
    }

    /// Returns the CPU time of the whole process; 0 if it is unknown.
    fn cpu_time(&self) -> Duration {
        stat(self.pid).map_or(Duration::ZERO, |stat| stat.cpu_time)
    }

    fn is_light(&self) -> bool {
        is_light(self.pid) || self.threads.iter().any(|tid| is_light(*tid))
    }

    /// Makes a worker real-time that is entitled to little CPU time and has got none to speak of since the stop. A worker that
    /// has got some and goes on ignores the stop, so its threads get their policies back.
    ///
    /// Only a real-time thread, such as the engine, helps: any other one might not get the CPU back.
    fn help(&self, at_stop: Duration, helped: &mut Option<Helped>) {
        let is_starved = self.cpu_time().saturating_sub(at_stop) < SERVED;
        match helped {
            None if is_starved && self.is_runnable() && self.is_light() => {
                *helped = Some(Helped {
                    at_ns: super::sys::now_ns(),
                    policies: raise(self.pid),
                });
            }
            Some(helped) if !is_starved => {
                for (tid, policy) in helped.policies.drain(..) {
                    set_policy(tid, policy, 0);
                }
            }
            _ => {}
        }
    }
}

/// A worker that was made real-time after the stop.
struct Helped {
    /// The monotonic time at which this was done, in nanoseconds. The worker was starved until then.
    at_ns: u64,
    /// The policy that each of its threads had before. Threads that were real-time then are left alone.
    policies: Vec<(i32, i32)>,
}

/// Returns whether a task has less than the default weight: by its nice value, its policy, or the weight of a cgroup that it
/// is in. A cgroup with `cpu.idle` shows a weight of at most 1.
fn is_light(tid: i32) -> bool {
    // SAFETY: plain integers; an error is a negative result.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, tid as libc::id_t) };
    // SAFETY: a plain integer.
    let policy = unsafe { libc::sched_getscheduler(tid) };
    let path = std::fs::read_to_string(format!("/proc/{tid}/cgroup")).unwrap_or_default();
    let path = path.lines().find_map(|line| line.strip_prefix("0::"));
    let in_light_cgroup = path.is_some_and(|path| {
        Path::new(path).ancestors().any(|group| {
            let file = format!("{CGROUPS}{}/cpu.weight", group.display());
            let weight = std::fs::read_to_string(file).ok();
            let weight: Option<u32> = weight.and_then(|text| text.trim().parse().ok());
            weight.is_some_and(|weight| weight < DEFAULT_WEIGHT)
        })
    });
    nice > 0 || policy == libc::SCHED_IDLE || in_light_cgroup
}

/// Stops the processes and waits for all of them. Returns one end for each, in order.
pub(super) fn stop_and_reap(workers: &[Target<'_>]) -> Vec<End> {
    let mut ends: Vec<Option<End>> = vec![None; workers.len()];
    let began = Instant::now();
    let at_stop: Vec<Duration> = workers.iter().map(Target::cpu_time).collect();
    let may_help = attrs::SchedAttr::own().is_some_and(|attr| attr.is_realtime());
    let mut helped: Vec<Option<Helped>> = workers.iter().map(|_| None).collect();
    let mut last_sent: Option<Instant> = None;
    loop {
        for (worker, end) in workers.iter().zip(ends.iter_mut()) {
            if end.is_none() {
                *end = try_reap(worker.pid);
            }
        }
        let waiting: Vec<_> = workers
            .iter()
            .zip(&ends)
            .filter(|(_, end)| end.is_none())
            .map(|(worker, _)| worker)
            .collect();
        if waiting.is_empty() {
            break;
        }
        let Some(left) = COLLECT_DEADLINE.checked_sub(began.elapsed()) else {
            break;
        };
        if last_sent.is_none_or(|at| at.elapsed() >= RESEND) {
            waiting.iter().for_each(|worker| worker.send_stop());
            last_sent = Some(Instant::now());
        }
        if may_help && began.elapsed() >= HELP_AFTER {
            for (at, worker) in workers.iter().enumerate() {
                if ends[at].is_none() {
                    worker.help(at_stop[at], &mut helped[at]);
                }
            }
        }
        wait_any(waiting.iter().map(|worker| worker.pidfd), left.min(RESEND));
    }
    workers
        .iter()
        .zip(ends)
        .zip(at_stop)
        .zip(helped)
        .map(|(((worker, end), at_stop), helped)| match end {
            Some(end) => end,
            None => {
                let served = worker.cpu_time().saturating_sub(at_stop);
                let starved = worker.is_runnable() && served < SERVED;
                let starved_until_ns = match helped {
                    Some(helped) => Some(helped.at_ns),
                    None => starved.then(super::sys::now_ns),
                };
                kill_and_reap(worker.pid);
                End::TimedOut { starved_until_ns }
            }
        })
        .collect()
}

/// Some fields of /proc/PID/stat; see the manual page `proc_pid_stat(5)`.
struct Stat {
    /// The state of this process or thread: `R` if it is runnable.
    state: char,
    /// The CPU time of its whole process, in user mode and in the kernel.
    cpu_time: Duration,
}

/// Returns the fields of a process or thread; `None` if there is none with this id. The name before the state may contain
/// any character, so the fields are read from behind the last parenthesis.
fn stat(pid: i32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // The state is field 3, utime is field 14 and stime is field 15.
    let ticks = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let total = ticks(14)?.checked_add(ticks(15)?)?;
    // The kernel reports these times to users in hundredths of a second, whatever its own tick is (`USER_HZ`).
    let cpu_time = Duration::from_millis(total.checked_mul(10)?);
    Some(Stat {
        state: fields.first()?.chars().next()?,
        cpu_time,
    })
}

fn wait_any<'a>(fds: impl Iterator<Item = &'a OwnedFd>, limit: Duration) {
    let timeout = Timespec {
        tv_sec: limit.as_secs() as i64,
        tv_nsec: i64::from(limit.subsec_nanos()),
    };
    let mut fds: Vec<_> = fds.map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    // The result does not matter, because the caller checks every worker again.
    let _ = poll(&mut fds, Some(&timeout));
}

/// Reaps a child if it has exited. Returns how it ended, or `None` if it has not exited yet.
fn try_reap(pid: i32) -> Option<End> {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is writable. It is zeroed, so that a pid of 0 means that the child has not exited.
    let ended = unsafe {
        let rc = libc::waitid(libc::P_PID, pid as libc::id_t, info.as_mut_ptr(), flags);
        rc == 0 && info.assume_init_ref().si_pid() == pid
    };
    if ended {
        // Kill the children that a worker left behind in its process group. This must happen before the worker is
        // reaped, while the group's number cannot have been reused.
        kill_group(pid);
    }
    let mut status = 0;
    // SAFETY: `status` is writable; only this child is waited for.
    match unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) } {
        0 => None,
        n if n == pid => Some(decode(status)),
        _ => {
            let error = std::io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => None,
                _ => Some(End::WaitFailed(wait_failed(&error))),
            }
        }
    }
}

/// Returns the sentence for an error of waiting for a child. A missing child has a cause in the test, whose process is the
/// parent.
pub(crate) fn wait_failed(error: &std::io::Error) -> String {
    if error.raw_os_error() != Some(libc::ECHILD) {
        return error.to_string();
    }
    let why = match ignores_children() {
        true => {
            "the test ignores SIGCHLD, so the kernel keeps no exit status of its children: leave SIGCHLD at its default while \
             workers or payloads run"
        }
        false => {
            "nothing but the test can have waited for this child: let the test wait only for children of its own, by their ids"
        }
    };
    format!("{error}: {why}")
}

/// Returns whether this process ignores SIGCHLD, or asks for no exit status of its children (`SA_NOCLDWAIT`).
fn ignores_children() -> bool {
    // SAFETY: zeroes are a valid value of this plain structure.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes the structure; the handler stays as it is.
    let rc = unsafe { libc::sigaction(libc::SIGCHLD, std::ptr::null(), &mut action) };
    let ignored = action.sa_sigaction == libc::SIG_IGN || action.sa_flags & libc::SA_NOCLDWAIT != 0;
    rc == 0 && ignored
}

fn decode(status: i32) -> End {
    if libc::WIFSIGNALED(status) {
        End::Signaled(libc::WTERMSIG(status))
    } else {
        End::Exited(libc::WEXITSTATUS(status))
    }
}

fn kill_group(pid: i32) {
    // SAFETY: plain integers; the leader is not reaped yet, so the number still belongs to the group.
    unsafe { libc::kill(-pid, libc::SIGKILL) };
}

/// Returns whether a BPF scheduler drives the tasks.
fn is_sched_ext_enabled() -> bool {
    std::fs::read_to_string("/sys/kernel/sched_ext/state")
        .is_ok_and(|state| state.trim() == "enabled")
}

/// Makes all threads of a process real-time tasks, if the kernel's own scheduler drives them. A process that got SIGKILL must run
/// once more before it exits, and with a ten-thousandth of its competitors' weight it may wait for minutes. Under a BPF scheduler
/// nothing is changed: if it does not run the process, sched_ext's watchdog ejects the scheduler, which is a finding. A
/// failure is ignored: an ordinary user may not do this, and the only effect of a failure is that the wait takes longer.
fn hurry(pid: i32) {
    if !is_sched_ext_enabled() {
        raise(pid);
    }
}

/// Gives the lowest real-time priority to all threads of a process that are not real-time, and returns their former policies.
/// Processes that they fork are not real-time.
fn raise(pid: i32) -> Vec<(i32, i32)> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    let tids = threads
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|thread| {
            let name = thread.file_name();
            name.to_str()?.parse().ok()
        });
    tids.filter_map(|tid: i32| {
        // SAFETY: a plain integer; an error is a negative result.
        let policy = unsafe { libc::sched_getscheduler(tid) };
        let ordinary = [
            libc::SCHED_OTHER,
            libc::SCHED_BATCH,
            libc::SCHED_IDLE,
            SCHED_EXT,
        ];
        ordinary.contains(&policy).then(|| {
            set_policy(tid, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, 1);
            (tid, policy)
        })
    })
    .collect()
}

/// Sets the policy and the real-time priority of a thread of a child that is not reaped yet.
fn set_policy(tid: i32, policy: i32, priority: i32) {
    let param = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: `param` is readable.
    unsafe { libc::sched_setscheduler(tid, policy, &param) };
}

/// Kills a worker process and its process group, and reaps the worker process.
pub(super) fn kill_and_reap(pid: i32) {
    kill_group(pid);
    hurry(pid);
    // SAFETY: our own child, not reaped yet.
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        let mut status = 0;
        while libc::waitpid(pid, &mut status, 0) < 0 && super::sys::errno() == libc::EINTR {}
    }
}
