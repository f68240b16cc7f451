//! Lets cargo build a scheduler, as `cargo run` would, because only cargo knows what is out of date.
//!
//! Asking cargo about a package that is up to date takes some tenths of a second. Tests that run in parallel in separate
//! processes (under nextest, or as children of `cargo ktstr`) pay this once: the first test of a session asks cargo, and
//! stores the answer for the others in a file, which is locked meanwhile. A later session asks again, so that no edit is
//! missed.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use ktstr_scenario::scheduler::Scheduler;
use ktstr_state::{Lock, Place, env};
use serde_json::Value;

use crate::run::RunError;

/// A build that takes longer than this is announced.
const QUIET: Duration = Duration::from_secs(2);
/// The largest number of lines of cargo's output that an error quotes.
const LAST_LINES: usize = 12;
/// Stored answers that are older than this are removed.
const KEEP: Duration = Duration::from_secs(24 * 3600);

/// A request to build a scheduler.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Request {
    /// The name of the package or of the binary.
    name: String,
    /// A folder inside the workspace in which to build.
    folder: PathBuf,
    profile: String,
    features: Vec<String>,
}

/// The result of a build that did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The path of the binary, which was up to date when cargo was asked.
    Built(PathBuf),
    /// Cargo could not be run or could not read the workspace, or the workspace has no such package or binary.
    /// Holds the reason.
    NotThere(String),
    /// There is no workspace in which the scheduler could be built, as is usual for an installed program. Holds the reason,
    /// which names the folder that was searched.
    NoWorkspace(String),
}

impl Request {
    /// Creates the request for what `scheduler` declares: its crate's folder, its features, and its profile unless
    /// `KTSTR_SCHEDULER_PROFILE` overrides it. Without a declared profile, the profile is that of the test's own binary.
    pub(super) fn of(scheduler: &Scheduler, name: &str) -> Result<Self, RunError> {
        let declared = scheduler.effective_manifest_dir().map(PathBuf::from);
        // Cargo and nextest pass the folder of the test's package in the environment.
        let folder = declared
            .filter(|folder| folder.is_dir())
            .or_else(|| env::CARGO_MANIFEST_DIR.get())
            .or_else(|| std::env::current_dir().ok())
            .unwrap_or_default();
        let profile = profile(env::SCHEDULER_PROFILE.get()?, scheduler.build_profile, name)?;
        Ok(Self {
            name: name.to_owned(),
            folder,
            profile,
            features: scheduler
                .build_features
                .iter()
                .map(|f| (*f).to_owned())
                .collect(),
        })
    }

    fn arguments(&self, package: &str, binary: Option<&str>) -> Vec<String> {
        let mut arguments = ["build", "-p", package, "--profile", &self.profile]
            .map(str::to_owned)
            .to_vec();
        if let Some(binary) = binary {
            arguments.extend(["--bin".to_owned(), binary.to_owned()]);
        }
        if !self.features.is_empty() {
            arguments.extend(["--features".to_owned(), self.features.join(",")]);
        }
        if env::OFFLINE.is_on() {
            arguments.push("--offline".to_owned());
        }
        arguments
    }
}

/// Returns the profile that the user asks for, or else the declared one, or else that of the test's own binary.
fn profile(asked: Option<String>, declared: Option<&str>, name: &str) -> Result<String, RunError> {
    Ok(match (asked, declared) {
        (Some(asked), _) if is_profile(&asked) => asked,
        (Some(asked), _) => return Err(env::SCHEDULER_PROFILE.unaccepted(asked).into()),
        (None, Some(declared)) if is_profile(declared) => declared.to_owned(),
        (None, Some(declared)) => {
            return Err(RunError::BuildProfile {
                name: name.to_owned(),
                profile: declared.to_owned(),
            });
        }
        (None, None) => profile_of(&std::env::current_exe().unwrap_or_default()),
    })
}

/// Whether cargo could have a profile of this name.
fn is_profile(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    !name.is_empty() && name.chars().all(plain) && !name.starts_with('-')
}

/// Returns the profile with which the program at `own` was built, judging by the folder into which cargo put it.
fn profile_of(own: &Path) -> String {
    let inner = ["deps", "examples"];
    let folder = own
        .ancestors()
        .skip(1)
        .find(|folder| !inner.iter().any(|inner| folder.ends_with(inner)));
    let name = folder.and_then(Path::file_name).unwrap_or_default();
    match name.to_str() {
        Some("debug") | None => "dev".to_owned(),
        Some("release") => "release".to_owned(),
        // This is a custom profile. A program that was installed is not in such a folder.
        Some(name) if folder.is_some_and(|f| f.join(".fingerprint").is_dir()) => name.to_owned(),
        Some(_) => "dev".to_owned(),
    }
}

/// Returns the name of the session: nextest's own, or the one that `cargo ktstr` sets for its children; `None` outside of a
/// session.
fn session() -> Result<Option<String>, RunError> {
    Ok(match env::NEXTEST_RUN_ID.get()? {
        Some(run) => Some(run),
        None => env::SESSION.get()?,
    })
}

/// Builds the scheduler, once per session, or once per process outside of a session.
pub(super) fn build(request: &Request) -> Result<Outcome, RunError> {
    static DONE: Mutex<Option<HashMap<Request, Outcome>>> = Mutex::new(None);
    // The map is valid even if a test panicked while it held the lock, because entries are only added.
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    let done = done.get_or_insert_default();
    if let Some(outcome) = done.get(request) {
        return Ok(outcome.clone());
    }
    let outcome = match session()? {
        None => ask(request)?,
        Some(session) => {
            let cache = ktstr_kernel::cache::Cache::from_env()?;
            of_session(request, &session, cache.folder("builds")?.path())?
        }
    };
    done.insert(request.clone(), outcome.clone());
    Ok(outcome)
}

/// Returns the binary whose path another process of the session has stored. If none is stored, asks cargo, and stores the
/// path of the binary that cargo has built, if any.
fn of_session(request: &Request, session: &str, folder: &Path) -> Result<Outcome, RunError> {
    let key = blake3::hash(format!("{session}\0{request:?}").as_bytes());
    let Ok(lock) = open(folder, &key.to_hex()[..32]) else {
        // If the answer cannot be stored, the other tests have to ask again, which only costs time.
        return ask(request);
    };
    let mut answer = lock.file();
    let mut kept = String::new();
    if answer.read_to_string(&mut kept).is_ok()
        && let Some(path) = kept.strip_suffix('\n').map(PathBuf::from)
        && path.is_file()
    {
        return Ok(Outcome::Built(path));
    }
    let outcome = ask(request)?;
    if let Outcome::Built(path) = &outcome {
        // The newline marks the answer as complete. If it cannot be stored, the next process asks cargo again.
        let _ = answer
            .set_len(0)
            .and_then(|()| answer.rewind())
            .and_then(|()| writeln!(answer, "{}", path.display()));
    }
    Ok(outcome)
}

/// Returns whether a file of the folder is an answer, whose name is the first half of a BLAKE3 hash.
fn is_answer(name: &OsStr) -> bool {
    name.len() == 32 && name.as_encoded_bytes().iter().all(u8::is_ascii_hexdigit)
}

/// Opens and locks the file for the answer, and removes answers that have not been written for longer than [`KEEP`]. A file
/// that cannot be removed is left. An answer is a lock file, too; if it is removed while it is held, cargo is only asked twice.
/// The folder also contains the locks of kernel builds, which must stay, because two builds at once would write the same files.
fn open(folder: &Path, name: &str) -> Result<Lock, RunError> {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if !is_answer(&entry.file_name()) {
            continue;
        }
        let age = entry.metadata().and_then(|meta| meta.modified());
        if age.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > KEEP)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    let what = "a build of the scheduler for another test of this session";
    Ok(Lock::take(&folder.join(name), Place::CACHE, what)?)
}

/// Lets cargo build the scheduler's package, and reads the path of the binary from cargo's messages. If no package has the
/// name, builds the package that has a binary of that name.
fn ask(request: &Request) -> Result<Outcome, RunError> {
    let name = request.name.as_str();
    if !(request.folder.ancestors()).any(|folder| folder.join("Cargo.toml").is_file()) {
        let folder = request.folder.display();
        return Ok(Outcome::NoWorkspace(format!(
            "cargo was not asked: neither {folder} nor a folder above it has a Cargo.toml"
        )));
    }
    let arguments = request.arguments(name, None);
    let what = format!(
        "`cargo {}` in {}",
        arguments.join(" "),
        request.folder.display()
    );
    let output = match announced(&what, || cargo(request, &arguments)) {
        Ok(output) => output,
        Err(error) => return Ok(Outcome::NotThere(format!("{what}: {error}"))),
    };
    if output.status.success() {
        return Ok(match executable(&output, name) {
            Some(path) => Outcome::Built(path),
            None => Outcome::NotThere(format!("{what}: the package has no binary called {name}")),
        });
    }
    // Whether the package exists is checked only after a failure, so that successful builds do not pay for it.
    match package_of(request) {
        Ok(Some((package, binary))) if package != name => {
            let arguments = request.arguments(&package, Some(&binary));
            let what = format!(
                "`cargo {}` in {}",
                arguments.join(" "),
                request.folder.display()
            );
            match announced(&what, || cargo(request, &arguments)) {
                Ok(output) if output.status.success() => Ok(match executable(&output, name) {
                    Some(path) => Outcome::Built(path),
                    None => Outcome::NotThere(format!("{what}: it built no binary {name}")),
                }),
                Ok(output) => Err(failed(name, what, &output)),
                Err(error) => Ok(Outcome::NotThere(format!("{what}: {error}"))),
            }
        }
        Ok(Some(_)) => Err(failed(name, what, &output)),
        Ok(None) => Ok(Outcome::NotThere(format!(
            "{what}: that workspace has no package or binary of that name"
        ))),
        Err(why) => Ok(Outcome::NotThere(format!("{what}: {why}"))),
    }
}

fn failed(name: &str, what: String, output: &Output) -> RunError {
    RunError::SchedulerBuild {
        name: name.to_owned(),
        what,
        status: output.status.to_string(),
        last_lines: last_lines(&output.stderr),
    }
}

/// Returns the name of the workspace's package that is called `request.name` or has a binary of that name, and the name of
/// that binary. `None` if there is no such package, and an error if cargo cannot read the workspace.
fn package_of(request: &Request) -> Result<Option<(String, String)>, String> {
    let arguments = ["metadata", "--no-deps", "--format-version", "1"].map(str::to_owned);
    let output = run(request, &arguments).map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(last_lines(&output.stderr).trim().to_owned());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).map_err(|e| e.to_string())?;
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let name = request.name.as_str();
    let has_binary = |package: &Value| {
        let targets = package["targets"].as_array().cloned().unwrap_or_default();
        targets.iter().any(|target| {
            let kinds = target["kind"].as_array().cloned().unwrap_or_default();
            target["name"] == name && kinds.iter().any(|kind| kind == "bin")
        })
    };
    let by_name = packages.iter().find(|package| package["name"] == name);
    let found = by_name.or_else(|| packages.iter().find(|package| has_binary(package)));
    let package = found.and_then(|package| package["name"].as_str());
    Ok(package.map(|package| (package.to_owned(), name.to_owned())))
}

/// Returns the path of the binary `name`, from cargo's messages; `None` if cargo built no such binary.
fn executable(output: &Output, name: &str) -> Option<PathBuf> {
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

fn cargo(request: &Request, arguments: &[String]) -> std::io::Result<Output> {
    let mut arguments = arguments.to_vec();
    arguments.extend(["--quiet", "--message-format=json-render-diagnostics"].map(str::to_owned));
    run(request, &arguments)
}

fn run(request: &Request, arguments: &[String]) -> std::io::Result<Output> {
    let cargo = env::CARGO.get();
    let mut command = Command::new(cargo.unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(&request.folder)
        .args(arguments)
        .stdin(Stdio::null());
    bound_to_us(&mut command).output()
}

/// Lets the kernel kill a program when the thread that starts it exits (`PR_SET_PDEATHSIG`).
pub(super) fn bound_to_us(command: &mut Command) -> &mut Command {
    use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};
    let parent = getpid();
    // SAFETY: the closure only makes system calls, which are async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // The kernel sends the signal only if the parent dies after the call.
            match getppid() == Some(parent) {
                true => Ok(()),
                false => Err(rustix::io::Errno::SRCH.into()),
            }
        })
    }
}

/// Calls `work`, and prints that the run waits for `what` if that takes longer than [`QUIET`].
fn announced<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let (done, is_done) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if is_done.recv_timeout(QUIET) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("ktstr: waiting for {what}");
            }
        });
        let result = work();
        drop(done);
        result
    })
}

fn last_lines(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(LAST_LINES)..]
        .iter()
        .map(|line| format!("    {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
