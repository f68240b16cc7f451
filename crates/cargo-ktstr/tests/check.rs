//! Tests `cargo ktstr check` and `compare` from the command line, on a sound scheduler and on one with a planted defect. Most
//! tests run one or two scenarios in virtual machines with two CPUs, with one or a few seeds.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use common::{ktstr, text};
use ktstr::test_support::{Scheduler, SchedulerSpec};
use serde_json::Value;

/// Returns the path of the workspace's own scheduler, which is built first if it is stale.
fn scx_ktstr() -> PathBuf {
    let declared = Scheduler::named("scx_ktstr")
        .binary(SchedulerSpec::Discover("scx-ktstr"))
        .manifest_dir(env!("CARGO_MANIFEST_DIR"));
    let found = ktstr::run::find_scheduler_binary(&declared).unwrap();
    found.unwrap().path
}

/// Runs the command with these arguments in the folder `root`, as a user without a project. The runs are kept in `root/ktstr`.
fn run(root: &Path, words: &[&str]) -> Output {
    ktstr(&root.join("ktstr"), words)
        .current_dir(root)
        .output()
        .unwrap()
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_sound_scheduler_is_called_sound() {
    let root = tempfile::tempdir().unwrap();
    let scheduler = scx_ktstr();
    let output = run(
        root.path(),
        &[
            "check",
            scheduler.to_str().unwrap(),
            "--scenarios",
            "steady,custom_nice_mix",
            "--seeds",
            "1",
            "--json",
            "out.json",
            "--junit",
            "out.xml",
        ],
    );
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let report = read(&root.path().join("out.json"));
    assert_eq!(report["schema"], 2);
    assert_eq!((&report["runs"], &report["judged"]), (&2.into(), &2.into()));
    assert_eq!(report["broken"], Value::Array(vec![]), "{report}");
    assert_eq!(report["eevdf_runs"].as_array().unwrap().len(), 2);
    let junit = std::fs::read_to_string(root.path().join("out.xml")).unwrap();
    assert_eq!(junit.matches("<testcase ").count(), 2, "{junit}");
    assert!(!junit.contains("<failure"), "{junit}");
    assert!(text(&output).contains("Nothing is broken"));

    // The records of runs that passed are not left behind.
    let left = ktstr_record::list(&root.path().join("ktstr"), None).unwrap();
    assert!(left.records.is_empty(), "{:?}", left.records);
}

#[test]
fn a_planted_defect_is_broken_until_it_is_known() {
    let root = tempfile::tempdir().unwrap();
    let scheduler = scx_ktstr();
    let check = || {
        run(
            root.path(),
            &[
                "check",
                scheduler.to_str().unwrap(),
                "--scenarios",
                "steady,custom_nice_mix",
                "--seeds",
                "1",
                "--json",
                "out.json",
                "--",
                "--starve-nice",
            ],
        )
    };
    let output = check();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let report = read(&root.path().join("out.json"));
    let broken = report["broken"].as_array().unwrap();
    let scenarios: Vec<&str> = broken
        .iter()
        .map(|row| row["scenario"].as_str().unwrap())
        .collect();
    assert_eq!(scenarios, ["custom_nice_mix"], "{report}");
    let again = broken[0]["again"].as_str().unwrap();
    assert!(again.ends_with("--seeds 1..2 -- --starve-nice"), "{again}");
    assert!(Path::new(broken[0]["record"].as_str().unwrap()).is_file());

    // The second check takes EEVDF's outcomes from the cache. ktstr.toml now tolerates the finding, which is the same.
    let known = "[[known]]\nscenario = \"custom_nice_mix\"\nreason = \"planted\"\n";
    let file = root.path().join("ktstr.toml");
    std::fs::write(&file, format!("{known}expires = \"2999-12-31\"\n")).unwrap();
    let output = check();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let report = read(&root.path().join("out.json"));
    assert_eq!(report["known"][0]["message"], broken[0]["message"]);
    assert_eq!(report["eevdf_runs"], serde_json::json!([0, 2]), "{report}");

    std::fs::write(&file, format!("{known}expires = \"2020-01-01\"\n")).unwrap();
    let output = check();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("was known until 2020-01-01 (planted)"));
}

#[test]
fn a_scheduler_that_does_not_load_is_told_once() {
    let root = tempfile::tempdir().unwrap();
    let scheduler = scx_ktstr();
    let words = ["check", scheduler.to_str().unwrap(), "--quick", "--"];
    let output = run(root.path(), &[&words[..], &["--fail-verify"]].concat());
    let text = text(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.matches("DOES NOT LOAD on ").count(), 1, "{text}");
    assert!(text.contains("R1 invalid mem access 'scalar'"), "{text}");
    assert!(
        text.contains(": 1 run on "),
        "the other scenarios were run: {text}"
    );
}

#[test]
fn what_is_not_promised_is_reported_and_breaks_nothing() {
    let root = tempfile::tempdir().unwrap();
    let scheduler = scx_ktstr();
    let words = [
        "check",
        scheduler.to_str().unwrap(),
        "--scenarios",
        "custom_nice_mix",
        "--seeds",
        "1",
        "--json",
        "-",
        "--",
        "--starve-nice",
    ];
    // Without these promises no task is owed anything, so no task counts as starved.
    std::fs::write(
        root.path().join("ktstr.toml"),
        "[scheduler]\ndoes_not_promise = [\"service\", \"fairness\", \"nice\"]\n[bounds]\nmax_wake_wait_ms = \"off\"\n",
    )
    .unwrap();
    let output = run(root.path(), &words);
    let report = common::json(&output);
    let of = |list: &str| -> Vec<String> {
        let rows = report[list].as_array().unwrap().iter();
        rows.map(|row| row["check"].as_str().unwrap().to_owned())
            .collect()
    };
    assert!(
        of("not_promised").contains(&"service".to_owned()),
        "{report}"
    );
    assert!(!of("broken").contains(&"starvation".to_owned()), "{report}");
}

#[test]
fn what_cannot_be_checked_exits_with_2_and_a_reason() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    std::fs::write(at("text"), "a scheduler in prose\n").unwrap();
    std::fs::write(at("bad.toml"), "[matrix]\nseedz = 3\n").unwrap();
    let scheduler = scx_ktstr();
    std::fs::copy(&scheduler, at("quiet")).unwrap();
    let mode = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(at("quiet"), mode).unwrap();
    let scheduler = scheduler.to_str().unwrap();
    for (words, printed) in [
        (&["check", "text"][..], "it is not an x86-64 ELF program"),
        (&["check", "missing"], "there is no such file"),
        (&["check", "quiet"], "it is not executable"),
        (&["verifier", "quiet"], "it is not executable"),
        (&["verifier"], "<BINARY>"),
        (&["check", "--quick"], "<BINARY>"),
        (
            &["check", scheduler, "--scenarios", "stedy"],
            "did you mean `steady`?",
        ),
        (&["check", scheduler, "--seeds", "0"], "a number of seeds"),
        (&["check", scheduler, "--topologies", "1n1l"], "1n1l"),
        (
            &["check", scheduler, "--config", "bad.toml"],
            "bad.toml:2: unknown key `seedz`: did you mean `seeds`?",
        ),
        (&["compare", "eevdf"], "<B>"),
        (
            &["compare", "eevdf", "text"],
            "it is not an x86-64 ELF program",
        ),
        (
            &["compare", "eevdf", scheduler, "--a-arg=-x"],
            "eevdf takes no arguments",
        ),
        (
            &["compare", "eevdf", scheduler, "--seeds", "3"],
            "3 seeds cannot decide 32 significance tests",
        ),
    ] {
        let output = run(root.path(), words);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{words:?}: {}",
            text(&output)
        );
        assert!(
            text(&output).contains(printed),
            "{words:?}: {}",
            text(&output)
        );
    }
}

#[test]
fn a_scheduler_is_not_worse_than_itself() {
    let root = tempfile::tempdir().unwrap();
    let scheduler = scx_ktstr();
    let scheduler = scheduler.to_str().unwrap();
    let words = ["compare", scheduler, scheduler, "--scenarios", "steady"];
    let output = run(
        root.path(),
        &[&words[..], &["--seeds", "2", "--undecided", "--json", "-"]].concat(),
    );
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let report = common::json(&output);
    assert_eq!(report["same_runs"], 2, "{report}");
    let rows = report["rows"].as_array().unwrap();
    assert!(rows.len() > 4, "{report}");
    for row in rows {
        assert_eq!(
            (&row["difference"], &row["said"]),
            (&0.0.into(), &"identical".into())
        );
        assert!(
            row["smallest"].is_null(),
            "two seeds cannot show a difference: {row}"
        );
    }
}

#[test]
fn a_slowed_scheduler_is_a_regression() {
    let root = tempfile::tempdir().unwrap();
    let scheduler = scx_ktstr();
    let scheduler = scheduler.to_str().unwrap();
    let words = [
        "compare",
        scheduler,
        scheduler,
        "--b-arg=--slow-wake",
        "--scenarios",
        "custom_bursts",
        "--seeds",
        "9",
        "--json",
        "-",
    ];
    let output = run(root.path(), &words);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let report = common::json(&output);
    // Nine pairs of runs are enough for the statistical tests of one scenario, which has one such test per metric.
    assert_eq!(report["pairs_needed"], 9, "{report}");
    assert_eq!(
        (&report["same_runs"], &report["pairs"]),
        (&0.into(), &9.into())
    );
    let rows = report["rows"].as_array().unwrap();
    let wake = rows.iter().find(|row| row["metric"] == "wake_p50").unwrap();
    assert_eq!(wake["said"], "regression", "{wake}");
    assert!(
        wake["difference"].as_f64() > wake["smallest"].as_f64(),
        "{wake}"
    );
}
