//! Removes the cgroups that workers of `WorkType::CgroupChurn` create below their own. This happens once the workers
//! have ended, however they ended.

use std::path::{Path, PathBuf};

use super::kinds::CHURN;

/// Returns the cgroup below which a worker has created cgroups. It is the parent of the cgroup that the worker is in, or `None`
/// if the worker is not in a cgroup that it created.
pub(super) fn above(tid: i32) -> Option<PathBuf> {
    let text = std::fs::read_to_string(format!("/proc/{tid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let dir = Path::new("/sys/fs/cgroup").join(path);
    let churned = dir.file_name()?.to_str()?.starts_with(CHURN);
    churned.then(|| dir.parent().map(Path::to_path_buf))?
}

/// Removes the cgroups that workers created below `above`. A cgroup that still has tasks stays; the engine's removal of
/// `above` then fails, and the engine reports that.
pub(super) fn remove(above: &Path) {
    // Disable the controller: while it is enabled for the children, no task can move back into `above`.
    let _ = std::fs::write(above.join("cgroup.subtree_control"), "-cpu");
    for entry in std::fs::read_dir(above).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(CHURN)) {
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}
