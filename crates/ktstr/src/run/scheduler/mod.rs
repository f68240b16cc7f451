//! Selects the binary that runs as the scheduler under test: the one that the environment or the declaration names,
//! otherwise the one that cargo builds from the current sources, otherwise one in the folder of the test's binary.

mod build;
mod check;
mod version;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use ktstr_scenario::scheduler::{Scheduler, SchedulerSpec};
use ktstr_state::env;

use super::RunError;
use build::Outcome;
pub(super) use version::Version;

/// The package of our own scheduler, and the name under which `cargo install cargo-ktstr` installs its binary.
const INSTALLED: (&str, &str) = ("scx-ktstr", "ktstr-demo-scheduler");

/// A scheduler's binary and how it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The path of the binary.
    pub path: PathBuf,
    /// How it was found.
    pub source: Source,
}

/// How a scheduler's binary was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The declaration contains its path.
    Path,
    /// The environment variable `KTSTR_SCHEDULER` names it.
    EnvVar,
    /// Cargo built it, or reported that it is up to date.
    AutoBuilt,
    /// It was recorded by the run that `cargo ktstr replay` repeats.
    Recorded,
    /// It is in the folder of the test's binary or, if that is `deps`, in the folder above, and cargo could not build it.
    Sibling,
}

impl Source {
    /// Returns the name of the source in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::EnvVar => "env_var",
            Self::AutoBuilt => "auto_built",
            Self::Recorded => "recorded",
            Self::Sibling => "sibling",
        }
    }

    /// Returns the description of the source on the screen.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Path => "found at the given path",
            Self::EnvVar => "named by KTSTR_SCHEDULER",
            Self::AutoBuilt => "built by cargo",
            Self::Recorded => "recorded by the run that is replayed",
            Self::Sibling => "next to the test's binary, not built by cargo",
        }
    }
}

impl Found {
    /// Returns the name of the scheduler that runs in place of the declaration's `spec`. A binary that the environment
    /// names is shown by its path, because it need not be the declared scheduler.
    pub(super) fn display_name(&self, spec: &SchedulerSpec) -> String {
        match self.source {
            Source::EnvVar => self.path.display().to_string(),
            _ => spec.display_name().to_owned(),
        }
    }
}

/// Finds the binary of `scheduler`; `None` for a scheduler without one.
///
/// `SchedulerSpec::Path` is used as it is. For `SchedulerSpec::Discover` the variable `KTSTR_SCHEDULER` has priority, then the
/// binaries of a run that is replayed, because the current sources may give other binaries. Otherwise cargo builds the package,
/// which is quick if the binary is up to date. A binary in the folder of the test's own binary is used only if there is no cargo,
/// no workspace that cargo can read, or no such package or binary in it.
///
/// # Errors
/// Returns an error if the file that was named or found cannot run in the guest, if the package does not build, if the name
/// of the cargo profile is invalid, if the cache of builds cannot be used, or if the scheduler was not found.
pub fn find(scheduler: &Scheduler) -> Result<Option<Found>, RunError> {
    match scheduler.binary {
        SchedulerSpec::Path(path) => {
            check::usable(Path::new(path), "the scheduler's path")?;
            Ok(Some(Found {
                path: path.into(),
                source: Source::Path,
            }))
        }
        SchedulerSpec::Discover(name) => match env::SCHEDULER.get() {
            Some(path) => named(&path).map(Some),
            None => match env::RECORDED_SCHEDULERS.get() {
                Some(list) => recorded(&list, name).map(Some),
                None => discover(scheduler, name).map(Some),
            },
        },
        SchedulerSpec::Eevdf | SchedulerSpec::KernelBuiltin { .. } => Ok(None),
    }
}

fn named(path: &Path) -> Result<Found, RunError> {
    check::usable(path, env::SCHEDULER.name())?;
    Ok(Found {
        path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
        source: Source::EnvVar,
    })
}

/// Returns the binary in the `list` of a recorded run's schedulers whose file has this name.
fn recorded(list: &OsStr, name: &str) -> Result<Found, RunError> {
    let all: Vec<PathBuf> = std::env::split_paths(list).collect();
    let is_it = |path: &&PathBuf| {
        let file = path.file_name().and_then(OsStr::to_str);
        file == Some(name) || name == INSTALLED.0 && file == Some(INSTALLED.1)
    };
    let mut named = all.iter().filter(is_it);
    let Some(path) = named.next() else {
        return Err(RunError::SchedulerNotFound {
            name: name.to_owned(),
            looked: std::iter::once(
                "  the recorded run had no binary of this name, only:".to_owned(),
            )
            .chain(all.iter().map(|path| format!("  {}", path.display())))
            .collect::<Vec<_>>()
            .join("\n"),
        });
    };
    if let Some(other) = named.next() {
        return Err(RunError::SchedulerNotFound {
            name: name.to_owned(),
            looked: format!(
                "  the recorded run had two binaries of this name: {} and {}",
                path.display(),
                other.display()
            ),
        });
    }
    check::usable(path, "the recorded scheduler")?;
    Ok(Found {
        path: path.clone(),
        source: Source::Recorded,
    })
}

fn discover(scheduler: &Scheduler, name: &str) -> Result<Found, RunError> {
    let request = build::Request::of(scheduler, name)?;
    // A program that runs outside of a workspace is usually installed together with its scheduler. The use of that scheduler
    // is expected, so it is not announced.
    let (why, expected) = match build::build(&request)? {
        Outcome::Built(path) => {
            return Ok(Found {
                path,
                source: Source::AutoBuilt,
            });
        }
        Outcome::NotThere(why) => (why, false),
        Outcome::NoWorkspace(why) => (why, true),
    };
    let places = siblings(name);
    match places.iter().find(|path| path.is_file()) {
        Some(path) => {
            check::usable(path, "the binary next to the test's")?;
            if !expected {
                eprintln!(
                    "ktstr: the scheduler `{name}` was not built, so the binary at {} is used: {why}",
                    path.display()
                );
            }
            Ok(Found {
                path: path.clone(),
                source: Source::Sibling,
            })
        }
        None => Err(RunError::SchedulerNotFound {
            name: name.to_owned(),
            looked: std::iter::once(why)
                .chain(places.iter().map(|place| place.display().to_string()))
                .map(|line| format!("  {line}"))
                .collect::<Vec<_>>()
                .join("\n"),
        }),
    }
}

/// Returns the paths that a scheduler's binary may have in the folder of the test's binary and, if that is `deps`, in
/// the folder above.
fn siblings(name: &str) -> Vec<PathBuf> {
    let own = std::env::current_exe().unwrap_or_default();
    let Some(folder) = own.parent() else {
        return Vec::new();
    };
    let above = folder.parent().filter(|_| folder.ends_with("deps"));
    let folders = [Some(folder), above].into_iter().flatten();
    let installed = (name == INSTALLED.0).then_some(INSTALLED.1);
    folders
        .flat_map(|folder| {
            let names = std::iter::once(name).chain(installed);
            names.map(|name| folder.join(name))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(spec: SchedulerSpec) -> RunError {
        find(&Scheduler::named("x").binary(spec)).expect_err("must be refused")
    }

    #[test]
    fn an_error_names_a_path_that_does_not_exist() {
        let error = error(SchedulerSpec::Path("/nowhere/scx_x"));
        assert!(error.to_string().contains("/nowhere/scx_x"), "{error}");
        assert_eq!(error.exit_code(), 1);
    }

    #[test]
    fn an_error_names_every_place_that_was_searched() {
        let text = error(SchedulerSpec::Discover("scx_never_was")).to_string();
        let places = siblings("scx_never_was");
        assert_eq!(places.len(), 2);
        for place in places {
            let place = place.display().to_string();
            assert!(text.contains(&place), "{place} is not in {text}");
        }
        assert!(text.contains("cargo build -p scx_never_was"), "{text}");
        assert!(
            text.contains("has no package or binary of that name"),
            "{text}"
        );
    }

    #[test]
    fn the_installed_demo_finds_its_scheduler_beside_it() {
        let own = std::env::current_exe().expect("our binary");
        let place = own.with_file_name("ktstr-demo-scheduler");
        assert!(siblings("scx-ktstr").contains(&place));
        assert!(!siblings("scx_other").contains(&place));
    }

    #[test]
    fn a_replay_takes_the_recorded_binary_of_that_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let own = std::env::current_exe().expect("our binary");
        let put = |name: &str| {
            let path = folder.path().join(name);
            std::os::unix::fs::symlink(&own, &path).expect("a link");
            path
        };
        let (one, other) = (put("scx_one"), put("scx_other"));
        let list = std::env::join_paths([&one, &other]).expect("a list");
        let found = recorded(&list, "scx_other").expect("it is in the list");
        assert_eq!(
            (found.path, found.source),
            (other.clone(), Source::Recorded)
        );
        let error = recorded(&list, "scx_third")
            .expect_err("refused")
            .to_string();
        assert!(
            error.contains("the recorded run had no binary of this name, only:"),
            "{error}"
        );
        assert!(error.contains("scx_one"), "{error}");
        // A name that two of the binaries have is refused only if it is searched for.
        let twice = std::env::join_paths([&one, Path::new("/other/scx_one"), &other]);
        let twice = twice.expect("a list");
        assert!(recorded(&twice, "scx_other").is_ok());
        let error = recorded(&twice, "scx_one")
            .expect_err("refused")
            .to_string();
        assert!(error.contains("two binaries of this name"), "{error}");
    }

    #[test]
    fn eevdf_has_no_binary() {
        assert_eq!(find(&Scheduler::EEVDF).expect("nothing to find"), None);
    }

    #[test]
    fn a_scheduler_from_the_environment_is_shown_by_its_path() {
        let spec = SchedulerSpec::Discover("scx-ktstr");
        let found = |source| Found {
            path: "/other/scx-ktstr".into(),
            source,
        };
        assert_eq!(found(Source::AutoBuilt).display_name(&spec), "scx-ktstr");
        assert_eq!(
            found(Source::EnvVar).display_name(&spec),
            "/other/scx-ktstr"
        );
    }
}
