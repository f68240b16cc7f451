//! What guest and host say to each other: one JSON document a mailbox frame, but for what a fork is told on its way to the
//! test function, which is written plainly (`wire.rs`).
//!
//! Both sides are the same binary, so the format has no version of its own; a guest is still
//! hostile, so every field is judged by the host before it is used.

use ktstr_assert::payload::MAX_PAYLOADS;
use ktstr_assert::{AssertResult, Outcome};
use ktstr_scenario::ops::{KernelTarget, KernelValue, KernelValueWidth};
use serde::{Deserialize, Serialize};

use crate::wire::{Put, Take};

/// Where a byte stream of the guest comes from.
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
    /// It returned this code.
    Exited(i32),
    /// This signal killed it.
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

/// A signal that a process sent to another, not the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentSignal {
    /// The signal's number, as in signal(7).
    pub signal: i32,
    /// Thread id of the sender.
    pub sender: i32,
    /// The sender's name.
    pub comm: String,
}

/// What a worker that ended in order has counted of itself between the two marks that it left in the exact schedule, so that
/// the host can hold one against the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerNumbers {
    /// Its thread id.
    pub tid: i32,
    /// CPU time, in nanoseconds.
    pub cpu_ns: u64,
    /// CPU time that it took to leave the marks, in nanoseconds: by so much the span of the marks may be another one.
    pub slack_ns: u64,
    /// Times that it was put on a CPU; 0 where the kernel has no schedstats.
    pub runs: u64,
    /// Changes of CPU that it noticed: there may have been more.
    pub migrations: u64,
}

/// Bytes that a tag of a capture may have.
pub const MAX_TAG: usize = 64;
/// Processes that a list of a cgroup's may have.
pub const MAX_PIDS: usize = 1 << 16;

/// What the test process asks the host to do while it waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Capture the guest's state now.
    Capture {
        /// What to store it under.
        tag: String,
        /// Ordinal of the running step; 0 before the first.
        step_index: u16,
    },
    /// Write what the test declares as `bpf_map_write` into the scheduler's variables.
    WriteMaps,
    /// Keep a list of processes for the test's callbacks.
    CgroupProcs {
        /// What to keep it under.
        tag: String,
        /// The name of the cgroup, as the test knows it.
        cgroup: String,
        /// Process ids, as the guest counts them.
        pids: Vec<i32>,
    },
    /// Capture the guest's state whenever this variable of the kernel has changed.
    Watch {
        /// The variable's exact name in `/proc/kallsyms`, 1 to 64 bytes.
        symbol: String,
    },
    /// Write into the kernel's memory.
    WriteKernel {
        /// What is written where.
        writes: Vec<(KernelTarget, KernelValue)>,
        /// Whether the guest has to stand still.
        cold: bool,
    },
    /// Read the kernel's memory, for the test's callbacks.
    ReadKernel {
        /// What to keep the value under.
        tag: String,
        /// The place in the kernel's memory that is read.
        target: KernelTarget,
        /// How many bytes are read there, and as what.
        width: KernelValueWidth,
        /// Whether the guest has to stand still.
        cold: bool,
    },
}

impl Ask {
    /// What it is, for people.
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

/// Bytes that an answer may have.
pub const MAX_ANSWER: usize = 64 << 10;
/// Where an answer's length lies, from `Layout::ANSWER` on. Before it is the number of what was asked, 0 while there is no answer;
/// behind it is the answer as JSON.
pub const ANSWER_LENGTH_AT: u64 = 8;
/// Where the answer's JSON begins, from `Layout::ANSWER` on; see [`ANSWER_LENGTH_AT`].
pub const ANSWER_AT: u64 = 16;

/// What the host answers: that it is done, or why not.
pub type Answer = Result<(), String>;

/// Guest to host. Times are CLOCK_MONOTONIC of the guest, in nanoseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToHost {
    /// PID 1 runs and the mailbox works.
    Hello {
        /// The topology the kernel sees, as `{numa}n{llcs}l{cores}c{threads}t`, or why it has
        /// no such form.
        topology: Result<String, String>,
    },
    /// The scheduler under test has taken the CPUs over.
    SchedulerAttached {
        /// Process id of the scheduler.
        pid: i32,
        /// Time from its start to the attach, in nanoseconds.
        took_ns: u64,
    },
    /// The scheduler under test did not come up.
    SchedulerNotAttached {
        /// One sentence for people.
        reason: String,
    },
    /// The test has a scheduler stopped, started or replaced: what becomes of the one that is attached is the test's doing.
    SchedulerStopping,
    /// The scheduler under test ended before it was told to.
    SchedulerDied {
        /// How the process ended.
        end: ProcessEnd,
        /// The last signal that a process sent to it, where the kernel can trace that.
        signal: Option<SentSignal>,
    },
    /// A [`ToGuest::Write`] was carried out.
    Written,
    /// A [`ToGuest::Prepare`] was carried out.
    Prepared,
    /// A [`ToGuest::Load`] was carried out.
    Loaded,
    /// The test process has its job.
    TestStarted {
        /// Process id of the test process.
        pid: i32,
    },
    /// The test function is called: the next instruction is its first.
    FunctionCalled,
    /// The workload window opens.
    ScenarioStart,
    /// Window time stops counting (teardown and set-up between steps).
    ScenarioPause,
    /// Window time counts again.
    ScenarioResume,
    /// A step's cgroups and workers are in place and its hold begins.
    StepStart {
        /// 1-based step ordinal.
        step_index: u16,
        /// Milliseconds since `ScenarioStart`.
        elapsed_ms: u64,
        /// Ops applied by this step.
        op_count: u32,
        /// A bit for each kind of op, at its `Op::wire_index`.
        op_kinds: u64,
        /// How many cgroups there are once the step is set up.
        cgroup_count: u32,
        /// How many workers there are once the step is set up.
        worker_count: u32,
        /// Iterations of all workers so far.
        total_iterations: u64,
    },
    /// A step's hold is over; its workers still run.
    StepEnd {
        /// 1-based step ordinal.
        step_index: u16,
        /// Milliseconds since `ScenarioStart`.
        elapsed_ms: u64,
        /// Iterations of all workers so far.
        total_iterations: u64,
    },
    /// The last step is over.
    ScenarioEnd {
        /// Milliseconds since `ScenarioStart`.
        elapsed_ms: u64,
        /// Iterations of all workers.
        total_iterations: u64,
    },
    /// Bytes of a stream, lossily decoded.
    Output {
        /// The stream that the text was written to.
        stream: Stream,
        /// The text, in which bytes that are no UTF-8 are replaced.
        text: String,
    },
    /// The test process waits for the host to do this, and for the answer in the bulk window.
    Ask {
        /// Tells one from the next; never 0.
        number: u64,
        /// What to do.
        ask: Ask,
    },
    /// Workers were stopped, and this is what those that ended in order counted of themselves.
    Workers(Vec<WorkerNumbers>),
    /// What the test function returned.
    TestResult(Box<AssertResult>),
    /// The test function returned an error.
    TestError {
        /// The error's chain.
        message: String,
    },
    /// The test function panicked.
    TestPanicked {
        /// Message and place.
        message: String,
    },
    /// The test process is gone.
    TestEnded {
        /// How the process ended.
        end: ProcessEnd,
        /// The kernel's out-of-memory killer did it.
        oom_killed: bool,
    },
    /// The guest side itself failed: the harness's fault, never the scheduler's.
    HarnessError {
        /// One sentence for people.
        message: String,
    },
    /// Nothing more will come; the guest powers off.
    Bye,
}

/// Bytes of a text in a message: a sentence, a panic with its backtrace. What is over is cut off.
pub const TEXT_CAP: usize = 256 << 10;
/// Bytes that the note on what was cut off may take.
const NOTE_CAP: usize = 64;

impl ToHost {
    /// The message as it is sent: with bounded texts, and never too large for the mailbox. A message
    /// that still is, is replaced by the word that it was.
    pub fn encode(&self) -> Vec<u8> {
        // A fork says these two on its way to the test function, where all code is met for the first time: see `wire.rs`.
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
                "{what} takes {} bytes, and no more than {} can be sent to the host",
                bytes.len(),
                ktstr_mailbox::MAX_MESSAGE
            ),
        })
    }

    /// Cuts every text to [`TEXT_CAP`] and says so at its end. Both sides do it: the guest so that
    /// the message can be sent, the host because a guest need not.
    pub fn bound_texts(&mut self) {
        match self {
            Self::Hello {
                topology: Ok(text) | Err(text),
            } => bound(text),
            Self::SchedulerNotAttached { reason: text }
            | Self::Output { text, .. }
            | Self::TestError { message: text }
            | Self::TestPanicked { message: text }
            | Self::HarnessError { message: text } => bound(text),
            Self::TestResult(result) => {
                for outcome in &mut result.outcomes {
                    match outcome {
                        Outcome::Pass => {}
                        Outcome::Skip(detail)
                        | Outcome::Inconclusive(detail)
                        | Outcome::Fail(detail) => bound(&mut detail.message),
                    }
                }
                for note in &mut result.info_notes {
                    bound(&mut note.message);
                }
                for pass in &mut result.passes {
                    bound(&mut pass.value);
                    pass.expected.iter_mut().for_each(bound);
                }
                result.stats.payloads.truncate(MAX_PAYLOADS);
                for payload in &mut result.stats.payloads {
                    payload.bound();
                }
            }
            // The host refuses what is too long of a write.
            Self::Ask {
                ask: Ask::WriteMaps | Ask::WriteKernel { .. },
                ..
            } => {}
            Self::Ask {
                ask:
                    Ask::Capture { tag: text, .. }
                    | Ask::ReadKernel { tag: text, .. }
                    | Ask::Watch { symbol: text },
                ..
            } => bound(text),
            Self::Ask {
                ask: Ask::CgroupProcs { tag, cgroup, pids },
                ..
            } => {
                bound(tag);
                bound(cgroup);
                pids.truncate(MAX_PIDS);
            }
            Self::SchedulerAttached { .. }
            | Self::SchedulerStopping
            | Self::SchedulerDied { .. }
            | Self::Written
            | Self::Prepared
            | Self::Loaded
            | Self::TestStarted { .. }
            | Self::FunctionCalled
            | Self::ScenarioStart
            | Self::ScenarioPause
            | Self::ScenarioResume
            | Self::StepStart { .. }
            | Self::StepEnd { .. }
            | Self::ScenarioEnd { .. }
            | Self::Workers(_)
            | Self::TestEnded { .. }
            | Self::Bye => {}
        }
    }
}

/// `{"test_started":{"pid":PID}}`, the process id's digits from the last to the first.
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

/// Messages are plain data: one that cannot be written down is told of as such.
fn encoded(message: &ToHost) -> Vec<u8> {
    serde_json::to_vec(message).unwrap_or_else(|error| {
        let text = format!("a message could not be written as JSON: {error}");
        serde_json::json!({ "harness_error": { "message": text } })
            .to_string()
            .into_bytes()
    })
}

fn bound(text: &mut String) {
    if text.len() <= TEXT_CAP + NOTE_CAP {
        return;
    }
    let end = text.floor_char_boundary(TEXT_CAP);
    let left_out = text.len() - end;
    text.truncate(end);
    text.push_str(&format!("\n[... {left_out} bytes left out ...]"));
}

/// Host to guest, carried out in order.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToGuest {
    /// Make this machine differ from its siblings of the same template.
    #[serde(skip)]
    Refresh {
        /// Wall clock, nanoseconds since the epoch; `None`: it goes on as it is.
        realtime_ns: Option<u64>,
        /// Bytes for the kernel's random pool.
        entropy: Vec<u8>,
        /// Where process ids go on.
        last_pid: u32,
    },
    /// Store the first `len` bytes of the bulk window in a file; answered with
    /// [`ToHost::Written`].
    Write {
        /// Absolute path in the guest.
        path: String,
        /// Where in the file.
        offset: u64,
        /// How many bytes.
        len: u64,
        /// Permission bits of a new file.
        mode: u32,
    },
    /// Set up what tests share; answered with [`ToHost::Prepared`], unless the scheduler does
    /// not come up.
    Prepare(Setup),
    /// Start the test process and have it wait for its job; answered with [`ToHost::Loaded`],
    /// unless it ends before.
    Load {
        /// The test's binary: absolute path in the guest.
        binary: String,
        /// Cgroup (absolute, below `/sys/fs/cgroup`) that holds the scenario's cgroups; it is made here.
        workload_root: String,
    },
    /// Have the test process that was loaded run a test, then say [`ToHost::Bye`].
    #[serde(skip)]
    Run {
        /// A [`Job`] as [`Job::encode`] writes it, which PID 1 hands over as it is.
        job: Vec<u8>,
        /// The job's seed.
        seed: u64,
    },
}

/// First byte of a [`ToGuest::Refresh`], which no JSON document begins with.
const REFRESH: u8 = 1;
/// First byte of a [`ToGuest::Run`].
const RUN: u8 = 2;
/// First byte of a [`Job`].
const JOB: u8 = 3;
/// In the place of a wall clock that goes on as it is; the clock of a host stands at this time in no run.
const NO_TIME: u64 = u64::MAX;

impl ToGuest {
    /// The message as it is sent.
    ///
    /// # Errors
    /// What cannot be written as JSON.
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

    /// The message that [`ToGuest::encode`] has written.
    ///
    /// # Errors
    /// Why `bytes` are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (message, take) = match bytes.split_first() {
            Some((&REFRESH, rest)) => {
                let mut take = Take::new(rest);
                let realtime_ns = take.number();
                let message = Self::Refresh {
                    realtime_ns: (realtime_ns != NO_TIME).then_some(realtime_ns),
                    entropy: take.bytes().to_vec(),
                    last_pid: take.number() as u32,
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
            false => Err("it is not as long as its parts say".to_owned()),
        }
    }
}

/// What tests under one scheduler share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// The scheduler to start.
    pub scheduler: Option<SchedulerJob>,
    /// `sysctl` keys (dotted) and values to set before the scheduler starts.
    pub sysctls: Vec<(String, String)>,
    /// Cgroup (absolute, below `/sys/fs/cgroup`) to make for the scheduler.
    pub cgroup_parent: Option<String>,
    /// sched_ext's runnable-stall timeout, in milliseconds: set by the host once the scheduler
    /// is attached.
    pub watchdog_timeout_ms: u64,
    /// Schedulers that the test may start while it runs, by name; its own is one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub staged: Vec<(String, SchedulerJob)>,
}

impl Setup {
    /// Whether the guest has nothing to do for it. A stall timeout is that of a scheduler.
    pub fn is_nothing(&self) -> bool {
        self.scheduler.is_none()
            && self.sysctls.is_empty()
            && self.cgroup_parent.is_none()
            && self.staged.is_empty()
    }
}

/// A test to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Name of the test function's entry.
    pub test: String,
    /// Environment of the test process.
    pub env: Vec<(String, String)>,
    /// Seeds the workers.
    pub seed: u64,
    /// Cgroup (absolute, below `/sys/fs/cgroup`) that holds the scenario's cgroups.
    pub workload_root: String,
}

impl Job {
    /// The job as PID 1 hands it over.
    pub fn encode(&self) -> Vec<u8> {
        let mut put = Put::new(JOB);
        put.bytes(self.test.as_bytes());
        put.bytes(self.workload_root.as_bytes());
        put.number(self.seed);
        put.number(self.env.len() as u64);
        for (name, value) in &self.env {
            put.bytes(name.as_bytes());
            put.bytes(value.as_bytes());
        }
        put.done()
    }

    /// The job that [`Job::encode`] has written; `None` if `bytes` are none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let Some((&JOB, rest)) = bytes.split_first() else {
            return None;
        };
        let mut take = Take::new(rest);
        let mut job = Self {
            test: take.text(),
            workload_root: take.text(),
            seed: take.number(),
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

/// What the test process asks of PID 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulerChange {
    /// Whether the scheduler that is attached is to be stopped.
    pub stop: bool,
    /// Which scheduler is to be started.
    pub start: Option<StartOf>,
}

/// Which scheduler an operation starts: the test's own, or one that the test has staged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartOf {
    /// The test's own.
    Own,
    /// One that is staged, by its name.
    Staged(String),
}

/// What PID 1 answers: the process id of the scheduler that is attached now, or what went wrong.
pub type SchedulerAnswer = Result<Option<i32>, ChangeError>;

/// Why no scheduler was started or stopped as the test asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum ChangeError {
    /// The test asks for what cannot be done.
    #[error("{0}")]
    Refused(String),
    /// The scheduler was started, and did not attach for this reason.
    #[error("startup death: the scheduler {scheduler} did not come up: {why}")]
    NotAttached {
        /// The name by which the test staged it; `of the test` for the test's own.
        scheduler: String,
        /// What PID 1 saw of its start.
        why: String,
    },
}

/// A scheduler to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchedulerJob {
    /// A program of the guest's file system.
    Program {
        /// Absolute path in the guest.
        path: String,
        /// Arguments, without the program's name.
        args: Vec<String>,
        /// Variables that the host passes on.
        env: Vec<(String, String)>,
    },
    /// `echo VALUE > PATH` lines that switch a built-in scheduler on and off.
    Builtin {
        /// Run before the test.
        enable: Vec<String>,
        /// Run after it.
        disable: Vec<String>,
    },
}

#[cfg(test)]
mod tests {
    use ktstr_assert::{AssertDetail, DetailKind};

    use super::*;

    fn sent(message: &ToHost) -> ToHost {
        let bytes = message.encode();
        assert!(bytes.len() <= ktstr_mailbox::MAX_MESSAGE);
        serde_json::from_slice(&bytes).expect("both sides speak the same JSON")
    }

    #[test]
    fn a_long_text_is_cut_once_and_says_so() {
        // Each byte of it takes six in JSON: more than a message may have.
        let length = 3 << 20;
        assert!(6 * length > ktstr_mailbox::MAX_MESSAGE);
        let message = "\u{1}".repeat(length);
        let ToHost::TestPanicked { message } = sent(&ToHost::TestPanicked { message }) else {
            panic!("another message");
        };
        assert!(message.len() <= TEXT_CAP + NOTE_CAP);
        assert!(message.ends_with(&format!("[... {} bytes left out ...]", length - TEXT_CAP)));
        let mut again = ToHost::TestPanicked {
            message: message.clone(),
        };
        again.bound_texts();
        assert!(matches!(again, ToHost::TestPanicked { message: twice } if twice == message));
    }

    #[test]
    fn a_result_with_long_texts_stays_a_result() {
        let long = AssertResult::fail_msg("x".repeat(17 << 20));
        let ToHost::TestResult(result) = sent(&ToHost::TestResult(Box::new(long))) else {
            panic!("another message");
        };
        let detail = result.failure_details().next().expect("a finding");
        assert!(detail.message.ends_with("bytes left out ...]"));
    }

    #[test]
    fn what_payloads_have_left_is_bounded_on_the_host_too() {
        use ktstr_assert::payload::{Captured, EXCERPT, PayloadMetrics};
        let mut result = AssertResult::pass();
        let run = PayloadMetrics {
            stdout: Captured {
                text: "x".repeat(2 * EXCERPT),
                ..Captured::default()
            },
            ..PayloadMetrics::default()
        };
        result.stats.payloads = vec![run; 2 * MAX_PAYLOADS];
        let mut message = ToHost::TestResult(Box::new(result));
        message.bound_texts();
        let ToHost::TestResult(result) = message else {
            panic!("another message");
        };
        assert_eq!(result.stats.payloads.len(), MAX_PAYLOADS);
        assert_eq!(result.stats.payloads[0].stdout.text.len(), EXCERPT);
    }

    #[test]
    fn a_result_that_is_too_large_is_refused_by_name() {
        let mut result = AssertResult::pass();
        let findings = ktstr_mailbox::MAX_MESSAGE / TEXT_CAP + 1;
        for _ in 0..findings {
            let finding = AssertDetail::new(DetailKind::Other, "x".repeat(TEXT_CAP));
            result.record_fail(finding);
        }
        let ToHost::HarnessError { message } = sent(&ToHost::TestResult(Box::new(result))) else {
            panic!("another message");
        };
        let told = format!("with {findings} findings");
        assert!(message.contains(&told), "{message}");
        assert!(message.contains("16777216"), "{message}");
    }
}
