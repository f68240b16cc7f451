//! Random values of each type of the language.

use std::collections::BTreeSet;
use std::time::Duration;

use ktstr_scenario::ops::{CgroupDef, CpusetSpec};
use ktstr_scenario::workload::{
    AffinityIntent, MemPolicy, MpolFlags, RtAction, RtPhase, SchedPolicy, WorkPhase, WorkSpec,
    WorkType,
};

/// Draws numbers with splitmix64 (Steele, Lea and Flood 2014).
pub struct Draw(u64);

impl Draw {
    pub fn new(number: u64) -> Self {
        Self(number.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Draws a number from 0 to `most`, both included.
    pub fn up_to(&mut self, most: u64) -> u64 {
        self.next() % (most + 1)
    }

    /// Draws a number that is at least 0 and less than 1.
    pub fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.up_to(all.len() as u64 - 1) as usize].clone()
    }

    fn maybe<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.up_to(3) == 0).then(|| value(self))
    }

    fn cpus(&mut self) -> BTreeSet<usize> {
        (0..1 + self.up_to(3))
            .map(|_| self.up_to(5) as usize)
            .collect()
    }

    pub(super) fn ms(&mut self, most: u64) -> Duration {
        Duration::from_micros(1_000 + self.up_to(1_000 * most))
    }

    /// Draws the name of a cgroup. If the scenario is not run, the name may have unusual letters.
    pub(super) fn name(&mut self, runs: bool) -> String {
        let plain = ["a", "b", "c", "d", "a/x", "d/y"];
        match runs || self.up_to(2) > 0 {
            true => self.pick(&plain).to_owned(),
            false => self
                .pick(&["wide name", "q\"uote", "é", "back\\slash", "tab\t"])
                .to_owned(),
        }
    }

    pub(super) fn cpuset(&mut self) -> CpusetSpec {
        let index = self.up_to(2) as usize;
        match self.up_to(5) {
            0 => CpusetSpec::llc(index),
            1 => CpusetSpec::numa(index),
            2 => CpusetSpec::range(self.fraction() / 2.0, 0.5 + self.fraction() / 2.0),
            3 => CpusetSpec::disjoint(index, 1 + self.up_to(2) as usize),
            4 => CpusetSpec::overlap(index, 1 + self.up_to(2) as usize, self.fraction()),
            _ => CpusetSpec::Exact(self.cpus()),
        }
    }

    pub(super) fn affinity(&mut self) -> AffinityIntent {
        match self.up_to(6) {
            0 => AffinityIntent::RandomSubset {
                from: self.cpus(),
                count: 1 + self.up_to(2) as usize,
            },
            1 => AffinityIntent::LlcAligned,
            2 => AffinityIntent::CrossCgroup,
            3 => AffinityIntent::SingleCpu,
            4 => AffinityIntent::Exact(self.cpus()),
            5 => AffinityIntent::SmtSiblingPair,
            _ => AffinityIntent::Inherit,
        }
    }

    /// Draws a policy. If the scenario is run, it is not a policy under which a worker can keep a CPU from all other tasks.
    pub(super) fn policy(&mut self, runs: bool) -> SchedPolicy {
        let priority = 1 + self.up_to(98) as u32;
        match self.up_to(if runs { 3 } else { 6 }) {
            0 | 1 => SchedPolicy::Normal,
            2 => SchedPolicy::Batch,
            3 => SchedPolicy::Idle,
            4 => SchedPolicy::Fifo(priority),
            5 => SchedPolicy::RoundRobin(priority),
            _ => {
                let ms = self.ms(5);
                SchedPolicy::deadline(ms, ms * 2, ms * 3)
            }
        }
    }

    fn work_type(&mut self, runs: bool) -> WorkType {
        let phase = |draw: &mut Self| match draw.up_to(3) {
            0 => WorkPhase::Spin(draw.ms(3)),
            1 => WorkPhase::Sleep(draw.ms(3)),
            2 => WorkPhase::Yield(draw.ms(3)),
            _ => WorkPhase::Io(draw.ms(3)),
        };
        let name = self.pick(WorkType::ALL_NAMES);
        match WorkType::from_name(name) {
            // These work types keep CPUs from other tasks, or need something that the machine or the scenario does not have.
            Some(
                WorkType::RtStarvation { .. }
                | WorkType::PriorityInversion { .. }
                | WorkType::PreemptStorm { .. }
                | WorkType::SmtSiblingSpin
                | WorkType::NumaMigrationChurn { .. }
                | WorkType::CgroupAttachStorm { .. }
                | WorkType::CgroupChurn { .. },
            ) if runs => WorkType::SpinWait,
            Some(WorkType::RtApp { .. }) => self.rt_app(runs),
            Some(work) => work,
            None => WorkType::sequence(
                phase(self),
                (0..self.up_to(2)).map(|_| phase(self)).collect(),
            ),
        }
    }

    /// Draws phases of random actions on a few objects. Their order is random, too, so many workers wait for a wake-up that
    /// never comes.
    fn rt_app(&mut self, runs: bool) -> WorkType {
        let phases = (0..1 + self.up_to(2)).map(|_| RtPhase {
            repeat: self.up_to(3),
            actions: (0..1 + self.up_to(5)).map(|_| self.action(runs)).collect(),
        });
        let phases = phases.collect();
        let delay = self.ms(3);
        WorkType::rt_app(phases, self.up_to(2), delay, self.up_to(1) == 0)
    }

    fn action(&mut self, runs: bool) -> RtAction {
        let name = self.pick(&["m", "n"]).to_owned();
        match self.up_to(18) {
            0 => RtAction::Run(self.ms(3)),
            1 => RtAction::Runtime(self.ms(3)),
            2 => RtAction::Sleep(self.ms(3)),
            3 => RtAction::Timer {
                name,
                period: self.ms(5),
                absolute: self.up_to(1) == 0,
                shared: self.up_to(1) == 0,
            },
            4 => RtAction::Lock(name),
            5 => RtAction::Unlock(name),
            6 => RtAction::Wait {
                condition: name,
                mutex: self.pick(&["m", "n"]).to_owned(),
            },
            7 => RtAction::Signal(name),
            8 => RtAction::Broadcast(name),
            9 => RtAction::Suspend(name),
            10 => RtAction::Resume(name),
            11 => RtAction::Barrier {
                name,
                threads: 1 + self.up_to(3) as u32,
            },
            12 => RtAction::SemPost(name),
            13 => RtAction::SemWait(name),
            14 => RtAction::Yield,
            // A worker that asks for CPUs outside of its cgroup would give up.
            15 if runs => RtAction::Cpus(BTreeSet::new()),
            15 => RtAction::Cpus(self.cpus()),
            16 => RtAction::Policy(self.policy(runs)),
            17 => RtAction::Priority(self.up_to(39) as i32 - 20),
            _ => RtAction::Slice(self.ms(50)),
        }
    }

    pub(super) fn work(&mut self, runs: bool) -> WorkSpec {
        let work_type = self.work_type(runs);
        let count = match (work_type.worker_group_size(), work_type.tasks(4)) {
            (Some(group), _) => group,
            (None, Some(_)) => 1,
            (None, None) => 1 + self.up_to(2) as usize,
        };
        let mut work = WorkSpec::new(work_type).workers(count);
        if self.up_to(5) == 0 && work.work_type == WorkType::SpinWait {
            work.num_workers = None;
            work.workers_pct = Some(0.25 + self.fraction() / 2.0);
        }
        work.sched_policy = self.policy(runs);
        work.affinity = self.affinity();
        work.nice = self.maybe(|draw| draw.up_to(39) as i32 - 20);
        work.comm = self.maybe(|draw| draw.pick(&["front", "batch", "w"]).to_owned());
        if !runs {
            work.pcomm = self.maybe(|_| "leader".to_owned());
            work.uid = self.maybe(|draw| draw.up_to(9) as u32);
            work.gid = self.maybe(|draw| draw.up_to(9) as u32);
            work.numa_node = self.maybe(|draw| draw.up_to(1) as usize);
            work.mem_policy = self.pick(&[
                MemPolicy::Default,
                MemPolicy::Local,
                MemPolicy::bind([0, 1]),
                MemPolicy::preferred(1),
                MemPolicy::interleave([0]),
                MemPolicy::preferred_many([0, 2]),
                MemPolicy::weighted_interleave([1]),
            ]);
            if !work.mem_policy.nodes().is_empty() {
                work.mpol_flags = self.pick(&[MpolFlags::NONE, MpolFlags::STATIC_NODES]);
            }
        }
        work
    }

    /// Draws a cgroup with limits and workers.
    pub fn cgroup(&mut self, runs: bool) -> CgroupDef {
        let mut def = CgroupDef::named(self.name(runs));
        for _ in 0..self.up_to(2) {
            def = def.work(self.work(runs));
        }
        def.cpuset = self.maybe(Self::cpuset);
        if self.up_to(3) == 0 {
            def = def.cpu_quota(
                self.ms(50),
                Duration::from_micros(1_000 + self.up_to(99_000)),
            );
        }
        if self.up_to(3) == 0 {
            def = def.cpu_weight(1 + self.up_to(9_999) as u32);
        }
        if self.up_to(5) == 0 {
            def = def.pids_max(200 + self.up_to(800));
        }
        if self.up_to(5) == 0 {
            def = def.nice(self.up_to(19) as i32).comm("of_all");
        }
        if !runs {
            def.swappable = self.up_to(1) == 0;
            def.cpuset_mems = self.maybe(Self::cpus);
            def = match self.up_to(4) {
                0 => def.memory_max(self.next()).memory_low(0).io_weight(5),
                1 => def
                    .memory_unlimited()
                    .memory_swap_unlimited()
                    .memory_high(1 << 30),
                2 => def.cpu_unlimited().pids_unlimited().memory_swap_max(7),
                3 => def.uid(1).gid(2).numa_node(1).pcomm("leader"),
                _ => def,
            };
        }
        def
    }
}
