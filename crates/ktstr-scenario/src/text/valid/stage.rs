//! The cgroups that exist at a point of a scenario, as far as their declarations determine that.

use std::collections::{BTreeMap, BTreeSet};

use super::Checked;
use crate::ops::{CgroupDef, CpusetSpec};
use crate::topology::{OwnCpus, TestTopology, effective_cpus};
use crate::workload::WorkSpec;

/// The lifetime of a cgroup or a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// The cgroup is of the backdrop, and exists until the end of the scenario.
    Scenario,
    /// The cgroup is removed at the end of the step that created it.
    Step,
}

/// A cgroup at this point of the scenario.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) life: Life,
    /// The CPUs of the cgroup's own cpuset; `None` if it has none, so that it has its parent's CPUs.
    pub(super) cpus: Option<BTreeSet<usize>>,
    /// Whether the cgroup is a partition, which needs CPUs of its own.
    pub(super) partition: bool,
    /// Whether workers run in the cgroup itself. Workers of its descendants do not count.
    pub(super) busy: bool,
    /// The programs that have started in the cgroup or were moved to it, each with the latest time at which it ends: with the
    /// step, or with the scenario. It may exit earlier.
    pub(super) programs: Vec<(Life, &'static str)>,
    /// The program of the declaration, until it starts together with the workers. Operations before that do not affect it.
    pub(super) waiting: Vec<(Life, &'static str)>,
}

impl Live {
    /// Returns whether tasks run in the cgroup itself.
    pub(super) fn has_tasks(&self) -> bool {
        self.busy || !self.programs.is_empty() || !self.waiting.is_empty()
    }
}

/// The cgroups that exist at a point of the scenario.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    pub(super) topology: &'a TestTopology,
    /// Whether controllers are enabled, so that no cgroup can have both workers and child cgroups.
    controllers: bool,
    pub(super) cgroups: BTreeMap<String, Live>,
    /// The lifetime of the workers in the harness's own cgroup, which is that of the first ones; `None` if there were none.
    pub(super) in_harness: Option<Life>,
    /// The cgroups that the setup of the current step creates after its operations.
    announced: Vec<String>,
    /// The lifetime of the cgroups and programs that the current operation creates or starts.
    pub(super) life: Life,
}

impl<'a> Stage<'a> {
    pub(super) fn new(topology: &'a TestTopology, controllers: bool) -> Self {
        Self {
            topology,
            controllers,
            cgroups: BTreeMap::new(),
            in_harness: None,
            announced: Vec::new(),
            life: Life::Scenario,
        }
    }

    /// Records the cgroups that the step creates after its operations.
    pub(super) fn announce(&mut self, defs: &[CgroupDef]) {
        self.announced = defs.iter().map(|def| def.name.clone()).collect();
    }

    /// Removes the cgroups of the step that ends, and the programs that its operations have started.
    pub(super) fn end_step(&mut self) {
        self.cgroups.retain(|_, live| live.life == Life::Scenario);
        for live in self.cgroups.values_mut() {
            live.programs.retain(|(life, _)| *life == Life::Scenario);
        }
        self.in_harness = self.in_harness.filter(|life| *life == Life::Scenario);
        self.announced.clear();
    }

    /// Records that the workers and programs of the backdrop or of a step have been released.
    pub(super) fn release(&mut self) {
        for live in self.cgroups.values_mut() {
            live.programs.append(&mut live.waiting);
        }
    }

    /// Returns the cgroup of this name. The error names the cgroups that exist.
    pub(super) fn get(&mut self, name: &str) -> Result<&mut Live, String> {
        let known: Vec<&str> = self.cgroups.keys().map(String::as_str).collect();
        let there = match known.as_slice() {
            [] => "there is none".to_owned(),
            known => format!("there are: {}", known.join(", ")),
        };
        let message = match self.announced.iter().any(|later| later == name) {
            true => format!(
                "there is no cgroup {name:?} yet: a step's operations come before its cgroups. Create it with `add_cgroup_def` \
                 before this operation, or in an earlier step or the backdrop"
            ),
            false => format!("there is no cgroup {name:?} at this point ({there}): add it first"),
        };
        self.cgroups.get_mut(name).ok_or(message)
    }

    /// Adds a new cgroup without workers. It is an error if the name is invalid or exists already, or if controllers are
    /// enabled and an ancestor has tasks.
    pub(super) fn add(&mut self, life: Life, name: &str) -> Checked {
        // Only the name can be wrong: all the rest has its default value.
        CgroupDef::named(name)
            .validate()
            .map_err(|e| e.to_string())?;
        if self.cgroups.contains_key(name) {
            return Err(format!(
                "there is a cgroup {name:?} already: use another name, or remove it first"
            ));
        }
        let above = |(other, live): (&String, &Live)| {
            (live.has_tasks() && is_below(name, other)).then(|| other.clone())
        };
        if let Some(other) = self.cgroups.iter().find_map(above) {
            self.exclusive(&other, name)?;
        }
        let live = Live {
            life,
            cpus: None,
            partition: false,
            busy: false,
            programs: Vec::new(),
            waiting: Vec::new(),
        };
        self.cgroups.insert(name.to_owned(), live);
        Ok(())
    }

    /// Returns an error if controllers are enabled, because the kernel then allows processes only in cgroups without children.
    fn exclusive(&self, above: &str, below: &str) -> Checked {
        match self.controllers {
            true => Err(format!(
                "cgroup {above:?} has workers or a program, and {below:?} is below it: with a controller turned on, the kernel \
                 lets only the lowest cgroups have tasks. Put the tasks into a cgroup of their own below {above:?}"
            )),
            false => Ok(()),
        }
    }

    /// Records that tasks run in the cgroup from now on.
    pub(super) fn occupy(&mut self, name: &str) -> Checked {
        self.occupied(name)?.busy = true;
        Ok(())
    }

    /// Records that a program runs in the cgroup from now on.
    pub(super) fn start_program(&mut self, name: &str, program: &'static str) -> Checked {
        let life = self.life;
        self.occupied(name)?.programs.push((life, program));
        Ok(())
    }

    /// Returns the cgroup if tasks may run in it.
    pub(super) fn occupied(&mut self, name: &str) -> Result<&mut Live, String> {
        if let Some(below) = self.cgroups.keys().find(|other| is_below(other, name)) {
            let below = below.clone();
            self.exclusive(name, &below)?;
        }
        self.get(name)
    }

    /// Checks a declaration of a cgroup, and adds the cgroup with its workers and its program.
    pub(super) fn add_def(&mut self, life: Life, def: &CgroupDef) -> Checked {
        def.validate().map_err(|error| error.to_string())?;
        self.add(life, &def.name)?;
        let cpus = def.cpuset.as_ref().map(|spec| self.cpus_of(spec));
        let cpus = cpus.transpose()?;
        self.get(&def.name)?.cpus = cpus;
        let memory = def.validate_memory(self.cpus_in(&def.name).as_ref(), self.topology);
        memory.map_err(|error| error.to_string())?;
        if let Some(nodes) = &def.cpuset_mems {
            let there = self.topology.numa_node_ids();
            if !nodes.is_subset(&there) || nodes.is_empty() {
                return Err(format!(
                    "cgroup {:?}: cpuset_mems names the nodes {nodes:?}, but the machine has {there:?}",
                    def.name
                ));
            }
        }
        if let Some(payload) = def.payload {
            payload.validate().map_err(|error| error.to_string())?;
            let waiting = &mut self.occupied(&def.name)?.waiting;
            waiting.push((life, payload.name));
        }
        (def.merged_works().iter()).try_for_each(|work| self.spawn(&def.name, work))
    }

    /// Returns the CPUs that a rule selects on this machine.
    pub(super) fn cpus_of(&self, spec: &CpusetSpec) -> Result<BTreeSet<usize>, String> {
        spec.resolve_on(self.topology)
            .map_err(|error| error.to_string())
    }

    /// Checks workers that start in a cgroup.
    pub(super) fn spawn(&mut self, name: &str, work: &WorkSpec) -> Checked {
        self.get(name)?;
        let cpus = self.cpus_in(name);
        self.work(cpus.as_ref(), work)
            .map_err(|message| format!("workers of cgroup {name:?}: {message}"))?;
        self.occupy(name)
    }

    /// Returns the CPUs that a cgroup has; `None` stands for all CPUs.
    pub(super) fn cpus_in(&self, name: &str) -> Option<BTreeSet<usize>> {
        let sets = self.cgroups.iter().filter_map(|(name, live)| {
            Some(OwnCpus {
                name,
                cpus: live.cpus.as_ref()?,
                partition: live.partition,
            })
        });
        effective_cpus(name, &self.topology.all_cpuset(), sets)
    }

    /// Checks that these workers are possible on these CPUs; `None` is all CPUs.
    pub(super) fn work(&self, cpus: Option<&BTreeSet<usize>>, work: &WorkSpec) -> Checked {
        work.validate().map_err(|error| error.to_string())?;
        let count = cpus.map_or(self.topology.total_cpus(), BTreeSet::len);
        work.worker_count(count, DEFAULT_WORKERS)
            .map_err(|error| error.to_string())?;
        let affinity = work.resolve_affinity(cpus, self.topology);
        affinity.map(drop).map_err(|error| error.to_string())
    }
}

/// The default number of workers of a group, as in [`Ctx::builder`](crate::Ctx::builder).
const DEFAULT_WORKERS: usize = 1;

/// Returns whether a cgroup is a proper descendant of another.
pub(super) fn is_below(name: &str, above: &str) -> bool {
    name.strip_prefix(above)
        .is_some_and(|rest| rest.starts_with('/'))
}
