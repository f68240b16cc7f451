//! Tests that nothing is left of a run however it ends, SIGKILL included: no QEMU, no held lock and no shared memory. Incomplete
//! files may be left by a killed run, but the next run removes them.

#[macro_use]
mod common;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::{Case, machines};
use ktstr::prelude::*;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

const ONE_CPU: Topology = Topology::new(1, 1, 1, 1);
/// The variable that marks all processes of a [`Home`]; its value is the path of the home.
const MARK: &str = "KTSTR_HYGIENE_MARK";
/// The longest time for the kernel to remove a killed process and its children.
const CLEARED_WITHIN: Duration = Duration::from_secs(5);
/// The longest time for a run to start its QEMU.
const STARTED_WITHIN: Duration = Duration::from_secs(60);

case!(PASSES = "passes", |_| Ok(AssertResult::pass()), topology: ONE_CPU);
case!(WAITS = "waits", waits, topology: ONE_CPU, duration: Duration::from_secs(600));

/// Stays busy, since the virtual clock would skip idle time.
fn waits(_: &Ctx) -> Result<AssertResult> {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(600) {
        std::hint::spin_loop();
    }
    Ok(AssertResult::pass())
}

/// A user with a separate home: cache, records, locks and temporary files. Kernels are shared.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        for folder in ["cache", "tmp", "runs"] {
            common::private_folder(&home.path().join(folder));
        }
        common::lend_kernels(&home.path().join("cache"));
        Self(home)
    }

    fn case(&self, name: &str) -> Case {
        Case::new(name)
            .env("KTSTR_CACHE_DIR", self.0.path().join("cache"))
            .env("KTSTR_RUNS_ROOT", self.0.path().join("runs"))
            .env("TMPDIR", self.0.path().join("tmp"))
            .env("XDG_RUNTIME_DIR", self.0.path())
            .env(MARK, self.mark())
    }

    fn mark(&self) -> String {
        self.0.path().display().to_string()
    }

    fn start(&self, name: &str) -> Child {
        let mut case = self.case(name);
        case.command.stdout(Stdio::null()).stderr(Stdio::null());
        case.command.spawn().expect("the test binary starts")
    }

    /// Returns the processes of this home, with their names.
    fn processes(&self) -> Vec<(i32, String)> {
        let mark = format!("{MARK}={}\0", self.mark()).into_bytes();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc")
            .expect("proc is mounted")
            .flatten()
        {
            let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
                continue;
            };
            let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            if environment.windows(mark.len()).any(|window| window == mark) {
                let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                found.push((pid, name.trim().to_owned()));
            }
        }
        found
    }

    /// Asserts that no process and no held lock is left.
    #[track_caller]
    fn is_quiet(&self, when: &str) {
        let began = Instant::now();
        loop {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            assert!(
                began.elapsed() < CLEARED_WITHIN,
                "{when}: still there: {left:?}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        for path in files(self.0.path()) {
            let file = File::open(&path).expect("a file of ours");
            let lock = flock(&file, FlockOperation::NonBlockingLockExclusive);
            assert!(lock.is_ok(), "{when}: {} is locked", path.display());
        }
        common::records(&self.0.path().join("runs"));
    }

    /// Asserts that no incomplete file is left.
    #[track_caller]
    fn is_tidy(&self) {
        let left: Vec<_> = files(self.0.path())
            .into_iter()
            .filter(|path| {
                let inside = path
                    .strip_prefix(self.0.path())
                    .expect("it was listed there");
                let hidden = |part: &std::ffi::OsStr| part.as_encoded_bytes().starts_with(b".");
                let locks = inside.iter().any(|part| part == ".locks")
                    || path.extension().is_some_and(|e| e == "lock");
                !locks && (inside.iter().any(hidden) || inside.starts_with("tmp"))
            })
            .collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

/// Waits until a run has a QEMU.
fn wait_for_machine(run: &mut Child) {
    let began = Instant::now();
    loop {
        if !machines(run.id()).is_empty() {
            return;
        }
        assert!(began.elapsed() < STARTED_WITHIN, "there is no QEMU");
        let ended = run.try_wait().expect("our child");
        assert!(
            ended.is_none(),
            "the run ended before it had a QEMU: {ended:?}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Returns all files below a folder; symbolic links are not followed.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

fn shared_memory() -> Vec<String> {
    let entries = std::fs::read_dir("/dev/shm")
        .into_iter()
        .flatten()
        .flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .filter(|name| name.contains("ktstr") || name.contains("qemu"))
        .collect()
}

fn kill(pid: u32) {
    let pid = Pid::from_raw(pid as i32).expect("a process id is not 0");
    kill_process(pid, Signal::KILL).expect("our own process");
}

#[test]
fn a_killed_run_leaves_nothing() {
    let home = Home::new();
    let shared = shared_memory();
    // A run is killed before there is a QEMU, at QEMU's start, and while the guest boots. After a run that passes and fills the
    // cache, a run is killed at QEMU's start again, and while the test runs.
    let start = |after_qemu: Option<u64>| {
        let mut run = home.start("waits");
        match after_qemu {
            Some(ms) => {
                wait_for_machine(&mut run);
                std::thread::sleep(Duration::from_millis(ms));
            }
            None => std::thread::sleep(Duration::from_millis(30)),
        }
        assert!(
            run.try_wait().expect("our child").is_none(),
            "it ended before it was killed"
        );
        kill(run.id());
        run.wait().expect("our child");
        home.is_quiet(&after_qemu.map_or_else(
            || "killed before QEMU's start".to_owned(),
            |ms| format!("killed {ms} ms after QEMU's start"),
        ));
    };
    start(None);
    for moment in [0, 700, 2500] {
        start(Some(moment));
    }
    let passes = || {
        let mut run = home.start("passes");
        let status = run.wait().expect("our child");
        assert!(
            status.success(),
            "after a killed run another fails: {status}"
        );
        home.is_quiet("passed");
        home.is_tidy();
    };
    passes();
    for moment in [0, 1500] {
        start(Some(moment));
    }
    passes();
    let records = common::records(&home.0.path().join("runs"));
    assert_eq!(
        records.len(),
        2,
        "a record for each run that came to its end"
    );
    assert_eq!(shared_memory(), shared);
}

#[test]
fn a_killed_qemu_is_the_hosts_fault() {
    let home = Home::new();
    let mut case = home.case("waits");
    case.command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut run = case.command.spawn().expect("the test binary starts");
    // A run may start QEMUs that create its templates before it starts its own, so each new QEMU is killed.
    let mut killed = Vec::new();
    while run.try_wait().expect("our child").is_none() && killed.len() < 8 {
        for pid in machines(run.id()) {
            if !killed.contains(&pid) {
                kill(pid);
                killed.push(pid);
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = run.wait_with_output().expect("our child");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!killed.is_empty());
    assert_eq!(output.status.code(), Some(2), "{text}");
    for part in [
        "came to no verdict",
        "was killed by signal 9",
        "fault: the host's",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    home.is_quiet("its QEMU was killed");
    home.is_tidy();
}
