//! `replay`, `explore` and `show-thresholds` from the command line, on tests of this binary.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{json, ktstr, text};
use ktstr::prelude::*;
use ktstr_record::{SWITCHES_FILE, Switches};
use rustix::process::{Pid, Signal, kill_process};

/// Registers an entry whose name excludes it from every listing.
macro_rules! hidden {
    ($entry:ident = $name:literal, $func:expr, $secs:literal) => {
        #[distributed_slice(KTSTR_TESTS)]
        #[linkme(crate = ktstr::linkme)]
        static $entry: KtstrTestEntry = KtstrTestEntry {
            name: concat!("__unit_test_", $name, "__"),
            func: $func,
            topology: Topology::new(1, 1, 1, 1),
            duration: Duration::from_secs($secs),
            ..KtstrTestEntry::DEFAULT
        };
    };
}

hidden!(PICKY = "picky", picky, 1);
hidden!(WAITS = "waits", waits, 600);

/// Fails with seed 2 only.
fn picky(ctx: &Ctx) -> Result<AssertResult> {
    anyhow::ensure!(ctx.seed != 2, "seed 2 is not to its taste");
    Ok(AssertResult::pass())
}

fn waits(_: &Ctx) -> Result<AssertResult> {
    let began = Instant::now();
    // The loop is busy, so that the virtual clock does not jump to the end.
    while began.elapsed() < Duration::from_secs(500) {}
    Ok(AssertResult::pass())
}

fn explore(root: &Path, test: &str, arguments: &[&str]) -> Command {
    let own = std::env::current_exe().unwrap();
    let mut command = ktstr(root, &["explore", test, "--binary", own.to_str().unwrap()]);
    command.args(arguments);
    command
}

#[test]
fn the_bounds_of_a_test_are_shown_with_who_set_them() {
    let root = tempfile::tempdir().unwrap();
    let own = std::env::current_exe().unwrap();
    let show = |test: &str| {
        let words = ["show-thresholds", test, "--binary", own.to_str().unwrap()];
        ktstr(root.path(), &words).output().unwrap()
    };
    let output = show("__unit_test_picky__");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let printed = text(&output);
    let words: Vec<&str> = printed.lines().next().unwrap().split_whitespace().collect();
    // The first line is about the first bound in alphabetical order, which still has its default.
    let owed = [
        "max_owed_ms",
        "50.0",
        "ktstr,",
        "with",
        "an",
        "exact",
        "schedule",
    ];
    assert_eq!(words, owed, "{printed}");
    assert_eq!(printed.lines().count(), 7, "{printed}");
    let none = show("none");
    assert_eq!(none.status.code(), Some(2), "{}", text(&none));
    assert!(text(&none).contains("there is no test `ktstr/none` in this binary"));
}

/// Replays `record`, checks the exit code, and returns the output.
#[track_caller]
fn replayed(root: &Path, record: &Path, code: i32) -> String {
    let output = ktstr(root, &["replay", record.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(code), "{}", text(&output));
    text(&output)
}

/// Checks that a query for a task that is not in the schedule lists the tasks that are in it, and that a query for a step that
/// the run does not have is refused.
fn asks_the_schedule(root: &Path, run: &str) {
    let schedule = |arguments: &[&str]| {
        let arguments = [&["schedule", run][..], arguments].concat();
        ktstr(root, &arguments).output().unwrap()
    };
    for json in [&[][..], &["--json"]] {
        let missing = schedule(&[&["--task", "nobody"][..], json].concat());
        assert_eq!(missing.status.code(), Some(1), "{}", text(&missing));
        assert!(missing.stdout.is_empty(), "{}", text(&missing));
        let shown = text(&missing);
        for part in ["no task `nobody` in ", "; there are ", "init"] {
            assert!(shown.contains(part), "no {part:?} in {shown}");
        }
    }
    let unreached = schedule(&["--phase", "9"]);
    assert_eq!(unreached.status.code(), Some(1), "{}", text(&unreached));
    let printed = text(&unreached);
    assert!(
        printed.contains("error: there is no step 9: the run has"),
        "{printed}"
    );
    let there = schedule(&["--task", "init"]);
    assert_eq!(there.status.code(), Some(0), "{}", text(&there));
}

#[test]
fn a_failing_seed_is_found_and_shown_again() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let output = explore(root, "__unit_test_picky__", &["--seeds", "0..4", "--json"])
        .output()
        .unwrap();
    let found = json(&output);
    assert_eq!(output.status.code(), Some(1), "{found}");
    assert_eq!(
        found["verdicts"],
        serde_json::json!({"fail": 1, "pass": 3}),
        "{found}"
    );
    assert_eq!(found["distinct"], 4, "{found}");
    assert_eq!(found["first_failure"]["seed"], 2);

    let command = found["first_failure"]["command"].as_str().unwrap();
    let run = command.strip_prefix("cargo ktstr replay ").unwrap();
    let text = replayed(root, Path::new(run), 0);
    for part in [
        "SAME: the verdict of the recorded run is fail, and that of the replay fail; both made ",
        "not to its taste",
        "seed 2, 250 MIPS",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }

    asks_the_schedule(root, run);

    // The record is modified, which must be detected.
    let record = PathBuf::from(found["first_failure"]["record"].as_str().unwrap());
    let json = std::fs::read_to_string(&record).unwrap();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    let field = |path: &str| value.pointer(path).unwrap().as_str().unwrap().to_owned();
    let lie = |of: &str, with: &str| std::fs::write(&record, json.replace(of, with)).unwrap();
    let trace = record.with_file_name(SWITCHES_FILE);
    let mut switches = Switches::decode(&std::fs::read(&trace).unwrap()).unwrap();
    switches.first[7].next += 1;
    std::fs::write(&trace, switches.encode()).unwrap();
    lie(&field("/digest"), &"0".repeat(64));
    let text = replayed(root, &record, 1);
    assert!(
        text.contains("the first 7 context switches are the same, then the runs diverge"),
        "{text}"
    );

    lie(&field("/program/hash"), &"0".repeat(64));
    let text = replayed(root, &record, 2);
    assert!(text.contains("the test binary "), "{text}");
    assert!(text.contains("has changed since the run"), "{text}");

    lie(&field("/kernel_id"), "7.3.4-of-somebody-else");
    let text = replayed(root, &record, 2);
    assert!(text.contains("cargo ktstr kernel fetch"), "{text}");

    lie("\"clock\":\"virtual\"", "\"clock\":\"real\"");
    lie("\"clock\": \"virtual\"", "\"clock\": \"real\"");
    let text = replayed(root, &record, 2);
    assert!(text.contains("KTSTR_CLOCK=virtual"), "{text}");
}

#[test]
fn the_first_failure_can_be_the_end() {
    let root = tempfile::tempdir().unwrap();
    let arguments = [
        "--seeds",
        "2..100",
        "--jobs",
        "1",
        "--stop-at-first-failure",
    ];
    let output = explore(root.path(), "__unit_test_picky__", &arguments)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let text = text(&output);
    assert!(
        text.contains("seeds run         1 of 98 (2..100)"),
        "{text}"
    );
}

#[test]
fn a_test_that_does_not_exist_is_named() {
    let root = tempfile::tempdir().unwrap();
    let output = explore(root.path(), "nobody", &["--seeds", "0..2"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let text = text(&output);
    assert!(text.contains("no test `ktstr/nobody`"), "{text}");
}

#[test]
fn ctrl_c_ends_the_runs_and_shows_the_results_so_far() {
    let root = tempfile::tempdir().unwrap();
    // The folder has a queue of its own, so the command does not wait for other runs of this user.
    let runtime = root.path().join("runtime");
    DirBuilder::new().mode(0o700).create(&runtime).unwrap();
    let child = explore(root.path(), "__unit_test_waits__", &["--seeds", "0..9"])
        .env("KTSTR_EXPLORE_MARK", root.path())
        .env("XDG_RUNTIME_DIR", &runtime)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while !marked(root.path()).iter().any(|name| name.contains("qemu")) {
        assert!(
            began.elapsed() < Duration::from_secs(120),
            "no QEMU was started"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let text = text(&output);
    assert!(text.contains("seeds run         0 of 9"), "{text}");
    let ended = Instant::now();
    while !marked(root.path()).is_empty() {
        assert!(
            ended.elapsed() < Duration::from_secs(5),
            "a process of the command still runs"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Returns the names of the processes whose environment has the mark of this folder.
fn marked(root: &Path) -> Vec<String> {
    let mark = format!("KTSTR_EXPLORE_MARK={}\0", root.display()).into_bytes();
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| {
            let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            environment.windows(mark.len()).any(|part| part == mark)
        })
        .map(|entry| std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default())
        .collect()
}
