//! Selects the binary that runs as the scheduler under test: the one that the environment or the declaration names,
//! otherwise the one that cargo builds from the current sources, otherwise one in the folder of the test's binary.

mod build;
mod check;
mod version;

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
            Self::Sibling => "sibling",
        }
    }

    /// Returns the description of the source on the screen.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Path => "found at the given path",
            Self::EnvVar => "named by KTSTR_SCHEDULER",
            Self::AutoBuilt => "built by cargo",
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
/// `SchedulerSpec::Path` is used as it is. For `SchedulerSpec::Discover` the variable `KTSTR_SCHEDULER` has priority;
/// otherwise cargo builds the package, which is quick if the binary is up to date. A binary in the folder of the test's own
/// binary is used only if there is no cargo, no workspace that cargo can read, or no such package or binary in it.
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
            None => discover(scheduler, name).map(Some),
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
                    "ktstr: the scheduler `{name}` is used as found at {}: {why}",
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
