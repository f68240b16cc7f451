//! A recorded schedule prepared for display: every stretch of every task, the hold of each step, and the events of the whole
//! machine. `report`, `trace`, `why` and `schedule --latency`, `--map` are based on it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ktstr_schedule::query::{Answers, Did, Stretch, stretches};
use ktstr_schedule::{
    Cpu, CpuMask, Event, Gap, Pid, SCHEDULE_FILE, SchedExtState, Schedule, Tables, What,
};

/// The time in which a step was held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The number of the step; 1 is the first.
    pub number: u16,
    /// When the hold began, in nanoseconds of the scheduler's clock.
    pub from_ns: u64,
    /// When the hold ended, in nanoseconds of the scheduler's clock.
    pub to_ns: u64,
}

/// Something that happened to the whole machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// The time in nanoseconds of the scheduler's clock.
    pub at_ns: u64,
    /// A description as a sentence.
    pub text: String,
}

/// A schedule prepared for display.
#[derive(Debug, Default)]
pub struct Story {
    /// Sums, waits and names.
    pub answers: Answers,
    /// The topology, the names of cgroups, and which events this kernel lacks.
    pub tables: Tables,
    /// The stretches of all tasks except sleep, in the order of their ends.
    pub stretches: Vec<Stretch>,
    /// The holds of the steps, in order.
    pub held: Vec<Held>,
    /// The events of the machine, in order.
    pub moments: Vec<Moment>,
    /// When the kernel began to unload a BPF scheduler, in nanoseconds of the scheduler's clock.
    pub unloaded_ns: Vec<u64>,
    /// The intervals whose events were lost.
    pub gaps: Vec<Gap>,
    /// The time of the earliest event, in nanoseconds of the scheduler's clock.
    pub from_ns: u64,
    /// The time of the latest event, in nanoseconds of the scheduler's clock.
    pub to_ns: u64,
}

/// Reads the bytes of the schedule in the folder of the record at `record`.
///
/// # Errors
/// If there is none; the error says which runs record one.
pub fn bytes(record: &Path) -> Result<(PathBuf, Vec<u8>)> {
    let path = record.with_file_name(SCHEDULE_FILE);
    let file = fs::read(&path).with_context(|| {
        format!(
            "reading {}: only runs under the virtual clock leave a schedule, and none with KTSTR_SCHEDULE=0",
            path.display()
        )
    })?;
    Ok((path, file))
}

impl Story {
    /// Parses a schedule from the bytes of its file.
    ///
    /// # Errors
    /// If they are damaged.
    pub fn read(file: &[u8]) -> Result<Self> {
        let schedule = Schedule::read(file)?;
        let mut all = Vec::new();
        let answers = stretches(&schedule, |stretch| {
            if stretch.did != Did::Slept {
                all.push(*stretch);
            }
        })?;
        let mut story = Self {
            answers,
            tables: schedule.tables().clone(),
            stretches: all,
            gaps: schedule.gaps().collect(),
            from_ns: u64::MAX,
            ..Self::default()
        };
        schedule.for_each(|event| {
            if let Ok(event) = event {
                story.take(event);
            }
        })?;
        story.end();
        Ok(story)
    }

    fn take(&mut self, event: &Event) {
        // Events at the time 0 describe the state before the recording.
        if event.time_ns > 0 {
            self.from_ns = self.from_ns.min(event.time_ns);
            self.to_ns = self.to_ns.max(event.time_ns);
        }
        let text = match event.what {
            What::Phase { number } => {
                self.release(event.time_ns);
                let (from_ns, to_ns) = (event.time_ns, u64::MAX);
                self.held.push(Held {
                    number,
                    from_ns,
                    to_ns,
                });
                return;
            }
            What::End {} => return self.release(event.time_ns),
            What::Bypass { on: true } => "sched_ext begins to bypass the BPF scheduler".to_owned(),
            What::Bypass { on: false } => "sched_ext ends the bypass".to_owned(),
            What::SchedExt { state } => match state {
                SchedExtState::Enabling => "a BPF scheduler is being loaded".to_owned(),
                SchedExtState::Disabling => {
                    self.unloaded_ns.push(event.time_ns);
                    "the BPF scheduler is being unloaded".to_owned()
                }
            },
            What::Online { cpu, online } if event.time_ns > 0 => {
                let state = if online { "online" } else { "offline" };
                format!("CPU {} goes {state}", cpu.0)
            }
            What::Online { .. }
            | What::Switch { .. }
            | What::Wake { .. }
            | What::Enqueue { .. }
            | What::Dequeue { .. }
            | What::Migrate { .. }
            | What::Affinity { .. }
            | What::Nice { .. }
            | What::Policy { .. }
            | What::Cgroup { .. }
            | What::Weight { .. }
            | What::Throttle { .. }
            | What::Unthrottle { .. }
            | What::Insert { .. }
            | What::Kick { .. }
            | What::Fork { .. }
            | What::Name { .. }
            | What::Exit { .. } => return,
        };
        let at_ns = event.time_ns;
        self.moments.push(Moment { at_ns, text });
    }

    fn release(&mut self, now: u64) {
        if let Some(held) = self.held.last_mut().filter(|held| held.to_ns == u64::MAX) {
            held.to_ns = now;
        }
    }

    fn end(&mut self) {
        self.from_ns = self.from_ns.min(self.to_ns);
        let to_ns = self.to_ns;
        self.release(to_ns);
    }

    /// Returns the time from which displayed times count: the begin of the first step, as in findings, or else the begin of the
    /// schedule.
    pub fn zero_ns(&self) -> u64 {
        self.answers.from_ns.unwrap_or(self.from_ns)
    }

    /// Returns a task as `name[pid]`, with the name unescaped.
    pub fn name(&self, pid: Pid) -> String {
        let info = self.answers.tasks.get(&pid);
        match (pid, info.and_then(|info| info.name())) {
            (Pid::IDLE, _) => "idle".to_owned(),
            (Pid(pid), Some(name)) => format!("{name}[{pid}]"),
            (Pid(pid), None) => format!("[{pid}]"),
        }
    }

    /// Returns the path of a cgroup, or its id if the path is not known.
    pub fn cgroup(&self, id: Option<u64>) -> String {
        match (id, id.and_then(|id| self.tables.cgroups.get(&id))) {
            (_, Some(cgroup)) => cgroup.path.clone(),
            (Some(id), None) => format!("cgroup {id}"),
            (None, _) => "unknown".to_owned(),
        }
    }

    /// Returns the cgroup in which each task spent most of its time running or waiting. The last cgroup of a worker is not
    /// used, since a worker is moved out of its cgroup at its end.
    pub fn homes(&self) -> BTreeMap<Pid, Option<u64>> {
        let mut times: BTreeMap<(Pid, Option<u64>), u64> = BTreeMap::new();
        for (key, totals) in &self.answers.totals {
            let time = times.entry((key.task, key.cgroup)).or_default();
            *time = time
                .saturating_add(totals.run_ns)
                .saturating_add(totals.wait_ns);
        }
        let mut homes: BTreeMap<Pid, (u64, Option<u64>)> = BTreeMap::new();
        for ((pid, cgroup), time) in times {
            let home = homes.entry(pid).or_insert((time, cgroup));
            *home = (*home).max((time, cgroup));
        }
        homes
            .into_iter()
            .map(|(pid, (_, cgroup))| (pid, cgroup))
            .collect()
    }

    /// Returns the number of CPUs of the machine.
    pub fn cpus(&self) -> usize {
        self.tables.topology.llc.len()
    }
}

/// Returns the name of a step in findings.
pub fn step(number: u16) -> String {
    format!("Step[{}]", number.saturating_sub(1))
}

/// Returns the name of a dispatch queue by its id (`SCX_DSQ_*`, `kernel/sched/ext_internal.h`).
pub fn dsq(id: u64) -> String {
    const BUILTIN: u64 = 1 << 63;
    const LOCAL_ON: u64 = 3 << 62;
    match id {
        _ if id & LOCAL_ON == LOCAL_ON => format!("the local queue of CPU {}", id & 0xffff_ffff),
        _ if id == BUILTIN | 1 => "the global queue".to_owned(),
        _ if id == BUILTIN | 2 => "the local queue".to_owned(),
        _ if id & BUILTIN != 0 => format!("the built-in queue {:#x}", id & !BUILTIN),
        _ => format!("queue {id}"),
    }
}

/// Formats a set of CPUs as ranges, such as `0-3,6`, on a machine with `cpus` CPUs.
pub fn ranges(mask: CpuMask, cpus: usize) -> String {
    let inside = |cpu: usize| cpu < cpus && mask.contains(Cpu(cpu as u16));
    let mut parts = Vec::new();
    let mut cpu = 0;
    while cpu < cpus {
        if !inside(cpu) {
            cpu += 1;
            continue;
        }
        let first = cpu;
        while inside(cpu + 1) {
            cpu += 1;
        }
        parts.push(match cpu == first {
            true => first.to_string(),
            false => format!("{first}-{cpu}"),
        });
        cpu += 1;
    }
    match parts.is_empty() {
        true => "none".to_owned(),
        false => parts.join(","),
    }
}

#[cfg(test)]
pub mod testing;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_moments_and_names_are_found() {
        let story = testing::story();
        let held: Vec<_> = story
            .held
            .iter()
            .map(|h| (h.number, h.to_ns - h.from_ns))
            .collect();
        assert_eq!(held, [(1, 40_000_000), (2, 30_000_000)]);
        assert_eq!(story.zero_ns(), 10_000_000);
        assert_eq!(story.moments.len(), 1);
        assert_eq!(story.name(Pid(7)), "</script>[7]");
        assert_eq!(story.name(Pid(0)), "idle");
        assert_eq!(story.name(Pid(99)), "[99]");
    }

    #[test]
    fn sets_and_queues_are_named_as_in_the_kernel() {
        let of = |bits: u64, cpus| ranges(CpuMask([bits, 0]), cpus);
        assert_eq!(of(0b1101_0111, 8), "0-2,4,6-7");
        assert_eq!(of(u64::MAX, 4), "0-3");
        assert_eq!(of(0, 4), "none");
        assert_eq!(dsq(7), "queue 7");
        assert_eq!(dsq(1 << 63 | 1), "the global queue");
        assert_eq!(dsq(1 << 63 | 2), "the local queue");
        assert_eq!(dsq(3 << 62 | 5), "the local queue of CPU 5");
    }
}
