//! Forks the workers of resolved groups: creates their shared memory and what connects them, then the processes or
//! threads, which wait at the gate.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use ktstr_scenario::topology::TestTopology;
use ktstr_scenario::workload::{AffinityIntent, CloneMode, ResolvedAffinity, WorkSpec, WorkType};

use super::child::{self, Plan};
use super::ctx::WakeLink;
use super::handle::{Process, Worker, WorkloadHandle, folded};
use super::kinds::{self, Peers, WakeGraph, WorkLoop};
use super::rng::Rng;
use super::shared::{Bytes, MAX_WORDS, Shared, Telemetry};
use super::{Group, PhaseCell, WorkerError, WorkloadConfig, attrs, leader, mem, sys};

/// Settings that apply to all workers of a handle.
#[derive(Debug, Clone, Copy, Default)]
struct SpawnOptions {
    clone_mode: CloneMode,
    park_after: u64,
    reports_first: bool,
    /// Whether one of the workers changes the affinity of the others, so that no shares of CPU time can be compared.
    cross_affinity: bool,
}

/// A worker that is not forked yet.
struct Prepared {
    tele: Shared<Telemetry>,
    custom: Option<OwnedFd>,
    bytes: Option<Arc<Bytes>>,
    wake_link: WakeLink,
    member: usize,
    base: usize,
    rng: Rng,
}

/// The members of one group that are connected to each other, with the file descriptors that connect them.
struct Connected {
    members: Vec<Prepared>,
    fds: Vec<OwnedFd>,
}

impl WorkloadHandle {
    /// Forks the workers of a configuration with seed 0. They wait for [`Self::start`].
    ///
    /// # Errors
    /// The configuration contradicts itself or has too many workers, the affinity depends on the topology, a NUMA node does
    /// not exist, or the kernel refuses a fork, memory or a descriptor.
    pub fn spawn(config: &WorkloadConfig) -> Result<Self, WorkerError> {
        Self::spawn_seeded(config, 0)
    }

    /// Like [`Self::spawn`], with a seed that determines everything random in the workers.
    ///
    /// # Errors
    /// The same errors as [`Self::spawn`].
    pub fn spawn_seeded(config: &WorkloadConfig, seed: u64) -> Result<Self, WorkerError> {
        Self::spawn_named(config, seed, None)
    }

    /// Like [`Self::spawn`], but all workers, including those of composed groups, are threads of one process named
    /// `pcomm`. [`Self::worker_pids_for_cgroup_procs`] returns the one id to write to `cgroup.procs`.
    ///
    /// # Errors
    /// The same errors as [`Self::spawn`].
    pub fn spawn_pcomm_cgroup(pcomm: &str, config: &WorkloadConfig) -> Result<Self, WorkerError> {
        Self::spawn_named(config, 0, Some(pcomm))
    }

    fn spawn_named(
        config: &WorkloadConfig,
        seed: u64,
        pcomm: Option<&str>,
    ) -> Result<Self, WorkerError> {
        config
            .validate()
            .map_err(|e| WorkerError::Invalid(e.to_string()))?;
        let cpus = sys::mask_len(&sys::affinity(0)) as usize;
        let mut groups = Vec::new();
        for mut work in std::iter::once(config.primary()).chain(config.composed.iter().cloned()) {
            if let Some(name) = pcomm {
                work.pcomm = Some(name.to_owned());
            }
            work.validate()
                .map_err(|e| WorkerError::Invalid(e.to_string()))?;
            let count = work
                .worker_count(cpus.max(1), 1)
                .map_err(|e| WorkerError::Invalid(e.to_string()))?;
            groups.push(Group {
                affinity: affinity_here(&work)?,
                work,
                count,
            });
        }
        let options = SpawnOptions {
            clone_mode: config.clone_mode,
            park_after: config.park_after_iterations.unwrap_or(0),
            reports_first: config.signal_first_iteration,
            cross_affinity: false,
        };
        Self::spawn_with(&groups, seed, &PhaseCell::new()?, options)
    }

    /// Forks the workers of resolved groups, for the engine. Slices are stamped with `phase`.
    ///
    /// # Errors
    /// The same errors as [`Self::spawn`]. Workers that were already forked are killed.
    pub fn spawn_groups(
        groups: &[Group],
        seed: u64,
        phase: &PhaseCell,
    ) -> Result<Self, WorkerError> {
        Self::spawn_with(groups, seed, phase, SpawnOptions::default())
    }

    fn spawn_with(
        groups: &[Group],
        seed: u64,
        phase: &PhaseCell,
        options: SpawnOptions,
    ) -> Result<Self, WorkerError> {
        let changes_others =
            |group: &Group| matches!(group.work.work_type, WorkType::CrossAffinityChurn { .. });
        let options = SpawnOptions {
            cross_affinity: groups.iter().any(changes_others),
            ..options
        };
        let total: usize = groups.iter().map(|g| g.count).sum();
        if total > MAX_WORDS {
            return Err(WorkerError::Invalid(format!(
                "{total} workers in one cgroup: at most {MAX_WORDS} are supported"
            )));
        }
        let mut handle = Self::empty(total, phase, options.clone_mode, options.reports_first)?;
        let leader = |group: &Group| match (&group.work.pcomm, options.clone_mode) {
            (Some(name), _) => Some(Some(name.clone())),
            (None, CloneMode::Thread) => Some(None),
            (None, CloneMode::Fork) => None,
        };
        // Adjacent groups with the same leader share one process.
        let indexed: Vec<_> = groups.iter().enumerate().collect();
        for run in indexed.chunk_by(|(_, a), (_, b)| leader(a) == leader(b)) {
            match run.first().and_then(|(_, group)| leader(group)) {
                Some(name) => handle.fork_threads(run, name.as_deref(), seed, options)?,
                None => handle.fork_processes(run, seed, options)?,
            }
        }
        handle.control.workers.store(total as u32, Relaxed);
        Ok(handle)
    }

    fn fork_processes(
        &mut self,
        run: &[(usize, &Group)],
        seed: u64,
        options: SpawnOptions,
    ) -> Result<(), WorkerError> {
        for (group_idx, group) in run {
            let work_loop = whole_groups(group)?;
            for _ in 0..group.count / work_loop.group {
                let connected = connect(&work_loop, &group.work, self.workers.len(), seed)?;
                let fds: Vec<i32> = connected.fds.iter().map(AsRawFd::as_raw_fd).collect();
                for prepared in connected.members {
                    let (pid, pidfd) =
                        child::fork(&self.plan(group, &work_loop, &prepared, options)?, &fds)?;
                    self.processes.push(Process {
                        pid,
                        pidfd,
                        threads: false,
                    });
                    self.add(
                        *group_idx,
                        group,
                        peers(&work_loop, options),
                        prepared,
                        pid,
                        seed,
                    );
                }
            }
        }
        Ok(())
    }

    fn fork_threads(
        &mut self,
        run: &[(usize, &Group)],
        name: Option<&str>,
        seed: u64,
        options: SpawnOptions,
    ) -> Result<(), WorkerError> {
        let mut all = Vec::new();
        let mut fds = Vec::new();
        let mut base = self.workers.len();
        for (group_idx, group) in run {
            let work_loop = whole_groups(group)?;
            for _ in 0..group.count / work_loop.group {
                let connected = connect(&work_loop, &group.work, base, seed)?;
                base += work_loop.group;
                fds.extend(connected.fds);
                for prepared in connected.members {
                    all.push((*group_idx, *group, work_loop, prepared));
                }
            }
        }
        let plans = all
            .iter()
            .map(|(_, group, work_loop, prepared)| self.plan(group, work_loop, prepared, options))
            .collect::<Result<Vec<_>, _>>()?;
        let (pid, pidfd) = leader::fork(name.map(attrs::comm_bytes), &plans)?;
        drop(plans);
        self.processes.push(Process {
            pid,
            pidfd,
            threads: true,
        });
        for (group_idx, group, work_loop, prepared) in all {
            let tid = prepared.tele.tid.load(Relaxed);
            self.add(
                group_idx,
                group,
                peers(&work_loop, options),
                prepared,
                tid,
                seed,
            );
        }
        Ok(())
    }

    fn plan<'a>(
        &'a self,
        group: &'a Group,
        work_loop: &WorkLoop,
        prepared: &'a Prepared,
        options: SpawnOptions,
    ) -> Result<Plan<'a>, WorkerError> {
        let work = &group.work;
        // Findings and dumps name tasks by this name and the thread id, such as `SpinWait[1006]`.
        let name = match (&work.comm, &work.work_type) {
            (Some(comm), _) => comm.as_str(),
            (None, WorkType::Custom { name, .. }) => name.as_str(),
            (None, kind) => kind.name(),
        };
        Ok(Plan {
            work,
            work_loop: *work_loop,
            wake_link: prepared.wake_link,
            member: prepared.member,
            base: prepared.base,
            rng: prepared.rng,
            comm: attrs::comm_bytes(name),
            mem: mem::Policy::of(&work.mem_policy, work.mpol_flags, work.numa_node)
                .map_err(WorkerError::Invalid)?,
            park_after: options.park_after,
            reports_first: options.reports_first,
            report_fd: child::raw(prepared.custom.as_ref()),
            bytes: prepared.bytes.as_deref(),
            tele: &prepared.tele,
            control: &self.control,
            phase: self.phase_page(),
        })
    }

    /// Adds a forked worker to the handle.
    fn add(
        &mut self,
        group_idx: usize,
        group: &Group,
        peers: Peers,
        prepared: Prepared,
        tid: i32,
        seed: u64,
    ) {
        let index = self.workers.len() as u64;
        if let Some(place) = self.control.tids.get(index as usize) {
            place.store(tid, Relaxed);
        }
        // Bit 32 separates the random streams of the affinities from those of the workers' bodies.
        let affinity = group
            .affinity
            .cpus(Rng::new(seed, index | 1 << 32).next_u64());
        let policy = format!("{:?}", group.work.sched_policy);
        // Workers of different types, or with other parameters, may need different amounts of CPU time.
        let work = format!("{:?}", group.work.work_type);
        let mark = match peers {
            Peers::Alike => 0,
            // Bit 32 keeps the marks of members apart from those of single workers.
            Peers::SameMember => 1 << 32 | (prepared.member as u64 + 1),
            Peers::Nobody => index + 1,
        };
        self.workers.push(Worker {
            tid,
            process: self.processes.len().saturating_sub(1),
            tele: prepared.tele,
            custom: prepared.custom,
            objects: kinds::named_objects(&group.work.work_type, tid),
            makes_cgroups: matches!(group.work.work_type, WorkType::CgroupChurn { .. }),
            group_idx,
            entitlement: folded(
                mark,
                &(&affinity, group.work.nice.unwrap_or(0), policy, work),
            ),
            affinity,
            policy: attrs::Policy {
                nice: group.work.nice,
                policy: group.work.sched_policy,
            },
            affinity_error: None,
            policy_error: None,
            lowered_from: None,
            refused: false,
            realtime_from_ns: 0,
            realtime_ns: 0,
        });
    }
}

/// Returns the workers with which the workers of a work loop are compared.
fn peers(work_loop: &WorkLoop, options: SpawnOptions) -> Peers {
    if options.cross_affinity {
        Peers::Nobody
    } else {
        work_loop.peers
    }
}

/// Returns the work loop of a group, after checking that the workers can be divided into groups of the loop's group size.
fn whole_groups(group: &Group) -> Result<WorkLoop, WorkerError> {
    let mut work_loop = kinds::work_loop(&group.work.work_type);
    if work_loop.group == 0 {
        work_loop.group = group.count.max(1);
    }
    if !group.count.is_multiple_of(work_loop.group) {
        return Err(WorkerError::Invalid(format!(
            "work type {}: {} workers cannot be divided into groups of {}",
            group.work.work_type.name(),
            group.count,
            work_loop.group
        )));
    }
    Ok(work_loop)
}

/// Connects the members of one group to each other. The first member is worker `base` of the handle.
fn connect(
    work_loop: &WorkLoop,
    work: &WorkSpec,
    base: usize,
    seed: u64,
) -> Result<Connected, WorkerError> {
    let mut fds = Vec::new();
    match work_loop.graph {
        WakeGraph::Pipe => {
            for _ in 0..work_loop.group {
                let (read, write) = rustix::pipe::pipe().map_err(|e| WorkerError::System {
                    action: "make a pipe between workers".to_owned(),
                    cause: e.into(),
                })?;
                fds.extend([read, write]);
            }
        }
        WakeGraph::Event => {
            // A read takes one event and does not block.
            let flags = libc::EFD_SEMAPHORE | libc::EFD_NONBLOCK;
            // SAFETY: plain integers.
            let fd = unsafe { libc::eventfd(0, flags) };
            if fd < 0 {
                return Err(WorkerError::sys("make an eventfd for workers"));
            }
            // SAFETY: a fresh descriptor that nothing else owns.
            fds.push(unsafe { OwnedFd::from_raw_fd(fd) });
        }
        WakeGraph::None | WakeGraph::Futex | WakeGraph::Shared => {}
    }
    let raw = |at: usize| child::raw(fds.get(at));
    let bytes = match kinds::shared_bytes(&work.work_type, work_loop.group) {
        0 => None,
        len => Some(Arc::new(Bytes::new(len)?)),
    };
    let mut members = Vec::new();
    for member in 0..work_loop.group {
        let next = (member + 1) % work_loop.group;
        members.push(Prepared {
            tele: Shared::new()?,
            custom: match work.work_type {
                WorkType::Custom { .. } => Some(child::report_file()?),
                _ => None,
            },
            bytes: bytes.clone(),
            wake_link: match work_loop.graph {
                WakeGraph::None => WakeLink::None,
                WakeGraph::Pipe => WakeLink::Pipe {
                    wait: raw(2 * member),
                    wake: raw(2 * next + 1),
                },
                WakeGraph::Futex => WakeLink::Futex {
                    wait: base + member,
                    wake: base + next,
                },
                WakeGraph::Shared => WakeLink::Shared,
                WakeGraph::Event => WakeLink::Event { fd: raw(0) },
            },
            member,
            base,
            rng: Rng::new(seed, (base + member) as u64),
        });
    }
    Ok(Connected { members, fds })
}

/// Resolves the affinity of workers that belong to no cgroup of a step. An intent that depends on the topology is an error,
/// unless the workers are bound to a NUMA node, for which the topology is read from the system.
fn affinity_here(work: &WorkSpec) -> Result<ResolvedAffinity, WorkerError> {
    if work.numa_node.is_some() {
        let topology =
            TestTopology::from_system().map_err(|e| WorkerError::Invalid(e.to_string()))?;
        return work
            .resolve_affinity(None, &topology)
            .map_err(|e| WorkerError::Invalid(e.to_string()));
    }
    match &work.affinity {
        AffinityIntent::Inherit => Ok(ResolvedAffinity::None),
        AffinityIntent::Exact(cpus) => Ok(ResolvedAffinity::Fixed(cpus.clone())),
        AffinityIntent::RandomSubset { from, count } if from.is_empty() || *count == 0 => {
            Err(WorkerError::Invalid(format!(
                "affinity RandomSubset ({count} of {from:?}): choose at least one CPU from a set that is not empty"
            )))
        }
        AffinityIntent::RandomSubset { from, count } => Ok(ResolvedAffinity::Random {
            from: from.clone(),
            count: (*count).min(from.len()),
        }),
        other => Err(WorkerError::Invalid(format!(
            "affinity {} depends on the topology: declare the workers in a cgroup of a step, or \
             give the CPUs with AffinityIntent::exact",
            other.name()
        ))),
    }
}
