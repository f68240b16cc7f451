//! The test process: another process of the test's binary. It is started before its job is known, so that a machine
//! can be saved with the process loaded, linked and waiting.
//!
//! Its standard input is a socket to PID 1. The process sends one byte when it is ready, and reads its job from the
//! socket. The header before the job has a fixed length and contains the length of the job, so the process knows when it has
//! all of the job. This keeps the code that a fork executes before the test function short. The length matters, because the
//! fork executes this code for the first time, and QEMU has to translate every block of it.

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

/// The environment variable that tells a process that it is the guest's test process.
pub(crate) const TEST_PROCESS_ENV: &str = "KTSTR_GUEST_TEST";

/// Whether this process is the guest's test process. Its children inherit the variable, and the test may start its own program
/// again, but only the test process is a child of PID 1.
pub fn is_test_process() -> bool {
    std::env::var_os(TEST_PROCESS_ENV).is_some() && std::os::unix::process::parent_id() == 1
}

/// Interval at which PID 1 polls whether the process is ready or has exited.
const LOOK: Duration = Duration::from_millis(5);

/// The longest time for which a read by PID 1 from the test process's socket blocks. PID 1 reads only when a message has begun
/// to arrive, so this bounds the wait for the rest of the message.
const MESSAGE_WITHIN: Duration = Duration::from_secs(1);

/// Length in bytes of the header before the job: the scheduler's process id and the job's length, four bytes each.
const HEADER: usize = 8;
/// Size of the first read in bytes, large enough for the header and nearly all jobs.
const FIRST_READ: usize = 4096;
/// The process id in the header if there is no scheduler process. No process has this id.
const NO_SCHEDULER: i32 = 0;

/// The information that the test process needs.
#[derive(Debug)]
pub struct TestJob {
    /// The job as the host sent it.
    pub job: Job,
    /// The process id of the scheduler under test; `None` if no scheduler was started, or if it is part of the kernel.
    pub sched_pid: Option<i32>,
    /// The socket, which stays open until the process exits.
    _socket: File,
}

/// PID 1's handle of a test process.
#[derive(Debug)]
pub(super) struct TestProcess {
    pub(super) child: Child,
    /// The socket to the process.
    pub(super) control: UnixStream,
}

impl TestProcess {
    /// Starts `binary` and waits until it is ready. Returns `None` if it exited before that; its end has then been
    /// reported to the host.
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
                // A message that is sent only in part must not block PID 1.
                let limit = Some(MESSAGE_WITHIN);
                control.set_read_timeout(limit).map_err(failed)?;
                return Ok(Some(Self { child, control }));
            }
        }
    }

    /// Returns the process id.
    pub(super) fn pid(&self) -> i32 {
        self.child.pid()
    }

    /// Passes on the job, in the encoding of [`Job`].
    pub(super) fn run(&mut self, job: &[u8], sched_pid: Option<i32>) {
        let mut bytes = Vec::with_capacity(HEADER + job.len());
        bytes.extend_from_slice(&sched_pid.unwrap_or(NO_SCHEDULER).to_le_bytes());
        bytes.extend_from_slice(&(job.len() as u32).to_le_bytes());
        bytes.extend_from_slice(job);
        // If the process has exited in the meantime, the caller detects that.
        let _ = self.control.write_all(&bytes);
    }
}

/// The test process's end of the socket.
#[derive(Debug)]
pub struct JobSource(File);

impl JobSource {
    /// Takes the socket from standard input, and replaces standard input with /dev/null.
    pub fn open() -> std::io::Result<Self> {
        let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
        let empty = File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(empty.as_fd())?;
        Ok(Self(File::from(socket)))
    }

    /// Reports to PID 1 that this process is ready, and waits for the job.
    pub fn wait(mut self) -> std::io::Result<TestJob> {
        // Do one-time work before the machine is saved, so that forks do not repeat it: the first read of the clock
        // and the first checksum select their implementations, and the buffer is allocated.
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
            return Err(Error::other("the job cannot be decoded"));
        };
        Ok(TestJob {
            job,
            sched_pid: (sched_pid != NO_SCHEDULER).then_some(sched_pid),
            _socket: self.0,
        })
    }
}

/// Asks the kernel to map the cached pages of this program and its libraries, so that the first execution of their
/// code causes no page faults. If that fails, pages are faulted in on demand.
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
