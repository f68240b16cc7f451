//! The tables of the page: CPU time and waits of each cgroup in each step, and of each task.

use std::collections::{BTreeMap, BTreeSet};

use ktstr_schedule::Pid;
use ktstr_schedule::query::{Phase, Totals, percentile};

use super::html::{length, ms, table};
use crate::story::{Story, step};

/// The largest number of cgroups that are shown for a step.
const CGROUPS: usize = 40;
/// The largest number of steps with a table.
const STEPS: usize = 16;
/// The largest number of tasks that are shown.
const TASKS: usize = 100;

fn of_phase(phase: Phase) -> String {
    phase.map_or_else(|| "outside of the steps".to_owned(), step)
}

/// Renders a table of cgroups for each step, and one for the time outside of the steps. The cgroup that ran longest comes first.
pub fn cgroups(story: &Story) -> String {
    let mut sums: BTreeMap<(Phase, Option<u64>), (Totals, BTreeSet<Pid>)> = BTreeMap::new();
    for (key, totals) in &story.answers.totals {
        let (sum, tasks) = sums.entry((key.phase, key.cgroup)).or_default();
        *sum = *sum + *totals;
        tasks.insert(key.task);
    }
    let mut waits: BTreeMap<(Phase, Option<u64>), Vec<u64>> = BTreeMap::new();
    // A wait that is still open at the end of its step counts with its length until then.
    let open = story
        .answers
        .open_waits
        .iter()
        .filter(|wait| wait.phase.is_some());
    for wait in story.answers.waits.iter().chain(open) {
        waits
            .entry((wait.phase, wait.cgroup))
            .or_default()
            .push(wait.len_ns());
    }
    waits.values_mut().for_each(|waits| waits.sort_unstable());
    let mut phases: Vec<Phase> = sums.keys().map(|(phase, _)| *phase).collect();
    phases.dedup();
    // Steps in their order, then the time outside of the steps.
    phases.sort_by_key(|phase| phase.unwrap_or(u16::MAX));
    let mut out = String::new();
    if phases.len() > STEPS {
        let more = phases.len() - STEPS;
        out.push_str(&format!(
            "<p>{more} more tables are left out. <code>cargo ktstr schedule RUN --phase N</code> prints the tasks of a step, where \
             N is 1 for <code>Step[0]</code>.</p>\n"
        ));
        phases.truncate(STEPS);
    }
    for phase in phases {
        let mut rows: Vec<_> = sums.iter().filter(|((of, _), _)| *of == phase).collect();
        rows.retain(|(_, (sum, _))| sum.run_ns + sum.wait_ns + sum.throttled_ns > 0);
        rows.sort_by_key(|(_, (sum, _))| std::cmp::Reverse(sum.run_ns));
        let all = rows.len();
        rows.truncate(CGROUPS);
        let cells: Vec<Vec<String>> = rows
            .iter()
            .map(|((_, cgroup), (sum, tasks))| {
                let waits = waits.get(&(phase, *cgroup)).map_or(&[][..], Vec::as_slice);
                let at =
                    |percent| percentile(waits, percent).map_or_else(|| "-".to_owned(), length);
                vec![
                    story.cgroup(*cgroup),
                    tasks.len().to_string(),
                    ms(sum.run_ns),
                    ms(sum.wait_ns),
                    ms(sum.throttled_ns),
                    at(50.0),
                    at(99.0),
                    at(100.0),
                    sum.wakeups.to_string(),
                    sum.preempted.to_string(),
                    sum.migrations.to_string(),
                ]
            })
            .collect();
        let length = story
            .answers
            .phases
            .get(&phase)
            .copied()
            .unwrap_or_default();
        let caption = format!(
            "Cgroups, {}, {} ms{}",
            of_phase(phase),
            ms(length),
            more(all, CGROUPS)
        );
        let header = [
            "Cgroup",
            "Tasks",
            "Ran ms",
            "Waited ms",
            "Throttled ms",
            "Wait p50",
            "p99",
            "Longest",
            "Wake-ups",
            "Preempted",
            "Moved",
        ];
        out.push_str(&table(&caption, &header, 1, &cells));
    }
    out
}

/// Renders a table of the tasks. The task with the longest time of running and waiting comes first.
pub fn tasks(story: &Story) -> String {
    let mut sums: BTreeMap<Pid, Totals> = BTreeMap::new();
    for (key, totals) in &story.answers.totals {
        let sum = sums.entry(key.task).or_default();
        *sum = *sum + *totals;
    }
    let homes = story.homes();
    let mut waits: BTreeMap<Pid, Vec<u64>> = BTreeMap::new();
    for wait in &story.answers.waits {
        waits.entry(wait.task).or_default().push(wait.len_ns());
    }
    waits.values_mut().for_each(|waits| waits.sort_unstable());
    let mut rows: Vec<(Pid, Totals)> = sums
        .into_iter()
        .filter(|(_, sum)| sum.run_ns + sum.wait_ns > 0)
        .collect();
    rows.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.run_ns + sum.wait_ns));
    let all = rows.len();
    rows.truncate(TASKS);
    let cells: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(pid, sum)| {
            let waits = waits.get(&pid).map_or(&[][..], Vec::as_slice);
            let at = |percent| percentile(waits, percent).map_or_else(|| "-".to_owned(), length);
            vec![
                story.name(pid),
                story.cgroup(homes.get(&pid).copied().flatten()),
                ms(sum.run_ns),
                ms(sum.wait_ns),
                at(50.0),
                at(99.0),
                at(100.0),
                sum.slept.to_string(),
                sum.preempted.to_string(),
                sum.yielded.to_string(),
                sum.migrations.to_string(),
            ]
        })
        .collect();
    let caption = format!("Tasks, the whole run{}", more(all, TASKS));
    let header = [
        "Task",
        "Cgroup",
        "Ran ms",
        "Waited ms",
        "Wait p50",
        "p99",
        "Longest",
        "Slept",
        "Preempted",
        "Yielded",
        "Moved",
    ];
    table(&caption, &header, 2, &cells)
}

fn more(all: usize, shown: usize) -> String {
    match all > shown {
        true => format!("; the first {shown} of {all}"),
        false => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::testing::story;

    #[test]
    fn cgroups_and_tasks_have_what_they_got() {
        let page = cgroups(&story());
        let first = page
            .find("Cgroups, Step[0], 40.0 ms")
            .expect("the first step");
        let second = page
            .find("Cgroups, Step[1], 30.0 ms")
            .expect("the second step");
        let outside = page
            .find("outside of the steps")
            .expect("the time outside of the steps");
        assert!(first < second && second < outside, "{page}");
        assert!(
            page.contains(
                "<td>/ktstr/&lt;b&gt;cell</td><td class=\"n\">1</td><td class=\"n\">10.0</td>"
            ),
            "{page}"
        );
        let page = tasks(&story());
        assert!(page.contains("<td>&lt;/script&gt;[7]</td>"), "{page}");
        assert!(!page.contains("</script>"), "{page}");
    }
}
