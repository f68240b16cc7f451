//! The command line from a user's view: the output and the exit code.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

use ktstr_record::{FindingRecord, RunDir, RunRecord, RunVerdict};

/// Runs `cargo-ktstr` offline, with its runs and its cache below `root`, and without the caller's choice of a kernel.
fn ktstr(root: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cargo-ktstr"))
        .args(arguments)
        .env("KTSTR_RUNS_ROOT", root.join("runs"))
        .env("KTSTR_CACHE_DIR", root.join("cache"))
        .env("KTSTR_OFFLINE", "1")
        .env_remove("KTSTR_KERNEL")
        .env_remove("KTSTR_TEST_KERNEL")
        .env_remove("NEXTEST")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn runs_are_listed_newest_first() {
    let root = tempfile::tempdir().unwrap();
    for test in ["first", "second"] {
        let run = RunDir::create(&root.path().join("runs"), test).unwrap();
        run.commit(RunRecord {
            verdict: RunVerdict::Pass,
            ..RunRecord::new(test)
        })
        .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(3));
    }
    let output = ktstr(root.path(), &["ktstr", "runs", "--last", "1", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let runs: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(runs.as_array().unwrap().len(), 1);
    assert_eq!(runs[0]["test"], "second");
    assert_eq!(runs[0]["verdict"], "pass");
    assert!(Path::new(runs[0]["record"].as_str().unwrap()).is_file());

    let table = stdout(&ktstr(root.path(), &["runs"]));
    assert!(
        table.find("second").unwrap() < table.find("first").unwrap(),
        "{table}"
    );
}

#[test]
fn bounded_json_has_the_first_entries_and_counts_the_rest() {
    let root = tempfile::tempdir().unwrap();
    let finding = |message: &str| FindingRecord {
        message: message.to_owned(),
        ..FindingRecord::default()
    };
    for seed in 0..3 {
        let run = RunDir::create(&root.path().join("runs"), "t").unwrap();
        run.commit(RunRecord {
            seed: Some(seed),
            findings: ["a", "b", &"c".repeat(1200)].map(finding).into(),
            ..RunRecord::new("t")
        })
        .unwrap();
    }
    let runs = |words: &[&str]| -> serde_json::Value {
        let words = [&["runs", "--json"], words].concat();
        let output = ktstr(root.path(), &words);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let whole = runs(&[]);
    let bounded = runs(&["--limit", "2"]);
    assert_eq!(bounded["items"].as_array().unwrap().len(), 2);
    assert_eq!(bounded["items"][0]["run_id"], whole[0]["run_id"]);
    assert_eq!(bounded["left_out"]["items"], 1, "{bounded}");
    assert_eq!(
        bounded["left_out"]["items.findings"], 2,
        "one finding of each run that is shown"
    );
    let long = runs(&["--limit", "3"]);
    let characters = serde_json::json!({ "items.findings.message": 600 });
    assert_eq!(
        long["left_out"], characters,
        "200 characters of each of three runs"
    );
    // A list that is not longer than the limit is complete.
    let metrics = ktstr(root.path(), &["metrics", "--json", "--limit", "100000"]);
    let metrics: serde_json::Value = serde_json::from_slice(&metrics.stdout).unwrap();
    assert_eq!(metrics["left_out"], serde_json::json!({}));
    assert!(metrics["items"].as_array().unwrap().len() > 50);
}

#[test]
fn a_run_is_shown_with_what_its_scheduler_said() {
    let root = tempfile::tempdir().unwrap();
    let mut run = RunDir::create(&root.path().join("runs"), "t").unwrap();
    run.add_text("scheduler.log", "last \x1b[31mwords\n")
        .unwrap();
    let path = run
        .commit(RunRecord {
            verdict: RunVerdict::Fail,
            fault: Some("scheduler".to_owned()),
            ..RunRecord::new("t")
        })
        .unwrap();
    let folder = path.parent().unwrap();
    for arguments in [&["show"][..], &["show", "--markdown"]] {
        let named = [arguments, &[folder.to_str().unwrap()]].concat();
        let output = ktstr(root.path(), &named);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let text = stdout(&output);
        assert!(text.contains("t failed, the scheduler's fault"), "{text}");
        assert!(
            text.contains("last words") && !text.contains('\x1b'),
            "{text}"
        );
    }
    let missing = ktstr(root.path(), &["show", "no-such-run"]);
    assert_eq!(missing.status.code(), Some(2));
    let printed = stderr(&missing);
    assert!(printed.contains("no-such-run is not a record"), "{printed}");
}

#[test]
fn a_damaged_record_is_a_warning() {
    let root = tempfile::tempdir().unwrap();
    let run = RunDir::create(&root.path().join("runs"), "t").unwrap();
    std::fs::write(run.commit(RunRecord::new("t")).unwrap(), "{").unwrap();
    let output = ktstr(root.path(), &["runs", "--json"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output), "[]\n");
    assert!(
        stderr(&output).contains("cannot be read"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn doctor_says_the_same_in_json_and_by_its_exit_code() {
    let root = tempfile::tempdir().unwrap();
    let output = ktstr(root.path(), &["doctor", "--json"]);
    let checks: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = checks.as_array().unwrap();
    let missing = checks
        .iter()
        .filter(|check| check["status"] == "missing")
        .count();
    assert_eq!(output.status.code(), Some(if missing > 0 { 2 } else { 0 }));
    assert!(
        checks
            .iter()
            .filter(|check| check["status"] == "missing")
            .all(|check| check["todo"].is_string())
    );
    for name in [
        "Rust",
        "QEMU ≥ 10",
        "clang ≥ 17",
        "pkg-config",
        "libelf",
        "zlib",
        "KVM",
        "/dev/shm",
    ] {
        assert!(
            checks.iter().any(|check| check["name"] == name),
            "doctor does not check {name}"
        );
    }
}

#[test]
fn doctor_finds_what_is_missing() {
    let root = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_cargo-ktstr"))
        .arg("doctor")
        .env("PATH", root.path())
        .env("KTSTR_RUNS_ROOT", root.path())
        .env("KTSTR_CACHE_DIR", root.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = stdout(&output);
    for line in [
        "MISSING  QEMU ≥ 10",
        "MISSING  clang ≥ 17",
        "MISSING  libelf",
    ] {
        assert!(text.contains(line), "{line} is missing:\n{text}");
    }
}

#[test]
fn a_terminal_never_gets_what_it_would_obey() {
    let root = tempfile::tempdir().unwrap();
    let hostile = root.path().join("\u{1b}]0;title\u{7}\u{202e}");
    for arguments in [&["cache", "path"][..], &["runs"], &["runs", "--json"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_cargo-ktstr"))
            .args(arguments)
            .env("KTSTR_RUNS_ROOT", &hostile)
            .env("KTSTR_CACHE_DIR", &hostile)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        for text in [stdout(&output), errors.into_owned()] {
            assert!(
                !text.contains(['\u{1b}', '\u{7}', '\u{202e}']),
                "{arguments:?}: {text:?}"
            );
        }
    }
}

#[test]
fn whose_fault_it_is() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(ktstr(root.path(), &["nonsense"]).status.code(), Some(1));
    assert_eq!(ktstr(root.path(), &["--help"]).status.code(), Some(0));

    let no_such_file = ktstr(root.path(), &["kernel", "path", "/nonexistent/bzImage"]);
    assert_eq!(
        no_such_file.status.code(),
        Some(1),
        "{}",
        stderr(&no_such_file)
    );
    assert!(stderr(&no_such_file).contains("/nonexistent/bzImage"));

    let not_cached = ktstr(root.path(), &["kernel", "remove", "no-such-id"]);
    assert_eq!(not_cached.status.code(), Some(1), "{}", stderr(&not_cached));

    let offline = ktstr(root.path(), &["kernel", "fetch", "debian:7.3"]);
    assert_eq!(offline.status.code(), Some(2), "{}", stderr(&offline));
    assert!(
        stderr(&offline).contains("KTSTR_OFFLINE"),
        "{}",
        stderr(&offline)
    );
}

#[test]
fn templates_are_listed_and_removed() {
    let root = tempfile::tempdir().unwrap();
    let path = stdout(&ktstr(root.path(), &["cache", "path"]));
    let folder = Path::new(path.trim()).to_path_buf();
    assert!(folder.starts_with(root.path()), "{path}");
    assert!(stdout(&ktstr(root.path(), &["cache", "list"])).contains("No templates"));
    assert_eq!(
        stdout(&ktstr(root.path(), &["cache", "list", "--json"])),
        "[]\n"
    );

    // A damaged template is still listed and can be removed.
    std::fs::create_dir_all(folder.join(".locks")).unwrap();
    std::fs::create_dir(folder.join("0123456789abcdef0123")).unwrap();
    let list = stdout(&ktstr(root.path(), &["cache", "list"]));
    assert!(list.contains("0123456789abcdef0123"), "{list}");
    let clean = ktstr(root.path(), &["cache", "clean"]);
    assert_eq!(stdout(&clean), "removed 1 template\n");
    assert!(!folder.join("0123456789abcdef0123").exists());
}

#[test]
fn an_empty_cache_says_what_to_do() {
    let root = tempfile::tempdir().unwrap();
    let output = ktstr(root.path(), &["kernel", "list"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("kernel fetch"));
    assert_eq!(
        stdout(&ktstr(root.path(), &["kernel", "list", "--json"])),
        "[]\n"
    );
}

/// Returns the results of a check without runs, as `cargo ktstr check --results` writes them.
fn results_without_runs() -> String {
    let kernel = serde_json::json!({ "id": "7.3.4-ab", "release": "7.3.4", "asked": null });
    serde_json::json!({
        "format": "ktstr-check-results",
        "schema": 2,
        "asked": {
            "version": "0.1.0",
            "scheduler": { "path": "./scx_<mine>", "args": [], "hash": "ab12" },
            "level": "quick",
            "matrix": {
                "places": [], "seeds": { "first": 1, "end": 2 }, "scenarios": [], "kernels": [kernel],
                "missing": ["kernel 9.9: there is none"], "topologies": [null],
            },
            "config": {
                "kernels": [], "topologies": [], "scenarios": [], "seeds": null, "without": [], "bounds": {}, "gates": {},
                "known": [],
            },
            "again": { "binary": "./scx_mine", "args": [], "config": null, "memory_mib": null },
            "settings": {},
        },
        "shard": null,
        "day": "2026-11-27",
        "walked": { "pairs": [], "left_out": 0, "eevdf_runs": 0 },
        "wall_s": 1.0,
    })
    .to_string()
}

#[test]
fn the_result_of_a_check_is_on_the_page_of_a_ci_job() {
    let root = tempfile::tempdir().unwrap();
    let stored = root.path().join("stored.json");
    std::fs::write(&stored, results_without_runs()).unwrap();
    let merge = |page: &Path| {
        let output = Command::new(env!("CARGO_BIN_EXE_cargo-ktstr"))
            .arg("merge")
            .arg(&stored)
            .env("GITHUB_STEP_SUMMARY", page)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        stderr(&output)
    };
    let page = root.path().join("page.md");
    assert_eq!(merge(&page), "");
    let text = std::fs::read_to_string(&page).unwrap();
    let title = "### cargo ktstr check: ./scx\\_&lt;mine&gt;: no answer\n";
    assert!(text.starts_with(title), "{text}");
    assert!(
        text.contains("not run: kernel 9.9: there is none\n"),
        "{text}"
    );
    assert_eq!(merge(&page), "");
    let twice = std::fs::read_to_string(&page).unwrap();
    assert_eq!(
        twice,
        text.repeat(2),
        "a second step of the job is appended to the page"
    );
    // The exit code is that of the check, whether the page can be written or not.
    let warning = merge(root.path());
    assert!(
        warning.starts_with("warning: the result could not be appended to "),
        "{warning}"
    );
}

/// Writes a stub of a test binary. It lists three tests of ktstr, an ordinary test, and variants of `fair` for two presets and
/// the seeds in `KTSTR_SEED_LIST`. `fair` passes, `lost` is inconclusive, the others fail. All but `fair` print their seeds.
fn stub(folder: &Path) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join("stub");
    let script = "#!/bin/sh\ncase \"$1 $2\" in\n\
                  '--list '*) [ \"$2\" ] || { printf 'ktstr/%s: test\\n' fair broken lost; echo 'unit: test'; }\n\
                  for preset in 4cpu-1llc-nosmt 8cpu-2llc-smt; do\n\
                  printf \"gauntlet/fair/$preset${KTSTR_SEED_LIST+/seed_%s}: test\\n\" $(echo $KTSTR_SEED_LIST | tr , ' '); done ;;\n\
                  '--exact gauntlet/'*) echo \"seeds ${KTSTR_SEED_LIST-none}\" >&2; exit 1 ;;\n\
                  '--exact ktstr/broken') echo \"seed ${KTSTR_SEED-none}\" >&2; exit 1 ;;\n\
                  '--exact ktstr/lost') echo \"seed ${KTSTR_SEED-none}\"; exit 2 ;;\n\
                  '--exact ktstr/fair') exit 0 ;;\n\
                  *) exit 9 ;;\nesac\n";
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn the_tests_that_failed_last_are_run_again_with_their_seeds() {
    let root = tempfile::tempdir().unwrap();
    let stub = stub(root.path());
    let test = |words: &[&str]| {
        let words = [
            &["test", "--jobs", "1", "--binary", stub.to_str().unwrap()],
            words,
        ]
        .concat();
        let output = ktstr(root.path(), &words);
        let lines = stdout(&output);
        // The wall time, which follows ` (`, differs from call to call.
        let lines = lines
            .lines()
            .map(|line| line.split(" (").next().unwrap().to_owned());
        (
            lines.collect::<Vec<_>>(),
            output.status.code(),
            stderr(&output),
        )
    };
    let last = |name: &str, verdict| {
        let run = RunDir::create(&root.path().join("runs"), name).unwrap();
        run.commit(RunRecord {
            verdict,
            seed: Some(7),
            ..RunRecord::new(name)
        })
        .unwrap();
    };
    let (lines, code, _) = test(&["--last-failed"]);
    assert!(
        lines[0].starts_with("No test failed in its last run under "),
        "{lines:?}"
    );
    assert_eq!(code, Some(0));

    let all = "PASS fair|FAIL broken|seed none|INCONCLUSIVE lost|seed none|3 tests: 1 passed or skipped, 1 failed, 1 inconclusive";
    assert_eq!(
        test(&[]),
        (
            all.split('|').map(str::to_owned).collect(),
            Some(1),
            String::new()
        )
    );
    let one = [
        "PASS fair",
        "1 test: 1 passed or skipped, 0 failed, 0 inconclusive",
    ]
    .map(str::to_owned);
    assert_eq!(test(&["fai"]), (one.to_vec(), Some(0), String::new()));

    last("fair", RunVerdict::Pass);
    last("lost", RunVerdict::Inconclusive);
    last("of_another_binary", RunVerdict::Fail);
    let again = [
        "INCONCLUSIVE lost seed 7",
        "seed 7",
        "1 test: 0 passed or skipped, 0 failed, 1 inconclusive",
    ];
    let again = again.map(str::to_owned).to_vec();
    assert_eq!(test(&["--last-failed"]), (again, Some(2), String::new()));
    let (_, code, printed) = test(&["--last-failed", "fair"]);
    assert!(
        printed.contains("no ktstr test in ") && printed.contains("failed in its last run"),
        "{printed}"
    );
    assert_eq!(code, Some(2));
    // The test that failed is one of another package, or was renamed.
    last("lost", RunVerdict::Pass);
    let none = vec!["None of these tests failed in its last run.".to_owned()];
    assert_eq!(test(&["--last-failed"]), (none, Some(0), String::new()));
}

#[test]
fn the_gauntlet_is_run_by_preset_seed_and_shard() {
    let root = tempfile::tempdir().unwrap();
    let stub = stub(root.path());
    let test = |words: &[&str]| {
        let words = [&["test", "--binary", stub.to_str().unwrap()], words].concat();
        ktstr(root.path(), &words)
    };
    let lines = |words: &[&str]| -> Vec<String> {
        let output = test(words);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stdout(&output).lines().map(str::to_owned).collect()
    };
    let small = "gauntlet/fair/4cpu-1llc-nosmt";
    let large = "gauntlet/fair/8cpu-2llc-smt";
    assert_eq!(lines(&["--gauntlet", "--list"]), [small, large]);
    assert_eq!(lines(&["--list"]), ["fair", "broken", "lost"]);
    let one = [
        "--gauntlet",
        "--list",
        "--preset",
        "8cpu-2llc-smt",
        "--seeds",
        "4..6",
    ];
    assert_eq!(lines(&one), ["4", "5"].map(|n| format!("{large}/seed_{n}")));
    let shards = ["1/2", "2/2"].map(|shard| lines(&["--gauntlet", "--list", "--shard", shard]));
    assert_eq!(shards, [[small], [large]]);
    // The runs get the same list of seeds as the listing.
    let ran = test(&["--gauntlet", "4cpu", "--seeds", "2"]);
    assert_eq!(ran.status.code(), Some(1), "{}", stderr(&ran));
    assert_eq!(
        stdout(&ran).matches("seeds 1,2\n").count(),
        2,
        "{}",
        stdout(&ran)
    );
    for (words, code, why) in [
        (&["--gauntlet", "--preset", "5cpu"][..], 2, "5cpu"),
        (
            &["--gauntlet", "--preset", "192cpu-11llc-smt"],
            2,
            "only for loading schedulers",
        ),
        (
            &["--gauntlet", "--preset", "1n1l2c1t"],
            2,
            "1n1l2c1t is no preset",
        ),
        (&["--preset", "8cpu-2llc-smt"], 1, "--gauntlet"),
        (&["--gauntlet", "--seeds", "0"], 2, "a number of seeds"),
        (&["--gauntlet", "--last-failed"], 1, "cannot be used with"),
        (
            &["--kernels", "7.0", "--last-failed"],
            1,
            "cannot be used with",
        ),
        (&["--kernels", "5.4"], 2, "not all kernels are available: "),
    ] {
        let refused = test(words);
        assert_eq!(refused.status.code(), Some(code), "{words:?}");
        assert!(
            stderr(&refused).contains(why),
            "{words:?}: {}",
            stderr(&refused)
        );
    }
}
