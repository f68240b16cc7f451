//! Tests of programs of the host that run in the guest as load, in the foreground and by operations: they are in the right
//! cgroup, their metrics are in the record, their exit is checked, and none of them is left at the end.

use std::time::{Duration, Instant};

use crate::common::Case;
use anyhow::{Context, Result, ensure};
use ktstr::prelude::*;

const TWO_CPUS: Topology = Topology::new(1, 1, 2, 1);
const MS: Duration = Duration::from_millis(1);

// block
#[derive(Payload)]
#[payload(binary = "sh", name = "shell", output = Json)]
#[default_args("-c")]
#[metric(name = "score", polarity = HigherBetter, unit = "points")]
#[include_files("sleep", "setsid")]
struct ShellPayload; // const SHELL: Payload
// end

/// The program of [`SHELL`] under another name.
const LOAD: Payload = Payload::binary("load", "sh").with_default_args(&["-c"]);
const UNDECLARED: Payload = Payload::binary("undeclared", "cat");

// block
#[ktstr_test(cores = 2, duration_s = 5, payload = SHELL)]
fn runs_a_program(ctx: &Ctx) -> Result<AssertResult> {
    ctx.cgroups.create_cgroup("box")?;
    let (result, left) = ctx
        .payload(&SHELL)
        .arg("echo '{\"score\": 5}'")
        .in_cgroup("box")
        .check(MetricCheck::min("score", 5.0))
        .run()?;
    println!(
        "{:?} in {} ns of CPU time",
        left.get("score"),
        left.cpu_time_ns
    );
    Ok(result)
}
// end

#[test]
fn the_code_of_the_page_is_the_code_that_runs() {
    fn between<'a>(text: &'a str, open: &str, close: &str) -> Vec<&'a str> {
        let starts = text.split(open).skip(1);
        let up_to = |rest: &'a str| rest.split(close).next().unwrap_or(rest);
        starts.map(up_to).collect()
    }
    let page = include_str!("../../../../docs/guide/payloads.md");
    let printed = between(page, "\n```rust\n", "\n```\n");
    let run = between(
        include_str!("payload_runs.rs"),
        "\n// block\n",
        "\n// end\n",
    );
    assert_eq!(printed.len(), 2);
    assert_eq!(
        printed, run,
        "left: docs/guide/payloads.md; right: this file"
    );
}

/// A shell loop that takes some CPU time and prints the number of iterations.
const WORK: &str = "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done; echo \"{\\\"score\\\": $i}\"";

/// `sh` is in its cgroup before its first instruction, its numbers become metrics, and its exit code is checked.
#[ktstr_test(cores = 2, duration_s = 5, payload = SHELL, workloads = [LOAD], post_vm = is_recorded)]
fn a_program_of_the_host_runs_in_a_cgroup(ctx: &Ctx) -> Result<AssertResult> {
    ctx.cgroups.create_cgroup("box")?;
    let script = format!("read where < /proc/self/cgroup; echo $where; {WORK}");
    let (mut all, left) = ctx
        .payload(&SHELL)
        .arg(script)
        .in_cgroup("box")
        .check(MetricCheck::range("score", 2_000.0, 2_000.0))
        .run()?;
    ensure!(all.is_pass(), "{:?}", all.outcomes);
    ensure!(all.passes.len() == 2, "{:?}", all.passes);
    ensure!(
        left.stdout.text.starts_with("0::/ktstr/box\n"),
        "{}",
        left.stdout.text
    );
    ensure!(
        left.cpu_time_ns > 0 && left.cpu_time_ns <= left.elapsed_ns,
        "{left:?}"
    );
    ctx.cgroups
        .remove_cgroup("box")
        .context("the cgroup should have no process any more")?;

    let (failed, left) = ctx.payload(&LOAD).arg("echo why >&2; exit 3").run()?;
    ensure!(left.exit_code == 3 && failed.is_fail(), "{failed:?}");
    let (meant, _) = ctx
        .payload(&LOAD)
        .arg("exit 3")
        .check(MetricCheck::exit_code_eq(3))
        .run()?;
    ensure!(meant.is_pass(), "{:?}", meant.outcomes);
    all.merge(meant);
    let missing = ctx
        .payload(&UNDECLARED)
        .run()
        .err()
        .context("the undeclared payload was run")?;
    let missing = format!("{missing:#}");
    ensure!(
        missing.contains("name the payload in the test's `payload`"),
        "{missing}"
    );
    Ok(all)
}

/// Checks that the output of the guest's program is a metric of the run.
fn is_recorded(vm: &VmResult) -> Result<()> {
    ensure!(
        vm.run_metric("score") == Some(2_000.0),
        "{:?}",
        vm.run_metric("score")
    );
    ensure!(vm.run_metric("nothing").is_none());
    Ok(())
}

/// Returns the number of live processes of the guest with this name. A process that is exiting does not count, because PID 1
/// may take a while to reap it.
fn named(name: &str) -> usize {
    /// `PF_EXITING` in include/linux/sched.h.
    const EXITING: u64 = 4;
    let list = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let stats = list.map(|entry| std::fs::read_to_string(entry.path().join("stat")));
    // The file begins with the pid, the name in parentheses, the state, five numbers, and the flags.
    let lives = |stat: &String| {
        let after = stat.split_once(&format!(" ({name}) "));
        let flags = after.and_then(|(_, rest)| rest.split(' ').nth(6)?.parse::<u64>().ok());
        flags.is_some_and(|flags| flags & EXITING == 0)
    };
    stats.flatten().filter(lives).count()
}

case!(
    OPERATIONS = "payload_operations",
    operations,
    topology: TWO_CPUS,
    duration: Duration::from_secs(4),
    payload: Some(&SHELL),
    workloads: &[&LOAD],
);

/// A script with two sleeping processes, one of which is a daemon in a process group and a session of its own.
const DAEMON: &str = "setsid sleep 700 & sleep 701";

/// A program that runs next to the workers ends with its step, with all of its children. If a step waits for a program, the
/// program's exit code and metrics are checked.
fn operations(ctx: &Ctx) -> Result<AssertResult> {
    const SLEEPER: Payload = Payload::binary("sleeper", "sh").with_default_args(&["-c", DAEMON]);
    static FOUND: std::sync::Mutex<Vec<usize>> = std::sync::Mutex::new(Vec::new());
    fn look(_: &Ctx) -> Vec<CgroupDef> {
        let mut found = FOUND.lock().expect("nobody panics with it");
        // The shells of the backdrop start their sleepers as soon as the scheduler lets them.
        let until = Instant::now() + Duration::from_secs(5);
        while found.is_empty() && named("sleep") < 2 && Instant::now() < until {
            std::thread::sleep(MS);
        }
        found.push(named("sleep"));
        Vec::new()
    }
    let looking = || Step {
        setup: Setup::with_factory(look),
        ops: vec![],
        hold: HoldSpec::fixed(Duration::ZERO),
    };
    let backdrop = Backdrop::new()
        .push_cgroup(CgroupDef::named("base").workers(1))
        .push_payload(&SLEEPER);
    let result = execute_scenario(
        ctx,
        backdrop,
        vec![
            // The backdrop has two sleeping processes, and so has this step.
            Step::with_defs(
                vec![CgroupDef::named("own").workload(&SLEEPER)],
                HoldSpec::fixed(100 * MS),
            ),
            looking(),
            Step::new(
                vec![
                    Op::run_payload_in_cgroup(&SHELL, vec![WORK.to_owned()], "base"),
                    Op::wait_payload_in_cgroup("shell", "base"),
                    Op::run_payload(&SHELL, vec!["exec sleep 702".to_owned()]),
                ],
                HoldSpec::fixed(50 * MS),
            ),
            Step::with_op(Op::kill_payload("sleeper"), HoldSpec::fixed(Duration::ZERO)),
            // A program that is killed because its cgroup is removed is not a failure.
            Step::new(
                vec![
                    Op::add_cgroup("gone"),
                    Op::run_payload_in_cgroup(&SHELL, vec!["exec sleep 703".to_owned()], "gone"),
                    Op::kill_cgroup("gone"),
                    Op::run_payload_in_cgroup(&SHELL, vec!["exec sleep 704".to_owned()], "gone"),
                    Op::remove_cgroup("gone"),
                ],
                HoldSpec::fixed(Duration::ZERO),
            ),
            // A program whose cgroup is removed before the workers start is not started.
            Step::new(
                vec![
                    Op::add_cgroup_def(CgroupDef::named("early").workload(&SLEEPER)),
                    Op::remove_cgroup("early"),
                ],
                HoldSpec::fixed(Duration::ZERO),
            ),
            looking(),
        ],
    )?;
    let found = FOUND.lock().expect("nobody panics with it").clone();
    ensure!(
        found == [2, 0],
        "sleepers that were left between the steps: {found:?}"
    );
    ensure!(
        named("sleep") + named("sh") == 0,
        "something outlives the scenario"
    );
    let waited = result
        .stats
        .payloads
        .iter()
        .find(|p| p.payload == "shell" && p.cgroup.is_some());
    let waited = waited.context("it was waited for")?;
    ensure!(waited.get("score") == Some(2_000.0), "{waited:?}");
    let stopped = result
        .stats
        .payloads
        .iter()
        .filter(|p| p.end == PayloadEnd::Stopped);
    ensure!(stopped.count() == 5, "{:?}", result.stats.payloads);

    // Errors of operations fail the step, and name what exists.
    let wrong = execute_steps(
        ctx,
        vec![Step::with_op(Op::wait_payload("nobody"), HoldSpec::FULL)],
    )?;
    let wrong = wrong.failure_details().next().context("it fails")?;
    ensure!(
        wrong.message
            == "step 1 failed: WaitPayload: no payload \"nobody\" is running or waiting to be collected (there are: none)",
        "{wrong}"
    );
    let scheduler = execute_steps(
        ctx,
        vec![Step::with_payload(&Payload::KERNEL_DEFAULT, HoldSpec::FULL)],
    );
    ensure!(scheduler.is_err(), "a scheduler is no load");

    Ok(result)
}

#[test]
fn operations_start_wait_for_and_kill_programs_and_nothing_outlives_the_scenario() {
    let ended = Case::new("payload_operations").run();
    ended.says(0, &[]);
    let record = ended.record.expect("a record").record;
    assert_eq!(record.payload.as_deref(), Some("shell"));
    let waited = record
        .payloads
        .iter()
        .find(|run| run.name == "shell" && run.end == "exited")
        .expect("the run that was waited for");
    assert_eq!(waited.cgroup.as_deref(), Some("base"));
    let metric = &waited.metrics[0];
    assert_eq!(
        (
            metric.name.as_str(),
            metric.value,
            metric.unit.as_str(),
            metric.better.as_str()
        ),
        ("score", 2_000.0, "points", "higher")
    );
    assert!(
        waited.cpu_ms > 0.0 && waited.elapsed_ms >= waited.cpu_ms,
        "{waited:?}"
    );
}

const SCX_KTSTR: Scheduler =
    Scheduler::named("scx_ktstr").binary(SchedulerSpec::Discover("scx-ktstr"));

case!(
    CRASHES = "payload_crashes",
    crashes,
    topology: TWO_CPUS,
    duration: Duration::from_secs(2),
    scheduler: &SCX_KTSTR,
    payload: Some(&LOAD),
);

fn crashes(ctx: &Ctx) -> Result<AssertResult> {
    const CRASH: &str = "echo the last words >&2; kill -11 $$";
    let step = Step {
        setup: vec![CgroupDef::named("a").workers(2)].into(),
        ops: vec![
            Op::run_payload(&LOAD, vec![CRASH.to_owned()]),
            Op::wait_payload("load"),
        ],
        hold: HoldSpec::fixed(200 * MS),
    };
    execute_steps(ctx, vec![step])
}

/// A scheduler is attached, and the crash of the program is not the scheduler's fault.
#[test]
fn a_program_that_crashes_is_the_test_s_fault_and_not_the_scheduler_s() {
    let ended = Case::new("payload_crashes").run();
    ended.says(
        1,
        &[
            "payload `load` was killed by signal 11, which the harness did not send",
            "the last words",
            "fault: the test's (a program that the test runs determines its own",
        ],
    );
    let record = ended.record.expect("a record").record;
    assert_eq!(record.findings[0].check, "payload");
    assert_eq!(record.payloads[0].end, "signaled");
}

macro_rules! presets {
    ($entry:ident = $name:literal, $first:ident$(, $more:ident)*) => {
        case!(
            $entry = $name,
            runs_all,
            topology: TWO_CPUS,
            duration: Duration::from_secs(10),
            payload: Some(&ktstr::payloads::$first),
            workloads: &[$(&ktstr::payloads::$more),*],
        );
    };
}
// The presets, one entry for each package that contains their programs.
presets!(OF_FIO = "payload_fio", FIO);
presets!(OF_RT_TESTS = "payload_rt_tests", HACKBENCH, CYCLICTEST);
presets!(OF_PERF = "payload_perf", PERF_PIPE, PERF_MESSAGING);
presets!(OF_STRESS_NG = "payload_stress_ng", STRESS_NG);
presets!(OF_SYSBENCH = "payload_sysbench", SYSBENCH_CPU);
const PRESET_CASES: &[&KtstrTestEntry] =
    &[&OF_FIO, &OF_RT_TESTS, &OF_PERF, &OF_STRESS_NG, &OF_SYSBENCH];

/// Returns arguments for less work than the preset's default, if possible: it is enough that the program runs and that its output
/// can be parsed.
fn less(preset: &Payload) -> &'static [&'static str] {
    match preset.name {
        "hackbench" | "perf_messaging" => &["-l", "5"],
        "cyclictest" | "perf_pipe" => &["-l", "50"],
        "stress_ng" => &["--cpu-ops", "10"],
        "sysbench_cpu" => &["--events=50"],
        _ => &[],
    }
}

fn runs_all(ctx: &Ctx) -> Result<AssertResult> {
    let entry = ctx
        .entry_name
        .and_then(find_test)
        .context("a test has an entry")?;
    let mut all = AssertResult::pass();
    for preset in entry.payload.iter().chain(entry.workloads) {
        all.merge(
            ctx.payload(preset)
                .args(less(preset).iter().copied())
                .run()?
                .0,
        );
    }
    Ok(all)
}

/// Each preset whose program is installed on the host runs in the guest unmodified, and its output is parsed.
#[test]
fn presets_run_where_their_programs_are_installed() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_here = |preset: &&Payload| {
        let program = preset.program().expect("a program");
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    };
    let mut presets: Vec<&Payload> = Vec::new();
    for entry in PRESET_CASES {
        let all: Vec<&Payload> = entry
            .payload
            .iter()
            .chain(entry.workloads)
            .copied()
            .collect();
        presets.extend(&all);
        if let Some(absent) = all.iter().find(|preset| !is_here(preset)) {
            eprintln!(
                "{}: its program is not installed, so it is not tried",
                absent.name
            );
            continue;
        }
        let name = entry.name.trim_start_matches("__unit_test_");
        let ended = Case::new(name.trim_end_matches("__")).run();
        ended.says(0, &[]);
        let record = ended.record.expect("a record").record;
        for (preset, run) in all.iter().zip(&record.payloads) {
            assert_eq!(run.name, preset.name);
            let known = preset.metrics[0].name;
            let read = run
                .metrics
                .iter()
                .find(|metric| metric.name.starts_with(known));
            assert!(read.is_some_and(|metric| metric.value > 0.0), "{run:?}");
        }
        assert_eq!(record.payloads.len(), all.len());
    }
    assert!(
        ktstr::payloads::PRESETS
            .iter()
            .all(|preset| presets.contains(preset)),
        "a preset is missing from the cases"
    );
}
