//! Helpers of the end-to-end tests: entries that are not tests themselves, and runs of this binary in a separate process and
//! environment, like a user's.

// Each test binary uses only a part of this module.
#![allow(dead_code)]

pub mod wedge;

use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use ktstr::test_support::{Scheduler, SchedulerSpec};
use ktstr_record::Listed;

/// Returns scx-ktstr with these arguments, such as the option that turns on a planted defect.
pub const fn scx_ktstr(args: &'static [&'static str]) -> Scheduler {
    Scheduler::named("scx_ktstr")
        .binary(SchedulerSpec::Discover("scx-ktstr"))
        .sched_args(args)
}

/// Registers an entry that only [`Case`] runs: its name excludes it from every listing, and it is not a `#[test]`.
#[macro_export]
macro_rules! case {
    ($entry:ident = $name:expr, $func:expr $(, $field:ident: $value:expr)* $(,)?) => {
        #[ktstr::distributed_slice(ktstr::test_support::KTSTR_TESTS)]
        #[linkme(crate = ktstr::linkme)]
        static $entry: ktstr::test_support::KtstrTestEntry = ktstr::test_support::KtstrTestEntry {
            name: concat!("__unit_test_", $name, "__"),
            func: $func,
            $($field: $value,)*
            ..ktstr::test_support::KtstrTestEntry::DEFAULT
        };
    };
}

/// A run of one entry in a separate process, with its own folder for records, locks and temporary files.
pub struct Case {
    pub command: Command,
    pub folder: tempfile::TempDir,
}

/// The results of a run after its process has exited.
pub struct Ended {
    pub code: Option<i32>,
    /// The standard error of the process; invalid UTF-8 is replaced.
    pub text: String,
    /// The run's record, if it left one.
    pub record: Option<Listed>,
    _folder: tempfile::TempDir,
}

impl Case {
    /// Creates a run of the entry that `case!` registered under `name`.
    pub fn new(name: &str) -> Self {
        let program = std::env::current_exe().expect("a test knows its own binary");
        let mut command = Command::new(program);
        command
            .args([
                "--exact",
                &format!("ktstr/__unit_test_{name}__"),
                "--nocapture",
            ])
            .stdin(Stdio::null());
        Self::of(command)
    }

    /// Creates a run from any command that runs an entry.
    pub fn of(mut command: Command) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        command
            .env("NEXTEST", "1")
            .env("KTSTR_RUNS_ROOT", folder.path().join("runs"))
            // Most of these runs must fail, and a test reads one record of each, so failed runs are not repeated.
            .env("KTSTR_AUTO_REPRO", "0")
            .env_remove("RUST_BACKTRACE")
            .env_remove("KTSTR_SCHEDULER")
            .env_remove("KTSTR_VERBOSE");
        Self { command, folder }
    }

    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets the kernel, as a user names it.
    pub fn kernel(self, request: impl AsRef<std::ffi::OsStr>) -> Self {
        let mut named = self.env("KTSTR_KERNEL", request);
        named.command.env_remove("KTSTR_TEST_KERNEL");
        named
    }

    pub fn run(mut self) -> Ended {
        let output = self.command.output().expect("the test binary starts");
        let mut records = records(&self.folder.path().join("runs"));
        assert!(
            records.len() <= 1,
            "a run leaves at most one record: {records:?}"
        );
        Ended {
            code: output.status.code(),
            text: String::from_utf8_lossy(&output.stderr).into_owned(),
            record: records.pop(),
            _folder: self.folder,
        }
    }
}

impl Ended {
    /// Asserts the exit code and that the text holds all of `parts`.
    #[track_caller]
    pub fn says(&self, code: i32, parts: &[&str]) -> &Self {
        assert_eq!(self.code, Some(code), "{}", self.text);
        for part in parts {
            assert!(self.text.contains(part), "no {part:?} in:\n{}", self.text);
        }
        self
    }

    /// Returns the text of an artefact of the run.
    pub fn artefact(&self, name: &str) -> String {
        let record = self.record.as_ref().expect("the run left a record");
        std::fs::read_to_string(record.path.with_file_name(name)).unwrap_or_default()
    }
}

/// Returns whether unshare(1) with these options lets a process mount a file system. If it does not, prints why the test that
/// needs this does not run, and how to allow it.
pub fn can_mount(options: &[&str]) -> bool {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = Command::new("unshare")
        .args(options)
        .args(["mount", "-t", "tmpfs", "none"])
        .arg(folder.path())
        .output();
    let why = match output {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    eprintln!(
        "skipped: unshare(1) with {options:?} cannot mount a file system here ({why}). Run the test as root, or allow user \
         namespaces (user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)"
    );
    false
}

/// Links this user's kernels into the cache in the folder `cache`: each entry is a folder there, with links to the files of the
/// user's own entry.
pub fn lend_kernels(cache: &Path) {
    let kernels = ktstr_kernel::cache::Cache::from_env().expect("a cache");
    for entry in std::fs::read_dir(kernels.kernels())
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let place = cache.join("kernels").join(name);
        private_folder(&place);
        for file in std::fs::read_dir(entry.path())
            .expect("an entry can be read")
            .flatten()
        {
            symlink(file.path(), place.join(file.file_name())).expect("a writable folder");
        }
    }
}

/// Creates a temporary folder that serves as a cache. It is for this user alone, whatever the umask is.
pub fn private_tempdir() -> tempfile::TempDir {
    tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir()
        .expect("a temporary folder")
}

/// Creates a folder, and the missing folders above it, for this user alone, whatever the umask is.
pub fn private_folder(path: &Path) {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(path).expect("a writable folder");
}

/// Returns the pids of a run's machines, without the QEMU process that only prints its version.
pub fn machines(run: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{run}/task"));
    let mut all = Vec::new();
    for task in tasks.into_iter().flatten().flatten() {
        let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        all.extend(
            text.split_whitespace()
                .filter_map(|pid| pid.parse::<u32>().ok()),
        );
    }
    all.retain(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.windows(11).any(|argument| argument == b"-nodefaults")
    });
    all
}

/// Returns the records in the folder `root`. A damaged record fails the test.
#[track_caller]
pub fn records(root: &Path) -> Vec<Listed> {
    let listing = ktstr_record::list(root, None).expect("a runs' root can be read");
    assert!(listing.damaged.is_empty(), "{:?}", listing.damaged);
    listing.records
}

/// Returns whether the kernel of the run whose record is at `record` has at least this version.
pub fn is_at_least(record: Option<&Path>, (major, minor): (u32, u32)) -> bool {
    let record = ktstr_record::read(record.expect("the run left a record")).expect("a record");
    let release = record.kernel.expect("the run had a kernel");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || -> u32 { numbers.next().and_then(|n| n.parse().ok()).unwrap_or(0) };
    (next(), next()) >= (major, minor)
}
