//! How much memory this process may use: the host's memory, reduced by the limits of its cgroups.

use std::path::Path;

/// Returns how many MiB may be used: the minimum of the host's memory and the limits of all cgroups around this
/// process, of version 1 and 2. `None` if none of these is known. `root` is `/`, or in tests a folder that stands for it.
pub(super) fn memory_mib(root: &Path) -> Option<u64> {
    let host = text(root, "proc/meminfo").and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib >> 10)
    });
    host.into_iter().chain(cgroups_mib(root)).min()
}

fn text(root: &Path, path: &str) -> Option<String> {
    std::fs::read_to_string(root.join(path)).ok()
}

/// Returns the limits of all memory cgroups around this process, in MiB, according to /proc/self/cgroup (cgroups(7)).
/// In a container the file may show the host's path while the container's own cgroup is at the root of the mount, so
/// the root is always checked as well.
fn cgroups_mib(root: &Path) -> Vec<u64> {
    let mut limits = Vec::new();
    for line in text(root, "proc/self/cgroup").unwrap_or_default().lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        // The line of version 2 names no controllers. On a host with both versions, version 2 is mounted at `unified`.
        let (mounts, file): (&[&str], _) = if controllers.is_empty() {
            (&["sys/fs/cgroup", "sys/fs/cgroup/unified"], "memory.max")
        } else if controllers.split(',').any(|name| name == "memory") {
            (&["sys/fs/cgroup/memory"], "memory.limit_in_bytes")
        } else {
            continue;
        };
        for mount in mounts {
            for group in Path::new(path.trim_start_matches('/')).ancestors() {
                let limit = text(&root.join(mount).join(group), file);
                // Without a limit, version 2 reads "max", and version 1 reads `PAGE_COUNTER_MAX` pages in bytes, which is
                // more than any host has.
                limits.extend(
                    limit
                        .and_then(|l| l.trim().parse::<u64>().ok())
                        .map(|b| b >> 20),
                );
            }
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    const MEMINFO: (&str, &str) = (
        "proc/meminfo",
        "MemTotal:       16384000 kB\nMemFree:  1 kB\n",
    );

    #[test]
    fn without_a_limit_it_is_the_hosts_memory() {
        assert_eq!(memory_mib(root(&[MEMINFO]).path()), Some(16000));
        let unlimited = root(&[
            MEMINFO,
            ("proc/self/cgroup", "4:cpu,memory:/a\n0::/a/b\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            (
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
        ]);
        assert_eq!(memory_mib(unlimited.path()), Some(16000));
        assert_eq!(memory_mib(root(&[]).path()), None);
    }

    #[test]
    fn the_tightest_limit_applies_at_any_depth() {
        let v2 = root(&[
            MEMINFO,
            ("proc/self/cgroup", "0::/slice/unit\n"),
            ("sys/fs/cgroup/slice/memory.max", "2147483648\n"),
            ("sys/fs/cgroup/slice/unit/memory.max", "max\n"),
        ]);
        assert_eq!(memory_mib(v2.path()), Some(2048));
        let v1 = root(&[
            MEMINFO,
            ("proc/self/cgroup", "3:cpu:/x\n2:memory:/docker/1\n"),
            (
                "sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes",
                "1073741824\n",
            ),
        ]);
        assert_eq!(memory_mib(v1.path()), Some(1024));
    }

    #[test]
    fn a_container_with_the_hosts_path_is_limited_by_its_own_root() {
        let container = root(&[
            MEMINFO,
            ("proc/self/cgroup", "2:memory:/kubepods/pod1\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n"),
        ]);
        assert_eq!(memory_mib(container.path()), Some(512));
    }
}
