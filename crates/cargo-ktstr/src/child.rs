//! Runs one test of a test binary in a separate process, and finds its record.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result};
use ktstr_record::compare::Run;
use ktstr_state::env;

/// Returns the command that runs the test that the binary `program` lists as `name`, with its record under `root`. The kernels of
/// the environment's `KTSTR_KERNEL_LIST` do not apply.
///
/// The process does not outlive the thread that starts it. It has its own process group, so a Ctrl-C at the terminal does not
/// reach it. If the Ctrl-C ends the caller, the kernel kills the process. A caller that handles the signal and goes on has to end
/// the process itself.
pub fn command(program: &Path, name: &str, root: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .args(["--exact", name])
        .env(&env::NEXTEST, "1")
        .env_remove(&env::KERNEL_LIST)
        .env(&env::SESSION, session())
        // The caller decides whether and how the run is repeated.
        .env(&env::AUTO_REPRO, "0")
        .env(&env::RUNS_ROOT, root)
        .process_group(0);
    ends_with_its_parent(&mut command);
    command
}

/// Makes the kernel kill the command's process when the thread that starts it ends, for whatever reason.
pub fn ends_with_its_parent(command: &mut Command) {
    let parent = rustix::process::getpid();
    // SAFETY: the closure runs between fork and exec. It only makes system calls and allocates nothing; the parent's pid was
    // copied into it before the fork.
    unsafe {
        command.pre_exec(move || {
            let kill = Some(rustix::process::Signal::KILL);
            rustix::process::set_parent_process_death_signal(kill)?;
            if rustix::process::getppid() == Some(parent) {
                return Ok(());
            }
            // The parent exited before the signal was requested.
            Err(rustix::io::Errno::SRCH.into())
        });
    }
}

/// Returns the id of the session that this process's children share, so that the first child has cargo build the scheduler
/// and the others use the binary that it built.
pub fn session() -> String {
    static SESSION: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let made = || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.unwrap_or_default().as_nanos();
        format!("{}-{now}", std::process::id())
    };
    SESSION.get_or_init(made).clone()
}

/// Returns the record that the process `pid` left under `root`: its path, and the run in it. The process was started after
/// `since`.
///
/// # Errors
/// If the process left no record, or the record cannot be read.
pub fn left(root: &Path, pid: u32, since: SystemTime) -> Result<(PathBuf, Run)> {
    let path = ktstr_record::newest_of_process(root, pid, since)
        .context("the run left no record: see its output above")?;
    let run = Run::read(&path)?;
    Ok((path, run))
}
