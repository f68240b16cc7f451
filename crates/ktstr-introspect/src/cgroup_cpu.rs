//! CPU time and throttling of every cgroup except for the root, as the cgroup's file `cpu.stat` shows them.
//!
//! The kernel charges CPU time per CPU and adds it up only later, for instance when somebody reads the file
//! (`cgroup_base_stat_flush()`, kernel/cgroup/rstat.c). This module therefore adds the pending time: the per-CPU time of a cgroup
//! and of all its descendants that the kernel has not added up yet.

use ktstr_snapshot::ReadSection;
use ktstr_snapshot::report::{CgroupCpuStat, FailureDumpReport, Section, Throttling};

use crate::capture::Reading;
use crate::kernel::{KernelError, KernelView};
use crate::memory::GuestMemory;

/// The path of the CPU time in a `struct cgroup_base_stat`.
const RAN: &str = "cputime.sum_exec_runtime";

impl<M: GuestMemory + ?Sized> KernelView<'_, M> {
    /// Returns the CPU time and the throttling of each cgroup, and the reason if some are missing. The root is left out: its
    /// CPU time is the sum of the CPUs' times.
    ///
    /// # Errors
    /// If the kernel does not have these numbers, or memory cannot be read.
    pub fn cgroup_cpu_stats(&self) -> Result<(Vec<CgroupCpuStat>, Option<String>), KernelError> {
        let layout = Layout::new(self)?;
        let offsets: Vec<u64> = (0..self.cpu_count()?)
            .map(|cpu| self.per_cpu_offset(cpu))
            .collect::<Result<_, _>>()?;
        let (cgroups, mut trouble) = self.cgroups()?;
        // The pending time of each cgroup and its descendants. The list has children after their parents, so it is walked
        // backwards.
        let mut pending: Vec<u64> = vec![0; cgroups.len()];
        for (at, cgroup) in cgroups.iter().enumerate().rev() {
            match layout.pending(self, cgroup.kva, &offsets) {
                Ok(own) => pending[at] = pending[at].wrapping_add(own),
                Err(error) => {
                    trouble.get_or_insert(error.to_string());
                }
            }
            if let Some(above) = cgroup.above {
                // A cgroup below this one may have been flushed alone, as when it was removed: its time is then part of this
                // cgroup's sum, but not yet of the sum of this cgroup's parent.
                let kept = layout
                    .not_passed_on(self, cgroup.kva)
                    .unwrap_or_else(|error| {
                        trouble.get_or_insert(error.to_string());
                        0
                    });
                let up = pending[at].wrapping_add(kept);
                pending[above] = pending[above].wrapping_add(up);
            }
        }
        let mut found = Vec::new();
        for (cgroup, pending) in cgroups.into_iter().zip(pending) {
            let (Some(path), Some(_)) = (cgroup.path, cgroup.above) else {
                continue;
            };
            match layout.read(self, cgroup.kva, pending) {
                Ok((usage_us, throttled)) => found.push(CgroupCpuStat {
                    path,
                    usage_us,
                    throttled,
                }),
                Err(error) => {
                    trouble.get_or_insert(error.to_string());
                }
            }
        }
        Ok((found, trouble))
    }
}

impl<M: GuestMemory + ?Sized> ReadSection<Vec<CgroupCpuStat>> for Reading<'_, '_, M> {
    fn read_section(&self, _: &FailureDumpReport) -> Section<Vec<CgroupCpuStat>> {
        self.view.cgroup_cpu_stats().into()
    }
}

/// The offsets in bytes of the numbers that are read, looked up once per capture.
struct Layout {
    /// In `struct cgroup`: the CPU time that has been added up.
    added_up: u64,
    /// In `struct cgroup`: the part of that time which has been added to the parent's.
    passed_on: u64,
    /// In `struct cgroup`: the per-CPU pointer to the numbers of a CPU.
    per_cpu: u64,
    /// In the numbers of a CPU: the CPU time so far.
    now: u64,
    /// In the numbers of a CPU: the part of that time which has been added up.
    before: u64,
    /// The numbers of the `cpu` controller; `None` if the kernel does not have them.
    controller: Option<Controller>,
}

struct Controller {
    /// The offset in `struct cgroup` of the pointer to the controller's state, a `struct task_group`.
    pointer: u64,
    periods: crate::btf::Member,
    throttled: crate::btf::Member,
    throttled_ns: crate::btf::Member,
}

impl Layout {
    fn new<M: GuestMemory + ?Sized>(view: &KernelView<'_, M>) -> Result<Self, KernelError> {
        let offset =
            |kind: &str, path: &str| Ok::<u64, KernelError>(view.member(kind, path)?.offset());
        // Until 6.15 these numbers were in a struct that all controllers shared.
        let (pointer, kind) = match offset("cgroup", "rstat_base_cpu") {
            Ok(pointer) => (pointer, "cgroup_rstat_base_cpu"),
            Err(_) => (offset("cgroup", "rstat_cpu")?, "cgroup_rstat_cpu"),
        };
        let added_up = offset("cgroup", &format!("bstat.{RAN}"))?;
        Ok(Self {
            added_up,
            passed_on: offset("cgroup", &format!("last_bstat.{RAN}"))?,
            per_cpu: pointer,
            now: offset(kind, &format!("bstat.{RAN}"))?,
            before: offset(kind, &format!("last_bstat.{RAN}"))?,
            controller: Controller::new(view),
        })
    }

    /// Returns the CPU time of the cgroup's own tasks that has not been added up yet, in nanoseconds.
    fn pending<M: GuestMemory + ?Sized>(
        &self,
        view: &KernelView<'_, M>,
        cgroup: u64,
        offsets: &[u64],
    ) -> Result<u64, KernelError> {
        let per_cpu = view.read_u64(cgroup.wrapping_add(self.per_cpu))?;
        let mut sum = 0_u64;
        for offset in offsets {
            let at = per_cpu.wrapping_add(*offset);
            let now = view.read_u64(at.wrapping_add(self.now))?;
            let before = view.read_u64(at.wrapping_add(self.before))?;
            sum = sum.wrapping_add(now.wrapping_sub(before));
        }
        Ok(sum)
    }

    /// Returns the CPU time in nanoseconds that the kernel has added up for the cgroup, but has not passed on to the parent yet
    /// (`cgroup_base_stat_flush` in kernel/cgroup/rstat.c, 6.12 to 7.3).
    fn not_passed_on<M: GuestMemory + ?Sized>(
        &self,
        view: &KernelView<'_, M>,
        cgroup: u64,
    ) -> Result<u64, KernelError> {
        let added_up = view.read_u64(cgroup.wrapping_add(self.added_up))?;
        let passed_on = view.read_u64(cgroup.wrapping_add(self.passed_on))?;
        Ok(added_up.wrapping_sub(passed_on))
    }

    /// Returns the CPU time in microseconds, including the `pending` nanoseconds, and the throttling.
    fn read<M: GuestMemory + ?Sized>(
        &self,
        view: &KernelView<'_, M>,
        cgroup: u64,
        pending: u64,
    ) -> Result<(u64, Option<Throttling>), KernelError> {
        let added_up = view.read_u64(cgroup.wrapping_add(self.added_up))?;
        let usage_us = added_up.wrapping_add(pending) / 1000;
        let Some(controller) = &self.controller else {
            return Ok((usage_us, None));
        };
        // The pointer is NULL if the controller is not enabled for the cgroup.
        let state = view.read_u64(cgroup.wrapping_add(controller.pointer))?;
        if state == 0 {
            return Ok((usage_us, None));
        }
        let throttled = Throttling {
            periods: view.read_member(state, &controller.periods)?,
            throttled: view.read_member(state, &controller.throttled)?,
            throttled_us: view.read_member(state, &controller.throttled_ns)? / 1000,
        };
        Ok((usage_us, Some(throttled)))
    }
}

impl Controller {
    /// Looks up the offsets; `None` for a kernel without the `cpu` controller or without quotas.
    fn new<M: GuestMemory + ?Sized>(view: &KernelView<'_, M>) -> Option<Self> {
        let number = view
            .btf()
            .enumerator_value("cgroup_subsys_id", "cpu_cgrp_id")?;
        let number = u64::try_from(number).ok()?;
        let member = |path: &str| view.member("task_group", path).ok();
        // The pointer leads to `task_group.css`, whose address is that of the group only if `css` is the first member.
        (member("css")?.offset() == 0).then_some(())?;
        let subsystems = view.member("cgroup", "subsys").ok()?;
        (number < subsystems.size / 8).then_some(())?;
        Some(Self {
            pointer: subsystems.offset() + 8 * number,
            periods: member("cfs_bandwidth.nr_periods")?,
            throttled: member("cfs_bandwidth.nr_throttled")?,
            throttled_ns: member("cfs_bandwidth.throttled_time")?,
        })
    }
}
