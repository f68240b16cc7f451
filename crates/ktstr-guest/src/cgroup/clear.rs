//! Clears the CPUs or the memory nodes of a cgroup, so that the cgroup may use all those of its parent.
//!
//! Older kernels, such as 6.12, refuse to clear the set of a cgroup with tasks in it or below it: `validate_change` in
//! kernel/cgroup/cpuset.c returns `ENOSPC`, also in cgroup v2. On such a kernel, this module writes all CPUs or nodes that the
//! machine can have. The effect is the same, even if the set of the parent changes later, because a cgroup can never use more
//! than the set of its parent.

use std::io;
use std::path::{Path, PathBuf};

use ktstr_scenario::cgroup::CgroupError;

use super::files::{children, explain, raw_write, read};

/// What to write to an interface file to make its set empty.
const NOTHING: &str = "\n";

/// The set of CPUs or of memory nodes that a cgroup may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Set {
    /// The interface file of the set.
    pub file: &'static str,
    /// The file that lists everything that the set can contain.
    pub possible: &'static str,
    /// The text to use on a kernel that lacks the file `possible`; `None` if every kernel has that file.
    pub otherwise: Option<&'static str>,
    /// Whether a sibling cgroup that is a partition becomes invalid if this set overlaps the set of the partition.
    pub ends_partitions: bool,
}

pub(super) const CPUS: Set = Set {
    file: "cpuset.cpus",
    possible: "/sys/devices/system/cpu/possible",
    otherwise: None,
    ends_partitions: true,
};

pub(super) const NODES: Set = Set {
    file: "cpuset.mems",
    possible: "/sys/devices/system/node/possible",
    // A kernel without NUMA has one node.
    otherwise: Some("0"),
    ends_partitions: false,
};

/// Clears a set of the cgroup at `dir`.
pub(super) fn clear(dir: &Path, set: Set) -> Result<(), CgroupError> {
    clear_by(dir, set, raw_write)
}

/// Like [`clear`], with `put` to write a file.
fn clear_by(
    dir: &Path,
    set: Set,
    put: impl Fn(&Path, &str) -> io::Result<()>,
) -> Result<(), CgroupError> {
    let path = dir.join(set.file);
    let written = |value: &str, done: io::Result<()>| {
        done.map_err(|cause| CgroupError::Write {
            path: path.clone(),
            value: value.to_owned(),
            cause,
        })
    };
    match put(&path, NOTHING) {
        Err(source) if source.raw_os_error() == Some(libc::ENOSPC) => {}
        done => return written(NOTHING, done.map_err(|e| explain(&path, e))),
    }
    if set.ends_partitions
        && let Some(sibling) = partition_next_to(dir)?
    {
        let why = format!(
            "this kernel does not clear the set of a cgroup while tasks are in it or below it (ENOSPC), and the set of \
             everything would end the partition {sibling:?} next to it: stop or move the tasks, or make the partition a \
             member first"
        );
        return written(NOTHING, Err(io::Error::other(why)));
    }
    let all = match (read(Path::new(set.possible)), set.otherwise) {
        (Ok(all), _) => all,
        (Err(_), Some(all)) => all.to_owned(),
        (Err(error), None) => return Err(error),
    };
    let all = all.trim();
    written(all, put(&path, all).map_err(|e| explain(&path, e)))
}

/// Returns a sibling that is a partition, if there is one. The CPUs of a partition must not be in the set of a sibling.
fn partition_next_to(dir: &Path) -> Result<Option<PathBuf>, CgroupError> {
    let Some(parent) = dir.parent() else {
        return Ok(None);
    };
    for sibling in children(parent)? {
        let kind = sibling.join("cpuset.cpus.partition");
        if sibling != dir && kind.exists() && read(&kind)?.trim() != "member" {
            return Ok(Some(sibling));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::cell::RefCell;

    use super::*;

    /// Returns what is written to clear a set on a kernel that refuses an empty set, or the error.
    fn on_an_old_kernel(dir: &Path, set: Set) -> Result<Vec<String>, String> {
        let seen = RefCell::new(Vec::new());
        let put = |_: &Path, value: &str| {
            if value == NOTHING {
                return Err(io::Error::from_raw_os_error(libc::ENOSPC));
            }
            seen.borrow_mut().push(value.to_owned());
            Ok(())
        };
        clear_by(dir, set, put).map_err(|error| error.to_string())?;
        Ok(seen.into_inner())
    }

    #[test]
    fn a_kernel_that_refuses_an_empty_set_gets_the_full_one() {
        let tree = tempfile::tempdir().unwrap();
        let [own, other] = ["own", "other"].map(|name| tree.path().join(name));
        for dir in [&own, &other] {
            std::fs::create_dir(dir).unwrap();
            std::fs::write(dir.join("cpuset.cpus.partition"), "member\n").unwrap();
        }
        let all = std::fs::read_to_string(CPUS.possible).unwrap();
        assert_eq!(
            on_an_old_kernel(&own, CPUS),
            Ok(vec![all.trim().to_owned()])
        );

        std::fs::write(other.join("cpuset.cpus.partition"), "isolated\n").unwrap();
        // A partition owns only its CPUs, so its siblings may have all memory nodes.
        assert!(on_an_old_kernel(&own, NODES).is_ok());
        let refused = on_an_old_kernel(&own, CPUS).unwrap_err();
        for word in [
            "own/cpuset.cpus",
            "ENOSPC",
            "other",
            "make the partition a member first",
        ] {
            assert!(refused.contains(word), "no {word:?} in {refused:?}");
        }
    }

    #[test]
    fn another_error_and_a_kernel_that_clears_the_set_change_nothing_else() {
        let seen = RefCell::new(Vec::new());
        let put = |path: &Path, value: &str| {
            seen.borrow_mut().push((path.to_owned(), value.to_owned()));
            Ok(())
        };
        clear_by(Path::new("/a"), NODES, put).unwrap();
        let cleared = (PathBuf::from("/a/cpuset.mems"), "\n".to_owned());
        assert_eq!(seen.into_inner(), [cleared]);
        let busy = |_: &Path, _: &str| Err(io::Error::from_raw_os_error(libc::EBUSY));
        assert!(clear_by(Path::new("/a"), NODES, busy).is_err());
    }
}
