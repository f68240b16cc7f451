//! Describes what ran during a wait on the CPUs that the waiting task may use.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ktstr_schedule::query::{Did, Stretch};
use ktstr_schedule::{Cpu, CpuMask, Pid};

use ktstr_record::brief::counted;

use super::{ms, shown};
use crate::story::Story;

/// The largest number of CPUs that are listed.
const CPUS: usize = 16;
/// The largest number of tasks that are listed for each CPU.
const TASKS: usize = 5;

/// Describes what each CPU that the task may use ran during the `wait`, and for how long. `masks` are the sets of CPUs that the
/// task may use, each with the time from which it holds.
pub fn meanwhile(story: &Story, wait: &Stretch, masks: &[(u64, CpuMask)]) -> String {
    let all = || (0..story.cpus()).map(|cpu| Cpu(cpu as u16));
    let is_in = |cpu: &Cpu| masks.iter().any(|(_, mask)| mask.contains(*cpu));
    let allowed: Vec<Cpu> = all().filter(is_in).collect();
    let ran = ran(story, wait.from_ns, wait.to_ns);
    let length = wait.len_ns();
    let idle = |cpu: &Cpu| story.idle.ns(*cpu, wait.from_ns, wait.to_ns);
    // The part of the wait for which it is unknown what the CPU did. The CPU was offline, or the schedule has no context
    // switch of the CPU up to then, so the task on it is unknown.
    let unknown = |cpu: &Cpu| length.saturating_sub(busy(&ran, *cpu) + idle(cpu));
    // Each set holds until the next one begins.
    let ends = masks
        .iter()
        .skip(1)
        .map(|(from, _)| *from)
        .chain([wait.to_ns]);
    let spans = masks.iter().zip(ends).filter(|((from, _), to)| from < to);
    let all_idle: u64 = spans
        .map(|((from, mask), to)| {
            let idle = all().filter(|cpu| mask.contains(*cpu));
            idle.map(|cpu| story.idle.ns(cpu, *from, to)).sum::<u64>()
        })
        .sum();
    let all_known = allowed.iter().all(|cpu| unknown(cpu) == 0);
    let gap = story
        .gaps
        .iter()
        .any(|gap| gap.from_ns < wait.to_ns && gap.to_ns > wait.from_ns);
    let mut text = match (gap, all_idle, all_known) {
        (true, ..) => "Events of that time are missing, so this list is incomplete.\n".to_owned(),
        (false, idle, _) if !story.tables.source.is_exact() => format!(
            "In that time all CPUs of the machine were idle for {}, added up.\n",
            ms(idle)
        ),
        (false, 0, true) => "No CPU on which it was allowed was idle in that time.\n".to_owned(),
        (false, 0, false) => {
            "No CPU on which it was allowed is known to have been idle in that time.\n".to_owned()
        }
        (false, idle, _) => format!(
            "In that time the CPUs on which it was allowed were idle for {}, added up over the CPUs.\n",
            ms(idle)
        ),
    };
    text.push('\n');
    for cpu in allowed.iter().take(CPUS) {
        let _ = writeln!(text, "CPU {}:", cpu.0);
        let mut tasks: Vec<(Pid, u64)> = ran
            .get(cpu)
            .into_iter()
            .flatten()
            .map(|(pid, ns)| (*pid, *ns))
            .collect();
        tasks.sort_by_key(|(pid, ns)| (std::cmp::Reverse(*ns), *pid));
        let rest: u64 = tasks.iter().skip(TASKS).map(|(_, ns)| ns).sum();
        let mut line = |what: &str, ns: u64| {
            let percent = ns as f64 / length.max(1) as f64 * 100.0;
            let _ = writeln!(text, "  {:>12}  {percent:>5.1} %  {what}", ms(ns));
        };
        for (pid, ns) in tasks.iter().take(TASKS) {
            line(&shown(story, *pid), *ns);
        }
        if tasks.len() > TASKS {
            let others = counted(tasks.len() - TASKS, "other task");
            line(&others, rest);
        }
        if idle(cpu) > 0 {
            line("idle", idle(cpu));
        }
        if unknown(cpu) > 0 {
            line("offline, or unknown", unknown(cpu));
        }
    }
    if allowed.len() > CPUS {
        let _ = writeln!(text, "and {}.", counted(allowed.len() - CPUS, "more CPU"));
    }
    text
}

/// Returns the CPU time of each task on each CPU between two times, in nanoseconds.
fn ran(story: &Story, from: u64, to: u64) -> BTreeMap<Cpu, BTreeMap<Pid, u64>> {
    let mut ran: BTreeMap<Cpu, BTreeMap<Pid, u64>> = BTreeMap::new();
    for stretch in &story.stretches {
        let (from, to) = (stretch.from_ns.max(from), stretch.to_ns.min(to));
        if let Did::Ran { cpu, .. } = stretch.did
            && from < to
        {
            *ran.entry(cpu).or_default().entry(stretch.task).or_default() += to - from;
        }
    }
    ran
}

fn busy(ran: &BTreeMap<Cpu, BTreeMap<Pid, u64>>, cpu: Cpu) -> u64 {
    ran.get(&cpu).map_or(0, |tasks| tasks.values().sum())
}
