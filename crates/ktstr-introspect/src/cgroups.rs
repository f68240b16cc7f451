//! Cgroups of the unified hierarchy: their tree and paths, the cgroup of a task, and the CPUs that a task may use.

use std::collections::VecDeque;

use crate::kernel::{KernelError, KernelView};
use crate::memory::GuestMemory;

/// The largest number of levels of a path. A longer path loses its upper levels.
const MAX_DEPTH: usize = 64;
/// The largest number of cgroups that are listed.
pub(crate) const MAX_CGROUPS: usize = 1024;
/// The flag of a cgroup that has not been removed (`CSS_ONLINE` in include/linux/cgroup-defs.h).
const ONLINE: u32 = 1 << 1;

/// A cgroup in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CgroupAt {
    /// The kernel address of its `struct cgroup`.
    pub(crate) kva: u64,
    /// The index of its parent in the list of cgroups; `None` for the root.
    pub(crate) above: Option<usize>,
    /// Its path; `None` if the path cannot be read, or if the cgroup has been removed. The kernel keeps a removed cgroup in
    /// the tree as long as something refers to it, and another cgroup may have the same path by then.
    pub(crate) path: Option<String>,
}

impl<M: GuestMemory + ?Sized> KernelView<'_, M> {
    /// Returns the cgroups, each after its parent, at most [`MAX_CGROUPS`], and the reason if some are missing.
    ///
    /// # Errors
    /// If the kernel has no tree of cgroups, if its types lack a member, or if the flags of a cgroup cannot be read.
    pub(crate) fn cgroups(&self) -> Result<(Vec<CgroupAt>, Option<String>), KernelError> {
        let cgroup = |path| Ok::<u64, KernelError>(self.member("cgroup", path)?.offset());
        let (children, sibling) = (cgroup("self.children")?, cgroup("self.sibling")?);
        let flags = cgroup("self.flags")?;
        let node = cgroup("kn")?;
        let root = self
            .symbol("cgrp_dfl_root")?
            .wrapping_add(self.member("cgroup_root", "cgrp")?.offset());
        let mut found: Vec<CgroupAt> = Vec::new();
        let mut trouble = None;
        let mut waiting = VecDeque::from([(root, None)]);
        let mut seen = 1;
        while let Some((kva, above)) = waiting.pop_front() {
            let here = found.len();
            let head = kva.wrapping_add(children);
            let room = MAX_CGROUPS.saturating_sub(seen);
            let walked = self.walk_list("children of a cgroup", head, room, |child| {
                waiting.push_back((child.wrapping_sub(sibling), Some(here)));
                seen += 1;
                true
            });
            if let Err(error) = walked {
                trouble.get_or_insert(error.to_string());
            }
            let path = self
                .read_u64(kva.wrapping_add(node))
                .and_then(|node| self.cgroup_at(node));
            let online = self.read_u32(kva.wrapping_add(flags))? & ONLINE != 0;
            let path = path.ok().filter(|_| online).map(|(_, path)| path);
            found.push(CgroupAt { kva, above, path });
        }
        Ok((found, trouble))
    }

    /// Returns the address of the kernfs node of the cgroup that the task at `task` is in.
    pub fn cgroup_node_of(&self, task: u64) -> Result<u64, KernelError> {
        let mut at = task;
        for (kind, path) in [
            ("task_struct", "cgroups"),
            ("css_set", "dfl_cgrp"),
            ("cgroup", "kn"),
        ] {
            at = self.read_u64(at.wrapping_add(self.member(kind, path)?.offset()))?;
        }
        Ok(at)
    }

    /// Returns the id and the path of the cgroup whose kernfs node is at `node`. The root's path is `/`.
    pub fn cgroup_at(&self, node: u64) -> Result<(u64, String), KernelError> {
        let member = |path| self.member("kernfs_node", path);
        // `parent` became `__parent` in 6.15.
        let parent = member("__parent").or_else(|_| member("parent"))?.offset();
        let name = member("name")?.offset();
        let id = self.read_u64(node.wrapping_add(member("id")?.offset()))?;
        let mut names = Vec::new();
        let mut at = node;
        for _ in 0..MAX_DEPTH {
            let above = self.read_u64(at.wrapping_add(parent))?;
            if above == 0 {
                break;
            }
            names.push(self.read_string(self.read_u64(at.wrapping_add(name))?, 256)?);
            at = above;
        }
        names.reverse();
        Ok((id, format!("/{}", names.join("/"))))
    }

    /// Returns the mask of the CPUs on which the task at `task` may run, up to CPU 127. CPU 0 is the lowest bit of
    /// the first word.
    pub fn affinity_of(&self, task: u64) -> Result<[u64; 2], KernelError> {
        let cpus_ptr = self.member("task_struct", "cpus_ptr")?.offset();
        let mask = self.read_u64(task.wrapping_add(cpus_ptr))?;
        Ok([self.read_u64(mask)?, self.read_u64(mask.wrapping_add(8))?])
    }
}
