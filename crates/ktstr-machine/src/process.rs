//! The QEMU process: started so that it cannot outlive us, ended so that nothing stays.

use std::io::Read;
use std::os::fd::RawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::MachineError;
use crate::console::Console;

/// Looks in a row at which the main thread must be where it is waited for.
const SETTLED: u32 = 3;
/// It gets there in milliseconds.
const SETTLE_WITHIN: Duration = Duration::from_secs(30);
/// Waiting for the virtual CPUs, as for a stop.
pub(crate) const FUTEX: &[i64] = &[libc::SYS_futex];
/// Waiting for something to do.
pub(crate) const POLL: &[i64] = &[libc::SYS_ppoll, libc::SYS_poll];

/// A running QEMU.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    ended: Option<ExitStatus>,
    /// The guest's serial console (QEMU's standard output).
    pub(crate) console: Console,
    stderr: Console,
}

impl Process {
    /// Starts QEMU with `inherit` open in it.
    ///
    /// The kernel kills it when the calling thread ends, however that comes about; so the
    /// thread that starts a machine is the one that keeps it.
    pub(crate) fn start(
        program: &Path,
        arguments: &[String],
        inherit: Vec<RawFd>,
    ) -> Result<Self, MachineError> {
        let parent = rustix::process::getpid();
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // SAFETY: between fork and exec only system calls are made, on values copied before.
        unsafe {
            command.pre_exec(move || {
                rustix::process::set_parent_process_death_signal(Some(
                    rustix::process::Signal::KILL,
                ))?;
                if rustix::process::getppid() != Some(parent) {
                    // The parent was gone before the signal was asked for.
                    return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
                }
                for fd in &inherit {
                    if libc::fcntl(*fd, libc::F_SETFD, 0) < 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        let mut child = command.spawn().map_err(|source| MachineError::Spawn {
            path: program.to_owned(),
            source,
        })?;
        let take = |stream: Option<Box<dyn Read + Send>>| {
            Console::collect(stream.unwrap_or_else(|| Box::new(std::io::empty())))
        };
        let stdout = child.stdout.take().map(|s| Box::new(s) as Box<_>);
        let stderr = child.stderr.take().map(|s| Box::new(s) as Box<_>);
        Ok(Self {
            child,
            ended: None,
            console: take(stdout),
            stderr: take(stderr),
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// The error for a QEMU that went away while the host was `during` something.
    pub(crate) fn death(&mut self, during: &'static str) -> MachineError {
        let status = match self.ended() {
            Some(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("exited with code {code}"),
                (_, Some(signal)) => format!("was killed by signal {signal}"),
                _ => "ended".to_owned(),
            },
            None => "closed its monitor".to_owned(),
        };
        let text = if self.ended.is_some() {
            self.stderr.finish();
            self.stderr.text()
        } else {
            self.stderr.text()
        };
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

    /// Waits until QEMU's main thread is found in one of these system calls several times in a
    /// row: only then has it taken in what it was asked for.
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
                    command: format!("waiting for QEMU's main thread ({})", text.trim()),
                    within: SETTLE_WITHIN,
                });
            }
            std::thread::sleep(Duration::from_micros(300));
        }
        Ok(())
    }

    /// CPU time QEMU has used, all threads, in steps of the clock tick.
    pub(crate) fn cpu_time(&self) -> Option<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).ok()?;
        let (_, after_name) = stat.rsplit_once(')')?;
        let mut fields = after_name.split_whitespace().skip(11);
        let user: u64 = fields.next()?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        Some(Duration::from_millis(
            (user + system).saturating_mul(1000) / per_second,
        ))
    }

    /// Sum of `/proc/PID/task/*/schedstat` (Documentation/scheduler/sched-stats.rst).
    pub(crate) fn thread_times(&self) -> Option<ThreadTimes> {
        let mut sum = ThreadTimes::default();
        for task in std::fs::read_dir(format!("/proc/{}/task", self.id())).ok()? {
            // A thread may end between the listing and the reading.
            let Ok(text) = std::fs::read_to_string(task.ok()?.path().join("schedstat")) else {
                continue;
            };
            let mut fields = text.split_whitespace().map(str::parse::<u64>);
            if let (Some(Ok(ran)), Some(Ok(waited))) = (fields.next(), fields.next()) {
                sum.on_cpu_ns = sum.on_cpu_ns.saturating_add(ran);
                sum.run_delay_ns = sum.run_delay_ns.saturating_add(waited);
            }
        }
        (sum.on_cpu_ns > 0).then_some(sum)
    }

    /// Ends QEMU for good and collects what it still said.
    pub(crate) fn kill(&mut self) {
        if self.ended().is_none() {
            // Errors mean that it is gone already.
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
        self.console.finish();
        self.stderr.finish();
    }
}

/// What threads got of the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ThreadTimes {
    /// Time on a CPU, ns.
    pub on_cpu_ns: u64,
    /// Time they wanted one and had to wait, ns.
    pub run_delay_ns: u64,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
