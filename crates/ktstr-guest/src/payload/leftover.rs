//! Processes that a program has left behind. All of them have the program's mark in their environment, unless they have
//! wiped it; what is in the program's process group is found without.

use std::io::Read;

/// The variable with the mark.
pub(super) const MARK: &str = "KTSTR_PAYLOAD";
/// Passes over all processes: one that forks while it is looked for is found by the next pass.
const PASSES: usize = 16;
/// Bytes read of an environment.
const ENVIRONMENT: u64 = 256 << 10;

/// Kills every process with this mark. Those of other users cannot be read, and are nobody's that was started here.
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
    }
}

/// Sends SIGKILL to a process, or to a group if the number is negative. That nobody is there is fine.
pub(super) fn kill(pid: i32) {
    // SAFETY: plain integers; 0 and -1, which mean others, are never passed: ids are those of processes.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

fn processes() -> impl Iterator<Item = i32> {
    let list = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    list.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid > 1 && *pid != std::process::id() as i32)
}

/// Whether a process has this entry in its environment. A dead one has none.
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
