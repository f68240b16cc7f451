//! Helpers that run workers in the guest, and return for each worker its report and the state that the kernel showed of it
//! just before it was stopped.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ktstr::prelude::*;

/// The kernel's state of one worker.
#[derive(Debug, Default, Clone)]
pub struct Task {
    /// `voluntary_ctxt_switches` of /proc/PID/status: how often the task blocked.
    pub blocked: u64,
    /// `nonvoluntary_ctxt_switches`: how often the task was preempted or yielded.
    pub preempted: u64,
    /// Page faults without I/O.
    pub faults: u64,
    /// The nice value, from -20 to 19.
    pub nice: i32,
    /// The policy as the kernel's number.
    pub policy: u64,
    /// The CPUs that the task may run on.
    pub allowed: Vec<usize>,
    /// Bytes that went through read(2) and the like.
    pub read_bytes: u64,
    /// Bytes that went through write(2) and the like.
    pub written_bytes: u64,
    /// The cgroup that the task is in, from the root of the tree.
    pub cgroup: String,
    /// The id of the process that the thread belongs to.
    pub tgid: i32,
    /// The mappings of the task with their pages on each node: the text of `/proc/PID/numa_maps`.
    pub numa_maps: String,
}

/// A test of a work type, with its name.
type Question<'a> = (&'a str, fn(&Ctx) -> Result<()>);

/// Runs all tests of a group; the error names every test that fails.
pub fn each(ctx: &Ctx, questions: &[Question<'_>]) -> Result<AssertResult> {
    let wrong = questions.iter().filter_map(|(name, ask)| {
        let error = ask(ctx).err()?;
        Some(format!("{name}: {error:#}"))
    });
    let wrong: Vec<_> = wrong.collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(AssertResult::pass())
}

fn file(tid: i32, name: &str) -> String {
    std::fs::read_to_string(format!("/proc/{tid}/{name}")).unwrap_or_default()
}

fn after<'a>(text: &'a str, key: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.unwrap_or_default().trim()
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_default()
}

/// Parses a list of numbers such as `0-2,5`.
pub fn list(text: &str) -> Vec<usize> {
    let parts = text.trim().split(',').filter(|part| !part.is_empty());
    parts
        .flat_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            number(first) as usize..=number(last) as usize
        })
        .collect()
}

impl Task {
    /// Reads the current state of the task from /proc.
    pub fn of(tid: i32) -> Self {
        let (status, stat, io) = (file(tid, "status"), file(tid, "stat"), file(tid, "io"));
        let fields: Vec<&str> = stat
            .rsplit_once(") ")
            .map(|(_, rest)| rest.split(' ').collect())
            .unwrap_or_default();
        // `fields` begins with the state, which is field 3 of proc_pid_stat(5).
        let field = |n: usize| fields.get(n - 3).map_or(0, |text| number(text));
        Self {
            blocked: number(after(&status, "voluntary_ctxt_switches:")),
            preempted: number(after(&status, "nonvoluntary_ctxt_switches:")),
            faults: field(10),
            nice: fields.get(16).map_or(0, |text| text.parse().unwrap_or(0)),
            policy: field(41),
            allowed: list(after(&status, "Cpus_allowed_list:")),
            read_bytes: number(after(&io, "rchar:")),
            written_bytes: number(after(&io, "wchar:")),
            cgroup: after(&file(tid, "cgroup"), "0::").to_owned(),
            tgid: number(after(&status, "Tgid:")) as i32,
            numa_maps: file(tid, "numa_maps"),
        }
    }
}

/// A worker that was observed.
pub struct Seen {
    pub report: WorkerReport,
    pub task: Task,
}

/// The text that assertions print: the state without the mappings, and the report without its samples.
impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let report = WorkerReport {
            wake_latencies_ns: Vec::new(),
            timer_latencies_ns: Vec::new(),
            phase_slices: Vec::new(),
            migrations: Vec::new(),
            ..self.report.clone()
        };
        let task = Task {
            numa_maps: String::new(),
            ..self.task.clone()
        };
        write!(f, "{task:?} of {report:?}")
    }
}

impl Seen {
    /// Returns how many pages of the largest mapping, which is a buffer of the worker, are on a node.
    pub fn buffer_pages(&self, node: usize) -> u64 {
        let value = |line: &str, key: &str| {
            let mut words = line.split_whitespace();
            let value = words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
            value.map_or(0, number)
        };
        let lines = self.task.numa_maps.lines();
        let buffer = lines.max_by_key(|line| value(line, "anon"));
        buffer.map_or(0, |line| value(line, &format!("N{node}")))
    }

    /// Returns whether there were more than two iterations, and at most one per `us` microseconds.
    pub fn one_each(&self, us: u64) -> bool {
        let most = self.report.wall_time_ns / (us * 1000) + 1;
        (3..=most).contains(&self.report.iterations)
    }

    /// Returns whether the worker blocked more than three times, and measured more than three wake-up latencies.
    pub fn woken(&self) -> bool {
        self.report.wake_sample_total > 3 && self.task.blocked > 3
    }
}

/// Runs workers for `ms` of guest time.
pub fn watch(ctx: &Ctx, config: &WorkloadConfig, ms: u64) -> Result<Vec<Seen>> {
    let handle = WorkloadHandle::spawn_seeded(config, ctx.seed)?;
    watch_handle(handle, ms)
}

/// Starts workers that were spawned and wait, and runs them for `ms` of guest time. Each has to exit normally.
pub fn watch_handle(mut handle: WorkloadHandle, ms: u64) -> Result<Vec<Seen>> {
    handle.measure_pages();
    handle.start();
    std::thread::sleep(Duration::from_millis(ms));
    let tasks: Vec<Task> = handle.worker_pids().into_iter().map(Task::of).collect();
    let reports = handle.stop_and_collect();
    ensure!(reports.len() == tasks.len(), "{} reports", reports.len());
    for report in &reports {
        ensure!(
            report.completed && report.exit_info.is_none() && report.sched_policy_error.is_none(),
            "worker {} did not end in order: {:?}, policy {:?}",
            report.tid,
            report.exit_info,
            report.sched_policy_error
        );
    }
    let both = reports.into_iter().zip(tasks);
    Ok(both.map(|(report, task)| Seen { report, task }).collect())
}

/// Returns a configuration of workers without an affinity.
pub fn of(work: WorkType, workers: usize) -> WorkloadConfig {
    WorkloadConfig::default().work_type(work).workers(workers)
}

/// Returns a configuration of workers that may use only these CPUs.
pub fn on(work: WorkType, workers: usize, cpus: &[usize]) -> WorkloadConfig {
    of(work, workers).affinity(AffinityIntent::exact(cpus.iter().copied()))
}

/// Runs one worker with this work type.
pub fn one(ctx: &Ctx, work: WorkType, ms: u64) -> Result<Seen> {
    watch(ctx, &of(work, 1), ms)?.pop().context("one worker")
}

/// Returns the message with which the first worker gave up.
pub fn refusal(ctx: &Ctx, work: WorkType, workers: usize) -> Result<String> {
    let mut handle = WorkloadHandle::spawn_seeded(&of(work, workers), ctx.seed)?;
    handle.start();
    std::thread::sleep(Duration::from_millis(20));
    let report = handle.stop_and_collect().into_iter().next();
    match report.context("a report")?.exit_info {
        Some(WorkerExitInfo::WaitFailed(why)) => Ok(why),
        other => anyhow::bail!("the worker did not give up: {other:?}"),
    }
}
