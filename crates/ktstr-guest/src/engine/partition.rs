//! Makes cgroups partitions (`cpuset.cpus.partition`) and plain members again.
//!
//! A cgroup deep in the tree can be a partition only if all of its ancestors pass its CPUs down (`cpuset.cpus.exclusive`, since
//! Linux 6.7). The root cgroup has no such file: all of its CPUs are available to its children.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use ktstr_scenario::Ctx;
use ktstr_scenario::cgroup::Controller;
use ktstr_scenario::ops::CpusetPartition;
use ktstr_scenario::topology::{cpuset_string, parse_cpulist};

type Cpus = BTreeSet<usize>;

const PARTITION: &str = "cpuset.cpus.partition";
/// The file with the CPUs that the cgroup or its descendants may use for partitions.
const EXCLUSIVE: &str = "cpuset.cpus.exclusive";

/// Makes a cgroup a partition of these CPUs, which are also its cpuset.
pub(super) fn form(ctx: &Ctx, name: &str, cpus: &Cpus, to: CpusetPartition) -> Result<()> {
    let dir = ctx.cgroups.parent_path().join(name);
    hand_down(&dir, cpus)?;
    put(ctx, name, EXCLUSIVE, &list(&(cpus | &below(&dir))))?;
    put(ctx, name, PARTITION, to.as_str())?;
    is_valid(&dir)
}

/// Makes a cgroup a plain member. Of its exclusive CPUs, it keeps only those of its children, so that other cgroups can use the
/// rest.
pub(super) fn dissolve(ctx: &Ctx, name: &str) -> Result<()> {
    let dir = ctx.cgroups.parent_path().join(name);
    let had = cpus_in(&dir.join(EXCLUSIVE));
    put(ctx, name, PARTITION, CpusetPartition::Member.as_str())?;
    put(ctx, name, EXCLUSIVE, &list(&below(&dir)))?;
    take_back(&dir, &had)
}

/// Checks that a cgroup which was made a partition is a valid partition. The write to `cpuset.cpus.partition` succeeds even if a
/// partition is impossible, and the kernel then marks the partition as invalid in that file.
pub(super) fn is_valid(dir: &Path) -> Result<()> {
    let path = dir.join(PARTITION);
    let now = std::fs::read_to_string(&path).unwrap_or_default();
    if !now.contains("invalid") {
        return Ok(());
    }
    let own = cpus_in(&dir.join("cpuset.cpus"));
    let shares = |sibling: PathBuf| {
        let cpus = cpus_in(&sibling.join("cpuset.cpus"));
        let shares = sibling != dir && !cpus.is_disjoint(&own);
        shares.then(|| format!("{} has {}", sibling.display(), cpuset_string(&cpus)))
    };
    let siblings = dir.parent().map(children).unwrap_or_default();
    let siblings: Vec<String> = siblings.into_iter().filter_map(shares).collect();
    let siblings = match siblings.is_empty() {
        true => "no sibling has one of them".to_owned(),
        false => siblings.join(", "),
    };
    bail!(
        "{} is now `{}`: a partition needs CPUs that no sibling cgroup has; its own are {}, and {siblings}",
        path.display(),
        now.trim(),
        cpuset_string(&own)
    )
}

fn put(ctx: &Ctx, name: &str, file: &str, value: &str) -> Result<()> {
    Ok(ctx
        .cgroups
        .set_file(name, Some(Controller::Cpuset), file, value)?)
}

/// Adds `cpus` to the exclusive CPUs of each ancestor of `dir`, from the top down.
fn hand_down(dir: &Path, cpus: &Cpus) -> Result<()> {
    for file in above(dir).iter().rev() {
        write(file, &(&cpus_in(file) | cpus))?;
    }
    Ok(())
}

/// Removes `cpus` from the exclusive CPUs of each ancestor of `dir`, from the bottom up, except CPUs that another child of the
/// ancestor has. An ancestor that is a partition keeps its CPUs, and so do its own ancestors.
fn take_back(dir: &Path, cpus: &Cpus) -> Result<()> {
    for file in above(dir) {
        let Some(ancestor) = file.parent() else {
            break;
        };
        let kind = std::fs::read_to_string(ancestor.join(PARTITION)).unwrap_or_default();
        if kind.trim() != CpusetPartition::Member.as_str() {
            break;
        }
        let old = cpus_in(&file);
        let left = &old - &(cpus - &below(ancestor));
        if left != old {
            write(&file, &left)?;
        }
    }
    Ok(())
}

/// Returns the files with the exclusive CPUs of the ancestors, the parent first.
fn above(dir: &Path) -> Vec<PathBuf> {
    let ancestors = dir.ancestors().skip(1).map(|above| above.join(EXCLUSIVE));
    ancestors.take_while(|file| file.exists()).collect()
}

/// Returns the exclusive CPUs of the children of a cgroup.
fn below(dir: &Path) -> Cpus {
    let children = children(dir).into_iter();
    children
        .flat_map(|child| cpus_in(&child.join(EXCLUSIVE)))
        .collect()
}

/// Returns the folders of the children of a cgroup.
fn children(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut children: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    children.sort();
    children
}

/// Returns the CPUs in a file; none if there is no such file.
fn cpus_in(file: &Path) -> Cpus {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    parse_cpulist(text.trim()).unwrap_or_default()
}

/// Returns the text that sets these CPUs. The kernel ignores an empty write, so the text of no CPUs is a newline.
fn list(cpus: &Cpus) -> String {
    match cpus.is_empty() {
        true => "\n".to_owned(),
        false => cpuset_string(cpus),
    }
}

fn write(file: &Path, cpus: &Cpus) -> Result<()> {
    std::fs::write(file, list(cpus)).with_context(|| {
        let cpus = cpuset_string(cpus);
        format!("writing the CPUs {cpus:?} to {}", file.display())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Creates folders that look like cgroups, each with the given exclusive CPUs.
    fn tree(cgroups: &[(&str, &str)]) -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        for (name, exclusive) in cgroups {
            let dir = tree.path().join(name);
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join(EXCLUSIVE), exclusive).unwrap();
            std::fs::write(dir.join(PARTITION), "member\n").unwrap();
        }
        tree
    }

    #[test]
    fn what_is_handed_down_is_taken_back_except_what_others_have() {
        let tree = tree(&[("a", "3\n"), ("a/b", ""), ("a/b/c", ""), ("a/d", "2\n")]);
        let at = |name: &str| tree.path().join(name);
        let text = |name: &str| std::fs::read_to_string(at(name).join(EXCLUSIVE)).unwrap();
        hand_down(&at("a/b/c"), &Cpus::from([1, 2])).unwrap();
        assert_eq!((text("a"), text("a/b")), ("1-3".into(), "1-2".into()));
        assert_eq!((text("a/b/c"), text("a/d")), ("".into(), "2\n".into()));
        take_back(&at("a/b/c"), &Cpus::from([1, 2])).unwrap();
        // `a` keeps CPU 2, which belongs to `a/d`, and CPU 3, which it had before.
        assert_eq!((text("a"), text("a/b")), ("2-3".into(), "\n".into()));

        hand_down(&at("a/b/c"), &Cpus::from([1])).unwrap();
        std::fs::write(at("a/b").join(PARTITION), "root\n").unwrap();
        take_back(&at("a/b/c"), &Cpus::from([1])).unwrap();
        assert_eq!((text("a"), text("a/b")), ("1-3".into(), "1".into()));
    }

    #[test]
    fn an_invalid_partition_names_the_siblings_that_have_its_cpus() {
        let tree = tree(&[("a", ""), ("b", ""), ("c", "")]);
        for (name, cpus) in [("a", "0-1"), ("b", "1-2"), ("c", "3")] {
            std::fs::write(tree.path().join(name).join("cpuset.cpus"), cpus).unwrap();
        }
        let a = tree.path().join("a");
        is_valid(&a).unwrap();
        std::fs::write(a.join(PARTITION), "root invalid (why)\n").unwrap();
        let error = is_valid(&a).unwrap_err().to_string();
        assert!(error.contains("`root invalid (why)`"), "{error}");
        assert!(error.contains("its own are 0-1, and "), "{error}");
        assert!(error.ends_with("/b has 1-2"), "{error}");
    }
}
