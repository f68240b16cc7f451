//! Tests of `cargo ktstr power` with the smallest matrix, one defect, one scenario and two seeds, and with invalid arguments.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

#[test]
fn a_planted_defect_is_caught_and_what_was_run_is_not_run_again() {
    let root = tempfile::tempdir().unwrap();
    let page = root.path().join("power.md");
    let power = || {
        let output = Command::new(env!("CARGO_BIN_EXE_cargo-ktstr"))
            .args(["power", "--defect", "idle-cpu", "--scenario", "steady"])
            .args(["--seeds", "2", "--clean-runs", "0", "--json", "--out"])
            .arg(&page)
            .env("KTSTR_RUNS_ROOT", root.path().join("ktstr"))
            .env_remove("KTSTR_SCHEDULER")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{text}");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let report = power();
    let row = &report["defects"][0];
    assert_eq!(row["name"], "idle-cpu");
    assert_eq!(row["verdict"], "yes", "{report}");
    assert_eq!(row["scenario"], "steady");
    assert_eq!(
        row["count"],
        serde_json::json!({"hits": 2, "runs": 2}),
        "{report}"
    );
    let example = row["example"].as_str().unwrap();
    let shown = [
        "share of CPU time used while workers waited: ",
        "cpu1 idled while ",
    ];
    assert!(
        shown.iter().any(|shown| example.contains(shown)),
        "{example}"
    );
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(text.contains("| `--idle-cpu` |"), "{text}");

    // The result of each run is appended to a file in this folder, so a repeated run would add a line.
    let stored = || -> BTreeMap<PathBuf, String> {
        let entries = std::fs::read_dir(root.path().join("ktstr-power")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.is_file())
            .map(|path| (path.clone(), std::fs::read_to_string(path).unwrap()))
            .collect()
    };
    let before = stored();
    assert!(before.values().any(|text| text.lines().count() >= 2));
    assert_eq!(power(), report, "the stored results were not used");
    assert_eq!(stored(), before, "the runs were repeated");
}

#[test]
fn a_scheduler_that_is_not_there_is_refused_by_name() {
    for (path, printed) in [
        ("/no/such/scheduler", "No such file"),
        ("/tmp", "is not a file"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_cargo-ktstr"))
            .args(["power", "--defect", "none", "--scheduler", path])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(path) && text.contains(printed), "{text}");
    }
}

#[test]
fn the_matrix_is_made_of_the_core_of_the_canned_scenarios_all_of_it() {
    let output = Command::new(env!("CARGO_BIN_EXE_cargo-ktstr"))
        .args(["power", "--scenario", "no-such"])
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    let (_, known) = printed.split_once("; there are ").unwrap();
    let mut known: Vec<&str> = known.trim().split(", ").collect();
    let mut canned: Vec<&str> = ktstr::scenario::scenarios::CANNED
        .iter()
        .filter(|canned| canned.core)
        .map(|canned| canned.name)
        .collect();
    // The matrix adds this scenario, because no canned scenario takes a CPU offline.
    canned.push("cpu_off_and_on");
    known.sort_unstable();
    canned.sort_unstable();
    assert_eq!(known, canned);
}

#[test]
fn a_defect_nobody_planted_is_refused_by_name() {
    let output = Command::new(env!("CARGO_BIN_EXE_cargo-ktstr"))
        .args(["power", "--defect", "no-such"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(printed.contains("no defect \"no-such\""), "{printed}");
    assert!(printed.contains("slice-long"), "{printed}");
}
