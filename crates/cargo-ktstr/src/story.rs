//! A recorded schedule prepared for display: the stretches of all tasks (without those of sleep), the hold of each step, and
//! the events of the whole machine. `report`, `trace`, `why`, the listings of `schedule`, and `replay --capture-at` are
//! based on it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use idle::Idle;
pub use ktstr::run::step;
use ktstr_schedule::query::{Answers, Did, Queues, Stretch, Timeline, stretches};
use ktstr_schedule::words::Words;
use ktstr_schedule::words::complete_only;
pub use ktstr_schedule::words::{cpus, dsq};
use ktstr_schedule::{Event, Gap, Pid, SCHEDULE_FILE, SchedExtState, Schedule, Tables, What};

mod idle;

/// Something that happened to the whole machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// The time in nanoseconds of the kernel's scheduler clock.
    pub at_ns: u64,
    /// A description as a sentence without a full stop.
    pub text: String,
}

/// A schedule prepared for display.
#[derive(Debug, Default)]
pub struct Story {
    /// Sums, waits and names.
    pub answers: Answers,
    /// The topology, the names of cgroups, and which events this kernel lacks.
    pub tables: Tables,
    /// The stretches of all tasks, without those of sleep, in the order in which they end.
    pub stretches: Vec<Stretch>,
    /// The holds of the steps, and the times at which a scheduler was unloaded.
    pub timeline: Timeline,
    /// The events of the machine, in order.
    pub moments: Vec<Moment>,
    /// The times in which each CPU is known to have been idle.
    pub idle: Idle,
    /// The intervals whose frequent events were dropped to keep the file small.
    pub gaps: Vec<Gap>,
    /// The time of the earliest event, in nanoseconds of the kernel's scheduler clock; 0 without events.
    pub from_ns: u64,
    /// The time of the latest event, in nanoseconds of the kernel's scheduler clock; 0 without events.
    pub to_ns: u64,
}

/// Reads the schedule in the folder of the record at `record`, and returns its path and its bytes.
///
/// # Errors
/// If the file cannot be read; the error says which runs leave a schedule.
pub fn bytes(record: &Path) -> Result<(PathBuf, Vec<u8>)> {
    let path = record.with_file_name(SCHEDULE_FILE);
    let file = fs::read(&path).with_context(|| {
        format!(
            "reading {}: a run leaves no schedule if KTSTR_SCHEDULE is 0, if the machine ended before the schedule could be read, or if the \
             kernel lacks what shows one",
            path.display()
        )
    })?;
    Ok((path, file))
}

/// Returns the time from which displayed times count, in nanoseconds of the kernel's scheduler clock, for the run whose record is
/// at `record`: see [`Story::zero_ns`]. `None` if the run left no schedule, or one that is damaged.
pub fn zero_of(record: &Path) -> Option<u64> {
    let (_, file) = bytes(record).ok()?;
    let timeline = Timeline::of(&Schedule::read(&file).ok()?).ok()?;
    Some(timeline.zero_ns())
}

impl Story {
    /// Parses a schedule from the bytes of its file.
    ///
    /// # Errors
    /// If the file is damaged.
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
            ..Self::default()
        };
        schedule.for_each(|event| {
            story.idle.take(event);
            if let Ok(event) = event {
                story.timeline.take(event);
                story.take(event);
            }
        })?;
        story.timeline.end();
        let (from_ns, to_ns) = story.timeline.ends_ns.unwrap_or_default();
        (story.from_ns, story.to_ns) = (from_ns, to_ns);
        story.idle.end(to_ns);
        Ok(story)
    }

    fn take(&mut self, event: &Event) {
        let text = match event.what {
            What::Bypass { on: true } => "sched_ext starts to bypass the BPF scheduler".to_owned(),
            What::Bypass { on: false } => "sched_ext ends the bypass".to_owned(),
            What::SchedExt { state } => match state {
                SchedExtState::Enabling => "a BPF scheduler is being loaded".to_owned(),
                SchedExtState::Disabling => "the BPF scheduler is being unloaded".to_owned(),
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
            | What::Exit { .. }
            | What::Phase { .. }
            | What::End {} => return,
        };
        let at_ns = event.time_ns;
        self.moments.push(Moment { at_ns, text });
    }

    /// Returns the time from which displayed times count, in nanoseconds of the kernel's scheduler clock: the start of the first
    /// step, as in findings, or else the start of the schedule.
    pub fn zero_ns(&self) -> u64 {
        self.timeline.zero_ns()
    }

    /// Returns how much of the time from `from_ns` to `to_ns` was in the holds of steps, in nanoseconds.
    pub fn in_steps_ns(&self, from_ns: u64, to_ns: u64) -> u64 {
        let parts = self.timeline.held.iter().map(|held| {
            let (from, to) = (held.from_ns.max(from_ns), held.to_ns.min(to_ns));
            to.saturating_sub(from)
        });
        parts.fold(0, u64::saturating_add)
    }

    /// Says from when to when the schedule is complete; `None` if no event is missing.
    pub fn complete_only(&self) -> Option<String> {
        let from_ns = self.answers.complete_from_ns?;
        Some(complete_only(from_ns, self.to_ns, self.zero_ns()))
    }

    /// Returns a task as `name[pid]`, with the name unescaped.
    pub fn name(&self, pid: Pid) -> String {
        self.words().task(pid)
    }

    /// Returns the path of a cgroup, or its id if the path is unknown; `unknown` for `None`.
    pub fn cgroup(&self, id: Option<u64>) -> String {
        self.words().cgroup(id)
    }

    /// Returns the names to which the events refer.
    pub fn words(&self) -> Words<'_> {
        Words {
            tables: &self.tables,
            tasks: &self.answers.tasks,
        }
    }

    /// Returns the runqueues on which a task was during `wait`, in order; none for a stretch that is not a wait.
    pub fn queues(&self, wait: &Stretch) -> Queues {
        let Did::Waited { cpu, .. } = wait.did else {
            return Queues::new();
        };
        let moved = self.answers.queues.get(&(wait.task, wait.from_ns));
        moved.map_or_else(|| vec![(wait.from_ns, cpu)], Queues::clone)
    }

    /// Returns the cgroup in which each task spent most of its time running or waiting. The last cgroup of a task would be
    /// wrong, because a worker is moved out of its cgroup when it ends.
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

#[cfg(test)]
pub mod testing;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_moments_and_names_are_found() {
        let story = testing::story();
        let held: Vec<_> = story
            .timeline
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
}
