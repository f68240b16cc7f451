//! Cgroups of the unified hierarchy: which one a task is in, and its path.

use crate::kernel::{KernelError, KernelView};
use crate::memory::GuestMemory;

/// The largest number of levels of a path.
const MAX_DEPTH: usize = 64;

impl<M: GuestMemory + ?Sized> KernelView<'_, M> {
    /// The kernfs node of the cgroup that the task at `task` is in.
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

    /// Id and path of the cgroup whose kernfs node is at `node`. The root's path is `/`.
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

    /// The CPUs on which the task at `task` may run: the first 128 of them, CPU 0 lowest.
    pub fn affinity_of(&self, task: u64) -> Result<[u64; 2], KernelError> {
        let cpus_ptr = self.member("task_struct", "cpus_ptr")?.offset();
        let mask = self.read_u64(task.wrapping_add(cpus_ptr))?;
        Ok([self.read_u64(mask)?, self.read_u64(mask.wrapping_add(8))?])
    }
}
