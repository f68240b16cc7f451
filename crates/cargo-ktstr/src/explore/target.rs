//! Finds the test binary that contains a test: cargo builds the binaries and lists them, and each binary lists its tests.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use ktstr_state::env;
use serde_json::Value;

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
    Ok(tests(binary, false)?.iter().any(|name| name == test))
}

/// Returns the names of the tests of ktstr that `binary` lists: all, or only those that are ignored. A binary that does not link
/// ktstr lists only its ordinary tests, so it has none.
pub fn tests(binary: &Path, only_ignored: bool) -> Result<Vec<String>> {
    let output = Command::new(binary)
        .arg("--list")
        .args(only_ignored.then_some("--ignored"))
        .env(&env::NEXTEST, "1")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("asking {} for its tests", binary.display()))?;
    let listed = String::from_utf8_lossy(&output.stdout);
    let names = listed.lines().filter_map(|line| {
        let name = line.strip_prefix("ktstr/")?.strip_suffix(": test")?;
        Some(name.to_owned())
    });
    Ok(names.collect())
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
