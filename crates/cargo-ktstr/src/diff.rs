//! `cargo ktstr diff`: compares two recorded runs: what they ran on, their metrics, and where their schedules diverge.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use ktstr_record::brief::{facts, headline, step};
use ktstr_record::compare::{Comparison, Parting, Run, compare};
use ktstr_record::settings::{Settings, difference};
use ktstr_record::{Clock, RunRecord, runs_root};
use serde_json::Value;

use crate::exit::Exit;
use crate::replay;
use crate::table::numbers;

/// The greatest distance, in nanoseconds, from the first differing switch at which a capture is listed.
const NEAR_NS: u64 = 20_000_000;

/// The options of `cargo ktstr diff`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The first run: the path of its `record.json` or of its folder, or its name.
    left: PathBuf,
    /// The second run, named in the same way.
    right: PathBuf,
    /// Print metrics that are the same in both runs too.
    #[arg(long)]
    all: bool,
}

/// Prints what two runs ran on, their metrics side by side, and the first switch that differs.
pub fn run(out: &mut dyn Write, options: &Options) -> Result<Exit> {
    let root = runs_root();
    let left = Run::read(&replay::find(&options.left, &root)?)?;
    let right = Run::read(&replay::find(&options.right, &root)?)?;
    out.write_all(text(&left, &right, options.all).as_bytes())?;
    Ok(Exit::Done)
}

fn text(left: &Run, right: &Run, all: bool) -> String {
    let (a, b) = (&left.record, &right.record);
    // Writing to a String cannot fail.
    let mut text = String::new();
    for (name, record) in [("first ", a), ("second", b)] {
        let _ = writeln!(text, "{name} {}: {}", record.run_id, headline(record));
    }
    let (of_a, of_b) = (facts(a), facts(b));
    for (name, left) in &of_a {
        let right = of_b.iter().find(|(known, _)| known == name);
        let right = right.map_or("unknown", |(_, value)| value);
        match left == right {
            true => {
                let _ = writeln!(text, "{name}: {left}, in both");
            }
            false => {
                let _ = writeln!(text, "{name}:\n  first  {left}\n  second {right}");
            }
        }
    }
    if let Some(difference) = difference(["the first", "the second"], &settings(a), &settings(b)) {
        let _ = writeln!(
            text,
            "settings: {difference}; the metrics may differ for that reason"
        );
    }
    text.push('\n');
    text.push_str(&side_by_side(&metrics(a), &metrics(b), all));
    text.push('\n');
    text.push_str(&schedules(left, right));
    text
}

/// Returns the settings of a run that change its metrics: the accelerator, the window, and all recorded environment
/// variables, even those whose effect is also among the run's facts, such as the kernel.
fn settings(record: &RunRecord) -> Settings {
    let mut settings = record.environment.clone();
    let accelerator = record
        .accelerator
        .map(|accelerator| format!("{accelerator:?}").to_lowercase());
    let window = record.window_s.map(|seconds| format!("{seconds} s"));
    for (name, value) in [("the accelerator", accelerator), ("the window", window)] {
        settings.extend(value.map(|value| (name.to_owned(), value)));
    }
    settings
}

/// Returns the metrics of a run, each by its step (empty for the whole run) and its name.
fn metrics(record: &RunRecord) -> BTreeMap<(String, String), f64> {
    let mut metrics = BTreeMap::new();
    let mut take = |step: &str, of: &Value| {
        for (name, value) in of.as_object().into_iter().flatten() {
            if let Some(value) = value.as_f64() {
                metrics.insert((step.to_owned(), name.clone()), value);
            }
        }
    };
    // The numeric fields of the run's statistics, and the table of the metrics that have no field there.
    take("", &record.stats);
    take("", &record.stats["ext_metrics"]);
    for phase in record.stats["phases"].as_array().into_iter().flatten() {
        let label = phase["label"].as_str().unwrap_or_default();
        take(label, &phase["metrics"]);
    }
    metrics
}

fn side_by_side(
    left: &BTreeMap<(String, String), f64>,
    right: &BTreeMap<(String, String), f64>,
    all: bool,
) -> String {
    let mut names: Vec<&(String, String)> = left.keys().chain(right.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let mut table = numbers(&["STEP", "METRIC", "FIRST", "SECOND", "CHANGE"], 2);
    let (mut rows, mut same) = (0, 0);
    for name in names {
        let (a, b) = (left.get(name), right.get(name));
        if a == b && !all {
            same += 1;
            continue;
        }
        let shown = |value: Option<&f64>, all: &BTreeMap<(String, String), f64>| match value {
            Some(value) => number(value),
            None if all.keys().any(|(phase, _)| *phase == name.0) => "not measured".to_owned(),
            None => format!("no {}", step(&name.0)),
        };
        let change = match (a, b) {
            // The value is the number of a CPU, for which a change in percent means nothing.
            _ if name.1.ends_with("_cpu") => String::new(),
            (Some(a), Some(b)) if *a != 0.0 => change(*a, *b),
            _ => String::new(),
        };
        table.add_row([
            step(&name.0),
            name.1.clone(),
            shown(a, left),
            shown(b, right),
            change,
        ]);
        rows += 1;
    }
    let mut text = match rows {
        0 => String::new(),
        _ => format!("{}\n", table.trim_fmt()),
    };
    if same > 0 {
        let _ = writeln!(
            text,
            "{} the same in both; --all prints them.",
            match same {
                1 => "1 metric is".to_owned(),
                more => format!("{more} metrics are"),
            }
        );
    }
    text
}

/// Formats a value with three digits after the point, unless it is a whole number.
fn number(value: &f64) -> String {
    match value.fract() == 0.0 {
        true => format!("{value:.0}"),
        false => format!("{value:.3}"),
    }
}

/// Formats the change from `from`, which is not zero, to `to`: in per cent, or as a factor if it is large.
fn change(from: f64, to: f64) -> String {
    let percent = (to - from) / from.abs() * 100.0;
    match percent.abs() <= 1000.0 {
        true => format!("{percent:+.1} %"),
        false => format!("x {:.0}", to / from),
    }
}

/// Describes where the schedules diverge, and lists the captures near that time. Schedules of runs under the real clock are
/// not compared, because no two of them are alike.
fn schedules(left: &Run, right: &Run) -> String {
    let counted = |run: &Run| run.record.clock == Some(Clock::Virtual);
    if !(counted(left) && counted(right)) {
        return "Only runs under the virtual clock have schedules that can be compared switch by switch.\n".to_owned();
    }
    let comparison = compare(left, right);
    let mut text = format!("{comparison}\n");
    if let Comparison::Differ(Parting::Switch {
        left: a, right: b, ..
    }) = &comparison
    {
        for (name, run, switch) in [("first", left, a), ("second", right, b)] {
            let Some(switch) = switch else { continue };
            let near = run.record.captures.iter().filter(|capture| {
                let at = capture.clock_ns.filter(|_| capture.placeholder.is_none());
                at.is_some_and(|at| at.abs_diff(switch.clock_ns) <= NEAR_NS)
            });
            for capture in near {
                let _ = writeln!(
                    text,
                    "the {name} has a capture near it: cargo ktstr show {} --capture {}",
                    run.record.run_id, capture.tag
                );
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use ktstr_record::{CaptureRecord, RunVerdict, Switch, Switches, SwitchesRecord};

    fn run(name: &str, next: u32, kernel: &str, wait: f64) -> Run {
        let record = RunRecord {
            run_id: name.to_owned(),
            ktstr: "0.1.0".to_owned(),
            verdict: RunVerdict::Pass,
            clock: Some(Clock::Virtual),
            mips: Some(250),
            seed: Some(3),
            kernel: Some(kernel.to_owned()),
            digest: Some(name.to_owned()),
            switches: Some(SwitchesRecord {
                count: 2,
                digest: name.to_owned(),
            }),
            stats: serde_json::json!({
                "total_iterations": 40,
                "cgroups": [],
                "ext_metrics": { "max_wait_ms": wait },
                "phases": [{ "label": "Step[0]", "metrics": { "iteration_rate": 2.0 * wait, "same": 1 } }],
            }),
            captures: vec![CaptureRecord {
                tag: "periodic_000".to_owned(),
                clock_ns: Some(2_000_000),
                ..CaptureRecord::default()
            }],
            ..RunRecord::new("two_steps")
        };
        let switch = |clock_ns, next| Switch {
            clock_ns,
            cpu: 0,
            prev: 1,
            next,
        };
        let switches = Switches {
            count: 2,
            first: vec![switch(1_000_000, 2), switch(1_500_000, next)],
        };
        Run {
            record,
            switches: Some(switches),
        }
    }

    #[test]
    fn a_step_that_one_run_lacks_is_named() {
        let metric = |step: &str, name: &str| ((step.to_owned(), name.to_owned()), 1.0);
        let first = [
            metric("", "worst_gap_ms"),
            metric("Step[1]", "schedule_wakeups"),
        ];
        let second = [metric("", "total_workers")];
        let text = side_by_side(&first.into(), &second.into(), false);
        let line = |name: &str| {
            text.lines()
                .find(|line| line.contains(name))
                .expect("a row")
        };
        assert!(line("schedule_wakeups").contains("no step 2"), "{text}");
        assert!(line("worst_gap_ms").contains("not measured"), "{text}");
    }

    #[test]
    fn two_runs_side_by_side() {
        let (a, b) = (run("A", 7, "7.2", 10.0), run("B", 8, "7.3", 15.0));
        insta::assert_snapshot!(text(&a, &b, false), @r"
        first  A: two_steps passed
        second B: two_steps passed
        scheduler: the kernel's own, in both
        kernel:
          first  7.2
          second 7.3
        machine: virtual clock, 250 MIPS, seed 3, in both
        ktstr: 0.1.0, in both

         STEP       METRIC          FIRST  SECOND   CHANGE
         whole run  max_wait_ms        10      15  +50.0 %
         step 1     iteration_rate     20      30  +50.0 %
        2 metrics are the same in both; --all prints them.

        the first context switch is the same, then the runs diverge (tasks by process ID):
          both   at 0.001000000 s on CPU 0: 1 -> 2
          first  at 0.001500000 s on CPU 0: 1 -> 7
          second at 0.001500000 s on CPU 0: 1 -> 8
        the first has a capture near it: cargo ktstr show A --capture periodic_000
        the second has a capture near it: cargo ktstr show B --capture periodic_000
        ");
        assert!(text(&a, &b, true).contains("total_iterations"));
    }

    #[test]
    fn settings_that_change_the_metrics_are_named() {
        let (a, mut b) = (run("A", 7, "7.2", 10.0), run("B", 8, "7.2", 15.0));
        assert!(!text(&a, &b, false).contains("settings:"));
        let turn = ("KTSTR_TURN_US".to_owned(), "50".to_owned());
        b.record.environment.extend([turn]);
        let text = text(&a, &b, false);
        let line = "settings: KTSTR_TURN_US was not set in the first, and 50 in the second;";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn one_run_is_the_same_as_itself_and_the_real_clock_has_no_schedule() {
        let a = run("A", 7, "7.2", 10.0);
        let report = text(&a, &a, false);
        assert!(report.contains("4 metrics are the same"), "{report}");
        assert!(
            report.ends_with("the same run, to the last bit\n"),
            "{report}"
        );
        let mut real = a.clone();
        real.record.clock = Some(Clock::Real);
        assert!(text(&a, &real, false).contains("Only runs under the virtual clock"));
    }
}
