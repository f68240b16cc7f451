//! The code that runs before `main` in every binary with ktstr tests, and a function by which a `main` runs one test.
//!
//! The same binary is the guest's test process and the host's test runner. A function in `.init_array` decides which of these
//! it is, because that must be known before libtest parses the arguments.

use std::process::ExitCode;

use ktstr_state::env;

use crate::{guest_side, nextest, run};

#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

extern "C" fn before_main() {
    if ktstr_guest::init::is_test_process() {
        std::process::exit(guest_side::main());
    }
    if env::NEXTEST.is_on() && nextest::has_tests() {
        let arguments: Vec<String> = std::env::args_os()
            .skip(1)
            .map(|a| a.to_string_lossy().into_owned())
            .collect();
        if let Some(code) = nextest::answer(&arguments) {
            std::process::exit(code);
        }
    }
}

/// Runs one entry from the `main` of a binary, and returns the exit code.
pub fn run_as_main(entry: &'static crate::entry::KtstrTestEntry) -> ExitCode {
    let finished = run::run_and_repeat(entry);
    finished.print();
    ExitCode::from(finished.exit_code() as u8)
}
