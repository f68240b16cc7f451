//! The protocol by which `cargo nextest` drives a test binary: it asks for a list of tests, and then runs one test per process.

mod kernels;
mod variants;
mod verifier;

use std::process::Command;

use ktstr_record::{Family, TestName};
use ktstr_scenario::topology::PRESETS;

use ktstr_state::env::NEXTEST;

use crate::__private::LIBTEST_NAMES;
use crate::entry::{KTSTR_SCHEDULERS, KTSTR_TESTS, KtstrTestEntry};
use crate::run;

/// Returns whether this binary declares tests or schedulers, in addition to the test of the verifier cells, which every binary
/// has.
pub(crate) fn has_tests() -> bool {
    KTSTR_TESTS.len() > 1 || !KTSTR_SCHEDULERS.is_empty()
}

/// Answers the two requests of nextest (list the tests, and run one test) and the request of `cargo ktstr show-thresholds`.
/// Returns the exit code; `None` if libtest has to answer. It must be called while the process has only one thread.
pub(crate) fn answer(arguments: &[String]) -> Option<i32> {
    // `cargo ktstr` declares tests, too, but is no test binary: its first argument is a subcommand.
    if !arguments.first()?.starts_with("--") {
        return None;
    }
    let has = |wanted: &str| arguments.iter().any(|a| a == wanted);
    if has("--list") {
        return Some(list(has("--ignored")).unwrap_or_else(|(code, why)| {
            eprintln!("ktstr: {why}");
            code
        }));
    }
    let asked = |option: &str| {
        let at = arguments.iter().position(|a| a == option)?;
        arguments.get(at + 1)
    };
    if let Some(name) = asked("--show-thresholds").and_then(|name| name.strip_prefix("ktstr/")) {
        return Some(show_thresholds(name));
    }
    let name = asked("--exact")?;
    match name.strip_prefix(verifier::PREFIX) {
        Some(cell) => Some(verifier::run(cell)),
        None => variants::run(name),
    }
}

/// Returns whether the list has this name as ignored, so that nextest runs it only with `--run-ignored`.
pub(crate) fn is_ignored(name: &str) -> bool {
    let Some(Ok(name)) = TestName::parse(name) else {
        return false;
    };
    let entry = crate::entry::find_test(&name.test);
    name.family == Family::Gauntlet || entry.is_some_and(is_ignored_test)
}

/// Returns whether plain `cargo test` ignores the test.
pub(crate) fn is_ignored_test(entry: &KtstrTestEntry) -> bool {
    entry.ignored || entry.name.starts_with("demo_")
}

/// Returns whether the list of tests can contain this name. A name can ask for any shape, but only the shapes that are presets
/// are listed.
pub(crate) fn is_listed(name: &str) -> bool {
    let shape = match TestName::parse(name) {
        Some(name) => name.ok().and_then(|name| name.shape),
        None => name.rsplit('/').next().map(str::to_owned),
    };
    shape.is_none_or(|shape| PRESETS.iter().any(|preset| preset.name == shape))
}

/// Returns whether this is the name of a verifier cell.
pub(crate) fn is_cell(name: &str) -> bool {
    name.starts_with(verifier::PREFIX)
}

/// Prints the bounds of a test. Returns the exit code.
fn show_thresholds(name: &str) -> i32 {
    match crate::entry::find_test(name) {
        Some(entry) => {
            print!("{}", run::thresholds::of(entry));
            run::EXIT_PASS
        }
        None => {
            eprintln!("ktstr: there is no test `ktstr/{name}` in this binary");
            run::EXIT_FAIL
        }
    }
}

/// Prints the names in libtest's format: the tests of ktstr with their variants, the verifier cells, and the tests of libtest, in
/// this order. Returns the exit code; an error is an exit code and the reason.
fn list(ignored_only: bool) -> Result<i32, (i32, String)> {
    let wrong = |why| (run::EXIT_FAIL, why);
    for name in variants::names().map_err(wrong)? {
        // The full listing contains all tests. nextest asks for the ignored ones in a second call.
        if name.ignored || !ignored_only {
            println!("{}: test", name.text);
        }
    }
    if !ignored_only {
        let cells = verifier::names().map_err(wrong)?;
        cells.iter().for_each(|cell| println!("{cell}: test"));
    }
    let unlisted = |why: String| {
        let why = format!("libtest did not list its tests: {why}");
        (run::EXIT_INCONCLUSIVE, why)
    };
    let program = std::env::current_exe().map_err(|error| unlisted(error.to_string()))?;
    let mut command = Command::new(program);
    command.args(["--list", "--format", "terse"]);
    if ignored_only {
        command.arg("--ignored");
    }
    let output = command.env_remove(&NEXTEST).output();
    let output = output.map_err(|error| unlisted(error.to_string()))?;
    if !output.status.success() {
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        return Err(unlisted(output.status.to_string()));
    }
    let listed = String::from_utf8_lossy(&output.stdout);
    for line in listed.lines().filter(|line| !is_ours(line)) {
        println!("{line}");
    }
    Ok(run::EXIT_PASS)
}

/// Returns whether a line of libtest's list stands for one of ktstr's tests, which `list` handles itself.
fn is_ours(line: &str) -> bool {
    let Some(path) = line.strip_suffix(": test") else {
        return false;
    };
    let name = path.rsplit("::").next().unwrap_or(path);
    // libtest's paths begin below the crate.
    let mut generated = LIBTEST_NAMES.iter();
    let is_generated = generated.any(|full| full.split_once("::").is_some_and(|at| at.1 == path));
    // For a static with `#[ktstr_test_entry]`, the macro generates a `#[test]` function with this prefix, which libtest lists.
    is_generated || name.starts_with("__ktstr_entry_")
}
