//! How many machines run at once on this host: no more than its cores and its memory carry.
//!
//! A slot is a locked file; the lock goes with its holder, however that ends.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::{RunError, environment};

const MACHINES: &str = "KTSTR_MACHINES";

/// A machine's right to run.
#[derive(Debug)]
pub(super) struct Slot {
    _lock: File,
}

/// Waits for a slot for a machine of `memory_mib`.
pub(super) fn take(memory_mib: u32) -> Result<Slot, RunError> {
    let folder = std::env::temp_dir().join(format!(
        "ktstr-slots-{}",
        rustix::process::getuid().as_raw()
    ));
    let slots = match environment(MACHINES) {
        None => count(memory_mib),
        Some(value) => wanted(value)?,
    };
    let wrap = |path: &PathBuf, source| RunError::Include {
        what: "the lock that limits machines at once",
        path: path.display().to_string(),
        source,
    };
    std::fs::create_dir_all(&folder).map_err(|e| wrap(&folder, e))?;
    loop {
        for number in 0..slots {
            let path = folder.join(format!("{number}.lock"));
            let lock = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .map_err(|e| wrap(&path, e))?;
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                return Ok(Slot { _lock: lock });
            }
        }
        // There is no way to wait for the first of several locks.
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn wanted(value: String) -> Result<u32, RunError> {
    match value.parse() {
        Ok(count) if (1..=1024).contains(&count) => Ok(count),
        _ => Err(RunError::Environment {
            name: MACHINES,
            value,
            wanted: "expected how many machines may run at once, 1 to 1024".to_owned(),
        }),
    }
}

/// A machine a core, and no more than fit into half of the memory.
fn count(memory_mib: u32) -> u32 {
    let cores = super::host_cpus();
    let available = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|l| l.starts_with("MemTotal:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .map_or(u32::MAX, |kib| {
            (kib / 1024 / u64::from(memory_mib.max(1)) / 2) as u32
        });
    cores.min(available).max(1)
}
