//! Reads and writes the interface files of cgroups, with errors that say what to do.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ktstr_scenario::cgroup::{CgroupError, Controller};

/// The file system type that statfs(2) reports for cgroup2: `CGROUP2_SUPER_MAGIC` from include/uapi/linux/magic.h.
const CGROUP2_MAGIC: i64 = 0x6367_7270;

/// Creates an error that names the path, the action and the errno, and says what usually helps
/// against that errno.
pub(super) fn access(action: &'static str, path: &Path, source: io::Error) -> CgroupError {
    CgroupError::Access {
        action,
        path: path.to_owned(),
        cause: explain(source),
    }
}

/// Adds to an error of the kernel what its errno usually means for cgroups, if that is known.
pub(super) fn explain(source: io::Error) -> io::Error {
    let hint = match source.raw_os_error() {
        Some(libc::EBUSY) => {
            "it still has tasks or child cgroups, or (for cgroup.subtree_control and \
             cgroup.procs) processes and enabled controllers would share one cgroup; stop or \
             move the tasks, remove the children"
        }
        Some(libc::ENOENT) => {
            "no such cgroup or interface file; create the cgroup first, and check that \
             cgroup.controllers of its parent lists the controller"
        }
        Some(libc::ESRCH) => "the process has ended",
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => {
            "cgroup2 must be mounted read-write and the caller be root"
        }
        Some(libc::ENOSPC) => "the parent's limit does not allow it",
        Some(libc::EINVAL | libc::ERANGE) => "the kernel does not accept this value here",
        Some(libc::EOPNOTSUPP) => "the cgroup is threaded or its type forbids this",
        _ => return source,
    };
    io::Error::new(source.kind(), format!("{source}: {hint}"))
}

/// Writes `value` in one system call, because the kernel parses each write on its own.
pub(super) fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    raw_write(path, value).map_err(|source| CgroupError::Write {
        path: path.to_owned(),
        value: value.to_owned(),
        cause: explain(source),
    })
}

/// Writes `value` like [`write`], but returns the plain error of the system call.
pub(super) fn raw_write(path: &Path, value: &str) -> io::Result<()> {
    // Never use O_CREAT: in a directory that is not a cgroup, a newly created file would hide the
    // mistake.
    let mut file = std::fs::OpenOptions::new().write(true).open(path)?;
    let n = file.write(value.as_bytes())?;
    if n == value.len() {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "only {n} of {} bytes were written",
            value.len()
        )))
    }
}

/// Reads a file of the cgroup tree as text.
pub(super) fn read(path: &Path) -> Result<String, CgroupError> {
    std::fs::read_to_string(path).map_err(|e| access("read", path, e))
}

/// Returns the root of the cgroup2 file system that holds `path`. If no cgroup2 file system holds it, returns
/// the parent of `path`: writes then fail, because the interface files do not exist.
pub(super) fn mount_of(path: &Path) -> PathBuf {
    let mut top = None;
    for at in path.ancestors() {
        if is_cgroup2(at) {
            top = Some(at);
        } else if top.is_some() {
            break;
        }
    }
    top.or(path.parent()).unwrap_or(path).to_owned()
}

fn is_cgroup2(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|fs| fs.f_type == CGROUP2_MAGIC)
}

/// Enables `controller` for the children of `dir`, unless it is enabled already.
pub(super) fn enable(dir: &Path, controller: Controller) -> Result<(), CgroupError> {
    let has = |text: &str| text.split_whitespace().any(|c| c == controller.name());
    let control = dir.join("cgroup.subtree_control");
    if has(&read(&control)?) {
        return Ok(());
    }
    let available = read(&dir.join("cgroup.controllers"))?;
    if !has(&available) {
        return Err(CgroupError::ControllerMissing {
            controller,
            path: dir.to_owned(),
            available: available.trim().to_owned(),
        });
    }
    write(&control, &format!("+{controller}"))
}

/// Returns the process ids in a cgroup.
pub(super) fn procs(dir: &Path) -> Result<Vec<i32>, CgroupError> {
    let text = read(&dir.join("cgroup.procs"))?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

/// Moves `pid` into the cgroup at `dir`. With `gone_ok`, a process that has exited is not an error.
pub(super) fn move_to(dir: &Path, pid: i32, gone_ok: bool) -> Result<(), CgroupError> {
    let path = dir.join("cgroup.procs");
    match raw_write(&path, &pid.to_string()) {
        Err(e) if gone_ok && e.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        Err(source) => Err(CgroupError::Write {
            path,
            value: pid.to_string(),
            cause: explain(source),
        }),
        Ok(()) => Ok(()),
    }
}

/// Returns the child cgroups of a directory, sorted by name.
pub(super) fn children(dir: &Path) -> Result<Vec<PathBuf>, CgroupError> {
    let list = std::fs::read_dir(dir).map_err(|e| access("list", dir, e))?;
    let mut found = Vec::new();
    for entry in list {
        let entry = entry.map_err(|e| access("list", dir, e))?;
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}
