//! The commands that boot machines: their output and exit codes.
#![allow(clippy::unwrap_used)]

mod common;

use common::{json, ktstr, text};

#[test]
fn the_demo_shows_what_was_seen_and_leaves_a_record() {
    let root = tempfile::tempdir().unwrap();
    let output = ktstr(root.path(), &["demo"]).output().unwrap();
    let screen = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(screen.starts_with("PASS  demo_two_steps\n"), "{screen}");
    assert!(screen.lines().count() <= 40, "{screen}");
    for row in [
        "step 1  left",
        "step 1  right",
        "step 2  hogs",
        "step 2  pipes",
        "nr_dispatched",
        "nr_enqueued",
        "4 of 4 captures",
    ] {
        assert!(screen.contains(row), "{row} is not shown:\n{screen}");
    }

    let runs = json(&ktstr(root.path(), &["runs", "--json"]).output().unwrap());
    assert_eq!(runs.as_array().unwrap().len(), 1);
    assert_eq!(runs[0]["test"], "demo_two_steps");
    assert_eq!(runs[0]["verdict"], "pass");
    assert_eq!(runs[0]["periodic_real"], 4);
    let kernel = runs[0]["kernel"].as_str().unwrap();
    assert!(
        screen.contains(&format!("kernel     {kernel}, ")),
        "{screen}"
    );
}

#[test]
fn a_demo_that_fails_says_why_and_exits_with_its_code() {
    let root = tempfile::tempdir().unwrap();
    let output = ktstr(root.path(), &["demo"])
        .env("KTSTR_SCHEDULER", "/bin/false")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let printed = String::from_utf8(output.stderr.clone()).unwrap();
    for part in ["ktstr_test 'demo_two_steps'", "fault: ", "record: "] {
        assert!(printed.contains(part), "{part} is missing:\n{printed}");
    }
}

/// The timing `window` of a record is the host time that the scenario took. Under the real clock guest time passes as fast as
/// host time, so `window` is not shorter than declared. On a busy host it may be longer.
#[test]
fn by_the_hosts_clock_the_window_takes_its_time() {
    let root = tempfile::tempdir().unwrap();
    let output = ktstr(root.path(), &["demo"])
        .env("KTSTR_CLOCK", "real")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let run = std::fs::read_dir(root.path()).unwrap().flatten();
    let record = run
        .filter_map(|entry| std::fs::read(entry.path().join("record.json")).ok())
        .next()
        .unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    let declared = record["window_s"].as_f64().unwrap();
    let window = record["timings"]["window"].as_f64().unwrap();
    assert!(window >= 0.9 * declared, "{window} s of {declared} s");
}

#[test]
fn the_bench_accounts_for_the_time_of_a_run() {
    let root = tempfile::tempdir().unwrap();
    let arguments = [
        "bench", "--only", "starts", "--runs", "1", "--small", "--json",
    ];
    let output = ktstr(root.path(), &arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let report = json(&output);
    let rows = report["sections"][0]["rows"].as_array().unwrap();
    // The columns are EEVDF cold and warm, then the scheduler of this project cold and warm.
    let columns = &report["sections"][0]["columns"];
    assert_eq!(columns[2], "scx-ktstr cold", "{report}");
    let median = |name: &str, column: usize| {
        let row = rows.iter().find(|row| row["name"] == name).unwrap();
        row["cells"][column]["median"].as_f64()
    };
    for column in 0..4 {
        let parts = [
            "resolve",
            "initramfs",
            "slot",
            "boot",
            "window",
            "captures",
            "teardown",
            "rest",
        ];
        let sum: f64 = parts
            .iter()
            .map(|part| median(part, column).unwrap_or_else(|| panic!("no {part}: {report}")))
            .sum();
        let wall = median("wall", column).unwrap();
        assert!(
            (sum - wall).abs() < 0.05 * wall,
            "the parts add up to {sum} s: {report}"
        );
        assert!(median("window", column).unwrap() > 0.0, "{report}");
        assert!(median("freeze", column).unwrap() > 0.0, "{report}");
    }
    assert!(median("attach", 2).unwrap() > 0.0, "{report}");
    assert_eq!(
        median("attach", 0),
        None,
        "a run under EEVDF has no time for attaching: {report}"
    );
    assert!(
        median("boot", 3).unwrap() < median("boot", 2).unwrap(),
        "a fork is no faster than a boot: {report}"
    );
    for row in report["sections"][1]["rows"].as_array().unwrap() {
        let cells = row["cells"].as_array().unwrap();
        assert!(
            cells.len() == 3 && cells.iter().all(|cell| cell["median"].is_number()),
            "cold, warm and rebuilt: {row}"
        );
    }
}

/// Runs one round of each part. The values are for people; the test only checks that each row has at least one number.
#[test]
fn the_other_parts_of_the_bench_measure_something() {
    let root = tempfile::tempdir().unwrap();
    let arguments = "bench --only crowd --only schedule --runs 1 --forks 1 --small --json";
    let words: Vec<&str> = arguments.split(' ').collect();
    let output = ktstr(root.path(), &words).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let report = json(&output);
    let sections = report["sections"].as_array().unwrap();
    assert_eq!(sections.len(), 2, "{report}");
    for section in sections {
        let rows = section["rows"].as_array().unwrap();
        assert!(!rows.is_empty(), "{report}");
        for row in rows {
            let cells = row["cells"].as_array().unwrap();
            assert!(cells.iter().any(|cell| cell["median"].is_number()), "{row}");
        }
    }
}

/// Compares made-up results, for which no machine is needed. The times are for people; the test only checks that they are
/// above 0.
#[test]
fn the_bench_compares_a_thousand_stored_runs() {
    let root = tempfile::tempdir().unwrap();
    let arguments = ["bench", "--only", "compare", "--runs", "1", "--json"];
    let output = ktstr(root.path(), &arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let report = json(&output);
    let section = &report["sections"][0];
    assert_eq!(
        section["columns"],
        serde_json::json!(["1 x 1000 seeds", "4 x 250 seeds", "20 x 50 seeds"])
    );
    for column in 0..3 {
        let cell = |row: usize| section["rows"][row]["cells"][column]["median"].as_f64();
        assert!(cell(0).unwrap() > 0.0, "{report}");
        // A run has eight metrics, a digest and a path, so the results of a thousand pairs of runs take more than a
        // megabyte.
        assert!(cell(1).unwrap() > 1e6, "{report}");
    }
    assert!(report["kernel"].is_null(), "no machine was run: {report}");
}

#[test]
fn a_flag_of_the_bench_without_its_part_is_refused() {
    let root = tempfile::tempdir().unwrap();
    for (arguments, flag) in [
        ("bench --only starts --large", "--large"),
        ("bench --only clock --forks 3", "--forks"),
        ("bench --only crowd --runs 3", "--runs"),
    ] {
        let words: Vec<&str> = arguments.split(' ').collect();
        let output = ktstr(root.path(), &words).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(
            text(&output).contains(&format!("{flag} applies only to")),
            "{}",
            text(&output)
        );
    }
}
