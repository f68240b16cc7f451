//! The test process: the test's binary again, started before its job is known, so that a machine
//! can be saved with the process loaded, linked and waiting.
//!
//! Its standard input is a socket to PID 1: it says one byte when it waits, and reads its job from there. Job and what
//! comes before it are as long as they say, and nobody closes the socket before the test has run: what a fork does on its
//! way to the test function, it does for the first time, and each block of code has to be translated.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::children::{Child, Children};
use super::{GUEST_MARK_ENV, InitError};
use crate::link;
use crate::protocol::{Job, Stream, ToHost};

/// Variable that says "you are the guest's test process".
pub const TEST_PROCESS_ENV: &str = "KTSTR_GUEST_TEST";

/// How often PID 1 looks whether the process waits or has ended.
const LOOK: Duration = Duration::from_millis(5);

/// How long the rest of a message that the process has begun may take.
const MESSAGE_WITHIN: Duration = Duration::from_secs(1);

/// Before the job: the scheduler's process id, and the job's length.
const HEADER: usize = 8;
/// Bytes of the first read: as many as nearly all jobs have with what comes before them.
const FIRST_READ: usize = 4096;
/// No process has this id.
const NO_SCHEDULER: i32 = 0;

/// What the test process needs to know.
#[derive(Debug)]
pub struct TestJob {
    /// The whole job.
    pub job: Job,
    /// Process id of the scheduler under test.
    pub sched_pid: Option<i32>,
    /// Open until the process ends.
    _socket: File,
}

/// PID 1's hold on a test process that waits.
#[derive(Debug)]
pub(super) struct TestProcess {
    pub(super) child: Child,
    /// The way to it.
    pub(super) control: UnixStream,
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
                control.set_nonblocking(false).map_err(failed)?;
                // A message that is begun and not ended must not stop PID 1.
                let limit = Some(MESSAGE_WITHIN);
                control.set_read_timeout(limit).map_err(failed)?;
                return Ok(Some(Self { child, control }));
            }
        }
    }

    /// Its process id.
    pub(super) fn pid(&self) -> i32 {
        self.child.pid()
    }

    /// Hands over the job, a [`Job`] as it writes itself.
    pub(super) fn run(&mut self, job: &[u8], sched_pid: Option<i32>) {
        let mut bytes = Vec::with_capacity(HEADER + job.len());
        bytes.extend_from_slice(&sched_pid.unwrap_or(NO_SCHEDULER).to_le_bytes());
        bytes.extend_from_slice(&(job.len() as u32).to_le_bytes());
        bytes.extend_from_slice(job);
        // A process that has ended since is found by its end.
        let _ = self.control.write_all(&bytes);
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
        // A saved machine has behind it what is done before the wait: the first look at the clock, and the first checksum, find
        // out how that is done; the buffer's memory is there.
        crate::clock::monotonic_ns();
        ktstr_mailbox::find_checksum();
        super::lifecycle::install(self.0.try_clone()?);
        let mut bytes = vec![0u8; FIRST_READ];
        self.0.write_all(&[1])?;
        let mut have = 0;
        while have < HEADER {
            match self.0.read(&mut bytes[have..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(more) => have += more,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        let header = u64::from_le_bytes([
            bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7],
        ]);
        let sched_pid = header as i32;
        let end = HEADER + (header >> 32) as usize;
        if have < end {
            bytes.resize(end.max(FIRST_READ), 0);
            self.0.read_exact(&mut bytes[have..end])?;
        }
        let Some(job) = Job::decode(&bytes[HEADER..end]) else {
            return Err(Error::other("the job makes no sense"));
        };
        Ok(TestJob {
            job,
            sched_pid: (sched_pid != NO_SCHEDULER).then_some(sched_pid),
            _socket: self.0,
        })
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
