//! The data of the time line, small enough to be embedded in the page.
//!
//! A stretch is a time in which one task runs, waits or is throttled. The stretches are encoded as LEB128 numbers in Base64
//! (`pack.rs`), and `assets/data.js` decodes them. If they do not fit, adjacent short stretches on a CPU are merged, short waits
//! and short throttled stretches are left out, and the page says so.

use std::collections::{BTreeMap, BTreeSet};

use ktstr_record::terminal::escaped;
use ktstr_schedule::Pid;
use ktstr_schedule::query::Stretch;
use serde_json::{Value, json};

use super::html;
use super::marks::Mark;
use super::pack::{Drawn, base64, drawn, pack};
use crate::story::{Story, step};

/// The largest number of tasks that have a row.
const TASKS: usize = 1000;
/// The largest number of marks.
const MARKS: usize = 500;
/// The number of characters that are kept of a text, before they are escaped.
const TEXT: usize = 200;

/// What was left out of the time line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thinned {
    /// The length in nanoseconds below which stretches are not drawn individually; 0 if none is left out for its length.
    pub shorter_than_ns: u64,
    /// The number of stretches that are not drawn individually: the shorter ones, and those of tasks without a row.
    pub left_out: usize,
    /// The number of all stretches.
    pub all: usize,
    /// The number of tasks without a row.
    pub tasks: usize,
    /// The number of marks that are not drawn.
    pub marks: usize,
}

/// Returns the data, and what was left out of it. Stretches are thinned until the data has at most `cap` bytes or thinning
/// saves nothing more.
pub fn data(story: &Story, all_marks: &[Mark], cap: usize) -> (Value, Thinned) {
    let marks = &all_marks[..all_marks.len().min(MARKS)];
    let mut order = tasks(story, marks);
    let tasks = order.len().saturating_sub(TASKS);
    order.truncate(TASKS);
    let homes = story.homes();
    let index: BTreeMap<Pid, u64> = order.iter().copied().zip(0..).collect();
    let mut stretches: Vec<&Stretch> = story.stretches.iter().collect();
    stretches.sort_by_key(|stretch| (stretch.from_ns, stretch.to_ns));
    let since = |ns: u64| ns.saturating_sub(story.from_ns);
    let places = story
        .tables
        .topology
        .llc
        .iter()
        .zip(&story.tables.topology.node);
    let mut data = json!({
        "zero": since(story.zero_ns()),
        "end": since(story.to_ns),
        "cpus": places.map(|(llc, node)| json!([llc, node])).collect::<Vec<_>>(),
        "tasks": order.iter().map(|pid| {
            let home = homes.get(pid).copied().flatten();
            json!([shown(&story.name(*pid)), shown(&story.cgroup(home))])
        }).collect::<Vec<_>>(),
        "phases": story.timeline.held.iter().map(|held| json!({
            "name": step(held.number), "from": since(held.from_ns), "to": since(held.to_ns),
        })).collect::<Vec<_>>(),
        "marks": marks.iter().map(|mark| json!({
            "finding": mark.finding, "from": since(mark.from_ns), "to": since(mark.to_ns),
            "text": shown(&mark.text), "exact": mark.exact,
            "task": mark.pid.and_then(|pid| index.get(&Pid(pid))),
        })).collect::<Vec<_>>(),
        "gaps": story.gaps.iter().map(|gap| json!([since(gap.from_ns), since(gap.to_ns)])).collect::<Vec<_>>(),
    });
    // 100 bytes are for the names of the two fields that are added below, and for the count.
    let room = cap.saturating_sub(html::json(&data).len() + 100);
    let mut shorter_than_ns = 0;
    let (drawn, packed) = loop {
        let drawn = drawn(&stretches, shorter_than_ns, |pid| index.contains_key(&pid));
        let packed = pack(&drawn, &index, story);
        if packed.len().div_ceil(3) * 4 <= room || shorter_than_ns > story.to_ns {
            break (drawn, packed);
        }
        // The limit starts at 500 ns and doubles until the stretches fit.
        shorter_than_ns = (shorter_than_ns * 2).max(500);
    };
    let whole = drawn.iter().filter(|drawn| matches!(drawn, Drawn::One(_)));
    let thinned = Thinned {
        shorter_than_ns,
        left_out: stretches.len() - whole.count(),
        all: stretches.len(),
        tasks,
        marks: all_marks.len() - marks.len(),
    };
    data["count"] = drawn.len().into();
    data["stretches"] = base64(&packed).into();
    (data, thinned)
}

/// Returns the tasks in the order of their rows: first those that findings are about, then the others. Within each group, the
/// task with the longest time of running, waiting and being throttled comes first.
fn tasks(story: &Story, marks: &[Mark]) -> Vec<Pid> {
    let mut time: BTreeMap<Pid, u64> = BTreeMap::new();
    for stretch in &story.stretches {
        *time.entry(stretch.task).or_default() += stretch.len_ns();
    }
    let found: BTreeSet<Pid> = marks.iter().filter_map(|mark| mark.pid.map(Pid)).collect();
    let mut order: Vec<(Pid, u64)> = time.into_iter().collect();
    order.sort_by_key(|(pid, time)| (!found.contains(pid), std::cmp::Reverse(*time), *pid));
    order.into_iter().map(|(pid, _)| pid).collect()
}

/// Returns a text from the guest with its control characters escaped. Of a text with more than `TEXT` characters only the end is
/// kept, which is the most useful part of a path.
fn shown(text: &str) -> String {
    let count = text.chars().count();
    let end = text.chars().skip(count.saturating_sub(TEXT));
    let cut = if count > TEXT { "…" } else { "" };
    escaped(&cut.chars().chain(end).collect::<String>()).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::story::testing::{long, story};

    #[test]
    fn the_task_of_a_finding_has_the_first_row() {
        let mark = |pid| Mark {
            finding: 1,
            from_ns: 0,
            to_ns: 0,
            text: String::new(),
            pid: Some(pid),
            exact: true,
        };
        let story = story();
        assert_eq!(tasks(&story, &[]), [Pid(8), Pid(7)]);
        assert_eq!(tasks(&story, &[mark(7)]), [Pid(7), Pid(8)]);
        let (data, thinned) = data(&story, &[mark(7)], 1 << 20);
        assert_eq!(data["tasks"][0][0], "</script>[7]");
        assert_eq!(data["tasks"][1][0], "hog|`\\u202e[8]");
        assert_eq!(data["marks"][0]["task"], 0);
        assert_eq!(data["zero"], 9_000_000);
        assert_eq!(thinned.left_out, 0);
        assert_eq!(data["count"], thinned.all);
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_counted() {
        let story = Story::read(&long(20_000)).unwrap();
        let (data, thinned) = data(&story, &[], 40_000);
        let packed = data["stretches"].as_str().unwrap();
        assert!(packed.len() <= 40_000, "{}", packed.len());
        assert!(
            thinned.shorter_than_ns > 0 && thinned.left_out > 0,
            "{thinned:?}"
        );
        // What is drawn, merged stretches included, still covers most of the 200 ms of the schedule.
        let all: Vec<&Stretch> = story.stretches.iter().collect();
        let several = drawn(&all, thinned.shorter_than_ns, |_| true)
            .into_iter()
            .map(|drawn| match drawn {
                Drawn::One(stretch) => stretch.len_ns(),
                Drawn::Several { from_ns, to_ns, .. } => to_ns - from_ns,
            });
        let covered: u64 = several.sum();
        assert!(covered > 150_000_000, "{covered} ns");
        assert!(data["count"].as_u64().unwrap() > 100);
    }
}
