//! Finds the hogs of a test: its real-time and deadline tasks that took most of the time of their CPUs, which a scheduler of a
//! lower class cannot give to other tasks.
//!
//! The schedule shows them all, also threads that the test made itself, and whether one of them ran on the CPU for which a
//! task waited, at that time. Without a complete schedule only the guest names hogs: its workers, in measurements for each
//! step or for the backdrop. Those exist only if the test returns the result of the scenario. A hog of one step explains
//! nothing in another.
//!
//! The engine of the harness is a real-time task, too: the main thread of the test's process, which runs the scenario. A test
//! with many steps can keep it busy for long. The schedule shows that as well, and it is the harness's fault.

use std::collections::BTreeMap;

use ktstr_assert::{AssertDetail, Finding, NoteValue, Phase};
use ktstr_guest::engine::{HOG_KEY, hog_key};
use ktstr_schedule::query::{Answers, Key, Wait};
use ktstr_schedule::{Class, Pid};
use ktstr_snapshot::report::ScxExit;

use super::schedule::Seen;
use crate::run::aim::pid_of;
use crate::run::step;

pub(super) type Measurements = BTreeMap<String, NoteValue>;
/// The time that each task of a higher class ran, in nanoseconds.
type Ran = BTreeMap<(Pid, Class), u64>;

/// The tasks of the test took a CPU if they ran for more than this share of the time.
const MOST: f64 = 0.5;

/// Whose tasks took a CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// The test: all tasks that its process created.
    Test,
    /// The harness: the main thread of the test's process, which runs the scenario.
    Harness,
}

/// What shows the hogs of a run.
#[derive(Debug, Clone, Copy)]
pub(in crate::run) struct Hogs<'a> {
    schedule: Option<(&'a Seen, Pid)>,
}

impl<'a> Hogs<'a> {
    /// Only the guest can name hogs.
    pub(in crate::run) const UNSEEN: Self = Self { schedule: None };

    /// Creates the view of a run. `seen` is its schedule, which is used only if no part is missing. `test` is the process of
    /// the test, which can switch the kernel's tracepoints off, so a schedule without events of theirs is not used, either.
    pub(in crate::run) fn new(seen: Option<&'a Seen>, test: Option<i32>) -> Self {
        let is_whole = |seen: &&Seen| {
            let traced = seen.tables.missing.is_empty() && !seen.answers.totals.is_empty();
            seen.answers.missing_ns == 0 && (seen.is_exact() || traced)
        };
        let whole = seen.filter(is_whole);
        let test = test.and_then(|pid| u32::try_from(pid).ok()).map(Pid);
        Self {
            schedule: whole.zip(test),
        }
    }

    /// Returns the text about the hogs that explain the finding; `None` if none does.
    pub(super) fn at(&self, measured: &Measurements, detail: &AssertDetail) -> Option<String> {
        match self.schedule {
            Some(seen) => explains(seen, Owner::Test, detail),
            None => named_at(measured, detail),
        }
    }

    /// Returns how often the task left its CPU although it could have gone on, or came to another CPU, in a second of its CPU
    /// time; `None` if the schedule does not show the task.
    pub(super) fn disturbances(&self, tid: i32) -> Option<f64> {
        let (seen, _) = self.schedule?;
        let task = Pid(u32::try_from(tid).ok()?);
        let all = seen.answers.sum(|key| key.task == task);
        let count = all.preempted.saturating_add(all.migrations);
        (all.run_ns > 0).then(|| count as f64 / (all.run_ns as f64 / 1e9))
    }

    /// Returns the text about the engine of the harness if the time that it ran explains each of the findings.
    pub(super) fn engine<'d>(
        &self,
        details: impl IntoIterator<Item = &'d AssertDetail>,
    ) -> Option<String> {
        let seen = self.schedule?;
        let details = details.into_iter();
        let all: Option<Vec<String>> = details
            .map(|detail| explains(seen, Owner::Harness, detail))
            .collect();
        all?.into_iter().next()
    }

    /// Returns the text about hogs if hogs explain each of the findings.
    pub(super) fn at_all<'d>(
        &self,
        measured: &Measurements,
        details: impl IntoIterator<Item = &'d AssertDetail>,
    ) -> Option<String> {
        let details = details.into_iter();
        let hogs: Option<Vec<String>> = details.map(|detail| self.at(measured, detail)).collect();
        hogs?.into_iter().next()
    }

    /// Returns the text about the hogs that explain why sched_ext's watchdog ejected the scheduler; `None` if none does.
    pub(super) fn of_stall(&self, measured: &Measurements, exit: &ScxExit) -> Option<String> {
        match self.schedule {
            Some(seen) => explains_stall(seen, Owner::Test, exit),
            None => named_at_any_time(measured),
        }
    }

    /// Returns the text about the engine of the harness if it explains why sched_ext's watchdog ejected the scheduler.
    pub(super) fn engine_of_stall(&self, exit: &ScxExit) -> Option<String> {
        explains_stall(self.schedule?, Owner::Harness, exit)
    }
}

/// Returns the text about the hogs of `owner` that explain the finding; `None` if none does.
fn explains((seen, test): (&Seen, Pid), owner: Owner, detail: &AssertDetail) -> Option<String> {
    let wait = match &detail.finding {
        Finding::Gap { tid, .. } | Finding::NoProgress { tid, .. } => {
            let tid = u32::try_from(*tid).ok();
            tid.and_then(|tid| longest_wait(&seen.answers, Pid(tid)))
        }
        Finding::Starved { task, .. } => {
            pid_of(task).and_then(|pid| most_owed_wait(&seen.answers, Pid(pid)))
        }
        _ => None,
    };
    if let Some(wait) = wait {
        return in_wait(seen, test, owner, wait);
    }
    let label = step_of(detail);
    let matches = |number| label.is_none_or(|label| step(number) == label);
    in_steps(seen, test, owner, matches)
}

/// Returns the text about the hogs of `owner` that explain why sched_ext's watchdog ejected the scheduler; `None` if none does.
fn explains_stall((seen, test): (&Seen, Pid), owner: Owner, exit: &ScxExit) -> Option<String> {
    let stalled = exit.stalled().and_then(|(task, _)| pid_of(task));
    match stalled.and_then(|pid| longest_wait(&seen.answers, Pid(pid))) {
        Some(wait) => in_wait(seen, test, owner, wait),
        // The watchdog itself did not run, or the schedule does not show the task.
        None => in_steps(seen, test, owner, |_| true),
    }
}

/// Returns the wait in which the task was owed the most CPU time; `None` if it never waited.
fn most_owed_wait(answers: &Answers, task: Pid) -> Option<&Wait> {
    let waits = answers.waits.iter().filter(|wait| wait.task == task);
    waits.max_by_key(|wait| wait.owed_ns)
}

impl Owner {
    /// Returns whether the task is the owner's.
    fn has(self, answers: &Answers, task: Pid, test: Pid) -> bool {
        match self {
            Self::Test => answers.descends_from(task, test),
            Self::Harness => task == test,
        }
    }
}

/// Returns the longest wait of the task; `None` if it never waited.
fn longest_wait(answers: &Answers, task: Pid) -> Option<&Wait> {
    let waits = answers.waits.iter().filter(|wait| wait.task == task);
    waits.max_by_key(|wait| wait.len_ns())
}

/// Returns the text about the tasks of `owner` that took the CPU during the wait; `None` if they did not, or if another CPU was
/// idle that a waiting task could have used, since a scheduler has to use it.
fn in_wait(seen: &Seen, test: Pid, owner: Owner, wait: &Wait) -> Option<String> {
    let wasted_ns = seen.answers.wasted_late_ns.get(&wait.phase).copied();
    if wasted_ns.unwrap_or(0) as f64 > MOST * wait.len_ns() as f64 {
        return None;
    }
    let mut held = seen.answers.held_during(wait);
    held.retain(|(task, _), _| owner.has(&seen.answers, *task, test));
    let ran_ns: u64 = held.values().sum();
    let share = ran_ns as f64 / wait.len_ns().max(1) as f64;
    let most = name_of_most(seen, owner, &held).filter(|_| share > MOST)?;
    Some(format!(
        "{most} ran on CPU {} for {:.0} % of the {:.1} s in which task {} waited for that CPU",
        wait.cpu.0,
        100.0 * share,
        wait.len_ns() as f64 / 1e9,
        wait.task.0
    ))
}

/// Returns the text about the tasks of `owner` that took a CPU in one of the steps whose numbers match; `None` if they took
/// none. What they did outside of the steps is set-up and teardown. Nothing links the engine's time to a finding without a wait,
/// so the engine explains none of these.
fn in_steps(seen: &Seen, test: Pid, owner: Owner, matches: impl Fn(u16) -> bool) -> Option<String> {
    let answers = &seen.answers;
    if owner == Owner::Harness {
        return None;
    }
    let mut held: BTreeMap<_, Ran> = BTreeMap::new();
    for (
        Key {
            phase, cpu, task, ..
        },
        totals,
    ) in &answers.totals
    {
        let Some(phase) = phase.filter(|number| matches(*number)) else {
            continue;
        };
        if totals.higher_class_ns > 0 && owner.has(answers, *task, test) {
            // The sums do not tell the class. The last stretch of the task on this CPU does.
            let stretches = answers.higher.get(cpu).map_or(&[][..], Vec::as_slice);
            let last = stretches.iter().rfind(|held| held.task == *task);
            let class = last.map_or(Class::RealTime, |held| held.class);
            let sum = held.entry((phase, *cpu)).or_default();
            let ran_ns = sum.entry((*task, class)).or_default();
            *ran_ns = ran_ns.saturating_add(totals.higher_class_ns);
        }
    }
    let shares = held.into_iter().map(|((phase, cpu), held)| {
        let length_ns = answers
            .phases
            .get(&Some(phase))
            .copied()
            .unwrap_or(0)
            .max(1);
        let ran_ns = held.values().fold(0u64, |sum, ns| sum.saturating_add(*ns));
        (ran_ns as f64 / length_ns as f64, phase, cpu, held)
    });
    let (share, phase, cpu, held) = shares.max_by(|(a, ..), (b, ..)| a.total_cmp(b))?;
    let most = name_of_most(seen, owner, &held).filter(|_| share > MOST)?;
    Some(format!(
        "{most} ran on CPU {} for {:.0} % of {}",
        cpu.0,
        100.0 * share,
        step(phase)
    ))
}

/// Returns the subject of a sentence about these tasks, which names the one that ran longest; `None` if there is none.
fn name_of_most(seen: &Seen, owner: Owner, held: &Ran) -> Option<String> {
    let ((task, class), _) = held.iter().max_by_key(|(_, ran_ns)| **ran_ns)?;
    let class = match class {
        Class::Deadline => "deadline",
        _ => "real-time",
    };
    let info = seen.answers.tasks.get(task)?;
    let name = info.name().unwrap_or("?");
    if owner == Owner::Harness {
        return Some(format!(
            "the engine of the harness, the {class} task {name}[{}],",
            task.0
        ));
    }
    let path = info
        .cgroups
        .last()
        .and_then(|id| seen.tables.cgroups.get(id));
    let cgroup = path.and_then(|cgroup| cgroup.path.rsplit('/').find(|part| !part.is_empty()));
    let place = cgroup.map_or_else(String::new, |name| format!(" in cgroup {name}"));
    Some(match held.len() {
        1 => format!("the test's {class} task {name}[{}]{place}", task.0),
        count => format!(
            "{count} {class} tasks of the test, most of all {name}[{}]{place},",
            task.0
        ),
    })
}

/// Returns the step to which the finding belongs. The label `BASELINE` counts as no step, because findings about the backdrop at
/// the end of the run have it, too.
pub(super) fn step_of(detail: &AssertDetail) -> Option<&str> {
    let label = detail.phase.as_deref();
    label.filter(|label| **label != *Phase::BASELINE.label())
}

/// Returns what the guest says about real-time workers at the time of the finding; `None` if it names none. A finding that
/// belongs to no step may be about any time.
fn named_at(measured: &Measurements, detail: &AssertDetail) -> Option<String> {
    match step_of(detail) {
        None => named_at_any_time(measured),
        Some(step) => [HOG_KEY.to_owned(), hog_key(step)]
            .iter()
            .find_map(|key| text(measured.get(key)?)),
    }
}

fn named_at_any_time(measured: &Measurements) -> Option<String> {
    let mut named = measured.iter().filter(|(key, _)| key.starts_with(HOG_KEY));
    named.find_map(|(_, value)| text(value))
}

fn text(value: &NoteValue) -> Option<String> {
    match value {
        NoteValue::Text(hog) => Some(hog.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ktstr_assert::DetailKind;
    use ktstr_schedule::query::{HeldByHigher, TaskInfo, Totals, WaitCause};
    use ktstr_schedule::{Cpu, Tables};

    use super::*;

    #[test]
    fn a_hog_explains_only_what_happened_in_its_step() {
        let late = |phase: Option<&'static str>| {
            let mut detail = AssertDetail::new(DetailKind::Stuck, "late");
            detail.phase = phase.map(Into::into);
            detail
        };
        let hogs: Measurements = [(hog_key("Step[0]"), "of a step".into())].into();
        let found = |hogs: &Measurements, phase| named_at(hogs, &late(phase)).is_some();
        assert!(found(&hogs, Some("Step[0]")) && !found(&hogs, Some("Step[2]")));
        assert!(found(&hogs, None) && found(&hogs, Some("BASELINE")));
        let both = [late(Some("Step[0]")), late(Some("Step[2]"))];
        let all = |of: &[AssertDetail]| Hogs::UNSEEN.at_all(&hogs, of);
        assert_eq!(all(&both), None);
        assert_eq!(all(&both[..1]).as_deref(), Some("of a step"));
        // Hogs of the backdrop run in each step.
        let hogs: Measurements = [(HOG_KEY.to_owned(), "of the backdrop".into())].into();
        assert!(found(&hogs, Some("Step[0]")) && found(&hogs, None));
        assert_eq!(named_at_any_time(&Measurements::new()), None);
    }

    const MS: u64 = 1_000_000;
    const TEST: i32 = 100;

    /// Returns a schedule in which the real-time task 7, which `parent` created, ran on CPU 0 in step 1 from 0 to `ran_ms`,
    /// and task 9 waited for `cpu` from 0 to 1000 ms.
    fn seen(parent: i32, ran_ms: u64, cpu: u16) -> Seen {
        let pid = |pid: i32| Pid(pid.cast_unsigned());
        let hog = TaskInfo {
            names: vec!["spin".to_owned()],
            parent: Some(pid(parent)),
            ..TaskInfo::default()
        };
        let held = HeldByHigher {
            task: Pid(7),
            class: Class::RealTime,
            from_ns: 0,
            to_ns: ran_ms * MS,
        };
        let wait = Wait {
            phase: Some(1),
            task: Pid(9),
            class: Class::Ext,
            cgroup: None,
            cpu: Cpu(cpu),
            cause: WaitCause::Preempted,
            from_ns: 0,
            to_ns: 1000 * MS,
            owed_ns: 0,
            judged_ns: 0,
            served: true,
        };
        let key = Key {
            phase: Some(1),
            task: Pid(7),
            cgroup: None,
            cpu: Cpu(0),
        };
        let ran = Totals {
            higher_class_ns: ran_ms * MS,
            ..Totals::default()
        };
        Seen {
            answers: Answers {
                tasks: [(Pid(7), hog)].into(),
                higher: [(Cpu(0), vec![held])].into(),
                waits: vec![wait],
                totals: [(key, ran)].into(),
                phases: [(Some(1), 1000 * MS), (Some(2), 1000 * MS)].into(),
                ..Answers::default()
            },
            tables: Tables::default(),
        }
    }

    #[test]
    fn the_schedule_shows_who_ran_on_the_cpu_that_a_task_waited_for() {
        let gap = AssertDetail::of(Finding::Gap {
            tid: 9,
            gap_ms: 1000,
            cpu: 0,
            at_ms: 1000,
            bound_ms: 300,
        });
        let of = |seen: &Seen| {
            let hogs = Hogs::new(Some(seen), Some(TEST));
            hogs.at(&Measurements::new(), &gap)
        };
        let text = of(&seen(TEST, 900, 0)).expect("a hog");
        let expected = "the test's real-time task spin[7] ran on CPU 0 for 90 % of the 1.0 s in which task 9 waited for that CPU";
        assert_eq!(text, expected);
        assert_eq!(
            of(&seen(TEST, 400, 0)),
            None,
            "most of the time it was free"
        );
        assert_eq!(of(&seen(TEST, 900, 1)), None, "another CPU");
        assert_eq!(of(&seen(55, 900, 0)), None, "not a task of the test");
        let mut wasteful = seen(TEST, 900, 0);
        wasteful.answers.wasted_late_ns = [(Some(1), 600 * MS)].into();
        assert_eq!(of(&wasteful), None, "another CPU was idle");
        // If task 7 is the test's main thread, it is the engine.
        let starved = AssertDetail::of(Finding::Starved {
            task: "spin[9]".to_owned(),
            waited_ms: 1000,
            owed_ms: 60,
            from_ms: 0,
            served: true,
            bound_ms: 50.0,
        });
        let engine = |ran_ms, test| {
            let seen = seen(1, ran_ms, 0);
            let hogs = Hogs::new(Some(&seen), Some(test));
            let both = [&gap, &starved].map(|detail| hogs.engine([detail]));
            assert_eq!(both[0], both[1]);
            both.into_iter().flatten().next()
        };
        let text = engine(900, 7).expect("the engine");
        let expected = "the engine of the harness, the real-time task spin[7], ran on CPU 0 for 90 % of the 1.0 s";
        assert!(text.starts_with(expected), "{text}");
        assert_eq!(engine(400, 7), None);
        assert_eq!(engine(900, TEST), None, "a task of the test");
    }

    #[test]
    fn the_schedule_shows_the_hogs_of_each_step() {
        let mut late = AssertDetail::new(DetailKind::Unfair, "uneven");
        let hogged = seen(TEST, 900, 1);
        let measured = [(hog_key("Step[1]"), "of the guest".into())].into();
        let of = |detail: &AssertDetail, seen: &Seen| {
            Hogs::new(Some(seen), Some(TEST)).at(&measured, detail)
        };
        let text = "the test's real-time task spin[7] ran on CPU 0 for 90 % of Step[0]";
        assert_eq!(of(&late, &hogged).as_deref(), Some(text));
        late.phase = Some("Step[0]".into());
        assert_eq!(of(&late, &hogged).as_deref(), Some(text));
        assert_eq!(of(&late, &seen(TEST, 400, 1)), None);
        late.phase = Some("Step[1]".into());
        assert_eq!(of(&late, &hogged), None, "the schedule has the last word");
        // What the test does before the first step and after the last one explains nothing.
        late.phase = None;
        let mut set_up = seen(TEST, 900, 1);
        let totals = std::mem::take(&mut set_up.answers.totals).into_iter();
        set_up.answers.totals = totals
            .map(|(key, ran)| (Key { phase: None, ..key }, ran))
            .collect();
        set_up.answers.phases.insert(None, 1000 * MS);
        assert_eq!(of(&late, &set_up), None);
        late.phase = Some("Step[1]".into());
        let mut holed = hogged;
        holed.answers.missing_ns = 1;
        assert_eq!(of(&late, &holed).as_deref(), Some("of the guest"));
    }
}
