//! Findings of checks, the monitor and the harness, as data: the numbers and names from which the message is generated.
//! Code that ranks, attributes or rewords a finding matches on this type, and never parses the message.

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

/// A finding. `Display` prints the message of an [`AssertDetail`](super::AssertDetail).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Free text, such as a message of the test itself. The finding has no other data.
    #[default]
    Text,
    /// A worker did no work at all.
    NoProgress {
        /// The thread id of the worker in the guest.
        tid: i32,
        /// Why the worker left no complete report; `None` if its report is complete.
        exit: Option<WorkerExitInfo>,
    },
    /// A worker did not complete an iteration for longer than is allowed.
    Gap {
        /// The thread id of the worker in the guest.
        tid: i32,
        /// The length of the gap, in milliseconds of guest time.
        gap_ms: u64,
        /// The CPU on which the worker continued.
        cpu: usize,
        /// When the worker continued, in milliseconds since it started.
        at_ms: u64,
        /// The longest gap that is allowed, in milliseconds.
        bound_ms: u64,
    },
    /// The workers of a cgroup were off the CPU for different shares of their time.
    Spread {
        /// The smallest share, in percent.
        #[serde(with = "crate::float::one")]
        low_pct: f64,
        /// The largest share, in percent.
        #[serde(with = "crate::float::one")]
        high_pct: f64,
        /// The number of workers that were compared.
        workers: usize,
        /// The number of CPUs on which these workers were seen.
        cpus: usize,
        /// The largest difference that is allowed, in percentage points.
        #[serde(with = "crate::float::one")]
        bound_pct: f64,
    },
    /// A worker ran on CPUs that are not in its cpuset.
    OutsideCpuset {
        /// The thread id of the worker in the guest.
        tid: i32,
        /// The CPUs outside the cpuset.
        cpus: BTreeSet<usize>,
        /// The CPUs that its cpuset allows.
        cpuset: BTreeSet<usize>,
    },
    /// The work per CPU-second differs too much between the workers of a cgroup.
    Throughput {
        /// The coefficient of variation of the workers' work units per CPU-second.
        #[serde(with = "crate::float::one")]
        cv: f64,
        /// The number of workers that were compared; workers without CPU time are left out.
        workers: usize,
        /// The largest coefficient that is allowed.
        #[serde(with = "crate::float::one")]
        bound: f64,
    },
    /// A worker did too little per CPU-second.
    SlowWorker {
        /// The thread id of the worker in the guest.
        tid: i32,
        /// What was counted: `work rate` or `iteration rate`.
        rate: String,
        /// The rate, per CPU-second.
        #[serde(with = "crate::float::one")]
        per_second: f64,
        /// The smallest rate that is allowed.
        #[serde(with = "crate::float::one")]
        floor: f64,
    },
    /// The 99th percentile of the wakeup latencies of a cgroup is too high.
    WakeLatency {
        /// The 99th percentile, in nanoseconds.
        p99_ns: u64,
        /// The largest value that is allowed, in nanoseconds.
        bound_ns: u64,
        /// The number of wakeups that were sampled.
        samples: usize,
    },
    /// The workers of a cgroup migrated too often for the work that they did.
    Migrations {
        /// The number of migrations.
        migrations: u64,
        /// The number of iterations.
        iterations: u64,
        /// The number of migrations per iteration.
        #[serde(with = "crate::float::one")]
        ratio: f64,
        /// The largest ratio that is allowed.
        #[serde(with = "crate::float::one")]
        bound: f64,
    },
    /// A number is outside the bound that the test sets for it. This is the finding of a check that needs no message of its
    /// own. The finding holds its kind and its words as data, so that a new check needs no variant here, and no arm where
    /// findings are printed or classified.
    Bound {
        /// The kind of the check.
        kind: DetailKind,
        /// The thread id of the worker in the guest; `None` if the number is that of a cgroup.
        tid: Option<i32>,
        /// What the number is, such as `migrations`. This is the name of the check as well.
        what: String,
        /// The number that was measured.
        #[serde(with = "crate::float::one")]
        value: f64,
        /// The unit, which follows the numbers directly, such as `ms`; empty for plain numbers.
        unit: String,
        /// The bound: the largest accepted value if the number is above it, and the smallest accepted value if the number is
        /// below it.
        #[serde(with = "crate::float::one")]
        bound: f64,
    },
    /// Too few pages are on the expected NUMA nodes.
    PageLocality {
        /// The number of pages on the expected nodes.
        local: u64,
        /// The number of the cgroup's pages on all nodes.
        total: u64,
        /// The share of the pages that are local, from 0 to 1.
        #[serde(with = "crate::float::one")]
        share: f64,
        /// The smallest share that is allowed.
        #[serde(with = "crate::float::one")]
        floor: f64,
    },
    /// Too many pages moved between NUMA nodes.
    PagesMoved {
        /// The number of pages that the kernel moved between nodes.
        moved: u64,
        /// The number of the cgroup's pages on all nodes.
        total: u64,
        /// The ratio of moved pages to all pages; `None` if no pages were seen.
        #[serde(with = "crate::float::opt", default)]
        ratio: Option<f64>,
        /// The largest ratio that is allowed.
        #[serde(with = "crate::float::one")]
        ceiling: f64,
    },
    /// Too many pages are on nodes without CPUs.
    SlowTier {
        /// The number of pages on nodes without CPUs.
        slow: u64,
        /// The number of the cgroup's pages on all nodes.
        total: u64,
        /// The share of the pages that are on nodes without CPUs, from 0 to 1.
        #[serde(with = "crate::float::one")]
        ratio: f64,
        /// The largest share that is allowed.
        #[serde(with = "crate::float::one")]
        ceiling: f64,
    },
    /// The test enabled a check whose data was not measured.
    NotMeasured {
        /// The kind of the check.
        kind: DetailKind,
        /// What the check is about: `tid 7 gap`, `spread`.
        what: String,
        /// Why there is no measurement, with the punctuation that joins it to the message, as in `: no CPU time`; may be empty.
        why: String,
    },
    /// The test enabled a check of something that its workload never does, such as a bound on the wake-up latency of work that
    /// never sleeps. The reports of the workers are complete, so no data is missing.
    NothingToMeasure {
        /// The kind of the check.
        kind: DetailKind,
        /// What the check is about: `p99 wake latency`, `spread`.
        what: String,
        /// What the workload does not do, and what to do about it.
        why: String,
    },
    /// A monitor bound was violated for several consecutive samples.
    Sustained {
        /// The bound that was violated, with its value.
        bound: MonitorBound,
        /// The number of consecutive samples in which this was found.
        samples: usize,
        /// When the last of these samples was taken, in guest milliseconds since the scenario started.
        until_ms: u64,
    },
    /// A CPU idled while a task that may run on it waited.
    IdleCpu {
        /// The CPU for which this was found first.
        cpu: usize,
        /// The number of CPUs for which this was found.
        cpus: usize,
        /// The waiting task, as `comm[pid]`.
        task: String,
        /// The number of consecutive samples in which this was found.
        samples: usize,
        /// When the last of these samples was taken, in guest milliseconds since the scenario started.
        until_ms: u64,
    },
    /// A task waited and got no CPU while a CPU on which it may run idled.
    WaitingTask {
        /// The task, as `comm[pid]`.
        task: String,
        /// The number of the CPU that idled.
        cpu: usize,
        /// The number of consecutive samples in which this was found.
        samples: usize,
        /// When the last of these samples was taken, in guest milliseconds since the scenario started.
        until_ms: u64,
    },
    /// A task waited too long, although it was entitled to CPU time in the meantime.
    Starved {
        /// The task, as `comm[pid]`.
        task: String,
        /// How long it waited, in milliseconds.
        waited_ms: u64,
        /// The CPU time that it was entitled to while it waited, in milliseconds.
        owed_ms: u64,
        /// When the wait started, in milliseconds since the start of the first phase.
        from_ms: u64,
        /// Whether it got a CPU in the end; false if it still waited when the schedule ended.
        served: bool,
        /// The largest CPU time that may be owed, in milliseconds.
        #[serde(with = "crate::float::one")]
        bound_ms: f64,
    },
    /// A task, or all tasks of a cgroup together, got less CPU time than they were entitled to.
    Underserved {
        /// The task, as `comm[pid]`, or the cgroup, as `cgroup NAME`.
        who: String,
        /// The CPU time that it got, in milliseconds.
        got_ms: u64,
        /// The CPU time that it was entitled to, in milliseconds.
        entitled_ms: u64,
        /// The task or cgroup that exceeded its entitlement most, and by how many milliseconds; `None` if none did.
        favoured: Option<(String, u64)>,
        /// The smallest share of the entitlement that is allowed, from 0 to 1.
        #[serde(with = "crate::float::one")]
        floor: f64,
    },
    /// CPU time was idle while waiting tasks could have used it.
    WastedCpu {
        /// The CPU time that was idle, in milliseconds.
        wasted_ms: u64,
        /// The share of this time in the phase's CPU time, from 0 to 1.
        #[serde(with = "crate::float::one")]
        share: f64,
        /// The largest share that is allowed.
        #[serde(with = "crate::float::one")]
        bound: f64,
    },
    /// The tasks of a cgroup waited too long after they were woken.
    LateWakeups {
        /// The 90th percentile of the waits, in milliseconds.
        #[serde(with = "crate::float::one")]
        p90_ms: f64,
        /// The number of wakeups.
        wakeups: u64,
        /// The number of tasks that each CPU had to serve on average.
        #[serde(with = "crate::float::one")]
        queue: f64,
        /// The longest wait that is allowed per task that a CPU had to serve, in milliseconds.
        #[serde(with = "crate::float::one")]
        bound_ms: f64,
    },
    /// The tasks of a cgroup were preempted too often.
    Preemptions {
        /// The number of preemptions per second of the cgroup's CPU time.
        #[serde(with = "crate::float::one")]
        rate: f64,
        /// The number of preemptions.
        preemptions: u64,
        /// The highest rate that is allowed.
        #[serde(with = "crate::float::one")]
        bound: f64,
    },
    /// The scheduler under test gave too little of the workers' CPU time, because another class or
    /// sched_ext's bypass gave the rest.
    NotDriven {
        /// The share that the scheduler gave, from 0 to 1.
        #[serde(with = "crate::float::one")]
        share: f64,
        /// The smallest share that is allowed.
        #[serde(with = "crate::float::one")]
        floor: f64,
    },
    /// The monitor's samples cannot be judged.
    MonitorUnavailable {
        /// The monitor's verdict in one line.
        summary: String,
    },
    /// A claim does not hold.
    Claim {
        /// The label of the claim, such as the text of the expression that it is about.
        label: String,
        /// The relation, such as `at least 4`.
        expected: String,
        /// The actual value, as printed by `Display`; for a collection the first elements, as printed by `Debug`.
        actual: String,
        /// The reason that the test gave; `None` if it gave none.
        reason: Option<String>,
    },
    /// A step, a cgroup, a worker or an operation of the scenario could not be set up.
    SetUp {
        /// The part of the scenario, such as `step 1`, the first one, or `backdrop`.
        stage: String,
        /// The error with its causes.
        error: String,
    },
    /// A signal that the harness did not send killed a worker.
    WorkerKilled {
        /// The worker's thread id.
        tid: i32,
        /// The number of the signal, as in signal(7).
        signal: i32,
    },
    /// A program that the test ran as its workload did not end as the test expects, or did not print what it should.
    PayloadFailed {
        /// The name under which the program is declared.
        payload: String,
        /// How the program failed, as a clause that follows its name.
        how: String,
        /// The last lines of its output, indented; may be empty.
        printed: String,
        /// Whether the program was killed because it exceeded its time limit.
        #[serde(default)]
        timed_out: bool,
    },
    /// A metric that a program printed is outside its bounds.
    PayloadMetric {
        /// The name under which the program is declared.
        payload: String,
        /// The name of the metric: in JSON output the dotted path to it, otherwise the name of the pattern.
        metric: String,
        /// The value that was printed.
        #[serde(with = "crate::float::one")]
        value: f64,
        /// The unit; empty for plain numbers.
        unit: String,
        /// The bound, as a clause: `at least 4`.
        expected: String,
    },
    /// A scheduler under test ended before the test did.
    SchedulerDied {
        /// The scheduler's name; `None` in findings of the guest, which does not know the name.
        scheduler: Option<String>,
        /// How the scheduler ended, as a category.
        end: SchedulerEnd,
        /// How the scheduler ended, as far as is known, as a clause such as `was killed by signal 9`.
        how: String,
        /// The end of the scheduler's log; may be empty.
        log: String,
    },
    /// The kernel ejected the scheduler under test.
    Ejected {
        /// The name of the scheduler that the kernel ejected.
        scheduler: String,
        /// The kernel's reason and message.
        reason: String,
        /// What caused the ejection.
        cause: Ejection,
    },
    /// The scheduler under test did not attach.
    NotAttached {
        /// The name of the scheduler that did not attach.
        scheduler: String,
        /// What the guest reported about the scheduler's start.
        why: String,
        /// The end of the scheduler's log; may be empty.
        log: String,
    },
    /// A scheduler that the test started with an operation did not attach.
    StartupDeath {
        /// The part of the scenario that contains the operation, such as `step 0`.
        stage: String,
        /// The name of the scheduler that the operation started.
        scheduler: String,
        /// The operation, and the reason why the scheduler did not attach.
        error: String,
    },
    /// The scheduler did not end with the error that the test expects.
    OtherError {
        /// What the test expects, as a clause.
        wanted: String,
        /// The last characters of what the kernel or the scheduler printed when the scheduler ended; empty if nothing was
        /// printed.
        printed: String,
    },
    /// The guest stopped making progress.
    Hung {
        /// The stage of the run, such as `before the scenario began`.
        stage: String,
        /// What the guest was doing, as a clause that follows `the guest hung …:`.
        doing: String,
    },
    /// The test function did not return, and did not continue with its scenario.
    TestHung {
        /// The stage of the run, such as `before the scenario began`.
        stage: String,
        /// What the test process was doing, as a clause.
        doing: String,
    },
    /// The guest's kernel panicked.
    KernelPanic {
        /// The reason on the console, after `Kernel panic - not syncing:`.
        reason: String,
    },
    /// The guest's machine went down before the test was over.
    WentDown {
        /// How it went down, as a clause that follows `the guest`.
        how: String,
    },
    /// The test function panicked.
    TestPanicked {
        /// The panic's message and location.
        message: String,
    },
    /// The test function returned an error.
    TestError {
        /// The error with its causes.
        message: String,
    },
    /// The test process ended without a result.
    NoResult {
        /// How the test process ended.
        end: String,
    },
    /// The guest ran out of memory, and its kernel killed the test process.
    OutOfMemory {
        /// The guest's memory in MiB.
        memory_mib: u32,
    },
    /// The guest's kernel reported a defect or a stall on the console.
    KernelReport {
        /// The kind of the report: `WARNING`, `soft lockup`.
        report: String,
        /// The line on the console.
        line: String,
    },
    /// The harness or the host could not complete the run.
    NoAnswer {
        /// What went wrong, as the whole text of the finding.
        message: String,
    },
}

/// A bound of the monitor that applies to each sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MonitorBound {
    /// Tasks that could migrate waited on one runqueue while another was much shorter.
    Imbalance {
        /// The largest ratio that is allowed.
        #[serde(with = "crate::float::one")]
        ratio: f64,
    },
    /// Too many tasks that another CPU could take over waited in a local DSQ.
    LocalDsq {
        /// The CPU that the queue belongs to.
        cpu: usize,
        /// The largest number of tasks that is allowed.
        depth: u32,
    },
    /// A runqueue's clock did not advance.
    Clock {
        /// The CPU that the runqueue belongs to.
        cpu: usize,
    },
    /// Too many events of sched_ext happened per vCPU-second.
    Events {
        /// The name of the counter: `select_cpu_fallback` or `dispatch_keep_last`.
        event: String,
        /// The largest number of events per vCPU-second that is allowed.
        #[serde(with = "crate::float::one")]
        rate: f64,
    },
}

/// How the process of a scheduler ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchedulerEnd {
    /// The scheduler was killed by a signal, exited with an error code, or ended after an ejection.
    Crashed,
    /// The scheduler exited with code 0.
    Left,
    /// The scheduler's process lived, but sched_ext showed that it was disabled. Why is unknown.
    Disabled,
    /// How the scheduler ended is unknown.
    Unknown,
}

/// Why the kernel ejected a scheduler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ejection {
    /// An error, which either the scheduler reported or the kernel detected.
    Error,
    /// A runnable task got no CPU for too long.
    Stall {
        /// The task, as `comm[pid]`; `None` if the kernel does not name it.
        task: Option<String>,
        /// How long the task waited, in seconds; `None` if the kernel does not report it.
        #[serde(with = "crate::float::opt", default)]
        seconds: Option<f64>,
    },
    /// The watchdog of sched_ext, which looks for stalled tasks, got no CPU for too long.
    Unwatched {
        /// How long the watchdog got no CPU, in seconds.
        #[serde(with = "crate::float::one")]
        seconds: f64,
    },
}

impl Ejection {
    /// Returns the thread id of the task that stalled; `None` for other ejections, and if the kernel did not name the task.
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
