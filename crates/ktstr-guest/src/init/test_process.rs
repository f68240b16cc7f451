//! The test process: the test's binary again, started before its job is known, so that a machine
//! can be saved with the process loaded, linked and waiting.
//!
//! Its standard input is a socket to PID 1: it says one byte when it waits, and reads its job
//! from there up to the end.

use std::fs::File;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::children::{Child, Children};
use super::{GUEST_MARK_ENV, InitError};
use crate::link;
use crate::protocol::{Job, Stream, ToHost};

/// Variable that says "you are the guest's test process".
pub const TEST_PROCESS_ENV: &str = "KTSTR_GUEST_TEST";

/// How often PID 1 looks whether the process waits or has ended.
const LOOK: Duration = Duration::from_millis(5);

/// What the test process needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TestJob {
    /// The whole job.
    pub job: Job,
    /// Process id of the scheduler under test.
    pub sched_pid: Option<i32>,
}

/// PID 1's hold on a test process that waits.
#[derive(Debug)]
pub(super) struct TestProcess {
    child: Child,
    control: UnixStream,
}

impl TestProcess {
    /// Starts `binary` and waits until it waits. `None`: it ended before, and the host has been
    /// told how.
    pub(super) fn load(children: &mut Children, binary: &str) -> Result<Option<Self>, InitError> {
        let failed = |e| InitError::system("making the test process's socket", e);
        let (mut control, theirs) = UnixStream::pair().map_err(failed)?;
        control.set_nonblocking(true).map_err(failed)?;
        let mut command = Command::new(binary);
        command
            .arg("run")
            .env_remove(GUEST_MARK_ENV)
            .env(TEST_PROCESS_ENV, "1");
        let stdin = Stdio::from(OwnedFd::from(theirs));
        let child = children.spawn(command, stdin, Stream::Stdout, Stream::Stderr)?;
        loop {
            children.wait(Some(LOOK))?;
            if let Some(end) = child.end(children) {
                children.drain();
                link::send(&ToHost::TestEnded {
                    end,
                    oom_killed: false,
                });
                return Ok(None);
            }
            if matches!(control.read(&mut [0u8]), Ok(1)) {
                return Ok(Some(Self { child, control }));
            }
        }
    }

    /// Hands the job over.
    pub(super) fn run(mut self, job: &TestJob) -> Result<Child, InitError> {
        let text = serde_json::to_vec(job)
            .map_err(|e| InitError::Message(format!("describing the test's job: {e}")))?;
        let hand_over = |control: &mut UnixStream| {
            control.set_nonblocking(false)?;
            control.write_all(&text)?;
            control.shutdown(Shutdown::Write)
        };
        // A process that has ended since is found by its end.
        let _ = hand_over(&mut self.control);
        Ok(self.child)
    }
}

/// The test process's end of it.
#[derive(Debug)]
pub struct JobSource(File);

impl JobSource {
    /// Takes the socket over; standard input is empty from then on.
    pub fn open() -> std::io::Result<Self> {
        let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
        let empty = File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(empty.as_fd())?;
        Ok(Self(File::from(socket)))
    }

    /// Says that this process waits, and waits for its job.
    pub fn wait(mut self) -> std::io::Result<TestJob> {
        self.0.write_all(&[1])?;
        let mut text = Vec::new();
        self.0.read_to_end(&mut text)?;
        serde_json::from_slice(&text).map_err(Into::into)
    }
}

/// Has the kernel map what is there of this program's file and its libraries, so that the first
/// pass through their code meets no page faults. Where it cannot, the faults come as ever.
pub fn touch_program() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for line in maps.lines().filter(|line| line.contains(" r-")) {
        let range = line.split_once(' ').and_then(|(range, _)| {
            let (start, end) = range.split_once('-')?;
            let start = usize::from_str_radix(start, 16).ok()?;
            let end = usize::from_str_radix(end, 16).ok()?;
            Some((start, end.checked_sub(start)?))
        });
        if let Some((start, len)) = range.filter(|_| line.contains('/')) {
            // SAFETY: populating for reading changes no content of any mapping.
            let _ = unsafe {
                rustix::mm::madvise(start as *mut _, len, rustix::mm::Advice::LinuxPopulateRead)
            };
        }
    }
}
