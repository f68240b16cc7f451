//! The messages between guest and host. A mailbox frame holds one JSON document, except for the messages that a fork
//! receives on its way to the test function, which have a plain binary format (`wire.rs`).
//!
//! Both sides are built from the same sources (the host's program carries the guest's, `ktstr-init`), so the format needs no
//! version. The guest is untrusted nevertheless, so the host checks every field before it uses it.
// The numbers come from another machine: no conversion may change a value unnoticed.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]

mod bound;

use ktstr_assert::AssertResult;
use ktstr_scenario::ops::{KernelTarget, KernelValue, KernelValueWidth};
use serde::{Deserialize, Serialize};

use crate::wire::{Put, Take};

pub use self::bound::TEXT_CAP;

/// The source of a byte stream of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output of the test process.
    Stdout,
    /// Standard error of the test process.
    Stderr,
    /// Standard output and error of the scheduler under test.
    Scheduler,
}

/// How a process of the guest ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessEnd {
    /// The process exited with this code.
    Exited(i32),
    /// The process was killed by this signal.
    Signaled(i32),
}

impl std::fmt::Display for ProcessEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with code {code}"),
            Self::Signaled(signal) => write!(f, "was killed by signal {signal}"),
        }
    }
}

/// A signal that was sent by a process rather than by the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentSignal {
    /// The signal's number, as in signal(7).
    pub signal: i32,
    /// The thread id of the sender.
    pub sender: i32,
    /// The sender's thread name.
    pub comm: String,
}

impl SentSignal {
    /// Returns whether this signal can be the reason why a process ended as `end` says; `end` is `None` while the process exists.
    /// If a signal killed the process, it must be this signal. A process that exited, or that still exists, may handle this
    /// signal by exiting. The exception is a signal whose default action is to stop or to continue the process or to be ignored,
    /// because such a signal asks no process to exit (signal(7)).
    pub fn can_end(&self, end: Option<ProcessEnd>) -> bool {
        match end {
            Some(ProcessEnd::Signaled(by)) => self.signal == by,
            Some(ProcessEnd::Exited(_)) | None => ![
                libc::SIGCONT,
                libc::SIGSTOP,
                libc::SIGTSTP,
                libc::SIGTTIN,
                libc::SIGTTOU,
                libc::SIGCHLD,
                libc::SIGURG,
                libc::SIGWINCH,
            ]
            .contains(&self.signal),
        }
    }
}

/// The counters of a worker that ended normally, between the two marks that it set in the exact schedule. The host
/// compares them with the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerNumbers {
    /// The worker's thread id.
    pub tid: i32,
    /// CPU time, in nanoseconds.
    pub cpu_ns: u64,
    /// CPU time in nanoseconds that setting the marks took. The host lets `cpu_ns` differ from the schedule by this much in
    /// addition to its other tolerances.
    pub slack_ns: u64,
    /// Number of times that the worker was put on a CPU; 0 if the kernel has no schedstats.
    pub runs: u64,
    /// Number of migrations that the worker noticed. It may have missed some.
    pub migrations: u64,
}

/// Maximum length in bytes of a tag, and of the name of a variable that is watched.
pub const MAX_TAG: usize = 64;
/// Maximum number of processes in a list.
pub const MAX_PIDS: usize = 1 << 16;

/// Maximum length in bytes of the statistics that a scheduler serves.
pub const MAX_STATS: usize = TEXT_CAP / 2;

/// What a scheduler answered when the guest asked it for its statistics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatsAnswer {
    /// The line of JSON that the scheduler sent.
    Line(String),
    /// The scheduler sent more than [`MAX_STATS`] bytes.
    TooLarge,
    /// The guest got no answer from the scheduler, for this reason.
    Failed(String),
}

/// A request of the test process to the host. The test process waits until the host has answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Capture the guest's state now.
    Capture {
        /// The tag under which the capture is stored.
        tag: String,
        /// Ordinal of the running step; 0 before the first step.
        step_index: u16,
    },
    /// Write the values of the test's `bpf_map_write` into the scheduler's variables.
    WriteMaps,
    /// Store a list of processes for the test's callbacks.
    CgroupProcs {
        /// The tag under which the list is stored.
        tag: String,
        /// The name of the cgroup in the test.
        cgroup: String,
        /// The process ids in the guest's namespace.
        pids: Vec<i32>,
    },
    /// Capture the guest's state whenever the first four bytes of this variable of the kernel have changed. A test can watch
    /// at most three variables.
    Watch {
        /// The variable's exact name in `/proc/kallsyms`, 1 to 64 bytes. Its address must be a multiple of four.
        symbol: String,
    },
    /// Write to the kernel's memory.
    WriteKernel {
        /// The targets and the values to write there.
        writes: Vec<(KernelTarget, KernelValue)>,
        /// Whether the guest must be frozen during the write. Under the virtual clock it is stopped in any case.
        cold: bool,
    },
    /// Read the kernel's memory, for the test's callbacks.
    ReadKernel {
        /// The tag under which the value is stored.
        tag: String,
        /// The location in the kernel's memory to read.
        target: KernelTarget,
        /// The width of the value and its interpretation.
        width: KernelValueWidth,
        /// Whether the guest must be frozen during the read. Under the virtual clock it is stopped in any case.
        cold: bool,
    },
}

impl Ask {
    /// Returns a noun phrase that describes the request in messages.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Capture { .. } => "a capture",
            Self::WriteMaps => "a write to the scheduler's variables",
            Self::CgroupProcs { .. } => "a list of a cgroup's processes",
            Self::Watch { .. } => "a watch on a variable of the kernel",
            Self::WriteKernel { .. } => "a write to the kernel's memory",
            Self::ReadKernel { .. } => "a read of the kernel's memory",
        }
    }
}

/// Maximum length of an answer in bytes.
pub const MAX_ANSWER: usize = 64 << 10;
/// Offset of an answer's length from `Layout::ANSWER`. The eight bytes before the length hold the number of the request, or
/// 0 while there is no answer; the answer follows the length as JSON.
pub const ANSWER_LENGTH_AT: u64 = 8;
/// Offset of an answer's JSON from `Layout::ANSWER`; see [`ANSWER_LENGTH_AT`].
pub const ANSWER_AT: u64 = 16;

/// The host's answer: success, or the reason for the failure.
pub type Answer = Result<(), String>;

/// A message from the guest to the host. Times are guest time (`CLOCK_MONOTONIC`), in the unit that the field's name ends in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToHost {
    /// PID 1 runs and the mailbox works.
    Hello {
        /// The topology that the kernel sees, in the form `{numa}n{llcs}l{cores}c{threads}t`, or the reason why it
        /// cannot be written in that form.
        topology: Result<String, String>,
    },
    /// The scheduler under test has attached.
    SchedulerAttached {
        /// Process id of the scheduler.
        pid: i32,
        /// Time from its start to the attach, in nanoseconds.
        took_ns: u64,
    },
    /// The scheduler under test did not attach.
    SchedulerNotAttached {
        /// The reason, as one sentence for the user.
        reason: String,
    },
    /// The test is about to stop, start or replace a scheduler, so the exit of the attached scheduler is intended.
    SchedulerStopping,
    /// The test starts a scheduler. What the scheduler that ran before has printed was sent before this message.
    SchedulerStarting {
        /// The name under which the test staged the scheduler; `None` for the test's own scheduler.
        staged: Option<String>,
    },
    /// The guest waits for a scheduler to attach, or the test has waited for a payload. Both may take long, and the host gives
    /// up on a guest that sends nothing.
    Alive,
    /// The scheduler has attached again, because the kernel asked it to.
    SchedulerAttachedAgain,
    /// The scheduler under test exited before PID 1 stopped it.
    SchedulerDied {
        /// How the process ended.
        end: ProcessEnd,
        /// The last signal that a process sent to it and that can have ended it; `None` if there is none or it was not traced.
        signal: Option<SentSignal>,
    },
    /// PID 1 stopped the scheduler at the end of the run, but its process is still there.
    SchedulerLeft {
        /// What the process does, as one sentence for the user.
        what: String,
    },
    /// A [`ToGuest::Write`] has been executed.
    Written,
    /// A [`ToGuest::Prepare`] has been executed.
    Prepared,
    /// A [`ToGuest::Load`] has been executed.
    Loaded,
    /// PID 1 passes the job to the test process next.
    TestStarted {
        /// Process id of the test process.
        pid: i32,
    },
    /// The test function is about to be called: the next instruction is its first.
    FunctionCalled,
    /// The workload window opens.
    ScenarioStart,
    /// Window time is paused: for setup and teardown, or while the test waits for a scheduler that attaches again.
    ScenarioPause,
    /// Window time is resumed.
    ScenarioResume,
    /// A step's cgroups and workers are in place and its hold begins.
    StepStart {
        /// The number of the step, from 1.
        step_index: u16,
        /// Window time in milliseconds since `ScenarioStart`; it does not advance while it is paused.
        elapsed_ms: u64,
        /// Number of operations in the step.
        op_count: u32,
        /// A bit mask of the kinds of operations, with the bit of each at its `Op::wire_index`.
        op_kinds: u64,
        /// Number of cgroups after the setup of the step.
        cgroup_count: u32,
        /// Number of workers after the setup of the step.
        worker_count: u32,
        /// Number of iterations of all workers so far.
        total_iterations: u64,
    },
    /// A step's hold is over; its workers are still running.
    StepEnd {
        /// The number of the step, from 1.
        step_index: u16,
        /// Window time in milliseconds since `ScenarioStart`; it does not advance while it is paused.
        elapsed_ms: u64,
        /// Number of iterations of all workers so far.
        total_iterations: u64,
    },
    /// The scenario is over, and the backdrop has been removed.
    ScenarioEnd {
        /// Window time in milliseconds since `ScenarioStart`; it does not advance while it is paused.
        elapsed_ms: u64,
        /// Number of iterations of all workers.
        total_iterations: u64,
    },
    /// Text that was written to a stream.
    Output {
        /// The stream that the text was written to.
        stream: Stream,
        /// The text; invalid UTF-8 is replaced.
        text: String,
    },
    /// The test process requests something and waits for the answer.
    Ask {
        /// Identifies the request; never 0.
        number: u64,
        /// What the host is asked to do.
        ask: Ask,
    },
    /// The scheduler was asked for its statistics, for a capture.
    SchedulerStats {
        /// The tag of the capture.
        tag: String,
        /// What the scheduler answered.
        answer: StatsAnswer,
    },
    /// Workers were stopped. These are the counters of those that ended normally.
    Workers(Vec<WorkerNumbers>),
    /// What the test function returned.
    TestResult(Box<AssertResult>),
    /// The test function returned an error.
    TestError {
        /// The error and its causes.
        message: String,
    },
    /// The test function panicked.
    TestPanicked {
        /// The panic message and its location.
        message: String,
    },
    /// What the test's disk has done by the end of the test process.
    Disk(DiskCounters),
    /// The test process has exited.
    TestEnded {
        /// How the process ended.
        end: ProcessEnd,
        /// Whether SIGKILL killed the test process and the kernel's out-of-memory killer has killed any process since the test
        /// process was started.
        oom_killed: bool,
    },
    /// The guest side itself failed. This is the harness's fault, never the scheduler's.
    HarnessError {
        /// The error, as one sentence for the user.
        message: String,
    },
    /// This is the last message. The host ends the machine; without a host, the guest powers off 30 s later.
    Bye,
}

impl ToHost {
    /// Encodes the message for the mailbox. If the encoded message has more than [`TEXT_CAP`] bytes, it is first bounded by
    /// [`ToHost::bound_texts`]. A message that is still too large is replaced by a [`ToHost::HarnessError`] that says so.
    pub fn encode(&self) -> Vec<u8> {
        // A fork sends these two messages on its way to the test function, so they avoid serde: see `wire.rs`.
        match self {
            Self::FunctionCalled => return b"\"function_called\"".to_vec(),
            Self::TestStarted { pid } => return test_started(*pid),
            _ => {}
        }
        let bytes = encoded(self);
        if bytes.len() <= TEXT_CAP {
            return bytes;
        }
        let mut bounded = self.clone();
        bounded.bound_texts();
        let bytes = encoded(&bounded);
        if bytes.len() <= ktstr_mailbox::MAX_MESSAGE {
            return bytes;
        }
        let what = match self {
            Self::TestResult(result) => format!(
                "the test's result, with {} findings, {} claims and {} notes,",
                result.outcomes.len(),
                result.passes.len(),
                result.info_notes.len()
            ),
            _ => "a message".to_owned(),
        };
        encoded(&Self::HarnessError {
            message: format!(
                "{what} takes {} bytes, but at most {} can be sent to the host",
                bytes.len(),
                ktstr_mailbox::MAX_MESSAGE
            ),
        })
    }
}

/// Encodes `{"test_started":{"pid":PID}}`, with the digits of the process id generated from the last to the first.
fn test_started(pid: i32) -> Vec<u8> {
    let mut digits = [b'0'; 10];
    let mut at = digits.len();
    let mut left = pid.unsigned_abs();
    while at > 0 {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    let mut bytes = Vec::with_capacity(40);
    bytes.extend_from_slice(b"{\"test_started\":{\"pid\":");
    if pid < 0 {
        bytes.push(b'-');
    }
    bytes.extend_from_slice(&digits[at..]);
    bytes.extend_from_slice(b"}}");
    bytes
}

/// Encodes a message as JSON. Messages are plain data, but if the encoding fails after all, the host receives that as
/// an error.
fn encoded(message: &ToHost) -> Vec<u8> {
    serde_json::to_vec(message).unwrap_or_else(|error| {
        let text = format!("a message could not be encoded as JSON: {error}");
        serde_json::json!({ "harness_error": { "message": text } })
            .to_string()
            .into_bytes()
    })
}

/// A message from the host to the guest. The guest executes such messages in order.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToGuest {
    /// Give this machine an identity that differs from the identities of other machines of the same template.
    #[serde(skip)]
    Refresh {
        /// The wall clock in nanoseconds since the epoch; `None` leaves it unchanged.
        realtime_ns: Option<u64>,
        /// Entropy for the kernel's random pool.
        entropy: Vec<u8>,
        /// The last process id, from which the kernel continues.
        last_pid: u32,
    },
    /// Store the first `len` bytes of the bulk window in a file. The answer is [`ToHost::Written`].
    Write {
        /// Absolute path in the guest.
        path: String,
        /// Offset in the file in bytes.
        offset: u64,
        /// How many bytes of the bulk window are stored.
        len: u64,
        /// Permission bits of a new file.
        mode: u32,
    },
    /// Set up what tests of one scheduler share. The answer is [`ToHost::Prepared`], or [`ToHost::SchedulerNotAttached`] if
    /// the scheduler does not attach.
    Prepare(Setup),
    /// Start the test process and let it wait for its job. The answer is [`ToHost::Loaded`], or [`ToHost::TestEnded`] if
    /// the process exits first.
    Load {
        /// The test's binary: absolute path in the guest.
        binary: String,
        /// Absolute path, below `/sys/fs/cgroup`, of the cgroup for the scenario's cgroups. The guest creates it.
        workload_root: String,
    },
    /// Let the loaded test process run a test. The last answer is [`ToHost::Bye`].
    #[serde(skip)]
    Run {
        /// A [`Job`] as encoded by [`Job::encode`], which PID 1 passes on unchanged.
        job: Vec<u8>,
        /// The seed of the job, from which PID 1 derives a delay before the test starts; 0 for no delay.
        seed: u64,
    },
}

/// First byte of a [`ToGuest::Refresh`]. No JSON document starts with it.
const REFRESH: u8 = 1;
/// First byte of a [`ToGuest::Run`].
const RUN: u8 = 2;
/// First byte of a [`Job`].
const JOB: u8 = 3;
/// Encodes a wall clock of `None`. No real clock has this time.
const NO_TIME: u64 = u64::MAX;

impl ToGuest {
    /// Encodes the message for the mailbox.
    ///
    /// # Errors
    /// The message cannot be encoded as JSON.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let put = match self {
            Self::Refresh {
                realtime_ns,
                entropy,
                last_pid,
            } => {
                let mut put = Put::new(REFRESH);
                put.number(realtime_ns.unwrap_or(NO_TIME));
                put.bytes(entropy);
                put.number(u64::from(*last_pid));
                put
            }
            Self::Run { job, seed } => {
                let mut put = Put::new(RUN);
                put.bytes(job);
                put.number(*seed);
                put
            }
            Self::Write { .. } | Self::Prepare(_) | Self::Load { .. } => {
                return serde_json::to_vec(self);
            }
        };
        Ok(put.done())
    }

    /// Decodes a message that [`ToGuest::encode`] has encoded.
    ///
    /// # Errors
    /// The reason why `bytes` are not a message.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (message, take) = match bytes.split_first() {
            Some((&REFRESH, rest)) => {
                let mut take = Take::new(rest);
                let realtime_ns = take.number();
                let message = Self::Refresh {
                    realtime_ns: (realtime_ns != NO_TIME).then_some(realtime_ns),
                    entropy: take.bytes().to_vec(),
                    last_pid: take.small(),
                };
                (message, take)
            }
            Some((&RUN, rest)) => {
                let mut take = Take::new(rest);
                let message = Self::Run {
                    job: take.bytes().to_vec(),
                    seed: take.number(),
                };
                (message, take)
            }
            _ => return serde_json::from_slice(bytes).map_err(|e| e.to_string()),
        };
        match take.is_whole() {
            true => Ok(message),
            false => Err("its length does not match the lengths of its parts".to_owned()),
        }
    }
}

/// The setup that tests of one scheduler share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// The scheduler to start.
    pub scheduler: Option<SchedulerJob>,
    /// `sysctl` keys (dotted) and values to set before the scheduler starts.
    pub sysctls: Vec<(String, String)>,
    /// Absolute path, below `/sys/fs/cgroup`, of a cgroup to create for the scheduler.
    pub cgroup_parent: Option<String>,
    /// sched_ext's watchdog timeout in milliseconds. The host sets it once the scheduler has attached.
    pub watchdog_timeout_ms: u64,
    /// The disk to make.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskSetup>,
    /// The schedulers that the test may start while it runs, by name. Unless the list is empty, it also contains the test's
    /// own scheduler, if the test has one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub staged: Vec<(String, SchedulerJob)>,
}

impl Setup {
    /// Returns whether the guest has nothing to do for this setup. The watchdog timeout is not considered, because it
    /// needs a scheduler.
    pub fn is_nothing(&self) -> bool {
        self.scheduler.is_none()
            && self.sysctls.is_empty()
            && self.cgroup_parent.is_none()
            && self.disk.is_none()
            && self.staged.is_empty()
    }
}

/// The disk that the guest makes for a test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSetup {
    /// The modules to load, as absolute paths in the guest, in this order.
    pub modules: Vec<String>,
    /// The second name of the disk in `/dev`.
    pub name: Option<String>,
    /// The capacity in MiB.
    pub capacity_mib: u32,
    /// How long each request takes, in nanoseconds.
    pub request_ns: u64,
    /// Whether requests are served one after the other.
    pub one_at_a_time: bool,
    /// The limit of the throughput in MiB per second; 0 for none.
    pub mib_per_sec: u64,
    /// Whether writes are refused.
    pub read_only: bool,
}

/// What the test's disk did from its creation until the end of the test process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DiskCounters {
    /// The number of reads that have ended.
    pub reads_completed: u64,
    /// The number of writes that have ended.
    pub writes_completed: u64,
    /// The number of flushes that have ended.
    pub flushes_completed: u64,
    /// The number of bytes that were read.
    pub bytes_read: u64,
    /// The number of bytes that were written.
    pub bytes_written: u64,
}

/// A test to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The name of the test function's entry.
    pub test: String,
    /// The environment of the test process.
    pub env: Vec<(String, String)>,
    /// The seed of the workers.
    pub seed: u64,
    /// The number of the test's variant.
    pub variant: u64,
    /// Absolute path, below `/sys/fs/cgroup`, of the cgroup for the scenario's cgroups.
    pub workload_root: String,
}

impl Job {
    /// Encodes the job in the form that PID 1 passes on.
    pub fn encode(&self) -> Vec<u8> {
        let mut put = Put::new(JOB);
        put.bytes(self.test.as_bytes());
        put.bytes(self.workload_root.as_bytes());
        put.number(self.seed);
        put.number(self.variant);
        put.number(self.env.len() as u64);
        for (name, value) in &self.env {
            put.bytes(name.as_bytes());
            put.bytes(value.as_bytes());
        }
        put.done()
    }

    /// Decodes a job that [`Job::encode`] has encoded. Returns `None` if `bytes` are not a job.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let Some((&JOB, rest)) = bytes.split_first() else {
            return None;
        };
        let mut take = Take::new(rest);
        let mut job = Self {
            test: take.text(),
            workload_root: take.text(),
            seed: take.number(),
            variant: take.number(),
            env: Vec::new(),
        };
        let mut left = take.number();
        while left > 0 && take.has_more() {
            let name = take.text();
            job.env.push((name, take.text()));
            left -= 1;
        }
        (left == 0 && take.is_whole()).then_some(job)
    }
}

/// A request of the test process to PID 1 to stop or start a scheduler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulerChange {
    /// Whether to stop the attached scheduler.
    pub stop: bool,
    /// The scheduler to start after that; `None` to start none.
    pub start: Option<StartOf>,
}

/// The scheduler that an operation starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartOf {
    /// The test's own scheduler.
    Own,
    /// A staged scheduler, by its name.
    Staged(String),
}

/// PID 1's answer: the process id of the scheduler that is attached now (`None` if none is), or the error.
pub type SchedulerAnswer = Result<Option<i32>, ChangeError>;

/// Why PID 1 did not start or stop a scheduler as requested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum ChangeError {
    /// The request is invalid or could not be sent to PID 1, or the attached scheduler did not exit.
    #[error("{0}")]
    Refused(String),
    /// The scheduler was started but did not attach.
    #[error("startup death: the scheduler {scheduler} did not attach: {why}")]
    NotAttached {
        /// The name under which the test staged the scheduler; `of the test` for the test's own scheduler.
        scheduler: String,
        /// The reason, as far as PID 1 knows it.
        why: String,
    },
}

/// A scheduler to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchedulerJob {
    /// A program in the guest's file system.
    Program {
        /// Absolute path in the guest.
        path: String,
        /// Arguments, without the program's name.
        args: Vec<String>,
        /// Environment variables that the host passes on.
        env: Vec<(String, String)>,
    },
    /// A scheduler inside the kernel, which lines of the form `echo VALUE > PATH` switch on and off.
    Builtin {
        /// The lines to execute before the test.
        enable: Vec<String>,
        /// The lines to execute after the test.
        disable: Vec<String>,
    },
}
