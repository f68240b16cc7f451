//! What a check, the monitor or the harness found, as data: the numbers and names that the message is
//! made from. Whoever ranks, attributes or rewords a finding matches on this type; nobody parses the
//! message back.

mod display;
mod properties;
pub(crate) use display::NoReport;
pub use properties::{CHECK_EJECTED, CHECK_NOT_ATTACHED};
#[cfg(test)]
mod tests;

use crate::worker::WorkerExitInfo;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

use super::DetailKind;

/// One finding. `Display` prints the message of an [`AssertDetail`](super::AssertDetail).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Free text, such as a test writes itself: the message is all there is.
    #[default]
    Text,
    /// A worker did no work at all.
    NoProgress {
        /// Thread id of the worker in the guest.
        tid: i32,
        /// Why the worker left no report, if it left none.
        exit: Option<WorkerExitInfo>,
    },
    /// A worker did no iteration for longer than is allowed.
    Gap {
        /// Thread id of the worker in the guest.
        tid: i32,
        /// Length of the gap, milliseconds of guest time.
        gap_ms: u64,
        /// The CPU on which the worker went on.
        cpu: usize,
        /// When it went on, milliseconds since its release.
        at_ms: u64,
        /// The longest gap that is allowed, in milliseconds.
        bound_ms: u64,
    },
    /// The workers of a cgroup were off the CPU for different shares of their time.
    Spread {
        /// The smallest share, percent.
        #[serde(with = "crate::float::one")]
        low_pct: f64,
        /// The largest share, percent.
        #[serde(with = "crate::float::one")]
        high_pct: f64,
        /// How many workers were compared.
        workers: usize,
        /// On how many CPUs they were seen.
        cpus: usize,
        /// The largest difference that is allowed, percentage points.
        #[serde(with = "crate::float::one")]
        bound_pct: f64,
    },
    /// A worker ran on CPUs that its cpuset does not have.
    OutsideCpuset {
        /// Thread id of the worker in the guest.
        tid: i32,
        /// The CPUs outside.
        cpus: BTreeSet<usize>,
        /// The CPUs that its cpuset allows.
        cpuset: BTreeSet<usize>,
    },
    /// Work done per CPU-second differs too much inside a cgroup.
    Throughput {
        /// Coefficient of variation.
        #[serde(with = "crate::float::one")]
        cv: f64,
        /// How many workers were compared.
        workers: usize,
        /// The largest coefficient that is allowed.
        #[serde(with = "crate::float::one")]
        bound: f64,
    },
    /// A worker did too little per CPU-second.
    SlowWorker {
        /// Thread id of the worker in the guest.
        tid: i32,
        /// What was counted: `work rate` or `iteration rate`.
        rate: String,
        /// Per CPU-second.
        #[serde(with = "crate::float::one")]
        per_second: f64,
        /// The least that is allowed.
        #[serde(with = "crate::float::one")]
        floor: f64,
    },
    /// The 99th percentile of the wake-up latencies of a cgroup is too high.
    WakeLatency {
        /// The percentile, in nanoseconds.
        p99_ns: u64,
        /// The highest that is allowed, in nanoseconds.
        bound_ns: u64,
        /// How many wake-ups were sampled.
        samples: usize,
    },
    /// The wake-up latencies of a cgroup vary too much.
    WakeLatencyVariation {
        /// Coefficient of variation.
        #[serde(with = "crate::float::one")]
        cv: f64,
        /// The largest coefficient that is allowed.
        #[serde(with = "crate::float::one")]
        bound: f64,
    },
    /// Workers of a cgroup migrated too often for what they did.
    Migrations {
        /// How often they migrated.
        migrations: u64,
        /// How many iterations they did.
        iterations: u64,
        /// Migrations an iteration.
        #[serde(with = "crate::float::one")]
        ratio: f64,
        /// The largest quotient that is allowed.
        #[serde(with = "crate::float::one")]
        bound: f64,
    },
    /// Too few pages are on the expected NUMA nodes.
    PageLocality {
        /// Pages on the expected nodes.
        local: u64,
        /// All pages seen.
        total: u64,
        /// The share of the pages that are local, from 0 to 1.
        #[serde(with = "crate::float::one")]
        share: f64,
        /// The smallest quotient that is allowed.
        #[serde(with = "crate::float::one")]
        floor: f64,
    },
    /// Too many pages moved between NUMA nodes.
    PagesMoved {
        /// Pages that moved.
        moved: u64,
        /// All pages seen.
        total: u64,
        /// Their quotient; `None` if no pages were seen.
        #[serde(with = "crate::float::opt", default)]
        ratio: Option<f64>,
        /// The largest quotient that is allowed.
        #[serde(with = "crate::float::one")]
        ceiling: f64,
    },
    /// Too many pages are on nodes without CPUs.
    SlowTier {
        /// Pages on such nodes.
        slow: u64,
        /// All pages seen.
        total: u64,
        /// The share of the pages that are on nodes without CPUs, from 0 to 1.
        #[serde(with = "crate::float::one")]
        ratio: f64,
        /// The largest quotient that is allowed.
        #[serde(with = "crate::float::one")]
        ceiling: f64,
    },
    /// A check was asked for, and what it needs was not measured.
    NotMeasured {
        /// The kind of the check.
        kind: DetailKind,
        /// What the check is about: `tid 7 gap`, `spread`.
        what: String,
        /// Why there is no measurement; empty if nothing is known.
        why: String,
    },
    /// A monitor bound was broken for several samples in a row.
    Sustained {
        /// Which of the monitor's bounds, with its value.
        bound: MonitorBound,
        /// How many samples in a row.
        samples: usize,
        /// When the last of them was taken, milliseconds since the window opened.
        until_ms: u64,
    },
    /// A CPU idled while a task waited that may run there.
    IdleCpu {
        /// The CPU that was found so first.
        cpu: usize,
        /// How many CPUs were found so.
        cpus: usize,
        /// The waiting task, as `comm[pid]`.
        task: String,
        /// How many samples in a row.
        samples: usize,
        /// When the last of them was taken, milliseconds since the window opened.
        until_ms: u64,
    },
    /// A task waited and did not run while a CPU where it may run idled.
    WaitingTask {
        /// The task, as `comm[pid]`.
        task: String,
        /// The idle CPU.
        cpu: usize,
        /// How many samples in a row.
        samples: usize,
        /// When the last of them was taken, milliseconds since the window opened.
        until_ms: u64,
    },
    /// A task waited for long, and was entitled to run meanwhile.
    Starved {
        /// The task, as `comm[pid]`.
        task: String,
        /// How long it waited, milliseconds.
        waited_ms: u64,
        /// CPU time that it was entitled to meanwhile, milliseconds.
        owed_ms: u64,
        /// When it began to wait, milliseconds since the first phase began.
        from_ms: u64,
        /// Whether it ran at last.
        served: bool,
        /// The most CPU time that may be owed, milliseconds.
        #[serde(with = "crate::float::one")]
        bound_ms: f64,
    },
    /// A task or all tasks of a cgroup got less CPU time than their weights entitle them to.
    Underserved {
        /// The task, as `comm[pid]`; `None` for all tasks of the cgroup.
        task: Option<String>,
        /// CPU time got, milliseconds.
        got_ms: u64,
        /// CPU time entitled to, milliseconds.
        entitled_ms: u64,
        /// Who got most beyond his entitlement, and how much, milliseconds.
        favoured: Option<(String, u64)>,
        /// The smallest share of the entitlement that is allowed.
        #[serde(with = "crate::float::one")]
        floor: f64,
    },
    /// CPU time idled beside tasks that could have used it.
    WastedCpu {
        /// CPU time, milliseconds.
        wasted_ms: u64,
        /// Its share of the phase's CPU time.
        #[serde(with = "crate::float::one")]
        share: f64,
        /// The largest share that is allowed.
        #[serde(with = "crate::float::one")]
        bound: f64,
    },
    /// The tasks of a cgroup waited for long after they were woken.
    LateWakeups {
        /// The 90th percentile of the waits, milliseconds.
        #[serde(with = "crate::float::one")]
        p90_ms: f64,
        /// How many wake-ups there were.
        wakeups: u64,
        /// Tasks that each CPU had to serve on average.
        #[serde(with = "crate::float::one")]
        queue: f64,
        /// The longest that is allowed for each of these tasks, milliseconds.
        #[serde(with = "crate::float::one")]
        bound_ms: f64,
    },
    /// The tasks of a cgroup were preempted too often.
    Preemptions {
        /// Preemptions a CPU-second.
        #[serde(with = "crate::float::one")]
        rate: f64,
        /// How many there were.
        preemptions: u64,
        /// The highest rate that is allowed.
        #[serde(with = "crate::float::one")]
        bound: f64,
    },
    /// The scheduler under test gave too little of the workers' CPU time: a bypass or another class gave the rest.
    NotDriven {
        /// The share that it gave.
        #[serde(with = "crate::float::one")]
        share: f64,
        /// The least share that is allowed.
        #[serde(with = "crate::float::one")]
        floor: f64,
    },
    /// The monitor's samples cannot be judged.
    MonitorUnavailable {
        /// The verdict in a line.
        summary: String,
    },
    /// A claim does not hold.
    Claim {
        /// The claim's label.
        label: String,
        /// The relation, such as `at least 4`.
        expected: String,
        /// What was there, as `Debug` prints it.
        actual: String,
        /// The reason that the test gave.
        reason: Option<String>,
    },
    /// A step, a cgroup, a worker or an operation of the scenario could not be set up.
    SetUp {
        /// Which part of the scenario: `step 0`, `backdrop`.
        stage: String,
        /// The error's chain.
        error: String,
    },
    /// A program that the test ran as its load did not end as the test wants, or did not print what it should.
    PayloadFailed {
        /// The name of its declaration.
        payload: String,
        /// What it did, as a clause after its name.
        how: String,
        /// The end of what it printed, indented; may be empty.
        said: String,
    },
    /// A metric that a program printed is outside of its bounds.
    PayloadMetric {
        /// The name of the program's declaration.
        payload: String,
        /// The metric's name.
        metric: String,
        /// The value that was printed.
        #[serde(with = "crate::float::one")]
        value: f64,
        /// Its unit; empty for bare numbers.
        unit: String,
        /// What the test wants, as a clause: `at least 4`.
        expected: String,
    },
    /// A scheduler under test ended before the test did.
    SchedulerDied {
        /// The scheduler's name; the guest does not know it.
        scheduler: Option<String>,
        /// How the scheduler ended.
        end: SchedulerEnd,
        /// What was seen, such as `was killed by signal 9`.
        how: String,
        /// The end of the scheduler's log; may be empty.
        log: String,
    },
    /// The kernel ejected the scheduler under test.
    Ejected {
        /// The scheduler's name.
        scheduler: String,
        /// The kernel's reason and message.
        reason: String,
        /// What made the kernel do it.
        cause: Ejection,
    },
    /// The scheduler under test did not attach.
    NotAttached {
        /// The scheduler's name.
        scheduler: String,
        /// What the guest said of the scheduler's start.
        why: String,
        /// The end of the scheduler's log; may be empty.
        log: String,
    },
    /// A scheduler that an operation of the test starts did not attach.
    StartupDeath {
        /// The part of the scenario whose operation it was, such as `step 0`.
        stage: String,
        /// The scheduler's name.
        scheduler: String,
        /// The operation, and why the scheduler did not attach.
        error: String,
    },
    /// What the kernel and the scheduler said of the scheduler's end is not what the test expects.
    OtherError {
        /// What the test expects, as a clause.
        wanted: String,
        /// The end of what was said.
        said: String,
    },
    /// The guest made no progress any more.
    Hung {
        /// When: `before the scenario began`.
        stage: String,
        /// What the guest was seen to do, as a clause after `the guest hung …:`.
        doing: String,
    },
    /// The test function neither returned nor went on with its scenario.
    TestHung {
        /// When: `before the scenario began`.
        stage: String,
        /// What the test process was seen to do, as a clause.
        doing: String,
    },
    /// The guest's kernel panicked.
    KernelPanic {
        /// The kernel's reason.
        reason: String,
    },
    /// The guest's machine went down before the test was over.
    WentDown {
        /// How, as a clause after `the guest`.
        how: String,
    },
    /// The test function panicked.
    TestPanicked {
        /// Message and place.
        message: String,
    },
    /// The test function returned an error.
    TestError {
        /// The error's chain.
        message: String,
    },
    /// The test process ended without a result.
    NoResult {
        /// How it ended.
        end: String,
    },
    /// The guest ran out of memory, and the test process was killed for it.
    OutOfMemory {
        /// The guest's memory in MiB.
        memory_mib: u32,
    },
    /// The guest's kernel reported a defect or a stall of its own on the console.
    KernelReport {
        /// The kind of the report: `WARNING`, `soft lockup`.
        report: String,
        /// The line on the console.
        line: String,
    },
    /// The harness or the host could not bring the run to an answer.
    NoAnswer {
        /// What went wrong.
        message: String,
    },
}

/// A bound of the monitor that is judged sample by sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MonitorBound {
    /// Ratio of the longest to the shortest runqueue.
    Imbalance {
        /// The largest ratio that is allowed.
        #[serde(with = "crate::float::one")]
        ratio: f64,
    },
    /// Tasks in a local DSQ.
    LocalDsq {
        /// The CPU that the queue belongs to.
        cpu: usize,
        /// The most that are allowed.
        depth: u32,
    },
    /// A runqueue's clock did not advance.
    Clock {
        /// The CPU that the runqueue belongs to.
        cpu: usize,
    },
    /// Events of sched_ext.
    Events {
        /// The counter's name.
        event: String,
        /// The most that are allowed a vCPU-second.
        #[serde(with = "crate::float::one")]
        rate: f64,
    },
}

/// How a scheduler ended that was not ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchedulerEnd {
    /// By a signal or with an error code, or after an ejection.
    Crashed,
    /// With code 0.
    Left,
    /// Nothing says how.
    Unknown,
}

/// What made the kernel eject a scheduler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ejection {
    /// An error: of the scheduler's own reporting, or that the kernel noticed.
    Error,
    /// A task that was runnable and got no CPU for too long.
    Stall {
        /// The task, as `comm[pid]`, where the kernel names it.
        task: Option<String>,
        /// For how long, where the kernel tells.
        #[serde(with = "crate::float::opt", default)]
        seconds: Option<f64>,
    },
    /// The kernel's own watchdog got no CPU for too long.
    Unwatched {
        /// For how long.
        #[serde(with = "crate::float::one")]
        seconds: f64,
    },
}

impl Ejection {
    /// The process id of the task that stalled.
    pub fn stalled_tid(&self) -> Option<i32> {
        let Ejection::Stall { task, .. } = self else {
            return None;
        };
        let (_, rest) = task.as_deref()?.rsplit_once('[')?;
        rest.trim_end_matches(']').parse().ok()
    }
}

impl Finding {
    pub(super) fn is_text(&self) -> bool {
        *self == Finding::Text
    }
}
