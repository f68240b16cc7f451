//! Finds the test binary that contains a test: cargo builds the binaries and lists them, and each binary lists its tests.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use ktstr_state::env;
use serde_json::Value;

use crate::child;

/// Builds the tests of `package`, or of the package of this folder, and returns the test binaries.
pub fn build(package: Option<&str>) -> Result<Vec<PathBuf>> {
    let cargo = env::CARGO.get().unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["test", "--no-run", "--message-format=json"]);
    if let Some(package) = package {
        command.args(["--package", package]);
    }
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("running cargo to build the tests")?;
    if !output.status.success() {
        bail!("cargo could not build the tests: see its output above");
    }
    Ok(executables(&String::from_utf8_lossy(&output.stdout)))
}

/// Builds the tests of `package`, or of the package of this folder, and finds the binary that has `test`.
pub fn find(test: &str, package: Option<&str>) -> Result<PathBuf> {
    let binaries = build(package)?;
    let mut with = Vec::new();
    for binary in &binaries {
        if has(binary, test)? {
            with.push(binary.clone());
        }
    }
    match &with[..] {
        [one] => Ok(one.clone()),
        [] => bail!(
            "none of the {} test binaries of this package has a test `{test}` of ktstr's: give the package with \
             --package, or a binary with --binary; `NEXTEST=1 BINARY --list` lists what one has",
            binaries.len()
        ),
        several => bail!(
            "several test binaries have a test `{test}`: choose one with --binary:\n  {}",
            several
                .iter()
                .map(|path| path.display().to_string())
                .collect::<Vec<_>>()
                .join("\n  ")
        ),
    }
}

/// Returns the test binaries in the output of cargo, which has one JSON object per line.
fn executables(messages: &str) -> Vec<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["profile"]["test"] == true)
        .filter_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
        .collect()
}

/// Returns whether `binary` lists the test.
fn has(binary: &Path, test: &str) -> Result<bool> {
    let name = format!("{}{test}", child::TEST);
    Ok(listed(binary, false, &[])?.contains(&name))
}

/// Returns the names of the tests that `binary` lists: all, or only those that are ignored. The variables `list` (which may be
/// `KTSTR_KERNEL_LIST` and `KTSTR_SEED_LIST`) determine which variants of a test there are.
///
/// # Errors
/// The binary cannot be run, or refuses one of these variables.
pub fn listed(binary: &Path, only_ignored: bool, list: &[(&str, String)]) -> Result<Vec<String>> {
    let mut command = Command::new(binary);
    command
        .arg("--list")
        .args(only_ignored.then_some("--ignored"))
        .env(&env::NEXTEST, "1")
        .env_remove(&env::KERNEL_LIST)
        .env_remove(&env::SEED_LIST)
        .envs(list.iter().map(|(name, value)| (*name, value)))
        .stdin(Stdio::null());
    let output = command
        .output()
        .with_context(|| format!("asking {} for its tests", binary.display()))?;
    if !output.status.success() {
        bail!(
            "{} did not list its tests: {}",
            binary.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let listed = String::from_utf8_lossy(&output.stdout);
    let names = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"));
    Ok(names.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_test_binaries_are_asked() {
        let messages = r#"
{"reason":"compiler-artifact","profile":{"test":false},"executable":"/t/debug/tool"}
{"reason":"compiler-artifact","profile":{"test":true},"executable":"/t/debug/deps/fair-1"}
{"reason":"compiler-artifact","profile":{"test":true},"executable":null}
not json
{"reason":"build-finished","success":true}"#;
        assert_eq!(
            executables(messages),
            [PathBuf::from("/t/debug/deps/fair-1")]
        );
    }
}
