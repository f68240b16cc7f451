//! Finds and kills processes that a program has left behind. Each program is started with a mark in its environment, which its
//! descendants inherit, so a descendant is found by the mark unless it has cleared its environment. A descendant in the program's
//! process group is found without the mark.

use std::io::Read;
use std::time::Duration;

/// The environment variable that holds the mark.
pub(super) const MARK: &str = "KTSTR_PAYLOAD";
/// Maximum number of passes over all processes. A process that forks during one pass is found in the next.
const PASSES: usize = 1000;
/// The time between two passes: a process that was killed needs a CPU to exit.
const PAUSE: Duration = Duration::from_millis(1);
/// Maximum number of bytes read of an environment.
const ENVIRONMENT: u64 = 256 << 10;

/// Kills every process with this mark, and waits until all have exited, for at most [`PASSES`] passes: a process in an
/// uninterruptible sleep does not exit. The environment of another user's process cannot be read, but such a process
/// was not started here.
pub(super) fn kill_marked(mark: &str) {
    let entry = format!("{MARK}={mark}");
    for _ in 0..PASSES {
        let found: Vec<i32> = processes().filter(|pid| has(*pid, &entry)).collect();
        if found.is_empty() {
            return;
        }
        for pid in found {
            kill(pid);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Sends SIGKILL to a process, or to a process group if the number is negative. It is no error if none exists.
pub(super) fn kill(pid: i32) {
    // SAFETY: plain integers. 0 and -1, which address other processes, are never passed: the numbers are process ids.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

fn processes() -> impl Iterator<Item = i32> {
    let list = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    list.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid > 1 && *pid != std::process::id() as i32)
}

/// Returns whether a process has this entry in its environment. A process that has exited has none.
fn has(pid: i32, entry: &str) -> bool {
    let Ok(file) = std::fs::File::open(format!("/proc/{pid}/environ")) else {
        return false;
    };
    let mut bytes = Vec::new();
    let read = file.take(ENVIRONMENT).read_to_end(&mut bytes);
    read.is_ok()
        && bytes
            .split(|byte| *byte == 0)
            .any(|one| one == entry.as_bytes())
}
