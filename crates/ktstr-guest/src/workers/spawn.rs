//! From groups to forked workers that wait at their gate: ties, shared memory, processes, threads.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::Ordering::Relaxed;

use ktstr_scenario::topology::TestTopology;
use ktstr_scenario::workload::{AffinityIntent, CloneMode, ResolvedAffinity, WorkSpec, WorkType};

use super::child::{self, Plan};
use super::ctx::Tie;
use super::handle::{Process, Worker, WorkloadHandle, folded};
use super::kinds::{self, Body, Peers, Ring};
use super::rng::Rng;
use super::shared::{MAX_WORDS, Shared, Telemetry};
use super::{Group, PhaseCell, WorkerError, WorkloadConfig, attrs, leader, mem, sys};

/// What holds for all workers of a handle.
#[derive(Debug, Clone, Copy, Default)]
struct Manner {
    clone_mode: CloneMode,
    park_after: u64,
    tells_first: bool,
    /// One of the workers pins the others: nobody's share can be compared.
    meddled: bool,
}

/// A worker that is not forked yet.
struct Prepared {
    tele: Shared<Telemetry>,
    custom: Option<OwnedFd>,
    tie: Tie,
    member: usize,
    base: usize,
    rng: Rng,
}

/// The members of one group that are tied to each other, with what ties them.
struct Tied {
    members: Vec<Prepared>,
    fds: Vec<OwnedFd>,
}

impl WorkloadHandle {
    /// Starts the workers of a configuration with seed 0; they wait for [`Self::start`].
    ///
    /// # Errors
    /// A configuration that contradicts itself, a node that is not there, a failing fork.
    pub fn spawn(config: &WorkloadConfig) -> Result<Self, WorkerError> {
        Self::spawn_seeded(config, 0)
    }

    /// The same with a seed, from which everything random in the workers follows.
    ///
    /// # Errors
    /// As [`Self::spawn`].
    pub fn spawn_seeded(config: &WorkloadConfig, seed: u64) -> Result<Self, WorkerError> {
        Self::spawn_named(config, seed, None)
    }

    /// The same as [`Self::spawn`], with all workers, those of composed groups included, as threads
    /// of one process of the name `pcomm`. The one id to write to `cgroup.procs` is in
    /// [`Self::worker_pids_for_cgroup_procs`].
    ///
    /// # Errors
    /// As [`Self::spawn`].
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
        let manner = Manner {
            clone_mode: config.clone_mode,
            park_after: config.park_after_iterations.unwrap_or(0),
            tells_first: config.signal_first_iteration,
            meddled: false,
        };
        Self::spawn_with(&groups, seed, &PhaseCell::new()?, manner)
    }

    /// Starts resolved groups; what the engine uses. `phase` is what slices are stamped with.
    ///
    /// # Errors
    /// As [`Self::spawn`]. Workers already forked are killed.
    pub fn spawn_groups(
        groups: &[Group],
        seed: u64,
        phase: &PhaseCell,
    ) -> Result<Self, WorkerError> {
        Self::spawn_with(groups, seed, phase, Manner::default())
    }

    fn spawn_with(
        groups: &[Group],
        seed: u64,
        phase: &PhaseCell,
        manner: Manner,
    ) -> Result<Self, WorkerError> {
        let meddles =
            |group: &Group| matches!(group.work.work_type, WorkType::CrossAffinityChurn { .. });
        let manner = Manner {
            meddled: groups.iter().any(meddles),
            ..manner
        };
        let total: usize = groups.iter().map(|g| g.count).sum();
        if total > MAX_WORDS {
            return Err(WorkerError::Invalid(format!(
                "{total} workers in one cgroup: at most {MAX_WORDS} are supported"
            )));
        }
        let mut handle = Self::empty(total, phase, manner.clone_mode, manner.tells_first)?;
        let leader = |group: &Group| match (&group.work.pcomm, manner.clone_mode) {
            (Some(name), _) => Some(Some(name.clone())),
            (None, CloneMode::Thread) => Some(None),
            (None, CloneMode::Fork) => None,
        };
        // Neighbours with the same leader share one.
        let indexed: Vec<_> = groups.iter().enumerate().collect();
        for run in indexed.chunk_by(|(_, a), (_, b)| leader(a) == leader(b)) {
            match run.first().and_then(|(_, group)| leader(group)) {
                Some(name) => handle.fork_threads(run, name.as_deref(), seed, manner)?,
                None => handle.fork_processes(run, seed, manner)?,
            }
        }
        handle.control.workers.store(total as u32, Relaxed);
        Ok(handle)
    }

    fn fork_processes(
        &mut self,
        run: &[(usize, &Group)],
        seed: u64,
        manner: Manner,
    ) -> Result<(), WorkerError> {
        for (group_idx, group) in run {
            let body = whole_groups(group)?;
            for _ in 0..group.count / body.group {
                let tied = tie(&body, &group.work, self.workers.len(), seed)?;
                let fds: Vec<i32> = tied.fds.iter().map(AsRawFd::as_raw_fd).collect();
                for prepared in tied.members {
                    let (pid, pidfd) =
                        child::fork(&self.plan(group, &body, &prepared, manner)?, &fds)?;
                    self.processes.push(Process {
                        pid,
                        pidfd,
                        threads: false,
                    });
                    self.add(*group_idx, group, peers(&body, manner), prepared, pid, seed);
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
        manner: Manner,
    ) -> Result<(), WorkerError> {
        let mut all = Vec::new();
        let mut fds = Vec::new();
        let mut base = self.workers.len();
        for (group_idx, group) in run {
            let body = whole_groups(group)?;
            for _ in 0..group.count / body.group {
                let tied = tie(&body, &group.work, base, seed)?;
                base += body.group;
                fds.extend(tied.fds);
                for prepared in tied.members {
                    all.push((*group_idx, *group, body, prepared));
                }
            }
        }
        let plans = all
            .iter()
            .map(|(_, group, body, prepared)| self.plan(group, body, prepared, manner))
            .collect::<Result<Vec<_>, _>>()?;
        let (pid, pidfd) = leader::fork(name.map(attrs::comm_bytes), &plans)?;
        drop(plans);
        self.processes.push(Process {
            pid,
            pidfd,
            threads: true,
        });
        for (group_idx, group, body, prepared) in all {
            let tid = prepared.tele.tid.load(Relaxed);
            self.add(group_idx, group, peers(&body, manner), prepared, tid, seed);
        }
        Ok(())
    }

    fn plan<'a>(
        &'a self,
        group: &'a Group,
        body: &Body,
        prepared: &'a Prepared,
        manner: Manner,
    ) -> Result<Plan<'a>, WorkerError> {
        let work = &group.work;
        Ok(Plan {
            work,
            body: *body,
            tie: prepared.tie,
            member: prepared.member,
            base: prepared.base,
            rng: prepared.rng,
            comm: work.comm.as_deref().map(attrs::comm_bytes),
            mem: mem::Policy::of(&work.mem_policy, work.mpol_flags, work.numa_node)
                .map_err(WorkerError::Invalid)?,
            park_after: manner.park_after,
            tells_first: manner.tells_first,
            report_fd: child::raw(prepared.custom.as_ref()),
            tele: &prepared.tele,
            control: &self.control,
            phase: self.phase_page(),
        })
    }

    /// Takes over a worker that was forked.
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
        let affinity = group
            .affinity
            .cpus(Rng::new(seed, index | 1 << 32).next_u64());
        let policy = format!("{:?}", group.work.sched_policy);
        let mark = match peers {
            Peers::Alike => 0,
            Peers::SameMember => 1 << 32 | (prepared.member as u64 + 1),
            Peers::Nobody => index + 1,
        };
        self.workers.push(Worker {
            tid,
            process: self.processes.len().saturating_sub(1),
            tele: prepared.tele,
            custom: prepared.custom,
            makes_cgroups: matches!(group.work.work_type, WorkType::CgroupChurn { .. }),
            group_idx,
            entitlement: folded(mark, &(&affinity, group.work.nice.unwrap_or(0), policy)),
            affinity,
            policy: attrs::Policy {
                nice: group.work.nice,
                policy: group.work.sched_policy,
            },
            affinity_error: None,
            policy_error: None,
        });
    }
}

/// With whom the workers of a body are compared.
fn peers(body: &Body, manner: Manner) -> Peers {
    if manner.meddled {
        Peers::Nobody
    } else {
        body.peers
    }
}

/// The body of a group whose workers can be divided.
fn whole_groups(group: &Group) -> Result<Body, WorkerError> {
    let mut body = kinds::body(&group.work.work_type);
    if body.group == 0 {
        body.group = group.count.max(1);
    }
    if !group.count.is_multiple_of(body.group) {
        return Err(WorkerError::Invalid(format!(
            "work type {}: {} workers cannot be divided into groups of {}",
            group.work.work_type.name(),
            group.count,
            body.group
        )));
    }
    Ok(body)
}

/// Ties the members of one group to each other. The first is worker `base` of the handle.
fn tie(body: &Body, work: &WorkSpec, base: usize, seed: u64) -> Result<Tied, WorkerError> {
    let mut fds = Vec::new();
    match body.ring {
        Ring::Pipe => {
            for _ in 0..body.group {
                let (read, write) = rustix::pipe::pipe().map_err(|e| WorkerError::System {
                    action: "make a pipe between workers".to_owned(),
                    source: e.into(),
                })?;
                fds.extend([read, write]);
            }
        }
        Ring::Event => {
            // Each read takes one event, and does not wait for it.
            let flags = libc::EFD_SEMAPHORE | libc::EFD_NONBLOCK;
            // SAFETY: plain integers.
            let fd = unsafe { libc::eventfd(0, flags) };
            if fd < 0 {
                return Err(WorkerError::sys("make an eventfd for workers"));
            }
            // SAFETY: a fresh fd that nobody else owns.
            fds.push(unsafe { OwnedFd::from_raw_fd(fd) });
        }
        Ring::None | Ring::Futex | Ring::Shared => {}
    }
    let raw = |at: usize| child::raw(fds.get(at));
    let mut members = Vec::new();
    for member in 0..body.group {
        let next = (member + 1) % body.group;
        members.push(Prepared {
            tele: Shared::new()?,
            custom: match work.work_type {
                WorkType::Custom { .. } => Some(child::report_file()?),
                _ => None,
            },
            tie: match body.ring {
                Ring::None => Tie::None,
                Ring::Pipe => Tie::Pipe {
                    wait: raw(2 * member),
                    wake: raw(2 * next + 1),
                },
                Ring::Futex => Tie::Futex {
                    wait: base + member,
                    wake: base + next,
                },
                Ring::Shared => Tie::Shared,
                Ring::Event => Tie::Event { fd: raw(0) },
            },
            member,
            base,
            rng: Rng::new(seed, (base + member) as u64),
        });
    }
    Ok(Tied { members, fds })
}

/// What an affinity comes to without a cgroup: only intents that do not ask for the topology, unless
/// the workers have a node of their own.
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
        AffinityIntent::RandomSubset { from, count } => Ok(ResolvedAffinity::Random {
            from: from.clone(),
            count: *count,
        }),
        other => Err(WorkerError::Invalid(format!(
            "affinity {} depends on the topology: declare the workers in a cgroup of a step, or \
             give the CPUs with AffinityIntent::exact",
            other.name()
        ))),
    }
}
