//! The declaration of a cgroup: its limits and its workers.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cpuset::CpusetSpec;
use crate::cgroup::Controller;
use crate::payload::Payload;
use crate::topology::TestTopology;
use crate::workload::{
    AffinityIntent, MemPolicy, MpolFlags, SchedPolicy, WorkSpec, WorkSpecError, WorkType,
};

/// The largest `cpu.weight` and `io.weight`; the smallest is 1.
pub const MAX_WEIGHT: u32 = 10_000;

/// The period of [`CgroupDef::cpu_quota_pct`] in microseconds, which is the kernel's default period of `cpu.max`.
const DEFAULT_PERIOD_US: u64 = 100_000;

/// Limits on CPU time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuLimits {
    /// `cpu.max` as (quota, period) in µs. The outer `None` leaves the file alone; a quota of `None` is written as `max`.
    pub max_us: Option<(Option<u64>, u64)>,
    /// `cpu.weight`, in 1..=10000; `None` leaves the file alone.
    pub weight: Option<u32>,
}

/// Limits on memory. The outer `None` leaves the file alone. The inner `None` writes 0 to `memory.low`, and `max` to the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryLimits {
    /// `memory.max` in bytes: the limit that the cgroup cannot exceed.
    pub max: Option<Option<u64>>,
    /// `memory.high` in bytes: the limit above which the cgroup's tasks are throttled.
    pub high: Option<Option<u64>>,
    /// `memory.low` in bytes: the memory that is protected from reclaim as far as possible.
    pub low: Option<Option<u64>>,
    /// `memory.swap.max` in bytes: the limit on swap.
    pub swap_max: Option<Option<u64>>,
}

/// Limits on block I/O.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoLimits {
    /// `io.weight`, in 1..=10000; `None` leaves the file alone.
    pub weight: Option<u16>,
}

/// The limit on the number of tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PidsLimits {
    /// `pids.max`. The outer `None` leaves the file alone, the inner one writes `max`.
    pub max: Option<Option<u64>>,
}

/// A cgroup and its workers.
///
/// ```
/// use ktstr_scenario::ops::{CgroupDef, CpusetSpec};
/// use ktstr_scenario::workload::WorkType;
///
/// let def = CgroupDef::named("batch")
///     .cpuset(CpusetSpec::disjoint(0, 2))
///     .workers(4)
///     .nice(10)
///     .work_type(WorkType::YieldHeavy);
/// assert_eq!(def.merged_works()[0].nice, Some(10));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CgroupDef {
    /// The name of the cgroup below the test's root; it may be nested (`a/b`).
    pub name: String,
    /// The CPUs of the cgroup; with `None` it has its parent's CPUs.
    pub cpuset: Option<CpusetSpec>,
    /// The groups of workers, in the order in which they are started. If there are none, the cgroup gets one default group,
    /// unless it has a payload.
    pub works: Vec<WorkSpec>,
    /// Whether [`Ctx::work_type_override`](crate::Ctx::work_type_override) may replace the work type of the workers.
    pub swappable: bool,
    /// A program of the host that runs in the cgroup. It starts together with the workers, and is killed when the cgroup is
    /// removed, unless it exits earlier. If the cgroup declares no workers, only the program runs in it. The field is not
    /// serialized, so a deserialized declaration has no program.
    #[serde(skip)]
    pub payload: Option<&'static Payload>,
    /// The memory nodes of the cgroup; with `None` it has its parent's nodes.
    pub cpuset_mems: Option<BTreeSet<usize>>,
    /// Limits on CPU time; `None` sets none.
    pub cpu: Option<CpuLimits>,
    /// Limits on memory; `None` sets none.
    pub memory: Option<MemoryLimits>,
    /// Limits on block I/O; `None` sets none.
    pub io: Option<IoLimits>,
    /// The limit on the number of tasks; `None` sets none.
    pub pids: Option<PidsLimits>,
    /// The nice value of workers that do not declare one.
    pub default_nice: Option<i32>,
    /// The thread name of workers that do not declare one.
    pub default_comm: Option<String>,
    /// The user id of workers that do not declare one.
    pub default_uid: Option<u32>,
    /// The group id of workers that do not declare one.
    pub default_gid: Option<u32>,
    /// The NUMA node of workers that do not declare one.
    pub default_numa_node: Option<usize>,
    /// The process name of workers that do not declare one; see [`WorkSpec::pcomm`].
    pub default_pcomm: Option<String>,
}

/// Why a cgroup cannot be set up as declared.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CgroupDefError {
    /// The name is not usable.
    #[error("cgroup name {name:?}: {reason}")]
    Name {
        /// The name as it was given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A weight outside 1..=10000.
    #[error("cgroup {cgroup:?}: {file} = {value} is not in 1..={MAX_WEIGHT}")]
    Weight {
        /// The name of the cgroup.
        cgroup: String,
        /// The interface file: `cpu.weight` or `io.weight`.
        file: &'static str,
        /// The weight that was asked for.
        value: u32,
    },
    /// A quota that the kernel would refuse.
    #[error(
        "cgroup {cgroup:?}: cpu.max of {quota_us} µs in {period_us} µs: the quota must be at \
         least 1000 µs, the period 1000 to 1000000 µs"
    )]
    CpuMax {
        /// The name of the cgroup.
        cgroup: String,
        /// The quota in microseconds; 0 if there is no quota and only the period is wrong.
        quota_us: u64,
        /// The period in microseconds.
        period_us: u64,
    },
    /// A group of workers is invalid.
    #[error("cgroup {cgroup:?}: {cause}")]
    Work {
        /// The name of the cgroup.
        cgroup: String,
        /// What is wrong with the workers.
        cause: WorkSpecError,
    },
}

impl CgroupDef {
    /// A cgroup of this name with one default group of workers.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            cpuset: None,
            works: Vec::new(),
            swappable: false,
            payload: None,
            cpuset_mems: None,
            cpu: None,
            memory: None,
            io: None,
            pids: None,
            default_nice: None,
            default_comm: None,
            default_uid: None,
            default_gid: None,
            default_numa_node: None,
            default_pcomm: None,
        }
    }

    /// Changes the last group of workers. If there is none, a default group is added first.
    fn last_work(mut self, change: impl FnOnce(&mut WorkSpec)) -> Self {
        if self.works.is_empty() {
            self.works.push(WorkSpec::default());
        }
        if let Some(work) = self.works.last_mut() {
            change(work);
        }
        self
    }

    /// Sets the number of workers of the last group.
    pub fn workers(self, workers: usize) -> Self {
        self.last_work(|w| w.num_workers = Some(workers))
    }

    /// Sets the number of workers of the last group as a fraction of the cpuset's CPUs, rounded up.
    pub fn workers_pct(self, fraction: f64) -> Self {
        self.last_work(|w| w.workers_pct = Some(fraction))
    }

    /// Adds a group of workers.
    pub fn work(mut self, work: WorkSpec) -> Self {
        self.works.push(work);
        self
    }

    /// Sets the work type of the last group.
    pub fn work_type(self, work_type: WorkType) -> Self {
        self.last_work(|w| w.work_type = work_type)
    }

    /// Sets the scheduling policy of the last group.
    pub fn sched_policy(self, policy: SchedPolicy) -> Self {
        self.last_work(|w| w.sched_policy = policy)
    }

    /// Sets the affinity of the last group.
    pub fn affinity(self, affinity: AffinityIntent) -> Self {
        self.last_work(|w| w.affinity = affinity)
    }

    /// Sets the memory policy of the last group.
    pub fn mem_policy(self, policy: MemPolicy) -> Self {
        self.last_work(|w| w.mem_policy = policy)
    }

    /// Sets the flags of the last group's memory policy.
    pub fn mpol_flags(self, flags: MpolFlags) -> Self {
        self.last_work(|w| w.mpol_flags = flags)
    }

    /// Sets the nice value of workers that do not declare one.
    pub fn nice(mut self, nice: i32) -> Self {
        self.default_nice = Some(nice);
        self
    }

    /// Sets the thread name of workers that do not declare one, 1 to 15 bytes without NUL.
    pub fn comm(mut self, comm: impl Into<String>) -> Self {
        self.default_comm = Some(comm.into());
        self
    }

    /// Sets the process name of workers that do not declare one. These workers are threads of one process of this name.
    pub fn pcomm(mut self, comm: impl Into<String>) -> Self {
        self.default_pcomm = Some(comm.into());
        self
    }

    /// Sets the user id of workers that do not declare one.
    pub fn uid(mut self, uid: u32) -> Self {
        self.default_uid = Some(uid);
        self
    }

    /// Sets the group id of workers that do not declare one.
    pub fn gid(mut self, gid: u32) -> Self {
        self.default_gid = Some(gid);
        self
    }

    /// Sets the NUMA node of workers that do not declare one.
    pub fn numa_node(mut self, node: usize) -> Self {
        self.default_numa_node = Some(node);
        self
    }

    /// Sets whether [`Ctx::work_type_override`](crate::Ctx::work_type_override) may replace the work type
    /// of the workers. The setup of the cgroup fails if the number of workers does not fit the new work
    /// type; see [`WorkSpec::worker_count`].
    pub fn swappable(mut self, swappable: bool) -> Self {
        self.swappable = swappable;
        self
    }

    /// Runs a program of the host in the cgroup. The test must declare the program as its `payload` or among its `workloads`.
    ///
    /// # Panics
    /// The payload is a scheduler.
    pub fn workload(mut self, payload: &'static Payload) -> Self {
        assert!(
            !payload.is_scheduler(),
            "cgroup {:?}: {}",
            self.name,
            crate::payload::PayloadError::Scheduler {
                payload: payload.name
            }
        );
        self.payload = Some(payload);
        self
    }

    /// Sets the CPUs of the cgroup, by a rule that applies to any machine.
    pub fn cpuset(mut self, cpus: CpusetSpec) -> Self {
        self.cpuset = Some(cpus);
        self
    }

    /// Sets the memory nodes of the cgroup, by their numbers.
    pub fn cpuset_mems(mut self, nodes: BTreeSet<usize>) -> Self {
        self.cpuset_mems = Some(nodes);
        self
    }

    /// Limits CPU time to `pct` percent of one CPU, in periods of 100 ms.
    pub fn cpu_quota_pct(mut self, pct: u32) -> Self {
        let quota = u64::from(pct) * (DEFAULT_PERIOD_US / 100);
        self.cpu.get_or_insert_default().max_us = Some((Some(quota), DEFAULT_PERIOD_US));
        self
    }

    /// Limits CPU time to `quota` in every `period`, both rounded down to microseconds.
    pub fn cpu_quota(mut self, quota: Duration, period: Duration) -> Self {
        let us = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
        self.cpu.get_or_insert_default().max_us = Some((Some(us(quota)), us(period)));
        self
    }

    /// Writes `max` to `cpu.max`, with the kernel's default period of 100 ms.
    pub fn cpu_unlimited(mut self) -> Self {
        self.cpu.get_or_insert_default().max_us = Some((None, DEFAULT_PERIOD_US));
        self
    }

    /// Sets `cpu.weight`, the share of CPU time relative to sibling cgroups, in 1..=10000.
    pub fn cpu_weight(mut self, weight: u32) -> Self {
        self.cpu.get_or_insert_default().weight = Some(weight);
        self
    }

    /// Sets `memory.max` in bytes, the limit that the cgroup cannot exceed.
    pub fn memory_max(mut self, bytes: u64) -> Self {
        self.memory.get_or_insert_default().max = Some(Some(bytes));
        self
    }

    /// Sets `memory.high` in bytes, the limit above which the cgroup's tasks are throttled.
    pub fn memory_high(mut self, bytes: u64) -> Self {
        self.memory.get_or_insert_default().high = Some(Some(bytes));
        self
    }

    /// Sets `memory.low` in bytes, the memory that is protected from reclaim as far as possible.
    pub fn memory_low(mut self, bytes: u64) -> Self {
        self.memory.get_or_insert_default().low = Some(Some(bytes));
        self
    }

    /// Writes `max` to `memory.max`.
    pub fn memory_unlimited(mut self) -> Self {
        self.memory.get_or_insert_default().max = Some(None);
        self
    }

    /// Sets `memory.swap.max` in bytes, the limit on swap.
    pub fn memory_swap_max(mut self, bytes: u64) -> Self {
        self.memory.get_or_insert_default().swap_max = Some(Some(bytes));
        self
    }

    /// Writes `max` to `memory.swap.max`.
    pub fn memory_swap_unlimited(mut self) -> Self {
        self.memory.get_or_insert_default().swap_max = Some(None);
        self
    }

    /// Sets the default of `io.weight`, the share of block I/O relative to sibling cgroups, in 1..=10000.
    pub fn io_weight(mut self, weight: u16) -> Self {
        self.io.get_or_insert_default().weight = Some(weight);
        self
    }

    /// Sets `pids.max`, the largest number of tasks; each thread counts as one.
    pub fn pids_max(mut self, max: u64) -> Self {
        self.pids.get_or_insert_default().max = Some(Some(max));
        self
    }

    /// Writes `max` to `pids.max`.
    pub fn pids_unlimited(mut self) -> Self {
        self.pids.get_or_insert_default().max = Some(None);
        self
    }

    /// Returns the groups of workers with the defaults of the cgroup filled in. If no group is declared, the result has one
    /// default group, or none if the cgroup has a program to run.
    pub fn merged_works(&self) -> Vec<WorkSpec> {
        let default = [WorkSpec::default()];
        let works = if self.works.is_empty() && self.payload.is_none() {
            &default[..]
        } else {
            &self.works
        };
        works
            .iter()
            .cloned()
            .map(|mut work| {
                work.nice = work.nice.or(self.default_nice);
                work.comm = work.comm.or_else(|| self.default_comm.clone());
                work.pcomm = work.pcomm.or_else(|| self.default_pcomm.clone());
                work.uid = work.uid.or(self.default_uid);
                work.gid = work.gid.or(self.default_gid);
                work.numa_node = work.numa_node.or(self.default_numa_node);
                work
            })
            .collect()
    }

    /// Like [`CgroupDef::merged_works`], but each group has the work type `instead` if that is given and the cgroup is swappable.
    pub fn works_instead(&self, instead: Option<&WorkType>) -> Vec<WorkSpec> {
        let mut works = self.merged_works();
        if let (Some(instead), true) = (instead, self.swappable) {
            for work in &mut works {
                work.work_type = instead.clone();
            }
        }
        works
    }

    /// Checks the memory policies of the workers on this machine; `cpuset` has the resolved CPUs of the cgroup. The
    /// nodes of a policy must be among the memory nodes that the cgroup declares. If it declares none, they must be
    /// among the nodes of `cpuset`; without a cpuset, among the nodes of the machine. [`MemPolicy::validate_on`] describes
    /// how flags change these rules.
    ///
    /// # Errors
    /// [`CgroupDefError::Work`] with the first policy that is invalid, or that has a node that is not available.
    pub fn validate_memory(
        &self,
        cpuset: Option<&BTreeSet<usize>>,
        topology: &TestTopology,
    ) -> Result<(), CgroupDefError> {
        let of_cpus = cpuset.map(|cpus| topology.numa_nodes_for_cpuset(cpus));
        let allowed = self.cpuset_mems.as_ref().or(of_cpus.as_ref());
        let machine = topology.numa_node_ids();
        for work in self.merged_works() {
            work.mem_policy
                .validate_on(work.mpol_flags, allowed, &machine)
                .map_err(|error| CgroupDefError::Work {
                    cgroup: self.name.clone(),
                    cause: error.into(),
                })?;
        }
        Ok(())
    }

    /// Returns the controllers that the declaration needs.
    pub fn controllers(&self) -> BTreeSet<Controller> {
        let needs = [
            (
                Controller::Cpuset,
                self.cpuset.is_some() || self.cpuset_mems.is_some(),
            ),
            (Controller::Cpu, self.cpu.is_some()),
            (Controller::Memory, self.memory.is_some()),
            (Controller::Io, self.io.is_some()),
            (Controller::Pids, self.pids.is_some()),
        ];
        needs
            .into_iter()
            .filter_map(|(controller, needed)| needed.then_some(controller))
            .collect()
    }

    /// Checks the name, the weights, the quota and the workers, regardless of the machine. The CPUs, the memory nodes and
    /// the program are not checked here.
    ///
    /// # Errors
    /// [`CgroupDefError`] names the cgroup and the first error.
    pub fn validate(&self) -> Result<(), CgroupDefError> {
        validate_name(&self.name)?;
        let cgroup = || self.name.clone();
        let weights = [
            ("cpu.weight", self.cpu.and_then(|c| c.weight)),
            ("io.weight", self.io.and_then(|i| i.weight).map(u32::from)),
        ];
        for (file, weight) in weights {
            if let Some(value) = weight
                && !(1..=MAX_WEIGHT).contains(&value)
            {
                return Err(CgroupDefError::Weight {
                    cgroup: cgroup(),
                    file,
                    value,
                });
            }
        }
        if let Some((quota, period_us)) = self.cpu.and_then(|c| c.max_us)
            && (quota.is_some_and(|q| q < 1_000) || !(1_000..=1_000_000).contains(&period_us))
        {
            return Err(CgroupDefError::CpuMax {
                cgroup: cgroup(),
                quota_us: quota.unwrap_or(0),
                period_us,
            });
        }
        self.merged_works()
            .iter()
            .try_for_each(WorkSpec::validate)
            .map_err(|cause| CgroupDefError::Work {
                cgroup: cgroup(),
                cause,
            })
    }
}

impl Default for CgroupDef {
    fn default() -> Self {
        Self::named("cg_0")
    }
}

/// Checks that each part of a name between slashes can be the name of a folder in cgroupfs.
fn validate_name(name: &str) -> Result<(), CgroupDefError> {
    let part_error = |part: &str| match part {
        "" => Some("it is empty, or has an empty part"),
        "." | ".." => Some("it must not contain . or .."),
        _ if part.starts_with("cgroup.") => {
            Some("a part begins with cgroup., which the kernel reserves for its own files")
        }
        _ if part.len() > 255 => Some("a part is longer than 255 bytes"),
        _ if part.contains(['\n', '\0']) => Some("it must not contain newlines or NUL"),
        _ => None,
    };
    match name.split('/').find_map(part_error) {
        None => Ok(()),
        Some(reason) => Err(CgroupDefError::Name {
            name: name.to_owned(),
            reason,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Topology;

    #[test]
    fn only_swappable_cgroups_do_something_else() {
        let def = CgroupDef::named("x").workers(2);
        let instead = WorkType::pipe_io(1);
        let does = |def: &CgroupDef, instead| def.works_instead(instead)[0].work_type.name();
        assert_eq!(does(&def, Some(&instead)), "SpinWait");
        let def = def.swappable(true);
        assert_eq!(does(&def, Some(&instead)), "PipeIo");
        assert_eq!(does(&def, None), "SpinWait");
    }

    #[test]
    fn nodes_of_memory_policies_must_be_allowed() {
        let topo = TestTopology::from_vm_topology(&Topology::new(2, 2, 1, 1));
        let near = BTreeSet::from([0]);
        let def = CgroupDef::named("x").mem_policy(MemPolicy::bind([1]));
        assert!(def.validate_memory(None, &topo).is_ok());
        let error = def
            .validate_memory(Some(&near), &topo)
            .expect_err("node 1 is outside");
        assert!(
            error.to_string().contains("node 1 is not among {0}"),
            "{error}"
        );
        let fixed = def.clone().mpol_flags(MpolFlags::STATIC_NODES);
        assert!(fixed.validate_memory(Some(&near), &topo).is_ok());
        let mems = def.cpuset_mems([1].into());
        assert!(mems.validate_memory(Some(&near), &topo).is_ok());
    }

    #[test]
    fn workers_go_to_the_last_group_and_defaults_to_all() {
        let def = CgroupDef::named("x")
            .workers(2)
            .work(WorkSpec::new(WorkType::YieldHeavy).nice(-5))
            .workers(3)
            .nice(10)
            .comm("w");
        let works = def.merged_works();
        let seen: Vec<_> = works
            .iter()
            .map(|w| (w.work_type.name(), w.num_workers, w.nice, w.comm.as_deref()))
            .collect();
        assert_eq!(
            seen,
            [
                ("SpinWait", Some(2), Some(10), Some("w")),
                ("YieldHeavy", Some(3), Some(-5), Some("w")),
            ]
        );
        assert_eq!(CgroupDef::named("y").merged_works().len(), 1);
    }

    #[test]
    fn controllers_follow_the_limits() {
        let def = CgroupDef::named("x")
            .cpuset(CpusetSpec::llc(0))
            .cpu_weight(1)
            .pids_max(9);
        assert_eq!(
            def.controllers(),
            BTreeSet::from([Controller::Cpuset, Controller::Cpu, Controller::Pids])
        );
        assert!(CgroupDef::named("x").controllers().is_empty());
    }

    #[test]
    fn quota_in_microseconds() {
        let cpu = CgroupDef::named("x").cpu_quota_pct(150).cpu;
        assert_eq!(cpu.and_then(|c| c.max_us), Some((Some(150_000), 100_000)));
    }

    #[test]
    fn errors_name_the_cgroup() {
        let error = |def: CgroupDef| def.validate().expect_err("invalid").to_string();
        insta::assert_snapshot!(error(CgroupDef::named("a/../b")), @r#"cgroup name "a/../b": it must not contain . or .."#);
        insta::assert_snapshot!(error(CgroupDef::named("")), @r#"cgroup name "": it is empty, or has an empty part"#);
        insta::assert_snapshot!(error(CgroupDef::named("a/cgroup.b")), @r#"cgroup name "a/cgroup.b": a part begins with cgroup., which the kernel reserves for its own files"#);
        insta::assert_snapshot!(error(CgroupDef::named("a").workers(0)), @r#"cgroup "a": workers(0): a group needs at least one worker"#);
        insta::assert_snapshot!(error(CgroupDef::named("a").workers(1).workers_pct(0.5)), @r#"cgroup "a": workers(1) and workers_pct(0.5) exclude each other"#);
        insta::assert_snapshot!(error(CgroupDef::named("a").cpu_weight(0)), @r#"cgroup "a": cpu.weight = 0 is not in 1..=10000"#);
        insta::assert_snapshot!(
            error(CgroupDef::named("a").cpu_quota_pct(0)),
            @r#"cgroup "a": cpu.max of 0 µs in 100000 µs: the quota must be at least 1000 µs, the period 1000 to 1000000 µs"#
        );
    }
}
