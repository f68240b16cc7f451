//! Work conservation: no CPU idles while a task that may run on it waits.
//!
//! Violations are the "wasted cores" of Lozi et al., The Linux Scheduler: a Decade of Wasted Cores (EuroSys 2016). Short moments
//! are normal: a task was woken, and the CPU for which it is meant is leaving idle. A single sample therefore proves nothing.
//! There are two kinds of violations. Either a task got no CPU time throughout several consecutive samples, and in each of them
//! some CPU on which it may run was idle. Or a CPU was idle in several consecutive samples and made no context switch in
//! between, and in each of them some task waited that may run on it. If that CPU did switch in between, for example to a kernel
//! thread, it must be found idle in twice as many samples, because so many in a row are unlikely all to fall into such moments.

use super::{CpuSnapshot, MonitorSample, WaitingTask};
use crate::outcome::Finding;

/// The longest time, in nanoseconds, for which the host may keep a vCPU waiting between two samples. After a longer wait the
/// host, not the scheduler, is to blame for what the vCPU did not do.
const PREEMPTED_NS: u64 = 10_000_000;

/// Returns at most two findings: the CPU whose series of idle samples (see [`idle_throughout`]) was complete first, and the first
/// task that waited through `need` samples while a CPU was idle (see [`waits_throughout`]).
pub(super) fn violations(samples: &[MonitorSample], need: usize) -> Vec<Finding> {
    let cpus = samples.iter().map(|s| s.cpus.len()).min().unwrap_or(0);
    let mut out = Vec::new();
    let idle: Vec<IdleSeries> = (0..cpus)
        .filter_map(|cpu| idle_throughout(samples, cpu, need))
        .collect();
    if let Some(first) = idle.iter().min_by_key(|series| series.last) {
        let sample = &samples[first.last];
        let who = sample.waiting_for(first.cpu).next().map(name);
        out.push(Finding::IdleCpu {
            cpu: first.cpu,
            cpus: idle.len(),
            task: who.unwrap_or_default(),
            samples: first.samples,
            until_ms: sample.elapsed_ms,
        });
    }
    if let Some(wait) = waits_throughout(samples, need) {
        out.push(Finding::WaitingTask {
            task: name(wait.task),
            cpu: wait.cpu,
            samples: need,
            until_ms: samples[wait.last].elapsed_ms,
        });
    }
    out
}

fn name(task: &WaitingTask) -> String {
    format!("{}[{}]", task.comm, task.pid)
}

/// A series of samples in each of which a CPU idled while a task waited for it.
struct IdleSeries {
    /// The number of the CPU.
    cpu: usize,
    /// The index of the last sample.
    last: usize,
    /// The number of samples.
    samples: usize,
}

/// Finds the first series of samples in each of which `cpu` idled while a task waited for it. The series has `need`
/// samples if the CPU made no context switch in between, and otherwise twice as many. `None` if there is no such series.
fn idle_throughout(samples: &[MonitorSample], cpu: usize, need: usize) -> Option<IdleSeries> {
    let series = |last, samples| IdleSeries { cpu, last, samples };
    let (mut alone, mut found) = (0, 0);
    for (i, sample) in samples.iter().enumerate() {
        let now = sample.cpus.get(cpu)?;
        let before = i.checked_sub(1).and_then(|b| samples[b].cpus.get(cpu));
        let wasted = now.is_idle() && sample.waiting_for(cpu).next().is_some();
        let held_up = before.is_none_or(|before| preempted(before, now));
        let stayed = before.is_some_and(|before| before.nr_switches == now.nr_switches);
        found = match wasted {
            true if !held_up => found + 1,
            true => 1,
            false => 0,
        };
        alone = match wasted {
            true if stayed && !held_up => alone + 1,
            true => 1,
            false => 0,
        };
        if alone >= need {
            return Some(series(i, need));
        }
        if found >= 2 * need {
            return Some(series(i, 2 * need));
        }
    }
    None
}

/// A series of samples in each of which a task waited while a CPU on which it may run idled.
struct WaitSeries<'a> {
    /// The task, as of the last sample.
    task: &'a WaitingTask,
    /// The CPU that is idle in the last sample.
    cpu: usize,
    /// The index of the last sample.
    last: usize,
}

/// Finds the first task that waited through `need` samples without running, while in each of them a CPU on which the task
/// may run was idle. `None` if there is no such task.
fn waits_throughout(samples: &[MonitorSample], need: usize) -> Option<WaitSeries<'_>> {
    // The tasks that waited in the previous sample although a CPU on which they may run was idle. Each task is given by its pid
    // and by the number of consecutive samples in which it waited like this.
    let mut runs: Vec<(i32, usize)> = Vec::new();
    for (i, sample) in samples.iter().enumerate() {
        let before = i.checked_sub(1).map(|b| &samples[b]);
        let mut next = Vec::new();
        for task in sample.movable() {
            let free = sample.cpus.iter().enumerate().position(|(c, cpu)| {
                let was = before.and_then(|b| b.cpus.get(c));
                cpu.is_idle() && task.may_run_on(c) && !was.is_some_and(|was| preempted(was, cpu))
            });
            let Some(cpu) = free else { continue };
            let same = before.is_some_and(|b| MonitorSample::still_waits(b, task));
            let so_far = runs.iter().find(|(pid, _)| *pid == task.pid && same);
            let run = so_far.map_or(0, |(_, run)| *run) + 1;
            if run >= need {
                return Some(WaitSeries { task, cpu, last: i });
            }
            next.push((task.pid, run));
        }
        runs = next;
    }
    None
}

/// Whether the host kept a vCPU from running for longer than [`PREEMPTED_NS`] between two samples.
fn preempted(before: &CpuSnapshot, now: &CpuSnapshot) -> bool {
    match (before.vcpu_run_delay_ns, now.vcpu_run_delay_ns) {
        (Some(before), Some(now)) => now.saturating_sub(before) > PREEMPTED_NS,
        _ => false,
    }
}
