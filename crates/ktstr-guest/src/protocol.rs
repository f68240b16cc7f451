//! What guest and host say to each other: one JSON document a mailbox frame.
//!
//! Both sides are the same binary, so the format has no version of its own; a guest is still
//! hostile, so every field is judged by the host before it is used.

use ktstr_assert::AssertResult;
use serde::{Deserialize, Serialize};

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

/// Guest to host. Times are CLOCK_MONOTONIC of the guest, in nanoseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToHost {
    /// PID 1 runs and the mailbox works.
    Hello {
        /// `uname -r`.
        release: String,
        /// The topology the kernel sees, as `{numa}n{llcs}l{cores}c{threads}t`, or why it has
        /// no such form.
        topology: Result<String, String>,
        /// Online CPUs.
        cpus: u32,
    },
    /// The scheduler under test has taken the CPUs over.
    SchedulerAttached {
        /// Its process.
        pid: i32,
        /// Name of its ops, as in `/sys/kernel/sched_ext/root/ops`.
        ops: String,
        /// Time from its start to the attach, in nanoseconds.
        took_ns: u64,
    },
    /// The scheduler under test did not come up.
    SchedulerNotAttached {
        /// One sentence.
        reason: String,
    },
    /// The scheduler under test ended before it was told to.
    SchedulerDied {
        /// How.
        end: ProcessEnd,
    },
    /// A [`ToGuest::Write`] was carried out.
    Written,
    /// A [`ToGuest::Prepare`] was carried out.
    Prepared,
    /// A [`ToGuest::Load`] was carried out.
    Loaded,
    /// The test process has its job.
    TestStarted,
    /// The test function is called: the next instruction is its first.
    FunctionCalled,
    /// The workload window opens.
    ScenarioStart {
        /// Steps to come.
        steps: u32,
    },
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
        /// Live cgroups.
        cgroup_count: u32,
        /// Live workers.
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
        /// Which.
        stream: Stream,
        /// What.
        text: String,
    },
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
        /// How.
        end: ProcessEnd,
        /// The kernel's out-of-memory killer did it.
        oom_killed: bool,
    },
    /// `kernel.sched_ext` state after the run, for the failure text.
    SchedExtState {
        /// `/sys/kernel/sched_ext/state`.
        state: String,
    },
    /// The guest side itself failed: the harness's fault, never the scheduler's.
    HarnessError {
        /// One sentence.
        message: String,
    },
    /// Nothing more will come; the guest powers off.
    Bye,
}

/// Host to guest, carried out in order.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToGuest {
    /// Make this machine differ from its siblings of the same template.
    Refresh {
        /// Wall clock, nanoseconds since the epoch.
        realtime_ns: u64,
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
    },
    /// Have the test process that was loaded run a test, then say [`ToHost::Bye`].
    Run(Job),
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
}

/// A test to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
