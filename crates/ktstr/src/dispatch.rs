//! The code that runs before `main` in every binary with ktstr tests.
//!
//! The same binary is the guest's `/init`, the guest's test process, and the host's test runner. A function in
//! `.init_array` decides which of these it is, because that must be known before libtest parses the arguments.

use std::process::{Command, ExitCode};

use ktstr_state::env;

use crate::entry::KTSTR_TESTS;
use crate::{guest_side, run, verifier_cells};

#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

extern "C" fn before_main() {
    if ktstr_guest::init::is_guest_init() {
        ktstr_guest::init::main();
    }
    if ktstr_guest::init::is_test_process() {
        std::process::exit(guest_side::main());
    }
    if env::NEXTEST.is_on() && verifier_cells::has_tests() {
        let arguments: Vec<String> = std::env::args_os()
            .skip(1)
            .map(|a| a.to_string_lossy().into_owned())
            .collect();
        if let Some(code) = nextest(&arguments) {
            std::process::exit(code);
        }
    }
}

/// Answers the two requests of nextest (list the tests, and run one test) and the request of `cargo ktstr show-thresholds`.
/// Returns the exit code; `None` if libtest has to answer.
fn nextest(arguments: &[String]) -> Option<i32> {
    let has = |wanted: &str| arguments.iter().any(|a| a == wanted);
    if has("--list") {
        return Some(list(has("--ignored")));
    }
    let asked = |option: &str| {
        let at = arguments.iter().position(|a| a == option)?;
        arguments.get(at + 1)
    };
    if let Some(name) = asked("--show-thresholds").and_then(|name| name.strip_prefix("ktstr/")) {
        return Some(show_thresholds(name));
    }
    let name = asked("--exact")?;
    if let Some(cell) = name.strip_prefix(verifier_cells::PREFIX) {
        return Some(verifier_cells::run(cell));
    }
    let name = name.strip_prefix("ktstr/")?;
    let Some(entry) = crate::entry::find_test(name) else {
        eprintln!("ktstr: there is no test `ktstr/{name}` in this binary");
        return Some(run::EXIT_FAIL);
    };
    let finished = run::run_and_repeat(entry);
    finished.print();
    Some(finished.exit_code())
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

/// Prints the names in libtest's format: the tests of ktstr, the verifier cells, and the tests of libtest, in this order. Returns
/// the exit code.
fn list(ignored_only: bool) -> i32 {
    for entry in KTSTR_TESTS {
        let ignored = entry.ignored || entry.name.starts_with("demo_");
        let hidden = entry.name.starts_with("__unit_test_") && entry.name.ends_with("__");
        // The full listing contains all tests. nextest asks for the ignored ones in a second call.
        if !hidden && (ignored || !ignored_only) {
            println!("ktstr/{}: test", entry.name);
        }
    }
    match verifier_cells::names() {
        Ok(cells) if !ignored_only => cells.iter().for_each(|cell| println!("{cell}: test")),
        Ok(_) => {}
        Err(why) => {
            eprintln!("ktstr: {why}");
            return run::EXIT_FAIL;
        }
    }
    let own = std::env::current_exe().and_then(|program| {
        let mut command = Command::new(program);
        command.args(["--list", "--format", "terse"]);
        if ignored_only {
            command.arg("--ignored");
        }
        command.env_remove(&env::NEXTEST).output()
    });
    match own {
        Ok(output) if !output.status.success() => {
            eprint!("{}", String::from_utf8_lossy(&output.stderr));
            eprintln!(
                "ktstr: the test harness did not list its tests: {}",
                output.status
            );
            run::EXIT_INCONCLUSIVE
        }
        Ok(output) => {
            for line in String::from_utf8_lossy(&output.stdout).lines() {
                if !is_ours(line) {
                    println!("{line}");
                }
            }
            0
        }
        Err(error) => {
            eprintln!("ktstr: could not ask the test harness for its list: {error}");
            run::EXIT_INCONCLUSIVE
        }
    }
}

/// Returns whether a line of libtest's list stands for one of ktstr's tests, which `list` handles itself.
fn is_ours(line: &str) -> bool {
    let Some(path) = line.strip_suffix(": test") else {
        return false;
    };
    let name = path.rsplit("::").next().unwrap_or(path);
    // libtest knows an entry that is written by hand under the name of the function that the macro generates for it.
    crate::entry::find_test(name).is_some() || name.starts_with("__ktstr_entry_")
}

/// Runs one entry from the `main` of a binary, and returns the exit code.
pub fn run_as_main(entry: &'static crate::entry::KtstrTestEntry) -> ExitCode {
    let finished = run::run_and_repeat(entry);
    finished.print();
    ExitCode::from(finished.exit_code() as u8)
}
