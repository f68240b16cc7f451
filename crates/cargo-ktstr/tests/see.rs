//! Makes one failed run on a real kernel, and looks at it with every command that shows a run: as a page, as Markdown, as a
//! trace, in tables, and with the explanation of why a task waited.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "../src/trace/read.rs"]
mod protobuf;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use common::{json, ktstr, text};
use ktstr::prelude::*;
use ktstr::test_support::ClockMode;

const NAME: &str = "__unit_test_seen__";

/// A scheduler that stops dispatching after a second, and is then ejected by the kernel.
const STALLS: Scheduler = Scheduler::named("stalls")
    .binary(SchedulerSpec::Discover("scx-ktstr"))
    .sched_args(&["--stall-after", "1"]);

#[distributed_slice(KTSTR_TESTS)]
#[linkme(crate = ktstr::linkme)]
static SEEN: KtstrTestEntry = KtstrTestEntry {
    name: NAME,
    func: seen,
    topology: Topology::new(1, 1, 2, 1),
    duration: Duration::from_secs(4),
    watchdog_timeout: Duration::from_secs(1),
    num_snapshots: 8,
    scheduler: &STALLS,
    clock: ClockMode::Virtual,
    ..KtstrTestEntry::DEFAULT
};

fn seen(ctx: &Ctx) -> Result<AssertResult> {
    let cgroup = |name| CgroupDef::named(name).workers(3);
    execute_defs(ctx, vec![cgroup("left"), cgroup("right")])
}

/// Runs a command, which must succeed, and returns its output.
#[track_caller]
fn printed(root: &Path, arguments: &[&str]) -> String {
    let output = ktstr(root, arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_failed_run_is_seen_in_every_way() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let summary = root.join("summary.md");
    let own = std::env::current_exe().unwrap();
    let own = own.to_str().unwrap();
    let explored = ktstr(
        root,
        &[
            "explore", NAME, "--binary", own, "--seeds", "1..2", "--json",
        ],
    )
    .env("GITHUB_STEP_SUMMARY", &summary)
    // With cargo's variables the run would count as a run of `cargo test`, and name another command that repeats it.
    .env_remove("CARGO_PKG_NAME")
    .output()
    .unwrap();
    let found = json(&explored);
    assert_eq!(
        found["verdicts"],
        serde_json::json!({ "fail": 1 }),
        "{}",
        text(&explored)
    );
    let record = Path::new(found["first_failure"]["record"].as_str().unwrap());
    let run = record
        .parent()
        .unwrap()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap();

    block(root, run, &summary);
    page(root, run);
    let (sums, worker) = tables(root, run);
    trace(root, run, &sums);
    answer(root, run, &worker);
    captures(root, run, &worker);
    let replayed = replay(root, run);
    several(root, run, &replayed);
}

/// Checks the block to paste into an issue, and the same block on the page of the CI job.
fn block(root: &Path, run: &str, summary: &Path) {
    let block = printed(root, &["show", run, "--markdown"]);
    for part in [
        "failed, the scheduler's fault\n",
        "--stall-after 1",
        "| kernel | ",
        ", QEMU ",
        "BLAKE3 ",
        "scx\\_exit.json",
        "triggered exit kind 1026",
        "then no event of the task for ",
    ] {
        assert!(block.contains(part), "no {part:?} in\n{block}");
    }
    let again = format!("cargo ktstr replay {run}\n");
    assert!(block.contains(&again), "{again:?} is not in\n{block}");
    let appended = std::fs::read_to_string(summary).unwrap();
    assert_eq!(appended, format!("{block}\n"));
}

fn page(root: &Path, run: &str) {
    let path = printed(root, &["report", run]);
    let path = Path::new(path.trim_end());
    assert_eq!(path, root.join(run).join("report.html"));
    let page = std::fs::read_to_string(path).unwrap();
    for part in [
        "class=\"verdict fail\"",
        "data-mark=\"0\"",
        "nr_dispatched (bpf_bpf.bss)",
        "/ktstr/left",
        "runnable task stall",
        "<h2>Trail</h2><pre>",
        "then no event of the task for ",
    ] {
        assert!(page.contains(part), "no {part:?} in the page");
    }
    assert!(page.len() < 2 << 20, "{} bytes", page.len());
    let (_, data) = page.split_once("id=\"data\">").unwrap();
    let (data, _) = data.split_once("</script>").unwrap();
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["cpus"].as_array().unwrap().len(), 2);
    assert!(data["count"].as_u64().unwrap() > 100, "{}", data["count"]);
    let marks = data["marks"].as_array().unwrap();
    let unloads = "the BPF scheduler is being unloaded";
    assert!(
        marks.iter().any(|mark| mark["text"] == unloads),
        "{marks:?}"
    );
    let captured = "capture scx_exit: sched_ext starts to disable the scheduler";
    assert!(
        marks.iter().any(|mark| mark["text"] == captured),
        "{marks:?}"
    );
    let elsewhere = root.join("elsewhere.html");
    printed(
        root,
        &["report", run, "--output", elsewhere.to_str().unwrap()],
    );
    assert_eq!(std::fs::read_to_string(elsewhere).unwrap(), page);
}

/// Checks the tables, and returns the CPU time of each task in nanoseconds and the pid of a worker.
fn tables(root: &Path, run: &str) -> (BTreeMap<u64, u64>, String) {
    let latency = printed(root, &["schedule", run, "--latency"]);
    assert!(
        latency.contains("MAX WAIT MS") && latency.lines().count() > 10,
        "{latency}"
    );
    let map = printed(root, &["schedule", run, "--map", "--phase", "1"]);
    assert!(
        map.lines().count() > 50 && map.lines().all(|line| line.contains('*')),
        "{map}"
    );
    let summary = printed(root, &["schedule", run, "--json"]);
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    let tasks = || summary["tasks"].as_array().unwrap().iter();
    let number = |task: &serde_json::Value, name: &str| task[name].as_u64().unwrap();
    let sums = tasks().map(|task| (number(task, "pid"), number(task, "run_ns")));
    let is_worker = |task: &&serde_json::Value| {
        let cgroups = task["cgroups"].as_array().unwrap();
        cgroups
            .iter()
            .any(|path| path.as_str().unwrap().ends_with("/left"))
    };
    let worker = tasks().find(is_worker).unwrap();
    (sums.collect(), number(worker, "pid").to_string())
}

/// Checks that the trace has each task's CPU time to the nanosecond.
fn trace(root: &Path, run: &str, sums: &BTreeMap<u64, u64>) {
    let path = printed(root, &["trace", run, "--perfetto"]);
    let trace = std::fs::read(path.trim_end()).unwrap();
    let traced = protobuf::cpu_time(&trace);
    assert!(traced.len() > 10, "{traced:?}");
    let booked = sums
        .iter()
        .filter(|(_, ns)| **ns > 0)
        .map(|(pid, ns)| (*pid, *ns));
    assert_eq!(traced, booked.collect());
    let last = root.join("last.pftrace");
    printed(
        root,
        &[
            "trace",
            run,
            "--perfetto",
            "--last",
            "500ms",
            "--output",
            last.to_str().unwrap(),
        ],
    );
    let traced: u64 = protobuf::cpu_time(&std::fs::read(&last).unwrap())
        .values()
        .sum();
    assert!(
        0 < traced && traced <= 2 * 500_000_000,
        "{traced} ns on two CPUs in half a second"
    );
    let before = [
        "trace",
        run,
        "--perfetto",
        "--last",
        "100ms-before-finding",
        "--output",
        last.to_str().unwrap(),
    ];
    let output = ktstr(root, &before).output().unwrap();
    if output.status.success() {
        let traced = protobuf::cpu_time(&std::fs::read(last).unwrap());
        let traced: u64 = traced.values().sum();
        assert!(traced <= 2 * 100_000_000, "{traced} ns on two CPUs");
    } else {
        // Which finding comes first depends on the schedule. A finding about a whole step or run has no moment.
        let report = text(&output);
        assert!(report.contains("not about a moment"), "{report}");
    }
}

/// Checks the explanation of a worker's longest wait. Every worker had to wait, because the scheduler stopped dispatching.
fn answer(root: &Path, run: &str, worker: &str) {
    let why = printed(root, &["why", run, worker]);
    for part in [
        " waited for ",
        "The task was allowed on CPUs 0-1; the machine has 2 CPUs.",
        "\nCPU 0:\n",
        "\nCPU 1:\n",
        "\nIt was in ",
    ] {
        assert!(why.contains(part), "no {part:?} in\n{why}");
    }
    let nobody = ktstr(root, &["why", run, "nobody"]).output().unwrap();
    assert_eq!(nobody.status.code(), Some(1), "{}", text(&nobody));
    assert!(
        text(&nobody).contains("no task has the pid `nobody`"),
        "{}",
        text(&nobody)
    );
}

/// Checks the capture at the ejection of the scheduler, which shows the worker in a queue or on a CPU.
fn captures(root: &Path, run: &str, worker: &str) {
    let shown = printed(root, &["show", run]);
    for part in [
        "\ntrail: ",
        "\ncaptures: ",
        ": sched_ext starts to disable the scheduler\n",
        "\ncapture scx_exit at ",
        "\ncapture scx_bypass at ",
    ] {
        assert!(shown.contains(part), "no {part:?} in\n{shown}");
    }
    let capture = printed(root, &["show", run, "--capture", "scx_exit"]);
    for part in [
        "sched_ext: ktstr, enabled, exit kind SCX_EXIT_NONE",
        "\nCPU 1: runs ",
        "stall=1",
    ] {
        assert!(capture.contains(part), "no {part:?} in\n{capture}");
    }
    let waits = format!("[{worker}], vtime ");
    let runs = format!("[{worker}], ");
    assert!(
        capture.contains(&waits) || capture.contains(&runs),
        "{worker} is nowhere in\n{capture}"
    );
    let why = printed(root, &["why", run, worker]);
    assert!(
        why.contains("\nIn the capture ") && why.contains(" it was "),
        "{why}"
    );
    let missing = ktstr(root, &["show", run, "--capture", "nothing"])
        .output()
        .unwrap();
    assert!(
        !missing.status.success() && text(&missing).contains("scx_exit"),
        "{}",
        text(&missing)
    );
}

/// Replays the run with captures at two times, and returns the name of the new run.
fn replay(root: &Path, run: &str) -> String {
    let report = printed(
        root,
        &[
            "replay",
            run,
            "--capture-at",
            "1.5s",
            "--capture-at",
            "500ms",
        ],
    );
    assert!(
        report.starts_with(
            "SAME: the verdict of the recorded run is fail, and that of the replay fail; both made "
        ),
        "{report}"
    );
    let (_, path) = report.split_once("replayed: ").unwrap();
    let path = Path::new(path.lines().next().unwrap());
    let record = ktstr_record::read(path).unwrap();
    let asked: Vec<_> = record
        .captures
        .iter()
        .filter(|capture| capture.moment == Some(CaptureMoment::Asked))
        .collect();
    let ms: Vec<u64> = asked
        .iter()
        .map(|capture| capture.elapsed_ms.unwrap())
        .collect();
    // A capture is taken at the first event of the schedule at the requested time or later, and a running CPU has a tick at least
    // every 4 ms. The elapsed time in the record comes from the guest's timer, which may be a tick behind.
    for (ms, wanted) in ms.iter().zip([500, 1500]) {
        assert!(ms.abs_diff(wanted) < 100, "{ms:?}");
    }
    for tag in ["chosen_time", "chosen_time_2"] {
        let command = format!(
            "captured: cargo ktstr show {} --capture {tag}\n",
            record.run_id
        );
        assert!(report.contains(&command), "no {command:?} in {report}");
        let shown = printed(root, &["show", &record.run_id, "--capture", tag]);
        assert!(shown.contains("\nCPU 0: runs "), "{shown}");
    }
    let late = ktstr(root, &["replay", run, "--capture-at", "1000s"])
        .output()
        .unwrap();
    assert!(
        text(&late).contains("there is nothing to capture at 1000.0"),
        "{}",
        text(&late)
    );
    record.run_id
}

/// Compares two runs with the same seed, and selects and removes runs.
fn several(root: &Path, run: &str, replayed: &str) {
    let report = printed(root, &["diff", run, replayed]);
    assert!(
        report.ends_with("the same run, to the last bit\n"),
        "{report}"
    );
    let listed = |more: &[&str]| {
        let runs = printed(root, &[&["runs", "--json"][..], more].concat());
        let runs: serde_json::Value = serde_json::from_str(&runs).unwrap();
        runs.as_array().unwrap().len()
    };
    assert_eq!(
        listed(&["--test", "seen", "--verdict", "fail", "--since", "1d"]),
        2
    );
    assert_eq!(listed(&["--verdict", "pass"]), 0);
    let cleaned = printed(root, &["runs", "--clean", "0", "--verdict", "pass"]);
    assert!(cleaned.starts_with("removed 0 runs"), "{cleaned}");
    let cleaned = printed(root, &["runs", "--clean", "0"]);
    assert!(cleaned.starts_with("removed 2 runs of "), "{cleaned}");
    assert_eq!(listed(&[]), 0);
}
