//! Marks: a task marks a point in time by setting its name to the name that it already has. The task's own counters
//! between two marks can then be compared with the schedule of the same time span.

use std::collections::BTreeMap;

use super::walk::Walk;
use crate::event::Pid;

/// The schedule's totals of a task when the task left a mark. All sums start when the task was created, or when the
/// schedule began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The task that left the mark.
    pub task: Pid,
    /// The number of earlier tasks that had the same pid. It tells tasks apart when a pid is reused.
    pub life: u32,
    /// CPU time, in nanoseconds.
    pub ran_ns: u64,
    /// The part of `ran_ns` in which the task had been dequeued already, to sleep or because its cgroup was out of quota, in
    /// nanoseconds.
    pub leaving_ns: u64,
    /// The number of times that the task was given a CPU.
    pub runs: u64,
    /// The number of times that the task was given another CPU than the last time.
    pub migrations: u64,
    /// The number of gaps of the schedule up to this point.
    gaps: u32,
    /// Whether the mark lies in a gap, so that events after it are missing.
    holed: bool,
}

/// The schedule's totals between the last two marks of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// CPU time, in nanoseconds.
    pub ran_ns: u64,
    /// The part of `ran_ns` in which the task had been dequeued already, to sleep or because its cgroup was out of quota, and the
    /// kernel looked for the next task, in nanoseconds. The kernel charges it to no task.
    pub leaving_ns: u64,
    /// The number of times that the task was given a CPU.
    pub runs: u64,
    /// The number of times that the task was given another CPU than the last time.
    pub migrations: u64,
    /// Whether the schedule has no gap between the two marks.
    pub whole: bool,
}

impl Walk<'_> {
    /// Records a mark of the task.
    pub(super) fn mark(&mut self, pid: Pid) {
        self.book(pid);
        let gaps = self.answers.gaps;
        let holed = self.holed_until_ns.is_some_and(|until| self.time <= until);
        let task = self.task(pid);
        let mark = Mark {
            task: pid,
            life: task.life,
            ran_ns: task.ran_ns,
            leaving_ns: task.leaving_ns,
            runs: task.runs,
            migrations: task.migrations,
            gaps,
            holed,
        };
        self.answers.marks.push(mark);
        let at_ns = self.time;
        self.info(pid).first_mark_ns.get_or_insert(at_ns);
    }
}

/// Returns the totals between the last two marks of each task, by pid, and for each pid in the order in which its tasks
/// lived. Tasks with fewer than two marks are left out.
pub fn spans(marks: &[Mark]) -> BTreeMap<Pid, Vec<Span>> {
    let mut lives: BTreeMap<(Pid, u32), Vec<&Mark>> = BTreeMap::new();
    for mark in marks {
        lives.entry((mark.task, mark.life)).or_default().push(mark);
    }
    let mut spans: BTreeMap<Pid, Vec<Span>> = BTreeMap::new();
    for ((pid, _), marks) in lives {
        if let [.., from, to] = marks[..] {
            spans.entry(pid).or_default().push(Span {
                ran_ns: to.ran_ns.saturating_sub(from.ran_ns),
                leaving_ns: to.leaving_ns.saturating_sub(from.leaving_ns),
                runs: to.runs.saturating_sub(from.runs),
                migrations: to.migrations.saturating_sub(from.migrations),
                whole: from.gaps == to.gaps && !from.holed,
            });
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Class, Cpu, DequeueReason, Reason, What};
    use crate::testing::Script;

    fn named(script: &mut Script, at: u64, task: u32, name: u32) {
        let task = Pid(task);
        script.at(at).push(0, What::Name { task, name });
    }

    /// A gap keeps the marks, which are rare, and loses the switches between them.
    #[test]
    fn a_span_in_a_gap_is_not_whole() {
        let mut script = Script::default();
        script.tables.names = vec!["a".to_owned()];
        for begin in [1_000, 1_000_000] {
            script.at(begin).phase(1);
            for (at, task) in [(0, 7), (1, 7), (90_000, 7)] {
                named(&mut script, begin + at, task, 0);
            }
            for n in 0..500 {
                let (prev, next) = (7 + n % 3, 7 + (n + 1) % 3);
                script.at(begin + 2 + u64::from(n) * 100);
                script.switch(0, prev, next, Reason::Preempted);
            }
        }
        let mut writer = crate::Writer::with_cap(1);
        script.events.iter().for_each(|event| writer.push(*event));
        let file = writer.finish(&script.tables);
        let schedule = crate::Schedule::read(&file).expect("a writer's file can be read");
        let answers = crate::query::Answers::of(&schedule).expect("a writer's events can be read");
        assert_eq!(answers.gaps, 1);
        let of = |marks: &[Mark]| spans(marks)[&Pid(7)][0].whole;
        let (first, second) = answers.marks.split_at(2);
        assert_eq!((of(first), of(second)), (false, true));
    }

    #[test]
    fn a_span_lies_between_the_last_two_marks_of_a_life() {
        let mut script = Script::default();
        script.tables.names = vec!["a".to_owned(), "b".to_owned()];
        named(&mut script, 5, 7, 0);
        script.at(10).switch(0, 0, 7, Reason::Idle);
        // A change of the name is not a mark.
        named(&mut script, 15, 7, 1);
        named(&mut script, 20, 7, 1);
        // The task sleeps from 27 on, and its CPU finds another task at 30.
        let sleep = What::Dequeue {
            task: Pid(7),
            on: Cpu(0),
            class: Class::Fair,
            reason: DequeueReason::Sleep,
        };
        script.at(27).push(0, sleep);
        script.at(30).switch(0, 7, 0, Reason::Slept);
        script.at(40).switch(1, 0, 7, Reason::Idle);
        named(&mut script, 45, 7, 1);
        script.at(50).switch(1, 7, 0, Reason::Exited);
        let (task, parent) = (Pid(7), Pid(1));
        script.at(60).push(0, What::Fork { task, parent });
        script.at(70).switch(0, 0, 7, Reason::Idle);
        named(&mut script, 70, 7, 1);
        named(&mut script, 71, 7, 1);
        named(&mut script, 74, 7, 1);
        let answers = script.answers();
        let span = |ran_ns, leaving_ns, runs, migrations| Span {
            ran_ns,
            leaving_ns,
            runs,
            migrations,
            whole: true,
        };
        let spans = spans(&answers.marks);
        assert_eq!(spans[&task], [span(15, 3, 1, 1), span(3, 0, 0, 0)]);
        assert_eq!(answers.tasks[&task].names, ["a", "b", "b"]);
    }
}
