//! `cargo ktstr verifier` on a scheduler that loads and on one that the verifier rejects, in a real kernel.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::Output;

use common::{json, ktstr, text};
use ktstr::test_support::{Scheduler, SchedulerSpec};
use serde_json::Value;

/// Runs `verifier` on the workspace's own scheduler with these arguments.
fn verifier(root: &Path, words: &[&str]) -> Output {
    let declared = Scheduler::named("scx_ktstr")
        .binary(SchedulerSpec::Discover("scx-ktstr"))
        .manifest_dir(env!("CARGO_MANIFEST_DIR"));
    let found = ktstr::run::find_scheduler_binary(&declared).unwrap();
    let path = found.unwrap().path;
    let words = [&["verifier", path.to_str().unwrap()][..], words].concat();
    let mut command = ktstr(&root.join("ktstr"), &words);
    command.current_dir(root).output().unwrap()
}

#[test]
fn programs_that_load_have_their_instructions_and_are_held_against_a_baseline() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let output = verifier(root, &["--json", "base.json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains(": loads\n"), "{}", text(&output));
    let base = std::fs::read_to_string(root.join("base.json")).unwrap();
    let report: Value = serde_json::from_str(&base).unwrap();
    let programs = report["loads"][0]["programs"].as_array().unwrap();
    let enqueue = programs
        .iter()
        .find(|row| row["program"] == "ktstr_enqueue")
        .unwrap_or_else(|| panic!("{report}"));
    let insns = enqueue["insns"].as_u64().unwrap();
    assert!(insns > 20, "{enqueue}");

    // Scheduler and kernel are those of the baseline, so no program has grown.
    let words = [
        "--baseline",
        "base.json",
        "--max-growth",
        "0",
        "--json",
        "-",
    ];
    let output = verifier(root, &words);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    for row in json(&output)["loads"][0]["programs"].as_array().unwrap() {
        assert_eq!(row["insns"], row["before"], "{row}");
    }
    // The program has grown in comparison with a baseline in which it has half of its instructions.
    let less = base.replace(
        &format!("\"insns\": {insns}"),
        &format!("\"insns\": {}", insns / 2),
    );
    std::fs::write(root.join("less.json"), less).unwrap();
    let output = verifier(root, &["--baseline", "less.json", "--max-growth", "20"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(
        text(&output).contains("GROWN  ktstr_enqueue"),
        "{}",
        text(&output)
    );

    // Invalid baselines, arguments and kernels end with exit code 2 and the reason.
    std::fs::write(root.join("cut.json"), &base[..base.len() / 2]).unwrap();
    let old = base.replacen("\"schema\": 1", "\"schema\": 0", 1);
    std::fs::write(root.join("old.json"), old).unwrap();
    for (words, printed) in [
        (
            &["--baseline", "cut.json"][..],
            "the file ends in the middle",
        ),
        (&["--baseline", "old.json"], "its schema is 0"),
        (&["--baseline", "missing.json"], "reading the baseline"),
        (&["--max-growth", "5"], "--baseline <FILE>"),
        (&["--kernel", "./no-such-image"], "no-such-image"),
        (&["--topologies", "1n1l"], "1n1l"),
    ] {
        let output = verifier(root, words);
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
fn a_program_that_is_refused_is_named_with_the_verifiers_words() {
    let root = tempfile::tempdir().unwrap();
    let output = verifier(root.path(), &["--json", "-", "--", "--fail-verify"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let load = &json(&output)["loads"][0];
    assert_eq!(load["ended"], "refused");
    let reason = load["reason"].to_string();
    assert!(
        reason.contains("R1 invalid mem access 'scalar'"),
        "{reason}"
    );
    let refused = &load["programs"][0];
    assert_eq!(refused["program"], "ktstr_init", "{load}");
    assert_eq!(refused["refused"], true);
    assert!(refused["insns"].as_u64().unwrap() > 0, "{refused}");
    assert!(refused["states"].is_u64(), "{refused}");
    let again = load["again"].as_str().unwrap();
    assert!(
        again.ends_with("--topologies own -- --fail-verify"),
        "{again}"
    );
    assert!(Path::new(load["record"].as_str().unwrap()).is_file());
}
