//! Waits for changes of `cgroup.events` (Documentation/admin-guide/cgroup-v2.rst, "populated") with
//! poll(2). The kernel reports each change, so no polling loop with sleeps is needed.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

use ktstr_scenario::cgroup::CgroupError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::files::access;

/// Blocks until neither the cgroup nor its descendants have tasks. It is an error if tasks are left after `limit` of guest
/// time. A cgroup whose file cannot be opened counts as removed, and a removed cgroup has no tasks.
pub(super) fn wait_unpopulated(dir: &Path, limit: Duration) -> Result<(), CgroupError> {
    let path = dir.join("cgroup.events");
    let Ok(mut file) = File::open(&path) else {
        return Ok(());
    };
    let began = Instant::now();
    loop {
        if !populated(&mut file).map_err(|e| access("read", &path, e))? {
            return Ok(());
        }
        let Some(left) = limit.checked_sub(began.elapsed()) else {
            return Err(CgroupError::TimedOut {
                path: dir.to_owned(),
                what: "tasks did not leave (see its cgroup.procs; stop its workers first)",
                waited_ms: limit.as_millis() as u64,
            });
        };
        let timeout = Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut fds = [PollFd::new(&file, PollFlags::PRI)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(access("poll", &path, e.into())),
        }
    }
}

fn populated(file: &mut File) -> std::io::Result<bool> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0))?;
    match file.read_to_string(&mut text) {
        // The cgroup was removed in the meantime.
        Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(false),
        Err(e) => Err(e),
        Ok(_) => Ok(text.lines().any(|line| line == "populated 1")),
    }
}
