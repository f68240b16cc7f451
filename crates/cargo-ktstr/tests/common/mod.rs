//! Helpers that run `cargo-ktstr` and read its output.

use std::path::Path;
use std::process::{Command, Output};

/// Returns a command that keeps its runs under `root`, and uses the caller's kernels, but not the caller's scheduler,
/// seed and clock.
pub fn ktstr(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-ktstr"));
    command
        .args(arguments)
        .env("KTSTR_RUNS_ROOT", root)
        .env_remove("KTSTR_SCHEDULER")
        .env_remove("KTSTR_SEED")
        .env_remove("KTSTR_CLOCK");
    command
}

/// Runs `cargo ktstr run` with these arguments in the folder `root`, under the virtual clock, as a user without a project. The
/// runs are kept in `root/ktstr`. Not every test binary uses this function.
#[allow(dead_code)]
pub fn run(root: &Path, words: &[&str]) -> Output {
    ktstr(&root.join("ktstr"), &["run"])
        .args(words)
        .env("KTSTR_CLOCK", "virtual")
        .current_dir(root)
        .output()
        .unwrap_or_else(|e| panic!("cannot start cargo-ktstr: {e}"))
}

/// Returns the standard output, followed by the standard error.
pub fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Parses the JSON on the standard output. Not every test binary uses this function.
#[allow(dead_code)]
pub fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(output)))
}
