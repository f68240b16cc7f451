//! What workers leave in the cgroup file system: the cgroups that `WorkType::CgroupChurn` makes below
//! its own. They are removed once the workers have ended, however those did.

use std::path::{Path, PathBuf};

use super::kinds::CHURN;

/// The cgroup in which a worker made others, if it is in one of those.
pub(super) fn above(tid: i32) -> Option<PathBuf> {
    let text = std::fs::read_to_string(format!("/proc/{tid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let dir = Path::new("/sys/fs/cgroup").join(path);
    let churned = dir.file_name()?.to_str()?.starts_with(CHURN);
    churned.then(|| dir.parent().map(Path::to_path_buf))?
}

/// Removes them from the cgroup that was above a worker. Those in which somebody still is stay; the
/// cgroup above can then not be removed, which is told by whoever tries.
pub(super) fn remove(above: &Path) {
    // While a controller is on for those below, nobody could move back into the cgroup above.
    let _ = std::fs::write(above.join("cgroup.subtree_control"), "-cpu");
    for entry in std::fs::read_dir(above).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(CHURN)) {
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}
