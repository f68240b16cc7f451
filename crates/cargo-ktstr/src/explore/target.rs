//! Finds the test binary that contains a test: cargo builds the binaries and lists them, and each binary lists its tests.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use ktstr_record::TestName;
use ktstr_state::env;
use serde_json::Value;

/// A test binary, and the folder in which it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binary {
    /// The path of the file.
    pub path: PathBuf,
    /// The folder of its package, in which cargo starts it; `None` for a binary that cargo did not build for this command.
    pub folder: Option<PathBuf>,
}

impl Binary {
    /// Returns the binary at `path`, which is started in the folder of this process.
    ///
    /// # Errors
    /// If the path is empty, or if there is no current folder.
    pub fn at(path: &Path) -> Result<Self> {
        Ok(Self {
            path: std::path::absolute(path)?,
            folder: None,
        })
    }

    /// Makes the command start the binary as cargo does: in the folder of its package.
    pub fn place(&self, command: &mut Command) {
        if let Some(folder) = &self.folder {
            command
                .current_dir(folder)
                .env(&env::CARGO_MANIFEST_DIR, folder);
        }
    }
}

/// Builds the tests of `package`, or of the package of this folder, and returns the test binaries, sorted by their file names.
pub fn build(package: Option<&str>) -> Result<Vec<Binary>> {
    let cargo = env::CARGO.get().unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args([
        "test",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ]);
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
pub fn find(test: &str, package: Option<&str>) -> Result<Binary> {
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
            "none of the {} test binaries of this package has a ktstr test `{test}`: `cargo ktstr test --list` prints the names; \
             --package names another package, and --binary a test binary",
            binaries.len()
        ),
        several => bail!(
            "several test binaries have a test `{test}`: choose one with --binary:\n  {}",
            several
                .iter()
                .map(|binary| binary.path.display().to_string())
                .collect::<Vec<_>>()
                .join("\n  ")
        ),
    }
}

/// Returns the test binaries in the output of cargo, which has one JSON object per line. Cargo prints them in the order in which
/// their builds ended. They are sorted here, so that the order is the same on every machine.
fn executables(messages: &str) -> Vec<Binary> {
    let messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["profile"]["test"] == true);
    let binary = |message: Value| {
        let manifest = message["manifest_path"].as_str().map(Path::new);
        Some(Binary {
            path: PathBuf::from(message["executable"].as_str()?),
            folder: manifest.and_then(Path::parent).map(Path::to_owned),
        })
    };
    let mut binaries: Vec<Binary> = messages.filter_map(binary).collect();
    binaries.sort_by(|a, b| a.path.file_name().cmp(&b.path.file_name()));
    binaries
}

/// Returns whether `binary` lists the test.
fn has(binary: &Binary, test: &str) -> Result<bool> {
    let name = TestName::declared(test).to_string();
    Ok(listed(binary, false, &[])?.contains(&name))
}

/// Returns the names of the tests that `binary` lists: all, or only those that are ignored. `lists` has environment variables for
/// the binary: `KTSTR_KERNEL_LIST` and `KTSTR_SEED_LIST` determine which variants of a test there are.
///
/// # Errors
/// The binary cannot be run, or refuses one of these variables.
pub fn listed(
    binary: &Binary,
    only_ignored: bool,
    lists: &[(&str, String)],
) -> Result<Vec<String>> {
    let path = &binary.path;
    let mut command = Command::new(path);
    command
        .arg("--list")
        .args(only_ignored.then_some("--ignored"))
        .env(&env::NEXTEST, "1")
        .env_remove(&env::KERNEL_LIST)
        .env_remove(&env::SEED_LIST)
        .envs(lists.iter().map(|(name, value)| (*name, value)))
        .stdin(Stdio::null());
    binary.place(&mut command);
    let output = command
        .output()
        .with_context(|| format!("asking {} for its tests", path.display()))?;
    if !output.status.success() {
        bail!(
            "{} did not list its tests: {}",
            path.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    if !only_ignored {
        // The binary's messages are passed on, such as a warning about two tests of one name.
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
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
{"reason":"compiler-artifact","profile":{"test":true},"executable":"/t/debug/deps/fair-1","manifest_path":"/p/Cargo.toml"}
{"reason":"compiler-artifact","profile":{"test":true},"executable":"/t/debug/deps/a-1"}
{"reason":"compiler-artifact","profile":{"test":true},"executable":null}
not json
{"reason":"build-finished","success":true}"#;
        let binary = |path: &str, folder: Option<&str>| Binary {
            path: PathBuf::from(path),
            folder: folder.map(PathBuf::from),
        };
        assert_eq!(
            executables(messages),
            [
                binary("/t/debug/deps/a-1", None),
                binary("/t/debug/deps/fair-1", Some("/p"))
            ]
        );
    }
}
