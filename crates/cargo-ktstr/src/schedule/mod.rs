//! `cargo ktstr schedule`: summarizes the schedule of a recorded run for each task and each CPU, or lists its stretches
//! (`--timehist`), its tasks (`--latency`) or its switches (`--map`).

mod latency;
mod map;
mod timehist;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ktstr_record::runs_root;
use ktstr_record::terminal::eprint_line;
use ktstr_schedule::query::{Answers, Idle, Timeline, Totals, Wait, percentile};
use ktstr_schedule::words::complete_only;
use ktstr_schedule::{Cpu, Pid, Schedule};
use serde::Serialize;

use crate::exit::Exit;
use crate::json::{self, Limit};
use crate::replay;
use crate::story::{self, Story};
use crate::table::numbers;

/// The smallest difference of times that the tables show, in nanoseconds.
const SHOWN_NS: u64 = 100_000;
/// The largest number of task names that are listed if no task matches.
const NAMES: usize = 20;

/// The options of `cargo ktstr schedule`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The run: its name or the start of it, as `cargo ktstr runs` lists it, or the path of its folder or of its `record.json`.
    #[arg(value_name = "RUN")]
    record: PathBuf,
    /// Only the task with this pid, or tasks whose name contains this text.
    #[arg(long, value_name = "X")]
    task: Option<String>,
    /// Only step N of the scenario, from when the step has been set up until it ends. Steps count from 1, as in `[step 1]` of a
    /// failure report; records and metrics count from 0 and call step 1 `Step[0]`.
    #[arg(long, value_name = "N")]
    phase: Option<u16>,
    /// Print a line for each time that a task left a CPU: how long it had slept, then waited, and then run.
    #[arg(long, conflicts_with = "json")]
    timehist: bool,
    /// Print a line per task: CPU time, switches, the average wait, and the longest wait, with its start and end.
    #[arg(long, conflicts_with_all = ["json", "timehist"])]
    latency: bool,
    /// Print a line for each context switch, with the task on each CPU after the switch.
    #[arg(long, conflicts_with_all = ["json", "timehist", "latency"])]
    map: bool,
    /// Print a JSON object instead of tables.
    #[arg(long)]
    json: bool,
    /// How much of a long list and of a long text the JSON contains.
    #[command(flatten)]
    limit: Limit,
}

/// The summary of one task: its sums, the number of its waits, and their median, 99th percentile and largest length.
#[derive(Debug, Serialize)]
struct Task {
    pid: u32,
    name: Option<String>,
    cgroups: Vec<String>,
    #[serde(flatten)]
    totals: Totals,
    waits: usize,
    wait_p50_ns: Option<u64>,
    wait_p99_ns: Option<u64>,
    wait_max_ns: Option<u64>,
}

/// The summary of one CPU.
#[derive(Debug, Serialize)]
struct OneCpu {
    cpu: u16,
    run_ns: u64,
    #[serde(flatten)]
    idle: Idle,
}

/// The summary of a recorded schedule: its tasks, its CPUs, and what the recording lacks.
#[derive(Debug, Serialize)]
struct Summary {
    tasks: Vec<Task>,
    cpus: Vec<OneCpu>,
    /// Whether the schedule shows the affinities of tasks. If it does not, `wasted_ns` and the CPUs' `beside_waiter_ns` are 0.
    exact: bool,
    wasted_ns: u64,
    /// The start and, in the next field, the end of the interval in which no event is missing, in nanoseconds since the start of
    /// the first step. All values are about this interval.
    complete_from_ns: i64,
    complete_to_ns: i64,
    missing_ns: u64,
    missing_functions: Vec<String>,
    unreadable: u64,
}

/// The note about a schedule of a run under the real clock.
pub const TRACEPOINTS: &str = "The run was under the real clock, so this is what the kernel's tracepoints show: no affinities, no dispatch \
                               queues, not whether a task is in the class of sched_ext, and no quotas: a task whose cgroup is \
                               out of quota seems to wait.";

/// Prints the summary of a recorded schedule, or the listing that the options select.
pub fn run(out: &mut dyn Write, options: &Options) -> Result<Exit> {
    let record = replay::find(&options.record, &runs_root())?;
    let (path, file) = story::bytes(&record)?;
    let schedule = Schedule::read(&file).with_context(|| path.display().to_string())?;
    let answers = Answers::of(&schedule).with_context(|| path.display().to_string())?;
    let timeline = Timeline::of(&schedule).with_context(|| path.display().to_string())?;
    if let Some(step) = options.phase
        && !timeline.held.iter().any(|held| held.number == step)
    {
        eprint_line(&format!("error: {}", no_step(step, &timeline)));
        return Ok(Exit::Failed);
    }
    let (zero_ns, to_ns) = (timeline.zero_ns(), timeline.to_ns());
    let covers = answers.complete_from_ns;
    let covers = covers.map(|from_ns| complete_only(from_ns, to_ns, zero_ns));
    let mut summary = summarise(&schedule, &answers, &timeline, options);
    let all = std::mem::take(&mut summary.tasks);
    if let Some(wanted) = &options.task
        && !all.iter().any(|task| is(task, wanted))
    {
        let why = no_task(wanted, &all, &path, options.phase);
        let covers = covers.map_or_else(String::new, |covers| format!(". {covers}"));
        eprint_line(&format!("error: {why}{covers}"));
        return Ok(Exit::Failed);
    }
    let chosen = |task: &Task| options.task.as_ref().is_none_or(|wanted| is(task, wanted));
    summary.tasks = all.into_iter().filter(chosen).collect();
    let chosen: BTreeSet<u32> = summary.tasks.iter().map(|task| task.pid).collect();
    let wanted = |pid: Pid| chosen.contains(&pid.0);
    if options.latency || options.map || options.timehist {
        let story = Story::read(&file).with_context(|| path.display().to_string())?;
        if let Some(covers) = covers {
            writeln!(out, "{covers}\n")?;
        }
        if options.map {
            map::print(out, &schedule, &story, options.phase, wanted)?;
        } else if options.latency {
            latency::print(out, &story, options.phase, wanted)?;
        } else {
            let name = |pid: Pid| {
                let info = answers.tasks.get(&pid);
                info.and_then(|info| info.name()).unwrap_or("-").to_owned()
            };
            timehist::print(out, &schedule, &story, options.phase, name, wanted)?;
        }
        return Ok(Exit::Done);
    }
    if options.json {
        json::print(out, &summary, options.limit)?;
    } else {
        print(out, &summary, options.phase)?;
        if let Some(covers) = covers {
            writeln!(out, "{covers}")?;
        }
    }
    Ok(Exit::Done)
}

fn summarise(
    schedule: &Schedule<'_>,
    answers: &Answers,
    timeline: &Timeline,
    options: &Options,
) -> Summary {
    let since_zero = |ns: u64| {
        let since = i128::from(ns) - i128::from(timeline.zero_ns());
        i64::try_from(since).unwrap_or(if since < 0 { i64::MIN } else { i64::MAX })
    };
    let start_ns = timeline.ends_ns.map_or(0, |(from, _)| from);
    let tables = schedule.tables();
    let in_phase = |phase| options.phase.is_none() || phase == options.phase;
    let pids: BTreeSet<Pid> = answers.totals.keys().map(|key| key.task).collect();
    let mut tasks: Vec<Task> = pids
        .into_iter()
        .map(|pid| {
            let info = answers.tasks.get(&pid);
            let waits = answers.waits_of(options.phase);
            let waits = waits.filter(|wait| wait.task == pid);
            let mut waits: Vec<u64> = waits.map(Wait::len_ns).collect();
            waits.sort_unstable();
            let cgroups = info.map_or(&[][..], |info| &info.cgroups);
            let paths = cgroups.iter().map(|id| match tables.cgroups.get(id) {
                Some(cgroup) => cgroup.path.clone(),
                None => format!("cgroup {id}"),
            });
            Task {
                pid: pid.0,
                name: info.and_then(|info| info.name()).map(str::to_owned),
                cgroups: paths.collect(),
                totals: answers.sum(|key| key.task == pid && in_phase(key.phase)),
                waits: waits.len(),
                wait_p50_ns: percentile(&waits, 50.0),
                wait_p99_ns: percentile(&waits, 99.0),
                wait_max_ns: waits.last().copied(),
            }
        })
        .filter(|task| task.totals != Totals::default())
        .collect();
    tasks.sort_by_key(|task| (std::cmp::Reverse(task.totals.run_ns), task.pid));
    let cpus = (0..tables.topology.llc.len() as u16)
        .map(|cpu| {
            let idle = answers.idle.iter();
            let idle = idle.filter(|((phase, on), _)| *on == Cpu(cpu) && in_phase(*phase));
            OneCpu {
                cpu,
                run_ns: answers
                    .sum(|key| key.cpu == Cpu(cpu) && in_phase(key.phase))
                    .run_ns,
                idle: idle.fold(Idle::default(), |sum, (_, idle)| Idle {
                    idle_ns: sum.idle_ns + idle.idle_ns,
                    beside_waiter_ns: sum.beside_waiter_ns + idle.beside_waiter_ns,
                }),
            }
        })
        .collect();
    let wasted = answers.wasted_ns.iter();
    Summary {
        tasks,
        cpus,
        exact: tables.source.is_exact(),
        wasted_ns: wasted
            .filter(|(phase, _)| in_phase(**phase))
            .map(|(_, ns)| ns)
            .sum(),
        complete_from_ns: since_zero(answers.complete_from_ns.unwrap_or(start_ns)),
        complete_to_ns: since_zero(timeline.to_ns()),
        missing_ns: answers.missing_ns,
        missing_functions: tables.missing.clone(),
        unreadable: tables.unreadable,
    }
}

/// Returns the error message for a step that the run does not have, with the range of the steps that it has.
fn no_step(step: u16, timeline: &Timeline) -> String {
    let steps = timeline.held.iter().map(|held| held.number);
    match (steps.clone().min(), steps.max()) {
        (Some(first), Some(last)) if first == last => {
            format!("there is no step {step}: the run has only step {first}")
        }
        (Some(first), Some(last)) => {
            format!("there is no step {step}: the run has the steps {first} to {last}")
        }
        _ => format!("there is no step {step}: the run has no steps"),
    }
}

fn is(task: &Task, wanted: &str) -> bool {
    wanted.parse() == Ok(task.pid) || task.name.as_ref().is_some_and(|name| name.contains(wanted))
}

/// Returns the message that no task matches, with up to [`NAMES`] names of tasks, the task that ran longest first.
fn no_task(wanted: &str, tasks: &[Task], path: &Path, phase: Option<u16>) -> String {
    let mut names: Vec<String> = Vec::new();
    for task in tasks {
        let name = match &task.name {
            Some(name) => escape(name),
            None => task.pid.to_string(),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let more = names.len().saturating_sub(NAMES);
    names.truncate(NAMES);
    let names = match (names.is_empty(), more) {
        (true, _) => "no task did anything".to_owned(),
        (false, 0) => format!("there are {}", names.join(", ")),
        (false, more) => format!("there are {} and {more} more", names.join(", ")),
    };
    let when = phase.map_or(String::new(), |phase| format!(" in step {phase}"));
    let wanted = escape(wanted);
    format!("no task `{wanted}`{when} in {}; {names}", path.display())
}

fn print(out: &mut dyn Write, summary: &Summary, phase: Option<u16>) -> Result<()> {
    let header = [
        "TASK",
        "PID",
        "CGROUP",
        "RAN MS",
        "WAITED MS",
        "WAITS",
        "WAIT P50 MS",
        "WAIT P99 MS",
        "WAIT MAX MS",
        "SLEEPS",
        "PREEMPTED",
        "YIELDS",
        "MIGRATED",
    ];
    let mut table = numbers(&header, 3);
    for task in &summary.tasks {
        let totals = &task.totals;
        let wait = |ns: Option<u64>| {
            ns.map_or_else(|| "-".to_owned(), |ns| format!("{:.3}", ns as f64 / 1e6))
        };
        table.add_row([
            escape(task.name.as_deref().unwrap_or("-")),
            task.pid.to_string(),
            escape(task.cgroups.last().map_or("-", String::as_str)),
            ms(totals.run_ns),
            ms(totals.wait_ns),
            task.waits.to_string(),
            wait(task.wait_p50_ns),
            wait(task.wait_p99_ns),
            wait(task.wait_max_ns),
            totals.slept.to_string(),
            totals.preempted.to_string(),
            totals.yielded.to_string(),
            totals.migrations.to_string(),
        ]);
    }
    writeln!(out, "{}\n", table.trim_fmt())?;
    let columns = match summary.exact {
        true => 4,
        false => 3,
    };
    let header = ["CPU", "BUSY MS", "IDLE MS", "IDLE MS WHILE TASKS WAITED"];
    let mut table = numbers(&header[..columns], 0);
    for cpu in &summary.cpus {
        let row = [
            cpu.cpu.to_string(),
            ms(cpu.run_ns),
            ms(cpu.idle.idle_ns),
            ms(cpu.idle.beside_waiter_ns),
        ];
        table.add_row(row.into_iter().take(columns));
    }
    writeln!(out, "{}\n", table.trim_fmt())?;
    let beside = summary.cpus.iter().map(|cpu| cpu.idle.beside_waiter_ns);
    writeln!(
        out,
        "The schedule is complete from {:.6} s to {:.6} s of guest time; 0 is the start of the first step.",
        summary.complete_from_ns as f64 / 1e9,
        summary.complete_to_ns as f64 / 1e9
    )?;
    match phase {
        Some(step) => writeln!(out, "The tables show step {step}.")?,
        None => writeln!(
            out,
            "The tables cover that whole time, including the time before, between and after the steps; --phase N shows only step N."
        )?,
    }
    // A task can use only one of the CPUs that are idle at the same time, but counts as waiting beside each of them.
    let less = match summary.wasted_ns + SHOWN_NS < beside.fold(0, u64::saturating_add) {
        true => ", less than the last column's sum, because a task uses one CPU at a time",
        false => "",
    };
    match summary.exact {
        true => writeln!(
            out,
            "Waiting tasks could have used {} ms of idle CPU time{less}.",
            ms(summary.wasted_ns)
        )?,
        false => writeln!(out, "{TRACEPOINTS}")?,
    }
    if summary.unreadable != 0 {
        writeln!(
            out,
            "{} words of guest memory could not be read.",
            summary.unreadable
        )?;
    }
    if !summary.missing_functions.is_empty() {
        let names = summary.missing_functions.join(", ");
        writeln!(
            out,
            "This kernel lacks {names}, so the events that they would show are missing."
        )?;
    }
    Ok(())
}

fn ms(ns: u64) -> String {
    format!("{:.1}", ns as f64 / 1e6)
}

/// Escapes a name from the guest, so that the terminal does not interpret it.
fn escape(text: &str) -> String {
    text.escape_debug().to_string()
}
