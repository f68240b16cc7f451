//! The QEMU process. It cannot outlive this process, and it leaves nothing behind when it ends.

use std::os::fd::RawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ktstr_state::env;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::console::Console;
use crate::{MachineError, confine, spawner};

/// The number of consecutive checks at which the main thread must be in an expected system call.
const SETTLED: u32 = 3;
/// The longest wait for the main thread to be in an expected system call. It normally takes milliseconds.
const SETTLE_WITHIN: Duration = Duration::from_secs(30);
/// How long QEMU may take to exit after it has closed its monitor, or announced that it ends. It normally takes milliseconds.
const EXITS_WITHIN: Duration = Duration::from_secs(5);
/// The system calls in which QEMU's main thread waits for the virtual CPUs, for instance during a stop.
pub(crate) const FUTEX: &[i64] = &[libc::SYS_futex];
/// The system calls in which QEMU's main thread waits for events.
pub(crate) const POLL: &[i64] = &[libc::SYS_ppoll, libc::SYS_poll];

/// The CPU time that the host's scheduler gave to a vCPU's thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VcpuTime {
    /// CPU time, in nanoseconds.
    pub ran_ns: u64,
    /// Time that the thread was runnable but not running, in nanoseconds.
    pub waited_ns: u64,
}

/// A QEMU process and its output. The process is killed when the value is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    ended: Option<ExitStatus>,
    /// QEMU's standard output, which is the guest's serial console under the real clock.
    pub(crate) console: Console,
    stderr: Console,
}

impl Process {
    /// Starts QEMU, which inherits the descriptors `inherit`. `preload` is one of these descriptors, for a library that is
    /// loaded before all others. The kernel kills QEMU when this process exits for any reason.
    pub(crate) fn start(
        program: &Path,
        arguments: &[String],
        inherit: Vec<RawFd>,
        preload: Option<RawFd>,
    ) -> Result<Self, MachineError> {
        let parent = rustix::process::getpid();
        let mut command = Command::new(program);
        command
            .args(confine::sandbox())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(library) = preload {
            let mut all = std::ffi::OsString::from(format!("/proc/self/fd/{library}"));
            // Libraries that the user preloads come after ours.
            if let Some(others) = env::LD_PRELOAD.get() {
                all.push(":");
                all.push(others);
            }
            command.env(&env::LD_PRELOAD, all);
        }
        // SAFETY: between fork and exec the closure only makes system calls, on values that were copied before.
        unsafe {
            command.pre_exec(move || confine::before_exec(&inherit, parent));
        }
        let mut child = spawner::spawn(command).map_err(|cause| MachineError::Spawn {
            path: program.to_owned(),
            cause,
        })?;
        let console = child.stdout.take().expect("the standard output is a pipe");
        let stderr = child.stderr.take().expect("the standard error is a pipe");
        Ok(Self {
            child,
            ended: None,
            console: Console::collect(console),
            stderr: Console::collect(stderr),
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns QEMU's exit status; `None` if QEMU has not exited, or if its status cannot be read.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() && self.has_exited() {
            // If the program is a script, processes that it started may still run. Kill them before the script's status is
            // collected: until then, no other process group can have the same number.
            self.kill_group();
            self.ended = self.child.wait().ok();
        }
        self.ended
    }

    /// Returns whether the process has exited. Its status is not collected.
    fn has_exited(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = self.pid().map(|pid| waitid(WaitId::Pid(pid), options));
        // An error means that there is no such child.
        !matches!(status, Some(Ok(None)))
    }

    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.id()).ok()?)
    }

    /// Kills the process group: QEMU or, if the program is a script, the script and what it started.
    fn kill_group(&self) {
        if let Some(group) = self.pid() {
            // An error means that all processes of the group have exited already.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// Returns whether the process has the thread with this ID.
    pub(crate) fn has_thread(&self, thread: u64) -> bool {
        Path::new(&format!("/proc/{}/task/{thread}", self.id())).exists()
    }

    /// Returns the name of the process, such as `sh`.
    pub(crate) fn name(&mut self) -> String {
        let name = std::fs::read_to_string(format!("/proc/{}/comm", self.id()));
        match (self.ended(), name) {
            (None, Ok(name)) => name.trim().to_owned(),
            _ => "it has exited".to_owned(),
        }
    }

    /// Waits until the process has exited, at most for this long. Its status is not collected.
    fn wait_for_exit(&self, within: Duration) {
        let Some(pidfd) = self
            .pid()
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
        else {
            return;
        };
        let deadline = Instant::now() + within;
        while !self.has_exited() {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: left.subsec_nanos().into(),
            };
            let ready = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout));
            if left.is_zero() || ready.is_err_and(|error| error != Errno::INTR) {
                return;
            }
        }
    }

    /// Creates the error for a QEMU that exited or closed its monitor. `during` describes what the host was doing
    /// at that time. A QEMU that does not exit is killed; the error then says that it did not exit, not that it was killed.
    pub(crate) fn death(&mut self, during: &'static str) -> MachineError {
        self.wait_for_exit(EXITS_WITHIN);
        let status = match self.ended() {
            Some(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("exited with code {code}"),
                (_, Some(signal)) => format!("was killed by signal {signal}"),
                _ => "ended".to_owned(),
            },
            None => "closed its monitor or announced its end, but did not exit".to_owned(),
        };
        self.kill();
        let text = self.stderr.text();
        let lines: Vec<&str> = text.trim().lines().collect();
        let last = lines[lines.len().saturating_sub(6)..].join("; ");
        MachineError::Died {
            status,
            during,
            stderr: if last.is_empty() {
                "nothing".into()
            } else {
                last
            },
        }
    }

    /// Waits until QEMU's main thread is found in one of these system calls several times in a row. Only then has QEMU
    /// processed its last request.
    pub(crate) fn wait_until_in(&self, calls: &[i64]) -> Result<(), MachineError> {
        let path = format!("/proc/{}/syscall", self.id());
        let deadline = Instant::now() + SETTLE_WITHIN;
        let mut seen = 0;
        while seen < SETTLED {
            let text = std::fs::read_to_string(&path)
                .map_err(|e| MachineError::system(format!("reading {path}"), e))?;
            let call = text.split_whitespace().next().and_then(|n| n.parse().ok());
            seen = if call.is_some_and(|call| calls.contains(&call)) {
                seen + 1
            } else {
                0
            };
            if Instant::now() > deadline {
                return Err(MachineError::NoAnswer {
                    command: format!(
                        "the last request (its main thread is in system call {})",
                        text.trim()
                    ),
                    within: SETTLE_WITHIN,
                });
            }
            std::thread::sleep(Duration::from_micros(300));
        }
        Ok(())
    }

    /// Restricts all threads of QEMU to `count` of the CPUs that this process may use, or to all of them if there are fewer.
    /// Returns the number of CPUs that QEMU may use from now on, as the kernel reports it.
    pub(crate) fn share_cpus(&self, count: u32) -> Result<u32, MachineError> {
        let fail = |e| MachineError::system("restricting QEMU to some of the host's CPUs", e);
        let own = sched_getaffinity(None).map_err(|e| fail(e.into()))?;
        let usable: Vec<usize> = (0..CpuSet::MAX_CPU)
            .filter(|cpu| own.is_set(*cpu))
            .collect();
        let mut shared = CpuSet::new();
        // The first CPU follows from the pid, so that machines that run at the same time usually start at different CPUs.
        let first = self.id() as usize;
        for at in 0..usable.len().min(count.max(1) as usize) {
            if let Some(cpu) = usable.get((first + at) % usable.len()) {
                shared.set(*cpu);
            }
        }
        let threads = format!("/proc/{}/task", self.id());
        // A thread that starts meanwhile inherits the CPUs of the thread that starts it, which may not have been restricted
        // yet. The list is therefore read until it has no new thread.
        let mut restricted = std::collections::BTreeSet::new();
        loop {
            let before = restricted.len();
            for entry in std::fs::read_dir(&threads).map_err(fail)?.flatten() {
                let Some(tid) = entry.file_name().to_str().and_then(|t| t.parse().ok()) else {
                    continue;
                };
                if restricted.insert(tid) {
                    match sched_setaffinity(Pid::from_raw(tid), &shared) {
                        // `ESRCH`: the thread has exited.
                        Ok(()) | Err(Errno::SRCH) => {}
                        Err(e) => return Err(fail(e.into())),
                    }
                }
            }
            if restricted.len() == before {
                break;
            }
        }
        let pid = Pid::from_raw(self.id() as i32);
        let allowed = sched_getaffinity(pid).map_err(|e| fail(e.into()))?;
        Ok(allowed.count())
    }

    /// Returns the CPU time of all threads of QEMU, with the resolution of the clock tick; `None` if `/proc` does not show it.
    pub(crate) fn cpu_time(&self) -> Option<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).ok()?;
        let (_, after_name) = stat.rsplit_once(')')?;
        // The first field after the name is number 3; `utime` and `stime` are numbers 14 and 15 (`proc_pid_stat(5)`).
        let mut fields = after_name.split_whitespace().skip(11);
        let user: u64 = fields.next()?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        Some(Duration::from_millis(
            (user + system).saturating_mul(1000) / per_second,
        ))
    }

    /// Returns the CPU time that the host gave to a thread (Documentation/scheduler/sched-stats.rst); `None` if the thread
    /// has exited, or if the host's kernel has no `schedstat` (`CONFIG_SCHED_INFO`).
    pub(crate) fn thread_time(&self, thread: u32) -> Option<VcpuTime> {
        let path = format!("/proc/{}/task/{thread}/schedstat", self.id());
        let text = std::fs::read_to_string(path).ok()?;
        let mut fields = text.split_whitespace().map(|field| field.parse().ok());
        Some(VcpuTime {
            ran_ns: fields.next()??,
            waited_ns: fields.next()??,
        })
    }

    /// Kills QEMU, and collects the rest of its output.
    pub(crate) fn kill(&mut self) {
        if self.ended().is_none() {
            self.kill_group();
            // An error means that QEMU has exited already.
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
        self.console.finish();
        self.stderr.finish();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts a script in the place of QEMU, which gets the arguments of the sandbox.
    fn started(folder: &Path, script: &str) -> Process {
        let path = folder.join("qemu");
        // A child writes the script. If this process had it open for writing, a child that another test starts at that time would
        // inherit the descriptor, and the script could not be executed until that child has closed it.
        let written = Command::new("sh")
            .args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$2\" >\"$1\"", "sh"])
            .arg(&path)
            .arg(script)
            .status()
            .expect("there is a sh");
        assert!(written.success(), "{written}");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("its own file");
        Process::start(&path, &[], Vec::new(), None).expect("there is a sh")
    }

    fn is_running(pid: i32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // A process that has exited may wait for its parent to collect its status.
        !stat.is_empty() && !stat.contains(") Z ")
    }

    #[test]
    fn a_qemu_that_exits_after_its_monitor_is_reported_with_its_own_status() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut process = started(folder.path(), "echo no memory >&2; sleep 0.3; exit 7");
        assert_eq!(
            process.death("starting up").to_string(),
            "QEMU exited with code 7 while starting up; it printed: no memory"
        );
    }

    #[test]
    fn what_a_script_left_running_ends_with_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut process = started(folder.path(), "sleep 600 & echo $!; exit 0");
        let deadline = Instant::now() + EXITS_WITHIN;
        while process.ended().is_none() {
            assert!(Instant::now() < deadline, "the script exits");
            std::thread::sleep(Duration::from_millis(1));
        }
        process.kill();
        let child: i32 = process.console.text().trim().parse().expect("a pid");
        while is_running(child) {
            assert!(Instant::now() < deadline, "{child} still runs");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
