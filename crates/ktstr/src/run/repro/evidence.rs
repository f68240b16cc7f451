//! What the exact schedule shows about a failure: the waits that its findings are about, and the events that led to the
//! first of these waits (the trail). All times are in nanoseconds of the schedule's clock, which is the kernel's scheduler
//! clock. The search takes a few passes over the schedule of a run that failed, and no second run.

use ktstr_assert::Finding;
use ktstr_record::FindingRecord;
use ktstr_schedule::query::{Answers, Did, Stretch, Timeline, Trail, stretches};
use ktstr_schedule::words::Words;
use ktstr_schedule::{Pid, ReadError, Schedule};

use crate::run::{Aim, step};

/// The largest number of findings that are looked up.
const FINDINGS: usize = 4;
/// The largest number of events of a trail.
const EVENTS: usize = 4;
/// The longest time between the second capture of a wait and the end of the wait, in nanoseconds. At the end itself the task
/// has a CPU already.
const BEFORE_NS: u64 = 1_000_000;
/// A capture is not taken if it would be less than this time, in nanoseconds, before or after a capture for an earlier finding.
/// The earlier finding's capture then serves both findings.
const NEAR_NS: u64 = 20_000_000;

/// The task and the interval that a finding is about, as found in the schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// The task, as `comm[pid]`, and its pid; `None` if the finding is about no single task.
    pub(super) task: Option<(String, u32)>,
    /// The start of the task's wait, or else of the finding's interval.
    pub(super) from_ns: u64,
    /// The end of that wait or interval.
    pub(super) to_ns: u64,
}

/// What the schedule shows about a failure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::run) struct Evidence {
    /// The trail of the first target as lines. It is empty if the finding is about no task and not about the scheduler, and if
    /// it is about the scheduler of a run without a BPF scheduler.
    pub(in crate::run) trail: Vec<String>,
    /// What the findings are about, without repetitions.
    pub(super) targets: Vec<Target>,
    /// The time from which displayed times count: the start of the first step's hold.
    pub(super) zero_ns: u64,
}

impl Evidence {
    /// Returns the pid of the first target that is a single task; `None` if there is no such target.
    pub(in crate::run) fn task(&self) -> Option<u32> {
        let mut targets = self.targets.iter();
        targets.find_map(|target| target.task.as_ref().map(|(_, pid)| *pid))
    }

    /// Looks up the first [`FINDINGS`] failures among `findings` in the schedule `file`, whose workers are below the cgroup
    /// `root`. `exit_ns` is when sched_ext began to end the scheduler; `None` if it did not, or if the time is not known.
    ///
    /// # Errors
    /// Returns an error if the schedule is damaged.
    pub(in crate::run) fn of(
        findings: &[FindingRecord],
        file: &[u8],
        root: &str,
        exit_ns: Option<u64>,
    ) -> Result<Self, ReadError> {
        let schedule = Schedule::read(file)?;
        let mut timeline = Timeline::of(&schedule)?;
        if let Some(exit_ns) = exit_ns {
            // The schedule shows when the scheduler is unloaded, which is some time after sched_ext begins to end it.
            timeline.unloaded_ns = vec![exit_ns];
        }
        let failed = findings.iter().filter(|finding| finding.outcome == "fail");
        let mut wanted: Vec<Wanted<'_>> = failed
            .take(FINDINGS)
            .map(|finding| Wanted::new(finding, &timeline))
            .collect();
        let tables = schedule.tables();
        let answers = stretches(&schedule, |stretch| {
            let path = stretch.cgroup.and_then(|id| tables.cgroups.get(&id));
            let path = path.map_or("", |cgroup| &cgroup.path);
            wanted.iter_mut().for_each(|w| w.see(stretch, path, root));
        })?;
        let mut evidence = Self {
            zero_ns: timeline.zero_ns(),
            ..Self::default()
        };
        // The trail of the scheduler is evidence only for a finding about the scheduler.
        let of_scheduler = wanted.first().is_some_and(|first| first.is_of_scheduler);
        for wanted in wanted {
            let target = wanted.target(&answers, tables);
            if !evidence.targets.contains(&target) {
                evidence.targets.push(target);
            }
        }
        let first = evidence.targets.first();
        if let Some(first) = first.filter(|first| of_scheduler || first.task.is_some()) {
            let of = first.task.as_ref().map(|(_, pid)| Pid(*pid));
            // At the end of the wait the task gets a CPU; the trail is about what came before.
            let until = first.to_ns.saturating_sub(u64::from(first.task.is_some()));
            let trail = Trail::read(&schedule, of, until, EVENTS)?;
            let words = Words {
                tables,
                tasks: &answers.tasks,
            };
            if of.is_some() || trail.has_bpf {
                evidence.trail = trail.lines(&words, evidence.zero_ns);
            }
        }
        Ok(evidence)
    }

    /// Returns the times at which captures show the targets: in the middle of each wait, and shortly before its end. There
    /// are at most `most` of them. Targets that wait at the same time share captures.
    pub(in crate::run) fn times(&self, most: usize) -> Vec<u64> {
        let mut times: Vec<u64> = Vec::new();
        for target in &self.targets {
            let length = target.to_ns.saturating_sub(target.from_ns);
            let middle = target.from_ns + length / 2;
            let end = target.to_ns.saturating_sub(BEFORE_NS.min(length / 10));
            let others = times.len();
            for at in [middle, end] {
                let mut earlier = times[..others].iter();
                let is_new = earlier.all(|other| other.abs_diff(at) >= NEAR_NS);
                if times.len() < most && is_new && !times.contains(&at) {
                    times.push(at);
                }
            }
        }
        times.sort_unstable();
        times
    }
}

/// A finding whose wait is searched for.
struct Wanted<'a> {
    aim: Aim,
    cgroup: Option<&'a str>,
    /// When sched_ext began to end the scheduler or, if that time is not known, when the scheduler was unloaded; `None` if
    /// neither happened.
    unloaded_ns: Option<u64>,
    /// The end of the step that the finding is about, or else of the last step. If the finding is about a later time, this is
    /// that time. Afterwards the harness moves and ends the workers, so the rest of a wait does not count.
    over_ns: u64,
    /// Whether the finding is about the scheduler and not about a task that waited: the scheduler ended, or was ejected for
    /// something other than the stall of a known task, or the finding comes from a sample of the monitor and names no task.
    is_of_scheduler: bool,
    /// Whether the finding names its task, or is about tasks that waited. Otherwise no task's wait is evidence for it.
    is_of_tasks: bool,
    /// The task that the finding's message names, if any. It is the target's task if the finding is about the scheduler.
    named: Option<Pid>,
    /// The longest wait so far that the finding can be about.
    longest: Option<Stretch>,
}

impl<'a> Wanted<'a> {
    fn new(finding: &'a FindingRecord, timeline: &Timeline) -> Self {
        let aim = Aim::of(finding, timeline);
        let mut unloaded = timeline.unloaded_ns.iter().copied();
        let is_ejected = finding.data.pointer("/ejected/cause").is_some();
        let is_dead = finding.data.get("scheduler_died").is_some();
        // A sample of the monitor is about the time at which it was taken.
        let is_sample = aim.exact && aim.pid.is_none() && finding.cgroup.is_none();
        Self {
            // The scheduler may also have been unloaded before the first step was held.
            unloaded_ns: unloaded
                .find(|at| *at >= timeline.zero_ns())
                .or(timeline.unloaded_ns.first().copied()),
            is_of_scheduler: aim.pid.is_none() && (is_ejected || is_dead || is_sample),
            is_of_tasks: aim.pid.is_some()
                || serde_json::from_value::<Finding>(finding.data.clone())
                    .is_ok_and(|finding| finding.is_about_waits()),
            named: named_in(&finding.message),
            over_ns: match aim.exact {
                true => over_ns(finding, timeline).max(aim.to_ns),
                false => over_ns(finding, timeline),
            },
            aim,
            cgroup: finding.cgroup.as_deref(),
            longest: None,
        }
    }

    /// Keeps `stretch` if it is the longest wait so far that the finding can be about. `path` is the cgroup of its task.
    fn see(&mut self, stretch: &Stretch, path: &str, root: &str) {
        let is_meant = match (self.aim.pid, self.cgroup) {
            (Some(pid), _) => stretch.task == Pid(pid),
            (None, Some(cgroup)) => path
                .strip_suffix(cgroup)
                .is_some_and(|rest| rest.ends_with('/')),
            (None, None) => path.starts_with(root),
        };
        let is_then = stretch.from_ns < self.aim.to_ns && stretch.to_ns > self.aim.from_ns;
        let is_longer = |other: &Stretch| stretch.len_ns() > other.len_ns();
        if !self.is_of_scheduler
            && self.is_of_tasks
            && matches!(stretch.did, Did::Waited { .. })
            && is_meant
            && is_then
            && self.longest.as_ref().is_none_or(is_longer)
        {
            self.longest = Some(*stretch);
        }
    }

    /// Returns the target of the finding: the moment at which the scheduler ended or the monitor took its sample, else the
    /// longest wait, else the interval of the finding itself.
    fn target(&self, answers: &Answers, tables: &ktstr_schedule::Tables) -> Target {
        let words = Words {
            tables,
            tasks: &answers.tasks,
        };
        let named = |pid: Pid| Some((words.task(pid).escape_debug().to_string(), pid.0));
        let ended_ns = match self.aim.exact {
            true => Some(self.aim.to_ns),
            false => self.unloaded_ns,
        };
        match (ended_ns.filter(|_| self.is_of_scheduler), &self.longest) {
            (Some(at), _) => Target {
                task: self
                    .named
                    .filter(|pid| answers.tasks.contains_key(pid))
                    .and_then(named),
                from_ns: at,
                to_ns: at,
            },
            (None, Some(wait)) => Target {
                task: named(wait.task),
                from_ns: wait.from_ns,
                // Once the scheduler is unloaded, the kernel serves all tasks. The rest of the wait is not
                // the scheduler's doing.
                to_ns: self
                    .unloaded_ns
                    .into_iter()
                    .chain([self.over_ns])
                    .filter(|at| *at > wait.from_ns)
                    .fold(wait.to_ns, u64::min),
            },
            (None, None) => Target {
                task: self.aim.pid.and_then(|pid| named(Pid(pid))),
                from_ns: self.aim.from_ns,
                to_ns: self.aim.to_ns,
            },
        }
    }
}

/// Returns the pid of the last task that a message names as `comm[pid]`, as sched_ext does in errors about a task; `None` if
/// it names none.
fn named_in(message: &str) -> Option<Pid> {
    let starts = message.match_indices('[').map(|(at, _)| at);
    starts.rev().find_map(|at| {
        let (pid, _) = message[at + 1..].split_once(']')?;
        let is_after_name = message[..at].ends_with(|c: char| !c.is_whitespace());
        pid.parse().ok().filter(|_| is_after_name).map(Pid)
    })
}

/// Returns the end of the step that a finding is about, or of the last step if it is about none.
fn over_ns(finding: &FindingRecord, timeline: &Timeline) -> u64 {
    let mut held = timeline.held.iter();
    let of_finding = held.find(|held| finding.phase.as_ref() == Some(&step(held.number)));
    of_finding.map_or_else(|| timeline.steps_end_ns(), |held| held.to_ns)
}

#[cfg(test)]
#[path = "evidence_tests.rs"]
mod tests;
