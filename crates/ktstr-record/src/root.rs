//! Finds the folder that holds the records of runs.

use std::env;
use std::path::{Path, PathBuf};

use ktstr_state::env as variables;
use ktstr_state::env::Variable;

/// Returns the folder that holds the runs: `KTSTR_RUNS_ROOT` if it is set, else `ktstr` in Cargo's target folder.
///
/// The target folder is `CARGO_TARGET_DIR` if that is absolute, else the folder into which this executable was built
/// (`…/target/debug/deps/name-hash`), else a relative `CARGO_TARGET_DIR` in the working directory, else `target` next to the
/// nearest `Cargo.lock` at or above the working directory, else `target` in the working directory.
#[must_use]
pub fn runs_root() -> PathBuf {
    let exe = env::current_exe().ok();
    let cwd = env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    find(Variable::<variables::Path>::get, exe.as_deref(), &cwd)
}

fn find(
    get: impl Fn(&Variable<variables::Path>) -> Option<PathBuf>,
    exe: Option<&Path>,
    cwd: &Path,
) -> PathBuf {
    if let Some(root) = get(&variables::RUNS_ROOT) {
        return cwd.join(root);
    }
    let target = get(&variables::CARGO_TARGET_DIR);
    // Cargo resolves a relative CARGO_TARGET_DIR against the folder in which cargo was called, but it starts a test in the folder
    // of the test's package. So the path of the executable is more reliable than a relative path.
    let target = match target {
        Some(absolute) if absolute.is_absolute() => absolute,
        relative => exe
            .and_then(target_of)
            .or_else(|| relative.map(|relative| cwd.join(relative)))
            .unwrap_or_else(|| workspace_of(cwd).join("target")),
    };
    target.join("ktstr")
}

/// Returns the target folder that contains `exe`, recognised by the tag file that cargo puts there; `None` if there is none.
fn target_of(exe: &Path) -> Option<PathBuf> {
    exe.ancestors()
        .skip(1)
        .find(|folder| folder.join("CACHEDIR.TAG").is_file())
        .map(Path::to_path_buf)
}

/// Returns the nearest folder at or above `cwd` with a `Cargo.lock`, which only the root of a workspace has; `cwd` itself if
/// there is none.
fn workspace_of(cwd: &Path) -> &Path {
    cwd.ancestors()
        .find(|folder| folder.join("Cargo.lock").is_file())
        .unwrap_or(cwd)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    fn with(
        vars: &'static [(&'static str, &'static str)],
    ) -> impl Fn(&Variable<variables::Path>) -> Option<PathBuf> {
        move |variable| {
            vars.iter()
                .find(|(key, _)| *key == variable.name())
                .map(|(_, value)| PathBuf::from(value))
        }
    }

    #[test]
    fn the_order_of_places() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        let member = dir.path().join("crates/member");
        fs::create_dir_all(target.join("debug/deps")).unwrap();
        fs::create_dir_all(&member).unwrap();
        fs::write(target.join("CACHEDIR.TAG"), "").unwrap();
        fs::write(dir.path().join("Cargo.lock"), "").unwrap();
        let exe = target.join("debug/deps/test-0123");

        let named = with(&[("KTSTR_RUNS_ROOT", "/runs"), ("CARGO_TARGET_DIR", "/t")]);
        assert_eq!(find(named, Some(&exe), &member), Path::new("/runs"));
        assert_eq!(
            find(with(&[("CARGO_TARGET_DIR", "/t")]), Some(&exe), &member),
            Path::new("/t/ktstr")
        );
        assert_eq!(
            find(with(&[("CARGO_TARGET_DIR", "out")]), Some(&exe), &member),
            target.join("ktstr")
        );
        assert_eq!(find(with(&[]), Some(&exe), &member), target.join("ktstr"));
        let installed = Path::new("/nonexistent/bin/cargo-ktstr");
        assert_eq!(
            find(with(&[]), Some(installed), &member),
            dir.path().join("target/ktstr")
        );
    }
}
