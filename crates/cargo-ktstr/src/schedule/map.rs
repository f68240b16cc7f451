//! `cargo ktstr schedule RUN --map`: prints one line per switch, with the task on every CPU as a letter and a digit, `.` for an
//! idle CPU, `-` for an offline CPU, and `?` for a CPU whose task is unknown. The CPU that switched is marked with a star, as in
//! `perf sched map`. The name of a task is printed where its letter and digit first appear.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use anyhow::Result;
use ktstr_schedule::{Cpu, Pid, Schedule, What};

use super::escape;
use super::latency::seconds;
use crate::story::Story;

/// Prints a line for each switch from or to a task that `wanted` accepts. If `phase` is given, only the switches of that
/// phase are printed.
pub(super) fn print(
    out: &mut dyn Write,
    schedule: &Schedule<'_>,
    story: &Story,
    phase: Option<u16>,
    wanted: impl Fn(Pid) -> bool,
) -> Result<()> {
    let mut current: BTreeMap<Cpu, Pid> = BTreeMap::new();
    let mut offline: BTreeSet<Cpu> = BTreeSet::new();
    let mut letters: BTreeMap<Pid, String> = BTreeMap::new();
    let mut explained: BTreeSet<Pid> = BTreeSet::new();
    let mut held = None;
    let mut failed = Ok(());
    schedule.for_each(|event| match event {
        Ok(event) => match event.what {
            What::Phase { number } => held = Some(number),
            What::End {} => held = None,
            What::Online { cpu, online: false } => {
                offline.insert(cpu);
            }
            What::Online { cpu, online: true } => {
                offline.remove(&cpu);
            }
            What::Switch { prev, next, .. } => {
                current.insert(event.cpu, next);
                let asked = wanted(prev) || wanted(next);
                if failed.is_err() || !asked || (phase.is_some() && held != phase) {
                    return;
                }
                let mut line = String::new();
                for cpu in (0..story.cpus()).map(|cpu| Cpu(cpu as u16)) {
                    let star = if cpu == event.cpu { "*" } else { " " };
                    let shown = match current.get(&cpu) {
                        _ if offline.contains(&cpu) => "-",
                        None => "?",
                        Some(&Pid::IDLE) => ".",
                        Some(pid) => {
                            let number = letters.len();
                            letters.entry(*pid).or_insert_with(|| named(number))
                        }
                    };
                    line.push_str(&format!("{star}{shown:<3}"));
                }
                let at = seconds(story, event.time_ns);
                line.push_str(&format!("{at:>14}"));
                for (pid, letters) in &letters {
                    if current.values().any(|current| current == pid) && explained.insert(*pid) {
                        line.push_str(&format!("  {letters} is {}", escape(&story.name(*pid))));
                    }
                }
                failed = writeln!(out, "{line}");
            }
            _ => {}
        },
        Err(_) => current.clear(),
    })?;
    Ok(failed?)
}

/// Returns the short name of the task with this number: `A0` to `Z9`, then `a0` to `z9`, then `#520` and so on.
fn named(number: usize) -> String {
    let (letter, digit) = (number / 10, number % 10);
    match letter {
        0..26 => format!("{}{digit}", char::from(b'A' + letter as u8)),
        26..52 => format!("{}{digit}", char::from(b'a' + (letter - 26) as u8)),
        _ => format!("#{number}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::story::testing::{file, story};

    fn text(phase: Option<u16>, wanted: impl Fn(Pid) -> bool) -> String {
        let file = file();
        let schedule = Schedule::read(&file).unwrap();
        let mut out = Vec::new();
        print(&mut out, &schedule, &story(), phase, wanted).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_switch_has_a_line() {
        insta::assert_snapshot!(text(None, |_| true), @r"
         ?  *.       -0.009000
        *A0  .       -0.008000  A0 is hog|`\u{202e}[8]
        *A1  .        0.007000  A1 is </script>[7]
        *A0  .        0.017000
        ");
        assert_eq!(text(Some(1), |_| true).lines().count(), 2);
        assert_eq!(text(None, |pid| pid == Pid(7)).lines().count(), 2);
        assert_eq!(text(Some(2), |_| true), "");
    }

    /// A CPU that goes offline switches to its idle task, but must not be shown as idle.
    #[test]
    fn a_cpu_that_is_offline_is_shown_as_offline() {
        let mut writer = ktstr_schedule::Writer::default();
        let mut push = |ms: u64, cpu: u16, what| {
            let (time_ns, cpu) = (ms * 1_000_000, Cpu(cpu));
            writer.push(ktstr_schedule::Event { time_ns, cpu, what });
        };
        let switch = |prev, next| What::Switch {
            prev: Pid(prev),
            next: Pid(next),
            reason: ktstr_schedule::Reason::Slept,
        };
        let online = |online| What::Online {
            cpu: Cpu(1),
            online,
        };
        push(1, 1, switch(9, 0));
        push(2, 1, online(false));
        push(3, 1, switch(7, 0));
        push(4, 0, online(true));
        push(5, 1, switch(0, 7));
        let file = writer.finish(&ktstr_schedule::Tables {
            topology: story().tables.topology,
            ..ktstr_schedule::Tables::default()
        });
        let (story, schedule) = (Story::read(&file).unwrap(), Schedule::read(&file).unwrap());
        let mut out = Vec::new();
        print(&mut out, &schedule, &story, None, |_| true).unwrap();
        let text = String::from_utf8(out).unwrap();
        let second: Vec<&str> = text.lines().map(|line| line[4..8].trim()).collect();
        assert_eq!(second, ["*.", "*-", "*A0"], "{text}");
    }

    #[test]
    fn letters_do_not_run_out() {
        let names = [0, 9, 10, 259, 260, 519, 520].map(named);
        assert_eq!(names, ["A0", "A9", "B0", "Z9", "a0", "z9", "#520"]);
    }
}
