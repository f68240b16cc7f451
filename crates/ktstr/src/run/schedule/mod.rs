//! Records the schedule of a run. Under the virtual clock it is exact: the plugin observes function entries, and the host
//! collects the observations while the guest is held. Under the real clock it consists of what the kernel's tracepoints show.

pub(super) mod metrics;
mod observe;
mod points;
#[cfg(test)]
mod tests;
pub(super) mod tracepoints;

use std::collections::BTreeMap;

use ktstr_introspect::kernel::KernelView;
use ktstr_machine::{Machine, Observation, Shape, VirtualClock, WatchPoints};
use ktstr_schedule::{
    Assembler, Cgroup, Cpu, CpuMask, Event, Pid, Raw, Tables, Topology, What, Writer,
};

use ktstr_state::env;

use super::captures::{KernelInfo, LazyKernelInfo, RamView};
use super::guest_state::GuestState;
use super::machine_kind::MachineKind;
use observe::{Shown, interpret};

/// The latest time of an event, in nanoseconds: 104 days. A run takes seconds, so only a hostile guest's clock shows a later
/// time. Such a time is replaced by this one, because sums of times over all tasks must not overflow.
const LATEST_NS: u64 = 1 << 53;
/// The largest number of tasks that are read when the recording starts.
const MAX_TASKS: usize = 4096;

/// Returns the points that are observed in a run: all of `points`, but no schedule with `KTSTR_SCHEDULE=0`, and no moments
/// with `KTSTR_MOMENTS=0`. Machines that become templates are not observed, and use QEMU's default turns.
pub(super) fn points_of_run(points: &WatchPoints, machine_kind: MachineKind) -> WatchPoints {
    let mut points = match env::SCHEDULE.is_off() {
        true => points.without_hooks(),
        false => points.clone(),
    };
    if !super::moments::are_wanted() {
        points.moments.clear();
    }
    points.turns.instructions = machine_kind.turn();
    points
}

/// Stores in `points` the functions that make up a schedule, and the names of those that this kernel lacks.
pub(super) fn add_points(points: &mut WatchPoints, info: &KernelInfo) {
    let found = points::find(&info.symbols, &info.btf);
    points.hooks = found.hooks;
    points.missing = found.missing;
}

fn topology_of(shape: &Shape) -> Topology {
    let llcs = shape.llcs().enumerate().flat_map(|(number, llc)| {
        let cpus = (llc.cores * shape.threads) as usize;
        std::iter::repeat_n((number as u32, llc.node), cpus)
    });
    let (llc, node) = llcs.unzip();
    Topology { llc, node }
}

/// Returns the arguments with which the kernel of a machine of this `shape` records its schedule under the real clock.
pub(super) fn kernel_arguments(shape: &Shape) -> [String; 3] {
    tracepoints::kernel_arguments(shape.total_memory_mib(), shape.cpus())
}

/// Returns the contents of the schedule's file for a run under the real clock; `None` if the kernel has no tracepoints, or if
/// its memory cannot be read. The machine must be stopped.
pub(super) fn of_tracepoints(
    machine: &Machine,
    kernel_info: &mut LazyKernelInfo,
    shape: &Shape,
    edges: &tracepoints::Edges,
) -> Option<Vec<u8>> {
    let info = kernel_info.get().ok()?;
    let memory = RamView(machine.ram());
    let view = KernelView::new(&memory, &info.symbols, &info.btf).ok()?;
    tracepoints::read(&view, topology_of(shape), edges).ok()
}

/// The recording of a schedule.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    assembler: Assembler,
    writer: Writer,
    tables: Tables,
    /// The cgroups whose paths have not been read yet: the addresses of their kernfs nodes, by cgroup id.
    nodes: BTreeMap<u64, u64>,
    /// The step that is held; `None` between steps.
    phase: Option<u16>,
    /// Whether the tasks that existed before the recording have been named.
    named: bool,
    /// The last insert. In some kernels one variant of the kfunc calls another one, so that an insert is seen twice. The second
    /// of two equal inserts is dropped.
    inserted: Option<Event>,
}

impl Recorder {
    /// Creates a recorder for a machine of this `shape` whose kernel is observed at `points`; `None` if no function is
    /// observed.
    pub(super) fn new(points: &WatchPoints, shape: &Shape) -> Option<Self> {
        if points.hooks.is_empty() {
            return None;
        }
        let tables = Tables {
            topology: topology_of(shape),
            missing: points.missing.clone(),
            ..Tables::default()
        };
        Some(Self {
            tables,
            ..Self::default()
        })
    }

    /// Collects the observations since the last call. The guest must be held, or no longer run.
    pub(super) fn drain(&mut self, clock: &VirtualClock) {
        clock.take_observations(|seen| self.observe(&seen));
        self.tables.unreadable = clock.unreadable();
    }

    /// Records an event if the guest has started or ended the hold of a step. Only holds count: while a step is set up and
    /// torn down, the harness's own processes use CPUs, and workers are created and removed. The plugin holds the guest at
    /// each message, so every observation before the message belongs to the earlier phase.
    pub(super) fn follow(&mut self, guest: &GuestState) {
        let phase = guest.held;
        if phase != self.phase {
            self.phase = phase;
            self.note(phase.map_or(What::End {}, |number| What::Phase { number }));
        }
    }

    /// Reads what only the guest's memory contains: the paths of new cgroups and, once, the tasks that existed before
    /// the recording. The guest must be held, or no longer run.
    pub(super) fn look_up(&mut self, machine: &Machine, kernel_info: &mut LazyKernelInfo) {
        if self.named && self.nodes.is_empty() {
            return;
        }
        let Ok(info) = kernel_info.get() else {
            return;
        };
        let memory = RamView(machine.ram());
        let Ok(view) = KernelView::new(&memory, &info.symbols, &info.btf) else {
            return;
        };
        if !std::mem::replace(&mut self.named, true) {
            self.name_tasks(&view);
        }
        for (id, node) in std::mem::take(&mut self.nodes) {
            // If the node has another id by now, its cgroup has been removed.
            if let Ok((found, path)) = view.cgroup_at(node)
                && found == id
            {
                self.tables.cgroups.insert(id, Cgroup { path });
            }
        }
    }

    /// Returns the time of the last event, in nanoseconds of the kernel's scheduler clock.
    pub(super) fn last_ns(&self) -> u64 {
        self.assembler.last_ns()
    }

    /// Returns the contents of the schedule's file.
    pub(super) fn finish(self) -> Vec<u8> {
        self.writer.finish(&self.tables)
    }

    /// Records the name, nice value, cgroup and affinity of each task that exists already.
    fn name_tasks(&mut self, view: &KernelView<'_, RamView<'_>>) {
        let (tasks, _) = view.tasks(MAX_TASKS).unwrap_or_default();
        for task in tasks {
            let pid = Pid(task.pid.cast_unsigned());
            let name = self.tables.name(&task.comm);
            self.note(What::Name { task: pid, name });
            if let Some(nice) = nice_of(task.prio) {
                self.note(What::Nice { task: pid, nice });
            }
            let node = view.cgroup_node_of(task.task_kva);
            if let Some((node, (cgroup, _))) = node
                .ok()
                .and_then(|node| Some((node, view.cgroup_at(node).ok()?)))
            {
                self.nodes.insert(cgroup, node);
                self.note(What::Cgroup { task: pid, cgroup });
            }
            if let Ok(mask) = view.affinity_of(task.task_kva) {
                let mask = CpuMask(mask);
                self.note(What::Affinity { task: pid, mask });
            }
        }
    }

    /// Converts an observation into at most two events.
    fn observe(&mut self, seen: &Observation) {
        let mut raws = [None; 2];
        let plain = |what| Some(Raw::Plain(what));
        match interpret(seen) {
            Shown::Nothing => {}
            Shown::Raw(raw) => raws[0] = Some(raw),
            Shown::Fork(task, name) => {
                let parent = Pid(seen.current);
                let name = self.tables.name(&name);
                raws = [
                    plain(What::Fork { task, parent }),
                    plain(What::Name { task, name }),
                ];
            }
            Shown::Name(task, name) => {
                let name = self.tables.name(&name);
                raws[0] = plain(What::Name { task, name });
            }
            Shown::Policy(task, policy, nice) => {
                raws = [
                    plain(What::Policy { task, policy }),
                    plain(What::Nice { task, nice }),
                ];
            }
            Shown::Cgroup(task, node, cgroup) => {
                self.meet(node, cgroup);
                raws[0] = plain(What::Cgroup { task, cgroup });
            }
            Shown::OfCgroup(what, node, cgroup) => {
                self.meet(node, cgroup);
                raws[0] = plain(what);
            }
        }
        let (cpu, current) = (observe::cpu(seen.cpu), Pid(seen.current));
        let clock_ns = seen.clock_ns.min(LATEST_NS);
        for raw in raws.into_iter().flatten() {
            let Some(event) = self.assembler.take(clock_ns, cpu, current, raw) else {
                continue;
            };
            if let What::Insert { .. } = event.what
                && self.inserted.replace(event) == Some(event)
            {
                continue;
            }
            self.writer.push(event);
        }
    }

    /// Notes that the path of a cgroup has to be read, unless the path is known.
    fn meet(&mut self, node: u64, cgroup: u64) {
        if !self.tables.cgroups.contains_key(&cgroup) {
            self.nodes.insert(cgroup, node);
        }
    }

    /// Adds an event that no observation shows, at the time of the last event.
    fn note(&mut self, what: What) {
        self.writer.push(Event {
            time_ns: self.assembler.last_ns(),
            cpu: Cpu::UNKNOWN,
            what,
        });
    }
}

/// Returns the nice value of a `task_struct.prio` (`PRIO_TO_NICE`, include/linux/sched/prio.h); `None` for the priority of a
/// real-time or deadline task.
fn nice_of(prio: i32) -> Option<i8> {
    i8::try_from(prio - 120)
        .ok()
        .filter(|nice| (-20..20).contains(nice))
}
