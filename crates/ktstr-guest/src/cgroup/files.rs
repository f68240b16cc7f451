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
        cause: explain(path, source),
    }
}

/// Adds to an error of the kernel about the interface file or cgroup `path` what its errno usually means for cgroups, if that is
/// known.
pub(super) fn explain(path: &Path, source: io::Error) -> io::Error {
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
            "cgroup2 must be mounted read-write, and the caller must be root or own the cgroup; for host_only tests, \
             KTSTR_HOST_CGROUP_PARENT can name a cgroup that belongs to the caller"
        }
        Some(libc::ENOSPC) => "the parent's limit does not allow it",
        Some(libc::EINVAL | libc::ERANGE) => "the kernel does not accept this value here",
        Some(libc::EOPNOTSUPP) => {
            return io::Error::new(source.kind(), format!("{source}: {}", by_type(path)));
        }
        _ => return source,
    };
    io::Error::new(source.kind(), format!("{source}: {hint}"))
}

/// Explains by the type of the cgroup of an interface file why the kernel does not support a write to the file or a read of it
/// (`cgroup_migrate_vet_dst()` and `cgroup_vet_subtree_control_enable()` in kernel/cgroup/cgroup.c).
fn by_type(file: &Path) -> String {
    let cgroup = file.parent().unwrap_or(file);
    let type_of = |at: &Path| std::fs::read_to_string(at.join("cgroup.type")).unwrap_or_default();
    let root = cgroup
        .ancestors()
        .find(|at| type_of(at).trim() == "domain threaded");
    let root = root.map_or_else(
        || "a cgroup above it".to_owned(),
        |root| format!("{root:?}"),
    );
    // A cgroup with tasks of its own becomes the root of a threaded subtree as soon as such a controller is enabled below it.
    let advice =
        "move the tasks of that cgroup into a child, or make no cgroups with limits below it";
    match type_of(cgroup).trim() {
        "domain invalid" => format!(
            "the type of this cgroup is `domain invalid`, which takes no processes: {root} has tasks or threaded children, and \
             hands down controllers such as cpu or cpuset; {advice}"
        ),
        "domain threaded" => format!(
            "the type of this cgroup is `domain threaded`, because it has tasks or threaded children, and hands down controllers \
             such as cpu or cpuset. Such a cgroup cannot hand down memory, io and other controllers that count whole \
             processes; {advice}"
        ),
        "threaded" => format!(
            "the type of this cgroup is `threaded`: it takes the threads of processes that are in {root} or below, through \
             cgroup.threads, and no other processes; use a cgroup whose cgroup.type is `domain`"
        ),
        "" => "the kernel does not support this for the cgroup, whose cgroup.type cannot be read"
            .to_owned(),
        other => format!(
            "the kernel does not support this for the cgroup, whose type is `{other}` (cgroup.type)"
        ),
    }
}

/// Writes `value` in one system call, because the kernel parses each write on its own.
pub(super) fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    raw_write(path, value).map_err(|source| CgroupError::Write {
        path: path.to_owned(),
        value: value.to_owned(),
        cause: explain(path, source),
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

/// Returns the root of the cgroup2 file system that holds `path`; `None` if no cgroup2 file system holds it.
pub(super) fn mount_of(path: &Path) -> Option<PathBuf> {
    let mut top = None;
    for at in path.ancestors() {
        if is_cgroup2(at) {
            top = Some(at);
        } else if top.is_some() {
            break;
        }
    }
    top.map(Path::to_owned)
}

/// Creates the error for a root of cgroups that no cgroup2 file system holds. It names the cgroup2 file systems of this machine.
pub(super) fn not_cgroup2(root: &Path) -> CgroupError {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut found = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        words.next().filter(|_| words.next() == Some("cgroup2"))
    });
    let advice = match found.next() {
        Some(mount) => format!(
            "cgroup2 is mounted at {mount}: set KTSTR_HOST_CGROUP_PARENT to a folder there, or boot with cgroup2 alone \
             (systemd.unified_cgroup_hierarchy=1) if the test needs controllers that cgroup v1 has taken"
        ),
        None => "no cgroup2 is mounted: boot with cgroup2 alone (systemd.unified_cgroup_hierarchy=1), or mount it, and set \
                 KTSTR_HOST_CGROUP_PARENT to a folder there"
            .to_owned(),
    };
    let why = format!(
        "the folder is in no cgroup2 file system, which tests that run on the host need for cgroups; {advice}"
    );
    CgroupError::Access {
        action: "create",
        path: root.to_owned(),
        cause: io::Error::other(why),
    }
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
            available: match available.trim() {
                "" => {
                    "none; a controller that cgroup v1 has taken is missing in cgroup2".to_owned()
                }
                some => some.to_owned(),
            },
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
            value: pid.to_string(),
            cause: explain(&path, source),
            path,
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
