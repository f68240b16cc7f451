//! `cargo-ktstr` as a person calls it, and what it printed.

use std::path::Path;
use std::process::{Command, Output};

/// It with its runs under `root`, and the caller's kernels but no other wish of the caller's.
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

/// Standard output, then standard error.
pub fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The JSON it printed. Not every program of tests asks for it.
#[allow(dead_code)]
pub fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(output)))
}
