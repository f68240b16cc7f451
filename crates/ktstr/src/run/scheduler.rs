//! Finding the scheduler's binary.

use std::path::{Path, PathBuf};
use std::process::Command;

use ktstr_scenario::scheduler::SchedulerSpec;

use super::RunError;

/// A scheduler's binary and how it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The binary.
    pub path: PathBuf,
    /// `path`, `env_var`, `sibling`, `target` or `auto_built`.
    pub source: &'static str,
}

/// Finds the binary of `spec`; `None` for those that have none.
///
/// `Discover` looks at `KTSTR_SCHEDULER`, beside the test binary (and above its `deps` folder),
/// in `target/debug` and `target/release`, and at last builds the package of that name.
pub fn find(spec: &SchedulerSpec) -> Result<Option<Found>, RunError> {
    match spec {
        SchedulerSpec::Path(path) => {
            let path = PathBuf::from(path);
            if path.is_file() {
                Ok(Some(Found {
                    path,
                    source: "path",
                }))
            } else {
                Err(RunError::SchedulerNotFound {
                    name: path.display().to_string(),
                    looked: format!("  {}", path.display()),
                })
            }
        }
        SchedulerSpec::Discover(name) => discover(name).map(Some),
        _ => Ok(None),
    }
}

fn discover(name: &str) -> Result<Found, RunError> {
    let mut looked = Vec::new();
    if let Some(path) = super::environment("KTSTR_SCHEDULER").map(PathBuf::from) {
        if path.is_file() {
            return Ok(Found {
                path,
                source: "env_var",
            });
        }
        looked.push(format!("KTSTR_SCHEDULER={}", path.display()));
    }
    let here = std::env::current_dir().unwrap_or_default();
    let mut places: Vec<(PathBuf, &'static str)> = Vec::new();
    if let Some(folder) = std::env::current_exe()
        .ok()
        .as_deref()
        .and_then(Path::parent)
    {
        places.push((folder.join(name), "sibling"));
        if folder.ends_with("deps")
            && let Some(above) = folder.parent()
        {
            places.push((above.join(name), "sibling"));
        }
    }
    for profile in ["debug", "release"] {
        places.push((here.join("target").join(profile).join(name), "target"));
    }
    for (path, source) in places {
        if path.is_file() {
            return Ok(Found { path, source });
        }
        looked.push(path.display().to_string());
    }
    match build(name, &here) {
        Ok(path) => Ok(Found {
            path,
            source: "auto_built",
        }),
        Err(why) => {
            looked.push(why);
            Err(RunError::SchedulerNotFound {
                name: name.to_owned(),
                looked: looked
                    .iter()
                    .map(|place| format!("  {place}"))
                    .collect::<Vec<_>>()
                    .join("\n"),
            })
        }
    }
}

/// Builds the package in the workspace around `here` and returns its binary.
fn build(name: &str, here: &Path) -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let what = format!("`cargo build -p {name}` in {}", here.display());
    let output = Command::new(cargo)
        .current_dir(here)
        .args(["build", "--quiet", "-p", name, "--message-format=json"])
        .output()
        .map_err(|e| format!("{what}: {e}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = text.trim().lines().collect();
        let last = &lines[lines.len().saturating_sub(6)..];
        return Err(format!("{what}: {}", last.join("\n    ")));
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .ok_or_else(|| format!("{what}: it built, but has no binary called {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_there_is_named() {
        let error = find(&SchedulerSpec::Path("/nowhere/scx_x")).expect_err("nothing there");
        assert!(error.to_string().contains("/nowhere/scx_x"), "{error}");
        assert_eq!(error.exit_code(), 1);
    }

    #[test]
    fn every_place_that_was_looked_at_is_named() {
        let error = find(&SchedulerSpec::Discover("scx_never_was")).expect_err("no such package");
        let text = error.to_string();
        for place in [
            "target/debug/scx_never_was",
            "target/release/scx_never_was",
            "cargo build -p scx_never_was",
        ] {
            assert!(text.contains(place), "{place} in {text}");
        }
    }

    #[test]
    fn eevdf_has_no_binary() {
        assert_eq!(find(&SchedulerSpec::Eevdf).expect("nothing to find"), None);
    }
}
